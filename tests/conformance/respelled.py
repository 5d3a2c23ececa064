"""A model as somebody else would have written it: composite ops spelled out in simpler ones, at random.

Owns the choice of forms: any that an op is recognised in (its decomposition and the spellings beside it), operands of
commutative ops in either order. The result computes the same.
"""

from __future__ import annotations

import random

from dragoman.ir.builder import Builder
from dragoman.ir.errors import DragomanError
from dragoman.ir.graph import Graph, Node, Value
from dragoman.passes.manager import graphs_within
from dragoman.passes.recognition.spelling import is_recognised, spellings_of
from dragoman.passes.rewrite import nodes_between

_DEEPEST = 16  # forms within forms


def spell_out(graph: Graph, seed: int = 0) -> int:
    """Spell out, in place and in sub-graphs, every op that can be recognised; returns how many were."""
    rng = random.Random(seed)
    count = 0
    for each in graphs_within(graph):
        work = [(node, 0) for node in each.nodes]
        while work:
            node, depth = work.pop()
            made = _spelled(each, node, rng) if depth < _DEEPEST else None
            if made is None:
                _turned(node, rng)
            else:
                count += 1
                work.extend((m, depth + 1) for m in made)
    return count


def _spelled(graph: Graph, node: Node, rng: random.Random) -> list[Node] | None:
    """The nodes made in place of a node; None where it stays."""
    if not is_recognised(type(node.op)):
        return None
    forms = list(spellings_of(type(node.op)))
    rng.shuffle(forms)
    for form in forms:
        previous = node.previous
        builder = Builder(graph, before=node, provenance=node.provenance)
        try:
            results = form(node.op, builder, *node.operands)
        except DragomanError:  # this form is not for these types
            graph.erase_dead([r for n in reversed(nodes_between(graph, previous, node)) for r in n.results])
            continue
        values = (results,) if isinstance(results, Value) else tuple(results)
        made = nodes_between(graph, previous, node)
        for old, new in zip(node.results, values, strict=True):
            old.replace_all_uses(new)
        graph.erase(node)
        return made
    return None


def _turned(node: Node, rng: random.Random) -> None:
    x, y = (*node.operands, None, None)[:2]
    if node.op.commutative and len(node.operands) == 2 and x is not None and y is not None and rng.random() < 0.5:
        node.set_operands([y, x])
