"""From what was measured of each node to the set of nodes that compute in f32."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from dragoman.ir.graph import Graph, Node
from dragoman.ir.ops.constant import Constant
from dragoman.ir.types import F32
from dragoman.passes.precision.measure import Measuring
from dragoman.passes.precision.narrow import computes_in_f32


def failing(graph: Graph, measured: Measuring) -> dict[Node, str]:
    """The nodes that must compute in f32, each with the reason: those that fail, and the makers of what those need.

    Users come before makers, so one walk from the end settles it.
    """
    reasons = {n: f.reason for n, f in measured.findings.items() if f.reason}
    for value in graph.outputs:
        if value in measured.beyond and value.producer is not None:
            reasons.setdefault(value.producer, "an output of the model is beyond the range of half precision")
    for node in graph.reversed():
        if node not in reasons:
            continue
        for index in measured.findings[node].needs:
            value = node.operands[index]
            maker = value.producer if value is not None else None
            if maker is not None and maker in measured.findings:
                reasons.setdefault(maker, f"{node.op.describe(node.operand_types)} needs its result in f32")
    return reasons


def settled(graph: Graph, computing: Collection[Node]) -> set[Node]:
    """`computing`, and what only moves numbers between nodes in f32: to round there would buy nothing.

    A move goes with those that use it where what it moves is in f32: an input, a weight, a result of a node in f32.
    """
    wanted: set[Node] = set()
    for node in graph.reversed():
        if node.op.movement and computes_in_f32(node) and node not in computing:
            users = [u for r in node.results for u in r.users]
            ends = all(u is graph.terminator or u in wanted for u in users)
            if ends or any(u in computing or u in wanted for u in users):
                wanted.add(node)
    wide = set(computing)
    for node in graph:
        if node in wanted and all(_in_f32(node, i, wide) for i in range(len(node.operands))):
            wide.add(node)
    return wide


def _in_f32(node: Node, index: int, wide: Collection[Node]) -> bool:
    value = node.operands[index]
    if value is None or value.type.dtype != F32 or value.producer is None:
        return True
    return isinstance(value.producer.op, Constant) or value.producer in wide


def moves_with(wide: Collection[Node], reasons: Mapping[Node, str]) -> dict[Node, str]:
    """The reasons, with one for each node that `settled` added."""
    return {n: reasons.get(n, "it moves numbers between nodes in f32") for n in wide}
