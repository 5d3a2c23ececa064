"""Products of matrices as frameworks write them, brought to one matmul with as few moves around it as there can be.

The canonical product is `matmul`: batches lead, rows and columns are the last two axes. Moves sink through it and meet.
"""

# pyright: reportSelfClsParameterName=false, reportGeneralTypeIssues=false
# A rule is a class of plain functions: they take a builder and what was bound, never `self`.

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dragoman.ir.builder import Builder, make, trace
from dragoman.ir.dims import product, same
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.op import normal_axes
from dragoman.ir.ops.matmul import Einsum, Linear, Matmul
from dragoman.ir.ops.reduce import ReduceSum
from dragoman.ir.ops.shape import Transpose
from dragoman.ir.types import Shape, parse_type, same_shape
from dragoman.passes.rewrite import Replacement, rewrite_node

_HOPS = 8  # through what is computed from a product one by one
_RESHAPES = ("reshape", "squeeze", "unsqueeze")


def _graph(function: Callable[..., Any], *types: str) -> Callable[[], Graph]:
    return lambda: trace(function, *map(parse_type, types))


# ---- sums of products -----------------------------------------------------------------------------------


def _spread(b: Builder, x: Value, y: Value) -> Value:
    return b.reduce_sum(b.mul(b.unsqueeze(x, axes=(2,)), b.unsqueeze(y, axes=(0,))), axes=(1,))


def _batched(b: Builder, x: Value, y: Value) -> Value:
    apart = b.mul(b.unsqueeze(x, axes=(1,)), b.unsqueeze(y, axes=(2,)))
    return b.reduce_sum(apart, axes=(-1,), keepdims=True)


@rewrite_node(
    roots=[ReduceSum],
    samples=[_graph(_spread, "f32[2,3]", "f32[3,4]"), _graph(_batched, "f32[2,3,5]", "f32[2,4,5]")],
)
class ContractProduct:
    """sum(x · y)  ->  matmul(x, y)  where each factor lacks an axis that the other has"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        product = node.operands[0].producer if node.operands[0] is not None else None
        if product is None or product.op.name != "mul" or len(product.result.uses) > 1:
            return "what is summed is no product, or is used elsewhere"
        x, y = product.operands
        assert x is not None
        assert y is not None
        shape = product.result.type.shape
        axes = set(normal_axes(node.op.axes, len(shape)))  # type: ignore[attr-defined]
        first, second = _axes_of(x, shape), _axes_of(y, shape)
        if first <= second or second <= first:
            return "one factor has all the axes of the other: nothing is larger for being multiplied first"
        if not (first & second & axes) or axes & (first ^ second):
            return "what is summed over are not axes of both factors"
        values = [_without(b, v, shape, a) for v, a in ((x, first), (y, second))]
        kept = [a for a in range(len(shape)) if a in (first | second) - axes]
        terms = ["".join(string.ascii_letters[a] for a in sorted(t)) for t in (first, second)]
        result = _fewest_moves(b, terms, "".join(string.ascii_letters[a] for a in kept), values)
        wanted = node.result.type.shape
        if not same_shape(result.type.shape, wanted):
            result = b.reshape(result, shape=wanted)
        return Replacement((result,), (node, product))


def _axes_of(value: Value, shape: Shape) -> set[int]:
    """The axes of a product along which a factor is not stretched."""
    lead = len(shape) - value.type.rank
    return {lead + i for i, dim in enumerate(value.type.shape) if not (isinstance(dim, int) and dim == 1)}


def _without(b: Builder, value: Value, shape: Shape, axes: set[int]) -> Value:
    """The factor without its extents of 1."""
    wanted = tuple(shape[a] for a in sorted(axes))
    return value if same_shape(value.type.shape, wanted) else b.reshape(value, shape=wanted)


def _fewest_moves(b: Builder, terms: list[str], result: str, values: list[Value]) -> Value:
    """The product, the factors in the order that takes fewer ops."""
    orders = ((0, 1), (1, 0))
    ops = [make(Einsum, {"equation": f"{terms[i]},{terms[j]}->{result}"}) for i, j in orders]
    made = [len(trace(op.decompose, values[i].type, values[j].type)) for op, (i, j) in zip(ops, orders, strict=True)]
    best = made.index(min(made))
    i, j = orders[best]
    return ops[best].decompose(b, values[i], values[j])


# ---- transposes -----------------------------------------------------------------------------------------


def _turns(value: Value | None) -> Value | None:
    """What a value is the transpose of, rows and columns exchanged."""
    node = value.producer if value is not None else None
    if node is None or not isinstance(node.op, Transpose) or not _exchanges(node.op):
        return None
    return node.operands[0]


def _exchanges(op: Transpose) -> bool:
    rank = len(op.perm)
    return rank >= 2 and tuple(p % rank for p in op.perm) == (*range(rank - 2), rank - 1, rank - 2)


def _turned(b: Builder, value: Value) -> Value:
    source, rank = _turns(value), value.type.rank
    return source if source is not None else b.transpose(value, perm=(*range(rank - 2), rank - 1, rank - 2))


def _both_turned(b: Builder, x: Value, y: Value) -> Value:
    return b.transpose(b.matmul(b.transpose(x, perm=(1, 0)), b.transpose(y, perm=(1, 0))), perm=(1, 0))


def _one_turned(b: Builder, x: Value, y: Value) -> Value:
    return b.transpose(b.matmul(x, b.transpose(y, perm=(0, 2, 1))), perm=(0, 2, 1))


def _turned_and_moved(b: Builder, x: Value, y: Value) -> Value:
    product = b.matmul(b.transpose(x, perm=(0, 2, 3, 1)), b.transpose(y, perm=(0, 1, 3, 2)))
    return b.transpose(product, perm=(0, 3, 1, 2))


@rewrite_node(
    roots=[Transpose],
    samples=[
        _graph(_both_turned, "f32[3,2]", "f32[4,3]"),
        _graph(_one_turned, "f32[2,2,3]", "f32[2,4,3]"),
        _graph(_turned_and_moved, "f32[5,2,3,4]", "f32[5,3,6,2]"),
    ],
)
class ExchangeFactors:
    """transpose(x · transpose(y))  ->  y · transpose(x), also where the outer transpose moves other axes besides"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        assert isinstance(node.op, Transpose)
        product = node.operands[0].producer if node.operands[0] is not None else None
        if product is None or product.op.name != "matmul" or len(product.result.uses) > 1:
            return "no product, or one that is used elsewhere"
        x, y = product.operands
        assert x is not None
        assert y is not None
        if min(x.type.rank, y.type.rank) < 2 or (_turns(x) is None and _turns(y) is None):
            return "neither factor is transposed"
        rank = len(node.op.perm)
        perm = [p % rank for p in node.op.perm]
        if perm.index(rank - 1) > perm.index(rank - 2):
            return "rows stay before columns"
        if not _exchanges(node.op) and not all(_is_transposed(v) for v in (x, y)):
            return "a factor that is not transposed would be"
        turned = [v.producer for v in (x, y) if _turns(v) is not None and v.producer is not None]
        result = b.matmul(_turned(b, y), _turned(b, x))
        if not _exchanges(node.op):
            swapped = {rank - 1: rank - 2, rank - 2: rank - 1}
            result = b.transpose(result, perm=tuple(swapped.get(p, p) for p in perm))
        return Replacement((result,), (node, product, *dict.fromkeys(turned)))


def _is_transposed(value: Value) -> bool:
    return value.producer is not None and isinstance(value.producer.op, Transpose)


def _moved_batches(b: Builder, x: Value, y: Value) -> Value:
    return b.matmul(b.transpose(x, perm=(1, 0, 2, 3)), b.transpose(y, perm=(1, 0, 2, 3)))


@rewrite_node(roots=[Matmul], samples=[_graph(_moved_batches, "f32[2,2,3,4]", "f32[2,2,4,5]")])
class SinkTransposeThroughProduct:
    """transpose(x, p) · transpose(y, p)  ->  transpose(x · y, p)  where p moves batches only"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        x, y = (v.producer if v is not None else None for v in node.operands)
        if x is None or y is None or not isinstance(x.op, Transpose) or x.op != y.op:
            return "the factors are not transposed alike"
        rank = len(x.op.perm)
        if rank < 3 or x.op.perm[-2:] != (rank - 2, rank - 1):
            return "the transposes move rows or columns"
        product = b.matmul(x.operands[0], y.operands[0])
        return Replacement((b.transpose(product, perm=x.op.perm),), (node, *dict.fromkeys((x, y))))


# ---- reshapes -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Apart:
    """A value [n, rows, columns] before its batches were merged into one axis: [*lead, rows, columns]."""

    source: Value
    lead: Shape
    turned: bool
    nodes: tuple[Node, ...]

    def build(self, b: Builder, lead: Shape) -> Value:
        shape = (*lead, *self.source.type.shape[-2:])
        value = self.source if same_shape(self.source.type.shape, shape) else b.reshape(self.source, shape=shape)
        return _turned(b, value) if self.turned else value


def _apart(value: Value | None) -> _Apart | None:
    if value is None or value.type.rank != 3 or value.producer is None:
        return None
    source = _turns(value)
    if source is not None:
        inner = _apart(source)
        return inner and _Apart(inner.source, inner.lead, not inner.turned, (value.producer, *inner.nodes))
    before = _reshaped(value)
    if before is None or before.type.rank < 4 or not same_shape(before.type.shape[-2:], value.type.shape[-2:]):
        return None
    lead = tuple(d for d in before.type.shape[:-2] if not (isinstance(d, int) and d == 1))
    return _Apart(before, lead, False, (value.producer,)) if len(lead) >= 2 else None


def _reshaped(value: Value) -> Value | None:
    """What a value is another shape of."""
    node = value.producer
    return node.operands[0] if node is not None and node.op.name in _RESHAPES else None


def _merged_batches(b: Builder, x: Value, y: Value) -> Value:
    turned = b.transpose(b.reshape(y, shape=(6, 5, 4)), perm=(0, 2, 1))
    return b.matmul(b.reshape(x, shape=(6, 3, 4)), turned)


@rewrite_node(roots=[Matmul], samples=[_graph(_merged_batches, "f32[2,3,3,4]", "f32[2,3,1,5,4]")])
class SinkReshapeThroughProduct:
    """reshape(x) · reshape(y)  ->  reshape(x · y)  where reshapes only merge batches"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        x, y = map(_apart, node.operands)
        if x is None or y is None or not same_shape(x.lead, y.lead):
            return "the batches of the factors are not merged alike"
        product = b.matmul(x.build(b, x.lead), y.build(b, x.lead))
        return Replacement(
            (b.reshape(product, shape=node.result.type.shape),), (node, *dict.fromkeys((*x.nodes, *y.nodes)))
        )


def _flattened(b: Builder, x: Value, w: Value, bias: Value) -> Value:
    return b.reshape(b.linear(b.reshape(x, shape=(6, 4)), w, bias), shape=(2, 3, 5))


def _lone_row(b: Builder, x: Value, w: Value) -> Value:
    return b.squeeze(b.matmul(b.unsqueeze(x, axes=(0,)), w), axes=(0,))


@rewrite_node(
    roots=[Linear, Matmul],
    samples=[_graph(_flattened, "f32[2,3,4]", "f32[5,4]", "f32[5]"), _graph(_lone_row, "f32[4]", "f32[4,5]")],
)
class SinkReshapeThroughLayer:
    """linear(reshape(x), w, b)  ->  reshape(linear(x, w, b))  where rows stay rows; for matmul too"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        value, weight = node.operands[:2]
        source = _reshaped(value) if value is not None else None
        if value is None or weight is None or source is None or weight.type.rank != 2:
            return "no reshaped rows meet a matrix"
        if not (source.type.rank and value.type.rank and same(source.type.shape[-1], value.type.shape[-1])):
            return "the reshape changes the last axis"
        if not same(product(source.type.shape[:-1]), product(value.type.shape[:-1])):
            return "empty rows become more or fewer"
        if not all(user.op.name in _RESHAPES or user.op.pointwise for user in node.result.users):
            return "nothing that follows could undo the reshape"
        (result,) = b.apply(node.op, source, *node.operands[1:])
        matched = (node,) if value.producer is None else (node, value.producer)
        return Replacement((b.reshape(result, shape=node.result.type.shape),), matched)


def _with_bias(b: Builder, x: Value, w: Value, bias: Value) -> Value:
    return b.add(bias, b.mul(b.reshape(b.matmul(x, w), shape=(6, 4)), 0.5))


def _with_another(b: Builder, x: Value, w: Value, y: Value) -> Value:
    return b.add(b.reshape(b.matmul(x, w), shape=(6, 3, 4)), b.reshape(y, shape=(6, 1, 4)))


@rewrite_node(
    roots=lambda op: op.pointwise,
    samples=[
        _graph(_with_bias, "f32[2,3,5]", "f32[5,4]", "f32[4]"),
        _graph(_with_another, "f32[2,3,3,5]", "f32[5,4]", "f32[2,3,4]"),
    ],
)
class SinkReshapeThroughPointwise:
    """pointwise(reshape(x), reshape(y), b)  ->  reshape(pointwise(x, y', b))  where reshapes keep the last axes

    Only below a product, so that the reshape may meet the one that undoes it.
    """

    def apply(b: Builder, node: Node) -> Replacement | str:
        if len(node.results) != 1 or not node.result.type.rank:
            return "it has several results, or one number"
        shape = node.result.type.shape
        found = next((v for v in node.operands if v is not None and _is_product(v, shape)), None)
        source = None if found is None else _reshaped(found)
        if found is None or source is None:
            return "no operand is a reshaped product"
        lead, kept = _kept(source.type.shape, shape)
        others = [_beside(b, v, found, source, lead, kept, shape) for v in node.operands]
        if any(new is None and v is not None for new, v in zip(others, node.operands, strict=True)):
            return "another operand does not have the shape of the product before"
        (result,) = b.apply(node.op, *others)
        moves = dict.fromkeys(v.producer for v in node.operands if v is not None and _reshaped(v) is not None)
        matched = (node, *(n for n in moves if n is not None))
        return Replacement((b.reshape(result, shape=shape),), matched)


def _is_product(value: Value, shape: Shape) -> bool:
    """Whether a value of that shape is a reshape of a product, or of what is computed from one, with its last axis."""
    source = _reshaped(value)
    if source is None or len(value.uses) > 1 or not same_shape(value.type.shape, shape):
        return False
    if not source.type.rank or not same(source.type.shape[-1], shape[-1]):
        return False
    node = source.producer
    for _ in range(_HOPS):
        if node is None or not node.op.pointwise:
            break
        inner = (v for v in node.operands if v is not None and same_shape(v.type.shape, source.type.shape))
        node = next((v.producer for v in inner), None)
    return node is not None and node.op.name in ("matmul", "linear")


def _kept(source: Shape, shape: Shape) -> tuple[Shape, int]:
    """The axes before those that a reshape keeps, and how many it keeps."""
    kept = 0
    while kept < min(len(source), len(shape)) and same(source[-1 - kept], shape[-1 - kept]):
        kept += 1
    return source[: len(source) - kept], kept


def _beside(
    b: Builder, value: Value | None, found: Value, source: Value, lead: Shape, kept: int, shape: Shape
) -> Value | None:
    """An operand as it stands beside the source; None where it cannot."""
    if value is None or value is found:
        return source if value is found else None
    if value.type.rank <= kept:
        return value
    if _reshaped(value) is None or value.type.rank != len(shape):
        return None
    before, last = value.type.shape[: len(shape) - kept], value.type.shape[len(shape) - kept :]
    if same_shape(before, shape[: len(shape) - kept]):
        return b.reshape(value, shape=(*lead, *last))
    if all(isinstance(d, int) and d == 1 for d in before):
        return b.reshape(value, shape=(*((1,) * len(lead)), *last))
    return None
