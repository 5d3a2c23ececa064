"""Products of matrices."""

from __future__ import annotations

from dragoman.frontends.onnx.context import Context
from dragoman.frontends.tensorflow.call import Call
from dragoman.frontends.tensorflow.registry import translates
from dragoman.ir.graph import Value


def _turned(c: Context, x: Value, turn: bool) -> Value:
    last = x.type.rank - 1
    return c.b.transpose(x, perm=(*range(last - 1), last, last - 1)) if turn else x


def _adjoint(c: Context, x: Value, turn: bool) -> Value:
    turned = _turned(c, x, turn)
    if not turn or not x.type.dtype.is_complex:
        return turned
    return c.b.complex(c.b.real(turned), c.b.neg(c.b.imag(turned)))


@translates("MatMul")
def matmul(c: Context, n: Call) -> Value:
    """Two matrices, either transposed first."""
    return c.b.matmul(_turned(c, n[0], n.flag("transpose_a")), _turned(c, n[1], n.flag("transpose_b")))


@translates("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")
def batch_matmul(c: Context, n: Call) -> Value:
    """Stacks of matrices, either transposed first; leading axes broadcast."""
    x, y = _adjoint(c, n[0], n.flag("adj_x")), _adjoint(c, n[1], n.flag("adj_y"))
    if n.has("Tout"):
        x, y = c.cast(x, n.dtype("Tout")), c.cast(y, n.dtype("Tout"))
    return c.b.matmul(x, y)


@translates("Einsum")
def einsum(c: Context, n: Call) -> Value:
    """A sum of products over named axes."""
    return c.b.einsum(*n.values, equation=n.text("equation"))


@translates("BiasAdd", "BiasAddV1")
def bias_add(c: Context, n: Call) -> Value:
    """One number added to each channel."""
    x, bias = n[0], n[1]
    if n.text("data_format", "NHWC").startswith("NC") and x.type.rank > 2:
        bias = c.reshape(bias, (*bias.type.shape, *[1] * (x.type.rank - 2)))
    return c.b.add(x, bias)
