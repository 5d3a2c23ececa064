"""Quantisation as ONNX's QuantizeLinear and DequantizeLinear define it: per tensor, per axis or per block of an axis.

A scalar scale holds for all of x; one of rank 1 has an entry for each index of `axis`; with `block` > 0 it has x's rank
and one entry for each `block` indices of `axis`. A zero point has the scale's shape and the quantised dtype.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np

from dragoman.ir.dims import Dim, ceildiv, same
from dragoman.ir.op import (
    Arithmetic,
    Array,
    Op,
    Sample,
    TensorType,
    normal_axis,
    operand,
    require,
    same_dtype,
    sample,
)
from dragoman.ir.ops.shape import listed
from dragoman.ir.types import F8E4M3FN, F8E5M2, F32, I2, I4, I8, I16, I32, U2, U4, U8, U16, DType

if TYPE_CHECKING:
    from dragoman.ir.builder import Builder
    from dragoman.ir.graph import Value

QUANTISED = (I2, I4, I8, I16, U2, U4, U8, U16, F8E4M3FN, F8E5M2)


def limits(dtype: DType) -> tuple[int, int]:
    """The lowest and highest finite value of a quantised dtype."""
    info = ml_dtypes.finfo(dtype.numpy) if dtype.is_float else ml_dtypes.iinfo(dtype.numpy)
    return int(info.min), int(info.max)


class Quantiser(Op):
    """What both directions share: the places that one scale holds for."""

    axis: int = 1
    block: int = 0

    def check_scale(self, x: TensorType, scale: TensorType, zero_point: TensorType | None, dtype: DType) -> None:
        """Raise TypeRuleError unless scale and zero point fit x."""
        require(scale.dtype.is_float and scale.dtype.bits >= 16, f"the scale has dtype {scale.dtype}, not a real one")
        require(self.block >= 0, f"block={self.block}; it must not be negative")
        if scale.rank or self.block:
            wanted = self._scale_shape(x)
            fits = len(wanted) == scale.rank and all(map(same, wanted, scale.shape))
            require(fits, f"the scale has shape {listed(scale.shape)}; axis {self.axis} wants {listed(wanted)}")
        if zero_point is None:
            return
        require(dtype.is_integer, f"{dtype} has no zero point")
        require(zero_point.dtype == dtype, f"the zero point has dtype {zero_point.dtype}, not {dtype}")
        fits = zero_point.rank == scale.rank and all(map(same, zero_point.shape, scale.shape))
        require(fits, f"the zero point has shape {listed(zero_point.shape)}, the scale {listed(scale.shape)}")

    def _scale_shape(self, x: TensorType) -> tuple[Dim, ...]:
        axis = normal_axis(self.axis, x.rank)
        if not self.block:
            return (x.shape[axis],)
        return (*x.shape[:axis], ceildiv(x.shape[axis], self.block), *x.shape[axis + 1 :])

    def spread(self, m: Arithmetic, scale: Array, x: Array) -> Array:
        """A scale or zero point in a shape that broadcasts with x."""
        rank = len(x.shape)
        if not self.block:
            along = tuple(-1 if scale.ndim and a == self.axis % rank else 1 for a in range(rank))
            return m.move(lambda a: np.reshape(a, along), scale)
        kept = tuple(slice(n) for n in x.shape)
        return m.move(lambda a: np.repeat(a, self.block, self.axis)[kept], scale)

    def emit_spread(self, b: Builder, scale: Value, x: TensorType) -> Value:
        """`spread` as nodes."""
        if not scale.type.rank:
            return scale
        axis = normal_axis(self.axis, x.rank)
        extent = x.shape[axis]
        if not self.block:
            return b.reshape(scale, shape=tuple(extent if a == axis else 1 for a in range(x.rank)))
        scale = b.repeat_interleave(scale, repeats=self.block, axis=axis)
        if same(scale.type.shape[axis], extent):
            return scale
        return b.slice(scale, axes=(axis,), starts=(0,), stops=(extent,), steps=(1,))


class Quantize(Quantiser, name="quantize", exact_field=False):
    """saturate(round(x / scale) + zero_point), rounding half to even; for float8, saturate(x / scale).

    x: [n…] real   scale: see above   zero_point: as scale, in `dtype`   ->   [n…] in `dtype`
    """

    dtype: DType

    def infer(self, x: TensorType, scale: TensorType, zero_point: TensorType | None = None) -> TensorType:
        """x in the quantised dtype."""
        require(self.dtype in QUANTISED, f"dtype={self.dtype} is none of {', '.join(map(str, QUANTISED))}")
        same_dtype(x, scale)
        self.check_scale(x, scale, zero_point, self.dtype)
        return x.with_dtype(self.dtype)

    def reference(self, m: Arithmetic, x: Array, scale: Array, zero_point: Array | None = None) -> Array:
        """In the precision of the arithmetic."""
        level = m.divide(x, self.spread(m, scale, x))
        if self.dtype.is_integer:
            level = m.special("rint", level)
        if zero_point is not None:
            level = level + m.cast(self.spread(m, zero_point, x), F32)
        low, high = limits(self.dtype)
        return m.cast(m.minimum(m.maximum(level, low), high), self.dtype)

    def decompose(self, b: Builder, x: Value, scale: Value, zero_point: Value | None = None) -> Value:
        """div, round, add, clip, cast; in f32 at least, where every quantised integer is exact."""
        wide = F32 if x.type.dtype.bits < F32.bits else x.type.dtype
        level = b.div(_as(b, x, wide), self.emit_spread(b, _as(b, scale, wide), x.type))
        if self.dtype.is_integer:
            level = b.round(level)
        if zero_point is not None:
            level = b.add(level, self.emit_spread(b, _as(b, zero_point, wide), x.type))
        low, high = limits(self.dtype)
        return b.cast(b.minimum(b.maximum(level, float(low)), float(high)), dtype=self.dtype)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Per tensor, per axis and per block; saturation; each kind of dtype."""
        wide = operand("f32[2,3,4]", low=-40.0, high=40.0)
        yield sample(wide, operand("f32[]", low=0.1, high=0.5), "u8[]", dtype=U8)
        yield sample(wide, operand("f32[3]", low=0.1, high=0.5), operand("i8[3]", low=-9, high=9), dtype=I8)
        yield sample(wide, operand("f32[4]", low=0.1, high=0.5), axis=-1, dtype=I4)
        yield sample(wide, operand("f32[2,3,2]", low=0.1, high=0.5), axis=2, block=3, dtype=U4)
        yield sample(wide, operand("f32[]", low=0.001, high=0.002), operand("i16[]", low=-900, high=900), dtype=I16)
        yield sample(wide, operand("f32[]", low=0.01, high=0.02), dtype=F8E4M3FN)
        yield sample("f64[5]", operand("f64[5]", low=0.001, high=0.002), axis=0, dtype=U16)


class Dequantize(Quantiser, name="dequantize"):
    """(x − zero_point) · scale, in the dtype of the scale.

    x: [n…] quantised or i32   scale: see above   zero_point: as scale, in x's dtype   ->   [n…] in the scale's dtype
    """

    def infer(self, x: TensorType, scale: TensorType, zero_point: TensorType | None = None) -> TensorType:
        """x in the dtype of the scale."""
        known = x.dtype in (*QUANTISED, I32)
        require(known, f"x has dtype {x.dtype}, none of {', '.join(map(str, (*QUANTISED, I32)))}")
        self.check_scale(x, scale, zero_point, x.dtype)
        return x.with_dtype(scale.dtype)

    def reference(self, m: Arithmetic, x: Array, scale: Array, zero_point: Array | None = None) -> Array:
        """In the precision of the arithmetic."""
        level = m.cast(x, F32)
        if zero_point is not None:
            level = level - m.cast(self.spread(m, zero_point, x), F32)
        return level * self.spread(m, scale, x)

    def decompose(self, b: Builder, x: Value, scale: Value, zero_point: Value | None = None) -> Value:
        """cast, sub, mul, cast; in f32 at least."""
        wide = F32 if scale.type.dtype.bits < F32.bits else scale.type.dtype
        level = _as(b, x, wide)
        if zero_point is not None:
            level = b.sub(level, self.emit_spread(b, _as(b, zero_point, wide), x.type))
        result = b.mul(level, self.emit_spread(b, _as(b, scale, wide), x.type))
        return _as(b, result, scale.type.dtype)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Per tensor, per axis and per block; each kind of dtype."""
        yield sample("u8[2,3,4]", "f32[]", "u8[]")
        yield sample("i8[2,3,4]", "f32[3]", "i8[3]")
        yield sample("i4[2,3,4]", "f32[2,3,2]", "i4[2,3,2]", axis=2, block=3)
        yield sample("i32[2,3]", "f64[2]", axis=-2)
        yield sample("f8e5m2[4]", "f32[]")
        yield sample("u16[2,3]", "f16[]")


def _as(b: Builder, x: Value, dtype: DType) -> Value:
    return x if x.type.dtype == dtype else b.cast(x, dtype=dtype)
