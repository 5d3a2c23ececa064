"""Reading and writing at computed places in ONNX. Indices are i64 or i32 there; others are cast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dragoman.backends.onnx import types
from dragoman.backends.onnx.emitter import Emitter
from dragoman.backends.onnx.table import emits, requires
from dragoman.ir.graph import Node, Value
from dragoman.ir.op import normal_axis
from dragoman.ir.types import BF16, F16, F32, I32, I64, DType


def _places(e: Emitter, indices: Value, *, narrow: bool = True) -> Value | str:
    return indices if narrow and indices.type.dtype == I32 else e.cast(indices, I64)


@emits("take", where=requires("Gather", 1))
def take(e: Emitter, node: Node, x: Value, indices: Value) -> str:
    """Gather."""
    op: Any = node.op
    return e.op("Gather", x, _places(e, indices), axis=normal_axis(op.axis, x.type.rank))


@emits("take_along_axis", where=requires("GatherElements", 1))
def take_along_axis(e: Emitter, node: Node, x: Value, indices: Value) -> str:
    """GatherElements."""
    op: Any = node.op
    return e.op("GatherElements", x, _places(e, indices), axis=normal_axis(op.axis, x.type.rank))


@emits("gather_nd", where=requires("GatherND", 1))
def gather_nd(e: Emitter, node: Node, x: Value, indices: Value) -> str:
    """GatherND."""
    op: Any = node.op
    return e.op("GatherND", x, _places(e, indices, narrow=False), batch_dims=op.batch_dims or None)


def _takes_scatter(op_type: str) -> Any:
    def where(node: Node, opset: int) -> str | None:
        op: Any = node.op
        if opset < combining_since(op.reduction):
            return f"{op_type} has the reduction {op.reduction} from opset {combining_since(op.reduction)} on"
        return requires(op_type, 1)(node, opset)

    return where


def combining_since(reduction: str) -> int:
    """The opset from which on scatters have a reduction."""
    return {"none": types.OLDEST, "max": 18, "min": 18}.get(reduction, 16)


def combining(node: Node, dtype: DType) -> DType:
    """ONNX Runtime combines halves in no kernel; a sum rounded once is none the worse."""
    return F32 if _reduction(node) is not None and dtype in (F16, BF16) else dtype


def _reduction(node: Node) -> str | None:
    op: Any = node.op
    return None if op.reduction == "none" else op.reduction


@emits("scatter_elements", where=_takes_scatter("ScatterElements"))
def scatter_elements(e: Emitter, node: Node, x: Value, indices: Value, updates: Value) -> str:
    """ScatterElements."""
    op: Any = node.op
    settings = {"axis": normal_axis(op.axis, x.type.rank), "reduction": _reduction(node)}
    places, computing = _places(e, indices), combining(node, x.type.dtype)
    result = e.op("ScatterElements", e.cast(x, computing), places, e.cast(updates, computing), **settings)
    return e.cast_from(result, computing, x.type.dtype)


@emits("scatter_nd", where=_takes_scatter("ScatterND"))
def scatter_nd(e: Emitter, node: Node, x: Value, indices: Value, updates: Value) -> str:
    """ScatterND."""
    places, computing = _places(e, indices, narrow=False), combining(node, x.type.dtype)
    result = e.op("ScatterND", e.cast(x, computing), places, e.cast(updates, computing), reduction=_reduction(node))
    return e.cast_from(result, computing, x.type.dtype)


@emits("nonzero", where=requires("NonZero"))
def nonzero(e: Emitter, node: Node, x: Value) -> str:
    """NonZero; of a dtype without a kernel, of its comparison with zero."""
    dtype = x.type.dtype
    if types.runs("NonZero", dtype):
        return e.op("NonZero", x)
    zero = e.scalar(0.0 if dtype.is_float else 0, dtype)
    return e.op("NonZero", e.op("Not", e.op("Equal", x, zero)))


def _takes_topk(node: Node, opset: int) -> str | None:
    dtype = node.results[0].type.dtype
    return None if types.computing_dtype("TopK", opset, dtype) else f"ONNX has no TopK on {dtype}"


@emits("topk", where=_takes_topk)
def topk(e: Emitter, node: Node, x: Value) -> Sequence[str]:
    """TopK, sorted; of equal elements the one with the lower index comes first there too."""
    op: Any = node.op
    dtype = x.type.dtype
    computing = types.computing_dtype("TopK", e.opset, dtype) or dtype
    given = [e.cast(x, computing), e.dims.vector(op.k)]
    values, places = e.ops("TopK", given, 2, axis=normal_axis(op.axis, x.type.rank), largest=int(op.largest))
    return [e.cast_from(values, computing, dtype), places]


def _takes_one_hot(node: Node, opset: int) -> str | None:
    operand = node.operands[0]
    assert operand is not None
    if not operand.type.rank:
        return "OneHot of a scalar"
    pair = (operand.type.dtype, node.result.type.dtype)
    # Of all the pairs ONNX permits, those for which ONNX Runtime has a kernel with an i64 depth.
    return None if pair in ((I64, I64), (I64, F32)) else f"ONNX Runtime has no OneHot from {pair[0]} to {pair[1]}"


@emits("one_hot", where=_takes_one_hot)
def one_hot(e: Emitter, node: Node, indices: Value) -> str:
    """OneHot with the values 0 and 1."""
    op: Any = node.op
    values = e.constant(types.array([0, 1], op.dtype), op.dtype)
    return e.op("OneHot", indices, e.dims.scalar(op.depth), values, axis=op.axis)


@emits("dynamic_slice", where=requires("Slice", 1))
def dynamic_slice(e: Emitter, node: Node, x: Value, starts: Value) -> str | Value:
    """Slice from starts that are first brought inside."""
    op: Any = node.op
    if not x.type.rank:
        return x
    room = e.dims.shape([n - s for n, s in zip(x.type.shape, op.sizes, strict=True)])
    begin = e.op("Max", e.op("Min", e.cast(starts, I64), room), e.i64([0]))
    return e.op("Slice", x, begin, e.op("Add", begin, e.dims.shape(op.sizes)), e.i64(range(x.type.rank)))
