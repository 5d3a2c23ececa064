"""Resampling of the spatial axes: to given sizes on a regular grid, or at places that another tensor names.

On a regular grid, coordinates are rational numbers and evaluated as such, so that rounding to a neighbour is exact.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from dragoman.ir.arithmetic import Inexact
from dragoman.ir.dims import Dim, bounds, same
from dragoman.ir.op import Arithmetic, Array, Op, Sample, TensorType, operand, require, same_dtype, sample
from dragoman.ir.ops.conv import CHANNELS_FIRST, CHANNELS_LAST, require_layout, spatial_axes

_MODES = ("nearest", "linear", "cubic")
_COORDINATES = (
    "half_pixel",
    "pytorch_half_pixel",
    "half_pixel_symmetric",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
)
_ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


def _require_one_of(name: str, given: str, allowed: Sequence[str]) -> None:
    require(given in allowed, f"{name}={given!r} is none of {', '.join(allowed)}")


class Resize(Op, name="resize"):
    """Interpolation to other spatial sizes, one axis after the other.

    x: [n, c, *spatial] (channels_last: [n, *spatial, c])   ->   [n, c, *sizes]
    The modes and coordinates are those of ONNX's Resize (onnx.ai, opset 19): element i of an axis reads the input at
    (i + ½)/s − ½ for half_pixel, i/s for asymmetric, i·(n−1)/(sizes−1) for align_corners, where s is the factor in
    `scales`, or sizes/n if there are none. Beyond the border the edge repeats, or counts for nothing where
    `exclude_outside` is set. `antialias` widens the filter by n/sizes when shrinking. `cubic_a` is the parameter of
    Keys 1981, eq. 4. torch: nearest is asymmetric with floor, nearest-exact half_pixel with round_prefer_ceil.
    """

    sizes: tuple[Dim, ...]
    mode: str = "nearest"
    coordinates: str = "half_pixel"
    rounding: str = "round_prefer_floor"
    scales: tuple[float, ...] | None = None
    antialias: bool = False
    cubic_a: float = -0.75
    exclude_outside: bool = False
    layout: str = CHANNELS_FIRST

    def infer(self, x: TensorType) -> TensorType:
        """The spatial extents become `sizes`."""
        require_layout(self.layout)
        _require_one_of("mode", self.mode, _MODES)
        _require_one_of("coordinates", self.coordinates, _COORDINATES)
        _require_one_of("rounding", self.rounding, _ROUNDINGS)
        require(x.rank >= 3, f"resize needs a batch, channels and spatial axes, got rank {x.rank}")
        require(self.mode == "nearest" or x.dtype.is_inexact, f"interpolation between elements of {x.dtype}")
        axes = spatial_axes(x.rank, self.layout)
        require(len(self.sizes) == len(axes), f"sizes has {len(self.sizes)} entries for {len(axes)} spatial axes")
        require(all(bounds(s)[1] >= 1 for s in self.sizes), f"an extent of sizes={self.sizes} is below 1")
        self._check_scales([x.shape[a] for a in axes])
        shape = list(x.shape)
        for axis, size in zip(axes, self.sizes, strict=True):
            shape[axis] = size
        return x.with_shape(shape)

    def _check_scales(self, extents: Sequence[Dim]) -> None:
        if self.scales is None:
            return
        require(len(self.scales) == len(extents), f"scales has {len(self.scales)} entries, not {len(extents)}")
        for scale, extent, size in zip(self.scales, extents, self.sizes, strict=True):
            require(scale > 0, f"the scale {scale} is not positive")
            if isinstance(extent, int) and isinstance(size, int):
                require(abs(extent * scale - size) <= 1, f"{extent} scaled by {scale} is not near {size}")

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """A weighted sum of gathered elements along each axis whose extent or places change."""
        for i, axis in enumerate(spatial_axes(len(x.shape), self.layout)):
            places, weights = self.taps(x.shape[axis], i)
            if weights is None:
                x = m.move(_take(places[:, 0], axis), x)
                continue
            trailing = [1] * (len(x.shape) - axis - 1)
            total: Array = None
            for tap in range(places.shape[1]):
                seen = m.move(_take(places[:, tap], axis), x) * weights[:, tap].reshape(-1, *trailing)
                total = seen if total is None else total + seen
            x = total
        return x

    def taps(self, extent: int, i: int) -> tuple[Any, Any]:
        """For spatial axis i: which input elements each output element reads, [out, taps], and their weights."""
        fractions = [self._coordinate(Fraction(at), extent, i) for at in range(int(self.sizes[i]))]
        if self.mode == "nearest":
            rounded = [_round(c, self.rounding) for c in fractions]
            return np.clip(np.array(rounded, np.int64), 0, extent - 1)[:, None], None
        floors = np.array([c.__floor__() for c in fractions], np.int64)[:, None]
        rest = np.array([float(c - c.__floor__()) for c in fractions])[:, None]
        widening = max(1.0, float(1 / self._scale(extent, i))) if self.antialias else 1.0
        support = int(np.ceil((1 if self.mode == "linear" else 2) * widening))
        steps = np.arange(1 - support, support + 1)
        distance = np.abs(steps - rest) / widening
        weights = np.maximum(1 - distance, 0) if self.mode == "linear" else _keys(distance, self.cubic_a)
        places = floors + steps
        if self.exclude_outside:
            weights = np.where((places >= 0) & (places < extent), weights, 0.0)
        if self.exclude_outside or self.antialias:
            weights = weights / weights.sum(axis=1, keepdims=True)
        return np.clip(places, 0, extent - 1), weights

    def _scale(self, extent: int, i: int) -> Fraction:
        return Fraction(int(self.sizes[i]), extent) if self.scales is None else Fraction(self.scales[i])

    def _coordinate(self, at: Fraction, extent: int, i: int) -> Fraction:
        """Where output element `at` lies on the input axis."""
        size, scale, half = int(self.sizes[i]), self._scale(extent, i), Fraction(1, 2)
        if self.coordinates == "align_corners":
            return at * (extent - 1) / (size - 1) if size > 1 else Fraction(0)
        if self.coordinates == "asymmetric":
            return at / scale
        if self.coordinates == "tf_half_pixel_for_nn":
            return (at + half) / scale
        if self.coordinates == "pytorch_half_pixel" and size == 1:
            return Fraction(0)
        shift = Fraction(0)
        if self.coordinates == "half_pixel_symmetric":
            shift = Fraction(extent, 2) * (1 - size / (scale * extent))
        return shift + (at + half) / scale - half

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Each mode growing and shrinking, each kind of coordinates, given factors, antialiasing, both layouts."""
        for rounding, coordinates in zip(_ROUNDINGS, _COORDINATES, strict=False):
            yield sample("f32[2,3,4,5]", sizes=(7, 3), rounding=rounding, coordinates=coordinates)
        yield sample("i32[1,2,4]", sizes=(8,), rounding="floor", coordinates="asymmetric")
        for coordinates in _COORDINATES[:5]:
            yield sample("f32[1,2,4,5]", sizes=(7, 3), mode="linear", coordinates=coordinates)
            yield sample("f64[1,2,4,5]", sizes=(7, 3), mode="cubic", coordinates=coordinates)
        yield sample("f32[1,2,5]", sizes=(8,), mode="linear", scales=(1.7,))
        yield sample("f32[1,9,7,2]", sizes=(4, 3), mode="linear", antialias=True, layout=CHANNELS_LAST)
        yield sample("f32[1,2,9]", sizes=(4,), mode="cubic", antialias=True, exclude_outside=True, cubic_a=-0.5)
        yield sample("f32[1,1,2,3,2]", sizes=(4, 1, 3), mode="linear", coordinates="align_corners")


def _take(places: Any, axis: int) -> Callable[[Any], Any]:
    return lambda a: np.take(a, places, axis=axis)


def _round(coordinate: Fraction, rounding: str) -> int:
    if rounding == "floor":
        return coordinate.__floor__()
    if rounding == "ceil":
        return coordinate.__ceil__()
    half = Fraction(1, 2)
    return (coordinate + half).__floor__() if rounding == "round_prefer_ceil" else (coordinate - half).__ceil__()


def _keys(distance: Any, a: float) -> Any:
    """The cubic convolution kernel of Keys at distances ≥ 0."""
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))


class GridSample(Op, name="grid_sample", exact_field=False):
    """Elements of `x` read at the places that `grid` names, −1 and 1 being the borders of each axis.

    x: [n, c, *spatial]   grid: [n, *out, rank], the last axis of `x` first   ->   [n, c, *out]
    `align_corners` puts ±1 at the centres of the outermost elements, else at their outer edges. Beyond the border
    `padding` reads zeros, the border, or the reflection. Jaderberg et al. 2015 (arXiv:1506.02025), as torch has it.
    """

    mode: str = "linear"
    padding: str = "zeros"
    align_corners: bool = False

    def infer(self, x: TensorType, grid: TensorType) -> TensorType:
        """One place for each output element."""
        same_dtype(x, grid)
        _require_one_of("mode", self.mode, _MODES)
        _require_one_of("padding", self.padding, ("zeros", "border", "reflection"))
        require(x.dtype.is_float and x.rank >= 3, f"grid_sample of {x}")
        require(grid.rank == x.rank and same(grid.shape[0], x.shape[0]), f"the grid {grid} does not go with {x}")
        require(same(grid.shape[-1], x.rank - 2), f"the grid names {grid.shape[-1]} coordinates for {x.rank - 2} axes")
        require(self.mode != "cubic" or x.rank == 4, "cubic sampling has two spatial axes")
        return x.with_shape((*x.shape[:2], *grid.shape[1:-1]))

    def reference(self, m: Arithmetic, x: Array, grid: Array) -> Array:
        """A sum over the neighbours of each place, weighted by distance."""
        if not isinstance(grid, np.ndarray):
            raise Inexact("where grid_sample reads depends on real numbers")
        axes = [self._taps(grid[..., -1 - i], extent) for i, extent in enumerate(x.shape[2:])]
        batch = np.arange(len(grid)).reshape(-1, *[1] * (len(grid.shape) - 2))
        total: Array = 0.0
        for taps in itertools.product(*axes):
            places, weights, inside = zip(*taps, strict=True)
            seen = np.moveaxis(x[(batch, slice(None), *places)], -1, 1)
            seen = np.where(np.logical_and.reduce(inside)[:, None], seen, 0.0)
            total = total + seen * np.prod(weights, axis=0)[:, None]
        return total

    def _taps(self, coordinate: Any, extent: int) -> list[tuple[Any, Any, Any]]:
        """Places along one axis, the weight of each, and whether it is inside."""
        limit = extent - 1
        position = (coordinate + 1) / 2 * limit if self.align_corners else ((coordinate + 1) * extent - 1) / 2
        if self.mode == "cubic":
            base = np.floor(position)
            steps = (base + s for s in (-1, 0, 1, 2))
            return [self._inside(self._padded(p, extent), _keys(np.abs(position - p), -0.75), limit) for p in steps]
        position = self._padded(position, extent)
        if self.mode == "nearest":
            return [self._inside(np.rint(position), np.ones_like(position), limit)]
        base = np.floor(position)
        return [self._inside(base, base + 1 - position, limit), self._inside(base + 1, position - base, limit)]

    def _padded(self, position: Any, extent: int) -> Any:
        """Positions brought inside, as `padding` says."""
        if self.padding == "zeros":
            return position
        if self.padding == "reflection":
            low, span = (0.0, float(extent - 1)) if self.align_corners else (-0.5, float(extent))
            if span == 0:
                return np.zeros_like(position)
            away = np.abs(position - low)
            turns, rest = np.floor(away / span), np.fmod(away, span)
            position = np.where(turns % 2 == 0, rest + low, span - rest + low)
        return np.clip(position, 0, extent - 1)

    @staticmethod
    def _inside(position: Any, weight: Any, limit: int) -> tuple[Any, Any, Any]:
        """An index that can be read, the weight, and whether the position is one of the input."""
        inside = (position >= 0) & (position <= limit)
        return np.where(inside, position, 0).astype(np.int64), weight, inside

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Each mode with each padding, three spatial axes."""
        for mode, padding in itertools.product(_MODES, ("zeros", "border", "reflection")):
            grid = operand("f64[2,3,4,2]", low=-1.6, high=1.6)
            yield sample("f64[2,3,5,4]", grid, mode=mode, padding=padding, align_corners=padding == "border")
        yield sample("f32[1,2,3,4,5]", operand("f32[1,2,2,2,3]", low=-1.2, high=1.2))
