"""Dropping what no output needs."""

from __future__ import annotations

from dragoman.ir.graph import Graph
from dragoman.passes.manager import Context


def eliminate_dead(graph: Graph, context: Context) -> int:
    """Erase nodes and weights that nothing uses, in sub-graphs as well. Inputs stay: they are the model's interface."""
    return _eliminate(graph, set())


def _eliminate(graph: Graph, sizes: set[str]) -> int:
    """The same; `sizes` receives the symbols that the nodes which stay have in their attributes.

    A node that tells a size stays while one after it names that size, though nothing uses its result.
    """
    erased = 0
    for node in graph.reversed():
        if not node.is_used and not (node.op.data_dependent and not sizes.isdisjoint(node.op.symbols())):
            graph.erase(node)
            erased += 1
            continue
        if node.op.is_symbolic:
            sizes |= node.op.symbols()
        for region in node.op.regions:
            erased += _eliminate(region, sizes)
    for name in [n for n, v in graph.weights.items() if not v.uses]:
        graph.remove_weight(name)
        erased += 1
    return erased
