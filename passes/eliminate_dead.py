"""Dropping what no output needs."""

from __future__ import annotations

from dragoman.ir.graph import Graph
from dragoman.passes.manager import Context


def eliminate_dead(graph: Graph, context: Context) -> int:
    """Erase nodes and weights that nothing uses, in sub-graphs as well. Inputs stay: they are the model's interface."""
    erased = 0
    for node in graph.reversed():
        if not node.is_used:
            graph.erase(node)
            erased += 1
        else:
            for region in node.op.regions:
                erased += eliminate_dead(region, context)
    for name in [n for n, v in graph.weights.items() if not v.uses]:
        graph.remove_weight(name)
        erased += 1
    return erased
