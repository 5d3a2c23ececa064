"""Reductions over axes: sums, extrema, logic, norms, moments, positions of extrema and running sums.

`axes` is a tuple of axes, possibly negative; the empty tuple reduces nothing. A reduced axis goes, or stays with extent 1
under `keepdims`. Frontends spell "over all axes" out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dragoman.ir.dims import Dim, product
from dragoman.ir.op import Arithmetic, Array, Op, Sample, TensorType, normal_axes, require, sample
from dragoman.ir.ops.elementwise import NUMERIC, REAL, require_kind
from dragoman.ir.types import BOOL, Shape

if TYPE_CHECKING:
    from dragoman.ir.builder import Builder
    from dragoman.ir.graph import Value


def reduced_shape(shape: Shape, axes: Iterable[int], keepdims: bool) -> Shape:
    """The shape that is left of `shape`. Raises TypeRuleError for axes out of range or repeated."""
    gone = normal_axes(axes, len(shape))
    if keepdims:
        return tuple(1 if a in gone else d for a, d in enumerate(shape))
    return tuple(d for a, d in enumerate(shape) if a not in gone)


def reduced_extent(x: TensorType, axes: Iterable[int]) -> Dim:
    """How many elements go into each result."""
    return product(x.shape[a] for a in normal_axes(axes, x.rank))


class Reduction(Op):
    """A reduction that keeps the dtype."""

    kinds: ClassVar[tuple[str, ...]] = NUMERIC

    axes: tuple[int, ...]
    keepdims: bool = False

    def infer(self, x: TensorType) -> TensorType:
        """The shape without the axes."""
        if self.kinds == ("bool",):
            require(x.dtype == BOOL, f"{x.dtype} is not bool")
        else:
            require_kind(x, self.kinds, self.name)
        return x.with_shape(reduced_shape(x.shape, self.axes, self.keepdims))

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Some, all and no axes, negative ones, extents of 1, both settings of keepdims, integers."""
        if cls.kinds == ("bool",):
            yield sample("bool[2,3]", axes=(1,))
            yield sample("bool[2,3,2]", axes=(-1, 0), keepdims=True)
            yield sample("bool[2,0]", axes=(1,))
            yield sample("bool[2,3]", axes=())
            return
        yield sample("f32[2,3,4]", axes=(1,))
        yield sample("f32[2,3,4]", axes=(-1, 0), keepdims=True)
        yield sample("f64[5]", axes=(0,))
        yield sample("f16[2,1,3]", axes=(1,), keepdims=True)
        yield sample("f32[2,3]", axes=())
        if "int" in cls.kinds:
            yield sample("i32[2,3]", axes=(0, 1))


class ReduceSum(Reduction, name="reduce_sum"):
    """Sum over the axes; 0 over nothing. Integers wrap in their own width."""

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's pairwise sum."""
        return m.sum(x, self.axes, self.keepdims)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Also over nothing."""
        yield from super().samples()
        yield sample("f32[2,0]", axes=(1,))


class ReduceProd(Reduction, name="reduce_prod"):
    """Product over the axes; 1 over nothing. Integers wrap in their own width."""

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's product."""
        return m.prod(x, self.axes, self.keepdims)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Also over nothing."""
        yield from super().samples()
        yield sample("f32[2,0]", axes=(1,))


class ReduceMax(Reduction, name="reduce_max"):
    """Largest element over the axes; NaN where there is one; the lowest value of the dtype over nothing."""

    kinds = REAL

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's max."""
        return m.max(x, self.axes, self.keepdims)


class ReduceMin(Reduction, name="reduce_min"):
    """Smallest element over the axes; NaN where there is one; the highest value of the dtype over nothing."""

    kinds = REAL

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's min."""
        return m.min(x, self.axes, self.keepdims)


class ReduceAny(Reduction, name="reduce_any"):
    """Whether any element is true; false over nothing."""

    kinds = ("bool",)

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's any."""
        return np.any(x, axis=self.axes, keepdims=self.keepdims)


class ReduceAll(Reduction, name="reduce_all"):
    """Whether all elements are true; true over nothing."""

    kinds = ("bool",)

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's all."""
        return np.all(x, axis=self.axes, keepdims=self.keepdims)


class ReduceMean(Reduction, name="reduce_mean"):
    """Arithmetic mean over the axes; NaN over nothing."""

    kinds = ("float", "complex")

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """Sum over count."""
        return m.sum(x, self.axes, self.keepdims) / _count(x, self.axes)

    def decompose(self, b: Builder, x: Value) -> Value:
        """reduce_sum(x) / n."""
        total = b.reduce_sum(x, axes=self.axes, keepdims=self.keepdims)
        return b.div(total, b.extent(reduced_extent(x.type, self.axes), x.type.dtype))


def _count(x: Array, axes: Iterable[int]) -> float:
    return float(math.prod(x.shape[a] for a in axes))
