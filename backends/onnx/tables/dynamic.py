"""Sizes that only a run tells, in ONNX: Range, Reshape, Expand and Slice by tensors that hold them."""

from __future__ import annotations

from typing import Any

from dragoman.backends.onnx import types
from dragoman.backends.onnx.emitter import Emitter
from dragoman.backends.onnx.table import emits, requires
from dragoman.backends.onnx.tables.older import reshaped_with_zeros
from dragoman.backends.onnx.tables.shape import ZEROS_SINCE
from dragoman.ir.dims import DimExpr, bounds
from dragoman.ir.graph import Node, Value
from dragoman.ir.op import normal_axis
from dragoman.ir.types import I32


@emits("dynamic_iota")
def dynamic_iota(e: Emitter, node: Node, count: Value) -> str:
    """Range; nothing where it stands for its size alone, which the operand is."""
    op: Any = node.op
    if isinstance(op.size, DimExpr):
        e.dims.define(op.size, e.ref(count))
    if not node.results[0].uses:
        return ""
    return e.op("Range", e.i64(0), count, e.i64(1))


@emits("dynamic_reshape", where=requires("Reshape", 1))
def dynamic_reshape(e: Emitter, node: Node, x: Value, sizes: Value) -> str:
    """Reshape by the sizes as they are."""
    op: Any = node.op
    if e.opset >= ZEROS_SINCE:
        return e.op("Reshape", x, sizes, allowzero=int(op.keep_zeros) or None)
    if op.keep_zeros and not all(bounds(d)[0] > 0 for d in node.result.type.shape):
        return reshaped_with_zeros(e, x, e.ref(sizes), node.result.type)
    return e.op("Reshape", x, sizes)


@emits("dynamic_broadcast", where=requires("Expand", 1))
def dynamic_broadcast(e: Emitter, node: Node, x: Value, sizes: Value) -> str:
    """Expand."""
    return e.op("Expand", x, sizes)


@emits("dynamic_strided_slice", where=requires("Slice", 1))
def dynamic_strided_slice(e: Emitter, node: Node, x: Value, starts: Value, stops: Value, steps: Value) -> str:
    """Slice."""
    op: Any = node.op
    axes = e.i64([normal_axis(a, x.type.rank) for a in op.axes])
    return e.op("Slice", x, starts, stops, axes, steps)


_REDUCTIONS = {
    "sum": "ReduceSum",
    "prod": "ReduceProd",
    "max": "ReduceMax",
    "min": "ReduceMin",
    "any": "ReduceMax",
    "all": "ReduceMin",
    "mean": "ReduceMean",
    "l1": "ReduceL1",
    "l2": "ReduceL2",
    "sum_square": "ReduceSumSquare",
    "logsumexp": "ReduceLogSumExp",
}


def _takes_reduce(node: Node, opset: int) -> str | None:
    op: Any = node.op
    if opset < 18 and op.kind != "sum":
        return "axes as a tensor begin at opset 18"
    x = node.operands[0]
    assert x is not None
    if op.kind in ("any", "all") and any(bounds(d)[0] <= 0 for d in x.type.shape):
        return "the extremes of nothing are no truths"
    dtype = I32 if op.kind in ("any", "all") else x.type.dtype
    found = types.computing_dtype(_REDUCTIONS[op.kind], opset, dtype)
    return None if found else f"ONNX opset {opset} has no {_REDUCTIONS[op.kind]} on {dtype}"


@emits("dynamic_reduce", where=_takes_reduce)
def dynamic_reduce(e: Emitter, node: Node, x: Value, axes: Value) -> str:
    """The reduction with its axes as a tensor."""
    op: Any = node.op
    dtype = x.type.dtype
    name = _REDUCTIONS[op.kind]
    start = I32 if op.kind in ("any", "all") else dtype
    computing = types.computing_dtype(name, e.opset, start) or start
    y = e.op(name, e.cast(x, computing), axes, keepdims=int(op.keepdims))
    return e.cast_from(y, computing, node.result.type.dtype)


def _takes_resize(node: Node, opset: int) -> str | None:
    op: Any = node.op
    x = node.operands[0]
    assert x is not None
    if opset < 18 and (op.antialias or op.policy != "stretch"):
        return "Resize has antialias and one factor for all axes from opset 18 on"
    if opset < 19 and op.coordinates == "half_pixel_symmetric":
        return "Resize has half_pixel_symmetric from opset 19 on"
    if opset < 18 and op.axes != tuple(range(x.type.rank)):
        return "Resize of some of the axes begins at opset 18"
    return requires("Resize", 1)(node, opset)


@emits("dynamic_resize", where=_takes_resize)
def dynamic_resize(e: Emitter, node: Node, x: Value, scales: Value | None = None, sizes: Value | None = None) -> str:
    """Resize by what the operands hold."""
    op: Any = node.op
    return e.op(
        "Resize",
        x,
        None,
        scales,
        sizes,
        axes=list(op.axes) if op.axes != tuple(range(x.type.rank)) else None,
        keep_aspect_ratio_policy=op.policy if op.policy != "stretch" else None,
        mode=op.mode,
        coordinate_transformation_mode=op.coordinates,
        nearest_mode=op.rounding if op.mode == "nearest" else None,
        cubic_coeff_a=float(op.cubic_a) if op.mode == "cubic" else None,
        exclude_outside=int(op.exclude_outside) or None,
        antialias=int(op.antialias) or None,
    )
