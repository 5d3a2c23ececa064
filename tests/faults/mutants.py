"""Seeded faults: one small defect put into one node of a model, and what verification makes of it.

A fault is killed when the verdict is DIFFERENT, or when building the faulty model is refused; it is blamed rightly
when the report (or the refusal) names the module of the node that has the defect, or the output that changed its
form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dragoman.ir.arithmetic import FLOAT64, NATIVE
from dragoman.ir.builder import Builder
from dragoman.ir.equivalence import Comparison, GraphRunner, Verdict, compare
from dragoman.ir.errors import DragomanError
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.interpreter import Interpreter

Change = Callable[[Builder, Node, list[Value | None]], Any]


@dataclass(frozen=True)
class Fault:
    """A defect: in which model, at which op (the `nth` of its kind), and what is built there instead."""

    name: str
    host: Callable[[], Graph]
    op: str
    change: Change
    nth: int = 0


@dataclass(frozen=True)
class Outcome:
    """What verification made of a fault."""

    name: str
    killed: bool
    blamed: bool
    report: str


def attr(**changes: Any) -> Change:
    """The op with other attributes."""
    return lambda b, node, operands: b.apply(node.op.with_attributes(**changes), *operands)


def operand(index: int, change: Callable[[Builder, Any], Value]) -> Change:
    """The op with one operand changed."""

    def build(b: Builder, node: Node, operands: list[Value | None]) -> Any:
        changed = [change(b, v) if i == index else v for i, v in enumerate(operands)]
        return b.apply(node.op, *changed)

    return build


def swapped(first: int, second: int) -> Change:
    """The op with two operands exchanged."""

    def build(b: Builder, node: Node, operands: list[Value | None]) -> Any:
        changed = list(operands)
        changed[first], changed[second] = changed[second], changed[first]
        return b.apply(node.op, *changed)

    return build


def instead(change: Callable[..., Any]) -> Change:
    """Something else in place of the op: `change(b, *operands)`."""
    return lambda b, node, operands: change(b, *operands)


def result(change: Callable[[Builder, Value], Value], index: int = 0) -> Change:
    """The op with one result changed."""

    def build(b: Builder, node: Node, operands: list[Value | None]) -> Any:
        results = b.apply(node.op, *operands)
        return tuple(change(b, r) if i == index else r for i, r in enumerate(results))

    return build


def target(graph: Graph, op: str, nth: int = 0) -> Node:
    """The nth node of a kind."""
    return [node for node in graph if node.op.name == op][nth]


def rebuilt(graph: Graph, at: Node | None, change: Change) -> tuple[Graph, dict[Value, Value]]:
    """A copy of a graph with one node built differently, every type inferred again, and where each value went."""
    copied = Graph(graph.name)
    where = {v: copied.add_input(v.type, v.name) for v in graph.inputs}
    for name, value in graph.weights.items():
        assert value.weight is not None
        where[value] = copied.add_weight(name, value.weight)
    for node in graph:
        operands = [None if v is None else where[v] for v in node.operands]
        builder = Builder(copied, provenance=node.provenance)
        built = change(builder, node, operands) if node is at else builder.apply(node.op, *operands)
        results = (built,) if isinstance(built, Value) else tuple(built)
        where.update(zip(node.results, results, strict=True))
    copied.set_outputs([where[v] for v in graph.outputs], graph.output_names)
    return copied, where


class Mutant(GraphRunner):
    """A faulty graph as a candidate that can show its values by those of the graph it should be."""

    def __init__(self, pristine: Graph, faulty: Graph, where: Mapping[Value, Value]) -> None:
        super().__init__(pristine, "the faulty model")
        self._faulty = faulty
        self._where = where

    @property
    def output_names(self) -> tuple[str, ...]:
        return self._faulty.output_names

    def run(self, inputs: Sequence[Any], double: bool = False) -> list[Any]:
        return GraphRunner(self._faulty).run(inputs, double)

    def probe(self, inputs: Sequence[Any], values: Sequence[Value], double: bool = False) -> Mapping[Value, Any]:
        wanted = {self._where[v] for v in values if v in self._where}
        interpreter = Interpreter(self._faulty, FLOAT64 if double else NATIVE, keep=wanted.__contains__)
        interpreter.run(inputs)
        return {v: interpreter.values[self._where[v]] for v in values if self._where.get(v) in interpreter.values}


def trial(fault: Fault) -> Outcome:
    """Verify the faulty model against the right one."""
    graph = fault.host()
    at = target(graph, fault.op, fault.nth)
    module = at.provenance.module
    try:
        faulty, where = rebuilt(graph, at, fault.change)
    except DragomanError as refusal:
        return Outcome(fault.name, True, fault.op in str(refusal), str(refusal))
    report = compare(graph, GraphRunner(graph, "the right model"), Mutant(graph, faulty, where))
    return judged(fault.name, report, module)


def judged(name: str, report: Comparison, *where: str) -> Outcome:
    """Whether a report kills a fault, and blames it on one of these places."""
    found = report.divergence
    blamed = found is not None and any(place == found.module or (place and place in found.line) for place in where)
    blamed = blamed or any(place in report.reason for place in where)
    return Outcome(name, report.verdict is Verdict.DIFFERENT, blamed, str(report))
