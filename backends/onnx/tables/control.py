"""Control flow in ONNX. Regions name what they need outside: operands that do not change are not carried."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dragoman.backends.onnx.emitter import Emitter
from dragoman.backends.onnx.table import emits
from dragoman.ir.dims import bounds
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.types import BOOL, I64, TensorType

_FLAG = TensorType(BOOL, ())
_COUNTER = TensorType(I64, ())


@emits("cond")
def cond(e: Emitter, node: Node, predicate: Value, *operands: Value) -> Sequence[str]:
    """If; both branches see the operands as they are."""
    op: Any = node.op
    branches: dict[str, Any] = {}
    for label, region in (("then_branch", op.then), ("else_branch", op.orelse)):
        scope = e.open(label)
        with e.within(scope):
            _yield_all(e, region, e.inline(region, operands))
        branches[label] = scope.graph
    return e.ops("If", [predicate], len(node.results), **branches)


def _yield_all(e: Emitter, region: Graph, values: Sequence[Value]) -> None:
    for value in values:
        e.yields(value, value.type)


def _changing(region: Graph, count: int) -> list[int]:
    """Places of the state that the region does not simply hand back."""
    return [i for i in range(count) if region.outputs[i] is not region.inputs[i]]


@emits("while_loop")
def while_loop(e: Emitter, node: Node, *operands: Value) -> Sequence[str | Value]:
    """Loop without a trip count; the condition is computed before it and at the end of each turn."""
    op: Any = node.op
    count = len(operands) - op.invariants
    moving = _changing(op.body, count)
    first = e.ref(e.inline(op.condition, operands)[0])
    scope = e.open("body")
    with e.within(scope):
        _enter_loop(e)
        state: list[Value | str] = list(operands)
        for i in moving:
            state[i] = e.parameter(operands[i].type, "state")
        following = e.inline(op.body, state)
        after: list[Value | str] = list(operands)
        for i in moving:
            after[i] = e.ref(following[i])
        e.yields(e.inline(op.condition, after)[0], _FLAG)
        for i in moving:
            e.yields(after[i], operands[i].type)
    looped = e.ops("Loop", [None, first, *(operands[i] for i in moving)], len(moving), body=scope.graph)
    results: list[str | Value] = list(operands[:count])
    for i, name in zip(moving, looped, strict=True):
        results[i] = name
    return results


@emits("scan")
def scan(e: Emitter, node: Node, *operands: Value) -> Sequence[str | Value]:
    """Scan over the sequences; Loop with a trip count where there is none, or where there may be no turn.

    ONNX's Scan wants a sequence, and ONNX Runtime 1.32 dies of a division by zero in one of no turns.
    """
    op: Any = node.op
    end = len(operands) - op.invariants
    carries, sequences, invariants = operands[: op.carries], operands[op.carries : end], operands[end:]
    moving = _changing(op.body, op.carries)
    begins = [carries[i] for i in moving]
    stacked = len(node.results) - op.carries
    as_loop = not sequences or bounds(op.length)[0] <= 0
    scope = e.open("body")
    with e.within(scope):
        turn = _enter_loop(e) if as_loop else ""
        state: list[Value | str] = list(carries)
        for i in moving:
            state[i] = e.parameter(carries[i].type, "carry")
        if as_loop:
            elements = _elements(e, sequences, turn, op)
        else:
            elements = [e.parameter(s.type.with_shape(s.type.shape[1:]), "element") for s in sequences]
        given = e.inline(op.body, [*state, *elements, *invariants])
        if as_loop:
            e.yields(e.scalar(True, BOOL), _FLAG)
        for i in [*moving, *range(op.carries, len(given))]:
            e.yields(given[i], given[i].type)
    if as_loop:
        looped = e.ops("Loop", [e.dims.scalar(op.length), None, *begins], len(moving) + stacked, body=scope.graph)
        if op.reverse:
            looped[len(moving) :] = [_flipped(e, name) for name in looped[len(moving) :]]
    else:
        looped = _scanned(e, [*begins, *sequences], scope.graph, (len(moving), len(sequences), stacked), op.reverse)
    results: list[str | Value] = [*carries, *looped[len(moving) :]]
    for i, name in zip(moving, looped, strict=False):
        results[i] = name
    return results


def _enter_loop(e: Emitter) -> str:
    turn = e.parameter(_COUNTER, "turn")
    e.parameter(_FLAG, "proceed")
    return turn


def _elements(e: Emitter, sequences: Sequence[Value], turn: str, op: Any) -> list[str]:
    if not sequences:
        return []
    if op.reverse:
        turn = e.op("Sub", e.dims.scalar(op.length - 1), turn)
    return [e.op("Gather", s, turn, axis=0) for s in sequences]


def _scanned(
    e: Emitter, operands: Sequence[Value], body: Any, counts: tuple[int, int, int], reverse: bool
) -> list[str]:
    moving, sequences, stacked = counts
    return e.ops(
        "Scan",
        operands,
        moving + stacked,
        body=body,
        num_scan_inputs=sequences,
        scan_input_directions=[1] * sequences if reverse else None,
        scan_output_directions=[1] * stacked if reverse and stacked else None,
    )


def _flipped(e: Emitter, name: str) -> str:
    back = e.i64([-1])
    return e.op("Slice", name, back, e.i64([-(2**63)]), e.i64([0]), back)
