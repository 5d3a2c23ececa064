"""Reductions over axes: sums, extrema, logic, norms, moments, positions of extrema and running sums.

`axes` is a tuple of axes, possibly negative; the empty tuple reduces nothing. A reduced axis goes, or stays with extent
1 under `keepdims`. Frontends spell "over all axes" out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dragoman.ir.dims import Dim, maximum, product
from dragoman.ir.guess import Guess, guess, reduced
from dragoman.ir.op import (
    Arithmetic,
    Array,
    Op,
    Sample,
    TensorType,
    equal_over_the_reals,
    normal_axes,
    normal_axis,
    operand,
    require,
    sample,
)
from dragoman.ir.ops.elementwise import NUMERIC, REAL, narrowed, require_kind, widened
from dragoman.ir.types import BOOL, I64, DType, Shape, same_shape

if TYPE_CHECKING:
    from dragoman.ir.builder import Builder
    from dragoman.ir.graph import Node, Value


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

    @classmethod
    def guesses(cls, root: Node) -> Iterable[Guess]:
        """What is reduced upstream, in the dtype of the result."""
        if not cls.is_composite():
            return
        result = root.results[0].type
        for type, axes, _ in reduced(root):
            x = TensorType(result.dtype, type.shape)
            for keepdims in (False, True):
                if same_shape(reduced_shape(x.shape, axes, keepdims), result.shape):
                    yield guess(x, axes=axes, keepdims=keepdims)


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
        """reduce_sum(x) / n; half precision sums in f32, where the sum does not overflow."""
        wide = widened(b, x)
        total = b.reduce_sum(wide, axes=self.axes, keepdims=self.keepdims)
        mean = b.div(total, b.extent(reduced_extent(x.type, self.axes), wide.type.dtype))
        return narrowed(b, mean, x.type.dtype)


def _count(x: Array, axes: Iterable[int]) -> float:
    return float(math.prod(x.shape[a] for a in axes))


class ReduceL1(Reduction, name="reduce_l1"):
    """Σ|x| over the axes."""

    kinds = REAL

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """Sum of absolute values."""
        return m.sum(m.absolute(x), self.axes, self.keepdims)

    def decompose(self, b: Builder, x: Value) -> Value:
        """reduce_sum(abs(x))."""
        return b.reduce_sum(b.abs(x), axes=self.axes, keepdims=self.keepdims)


class ReduceL2(Reduction, name="reduce_l2"):
    """√Σx² over the axes, the Euclidean norm."""

    kinds = ("float",)

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """Root of the sum of squares; squares of f32 do not leave the range of float64."""
        return m.sqrt(m.sum(x * x, self.axes, self.keepdims))

    def decompose(self, b: Builder, x: Value) -> Value:
        """sqrt(reduce_sum_square(x)), half precision in f32."""
        wide = widened(b, x)
        total = b.reduce_sum(b.mul(wide, wide), axes=self.axes, keepdims=self.keepdims)
        return narrowed(b, b.sqrt(total), x.type.dtype)

    def with_absolute(self, b: Builder, x: Value) -> Value:
        """sqrt(Σ|x|²), as frameworks that serve complex numbers write it."""
        size = b.abs(widened(b, x))
        total = b.reduce_sum(b.power(size, 2.0), axes=self.axes, keepdims=self.keepdims)
        return narrowed(b, b.sqrt(total), x.type.dtype)

    spellings = (with_absolute,)


class ReduceSumSquare(Reduction, name="reduce_sum_square"):
    """Σx² over the axes."""

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """Sum of squares."""
        return m.sum(x * x, self.axes, self.keepdims)

    def decompose(self, b: Builder, x: Value) -> Value:
        """reduce_sum(x·x), half precision in f32."""
        wide = widened(b, x)
        return narrowed(b, b.reduce_sum(b.mul(wide, wide), axes=self.axes, keepdims=self.keepdims), x.type.dtype)


class ReduceLogsumexp(Reduction, name="reduce_logsumexp"):
    """log Σe^x over the axes; −∞ over nothing."""

    kinds = ("float",)

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """With the largest element taken out, unless that is infinite."""
        top = m.max(x, self.axes, True)
        top = m.where(m.special("isinf", top), 0.0, top)
        total = m.sum(m.exp(x - top), self.axes, self.keepdims)
        return m.log(total) + (top if self.keepdims else m.max(top, self.axes, False))

    def decompose(self, b: Builder, x: Value) -> Value:
        """log(Σexp(x − max)) + max, half precision in f32."""
        wide = widened(b, x)
        top = b.reduce_max(wide, axes=self.axes, keepdims=True)
        top = b.where(b.isinf(top), b.const(0.0, wide.type.dtype), top)
        total = b.reduce_sum(b.exp(b.sub(wide, top)), axes=self.axes, keepdims=self.keepdims)
        if not self.keepdims:
            top = b.reshape(top, shape=total.type.shape)
        return narrowed(b, b.add(b.log(total), top), x.type.dtype)

    def of_finite(self, b: Builder, x: Value) -> Value:
        """log(Σexp(x − max)) + max, where no maximum is infinite."""
        wide = widened(b, x)
        top = b.reduce_max(wide, axes=self.axes, keepdims=True)
        total = b.reduce_sum(b.exp(b.sub(wide, top)), axes=self.axes, keepdims=self.keepdims)
        if not self.keepdims:
            top = b.reshape(top, shape=total.type.shape)
        return narrowed(b, b.add(b.log(total), top), x.type.dtype)

    @equal_over_the_reals("a magnitude is the positive one in an ordered field only")
    def of_magnitude(self, b: Builder, x: Value) -> Value:
        """log|Σexp(x − max)| + max, where the maximum is finite, as JAX has it."""
        wide = widened(b, x)
        top = b.reduce_max(wide, axes=self.axes, keepdims=self.keepdims)
        top = b.where(b.isfinite(top), top, b.const(0.0, wide.type.dtype))
        kept = b.reshape(top, shape=reduced_shape(wide.type.shape, self.axes, True))
        total = b.abs(b.reduce_sum(b.exp(b.sub(wide, kept)), axes=self.axes, keepdims=self.keepdims))
        return narrowed(b, b.add(b.log(total), top), x.type.dtype)

    spellings = (of_finite, of_magnitude)


class Variance(Reduction, name="variance"):
    """Σ(x − mean)² / max(n − correction, 0) over the axes: correction 0 for a population, 1 for a sample of one."""

    kinds = ("float",)

    correction: float

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """In two passes."""
        count = _count(x, self.axes)
        deviation = x - m.sum(x, self.axes, True) / count
        return m.sum(deviation * deviation, self.axes, self.keepdims) / max(count - self.correction, 0.0)

    def decompose(self, b: Builder, x: Value) -> Value:
        """mean((x − mean)²), or the sum over n − correction; half precision in f32."""
        return narrowed(b, self._spelled(b, widened(b, x), lambda d: b.mul(d, d)), x.type.dtype)

    def as_power(self, b: Builder, x: Value) -> Value:
        """The same with (x − mean)^2."""
        return narrowed(b, self._spelled(b, widened(b, x), lambda d: b.power(d, 2.0)), x.type.dtype)

    spellings = (as_power,)

    def _spelled(self, b: Builder, x: Value, square: Callable[[Value], Value]) -> Value:
        squares = square(b.sub(x, b.reduce_mean(x, axes=self.axes, keepdims=True)))
        if self.correction == 0:
            return b.reduce_mean(squares, axes=self.axes, keepdims=self.keepdims)
        total = b.reduce_sum(squares, axes=self.axes, keepdims=self.keepdims)
        return b.div(total, self._divisor(b, reduced_extent(x.type, self.axes), x.type.dtype))

    def _divisor(self, b: Builder, count: Dim, dtype: DType) -> Value:
        if isinstance(count, int):
            return b.const(max(count - float(self.correction), 0.0), dtype)
        if float(self.correction).is_integer():
            return b.extent(maximum(count - int(self.correction), 0), dtype)
        return b.maximum(b.sub(b.extent(count, dtype), self.correction), 0.0)

    @classmethod
    def guesses(cls, root: Node) -> Iterable[Guess]:
        """Over all, or of a sample."""
        for found in super().guesses(root):
            for correction in (0.0, 1.0):
                yield Guess(found.operands, (*found.attributes, ("correction", correction)))

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Corrections 0, 1 and another one."""
        yield sample("f32[2,3,4]", axes=(1,), correction=0)
        yield sample("f32[2,3,4]", axes=(-1, 0), keepdims=True, correction=1)
        yield sample("f64[5]", axes=(0,), correction=1.5)
        yield sample("f16[2,4,3]", axes=(1,), keepdims=True, correction=1)


# ---- positions of extrema -------------------------------------------------------------------------------


class Position(Op):
    """The index of an extreme element along one axis."""

    axis: int
    keepdims: bool = False
    last: bool = False

    def infer(self, x: TensorType) -> TensorType:
        """i64 without the axis, which is not empty."""
        require_kind(x, REAL, self.name)
        axis = normal_axis(self.axis, x.rank)
        require(not (isinstance(x.shape[axis], int) and x.shape[axis] == 0), f"axis {axis} has no elements")
        return TensorType(I64, reduced_shape(x.shape, (axis,), self.keepdims))

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Ties, first and last, negative axes, integers."""
        yield sample("f32[2,3,4]", axis=1)
        yield sample("f64[5]", axis=0, keepdims=True)
        yield sample(operand("i32[3,4]", low=0, high=2), axis=-1)
        yield sample(operand("i32[3,4]", low=0, high=2), axis=-1, last=True)
        yield sample(operand("f16[5]", values=(1.0, 2.0, 2.0, -3.0, -3.0)), axis=0, last=True, keepdims=True)


def _first_or_last(m: Arithmetic, x: Array, extreme: Array, op: Position) -> Array:
    hits = x == extreme
    if m.is_real(x):
        hits = hits | m.special("isnan", x)  # the extreme of a row with NaN is NaN, which equals nothing
    if not op.last:
        return np.argmax(hits, axis=op.axis, keepdims=op.keepdims)
    return x.shape[op.axis] - 1 - np.argmax(np.flip(hits, op.axis), axis=op.axis, keepdims=op.keepdims)


class Argmax(Position, name="argmax"):
    """The place of the largest element along an axis, the first of equals or the last; NaN counts as largest."""

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """Where x is its maximum."""
        return _first_or_last(m, x, m.max(x, (self.axis,), True), self)


class Argmin(Position, name="argmin"):
    """The place of the smallest element along an axis, the first of equals or the last; NaN counts as smallest."""

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """Where x is its minimum."""
        return _first_or_last(m, x, m.min(x, (self.axis,), True), self)


# ---- running sums ---------------------------------------------------------------------------------------


class Running(Op):
    """A running sum or product along an axis."""

    axis: int
    exclusive: bool = False  # the element itself is left out: the first result is the neutral element
    reverse: bool = False  # from the last element to the first

    def infer(self, x: TensorType) -> TensorType:
        """The operand's type."""
        require_kind(x, NUMERIC, self.name)
        normal_axis(self.axis, x.rank)
        return x

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Each setting, negative axes, integers."""
        yield sample("f32[2,5]", axis=1)
        yield sample("f32[2,5,1]", axis=-2, exclusive=True)
        yield sample("f64[4]", axis=0, reverse=True)
        yield sample("f16[3,2]", axis=0, exclusive=True, reverse=True)
        yield sample("i32[6]", axis=0)
        yield sample("f32[2,0]", axis=1)


def _running(m: Arithmetic, x: Array, op: Running, run: Callable[[Array, int], Array], neutral: int) -> Array:
    def shift(a: Any) -> Any:
        front = np.full_like(np.take(a, [0] if a.shape[op.axis] else [], op.axis), neutral)
        return np.concatenate([front, np.take(a, np.arange(max(a.shape[op.axis] - 1, 0)), op.axis)], op.axis)

    def turn(a: Array) -> Array:
        return m.move(lambda v: np.flip(v, op.axis), a) if op.reverse else a

    total = run(turn(x), op.axis)
    return turn(m.move(shift, total) if op.exclusive else total)


class Cumsum(Running, name="cumsum"):
    """Running sums along an axis. Integers wrap in their own width."""

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's cumsum."""
        return _running(m, x, self, m.cumsum, 0)


class Cumprod(Running, name="cumprod"):
    """Running products along an axis. Integers wrap in their own width."""

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's cumprod."""
        return _running(m, x, self, m.cumprod, 1)
