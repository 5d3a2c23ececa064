"""Resampling in ONNX: Resize and GridSample."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from dragoman.backends.onnx.emitter import Emitter
from dragoman.backends.onnx.table import emits, requires
from dragoman.backends.onnx.tables.conv import channels_first, laid_out
from dragoman.ir.dims import Dim, same
from dragoman.ir.graph import Node, Value
from dragoman.ir.ops.conv import spatial_axes
from dragoman.ir.types import F32

_SINCE = {"half_pixel_symmetric": 19}
# The place (i + ½)/s is half a pixel beyond that of half_pixel, so rounding it is another rounding of that one.
_FOR_NEAREST = {"floor": "round_prefer_ceil", "round_prefer_floor": "ceil"}


def _takes_resize(node: Node, opset: int) -> str | None:
    op: Any = node.op
    if opset < _SINCE.get(op.coordinates, 0):
        return f"Resize has {op.coordinates} from opset {_SINCE[op.coordinates]} on"
    if op.antialias and opset < 18:
        return "Resize has antialias from opset 18 on"
    if op.coordinates == "tf_half_pixel_for_nn" and (op.mode != "nearest" or op.rounding not in _FOR_NEAREST):
        return f"ONNX has no coordinates tf_half_pixel_for_nn with {op.mode} and {op.rounding}"
    if op.scales is not None and not _scales_give_sizes(node):
        return "ONNX's Resize takes factors or sizes, and these factors do not give these sizes"
    return requires("Resize", 1)(node, opset)


def _scales_give_sizes(node: Node) -> bool:
    """Whether ⌊extent · scale⌋, with the scale in f32 as ONNX has it, is the size on each axis."""
    op: Any = node.op
    x = node.operands[0]
    assert x is not None
    for axis, scale, size in zip(spatial_axes(x.type.rank, op.layout), op.scales, op.sizes, strict=True):
        extent: Dim = x.type.shape[axis]
        numerator, denominator = float(np.float32(scale)).as_integer_ratio()
        if not same(extent * numerator // denominator, size):
            return False
    return True


def exact_places(node: Node) -> list[Any] | None:
    """Which elements a nearest-neighbour resize reads, where a place falls on the edge between two and f32 may err."""
    op: Any = node.op
    x = node.operands[0]
    assert x is not None
    extents = [x.type.shape[axis] for axis in spatial_axes(x.type.rank, op.layout)]
    if op.mode != "nearest" or not all(isinstance(d, int) for d in (*extents, *op.sizes)):
        return None
    factors = _factors(op, extents)
    if all(_is_single(f) for f in factors) or op.coordinates == "align_corners":
        return None
    before, after = (_nudged(op, extents, by) for by in (-_DOUBT, _DOUBT))
    firm = all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    # In the symmetric coordinates the factor cancels in the middle, where a place may still be on the edge.
    if firm and op.coordinates != "half_pixel_symmetric":
        return None
    return [op.taps(extent, i)[0][:, 0] for i, extent in enumerate(extents)]


_DOUBT = 1e-4  # of the factor: a thousand times the rounding of f32


def _factors(op: Any, extents: Sequence[Any]) -> tuple[Any, ...]:
    return op.scales or tuple(Fraction(s, n) for s, n in zip(op.sizes, extents, strict=True))


def _nudged(op: Any, extents: Sequence[Any], by: float) -> list[Any]:
    moved = op.with_attributes(scales=tuple(float(f) * (1 + by) for f in _factors(op, extents)))
    return [moved.taps(extent, i)[0][:, 0] for i, extent in enumerate(extents)]


@emits("resize", where=_takes_resize)
def resize(e: Emitter, node: Node, x: Value) -> str | Value:
    """Resize of the spatial axes by factors where there are some, else to sizes; Gather where rounding would decide."""
    op: Any = node.op
    places = exact_places(node)
    if places is not None:
        y: Value | str = x
        for axis, along in zip(spatial_axes(x.type.rank, op.layout), places, strict=True):
            y = e.op("Gather", y, e.i64([int(p) for p in along]), axis=axis)
        return y
    rank = x.type.rank
    first = channels_first(e, x, rank, op.layout)
    if op.mode == "cubic" and rank == 3:
        # ONNX Runtime has bicubic only; a row of one is resized to one, which changes nothing.
        tall = _resized(e, node, x, e.op("Unsqueeze", first, e.i64([2])), 1)
        return laid_out(e, e.op("Squeeze", tall, e.i64([2])), rank, op.layout)
    return laid_out(e, _resized(e, node, x, first, 0), rank, op.layout)


def _resized(e: Emitter, node: Node, x: Value, first: Value | str, rows: int) -> str:
    """Resize of `first`, channels at axis 1 and then as many more axes of extent 1 as `rows` says."""
    op: Any = node.op
    coordinates, rounding = op.coordinates, op.rounding
    if coordinates == "tf_half_pixel_for_nn":
        coordinates, rounding = "half_pixel", _FOR_NEAREST[rounding]
    cubic = op.mode == "cubic"
    return e.op(
        "Resize",
        first,
        None,
        *_scales_or_sizes(e, op, x, rows),
        mode=op.mode,
        coordinate_transformation_mode=coordinates,
        nearest_mode=rounding if op.mode == "nearest" else None,
        cubic_coeff_a=float(op.cubic_a) if cubic else None,
        exclude_outside=int(op.exclude_outside) or None,
        antialias=int(op.antialias) or None,
    )


def _scales_or_sizes(e: Emitter, op: Any, x: Value, rows: int) -> tuple[str | None, str | None]:
    """The factors for all axes where they are exact, else the sizes.

    Resize could name its axes from opset 18 on, but ONNX Runtime 1.32 breaks that when it moves a Transpose through it.
    """
    spatial = spatial_axes(x.type.rank, op.layout)
    factors = op.scales or _exact_factors(op, [x.type.shape[axis] for axis in spatial])
    if factors is not None:
        return e.constant(np.array([1.0] * (2 + rows) + [float(f) for f in factors], np.float32), F32), None
    channels = next(x.type.shape[axis] for axis in range(1, x.type.rank) if axis not in spatial)
    outer: list[Dim] = [x.type.shape[0], channels, *[1] * rows]
    return None, e.dims.shape([*outer, *op.sizes])


def _exact_factors(op: Any, extents: Sequence[Any]) -> tuple[Fraction, ...] | None:
    if not all(isinstance(d, int) for d in (*extents, *op.sizes)):
        return None
    factors = tuple(Fraction(size, extent) for size, extent in zip(op.sizes, extents, strict=True))
    return factors if all(_is_single(f) for f in factors) else None


def _is_single(number: Fraction | float) -> bool:
    return Fraction(float(np.float32(float(number)))) == number


def _takes_grid(node: Node, opset: int) -> str | None:
    if opset < 20 and node.result.type.rank != 4:
        return "GridSample takes other than two spatial axes from opset 20 on"
    return requires("GridSample")(node, opset)


@emits("grid_sample", where=_takes_grid)
def grid_sample(e: Emitter, node: Node, x: Value, grid: Value) -> str:
    """GridSample, whose modes were renamed in opset 20."""
    op: Any = node.op
    mode = op.mode if e.opset >= 20 else {"linear": "bilinear", "cubic": "bicubic"}.get(op.mode, op.mode)
    return e.op("GridSample", x, grid, mode=mode, padding_mode=op.padding, align_corners=int(op.align_corners))
