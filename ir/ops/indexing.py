"""Ops that read or write at computed places: take, gather, scatter, one-hot, dynamic slices.

Indices are integer operands; a negative one counts from the end and one out of range is an error of the run, never
undefined. Where several updates meet in one place, they are applied in row-major order.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from dragoman.ir.errors import UsageError
from dragoman.ir.op import Arithmetic, Array, Op, Sample, TensorType, normal_axis, operand, require, sample


def require_integers(indices: TensorType, what: str = "indices") -> None:
    """Raise TypeRuleError unless the operand has an integer dtype."""
    require(indices.dtype.is_integer, f"{what} have dtype {indices.dtype}, not an integer one")


def wrapped(indices: Array, extent: int, axis: int) -> Any:
    """Indices as 0..extent−1, negative ones counted from the end. Raises UsageError for one out of range."""
    wide = np.asarray(indices).astype(np.int64)
    outside = (wide < -extent) | (wide >= extent)
    if outside.any():
        raise UsageError(f"index {wide[outside][0]} is out of range for axis {axis} of extent {extent}")
    return np.where(wide < 0, wide + extent, wide)


class Take(Op, name="take", movement=True):
    """The entries of x along `axis` at `indices`, whose axes take the place of `axis`. As NumPy's take.

    x: [a…, n, b…]   indices: [i…], −n ≤ index < n   ->   [a…, i…, b…]
    """

    axis: int

    def infer(self, x: TensorType, indices: TensorType) -> TensorType:
        """x's shape with `axis` replaced by the shape of the indices."""
        require_integers(indices)
        axis = normal_axis(self.axis, x.rank)
        return x.with_shape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))

    def reference(self, m: Arithmetic, x: Array, indices: Array) -> Array:
        """NumPy's take."""
        places = wrapped(indices, x.shape[self.axis], self.axis)
        return m.move(lambda a: np.take(a, places, self.axis), x)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """An embedding, a scalar index, several index axes, no indices."""
        yield sample("f32[5,3]", operand("i64[2,4]", low=0, high=4), axis=0)
        yield sample("f32[2,3]", operand("i32[]", low=-3, high=2), axis=-1)
        yield sample("i8[2,3,4]", operand("i64[2]", low=-3, high=2), axis=1)
        yield sample("bool[2,3]", operand("i64[0]", low=0, high=1), axis=0)
