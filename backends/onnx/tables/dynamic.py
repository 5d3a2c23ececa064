"""Sizes that only a run tells, in ONNX: Range, Reshape, Expand and Slice by tensors that hold them."""

from __future__ import annotations

from typing import Any

from dragoman.backends.onnx.emitter import Emitter
from dragoman.backends.onnx.table import emits, requires
from dragoman.ir.dims import DimExpr
from dragoman.ir.graph import Node, Value
from dragoman.ir.op import normal_axis


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
    return e.op("Reshape", x, sizes, allowzero=int(op.keep_zeros) or None)


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
