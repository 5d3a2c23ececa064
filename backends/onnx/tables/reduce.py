"""Reductions in ONNX. Their axes are an attribute before opset 18 and an operand from it on; the sum's always an
operand.
"""

from __future__ import annotations

from typing import Any

from dragoman.backends.onnx import types
from dragoman.backends.onnx.emitter import Emitter
from dragoman.backends.onnx.table import emits, requires
from dragoman.ir.dims import bounds
from dragoman.ir.graph import Node, Value
from dragoman.ir.op import normal_axes, normal_axis
from dragoman.ir.types import BOOL, I32, I64

_NATIVE = (
    {"reduce_sum": "ReduceSum", "reduce_prod": "ReduceProd", "reduce_max": "ReduceMax", "reduce_min": "ReduceMin"}
    | {"reduce_mean": "ReduceMean", "reduce_l1": "ReduceL1", "reduce_l2": "ReduceL2"}
    | {"reduce_sum_square": "ReduceSumSquare", "reduce_logsumexp": "ReduceLogSumExp"}
)
# Over no axes these give the operand itself, the others a function of it.
_IDENTITIES = {"reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "reduce_mean", "reduce_any", "reduce_all"}


def reduced(e: Emitter, op_type: str, x: Value | str, axes: tuple[int, ...], keepdims: bool) -> str:
    """A reduction over at least one axis."""
    if op_type == "ReduceSum" or e.opset >= 18:
        return e.op(op_type, x, e.i64(axes), keepdims=int(keepdims))
    return e.op(op_type, x, axes=axes, keepdims=int(keepdims))


def _may_be_empty(x: Value, axes: tuple[int, ...]) -> bool:
    return any(bounds(x.type.shape[axis])[0] <= 0 for axis in normal_axes(axes, x.type.rank))


def _reduction(name: str, op_type: str) -> None:
    def accepts(node: Node, opset: int) -> str | None:
        operand = node.operands[0]
        assert operand is not None
        op: Any = node.op
        if not op.axes and name not in _IDENTITIES:
            return f"{op_type} over no axes"
        dtype = operand.type.dtype
        if types.computing_dtype(op_type, opset, dtype) is None:
            return f"ONNX opset {opset} has no {op_type} on {dtype}"
        if name == "reduce_mean" and _may_be_empty(operand, op.axes):
            return "ONNX Runtime's mean over no elements is 0"
        return None

    @emits(name, where=accepts)
    def emit(e: Emitter, node: Node, x: Value) -> str | Value:
        op: Any = node.op
        axes = normal_axes(op.axes, x.type.rank)
        if not axes:
            return x
        dtype = x.type.dtype
        computing = types.computing_dtype(op_type, e.opset, dtype) or dtype
        return e.cast_from(reduced(e, op_type, e.cast(x, computing), axes, op.keepdims), computing, dtype)


for _name, _op_type in _NATIVE.items():
    _reduction(_name, _op_type)


def _logic(name: str, op_type: str) -> None:
    @emits(name)
    def emit(e: Emitter, node: Node, x: Value) -> str | Value:
        op: Any = node.op
        axes = normal_axes(op.axes, x.type.rank)
        if not axes:
            return x
        if not _may_be_empty(x, axes):
            computing = BOOL if e.opset >= 20 else I32
            return e.cast_from(reduced(e, op_type, e.cast(x, computing), axes, op.keepdims), computing, BOOL)
        # Over nothing, ONNX Runtime refuses an extremum of booleans; counting knows the answer.
        counted = e.op("Not", x) if name == "reduce_all" else x
        count = reduced(e, "ReduceSum", e.op("Cast", counted, to=types.code(I64)), axes, op.keepdims)
        none = e.op("Equal", count, e.scalar(0, I64))
        return none if name == "reduce_all" else e.op("Not", none)


_logic("reduce_any", "ReduceMax")
_logic("reduce_all", "ReduceMin")


def _position(name: str, op_type: str) -> None:
    def accepts(node: Node, opset: int) -> str | None:
        operand = node.operands[0]
        assert operand is not None
        legal = types.computing_dtype(op_type, opset, operand.type.dtype)
        return None if legal else f"ONNX opset {opset} has no {op_type} on {operand.type.dtype}"

    @emits(name, where=accepts)
    def emit(e: Emitter, node: Node, x: Value) -> str:
        op: Any = node.op
        computing = types.computing_dtype(op_type, e.opset, x.type.dtype) or x.type.dtype
        axis = normal_axis(op.axis, x.type.rank)
        flags = {"keepdims": int(op.keepdims), "select_last_index": int(op.last)}
        return e.op(op_type, e.cast(x, computing), axis=axis, **flags)


_position("argmax", "ArgMax")
_position("argmin", "ArgMin")


# ---- running totals -----------------------------------------------------------------------------------------


def _takes_cumsum(node: Node, opset: int) -> str | None:
    dtype = node.result.type.dtype
    return None if types.computing_dtype("CumSum", opset, dtype) else f"ONNX has no CumSum on {dtype}"


@emits("cumsum", where=_takes_cumsum)
def cumsum(e: Emitter, node: Node, x: Value) -> str:
    """CumSum."""
    op: Any = node.op
    dtype = x.type.dtype
    computing = types.computing_dtype("CumSum", e.opset, dtype) or dtype
    axis = e.i64(normal_axis(op.axis, x.type.rank))
    flags = {"exclusive": int(op.exclusive) or None, "reverse": int(op.reverse) or None}
    return e.cast_from(e.op("CumSum", e.cast(x, computing), axis, **flags), computing, dtype)


@emits("cumprod", where=requires("Mul", 1))
def cumprod(e: Emitter, node: Node, x: Value) -> str:
    """A Scan along the axis: CumProd begins at opset 26, and ONNX Runtime has no kernel for it yet."""
    op: Any = node.op
    return _running(e, x, "Mul", 1, op.axis, op.reverse, op.exclusive)


def _running(e: Emitter, x: Value, op_type: str, start: int, axis: int, reverse: bool, exclusive: bool) -> str:
    dtype, axis = x.type.dtype, normal_axis(axis, x.type.rank)
    if any(isinstance(d, int) and d == 0 for d in x.type.shape):
        return e.ref(x)
    slab = x.type.with_shape((*x.type.shape[:axis], *x.type.shape[axis + 1 :]))
    value = float(start) if dtype.is_float else start
    first = e.op("Expand", e.scalar(value, dtype), e.dims.shape(slab.shape))
    body = e.open("body")
    with e.within(body):
        before, element = e.parameter(slab, "total"), e.parameter(slab, "element")
        after = e.op(op_type, before, element)
        e.yields(after, slab)
        e.yields(before if exclusive else after, slab)
    direction = [1] if reverse else None
    return e.ops(
        "Scan",
        [first, x],
        2,
        body=body.graph,
        num_scan_inputs=1,
        scan_input_axes=[axis],
        scan_output_axes=[axis],
        scan_input_directions=direction,
        scan_output_directions=direction,
    )[1]
