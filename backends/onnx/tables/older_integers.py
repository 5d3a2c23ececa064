"""Integers before their operators came: bitwise operations before opset 18, scatters that combine before 16 and 18."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dragoman.backends.onnx import types
from dragoman.backends.onnx.emitter import Emitter
from dragoman.backends.onnx.table import emits
from dragoman.backends.onnx.tables.indexing import combining, combining_since
from dragoman.ir.dims import bounds, product
from dragoman.ir.graph import Node, Value
from dragoman.ir.op import normal_axis
from dragoman.ir.types import I64, DType, TensorType

_WORD = 1 << 32


def _bits(node: Node, opset: int) -> str | None:
    return "bitwise operators begin at opset 18" if opset >= 18 else None


def _words(e: Emitter, x: str, dtype: DType) -> list[str]:
    """Up to 32 bits each, in i64 from 0 up; the lowest first."""
    low = e.op("Mod", x, e.i64(1 << min(dtype.bits, 32)))
    if dtype.bits <= 32:
        return [low]
    return [low, e.op("Mod", e.op("Div", e.op("Sub", x, low), e.i64(_WORD)), e.i64(_WORD))]


def _both(e: Emitter, x: str, y: str, bits: int) -> str:
    """The bits that are set in both: taken apart along a new last axis."""
    powers = e.i64([1 << bit for bit in range(bits)])
    apart = [e.op("Mod", e.op("Div", e.op("Unsqueeze", v, e.i64([-1])), powers), e.i64(2)) for v in (x, y)]
    return e.op("ReduceSum", e.op("Mul", e.op("Mul", *apart), powers), e.i64([-1]), keepdims=0)


def _joined(e: Emitter, words: list[str], dtype: DType) -> str:
    """The number of these words, in i64; of a signed type, the highest word has a sign."""
    if not (dtype.kind == "int" or dtype.bits == 64):
        return words[0]
    width = min(dtype.bits, 32)
    negative = e.op("Less", e.i64((1 << (width - 1)) - 1), words[-1])
    high = e.op("Where", negative, e.op("Sub", words[-1], e.i64(1 << width)), words[-1])
    return high if len(words) == 1 else e.op("Add", e.op("Mul", high, e.i64(_WORD)), words[0])


_COMBINED: dict[str, Callable[[Emitter, str, str, str], str]] = {
    "bitwise_and": lambda e, x, y, both: both,
    "bitwise_or": lambda e, x, y, both: e.op("Sub", e.op("Add", x, y), both),
    "bitwise_xor": lambda e, x, y, both: e.op("Sub", e.op("Add", x, y), e.op("Add", both, both)),
}


def _binary(name: str) -> None:
    @emits(name, where=_bits)
    def emit(e: Emitter, node: Node, x: Value, y: Value) -> str:
        dtype = x.type.dtype
        given = [_words(e, e.ref(e.cast(v, I64)), dtype) for v in (x, y)]
        bits = min(dtype.bits, 32)
        words = [_COMBINED[name](e, a, b, _both(e, a, b, bits)) for a, b in zip(*given, strict=True)]
        return e.cast_from(_joined(e, words, dtype), I64, dtype)


for _name in _COMBINED:
    _binary(_name)


@emits("bitwise_not", where=_bits)
def bitwise_not(e: Emitter, node: Node, x: Value) -> str:
    """All bits set, less those of x."""
    dtype = x.type.dtype
    signed = dtype.kind == "int" or dtype.bits == 64
    whole = e.i64(-1 if signed else (1 << dtype.bits) - 1)
    return e.cast_from(e.op("Sub", whole, e.cast(x, I64)), I64, dtype)


# ---- scatters ----------------------------------------------------------------------------------------------------

_REDUCTIONS = {"add": "Add", "mul": "Mul", "max": "Max", "min": "Min"}


def _combines(node: Node, opset: int) -> str | None:
    op: Any = node.op
    if op.reduction == "none" or opset >= combining_since(op.reduction):
        return "the operator has the reduction itself"
    x, indices, _ = node.operands
    assert x is not None
    assert indices is not None
    if any(bounds(d)[0] <= 0 for d in indices.type.shape):
        return f"reductions begin at opset {combining_since(op.reduction)}, and there may be nothing to scatter"
    name, dtype = _REDUCTIONS[op.reduction], combining(node, x.type.dtype)
    return types.objection(name, opset, (dtype, dtype)) or (
        None if types.runs(name, dtype) else f"ONNX Runtime has no {name} of {dtype}"
    )


@emits("scatter_elements", where=_combines)
def scatter_elements(e: Emitter, node: Node, x: Value, indices: Value, updates: Value) -> str:
    """Slice by slice along the axis: in one, no place is met twice."""
    op: Any = node.op
    axis = normal_axis(op.axis, x.type.rank)

    def turn(y: str, at: str, update: str) -> str:
        at, update = (e.op("Unsqueeze", v, e.i64([axis])) for v in (at, update))
        seen = e.op("GatherElements", y, at, axis=axis)
        return e.op("ScatterElements", y, at, e.op(_REDUCTIONS[op.reduction], seen, update), axis=axis)

    return _scanned(e, node, x, (e.ref(e.cast(indices, I64)), indices.type), (updates, updates.type), axis, turn)


@emits("scatter_nd", where=_combines)
def scatter_nd(e: Emitter, node: Node, x: Value, indices: Value, updates: Value) -> str:
    """Place by place."""
    op: Any = node.op
    *lead, depth = indices.type.shape
    rest = updates.type.shape[len(lead) :]
    count = product(lead)
    rows = e.op("Reshape", e.cast(indices, I64), e.dims.shape((count, depth)))
    added = e.op("Reshape", updates, e.dims.shape((count, *rest)))

    def turn(y: str, at: str, update: str) -> str:
        at, update = (e.op("Unsqueeze", v, e.i64([0])) for v in (at, update))
        return e.op("ScatterND", y, at, e.op(_REDUCTIONS[op.reduction], e.op("GatherND", y, at), update))

    given = (rows, TensorType(I64, (count, depth))), (added, updates.type.with_shape((count, *rest)))
    return _scanned(e, node, x, *given, 0, turn)


def _scanned(
    e: Emitter,
    node: Node,
    x: Value,
    indices: tuple[Value | str, TensorType],
    updates: tuple[Value | str, TensorType],
    axis: int,
    turn: Callable[[str, str, str], str],
) -> str:
    """A Scan over an axis of indices and updates that carries x."""
    dtype = combining(node, x.type.dtype)
    state = x.type.with_dtype(dtype)
    start, added = e.ref(e.cast(x, dtype)), updates[0]
    if updates[1].dtype != dtype:
        added = e.op("Cast", added, to=types.code(dtype))
    body = e.open("body")
    with e.within(body):
        y = e.parameter(state, "scattered")
        parts = [_without(indices[1].with_dtype(I64), axis), _without(updates[1].with_dtype(dtype), axis)]
        at, update = (e.parameter(part, "entry") for part in parts)
        e.yields(turn(y, at, update), state)
    (result,) = e.ops(
        "Scan", [start, indices[0], added], 1, body=body.graph, num_scan_inputs=2, scan_input_axes=[axis, axis]
    )
    return e.cast_from(result, dtype, x.type.dtype)


def _without(type: TensorType, axis: int) -> TensorType:
    return type.with_shape((*type.shape[:axis], *type.shape[axis + 1 :]))
