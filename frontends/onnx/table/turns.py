"""How many turns a loop has, where constants and counters alone decide it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dragoman.frontends.onnx import known as k
from dragoman.frontends.onnx.context import Context
from dragoman.frontends.onnx.operands import Tensor
from dragoman.ir.arithmetic import NATIVE
from dragoman.ir.errors import DragomanError
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.interpreter import Interpreter
from dragoman.ir.region import extract, free_values, producers

_MOST_TURNS = 4096
_MOST_NODES = 64  # behind the condition
_MOST_ELEMENTS = 64  # of a value that it depends on


def constant_turns(
    c: Context,
    following: Mapping[Value, Value],
    start: Mapping[Value, Value],
    captured: Mapping[Value, Value],
    proceed: Value,
    limit: int | None,
) -> int | None:
    """The number of turns, or None where it is not told by constants, or large.

    `following` gives for each input of a turn what it is in the next one, `start` what it is in the first, as a value
    of the current scope, `captured` what the others stand for there. `proceed` is whether another turn follows.
    """
    found = _slice(following, proceed)
    if found is None:
        return None
    nodes, free, outputs = found
    first = {v: _array(c, start[v] if v in start else captured[v]) for v in free if v.weight is None}
    if any(a is None for a in first.values()):
        return None
    graph = extract(nodes, free, outputs)
    state: dict[Value, Any] = {v: v.weight.array() if v.weight is not None else first[v] for v in free}
    try:
        return _counted(graph, free, outputs, state, following, limit)
    except (DragomanError, ArithmeticError, ValueError, IndexError):
        return None  # the model fails there, in its own words


def _slice(following: Mapping[Value, Value], proceed: Value) -> tuple[list[Node], list[Value], list[Value]] | None:
    """The nodes that the condition depends on over all turns, what they use, and what they are asked for."""
    outputs = [proceed]
    while True:
        nodes = producers(outputs, ())
        if len(nodes) > _MOST_NODES or any(n.op.regions or n.op.is_symbolic for n in nodes):
            return None
        free = free_values(nodes, outputs)
        if not all(v.type.is_static and v.type.size <= _MOST_ELEMENTS for v in free):  # type: ignore[operator]
            return None
        more = [following[v] for v in free if v in following and following[v] not in outputs]
        if not more:
            return nodes, free, outputs
        outputs += dict.fromkeys(more)


def _array(c: Context, value: Value) -> Any:
    known = c.known(Tensor.of(value))
    if known is None or k.is_symbolic(known):
        return None
    return np.array(known.reshape(-1).tolist(), value.type.dtype.numpy).reshape(known.shape)


def _counted(
    graph: Graph,
    free: Sequence[Value],
    outputs: Sequence[Value],
    state: dict[Value, Any],
    following: Mapping[Value, Value],
    limit: int | None,
) -> int | None:
    for turns in range(1, _MOST_TURNS + 1):
        if limit is not None and turns > limit:
            return limit
        given = dict(zip(outputs, Interpreter(graph, NATIVE).run([state[v] for v in free]), strict=True))
        if not given[outputs[0]].all():
            return turns
        state |= {v: given[following[v]] for v in free if v in following}
    return None
