"""Powers of two as scales of blocks: eight bits that are an exponent alone (OCP Microscaling formats 1.0)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from dragoman.ir.arithmetic import numbers
from dragoman.ir.op import Arithmetic, Array, Op, Sample, TensorType, operand, require, sample
from dragoman.ir.types import F8E8M0

_LARGEST = 127  # the exponents of f8e8m0 are −127 to 127
ROUNDINGS = ("up", "down", "nearest")


class PowerOfTwo(Op, name="power_of_two", pointwise=True, exact_field=False):
    """Positive numbers as powers of two in f8e8m0: the next above, below, or the nearer one (1.5 goes up).

    x: [n…] real   ->   f8e8m0[n…]. What is out of reach becomes the largest or smallest power where `saturate` is set,
    else NaN; a number that is not positive or no number is NaN, but for zero, which is the smallest power if it
    saturates. ONNX's Cast to FLOAT8E8M0, opset 24.
    """

    rounding: str = "up"
    saturate: bool = True

    def infer(self, x: TensorType) -> TensorType:
        """The same shape."""
        require(x.dtype.is_float, f"a power of two near {x.dtype}")
        require(self.rounding in ROUNDINGS, f"rounding={self.rounding!r} is none of {', '.join(ROUNDINGS)}")
        return x.with_dtype(F8E8M0)

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """By mantissa and exponent."""
        x = np.asarray(numbers(x, "an exponent"), np.float64)
        mantissa, exponent = np.frexp(x)  # 0.5 ≤ mantissa < 1
        limit = {"up": 0.5, "down": 1.0, "nearest": 0.75}[self.rounding]
        raised = mantissa > limit if self.rounding == "up" else mantissa >= limit
        power = exponent - 1 + raised
        if self.saturate:
            power = np.where(np.isposinf(x), _LARGEST, np.where(x == 0, -_LARGEST, power))
            power = np.clip(power, -_LARGEST, _LARGEST)
        bad = np.isnan(x) | (x < 0) | (np.abs(power) > _LARGEST)
        if not self.saturate:
            bad |= np.isinf(x) | (x == 0)
        return m.embed(np.where(bad, np.nan, np.exp2(np.where(bad, 0, power).astype(np.float64))), F8E8M0)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Each rounding; powers, halves between them, zero, what is out of reach."""
        x = operand("f32[8]", values=(0.0, 1.0, 1.25, 1.5, 3.5, 1e-30, 3e38, 0.125))
        for rounding in ROUNDINGS:
            yield sample(x, rounding=rounding)
        yield sample(operand("f32[2,3]", low=0.01, high=9))
        yield sample(operand("f64[3]", values=(3e38, 0.75, 1e-30)), rounding="nearest", saturate=False)
