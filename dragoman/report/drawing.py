"""A graph as data for the page: nodes with types, origin, work and error; edges; the modules they lie in.

Linear in the graph. A graph of very many nodes is cut off, which the page says: a page stays below 5 MB.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dragoman.bench.work import node_work
from dragoman.ir.cases import elements
from dragoman.ir.errors import DragomanError
from dragoman.ir.graph import Graph, Value
from dragoman.ir.runner import GraphRunner, Runner, probing

MOST_NODES = 12_000
_MOST_ELEMENTS = 1 << 27  # of a run whose values are all held to tell errors
_TEXT = 160


def drawn(graph: Graph, sizes: Mapping[str, int], errors: Mapping[Value, float] | None = None) -> dict[str, Any]:
    """Nodes in order as `[op, type, module, line, operations, error or None, operators, inputs…]` and what else is
    needed to draw them. `sizes` are extents of symbols at which work is counted.
    """
    known = {**{n: max(s.low, 1) for n, s in graph.symbols().items()}, **sizes}
    numbers: dict[Value, int] = {v: i for i, v in enumerate(graph.inputs)}
    nodes: list[dict[str, Any]] = [
        {"op": "input", "name": v.name[:_TEXT], "type": str(v.type)[:_TEXT], "module": "", "from": []}
        for v in graph.inputs
    ]
    for count, node in enumerate(graph):
        if count >= MOST_NODES:
            break
        numbers.update((r, len(nodes)) for r in node.results)
        origin = node.provenance
        weights = [f"{v.name}: {v.type}"[:_TEXT] for v in node.operands if v is not None and v.weight is not None]
        found = [errors[r] for r in node.results if errors and r in errors]
        each: dict[str, Any] = {
            "op": node.op.name,
            "name": node.results[0].name[:_TEXT] if node.results else "",
            "type": ", ".join(str(r.type) for r in node.results)[:_TEXT],
            "module": origin.module[:_TEXT],
            "line": origin.line[:_TEXT],
            "origin": ", ".join(origin.operators)[:_TEXT],
            "work": _work(node, known),
            "weights": weights[:4],
            "from": sorted({numbers[v] for v in node.operands if v is not None and v in numbers}),
        }
        nodes.append(each | ({"error": max(found)} if found else {}))
    outputs = [
        {"op": "output", "name": n[:_TEXT], "type": str(v.type)[:_TEXT], "module": "", "from": [numbers[v]]}
        for n, v in zip(graph.output_names, graph.outputs, strict=True)
        if v in numbers
    ]
    left_out = max(len(graph) - MOST_NODES, 0)
    return {"nodes": nodes + outputs, "left_out": left_out}


def _work(node: Any, sizes: Mapping[str, int]) -> float:
    try:
        return node_work(node, sizes).operations
    except DragomanError:  # a size that only a run tells
        return 0.0


def errors_within(
    graph: Graph, candidate: Runner, given: Any, sizes: Mapping[str, int]
) -> tuple[dict[Value, float], str]:
    """The error of each value inside the candidate against the graph in float64 on some inputs; else why not."""
    inside = probing(candidate)
    if inside is None:
        return {}, "what was written cannot be looked into"
    if elements(graph, sizes) > _MOST_ELEMENTS:
        return {}, "errors of single nodes: the model is too large to hold all of its values"
    from dragoman.bench.accuracy import distance

    wanted = [r for node in inside.graph for r in node.results if r.type.dtype.is_inexact]
    try:
        found = inside.probe(given, wanted)
        truth = GraphRunner(inside.graph).probe(given, list(found), double=True)
    except Exception as error:  # a probe needs a model that can be cut open: the page does without
        return {}, f"errors of single nodes: {str(error).splitlines()[0][:200] if str(error) else type(error).__name__}"
    return {v: distance(x, truth[v]) for v, x in found.items() if v in truth}, ""
