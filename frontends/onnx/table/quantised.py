"""Quantisation: QuantizeLinear, DequantizeLinear and the operators that compute between them."""

from __future__ import annotations

from dragoman.frontends.onnx.call import Call
from dragoman.frontends.onnx.context import Context
from dragoman.frontends.onnx.dtypes import dtype_of_code
from dragoman.frontends.onnx.registry import translates
from dragoman.frontends.onnx.table.elementwise import converted
from dragoman.frontends.onnx.table.windows import Window, convolved
from dragoman.ir.graph import Value
from dragoman.ir.op import normal_axis
from dragoman.ir.ops.quant import QUANTISED
from dragoman.ir.types import F32, U8, DType


def _axis(n: Call, x: Value, scale: Value) -> int:
    return normal_axis(n.int("axis", 1), x.type.rank) if scale.type.rank else 0


def _scalar(c: Context, x: Value | None) -> Value | None:
    """A scale or zero point of one element as a scalar."""
    return c.reshape(x, ()) if x is not None and x.type.shape == (1,) else x


@translates("QuantizeLinear")
def quantize(c: Context, n: Call) -> Value:
    """saturate(round(x / scale) + zero point)."""
    x, scale, zero = n[0], n[1], n.get(2)
    dtype = zero.type.dtype if zero is not None else dtype_of_code(n.int("output_dtype", 0) or 2)
    block = n.int("block_size", 0)
    if not block:
        scale, zero = _scalar(c, scale) or scale, _scalar(c, zero)
    wide = _computing(n, x, scale)
    return quantized(c, c.cast(x, wide), c.cast(scale, wide), zero, dtype, _axis(n, x, scale), block, n)


def _computing(n: Call, x: Value, scale: Value) -> DType:
    if n.given("precision") and n.int("precision"):
        return dtype_of_code(n.int("precision"))
    return scale.type.dtype if x.type.dtype.is_integer else x.type.dtype


def quantized(
    c: Context, x: Value, scale: Value, zero: Value | None, dtype: DType, axis: int, block: int, n: Call
) -> Value:
    """The IR's quantize; for float8 a zero point is added before rounding, and it is zero."""
    if dtype.is_float:
        if (zero is None or _is_zero(c, n, zero)) and n.int("saturate", 1) and dtype in QUANTISED:
            return c.b.quantize(x, scale, None, axis=axis, block=block, dtype=dtype)
        level = c.b.div(x, _spread(c, scale, x, axis, block))
        if zero is not None:
            level = c.b.add(level, _spread(c, c.cast(zero, level.type.dtype), x, axis, block))
        return converted(c, n, level, dtype)
    if zero is not None and zero.type.shape != scale.type.shape:
        zero = c.broadcast(zero, scale.type.shape)
    return c.b.quantize(x, scale, zero, axis=axis, block=block, dtype=dtype)


def _spread(c: Context, scale: Value, x: Value, axis: int, block: int) -> Value:
    """A scale or zero point in a shape that broadcasts with x."""
    if not scale.type.rank:
        return scale
    if block:
        wide = c.b.repeat_interleave(scale, repeats=block, axis=axis)
        return c.slice(wide, axis, 0, x.type.shape[axis])
    return c.reshape(scale, tuple(d if a == axis else 1 for a, d in enumerate(x.type.shape)))


def _is_zero(c: Context, n: Call, zero: Value) -> bool:
    from dragoman.frontends.onnx.operands import Tensor

    known = c.known(Tensor.of(zero))
    return known is not None and all(v == 0 for v in known.flat)


@translates("DequantizeLinear")
def dequantize(c: Context, n: Call) -> Value:
    """(x − zero point) · scale."""
    x, scale, zero = n[0], n[1], n.get(2)
    block = n.int("block_size", 0)
    if not block:
        scale, zero = _scalar(c, scale) or scale, _scalar(c, zero)
    if x.type.dtype.is_float:
        if (zero is not None and not _is_zero(c, n, zero)) or x.type.dtype not in QUANTISED:
            axis = _axis(n, x, scale)
            wide = c.cast(x, scale.type.dtype)
            if zero is not None:
                wide = c.b.sub(wide, _spread(c, c.cast(zero, wide.type.dtype), x, axis, block))
            return c.b.mul(wide, _spread(c, scale, x, axis, block))
        zero = None
    if zero is not None and zero.type.shape != scale.type.shape:
        zero = c.broadcast(zero, scale.type.shape)
    y = c.b.dequantize(x, scale, zero, axis=_axis(n, x, scale), block=block)
    code = n.int("output_dtype", 0)
    return c.cast(y, dtype_of_code(code)) if code else y


@translates("DynamicQuantizeLinear")
def dynamic_quantize(c: Context, n: Call) -> list[Value]:
    """To u8 by the extremes of x itself."""
    b, x = c.b, n[0]
    axes = tuple(range(x.type.rank))
    low = b.minimum(b.reduce_min(x, axes=axes), 0.0)
    high = b.maximum(b.reduce_max(x, axes=axes), 0.0)
    scale = b.div(b.sub(high, low), 255.0)
    zero = b.cast(b.clip(b.round(b.div(b.neg(low), scale)), low=0.0, high=255.0), dtype=U8)
    return [b.quantize(x, scale, zero, axis=0, dtype=U8), scale, zero]


def _dequantized(c: Context, n: Call, index: int, axis: int) -> Value:
    """Input `index` with the scale and zero point that follow it, in f32."""
    x, scale, zero = n[index], c.cast(n[index + 1], F32), n[index + 2]
    scale, zero = _scalar(c, scale) or scale, _scalar(c, zero) or zero
    if zero.type.shape != scale.type.shape:
        zero = c.broadcast(zero, scale.type.shape)
    return c.b.dequantize(x, scale, zero, axis=axis)


def _requantized(c: Context, n: Call, y: Value, index: int) -> Value:
    scale, zero = c.cast(n[index], F32), n[index + 1]
    scale, zero = _scalar(c, scale) or scale, _scalar(c, zero) or zero
    return c.b.quantize(y, scale, zero, axis=1, dtype=zero.type.dtype)


@translates("QLinearConv")
def conv(c: Context, n: Call) -> Value:
    """A convolution of quantised tensors: in real numbers, rounded once."""
    b = c.b
    x, w = _dequantized(c, n, 0, 1), _dequantized(c, n, 3, 0)
    window = Window(n, [int(d) for d in w.type.shape[2:]], x.type.shape[2:])  # type: ignore[arg-type]
    y = convolved(c, x, w, None, window, n.int("group", 1))
    if n.has(8):
        scale = b.mul(c.reshape(c.cast(n[1], F32), ()), c.cast(n[4], F32))
        bias = b.mul(b.cast(n[8], dtype=F32), scale)
        y = b.add(y, c.reshape(bias, (*bias.type.shape, *[1] * (y.type.rank - 2))))
    return _requantized(c, n, y, 6)


@translates("QLinearMatMul")
def matmul(c: Context, n: Call) -> Value:
    """A product of quantised matrices: in real numbers, rounded once."""
    x, y = n.type(0), n.type(3)
    rows, columns = _dequantized(c, n, 0, x.rank - 2), _dequantized(c, n, 3, y.rank - 1)
    return _requantized(c, n, c.b.matmul(rows, columns), 6)
