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
from dragoman.ir.types import BOOL, I32, I64, DType, TensorType

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


def _total(name: str, op_type: str, since: int) -> None:
    def accepts(node: Node, opset: int) -> str | None:
        dtype = node.result.type.dtype
        return None if types.computing_dtype(op_type, opset, dtype) else f"ONNX has no {op_type} on {dtype}"

    @emits(name, since, accepts)
    def emit(e: Emitter, node: Node, x: Value) -> str:
        op: Any = node.op
        dtype = x.type.dtype
        computing = types.computing_dtype(op_type, e.opset, dtype) or dtype
        axis = e.i64(normal_axis(op.axis, x.type.rank))
        flags = {"exclusive": int(op.exclusive) or None, "reverse": int(op.reverse) or None}
        return e.cast_from(e.op(op_type, e.cast(x, computing), axis, **flags), computing, dtype)


_total("cumsum", "CumSum", types.OLDEST)
_total("cumprod", "CumProd", 26)


@emits("cumprod", where=requires("Mul", 1))
def cumprod(e: Emitter, node: Node, x: Value) -> str:
    """A Scan along the axis, until CumProd came."""
    op: Any = node.op
    return _running(e, x, "Mul", 1, op.axis, op.reverse, op.exclusive)


def _running(e: Emitter, x: Value, op_type: str, start: int, axis: int, reverse: bool, exclusive: bool) -> str:
    axis = normal_axis(axis, x.type.rank)
    if all(bounds(d)[0] > 0 for d in x.type.shape):
        return _scanned(e, x, x.type, (op_type, start, axis, reverse, exclusive))
    # ONNX Runtime 1.32 dies of a Scan without turns, or without elements off the first axis: one turn is added there.
    order = [axis, *(a for a in range(x.type.rank) if a != axis)]
    turned = x.type.with_shape(x.type.shape[a] for a in order)
    row = e.op("Expand", _number(e, start, x.type.dtype), e.dims.shape((1, *turned.shape[1:])))
    leading = e.op("Transpose", x, perm=order)
    longer = e.op("Concat", *((row, leading) if reverse else (leading, row)), axis=0)
    grown = turned.with_shape((turned.shape[0] + 1, *turned.shape[1:]))
    totals = _scanned(e, longer, grown, (op_type, start, 0, reverse, exclusive))
    first, last = ([1], turned.shape[0] + 1) if reverse else ([0], turned.shape[0])
    kept = e.op("Slice", totals, e.i64(first), e.dims.vector(last), e.i64([0]))
    return e.op("Transpose", kept, perm=[order.index(a) for a in range(x.type.rank)])


def _number(e: Emitter, value: int, dtype: DType) -> str:
    return e.scalar(float(value) if dtype.is_float else value, dtype)


def _scanned(e: Emitter, x: Value | str, type: TensorType, what: tuple[str, int, int, bool, bool]) -> str:
    op_type, start, axis, reverse, exclusive = what
    slab = type.with_shape((*type.shape[:axis], *type.shape[axis + 1 :]))
    first = e.op("Expand", _number(e, start, type.dtype), e.dims.shape(slab.shape))
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
