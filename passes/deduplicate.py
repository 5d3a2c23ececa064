"""Computing equal things once."""

from __future__ import annotations

from dragoman.ir.graph import Graph, Node, Value
from dragoman.passes.manager import Context


def deduplicate(graph: Graph, context: Context) -> int:
    """Common-subexpression elimination: a node whose op and operands equal those of an earlier one takes its results.

    Commutative operands are compared without order. One walk: operands are already deduplicated when a node is reached.
    """
    seen: dict[tuple[object, ...], Node] = {}
    removed = 0
    for node in graph:
        if node.op.regions:
            removed += sum(deduplicate(region, context) for region in node.op.regions)
            continue
        key = (node.op, *_operand_keys(node))
        first = seen.setdefault(key, node)
        if first is node:
            continue
        for old, new in zip(node.results, first.results, strict=True):
            old.replace_all_uses(new)
        graph.erase(node)
        removed += 1
    return removed


def _operand_keys(node: Node) -> list[int]:
    keys = [_identity(v) for v in node.operands]
    return sorted(keys) if node.op.commutative and len(keys) == 2 else keys


def _identity(value: Value | None) -> int:
    if value is None:
        return 0
    # Two names for one weight object (tied parameters) are one value.
    return id(value.weight) if value.weight is not None else id(value)
