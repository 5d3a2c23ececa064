"""The verifier: structure, types inferred again, and which ops are legal at a level.

Runs after every pass. An error shows the op it happened in, printed in its surroundings.
"""

from __future__ import annotations

from collections.abc import Callable

from dragoman.ir.errors import TypeRuleError, VerifyError
from dragoman.ir.graph import Graph, Node, Return, Value
from dragoman.ir.op import Op
from dragoman.ir.types import same_type
from dragoman.ir.weights import weight_type

Level = Callable[[type[Op]], str | None]
"""A level of the IR: the reason why an op class is not legal in it, or None."""


def anything(op: type[Op]) -> str | None:
    """The level of a graph just imported: every op."""
    return None


def primitives(op: type[Op]) -> str | None:
    """The level at which only primitives are left."""
    return "it is composite: legalise it" if op.is_composite() else None


def verify(graph: Graph, level: Level = anything) -> None:
    """Raise VerifyError unless the graph is sound at a level. Linear in nodes; sub-graphs are verified as well."""
    stack = [(graph, "")]
    while stack:
        current, where = stack.pop()
        _verify_one(current, level, where)
        for node in current:
            for index, region in enumerate(node.op.regions):
                stack.append((region, f"{where}{node.op.name}#{index}: "))


def _verify_one(graph: Graph, level: Level, where: str) -> None:
    defined: set[Value] = set(graph.inputs) | set(graph.weights.values())
    if len({v.name for v in graph.inputs}) != len(graph.inputs):
        raise VerifyError(f"{where}two inputs have one name")
    if where and graph.weights:
        raise VerifyError(f"{where}a sub-graph has weights of its own; pass them as operands")
    for name, value in graph.weights.items():
        if value.weight is None or value.name != name or not same_type(value.type, weight_type(value.weight)):
            raise VerifyError(f"{where}the weight {name!r} does not have the type {value.type} of its value")
    previous: Node | None = None
    for node in graph:
        if node.previous is not previous or node.graph is not graph:
            raise VerifyError(f"{where}the node list is broken at {node}")
        previous = node
        _check_node(node, defined, level, where)
        defined.update(node.results)
    _check_operands(graph.terminator, defined, where)
    if not isinstance(graph.terminator.op, Return) or len(graph.output_names) != len(graph.outputs):
        raise VerifyError(f"{where}the outputs and their names differ in number")


def _check_node(node: Node, defined: set[Value], level: Level, where: str) -> None:
    _check_operands(node, defined, where)
    illegal = level(type(node.op))
    if illegal:
        raise VerifyError(f"{where}{_place(node)}: {node.op.name} is not legal here: {illegal}")
    try:
        types = node.op.result_types(node.operand_types)
    except TypeRuleError as error:
        raise VerifyError(f"{where}{_place(node)}: {error}") from None
    if len(types) != len(node.results):
        raise VerifyError(
            f"{where}{_place(node)}: {node.op.name} has {len(node.results)} results, its type rule {len(types)}"
        )
    for index, (result, inferred) in enumerate(zip(node.results, types, strict=True)):
        if result.producer is not node or result.index != index:
            raise VerifyError(f"{where}{_place(node)}: result {index} of {node.op.name} does not know its producer")
        if not same_type(result.type, inferred):
            raise VerifyError(f"{where}{_place(node)}: {node.op.name} gives {inferred}, the graph says {result.type}")


def _check_operands(node: Node, defined: set[Value], where: str) -> None:
    for index, value in enumerate(node.operands):
        if value is None:
            continue
        if (node, index) not in value.uses:
            raise VerifyError(f"{where}{_place(node)}: operand {index} of {node.op.name} does not list this use")
        if value not in defined:
            raise VerifyError(f"{where}{_place(node)}: operand {index} of {node.op.name} is used before it is defined")


def _place(node: Node) -> str:
    return str(node.provenance) or "(no provenance)"
