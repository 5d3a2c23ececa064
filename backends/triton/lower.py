"""What is rewritten for this backend before it is cut: a resize of fixed sizes is gathers along each axis.

Which elements each output element reads, and their weights, are tables that are made once, when the folder is written.
"""

from __future__ import annotations

import numpy as np

from dragoman.ir.builder import Builder
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.ops.conv import spatial_axes
from dragoman.ir.ops.resize import Resize
from dragoman.ir.weights import ArrayWeight

_MOST_TAPS = 16  # along one axis


def lower(graph: Graph) -> int:
    """Rewrite, in place, each node that this concerns, sub-graphs included. Returns how many there were."""
    count = 0
    stack = [graph]
    while stack:
        current = stack.pop()
        for node in current.nodes:
            if isinstance(node.op, Resize) and _is_fixed(node):
                _lower_resize(current, node, node.op)
                count += 1
        stack.extend(region for node in current for region in node.op.regions)
    return count


def _is_fixed(node: Node) -> bool:
    x, op = node.operands[0], node.op
    assert x is not None
    assert isinstance(op, Resize)
    axes = spatial_axes(x.type.rank, op.layout)
    extents = [x.type.shape[axis] for axis in axes]
    if not all(isinstance(d, int) and d > 0 for d in (*extents, *op.sizes)):
        return False
    return all(op.taps(d, i)[0].shape[1] <= _MOST_TAPS for i, d in enumerate(extents) if isinstance(d, int))


def _lower_resize(graph: Graph, node: Node, op: Resize) -> None:
    value = node.operands[0]
    assert value is not None
    x: Value = value
    b = Builder(graph, before=node, provenance=node.provenance)
    dtype = x.type.dtype
    for i, axis in enumerate(spatial_axes(x.type.rank, op.layout)):
        extent = x.type.shape[axis]
        assert isinstance(extent, int)
        places, weights = op.taps(extent, i)
        total: Value | None = None
        for tap in range(places.shape[1]):
            at = graph.add_weight("resize.places", ArrayWeight(np.ascontiguousarray(places[:, tap], np.int32)))
            part = b.take(x, at, axis=axis)
            if weights is not None:
                shape = (-1, *[1] * (x.type.rank - axis - 1))
                share = np.ascontiguousarray(weights[:, tap]).astype(dtype.numpy).reshape(shape)
                part = b.mul(part, graph.add_weight("resize.weights", ArrayWeight(share)))
            total = part if total is None else b.add(total, part)
        assert total is not None
        x = total
    node.results[0].replace_all_uses(x)
    graph.erase(node)
