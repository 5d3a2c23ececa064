"""Pooling: the largest, the mean or a norm of each window, and the adaptive kinds that are told how many windows.

A window is evaluated one axis at a time. Places outside the input never win a maximum and add nothing to a sum.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dragoman.ir.dims import Dim, bounds, ceildiv, floordiv, is_one, minimum, same
from dragoman.ir.op import Arithmetic, Array, Op, Sample, TensorType, require, sample
from dragoman.ir.ops.conv import (
    CHANNELS_FIRST,
    CHANNELS_LAST,
    Padding,
    channels_first,
    check_window,
    laid_out,
    reach,
    require_layout,
    spatial_axes,
)
from dragoman.ir.ops.elementwise import narrowed, widened
from dragoman.ir.types import F64, I64, DType

if TYPE_CHECKING:
    from dragoman.ir.builder import Builder
    from dragoman.ir.graph import Value


class Pool(Op):
    """Base of the windowed kinds.

    x: [n, c, *spatial] (channels_last: [n, *spatial, c])   ->   the same with spatial
    ⌊(spatial + low + high − (window−1)·dilation − 1)/stride⌋ + 1. With `ceil_mode` the quotient is rounded up, without
    windows that would begin in the padding at the end (torch's rule, and ONNX's).
    """

    window: tuple[int, ...]
    strides: tuple[int, ...]
    padding: Padding
    dilations: tuple[int, ...]
    ceil_mode: bool = False
    layout: str = CHANNELS_FIRST

    def pooled(self, x: TensorType) -> TensorType:
        """The type of the result."""
        require(x.rank >= 3, f"pooling needs a batch, channels and spatial axes, got rank {x.rank}")
        require_layout(self.layout)
        axes = spatial_axes(x.rank, self.layout)
        check_window(len(axes), self.window, self.strides, self.padding, self.dilations)
        shape = list(x.shape)
        for i, axis in enumerate(axes):
            shape[axis] = self._extent(x.shape[axis], i)
        return x.with_shape(shape)

    def _extent(self, extent: Dim, i: int) -> Dim:
        low, high = self.padding[i]
        room = extent + low + high - reach(self.window[i], self.dilations[i])
        require(
            bounds(room)[1] >= 0, f"a window of extent {self.window[i]} does not fit into {extent} with its padding"
        )
        if not self.ceil_mode:
            return floordiv(room, self.strides[i]) + 1
        return minimum(ceildiv(room, self.strides[i]), floordiv(extent + low - 1, self.strides[i])) + 1

    def places(self, extent: int, i: int) -> Any:
        """[out, window]: where each tap of each window lies along spatial axis i, outside the input included."""
        out = self._extent(extent, i)
        starts = np.arange(int(out)) * self.strides[i] - self.padding[i][0]
        return starts[:, None] + np.arange(self.window[i]) * self.dilations[i]


def _window_samples() -> Iterable[tuple[str, dict[str, Any]]]:
    """Shapes and attributes that all windowed kinds are tested on."""
    yield "[2,3,6,5]", {"window": (2, 2), "strides": (2, 2), "padding": ((0, 0), (0, 0)), "dilations": (1, 1)}
    yield "[1,2,7,8]", {"window": (3, 3), "strides": (2, 1), "padding": ((1, 1), (0, 1)), "dilations": (1, 2)}
    yield (
        "[2,7,2]",
        {
            "window": (3,),
            "strides": (2,),
            "padding": ((1, 0),),
            "dilations": (1,),
            "layout": CHANNELS_LAST,
            "ceil_mode": True,
        },
    )
    yield (
        "[1,1,4,5,4]",
        {
            "window": (2, 3, 2),
            "strides": (3, 2, 2),
            "padding": ((1, 1), (1, 1), (0, 0)),
            "dilations": (1, 1, 1),
            "ceil_mode": True,
        },
    )
    yield "[0,2,4]", {"window": (4,), "strides": (1,), "padding": ((0, 0),), "dilations": (1,)}


class MaxPool(Pool, name="max_pool"):
    """The largest element of each window; NaN if one is there."""

    def infer(self, x: TensorType) -> TensorType:
        """Any ordered dtype."""
        require(not x.dtype.is_complex and x.dtype.kind not in ("bool", "string"), f"no largest element of {x.dtype}")
        return self.pooled(x)

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """The maximum along one axis after the other."""
        return laid_out(m, self.largest(m, channels_first(m, x, self.layout)), self.layout)

    def largest(self, m: Arithmetic, x: Array) -> Array:
        """The pooled values of [n, c, *spatial]."""
        empty: Any = np.zeros((), np.bool_)
        for i in range(len(self.window)):
            axis, extent = i + 2, x.shape[i + 2]
            places = self.places(extent, i)
            inside = (places >= 0) & (places < extent)
            empty = np.logical_or(empty[..., None], ~inside.any(axis=1))
            # A tap outside is replaced by one of its own window that is inside: the maximum is the same.
            first = places[np.arange(len(places)), inside.argmax(axis=1)][:, None]
            x = _fold(m.maximum, m, x, np.clip(np.where(inside, places, first), 0, max(extent - 1, 0)), axis)
        if empty.any():
            x = m.where(empty, m.constant(*_lowest(m, x)), x)
        return x

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Strides, padding, dilations, rounding up, integers, both layouts."""
        for shape, attributes in _window_samples():
            yield sample("f32" + shape, **attributes)
        yield sample("i32[1,2,5]", window=(2,), strides=(1,), padding=((1, 1),), dilations=(2,))


def _lowest(m: Arithmetic, x: Array) -> tuple[float | int, DType]:
    """The value below all others of the dtype, as a constant."""
    if m.is_real(x):
        return -np.inf, F64
    from dragoman.ir.types import dtype_of

    return int(np.iinfo(x.dtype).min), dtype_of(x)


def _fold(combine: Callable[[Array, Array], Array], m: Arithmetic, x: Array, places: Any, axis: int) -> Array:
    """Combine, for each row of `places`, the elements of `x` there along `axis`."""
    total: Array = None
    for tap in range(places.shape[1]):
        seen = m.move(_taking(places[:, tap], axis), x)
        total = seen if total is None else combine(total, seen)
    return total


def _taking(places: Any, axis: int) -> Callable[[Any], Any]:
    """A function that takes places along an axis, as a view where they are evenly spaced."""
    steps = np.diff(places)
    index: Any = places
    if len(places) and (len(places) == 1 or (steps[0] > 0 and np.all(steps == steps[0]))):
        step = int(steps[0]) if len(steps) else 1
        index = slice(int(places[0]), int(places[-1]) + 1, step)
    return lambda a: a[(slice(None),) * axis + (index,)]


class MaxPoolWithIndices(Pool, name="max_pool_with_indices"):
    """The largest element of each window, and its place in the flattened spatial axes of the unpadded input.

    Of equal elements the first counts, in row-major order; of several NaN the last, as in torch.
    """

    def infer(self, x: TensorType) -> tuple[TensorType, TensorType]:
        """The values and their places."""
        require(not x.dtype.is_complex and x.dtype.kind not in ("bool", "string"), f"no largest element of {x.dtype}")
        pooled = self.pooled(x)
        return pooled, pooled.with_dtype(I64)

    def reference(self, m: Arithmetic, x: Array) -> tuple[Array, Array]:
        """The maximum, then the first tap that equals it."""
        x = channels_first(m, x, self.layout)
        attributes = {n: v for n, v in self.attributes() if n != "layout"}
        y = MaxPool(**attributes).largest(m, x)
        index = np.full(y.shape, -1, np.int64)
        spatial = x.shape[2:]
        places = [self.places(e, i) for i, e in enumerate(spatial)]
        for tap in itertools.product(*(reversed(range(w)) for w in self.window)):
            at = [p[:, t] for p, t in zip(places, tap, strict=True)]
            inside = _outer(np.logical_and, [(p >= 0) & (p < e) for p, e in zip(at, spatial, strict=True)])
            clipped = [np.clip(p, 0, e - 1) for p, e in zip(at, spatial, strict=True)]
            seen = m.move(_reading(clipped), x)
            hit = (seen == y) | ((seen != seen) & (y != y) & (index < 0))
            flat = np.ravel_multi_index(np.meshgrid(*clipped, indexing="ij"), spatial)
            index = np.where(hit & inside, flat, index)
        return laid_out(m, y, self.layout), laid_out(m, index, self.layout)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """As max_pool, and equal elements in one window."""
        for shape, attributes in _window_samples():
            yield sample("f32" + shape, **attributes)
        yield sample("i32[1,2,5]", window=(3,), strides=(1,), padding=((1, 1),), dilations=(1,))


def _outer(function: Callable[[Any, Any], Any], rows: Sequence[Any]) -> Any:
    """One-dimensional arrays combined over all their pairs, triples, …"""
    total = rows[0]
    for row in rows[1:]:
        total = function(total[..., None], row)
    return total


def _reading(places: Sequence[Any]) -> Callable[[Any], Any]:
    """A function that takes rows of places along all spatial axes."""
    grid = np.ix_(*places)
    return lambda a: a[(slice(None), slice(None), *grid)]


class AvgPool(Pool, name="avg_pool"):
    """The sum of each window divided by the number of its places inside the input.

    With `count_include_pad` padding counts too (what `ceil_mode` adds beyond it does not). `divisor` replaces it all.
    """

    count_include_pad: bool = False
    divisor: int | None = None

    def infer(self, x: TensorType) -> TensorType:
        """Real or complex numbers."""
        require(x.dtype.is_inexact, f"a mean of {x.dtype}")
        require(self.divisor is None or self.divisor != 0, "the divisor is 0")
        return self.pooled(x)

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """Sums along one axis after the other, then one division."""
        x = channels_first(m, x, self.layout)
        counts: list[Any] = []
        for i in range(len(self.window)):
            extent = x.shape[i + 2]
            places = self.places(extent, i)
            low, high = self.padding[i]
            limits = (-low, extent + high) if self.count_include_pad else (0, extent)
            counts.append(((places >= limits[0]) & (places < limits[1])).sum(axis=1))
            before, after = max(0, -int(places.min(initial=0))), max(0, int(places.max(initial=0)) + 1 - extent)
            x = m.move(_padding_axis(before, after, i + 2), x)
            x = _fold(lambda a, b: a + b, m, x, places + before, i + 2)
        count = _outer(np.multiply, counts) if self.divisor is None else self.divisor
        return laid_out(m, x / count, self.layout)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Padding counted and not, a divisor, rounding up, both layouts."""
        for shape, attributes in _window_samples():
            yield sample("f32" + shape, **attributes)
            yield sample("f64" + shape, **attributes, count_include_pad=True)
            yield sample("f32" + shape, **attributes, divisor=3)


def _padding_axis(before: int, after: int, axis: int) -> Callable[[Any], Any]:
    return lambda a: np.pad(a, [(before, after) if i == axis else (0, 0) for i in range(a.ndim)])


class LpPool(Pool, name="lp_pool"):
    """(Σ |x|^p)^(1/p) over each window; padding adds nothing."""

    p: float = 2.0

    def infer(self, x: TensorType) -> TensorType:
        """Real numbers and p ≥ 1."""
        require(x.dtype.is_float, f"a norm of {x.dtype}")
        require(self.p >= 1, f"p={self.p} is below 1")
        return self.pooled(x)

    def _sums(self) -> AvgPool:
        attributes = {n: v for n, v in self.attributes() if n != "p"}
        return AvgPool(**attributes, divisor=1)

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """By definition."""
        raised = self._sums().reference(m, m.power(m.absolute(x), m.constant(self.p, F64)))
        return m.power(raised, m.constant(1 / self.p, F64))

    def decompose(self, b: Builder, x: Value) -> Value:
        """Powers around a sum over windows, in f32 at least: powers soon leave half precision."""
        raised = b.power(b.abs(widened(b, x)), self.p)
        return narrowed(b, b.power(b.one(self._sums(), raised), 1 / self.p), x.type.dtype)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """The Euclidean norm, the first and the third."""
        for (shape, attributes), p in zip(_window_samples(), (2.0, 1.0, 4.0, 2.0, 2.0), strict=True):
            yield sample("f32" + shape, **attributes, p=p)
            yield sample("f16" + shape, **attributes, p=p)


class Adaptive(Op):
    """Base of the kinds that are told how many windows to make, one entry of `output_size` for each spatial axis.

    Window i of an axis of extent n that is to have `out` covers ⌊i·n/out⌋ … ⌈(i+1)·n/out⌉ − 1, as torch has it.
    """

    output_size: tuple[Dim, ...]
    layout: str = CHANNELS_FIRST

    def pooled(self, x: TensorType) -> TensorType:
        """The type of the result."""
        require(x.rank >= 3, f"pooling needs a batch, channels and spatial axes, got rank {x.rank}")
        require_layout(self.layout)
        axes = spatial_axes(x.rank, self.layout)
        require(
            len(self.output_size) == len(axes),
            f"output_size has {len(self.output_size)} entries for {len(axes)} spatial axes",
        )
        require(
            all(bounds(o)[1] >= 1 for o in self.output_size), f"output_size={self.output_size} has an extent below 1"
        )
        shape = list(x.shape)
        for axis, out in zip(axes, self.output_size, strict=True):
            shape[axis] = out
        return x.with_shape(shape)

    def _open_axes(self, x: Value) -> list[tuple[int, Dim]]:
        """Axes whose extent changes, with the extent they get."""
        axes = spatial_axes(x.type.rank, self.layout)
        pairs = zip(axes, self.output_size, strict=True)
        return [(axis, out) for axis, out in pairs if not same(x.type.shape[axis], out)]

    def _even_windows(self, x: Value) -> tuple[int, ...] | None:
        """The extents of the windows if all are equal on each axis and known."""
        found: list[int] = []
        for axis, out in zip(spatial_axes(x.type.rank, self.layout), self.output_size, strict=True):
            window = floordiv(x.type.shape[axis], out)
            if not isinstance(window, int) or not same(window * out, x.type.shape[axis]):
                return None
            found.append(window)
        return tuple(found)


def _even_attributes(window: tuple[int, ...], layout: str) -> dict[str, Any]:
    rank = len(window)
    return {
        "window": window,
        "strides": window,
        "padding": ((0, 0),) * rank,
        "dilations": (1,) * rank,
        "layout": layout,
    }


def _adaptive_places(extent: int, out: int) -> tuple[Any, Any]:
    """Begin and end of each window."""
    i = np.arange(out)
    return i * extent // out, -(-(i + 1) * extent // out)


def _adaptive_taps(b: Builder, x: Value, axis: int, out: Dim) -> tuple[Value, Value, Value]:
    """The elements of each window at axes (axis, axis+1), clipped to its end; which are inside; how many are."""
    extent = x.type.shape[axis]
    n, o = b.extent(extent, I64), b.extent(out, I64)
    i = b.iota(size=out)
    begin = b.div(b.mul(i, n), o)
    end = b.div(b.sub(b.add(b.mul(b.add(i, 1), n), o), 1), o)
    widest = ceildiv(extent, out) + 1  # a window begins at most one place before its share and ends one after
    taps = b.add(b.reshape(begin, shape=(out, 1)), b.iota(size=widest))
    column = b.reshape(end, shape=(out, 1))
    seen = b.take(x, b.minimum(taps, b.sub(column, 1)), axis=axis)
    trailing = (1,) * (x.type.rank - axis - 1)
    inside = b.reshape(b.less(taps, column), shape=(out, widest, *trailing))
    return seen, inside, b.reshape(b.sub(end, begin), shape=(out, *trailing))


class AdaptiveAvgPool(Adaptive, name="adaptive_avg_pool"):
    """The mean of each window."""

    def infer(self, x: TensorType) -> TensorType:
        """Real or complex numbers."""
        require(x.dtype.is_inexact, f"a mean of {x.dtype}")
        return self.pooled(x)

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """Means along one axis after the other."""
        for axis, out in zip(spatial_axes(len(x.shape), self.layout), self.output_size, strict=True):
            begin, end = _adaptive_places(x.shape[axis], int(out))
            count = (end - begin).reshape(-1, *[1] * (len(x.shape) - axis - 1))
            taps = np.arange(int((end - begin).max(initial=1)))
            total: Array = None
            for tap in taps:
                seen = m.move(_taking(np.minimum(begin + tap, end - 1), axis), x)
                seen = seen if total is None else m.where(tap < count, seen, 0.0)
                total = seen if total is None else total + seen
            x = total / count
        return x

    def decompose(self, b: Builder, x: Value) -> Value:
        """A mean over all, equal windows, or a gather of each window."""
        axes = spatial_axes(x.type.rank, self.layout)
        if all(is_one(out) for out in self.output_size):
            return b.reduce_mean(x, axes=axes, keepdims=True)
        even = self._even_windows(x)
        if even is not None:
            return b.avg_pool(x, **_even_attributes(even, self.layout))
        for axis, out in self._open_axes(x):
            seen, inside, count = _adaptive_taps(b, x, axis, out)
            seen = widened(b, seen)
            kept = b.where(inside, seen, b.const(0.0, seen.type.dtype))
            total = b.reduce_sum(kept, axes=(axis + 1,))
            x = narrowed(b, b.div(total, b.cast(count, dtype=seen.type.dtype)), x.type.dtype)
        return x

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """One window, equal windows, overlapping ones, more windows than elements, both layouts."""
        yield sample("f32[2,3,5,4]", output_size=(1, 1))
        yield sample("f32[2,3,6,4]", output_size=(3, 2))
        yield sample("f64[2,3,7,5]", output_size=(3, 5))
        yield sample("f32[2,3,2]", output_size=(5,))
        yield sample("f32[1,5,6,7,2]", output_size=(2, 6, 3), layout=CHANNELS_LAST)
        yield sample("f32[0,3,6]", output_size=(2,))
        yield sample("bf16[1,2,5]", output_size=(3,))


class AdaptiveMaxPool(Adaptive, name="adaptive_max_pool"):
    """The largest element of each window."""

    def infer(self, x: TensorType) -> TensorType:
        """Any ordered dtype."""
        require(not x.dtype.is_complex and x.dtype.kind not in ("bool", "string"), f"no largest element of {x.dtype}")
        return self.pooled(x)

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """Maxima along one axis after the other; a place beyond the window repeats its last one."""
        for axis, out in zip(spatial_axes(len(x.shape), self.layout), self.output_size, strict=True):
            begin, end = _adaptive_places(x.shape[axis], int(out))
            taps = np.arange(int((end - begin).max(initial=1)))
            x = _fold(m.maximum, m, x, np.minimum(begin[:, None] + taps, end[:, None] - 1), axis)
        return x

    def decompose(self, b: Builder, x: Value) -> Value:
        """A maximum over all, equal windows, or a gather of each window."""
        if all(is_one(out) for out in self.output_size):
            return b.reduce_max(x, axes=spatial_axes(x.type.rank, self.layout), keepdims=True)
        even = self._even_windows(x)
        if even is not None:
            return b.max_pool(x, **_even_attributes(even, self.layout))
        for axis, out in self._open_axes(x):
            x = b.reduce_max(_adaptive_taps(b, x, axis, out)[0], axes=(axis + 1,))
        return x

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """One window, equal windows, overlapping ones, both layouts."""
        yield sample("f32[2,3,5,4]", output_size=(1, 1))
        yield sample("f32[2,3,6,4]", output_size=(3, 2))
        yield sample("i32[2,3,7,5]", output_size=(3, 5))
        yield sample("f32[1,5,6,7,2]", output_size=(2, 6, 3), layout=CHANNELS_LAST)
