"""Products of matrices, einsum, and determinants."""

from __future__ import annotations

from dragoman.frontends.onnx.call import Call
from dragoman.frontends.onnx.context import Context
from dragoman.frontends.onnx.registry import translates
from dragoman.ir.dims import product, same
from dragoman.ir.graph import Value
from dragoman.ir.types import F32, F64, I32


def multiplied(c: Context, x: Value, y: Value) -> Value:
    """x @ y."""
    inner, other = x.type.shape[-1], y.type.shape[-2 if y.type.rank > 1 else -1]
    if not same(inner, other) and not (isinstance(inner, int) and isinstance(other, int)):
        shape = list(y.type.shape)
        shape[-2 if y.type.rank > 1 else -1] = inner
        y = c.assume(y, shape)
    return c.b.matmul(x, y)


@translates("MatMul")
def matmul(c: Context, n: Call) -> Value:
    """NumPy's matmul."""
    return multiplied(c, n[0], n[1])


@translates("Gemm")
def gemm(c: Context, n: Call) -> Value:
    """alpha·a·b + beta·c."""
    b, x, y = c.b, n[0], n[1]
    if x.type.rank > 2 and n.version < 11:  # torch once exported linear layers over images so
        x = c.reshape(x, (x.type.shape[0], product(x.type.shape[1:])))
    x = b.transpose(x, perm=(1, 0)) if n.int("transA", 0) else x
    alpha, beta = n.float("alpha", 1.0), n.float("beta", 1.0)
    bias = n.get(2) if beta != 0.0 else None
    dtype = x.type.dtype
    by_rows = bool(n.int("transB", 0))
    whole = alpha == 1.0 and beta == 1.0
    fits = bias is not None and bias.type.rank == 1 and bias.type.shape[0] == y.type.shape[0 if by_rows else 1]
    if whole and by_rows and (bias is None or fits):
        return b.linear(x, y, bias)
    y = b.transpose(y, perm=(1, 0)) if by_rows else y
    result = b.matmul(x, y)
    if alpha != 1.0:
        result = _scaled(c, result, alpha)
    if bias is None:
        return result
    if n.version < 7 and n.int("broadcast", 0) == 0:
        bias = c.reshape(bias, result.type.shape)
    bias = _scaled(c, bias, beta) if beta != 1.0 else bias
    assert bias.type.dtype == dtype
    return b.add(result, bias)


def _scaled(c: Context, x: Value, factor: float) -> Value:
    dtype = x.type.dtype
    if dtype.is_float:
        return c.b.mul(x, factor)
    wide = F64 if dtype.bits > 32 else F32
    return c.b.cast(c.b.mul(c.b.cast(x, dtype=wide), factor), dtype=dtype)


@translates("Einsum")
def einsum(c: Context, n: Call) -> Value:
    """Sums of products that the equation names."""
    return c.b.einsum(*n.values, equation=n.text("equation").replace(" ", ""))


@translates("MatMulInteger")
def matmul_integer(c: Context, n: Call) -> Value:
    """(a − a's zero point) · (b − b's), in i32."""
    x, y = (c.b.cast(n[i], dtype=I32) for i in (0, 1))
    if n.has(2):
        x = c.b.sub(x, _rows(c, c.b.cast(n[2], dtype=I32)))
    if n.has(3):
        y = c.b.sub(y, c.b.cast(n[3], dtype=I32))
    return c.b.matmul(x, y)


def _rows(c: Context, zero_point: Value) -> Value:
    """A zero point for each row of the left matrix."""
    if zero_point.type.rank != 1 or zero_point.type.shape[0] == 1:
        return zero_point
    return c.reshape(zero_point, (*zero_point.type.shape, 1))
