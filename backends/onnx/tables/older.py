"""What older opsets lack, spelled with what they have: reductions over computed axes, Reshape to extents of 0."""

from __future__ import annotations

from typing import Any

import numpy as np

from dragoman.backends.onnx import types
from dragoman.backends.onnx.emitter import Emitter
from dragoman.backends.onnx.table import emits
from dragoman.ir.dims import Dim, Symbol
from dragoman.ir.graph import Node, Value
from dragoman.ir.types import BOOL, I64, DType, TensorType

_CHAINED = {"max": "ReduceMax", "min": "ReduceMin", "prod": "ReduceProd", "logsumexp": "ReduceMax"}
_SUMMED = ("sum", "mean", "l1", "l2", "sum_square")
_STARTS = {"max": -np.inf, "min": np.inf, "prod": 1, "logsumexp": -np.inf}


def reshaped_with_zeros(e: Emitter, x: Value | str, target: str, type: TensorType) -> str:
    """Reshape before opset 14, where 0 copies an extent: of nothing, a tensor of no elements is made."""
    none = e.op("Equal", e.op("Size", x), e.i64(0))
    given = e.ref(x)
    empty, full = e.open("then_branch"), e.open("else_branch")
    with e.within(empty):
        zero = e.constant(types.zeros(TensorType(type.dtype, ())), type.dtype)
        # A size of −1 is then 0 as well.
        e.yields(e.op("Expand", zero, e.op("Max", target, e.i64([0]))), type)
    with e.within(full):
        e.yields(e.op("Reshape", given, target), type)
    return e.ops("If", [none], 1, then_branch=empty.graph, else_branch=full.graph)[0]


def _takes(node: Node, opset: int) -> str | None:
    op: Any = node.op
    if op.kind in ("any", "all"):
        return None
    if opset >= 18:
        return "axes are an operand of each reduction from opset 18 on"
    dtype = node.operands[0].type.dtype  # type: ignore[union-attr]
    name = _CHAINED.get(op.kind, "ReduceSum")
    computing = _computing(name, opset, dtype)
    return None if computing else f"ONNX opset {opset} has no {name} and ReduceSum on {dtype}"


def _computing(name: str, opset: int, dtype: DType) -> DType | None:
    """A dtype that both a reduction and the sum are there for."""
    wide = types.computing_dtype(name, opset, dtype)
    return types.computing_dtype("ReduceSum", opset, wide) if wide else None


@emits("dynamic_reduce", where=_takes)
def dynamic_reduce(e: Emitter, node: Node, x: Value, axes: Value) -> str:
    """By ReduceSum, whose axes are an operand from opset 13 on; extremes axis by axis, if it is among them."""
    op: Any = node.op
    keep, result = int(op.keepdims), node.result.type.dtype
    if op.kind in ("any", "all"):
        counted = e.op("Not", x) if op.kind == "all" else x
        count = e.op("ReduceSum", e.op("Cast", counted, to=types.code(I64)), axes, keepdims=keep)
        none = e.op("Equal", count, e.i64(0))
        return none if op.kind == "all" else e.op("Not", none)
    dtype = x.type.dtype
    computing = _computing(_CHAINED.get(op.kind, "ReduceSum"), e.opset, dtype) or dtype
    given = e.ref(e.cast(x, computing))
    if op.kind in _SUMMED:
        y = _summed(e, op.kind, given, axes, keep, computing)
    else:
        y = _extreme(e, op.kind, x.type, given, axes, keep, computing)
    return e.cast_from(y, computing, result)


def _summed(e: Emitter, kind: str, x: str, axes: Value, keep: int, dtype: DType) -> str:
    term = {"l1": lambda: e.op("Abs", x), "l2": lambda: e.op("Mul", x, x), "sum_square": lambda: e.op("Mul", x, x)}
    total = e.op("ReduceSum", term.get(kind, lambda: x)(), axes, keepdims=keep)
    if kind == "l2":
        return e.op("Sqrt", total)
    if kind != "mean":
        return total
    each = e.op("Div", e.op("Size", x), e.op("Max", e.op("Size", total), e.i64(1)))
    return e.op("Div", total, e.op("Cast", each, to=types.code(dtype)))


def _extreme(e: Emitter, kind: str, type: TensorType, x: str, axes: Value, keep: int, dtype: DType) -> str:
    """With the axes kept; a sum over single elements then drops them."""
    if any(isinstance(d, int) and d == 0 for d in type.shape):
        y = e.op("Expand", _start(e, kind, dtype), _kept_extents(e, type.rank, x, axes))
        return y if keep else e.op("ReduceSum", y, axes, keepdims=0)
    largest = x
    for axis in range(type.rank):
        largest = _where_asked(e, _CHAINED[kind], largest, axis, axes, type.rank, dtype)
    if kind != "logsumexp":
        return largest if keep else e.op("ReduceSum", largest, axes, keepdims=0)
    infinite = e.op("Equal", e.op("Abs", largest), e.scalar(np.inf, dtype))
    shift = e.op("Where", infinite, e.scalar(0.0, dtype), largest)
    total = e.op("Log", e.op("ReduceSum", e.op("Exp", e.op("Sub", x, shift)), axes, keepdims=keep))
    return e.op("Add", total, shift if keep else e.op("ReduceSum", shift, axes, keepdims=0))


def _start(e: Emitter, kind: str, dtype: DType) -> str:
    start = _STARTS[kind]
    if dtype.is_integer and np.isinf(start):
        info = np.iinfo(dtype.numpy)
        return e.scalar(int(info.min if start < 0 else info.max), dtype)
    return e.scalar(float(start) if dtype.is_float else int(start), dtype)


def _positive(e: Emitter, axes: Value, rank: int) -> str:
    return e.op("Where", e.op("Less", axes, e.i64(0)), e.op("Add", axes, e.i64(rank)), axes)


def _kept_extents(e: Emitter, rank: int, x: str, axes: Value) -> str:
    """The extents of x with 1 for those that are reduced."""
    alike = e.op("Equal", e.op("Unsqueeze", _positive(e, axes, rank), e.i64([1])), e.i64(list(range(rank))))
    count = e.op("ReduceSum", e.op("Cast", alike, to=types.code(I64)), e.i64([0]), keepdims=0)
    return e.op("Where", e.op("Cast", count, to=types.code(BOOL)), e.i64([1]), e.op("Shape", x))


def _where_asked(e: Emitter, op_type: str, x: str, axis: int, axes: Value, rank: int, dtype: DType) -> str:
    """The reduction over one axis if it is among the axes, else x."""
    alike = e.op("Cast", e.op("Equal", _positive(e, axes, rank), e.i64(axis)), to=types.code(I64))
    asked = e.op("Cast", e.op("ReduceSum", alike, None, keepdims=0), to=types.code(BOOL))
    type = TensorType(dtype, tuple(_nameless(e) for _ in range(rank)))
    taken, left = e.open("then_branch"), e.open("else_branch")
    with e.within(taken):
        e.yields(e.op(op_type, x, axes=[axis], keepdims=1), type)
    with e.within(left):
        e.yields(e.op("Identity", x), type)
    return e.ops("If", [asked], 1, then_branch=taken.graph, else_branch=left.graph)[0]


def _nameless(e: Emitter) -> Dim:
    """An extent that nothing else is said of."""
    return Symbol(e.names.value("extent"), 0).dim
