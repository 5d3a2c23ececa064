"""Cutting a region out of a graph, copying it, and pasting it elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from dragoman.ir.errors import VerifyError
from dragoman.ir.graph import Graph, Node, Value


def producers(
    outputs: Sequence[Value], frontier: Collection[Value], within: Collection[Node] | None = None
) -> list[Node]:
    """The nodes that compute `outputs` from `frontier`, operands before users. `within` limits how far back to go."""
    order: list[Node] = []
    state: dict[Node, bool] = {}  # False while its operands are being visited, True when placed
    stack = [v.producer for v in outputs if v not in frontier and v.producer is not None]
    while stack:
        node = stack[-1]
        if state.get(node):
            stack.pop()
        elif node in state:
            state[node] = True
            order.append(stack.pop())
        elif within is not None and node not in within:
            state[node] = True
            stack.pop()
        else:
            state[node] = False
            operands = (v for v in node.operands if v is not None and v not in frontier and v.producer is not None)
            stack.extend(v.producer for v in operands if v.producer is not None and v.producer not in state)
    return [n for n in order if within is None or n in within]


def free_values(nodes: Sequence[Node], outputs: Sequence[Value]) -> list[Value]:
    """What these nodes and outputs use but the nodes do not produce, in the order met."""
    inside = set(nodes)
    free: dict[Value, None] = {}
    for node in nodes:
        for value in node.operands:
            if value is not None and value.producer not in inside:
                free[value] = None
    for value in outputs:
        if value.producer not in inside:
            free[value] = None
    return list(free)


def extract(nodes: Sequence[Node], inputs: Sequence[Value], outputs: Sequence[Value]) -> Graph:
    """A graph of its own with copies of `nodes` (in order); `inputs` become its inputs, named x0, x1, …"""
    graph = Graph()
    mapping = {v: graph.add_input(v.type, f"x{i}") for i, v in enumerate(inputs)}
    copy_nodes(nodes, graph, mapping)
    missing = [v for v in outputs if v not in mapping]
    if missing:
        raise VerifyError(f"the region does not produce {missing[0]}")
    graph.set_outputs([mapping[v] for v in outputs])
    return graph


def copy_nodes(nodes: Sequence[Node], into: Graph, mapping: dict[Value, Value], before: Node | None = None) -> None:
    """Copy nodes into a graph; `mapping` tells operands and receives results. Weights met are shared, not copied."""
    for node in nodes:
        operands = [None if v is None else _mapped(v, into, mapping) for v in node.operands]
        copied = into.insert(node.op, operands, before, node.provenance)
        for old, new in zip(node.results, copied.results, strict=True):
            new.name = new.name or old.name
            mapping[old] = new


def _mapped(value: Value, into: Graph, mapping: dict[Value, Value]) -> Value:
    found = mapping.get(value)
    if found is None:
        if value.weight is None:
            raise VerifyError(f"the region uses {value}, which is neither inside it nor among its inputs")
        found = mapping[value] = into.add_weight(value.name, value.weight)
    return found


def clone(graph: Graph, mapping: dict[Value, Value] | None = None) -> Graph:
    """A copy that can be edited without touching the original, sub-graphs included. Weights are shared, never copied.

    `mapping`, if given, is filled with the copy of each value.
    """
    mapping = {} if mapping is None else mapping
    copied = Graph(graph.name)
    copied.metadata.update(graph.metadata)
    mapping.update({v: copied.add_input(v.type, v.name) for v in graph.inputs})
    for name, value in graph.weights.items():
        assert value.weight is not None
        mapping[value] = copied.add_weight(name, value.weight)
    copy_nodes(graph.nodes, copied, mapping)
    for node in copied:
        if node.op.regions:
            node.op = node.op.with_attributes(**{n: clone(v) for n, v in node.op.attributes() if isinstance(v, Graph)})
    copied.set_outputs([mapping[v] for v in graph.outputs], graph.output_names)
    return copied


def inline(graph: Graph, into: Graph, operands: Sequence[Value], before: Node | None = None) -> list[Value]:
    """Copy the nodes of `graph` into another graph with its inputs bound to `operands`; returns its outputs there."""
    mapping: dict[Value, Value] = dict(zip(graph.inputs, operands, strict=True))
    for value in graph.weights.values():
        assert value.weight is not None
        mapping[value] = into.add_weight(value.name, value.weight)
    copy_nodes(graph.nodes, into, mapping, before)
    return [mapping[v] for v in graph.outputs]


def rename(mapping: Mapping[Value, Value], values: Sequence[Value]) -> list[Value]:
    """Values looked up in a mapping, unmapped ones as they are."""
    return [mapping.get(v, v) for v in values]
