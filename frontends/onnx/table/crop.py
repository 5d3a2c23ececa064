"""Resize of a part of the input: tf_crop_and_resize, whose region is an operand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dragoman.frontends.onnx.call import Call
from dragoman.frontends.onnx.context import Context
from dragoman.ir.dims import Dim, DimExpr, maximum
from dragoman.ir.errors import Malformed, Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.types import F32, F64, I64


def cropped(c: Context, n: Call, axes: Sequence[int]) -> Value:
    """Each axis by gathering between the ends of its region; `extrapolation_value` for what lies outside the input."""
    b, x = c.b, n[0]
    if n.int("antialias", 0) or n.int("exclude_outside", 0):
        raise Unsupported("Resize of a part of the input with antialias or exclude_outside")
    if n.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Unsupported("Resize of a part of the input with keep_aspect_ratio_policy")
    count, region = len(axes), c.cast(n[1], F64)
    if region.type.shape != (2 * count,):
        raise Malformed(f"Resize of {count} axes with a region of {region.type}")
    outside: Value | None = None
    y = c.cast(x, F32) if x.type.dtype.is_float and x.type.dtype.bits < F32.bits else x
    for i, (axis, size) in enumerate(zip(axes, _sizes(c, n, axes), strict=True)):
        ends = [c.reshape(c.slice(region, 0, at, at + 1), ()) for at in (i, count + i)]
        places = _places(c, ends, x.type.shape[axis], size)
        last = b.extent(x.type.shape[axis] - 1, F64)
        beyond = b.logical_or(b.less(places, 0.0), b.greater(places, last))
        y = _interpolated(c, n, y, axis, places, last)
        shaped = c.reshape(beyond, tuple(size if a == axis else 1 for a in range(x.type.rank)))
        outside = shaped if outside is None else b.logical_or(outside, shaped)
    if outside is not None:
        fill = c.const(n.float("extrapolation_value", 0.0), y.type.dtype)
        y = b.where(outside, fill, y)
    return c.cast(y, x.type.dtype)


def _sizes(c: Context, n: Call, axes: Sequence[int]) -> list[Dim]:
    """The extents of the result along the axes."""
    shape = n.type(0).shape
    if n.has(3) and n.type(3).shape != (0,):
        sizes = n.dims(3)
        return sizes if sizes is not None else [c.size(c.slice(n[3], 0, i, i + 1), "resized") for i in range(len(axes))]
    known = n.known(2)
    extents = [shape[a] for a in axes]
    if known is None or any(isinstance(d, DimExpr) for d in extents):
        raise Unsupported("Resize of a part of the input by factors that are known only when the model runs")
    factors = [np.float32(v) for v in known.reshape(-1).tolist()]
    return [int(np.floor(np.float32(int(d)) * f)) for d, f in zip(extents, factors, strict=True)]  # type: ignore[arg-type]


def _places(c: Context, ends: Sequence[Value], extent: Dim, size: Dim) -> Value:
    """Where each entry of the result lies along an axis of the input: f64[size]."""
    b, (start, end) = c.b, ends
    last = b.extent(extent - 1, F64)
    first = b.mul(start, last)
    step = b.div(b.mul(b.sub(end, start), last), b.extent(maximum(size - 1, 1), F64))
    middle = b.mul(b.mul(b.add(start, end), 0.5), last)
    if isinstance(size, int):
        first = middle if size == 1 else first
    else:
        first = b.where(b.equal(b.extent(size, F64), 1.0), middle, first)
    return b.add(b.mul(b.iota(size=size, dtype=F64), step), first)


def _interpolated(c: Context, n: Call, x: Value, axis: int, places: Value, last: Value) -> Value:
    b, mode = c.b, n.text("mode", "nearest")
    if mode == "nearest":
        return _taken(c, x, axis, _rounded(c, places, n.text("nearest_mode", "round_prefer_floor")), last)
    whole = b.floor(places)
    rest = b.sub(places, whole)
    total: Value | None = None
    for step, weight in _weights(c, n, mode, rest):
        shaped = c.reshape(weight, tuple(weight.type.size if a == axis else 1 for a in range(x.type.rank)))
        seen = b.mul(_taken(c, x, axis, b.add(whole, float(step)), last), c.cast(shaped, x.type.dtype))
        total = seen if total is None else b.add(total, seen)
    assert total is not None
    return total


def _taken(c: Context, x: Value, axis: int, places: Value, last: Value) -> Value:
    inside = c.b.minimum(c.b.maximum(places, 0.0), last)
    return c.b.take(x, c.b.cast(inside, dtype=I64), axis=axis)


def _rounded(c: Context, places: Value, rounding: str) -> Value:
    b = c.b
    if rounding in ("floor", "ceil"):
        return b.floor(places) if rounding == "floor" else b.ceil(places)
    if rounding == "round_prefer_floor":
        return b.ceil(b.sub(places, 0.5))
    if rounding == "round_prefer_ceil":
        return b.floor(b.add(places, 0.5))
    raise Malformed(f"Resize with nearest_mode={rounding!r}")


def _weights(c: Context, n: Call, mode: str, rest: Value) -> list[tuple[int, Value]]:
    """Steps from the element before, and what each counts; Keys 1981 for cubic."""
    b = c.b
    if mode == "linear":
        return [(0, b.sub(c.const(1.0, F64), rest)), (1, rest)]
    if mode != "cubic":
        raise Malformed(f"Resize with mode={mode!r}")
    a = n.float("cubic_coeff_a", -0.75)

    def near(t: Value) -> Value:  # ((a+2)·t − (a+3))·t² + 1
        return b.add(b.mul(b.sub(b.mul(t, a + 2), a + 3), b.mul(t, t)), 1.0)

    def far(t: Value) -> Value:  # ((a·t − 5a)·t + 8a)·t − 4a
        return b.sub(b.mul(b.add(b.mul(b.sub(b.mul(t, a), 5 * a), t), 8 * a), t), 4 * a)

    other = b.sub(c.const(1.0, F64), rest)
    return [(-1, far(b.add(rest, 1.0))), (0, near(rest)), (1, near(other)), (2, far(b.add(other, 1.0)))]
