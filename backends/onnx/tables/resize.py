"""Resampling in ONNX: Resize and GridSample."""

from __future__ import annotations

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


@emits("resize", where=_takes_resize)
def resize(e: Emitter, node: Node, x: Value) -> str:
    """Resize of the spatial axes by factors where the IR has them, else to sizes."""
    op: Any = node.op
    rank = x.type.rank
    coordinates, rounding = op.coordinates, op.rounding
    if coordinates == "tf_half_pixel_for_nn":
        coordinates, rounding = "half_pixel", _FOR_NEAREST[rounding]
    axes = list(range(2, rank)) if e.opset >= 18 else None
    scales = sizes = None
    if op.scales is not None:
        scales = e.constant(np.array([*([] if axes else [1.0, 1.0]), *op.scales], np.float32), F32)
    else:
        sizes = e.dims.shape([*([] if axes else [x.type.shape[0], x.type.shape[1 if rank else 0]]), *op.sizes])
    nearest = op.mode == "nearest"
    y = e.op(
        "Resize",
        channels_first(e, x, rank, op.layout),
        None,
        scales,
        sizes,
        mode=op.mode,
        coordinate_transformation_mode=coordinates,
        nearest_mode=rounding if nearest else None,
        cubic_coeff_a=float(op.cubic_a) if op.mode == "cubic" else None,
        exclude_outside=int(op.exclude_outside) or None,
        antialias=int(op.antialias) or None,
        axes=axes,
    )
    return laid_out(e, y, rank, op.layout)


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
