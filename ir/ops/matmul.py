"""Products of matrices: matmul as NumPy has it, the linear layer, and einsum with its decomposition into matmul."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dragoman.ir.dims import Dim, product, same
from dragoman.ir.errors import TypeRuleError
from dragoman.ir.guess import Guess, guess, upstream
from dragoman.ir.op import Arithmetic, Array, Op, Sample, TensorType, operand, require, same_dtype, sample
from dragoman.ir.types import broadcast

if TYPE_CHECKING:
    from dragoman.ir.builder import Builder
    from dragoman.ir.graph import Node, Value


def _numeric(*operands: TensorType) -> None:
    same_dtype(*operands)
    dtype = operands[0].dtype
    require(dtype.kind not in ("bool", "string"), f"a product of {dtype}")


class Matmul(Op, name="matmul"):
    """x @ y by NumPy's rules.

    x: [*, m, k]   y: [*, k, n]   ->   [*, m, n]; leading axes broadcast; an operand of rank 1 is a row (x) or a
    column (y) whose axis is absent from the result.
    """

    def infer(self, x: TensorType, y: TensorType) -> TensorType:
        """The inner extents must agree."""
        _numeric(x, y)
        require(x.rank >= 1 and y.rank >= 1, "the operands of matmul have at least rank 1")
        inner = y.shape[-2] if y.rank > 1 else y.shape[0]
        require(same(x.shape[-1], inner), f"the inner extents differ: {x.shape[-1]} and {inner}")
        rows, columns = x.shape[-2:-1], y.shape[-1:] if y.rank > 1 else ()
        return TensorType(x.dtype, (*broadcast(x.shape[:-2], y.shape[:-2]), *rows, *columns))

    def reference(self, m: Arithmetic, x: Array, y: Array) -> Array:
        """Matrix product."""
        return m.matmul(x, y)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Matrices, batches broadcast both ways, vectors, nothing to sum, integers."""
        yield sample("f32[2,3]", "f32[3,4]")
        yield sample("f64[2,1,3,4]", "f64[5,4,2]")
        yield sample("f32[2,3,4]", "f32[4]")
        yield sample("f32[4]", "f32[2,4,3]")
        yield sample("f32[3]", "f32[3]")
        yield sample("f32[2,0]", "f32[0,3]")
        yield sample("f16[1,5]", "f16[5,1]")
        yield sample("i32[2,3]", "i32[3,2]")


class Linear(Op, name="linear"):
    """x · weightᵀ + bias.

    x: [*, in]   weight: [out, in]   bias: [out]   ->   [*, out]
    """

    def infer(self, x: TensorType, weight: TensorType, bias: TensorType | None = None) -> TensorType:
        """The last extent becomes the number of rows of the weight."""
        _numeric(x, weight)
        same_dtype(x, bias)
        require(x.rank >= 1 and weight.rank == 2, f"the weight has rank {weight.rank}, not 2, or x has rank 0")
        out, features = weight.shape
        require(same(x.shape[-1], features), f"x has {x.shape[-1]} features, the weight {features}")
        if bias is not None:
            require(bias.rank == 1 and same(bias.shape[0], out), f"the bias is {bias}, the weight has {out} rows")
        return TensorType(x.dtype, (*x.shape[:-1], out))

    def reference(self, m: Arithmetic, x: Array, weight: Array, bias: Array | None = None) -> Array:
        """One matrix product over all leading axes together."""
        lead, (out, features) = x.shape[:-1], weight.shape
        rows = m.move(lambda a: a.reshape(int(np.prod(lead)), features), x)
        y = m.matmul(rows, m.move(np.transpose, weight))
        y = m.move(lambda a: a.reshape(*lead, out), y)
        return y if bias is None else y + bias

    def decompose(self, b: Builder, x: Value, weight: Value, bias: Value | None = None) -> Value:
        """matmul(x, transpose(weight)) + bias."""
        y = b.matmul(x, b.transpose(weight, perm=(1, 0)))
        return y if bias is None else b.add(y, bias)

    @classmethod
    def guesses(cls, root: Node) -> Iterable[Guess]:
        """A product with a turned weight: that is how it is stored. One stored the other way stays a product."""
        for node in upstream(root, 2):
            if node.op.name != "matmul":
                continue
            x, weight = (v for v in node.operands if v is not None)
            if weight.type.rank == 2 and weight.producer is not None and _is_weight(weight):
                turned = weight.type.with_shape(weight.type.shape[::-1])
                bias = (root.results[0].type.with_shape(turned.shape[:1]),) if node is not root else ()
                yield guess(x.type, turned, *bias)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """With and without bias, several ranks, an empty batch."""
        yield sample("f32[2,3]", "f32[4,3]", "f32[4]")
        yield sample("f64[2,5,3]", "f64[4,3]")
        yield sample("f32[2,3,4]", operand("f32[5,4]", weight=True), operand("f32[5]", weight=True))
        yield sample("f32[2,4]", operand("f32[5,4]", weight=True))
        yield sample("f32[3]", "f32[1,3]", "f32[1]")
        yield sample("f32[0,3]", "f32[4,3]", "f32[4]")
        yield sample("bf16[2,2,2,8]", "bf16[4,8]", "bf16[4]")


def _is_weight(value: Value) -> bool:
    """A weight, or one that is turned."""
    node = value.producer
    while node is not None and node.op.movement and node.operands[0] is not None:
        value, node = node.operands[0], node.operands[0].producer
    return value.weight is not None


class Einsum(Op, name="einsum"):
    """Sums of products named by `equation`, as NumPy writes it: letters, `...`, an optional `->`.

    An axis of extent 1 stretches against the others of its letter. Axes under `...` broadcast.
    """

    equation: str

    def infer(self, *xs: TensorType) -> TensorType:
        """The extents of the letters kept, in the order written."""
        require(len(xs) > 0, "einsum of nothing")
        _numeric(*xs)
        terms, result = spelled_out(self.equation, [x.rank for x in xs])
        extents = letter_extents(terms, [x.shape for x in xs])
        return TensorType(xs[0].dtype, tuple(extents[letter] for letter in result))

    def reference(self, m: Arithmetic, *xs: Array) -> Array:
        """Two operands at a time, from the left, as matrix products; letters go as soon as nothing needs them."""
        terms, result = spelled_out(self.equation, [len(x.shape) for x in xs])
        extents = letter_extents(terms, [x.shape for x in xs])
        term, total = _reduced(m, terms[0], xs[0], "".join(terms[1:]) + result)
        for index, (other, y) in enumerate(zip(terms[1:], xs[1:], strict=True), 2):
            needed = "".join(terms[index:]) + result
            pair = (_reduced(m, term, total, other + needed), _reduced(m, other, y, term + needed))
            term, total = _multiplied(m, *pair[0], *pair[1], needed, extents)
        return m.move(lambda a: a.transpose([term.index(c) for c in result]), total)

    def decompose(self, b: Builder, *xs: Value) -> Value:
        """Diagonals, sums over letters of one operand, then batched matrix products."""
        terms, result = spelled_out(self.equation, [x.type.rank for x in xs])
        extents = letter_extents(terms, [x.type.shape for x in xs])
        term, total = _alone(b, terms[0], xs[0], "".join(terms[1:]) + result)
        for index, (other, y) in enumerate(zip(terms[1:], xs[1:], strict=True), 2):
            needed = "".join(terms[index:]) + result
            pair = (_alone(b, term, total, other + needed), _alone(b, other, y, term + needed))
            term, total = _contract(b, *pair[0], *pair[1], needed, extents)
        return b.transpose(total, perm=tuple(term.index(c) for c in result)) if term != result else total

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Products in several layouts, outer and inner ones, traces, ellipses, three operands, stretched axes."""
        yield sample("f32[2,3]", "f32[3,4]", equation="ij,jk->ik")
        yield sample("f32[2,3,4]", "f32[2,5,4]", equation="bik,bjk->bij")
        yield sample("f64[2,3,4,5]", "f64[4,6]", equation="bhqd,qk->bkhd")
        yield sample("f32[3]", "f32[4]", equation="i,j->ji")
        yield sample("f32[3]", "f32[3]", equation="i,i")
        yield sample("f32[3,3]", equation="ii")
        yield sample("f32[3,2,3]", equation="iji->ji")
        yield sample("f32[2,3,4]", equation="b...->...")
        yield sample("f32[2,3,4]", "f32[5,4]", equation="...k,jk->...j")
        yield sample("f64[2,3]", "f64[3,4]", "f64[4,2]", equation="ij,jk,kl->il")
        yield sample("f32[2,1,4]", "f32[2,3,4]", equation="bij,bij->bi")
        yield sample("f32[1,3]", "f32[4,3]", equation="ij,ij->j")
        yield sample("i32[2,3]", "i32[2,3]", equation="ij,ij->ji")


def spelled_out(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """The letters of each operand and of the result, `...` replaced by letters. Raises TypeRuleError."""
    left, arrow, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise TypeRuleError(f"the equation {equation!r} names {len(terms)} operands, got {len(ranks)}")
    free = [c for c in string.ascii_letters if c not in equation]
    widths = [rank - len(term.replace("...", "")) for term, rank in zip(terms, ranks, strict=True)]
    widest = max((w for w, t in zip(widths, terms, strict=True) if "..." in t), default=0)
    ellipsis = "".join(free[:widest])
    for term, width, rank in zip(terms, widths, ranks, strict=True):
        if width < 0 or (width and "..." not in term):
            raise TypeRuleError(f"{term!r} in {equation!r} does not describe an operand of rank {rank}")
    full = [t.replace("...", ellipsis[widest - w :]) for t, w in zip(terms, widths, strict=True)]
    if not arrow:
        seen = "".join(full)
        result = ellipsis + "".join(sorted(c for c in set(seen) if seen.count(c) == 1 and c not in ellipsis))
    result = result.replace("...", ellipsis)
    letters = set("".join(full))
    bad = [c for c in (*letters, *result) if c not in string.ascii_letters]
    if bad or len(set(result)) != len(result) or not set(result) <= letters:
        raise TypeRuleError(f"the equation {equation!r} is malformed")
    return full, result


def letter_extents(terms: Sequence[str], shapes: Sequence[Sequence[Dim]]) -> dict[str, Dim]:
    """The extent of each letter. Raises TypeRuleError where two operands disagree."""
    extents: dict[str, Dim] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for letter, dim in zip(term, shape, strict=True):
            (extents[letter],) = broadcast((extents.get(letter, 1),), (dim,))
    return extents


def _roles(term: str, other: str, needed: str) -> tuple[str, str, str, str]:
    """Letters of a matrix product: batch (both sides, needed), summed (both, not needed), rows, columns (one side)."""
    batch = "".join(c for c in term if c in other and c in needed)
    summed = "".join(c for c in term if c in other and c not in needed)
    return batch, summed, "".join(c for c in term if c not in other), "".join(c for c in other if c not in term)


def _reduced(m: Arithmetic, term: str, x: Array, needed: str) -> tuple[str, Array]:
    """`x` on its diagonal where a letter repeats, summed over letters that nothing else needs."""
    kept = "".join(dict.fromkeys(c for c in term if c in needed))
    return kept, x if kept == term else m.einsum(f"{term}->{kept}", x)


def _multiplied(
    m: Arithmetic, term: str, x: Array, other: str, y: Array, needed: str, extents: dict[str, Dim]
) -> tuple[str, Array]:
    """One batched matrix product."""
    batch, summed, rows, columns = _roles(term, other, needed)
    result = batch + rows + columns

    def matrix(letters: str, groups: tuple[str, str, str]) -> Callable[[Any], Any]:
        order = "".join(groups)
        full = [int(extents[c]) for c in order]
        *lead, first, second = [int(extents[c]) for c in groups[0]] + [
            int(product(extents[c] for c in group)) for group in groups[1:]
        ]
        spread = [letters.index(c) for c in order]
        return lambda a: np.broadcast_to(a.transpose(spread), full).reshape(*lead, first, second)

    z = m.matmul(m.move(matrix(term, (batch, rows, summed)), x), m.move(matrix(other, (batch, summed, columns)), y))
    return result, m.move(lambda a: a.reshape([int(extents[c]) for c in result]), z)


def _alone(b: Builder, term: str, x: Value, needed: str) -> tuple[str, Value]:
    """`x` with repeated letters reduced to their diagonal and letters that nothing else needs summed away."""
    while len(set(term)) < len(term):
        letter = next(c for c in term if term.count(c) > 1)
        first, second = [i for i, c in enumerate(term) if c == letter][:2]
        x = b.diagonal(x, offset=0, axis1=first, axis2=second)
        term = "".join(c for i, c in enumerate(term) if i not in (first, second)) + letter
    gone = tuple(i for i, c in enumerate(term) if c not in needed)
    if gone:
        x = b.reduce_sum(x, axes=gone)
        term = "".join(c for i, c in enumerate(term) if i not in gone)
    return term, x


def _contract(
    b: Builder, term: str, x: Value, other: str, y: Value, needed: str, extents: dict[str, Dim]
) -> tuple[str, Value]:
    """One batched matrix product."""
    batch, summed, rows, columns = _roles(term, other, needed)
    x = _matrix(b, term, x, (batch, rows, summed), extents)
    y = _matrix(b, other, y, (batch, summed, columns), extents)
    result = batch + rows + columns
    return result, b.reshape(b.matmul(x, y), shape=tuple(extents[c] for c in result))


def _matrix(b: Builder, term: str, x: Value, groups: tuple[str, str, str], extents: dict[str, Dim]) -> Value:
    """`x` with axes ordered and merged as [*batch, first, second]; extents of 1 that others stretch are stretched."""
    order = "".join(groups)
    if order != term:
        x = b.transpose(x, perm=tuple(term.index(c) for c in order))
    full = tuple(extents[c] for c in order)
    if x.type.shape != full:
        x = b.broadcast_to(x, shape=full)
    batch, first, second = groups
    shape = (*(extents[c] for c in batch), product(extents[c] for c in first), product(extents[c] for c in second))
    return b.reshape(x, shape=shape) if shape != full else x
