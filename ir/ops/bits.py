"""The bits of numbers as integers of the same width, and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np

from dragoman.ir.arithmetic import numbers
from dragoman.ir.op import Arithmetic, Array, Op, Sample, TensorType, operand, require, sample
from dragoman.ir.types import BF16, F16, F32, F64, U8, U16, U32, U64, DType

if TYPE_CHECKING:
    from dragoman.ir.builder import Builder
    from dragoman.ir.graph import Value

WORDS = {8: U8, 16: U16, 32: U32, 64: U64}


class FloatFromBits(Op, name="float_from_bits", pointwise=True, exact_field=False):
    """The number of `dtype` that unsigned integers of its width are the bits of (IEEE 754)."""

    dtype: DType

    def infer(self, x: TensorType) -> TensorType:
        """The same shape; the width of both dtypes is the same."""
        require(self.dtype.is_float, f"{self.dtype} is no floating-point type")
        require(x.dtype == WORDS.get(self.dtype.bits), f"the bits of {self.dtype} are no {x.dtype}")
        return x.with_dtype(self.dtype)

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's view."""
        words = np.ascontiguousarray(x, WORDS[self.dtype.bits].numpy)
        return m.embed(words.view(self.dtype.numpy).reshape(np.shape(x)), self.dtype)

    def decompose(self, b: Builder, x: Value) -> Value:
        """Mantissa times powers of two, one for each bit of the exponent: each product is exact."""
        width, mantissa, exponents = _layout(self.dtype)
        wide = F32 if self.dtype.bits < F32.bits else self.dtype
        fraction = b.bitwise_and(x, 2**mantissa - 1)
        exponent = b.bitwise_and(b.shift_right(x, mantissa), 2**exponents - 1)
        regular = b.not_equal(exponent, 0)
        whole = b.where(regular, b.bitwise_or(fraction, 2**mantissa), fraction)
        left = b.where(regular, b.sub(exponent, 1), exponent)
        bias = 2 ** (exponents - 1) - 1
        value = b.mul(b.cast(whole, dtype=wide), 2.0 ** (1 - bias - mantissa))
        for bit in range(exponents):
            is_set = b.not_equal(b.bitwise_and(left, 1 << bit), 0)
            # 2^(2^bit) of the highest bit is above the largest number: two factors of its root.
            parts = 2 if bit == exponents - 1 else 1
            factor = b.where(is_set, b.const(2.0 ** (2**bit // parts), wide), 1.0)
            for _ in range(parts):
                value = b.mul(value, factor)
        special = b.where(b.equal(fraction, 0), b.const(float("inf"), wide), float("nan"))
        value = b.where(b.equal(exponent, 2**exponents - 1), special, value)
        value = b.where(b.not_equal(b.shift_right(x, width - 1), 0), b.neg(value), value)
        return value if wide == self.dtype else b.cast(value, dtype=self.dtype)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Ordinary numbers, zeros of both signs, the smallest, the largest, infinity; several widths."""
        f32 = (0x3F800000, 0xC0490FDB, 0, 0x80000000, 1, 0x007FFFFF, 0x7F7FFFFF, 0x7F800000)
        yield sample(operand("u32[2,4]", values=f32), dtype=F32)
        yield sample(operand("u16[4]", values=(0x3C00, 0x0001, 0x7BFF, 0xFC00)), dtype=F16)
        yield sample(operand("u16[3]", values=(0x3F80, 0x0080, 0xC049)), dtype=BF16)
        yield sample(operand("u64[3]", values=(0x3FF0000000000000, 1, 0xC00921FB54442D18)), dtype=F64)


class BitsOfFloat(Op, name="bits_of_float", pointwise=True, exact_field=False):
    """The bits of numbers of `dtype`, as they are rounded, as unsigned integers of that width (IEEE 754)."""

    dtype: DType

    def infer(self, x: TensorType) -> TensorType:
        """The same shape, in the unsigned integers of that width."""
        require(x.dtype.is_float and self.dtype.is_float, f"{x.dtype} rounded to {self.dtype} is no number")
        return x.with_dtype(WORDS[self.dtype.bits])

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's view."""
        held = np.ascontiguousarray(numbers(x, "a rounded number").astype(self.dtype.numpy))
        return held.view(WORDS[self.dtype.bits].numpy).reshape(np.shape(x))

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Numbers that the dtype holds."""
        yield sample(operand("f32[3]", values=(1.0, -0.5, 0.0)), dtype=F32)
        yield sample(operand("f64[2]", values=(0.1, -3.0)), dtype=F64)


def _layout(dtype: DType) -> tuple[int, int, int]:
    """Bits altogether, of the mantissa and of the exponent."""
    found = ml_dtypes.finfo(dtype.numpy)
    return dtype.bits, int(found.nmant), dtype.bits - 1 - int(found.nmant)
