"""Turning a graph into one that a backend can express: composites it lacks are replaced by their decompositions."""

from __future__ import annotations

from collections.abc import Callable

from dragoman.ir.builder import Builder
from dragoman.ir.errors import EmitRefused, Occurrence
from dragoman.ir.graph import Graph, Node, Value

Supports = Callable[[Node], str | None]
"""Why a backend cannot express a node, or None if it can."""

_DEEPEST = 64  # decompositions of decompositions; the op set nests a handful deep


def legalize(graph: Graph, supports: Supports, target: str = "the target") -> int:
    """Decompose, in place, each node that the backend does not support; sub-graphs included. Returns how many were.

    Raises EmitRefused, listing every primitive that is neither supported nor decomposable, with module and line.
    """
    refused: dict[tuple[str, str], list[Node]] = {}
    count = 0
    stack = [graph]
    while stack:
        current = stack.pop()
        for node in current.nodes:
            count += _legalize_node(current, node, supports, refused)
        stack.extend(region for node in current for region in node.op.regions)
    if refused:
        raise EmitRefused(target, [_occurrence(key, nodes) for key, nodes in refused.items()])
    return count


def _legalize_node(graph: Graph, node: Node, supports: Supports, refused: dict[tuple[str, str], list[Node]]) -> int:
    count = 0
    work = [(node, 0)]
    while work:
        current, depth = work.pop()
        reason = supports(current)
        if reason is None:
            continue
        if not current.op.is_composite() or depth > _DEEPEST:
            refused.setdefault((current.op.name, reason), []).append(current)
            continue
        work.extend((made, depth + 1) for made in decompose(graph, current))
        count += 1
    return count


def decompose(graph: Graph, node: Node) -> list[Node]:
    """Replace one composite node by its decomposition, in place; returns the nodes made."""
    assert node.op.decompose is not None
    previous = node.previous
    builder = Builder(graph, before=node, provenance=node.provenance)
    results = node.op.decompose(builder, *node.operands)
    values = (results,) if isinstance(results, Value) else tuple(results)
    for old, new in zip(node.results, values, strict=True):
        if not new.name:
            new.name = old.name
        old.replace_all_uses(new)
    made: list[Node] = []
    current = node.previous
    while current is not previous and current is not None:
        made.append(current)
        current = current.previous
    graph.erase(node)
    return made[::-1]


def _occurrence(key: tuple[str, str], nodes: list[Node]) -> Occurrence:
    name, reason = key
    origin = nodes[0].provenance
    return Occurrence(name, len(nodes), origin.module, origin.line, reason)
