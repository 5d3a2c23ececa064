"""Resampling: Resize in all its versions, Upsample, GridSample."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TypeVar

import numpy as np

from dragoman.frontends.onnx.call import Call
from dragoman.frontends.onnx.context import Context
from dragoman.frontends.onnx.registry import translates
from dragoman.frontends.onnx.table.crop import cropped
from dragoman.frontends.onnx.table.shape import sized
from dragoman.ir.dims import Dim, floordiv, is_one, same
from dragoman.ir.errors import Malformed, Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.op import normal_axis
from dragoman.ir.types import I64

_T = TypeVar("_T")
_LARGEST_DENOMINATOR = 1 << 20


@translates("Upsample")
def upsample(c: Context, n: Call) -> Value:
    """Resize by factors from the corner of the grid."""
    if not n.given("scales") and _computed(n, 1):
        return _dynamic(c, n, n[0], n[1], None, "asymmetric", "floor")
    scales = n.floats("scales") if n.given("scales") else _scales(n, 1)
    return _resized(c, n[0], _sizes(n[0], scales), scales, n.text("mode", "nearest"), "asymmetric", "floor")


@translates("Resize", since=10)
def resize_10(c: Context, n: Call) -> Value:
    """The first version, like Upsample."""
    if _computed(n, 1):
        return _dynamic(c, n, n[0], n[1], None, "asymmetric", "floor")
    x, scales, mode = n[0], _scales(n, 1), n.text("mode", "nearest")
    if mode == "nearest" and min(scales, default=1.0) < 1.0:
        # The standard's own example of a smaller image takes the next place: [1, 2, 3, 4] by 0.6 is [1, 3].
        smaller, scales = [min(s, 1.0) for s in scales], [max(s, 1.0) for s in scales]
        x = _resized(c, x, _sizes(x, smaller), smaller, mode, "asymmetric", "ceil")
    return _resized(c, x, _sizes(x, scales), scales, mode, "asymmetric", "floor")


def _computed(n: Call, index: int) -> bool:
    return n.known(index) is None


def _dynamic(
    c: Context, n: Call, x: Value, scales: Value | None, sizes: Value | None, coordinates: str, rounding: str
) -> Value:
    """By factors or to sizes that the model computes."""
    rank = x.type.rank
    axes = tuple(normal_axis(a, rank) for a in n.ints("axes", list(range(rank))))
    fresh = [c.fresh("resized") if a in axes else d for a, d in enumerate(x.type.shape)]
    mode = n.text("mode", "nearest")
    return c.b.dynamic_resize(
        x,
        scales,
        c.cast(sizes, I64) if sizes is not None else None,
        shape=tuple(fresh),
        axes=axes,
        policy=n.text("keep_aspect_ratio_policy", "stretch") if sizes is not None else "stretch",
        mode={"bilinear": "linear", "trilinear": "linear"}.get(mode, mode),
        coordinates=coordinates,
        rounding=rounding,
        antialias=bool(n.int("antialias", 0)),
        cubic_a=n.float("cubic_coeff_a", -0.75),
        exclude_outside=bool(n.int("exclude_outside", 0)),
    )


@translates("Resize", since=11)
def resize(c: Context, n: Call) -> Value:
    """By factors or to sizes, of all axes or some."""
    x = n[0]
    rank = x.type.rank
    axes = [normal_axis(a, rank) for a in n.ints("axes", list(range(rank)))]
    scales: list[float] | None = None
    coordinates = n.text("coordinate_transformation_mode", "half_pixel")
    if coordinates == "tf_crop_and_resize":
        return cropped(c, n, axes)
    by_size = n.has(3) and n.type(3).shape != (0,)
    if n.dims(3) is None if by_size else _computed(n, 2):
        given = (None, n[3]) if by_size else (n[2], None)
        return _dynamic(c, n, x, *given, coordinates, n.text("nearest_mode", "round_prefer_floor"))
    if by_size:
        sizes = _kept_ratio(n, x, axes, sized(c, n, 3, "resized"))
        scales = sizes[1]
        full_sizes = _spread(axes, sizes[0], x.type.shape)
    else:
        given = _scales(n, 2)
        scales = _spread(axes, given, [1.0] * rank)
        full_sizes = _sizes(x, scales)
    if scales is not None and len(scales) != rank:
        scales = _spread(axes, scales, [1.0] * rank)
    return _resized(
        c,
        x,
        full_sizes,
        scales,
        n.text("mode", "nearest"),
        coordinates,
        n.text("nearest_mode", "round_prefer_floor"),
        antialias=bool(n.int("antialias", 0)),
        cubic_a=n.float("cubic_coeff_a", -0.75),
        exclude_outside=bool(n.int("exclude_outside", 0)),
    )


def _scales(n: Call, index: int) -> list[float]:
    known = n.known(index)
    if known is None:
        raise Unsupported(f"{n.op} by factors that are known only when the model runs")
    values = known.reshape(-1).tolist()
    if not all(isinstance(v, float) for v in values):
        raise Unsupported(f"{n.op} by factors that depend on dynamic sizes: give it sizes")
    return values


def _spread(axes: Sequence[int], given: Sequence[_T], default: Sequence[_T]) -> list[_T]:
    if len(given) != len(axes):
        raise Malformed(f"Resize has {len(given)} sizes or factors for {len(axes)} axes")
    result = list(default)
    for axis, value in zip(axes, given, strict=True):
        result[axis] = value
    return result


def _sizes(x: Value, scales: Sequence[float]) -> list[Dim]:
    """⌊extent · factor⌋."""
    if len(scales) != x.type.rank:
        raise Malformed(f"{len(scales)} factors for {x.type}")
    return [_scaled(extent, scale) for extent, scale in zip(x.type.shape, scales, strict=True)]


def _scaled(extent: Dim, scale: float) -> Dim:
    if isinstance(extent, int):
        return int(np.floor(np.float32(extent) * np.float32(scale)))
    exact = Fraction(scale)
    if exact.denominator > _LARGEST_DENOMINATOR:
        near = exact.limit_denominator(64)
        raise Unsupported(f"the dynamic extent {extent} times {scale}, near {near}: which size it rounds to is open")
    return floordiv(extent * exact.numerator, exact.denominator)


def _kept_ratio(n: Call, x: Value, axes: Sequence[int], sizes: Sequence[Dim]) -> tuple[list[Dim], list[float] | None]:
    policy = n.text("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return list(sizes), None
    pairs = [(s, x.type.shape[a]) for s, a in zip(sizes, axes, strict=True)]
    known = [(s, e) for s, e in pairs if isinstance(s, int) and isinstance(e, int)]
    if len(known) != len(pairs):
        raise Unsupported(f"Resize with keep_aspect_ratio_policy={policy!r} of sizes that are known only when it runs")
    ratios = [Fraction(s, e) for s, e in known]
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    rounded = [int((scale * e + Fraction(1, 2)).__floor__()) for _, e in known]
    return list(rounded), [float(scale)] * len(known)


def _resized(
    c: Context,
    x: Value,
    sizes: Sequence[Dim],
    scales: Sequence[float] | None,
    mode: str,
    coordinates: str,
    rounding: str,
    *,
    antialias: bool = False,
    cubic_a: float = -0.75,
    exclude_outside: bool = False,
) -> Value:
    """Resize of all axes: those that do not change are batch and channels, in an image; else axes are put before."""
    shape = x.type.shape
    if all(same(a, b) for a, b in zip(shape, sizes, strict=True)) and (scales is None or set(scales) == {1.0}):
        return x
    still = [_is_still(shape[i], sizes[i], scales[i] if scales else None) for i in range(len(shape))]
    lead = 0 if len(shape) >= 3 and still[0] and still[1] else 2
    wide = c.reshape(x, (*[1] * lead, *shape))
    skip = 2 - lead
    kept = list(range(skip, len(shape)))
    factors = _factors(shape, sizes, scales, kept, coordinates)
    kind = {"bilinear": "linear", "trilinear": "linear"}.get(mode, mode)
    y = c.b.resize(
        wide,
        sizes=tuple(sizes[i] for i in kept),
        mode=kind,
        coordinates=coordinates,
        rounding=rounding,
        scales=factors,
        antialias=antialias,
        cubic_a=cubic_a,
        exclude_outside=exclude_outside,
    )
    return c.reshape(y, tuple(sizes))


def _is_still(extent: Dim, size: Dim, scale: float | None) -> bool:
    return same(extent, size) and (scale is None or scale == 1.0)


def _factors(
    shape: Sequence[Dim], sizes: Sequence[Dim], scales: Sequence[float] | None, axes: Sequence[int], coordinates: str
) -> tuple[float, ...] | None:
    """Factors where the sizes do not say the same."""
    if scales is None or coordinates == "align_corners":
        return None
    exact = all(_says(shape[i], sizes[i], scales[i]) for i in axes)
    return None if exact else tuple(float(scales[i]) for i in axes)


def _says(extent: Dim, size: Dim, scale: float) -> bool:
    if isinstance(extent, int) and isinstance(size, int):
        return bool(extent) and np.float32(size / extent) == np.float32(scale)
    exact = Fraction(scale)
    return same(extent * exact.numerator, size * exact.denominator) or is_one(extent)


@translates("GridSample")
def grid_sample(c: Context, n: Call) -> Value:
    """Elements at the places that a grid names."""
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(n.text("mode", "linear"), n.text("mode", "linear"))
    padding = n.text("padding_mode", "zeros")
    x, grid = n[0], n[1]
    return c.b.grid_sample(
        x, c.cast(grid, x.type.dtype), mode=mode, padding=padding, align_corners=bool(n.int("align_corners", 0))
    )


@translates("AffineGrid")
def affine_grid(c: Context, n: Call) -> Value:
    """Places from −1 to 1 along each axis, moved by a matrix for each sample."""
    b, theta = c.b, n[0]
    dims = sized(c, n, 1, "grid")
    batch, spatial = dims[0], dims[2:]
    count, corners, dtype = len(spatial), bool(n.int("align_corners", 0)), theta.type.dtype
    places: list[Value] = []
    for axis, extent in enumerate(spatial):
        at = b.iota(size=extent, dtype=dtype)
        size = b.extent(extent, dtype)
        if corners:
            line = b.sub(b.div(b.mul(at, 2.0), b.maximum(b.sub(size, 1.0), 1.0)), 1.0)
        else:
            line = b.sub(b.div(b.add(b.mul(at, 2.0), 1.0), size), 1.0)
        shaped = c.reshape(line, tuple(extent if a == axis else 1 for a in range(count)))
        places.append(c.reshape(c.broadcast(shaped, tuple(spatial)), (*spatial, 1)))
    ones = c.full((*spatial, 1), 1.0, dtype)
    grid = b.concat(*reversed(places), ones, axis=count)  # x first, as the matrix has it
    total: Dim = 1
    for extent in spatial:
        total = total * extent
    flat = c.broadcast(c.reshape(grid, (1, total, count + 1)), (batch, total, count + 1))
    moved = b.matmul(flat, b.transpose(c.assume_batch(theta, batch), perm=(0, 2, 1)))
    return c.reshape(moved, (batch, *spatial, count))
