"""Products of quantised numbers that stay integers: each less its zero point, summed in i32."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from dragoman.ir.dims import same
from dragoman.ir.op import Arithmetic, Array, Op, Sample, TensorType, require, sample
from dragoman.ir.ops.conv import Conv, Padding
from dragoman.ir.types import I8, I32, U8

if TYPE_CHECKING:
    from dragoman.ir.builder import Builder
    from dragoman.ir.graph import Value


class ConvInteger(Op, name="conv_integer"):
    """The cross-correlation of x − x_zero with w − w_zero, in i32. ONNX's ConvInteger.

    x: [n, in, *spatial]   w: [out, in/groups, *kernel], both u8 or i8   x_zero: [] in x's dtype   w_zero: [] or [out]
    in w's   ->   i32[n, out, *spatial]. What is padded counts as zero.
    """

    strides: tuple[int, ...]
    padding: Padding
    dilations: tuple[int, ...]
    groups: int = 1

    def _conv(self) -> Conv:
        return Conv(strides=self.strides, padding=self.padding, dilations=self.dilations, groups=self.groups)

    def infer(
        self, x: TensorType, w: TensorType, x_zero: TensorType | None = None, w_zero: TensorType | None = None
    ) -> TensorType:
        """That of the convolution."""
        for what, given, zero in (("x", x, x_zero), ("w", w, w_zero)):
            require(given.dtype in (U8, I8), f"{what} is {given}: u8 or i8 are needed")
            require(zero is None or zero.dtype == given.dtype, f"the zero point of {what} is {zero}")
        require(x_zero is None or x_zero.rank == 0, f"the zero point of x is {x_zero}")
        fits = w_zero is None or w_zero.rank == 0 or (w_zero.rank == 1 and same(w_zero.shape[0], w.shape[0]))
        require(fits, f"the zero point of w is {w_zero}")
        return self._conv().infer(x.with_dtype(I32), w.with_dtype(I32))

    def reference(
        self, m: Arithmetic, x: Array, w: Array, x_zero: Array | None = None, w_zero: Array | None = None
    ) -> Array:
        """By the convolution of i32."""
        x, w = np.asarray(x).astype(np.int32), np.asarray(w).astype(np.int32)
        if x_zero is not None:
            x = x - np.asarray(x_zero).astype(np.int32)
        if w_zero is not None:
            w = w - np.asarray(w_zero).astype(np.int32).reshape(-1, *[1] * (w.ndim - 1))
        return self._conv().reference(m, x, w)

    def decompose(
        self, b: Builder, x: Value, w: Value, x_zero: Value | None = None, w_zero: Value | None = None
    ) -> Value:
        """Casts, differences, and the convolution."""
        rank = w.type.rank
        x, w = b.cast(x, dtype=I32), b.cast(w, dtype=I32)
        if x_zero is not None:
            x = b.sub(x, b.cast(x_zero, dtype=I32))
        if w_zero is not None:
            zero = b.cast(w_zero, dtype=I32)
            w = b.sub(w, b.reshape(zero, shape=(*zero.type.shape, *[1] * (rank - 1))) if zero.type.rank else zero)
        return b.one(self._conv(), x, w)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """With and without zero points, one for each filter, groups and padding."""
        plain = {"strides": (1, 1), "padding": ((0, 0), (0, 0)), "dilations": (1, 1)}
        yield sample("u8[1,2,4,4]", "u8[3,2,2,2]", "u8[]", **plain)
        yield sample("u8[2,2,4,5]", "i8[4,1,3,3]", "u8[]", "i8[4]", **{**plain, "padding": ((1, 1), (0, 2))}, groups=2)
        yield sample("i8[1,3,7]", "i8[2,3,3]", None, "i8[]", strides=(2,), padding=((1, 0),), dilations=(2,))
