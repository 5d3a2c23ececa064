"""Boxes, regions, moved taps, determinants, and numbers seen as other numbers."""

from __future__ import annotations

from dragoman.frontends.onnx.call import Call
from dragoman.frontends.onnx.context import Context
from dragoman.frontends.onnx.dtypes import dtype_of_code
from dragoman.frontends.onnx.registry import translates
from dragoman.frontends.onnx.table.windows import Window
from dragoman.ir.errors import Malformed, Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.ops.bits import WORDS
from dragoman.ir.types import BOOL, I64, U8


@translates("NonMaxSuppression")
def non_max_suppression(c: Context, n: Call) -> Value:
    """Boxes that do not overlap a better one."""
    most = c.reshape(c.cast(n[2], I64), ()) if n.has(2) else None
    limits = [c.reshape(n[i], ()) if n.has(i) else None for i in (3, 4)]
    centered = bool(n.int("center_point_box", 0))
    return c.b.non_max_suppression(n[0], n[1], most, *limits, centered=centered, size=c.fresh("kept"))


@translates("RoiAlign")
def roi_align(c: Context, n: Call) -> Value:
    """Regions pooled; the first version had no coordinates to choose."""
    named = n.text("coordinate_transformation_mode", "half_pixel") if n.version >= 16 else "output_half_pixel"
    if named not in ("half_pixel", "output_half_pixel"):
        raise Malformed(f"RoiAlign with the coordinates {named!r}")
    return c.b.roi_align(
        n[0],
        n[1],
        c.cast(n[2], I64),
        height=n.int("output_height", 1),
        width=n.int("output_width", 1),
        sampling=n.int("sampling_ratio", 0),
        scale=n.float("spatial_scale", 1.0),
        mode=n.text("mode", "avg"),
        half_pixel=named == "half_pixel",
    )


@translates("DeformConv")
def deform_conv(c: Context, n: Call) -> Value:
    """A convolution whose taps move."""
    x, w = n[0], n[1]
    kernel = [d for d in w.type.shape[2:] if isinstance(d, int)]
    if len(kernel) != 2:
        raise Unsupported(f"DeformConv with a kernel {w.type}: two known spatial axes are needed")
    window = Window(n, kernel, x.type.shape[2:])
    return c.b.deform_conv(
        x,
        w,
        n[2],
        n.get(3),
        n.get(4),
        strides=window.strides,
        padding=window.padding,
        dilations=window.dilations,
        groups=n.int("group", 1),
        parts=n.int("offset_group", 1),
    )


@translates("Det")
def det(c: Context, n: Call) -> Value:
    """The determinant."""
    return c.b.det(n[0])


@translates("BitCast")
def bit_cast(c: Context, n: Call) -> Value:
    """The same bits as another dtype of that width: through the unsigned integers of that width."""
    x, wanted = n[0], dtype_of_code(n.int("to"))
    held = x.type.dtype
    words = WORDS.get(held.bits)
    if wanted.bits != (U8.bits if held is BOOL else held.bits):
        raise Malformed(f"BitCast from {held} to {wanted}")
    if held == wanted:
        return x
    if held.is_float and words is not None:
        x = c.b.bits_of_float(x, dtype=held)
    elif held is BOOL:
        x = c.b.cast(x, dtype=U8)
    if wanted is BOOL or held.kind == "string" or wanted.kind == "string" or (words is None and held is not BOOL):
        raise Unsupported(f"BitCast from {held} to {wanted}")
    if wanted.is_float:
        return c.b.float_from_bits(c.cast(x, WORDS[wanted.bits]), dtype=wanted)
    return c.cast(x, wanted)
