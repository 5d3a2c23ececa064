"""The graph of a function as a list of nodes in an order in which they can be read, without what nothing needs.

Names of tensors are `node:number`; the bodies of library functions are brought to that form by TensorFlow's own table
of operators.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tensorflow.python.framework.function_def_to_graph import function_def_to_graph_def

from dragoman.ir.errors import Malformed

_WRITES = ("AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp")


@dataclass(frozen=True)
class Program:
    """Nodes in order, names of the tensors that come in, and names of those that go out."""

    nodes: tuple[Any, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def program_of(nodes: Iterable[Any], inputs: Sequence[str], outputs: Sequence[str], what: str) -> Program:
    """The nodes that the outputs need, and those that write variables. Raises Malformed for a cycle or a gap."""
    by_name: dict[str, Any] = {}
    for node in nodes:
        if node.name in by_name:
            raise Malformed(f"{what} has two nodes named {node.name!r}")
        by_name[node.name] = node
    given = {name.partition(":")[0] for name in inputs}
    roots = [node_of(name) for name in outputs]
    roots += [n.name for n in by_name.values() if n.op in _WRITES]
    return Program(tuple(_ordered(by_name, roots, given, what)), tuple(map(full, inputs)), tuple(map(full, outputs)))


def function_program(definition: Any) -> Program:
    """The body of a library function."""
    graph, flat = function_def_to_graph_def(definition)
    inputs = [arg.name for arg in definition.signature.input_arg]
    outputs = [flat[definition.ret[arg.name]] for arg in definition.signature.output_arg]
    return program_of(graph.node, inputs, outputs, f"the function {definition.signature.name!r}")


def node_of(name: str) -> str:
    """The node that a tensor comes from, or that an input orders itself after."""
    return name.removeprefix("^").partition(":")[0]


def full(name: str) -> str:
    """The name of a tensor with its number."""
    return name if ":" in name else f"{name}:0"


def _ordered(by_name: Mapping[str, Any], roots: Sequence[str], given: set[str], what: str) -> list[Any]:
    """Depth first, without recursion; operands before users, writes and reads of variables as control edges say."""
    wanted = _wanted(by_name, roots, given, what)
    order: list[Any] = []
    state: dict[str, bool] = {}  # False: begun, True: done
    for root in by_name:
        if root not in wanted:
            continue
        stack = [(root, iter(_before(by_name, root, given)))]
        if root in state:
            continue
        state[root] = False
        while stack:
            name, pending = stack[-1]
            following = next((p for p in pending if state.get(p) is not True), None)
            if following is None:
                stack.pop()
                state[name] = True
                if name in wanted:
                    order.append(by_name[name])
            elif state.get(following) is False:
                raise Malformed(f"{what} goes in a circle at {following!r}")
            else:
                state[following] = False
                stack.append((following, iter(_before(by_name, following, given))))
    return order


def _before(by_name: Mapping[str, Any], name: str, given: set[str]) -> list[str]:
    return [p for p in map(node_of, by_name[name].input) if p in by_name] if name not in given else []


def _wanted(by_name: Mapping[str, Any], roots: Sequence[str], given: set[str], what: str) -> set[str]:
    wanted: set[str] = set()
    stack = [r for r in roots if r not in given]
    while stack:
        name = stack.pop()
        if name in wanted:
            continue
        if name not in by_name:
            raise Malformed(f"{what} uses {name!r}, which no node defines")
        wanted.add(name)
        used = [node_of(i) for i in by_name[name].input if not i.startswith("^")]
        stack.extend(u for u in used if u not in given)
    return wanted
