"""Cutting a graph into kernels: which values are stored, and into which kernel each other node goes.

Nodes are visited from last to first. A generated node that one kernel alone reads is computed inside that kernel; one
that costs nothing (a view, a constant) is computed inside each. What several kernels read, or what a template needs in
memory, is stored. An anchor then takes the one kernel that only continues its result as its epilogue.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

from dragoman.backends.triton import table
from dragoman.ir.dims import Dim, same
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.ops.shape import BroadcastTo, Slice, Transpose
from dragoman.ir.types import Shape, same_shape

_MOST_NODES = 40  # computed within one kernel

READS_INSIDE = frozenset(
    {"softmax", "log_softmax", "layer_norm", "rms_norm", "max_pool", "avg_pool", "reduce_sum", "reduce_max"}
    | {"reduce_min", "reduce_logsumexp", "reduce_any", "reduce_all"}
)
"""Templates whose LOAD hook computes what they read; the first operand only, others are loaded by STORE."""
WINDOWED = frozenset({"conv", "max_pool", "avg_pool"})
"""Those whose windows read an element several times: what is computed there is stored first, by the kernel before."""
WITH_EPILOGUE = READS_INSIDE | {"matmul", "linear", "conv"}


@dataclass
class Partition:
    """What is stored, by whom values are read, and the epilogue of each anchor."""

    stored: set[Value] = field(default_factory=set[Value])
    views: set[Value] = field(default_factory=set[Value])  # stored as views of others, without a kernel
    readers: dict[Value, dict[Node, None]] = field(default_factory=dict[Value, dict[Node, None]])
    needed: set[Value] = field(default_factory=set[Value])  # by a template, a view or the caller, in memory
    sizes: dict[Node, int] = field(default_factory=dict[Node, int])
    strides: dict[Value, Shape] = field(default_factory=dict[Value, Shape])
    epilogues: dict[Node, Node] = field(default_factory=dict[Node, Node])  # anchor: the root it goes on to

    def roots(self, graph: Graph) -> Iterator[Node]:
        """The nodes whose results are stored, in order."""
        return (node for node in graph if any(r in self.stored for r in node.results))


def cut(graph: Graph) -> Partition:
    """The partition of a graph that is legal for the backend."""
    found = Partition()
    found.stored.update(graph.inputs)
    found.needed.update(graph.outputs)
    outputs = set(graph.outputs)
    for node in graph.reversed():
        _place(found, node, outputs)
    for value in [*graph.inputs, *graph.weights.values()]:
        found.strides[value] = contiguous(value.type.shape)
    for node in graph:
        _lay_out(found, node)
    _join_epilogues(found, graph)
    return found


def _place(found: Partition, node: Node, outputs: set[Value]) -> None:
    if not table.is_written(node):
        found.stored.update(node.results)
        _read_by_template(found, node)
        return
    (result,) = node.results
    readers = found.readers.get(result, {})
    if result in found.needed and result not in outputs and _may_be_view(node) and node.operands[0] is not None:
        found.stored.add(result)
        found.views.add(result)
        found.needed.add(node.operands[0])
        return
    alone = len(readers) == 1 and found.sizes.get(next(iter(readers)), 1) < _MOST_NODES
    if result in found.needed or not (alone or (readers and table.is_free(node))):
        found.stored.add(result)
        readers = {node: None}
    for reader in readers:
        found.sizes[reader] = found.sizes.get(reader, 0) + (not table.is_free(node))
        _note(found, node, reader)


def _note(found: Partition, node: Node, reader: Node) -> None:
    for value in node.operands:
        if value is not None:
            found.readers.setdefault(value, {})[reader] = None


def _read_by_template(found: Partition, node: Node) -> None:
    inside = (node.op.name in READS_INSIDE or table.is_depthwise(node)) and table.is_anchor(node)
    for number, value in enumerate(node.operands):
        if value is None:
            continue
        found.readers.setdefault(value, {})[node] = None
        again = node.op.name in WINDOWED and value.op is not None and value.op.pointwise
        if again or not (inside and number == 0):
            found.needed.add(value)


def _may_be_view(node: Node) -> bool:
    return node.op.name in ("transpose", "broadcast_to", "reshape", "slice")


# ---- layouts --------------------------------------------------------------------------------------------


def contiguous(shape: Shape) -> Shape:
    """The strides of a contiguous tensor, in elements."""
    strides: list[Dim] = []
    total: Dim = 1
    for dim in reversed(shape):
        strides.append(total)
        total = total * dim
    return tuple(reversed(strides))


def is_contiguous(found: Partition, value: Value) -> bool:
    """Whether a stored value surely lies contiguous; axes of extent 1 do not matter."""
    strides = found.strides.get(value)
    if strides is None:
        return True
    plain = contiguous(value.type.shape)
    return all(d == 1 or same(s, p) for d, s, p in zip(value.type.shape, strides, plain, strict=True))


def _lay_out(found: Partition, node: Node) -> None:
    for result in node.results:
        if result not in found.stored:
            continue
        found.strides[result] = contiguous(result.type.shape)
        if result in found.views:
            strides = _viewed(found, node)
            if strides is None:  # a reshape that no strides can tell: it is copied
                found.views.discard(result)
            else:
                found.strides[result] = strides


def _viewed(found: Partition, node: Node) -> Shape | None:
    x = node.operands[0]
    assert x is not None
    given, op, shape = found.strides[x], node.op, x.type.shape
    if isinstance(op, Transpose):
        return tuple(given[p] for p in op.perm)
    if isinstance(op, BroadcastTo):
        result = node.results[0].type.shape
        lead = len(result) - len(shape)
        stretched = zip(given, shape, result[lead:], strict=True)
        return (*(0,) * lead, *(s if same(d, r) else 0 for s, d, r in stretched))
    if isinstance(op, Slice):
        steps = {axis % len(shape): step for axis, step in zip(op.axes, op.steps, strict=True)}
        return tuple(s * steps.get(axis, 1) for axis, s in enumerate(given))
    return _reshaped(shape, given, node.results[0].type.shape)


def _reshaped(shape: Shape, strides: Shape, wanted: Shape) -> Shape | None:
    """The strides of a reshape; None where runs of axes that it merges do not lie together."""
    from dragoman.backends.triton.places import chunks

    result: list[Dim] = []
    for before, after in chunks(shape, wanted) or [(slice(None), slice(None))]:
        axes = [(d, s) for d, s in zip(shape[before], strides[before], strict=True) if d != 1]
        for (_, outer), (extent, inner) in itertools.pairwise(axes):
            if not same(outer, inner * extent):
                return None
        last: Dim = axes[-1][1] if axes else 1
        result += [s * last for s in contiguous(wanted[after])]
    return tuple(result)


# ---- epilogues ------------------------------------------------------------------------------------------


def _join_epilogues(found: Partition, graph: Graph) -> None:
    taken: set[Node] = set()
    for node in graph:
        if node.op.name not in WITH_EPILOGUE or not table.is_anchor(node):
            continue
        (result,) = node.results
        readers = list(found.readers.get(result, ()))
        if len(readers) != 1 or readers[0] in taken or result in found.needed:
            continue
        root = readers[0]
        if not table.is_generated(root) or not any(r in found.stored for r in root.results):
            continue
        if same_shape(root.results[0].type.shape, result.type.shape) and _is_only_continued(found, node, root):
            found.epilogues[node] = root
            taken.add(root)


def _is_only_continued(found: Partition, anchor: Node, root: Node) -> bool:
    """Whether the anchor's result reaches the root through pointwise nodes of its own shape alone."""
    (result,) = anchor.results
    stack, seen = [root], {root}
    while stack:
        node = stack.pop()
        for value in node.operands:
            if value is None:
                continue
            if value is result:
                if not node.op.pointwise or not same_shape(node.results[0].type.shape, result.type.shape):
                    return False
            elif value not in found.stored and value.producer is not None and value.producer not in seen:
                seen.add(value.producer)
                stack.append(value.producer)
    return True
