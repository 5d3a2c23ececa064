"""Products of matrices and what torch builds of them."""

from __future__ import annotations

from collections.abc import Sequence

from dragoman.frontends.pytorch.context import Context, Scalar
from dragoman.frontends.pytorch.table.pointwise import mul
from dragoman.frontends.pytorch.table.registry import translates
from dragoman.frontends.pytorch.table.shape import axis_of, permuted
from dragoman.ir.dims import Dim, product
from dragoman.ir.graph import Value
from dragoman.ir.types import BOOL


@translates("aten.linear.default")
def linear(c: Context, x: Value, weight: Value, bias: Value | None = None) -> Value:
    """x·weightᵀ + bias."""
    if weight.type.rank == 1:
        result = c.b.matmul(x, weight)
        return result if bias is None else c.b.add(result, bias)
    return c.b.linear(x, weight, bias)


@translates("aten.matmul.default", "aten.mm.default", "aten.bmm.default", "aten.mv.default", "aten.dot.default")
def matmul(c: Context, x: Value, y: Value) -> Value:
    """x·y by NumPy's rules."""
    return c.b.matmul(x, y)


translates("aten.linalg_matmul.default")(matmul)


def _blended(c: Context, added: Value, result: Value, beta: Scalar, alpha: Scalar) -> Value:
    """beta·added + alpha·result; with beta = 0 what is added does not count, NaN or not."""
    b, dtype = c.b, result.type.dtype
    if alpha != 1:
        result = c.scaled(b.mul, result, alpha, dtype=dtype)
    if beta == 0:
        return c.broadcast(result, c.type.shape)
    return b.add(result, added if beta == 1 else c.scaled(b.mul, added, beta, dtype=dtype))


@translates("aten.addmm.default", "aten.addmv.default", "aten.baddbmm.default", "aten._addmm_activation.default")
def addmm(c: Context, added: Value, x: Value, y: Value, beta: Scalar = 1, alpha: Scalar = 1) -> Value:
    """beta·added + alpha·x·y."""
    return _blended(c, added, c.b.matmul(x, y), beta, alpha)


@translates("aten.addbmm.default")
def addbmm(c: Context, added: Value, x: Value, y: Value, beta: Scalar = 1, alpha: Scalar = 1) -> Value:
    """beta·added + alpha·Σ of the products over the batch."""
    return _blended(c, added, c.b.reduce_sum(c.b.matmul(x, y), axes=(0,)), beta, alpha)


@translates("aten.outer.default", "aten.ger.default")
def outer(c: Context, x: Value, y: Value) -> Value:
    """Each element of x with each of y."""
    a, d = c.promote(x, y)
    return (c.b.logical_and if a.type.dtype == BOOL else c.b.mul)(c.b.reshape(a, shape=(a.type.size, 1)), d)


@translates("aten.addr.default")
def addr(c: Context, added: Value, x: Value, y: Value, beta: Scalar = 1, alpha: Scalar = 1) -> Value:
    """beta·added + alpha·outer product; of booleans, or and and."""
    product = outer(c, x, y)
    if product.type.dtype == BOOL:
        product = product if alpha else c.full(product.type.shape, False, BOOL)
        return c.b.logical_or(product, added) if beta else product
    return _blended(c, added, product, beta, alpha)


@translates("aten.vdot.default")
def vdot(c: Context, x: Value, y: Value) -> Value:
    """Σ x·y of real vectors."""
    return c.b.matmul(x, y)


@translates("aten.inner.default")
def inner(c: Context, x: Value, y: Value) -> Value:
    """Σ over the last axes."""
    if x.type.rank == 0 or y.type.rank == 0:
        return c.b.mul(x, y)
    lead = (*x.type.shape[:-1], *y.type.shape[:-1])
    extent = x.type.shape[-1]
    rows = c.reshape(x, (product(x.type.shape[:-1]), extent))
    columns = c.reshape(y, (product(y.type.shape[:-1]), extent))
    return c.reshape(c.b.matmul(rows, c.b.transpose(columns, perm=(1, 0))), lead)


@translates("aten.einsum.default")
def einsum(c: Context, equation: str, operands: Sequence[Value], path: Sequence[int] | None = None) -> Value:
    """Einstein's sums; blanks do not count."""
    dtype = c.result_dtype(*operands)
    return c.b.einsum(*(c.cast(x, dtype) for x in operands), equation=equation.replace(" ", ""))


@translates("aten.tensordot.default")
def tensordot(c: Context, x: Value, y: Value, dims_self: Sequence[int], dims_other: Sequence[int]) -> Value:
    """Σ over pairs of axes."""
    own, others = [axis_of(x, d) for d in dims_self], [axis_of(y, d) for d in dims_other]
    left = [a for a in range(x.type.rank) if a not in own]
    right = [a for a in range(y.type.rank) if a not in others]
    summed: Dim = product(x.type.shape[a] for a in own)
    rows = c.reshape(permuted(c, x, [*left, *own]), (product(x.type.shape[a] for a in left), summed))
    columns = c.reshape(permuted(c, y, [*others, *right]), (summed, product(y.type.shape[a] for a in right)))
    return c.reshape(c.b.matmul(rows, columns), c.type.shape)


@translates("aten._trilinear.default")
def trilinear(
    c: Context,
    x: Value,
    y: Value,
    z: Value,
    expand1: Sequence[int],
    expand2: Sequence[int],
    expand3: Sequence[int],
    sumdim: Sequence[int],
    unroll_dim: int = 1,
) -> Value:
    """Σ over axes of the product of three tensors, each given new axes first."""
    wide = [_expanded(c, v, e) for v, e in ((x, expand1), (y, expand2), (z, expand3))]
    letters = _LETTERS[: wide[0].type.rank]
    kept = "".join(letter for axis, letter in enumerate(letters) if axis not in sumdim)
    return c.b.einsum(*wide, equation=f"{letters},{letters},{letters}->{kept}")


_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _expanded(c: Context, x: Value, axes: Sequence[int]) -> Value:
    shape = list(x.type.shape)
    for axis in sorted(axes):
        shape.insert(axis, 1)
    return c.reshape(x, shape)


@translates("aten.kron.default")
def kron(c: Context, x: Value, y: Value) -> Value:
    """The Kronecker product: every entry of x times all of y."""
    rank = max(x.type.rank, y.type.rank)
    left, right = ([*(1,) * (rank - v.type.rank), *v.type.shape] for v in (x, y))
    apart = c.reshape(x, tuple(d for size in left for d in (size, 1)))
    whole = c.reshape(y, tuple(d for size in right for d in (1, size)))
    return c.reshape(mul(c, apart, whole), tuple(a * b for a, b in zip(left, right, strict=True)))
