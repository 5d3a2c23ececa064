"""Boxes, regions, moved taps and determinants in ONNX."""

from __future__ import annotations

from typing import Any

from dragoman.backends.onnx import types
from dragoman.backends.onnx.emitter import Emitter
from dragoman.backends.onnx.table import all_of, emits, requires
from dragoman.ir.graph import Node, Value
from dragoman.ir.types import F32, F64

_NO_BITS = "ONNX has no view of numbers as their bits before opset 26"


def _single(name: str, *others: Any) -> Any:
    def where(node: Node, opset: int) -> str | None:
        dtype = next(v.type.dtype for v in node.operands if v is not None)
        return None if dtype in (F32, *others) else f"ONNX Runtime has no {name} on {dtype}"

    return where


@emits("non_max_suppression", where=all_of(_single("NonMaxSuppression"), requires("NonMaxSuppression", 1)))
def non_max_suppression(
    e: Emitter,
    node: Node,
    boxes: Value,
    scores: Value,
    most: Value | None = None,
    overlap: Value | None = None,
    least: Value | None = None,
) -> str:
    """NonMaxSuppression."""
    op: Any = node.op
    return e.op("NonMaxSuppression", boxes, scores, most, overlap, least, center_point_box=int(op.centered) or None)


def _takes_regions(node: Node, opset: int) -> str | None:
    op: Any = node.op
    return "RoiAlign has half-pixel coordinates from opset 16 on" if opset < 16 and op.half_pixel else None


@emits("roi_align", where=all_of(_takes_regions, _single("RoiAlign", F64), requires("RoiAlign", 1)))
def roi_align(e: Emitter, node: Node, x: Value, regions: Value, image: Value) -> str:
    """RoiAlign, whose coordinates were named in opset 16."""
    op: Any = node.op
    named = "half_pixel" if op.half_pixel else "output_half_pixel"
    return e.op(
        "RoiAlign",
        x,
        regions,
        image,
        mode=op.mode,
        output_height=op.height,
        output_width=op.width,
        sampling_ratio=op.sampling,
        spatial_scale=float(op.scale),
        coordinate_transformation_mode=named if e.opset >= 16 else None,
    )


@emits("deform_conv", where=all_of(_single("DeformConv", F64), requires("DeformConv", 1)))
def deform_conv(
    e: Emitter, node: Node, x: Value, weight: Value, offset: Value, bias: Value | None = None, mask: Value | None = None
) -> str:
    """DeformConv."""
    op: Any = node.op
    lows, highs = zip(*op.padding, strict=True)
    return e.op(
        "DeformConv",
        x,
        weight,
        offset,
        bias,
        mask,
        strides=list(op.strides),
        pads=[*lows, *highs],
        dilations=list(op.dilations),
        group=op.groups,
        offset_group=op.parts,
    )


@emits("det", where=all_of(_single("Det"), requires("Det", 1)))
def det(e: Emitter, node: Node, x: Value) -> str:
    """Det."""
    return e.op("Det", x)


@emits("bits_of_float", where=lambda node, opset: None if opset >= 26 else _NO_BITS)
def bits_of_float(e: Emitter, node: Node, x: Value) -> str:
    """BitCast of the rounded number."""
    op: Any = node.op
    return e.op("BitCast", e.cast(x, op.dtype), to=types.code(node.result.type.dtype))


@emits("float_from_bits", since=26)
def float_from_bits(e: Emitter, node: Node, x: Value) -> str:
    """BitCast."""
    return e.op("BitCast", x, to=types.code(node.result.type.dtype))
