"""Movement of elements in ONNX. Extents that are numbers, copied (0) or inferred (-1) cost no node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dragoman.backends.onnx import types
from dragoman.backends.onnx.emitter import Emitter
from dragoman.backends.onnx.table import emits, requires
from dragoman.backends.onnx.tables.older import reshaped_with_zeros
from dragoman.ir.dims import Dim, DimExpr, same
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Node, Value
from dragoman.ir.op import normal_axes, normal_axis
from dragoman.ir.types import DType, Shape, TensorType, same_shape

ZEROS_SINCE = 14  # before, an extent of 0 was always one to copy
MAY_BE_ZERO = f"Reshape to extents that may be 0 begins at opset {ZEROS_SINCE}"
_END = 2**63 - 1
_BEFORE_FIRST = -(2**63)


@emits("reshape", where=requires("Reshape"))
def reshape(e: Emitter, node: Node, x: Value) -> str | Value:
    """Reshape, with 0 and -1 where they suffice."""
    return reshaped(e, x, x.type.shape, node.result.type.shape)


def reshaped(e: Emitter, x: Value | str, before: Shape, after: Shape) -> str | Value:
    """`x` under another shape; itself where that is the one it has."""
    if same_shape(before, after):
        return x
    target, allow_zero = e.dims.reshape_target(before, after)
    if allow_zero and e.opset < ZEROS_SINCE:
        if isinstance(x, str):
            raise Unsupported(MAY_BE_ZERO)
        return reshaped_with_zeros(e, x, target, TensorType(x.type.dtype, after))
    return e.op("Reshape", x, target, allowzero=1 if allow_zero else None)


@emits("transpose", where=requires("Transpose"))
def transpose(e: Emitter, node: Node, x: Value) -> str | Value:
    """Transpose; nothing for the identity."""
    op: Any = node.op
    perm = [axis % x.type.rank for axis in op.perm]
    return x if perm == sorted(perm) else e.op("Transpose", x, perm=perm)


@emits("broadcast_to", where=requires("Expand"))
def broadcast_to(e: Emitter, node: Node, x: Value) -> str | Value:
    """Expand. Where an extent stays, 1 stands for it, so that only new extents are computed."""
    after = node.result.type.shape
    if same_shape(x.type.shape, after):
        return x
    own = (1,) * (len(after) - x.type.rank) + x.type.shape
    wanted: list[Dim] = [1 if isinstance(d, DimExpr) and same(d, o) else d for d, o in zip(after, own, strict=True)]
    return e.op("Expand", x, e.dims.shape(wanted))


@emits("concat", where=requires("Concat", 1))
def concat(e: Emitter, node: Node, *xs: Value) -> str | Value:
    """Concat; nothing for one operand."""
    op: Any = node.op
    first = xs[0]
    if len(xs) == 1:
        return first
    return e.op("Concat", *xs, axis=normal_axis(op.axis, first.type.rank))


@emits("slice", where=requires("Slice", 1))
def slice_(e: Emitter, node: Node, x: Value) -> str | Value:
    """Slice along the axes that lose something; "to the end" is a number that no extent reaches."""
    op: Any = node.op
    starts: list[Dim] = []
    stops: list[Dim] = []
    axes: list[int] = []
    steps: list[int] = []
    for axis, start, stop, step in zip(op.axes, op.starts, op.stops, op.steps, strict=True):
        axis = normal_axis(axis, x.type.rank)
        to_the_end = same(stop, x.type.shape[axis])
        if to_the_end and isinstance(start, int) and start == 0 and step == 1:
            continue
        axes.append(axis)
        starts.append(start)
        stops.append(_END if to_the_end else stop)
        steps.append(step)
    if not axes:
        return x
    strides = e.i64(steps) if any(s != 1 for s in steps) else None
    return e.op("Slice", x, e.dims.shape(starts), e.dims.shape(stops), e.i64(axes), strides)


@emits("flip", where=requires("Slice", 1))
def flip(e: Emitter, node: Node, x: Value) -> str | Value:
    """Slice backwards."""
    op: Any = node.op
    axes = normal_axes(op.axes, x.type.rank)
    if not axes:
        return x
    count = len(axes)
    return e.op("Slice", x, e.i64([-1] * count), e.i64([_BEFORE_FIRST] * count), e.i64(axes), e.i64([-1] * count))


def _fill(value: float, dtype: DType) -> float:
    if dtype.kind == "bool":
        return bool(value)
    return int(value) if dtype.is_integer else float(value)


def _takes_pad(node: Node, opset: int) -> str | None:
    dtype = node.result.type.dtype
    return None if types.computing_dtype("Pad", opset, dtype) else f"ONNX opset {opset} has no Pad on {dtype}"


@emits("pad", where=_takes_pad)
def pad(e: Emitter, node: Node, x: Value) -> str | Value:
    """Pad; before opset 19, which brought mode wrap, the ends are put before and after."""
    op: Any = node.op
    if all(isinstance(p, int) and p == 0 for pair in op.padding for p in pair):
        return x
    if op.mode == "wrap" and e.opset < 19:
        return _wrapped(e, x, op.padding)
    dtype = x.type.dtype
    computing = types.computing_dtype("Pad", e.opset, dtype) or dtype
    amounts = e.dims.shape([low for low, _ in op.padding] + [high for _, high in op.padding])
    fill = e.scalar(_fill(op.value, computing), computing) if op.mode == "constant" and op.value else None
    return e.cast_from(e.op("Pad", e.cast(x, computing), amounts, fill, mode=op.mode), computing, dtype)


def _wrapped(e: Emitter, x: Value, padding: Sequence[tuple[Dim, Dim]]) -> str:
    result = e.ref(x)
    for axis, (low, high) in enumerate(padding):
        extent = x.type.shape[axis]
        parts = [result]
        if not (isinstance(low, int) and low == 0):
            start, stop = e.dims.vector(extent - low), e.dims.vector(extent)
            parts.insert(0, e.op("Slice", result, start, stop, e.i64([axis])))
        if not (isinstance(high, int) and high == 0):
            parts.append(e.op("Slice", result, e.i64([0]), e.dims.vector(high), e.i64([axis])))
        result = e.op("Concat", *parts, axis=axis) if len(parts) > 1 else result
    return result


# ---- composites that ONNX has whole -------------------------------------------------------------------------


@emits("squeeze", where=requires("Squeeze", 1))
def squeeze(e: Emitter, node: Node, x: Value) -> str | Value:
    """Squeeze."""
    op: Any = node.op
    axes = normal_axes(op.axes, x.type.rank)
    return e.op("Squeeze", x, e.i64(axes)) if axes else x


@emits("unsqueeze", where=requires("Unsqueeze", 1))
def unsqueeze(e: Emitter, node: Node, x: Value) -> str | Value:
    """Unsqueeze."""
    op: Any = node.op
    axes = normal_axes(op.axes, node.result.type.rank)
    return e.op("Unsqueeze", x, e.i64(axes)) if axes else x


@emits("split", where=requires("Split", 1))
def split(e: Emitter, node: Node, x: Value) -> Sequence[str | Value]:
    """Split into the sizes given."""
    op: Any = node.op
    if len(node.results) == 1:
        return [x]
    return e.ops("Split", [x, e.dims.shape(op.sizes)], len(node.results), axis=normal_axis(op.axis, x.type.rank))


@emits("tile", where=requires("Tile", 1))
def tile(e: Emitter, node: Node, x: Value) -> str | Value:
    """Tile."""
    op: Any = node.op
    if all(isinstance(r, int) and r == 1 for r in op.repeats):
        return x
    return e.op("Tile", x, e.dims.shape(op.repeats))


def _is_image(node: Node, opset: int) -> str | None:
    return None if node.result.type.rank == 4 else "ONNX wants rank 4"


@emits("depth_to_space", where=_is_image)
def depth_to_space(e: Emitter, node: Node, x: Value) -> str:
    """DepthToSpace in either mode."""
    op: Any = node.op
    return e.op("DepthToSpace", x, blocksize=op.block, mode=op.mode.upper())


def _space_to_depth(node: Node, opset: int) -> str | None:
    op: Any = node.op
    return _is_image(node, opset) or (None if op.mode == "dcr" else "ONNX's SpaceToDepth has the order dcr only")


@emits("space_to_depth", where=_space_to_depth)
def space_to_depth(e: Emitter, node: Node, x: Value) -> str:
    """SpaceToDepth."""
    op: Any = node.op
    return e.op("SpaceToDepth", x, blocksize=op.block)


@emits("triangle", where=requires("Trilu", 1, runs=True))
def triangle(e: Emitter, node: Node, x: Value) -> str:
    """Trilu."""
    op: Any = node.op
    main = isinstance(op.diagonal, int) and op.diagonal == 0
    return e.op("Trilu", x, None if main else e.dims.scalar(op.diagonal), upper=int(op.upper))
