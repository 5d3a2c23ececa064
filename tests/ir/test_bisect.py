"""Bisection: the first node that is wrong on its own inputs, whatever follows magnifies, and what the report shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from dragoman.ir import bisect
from dragoman.ir.arithmetic import FLOAT64
from dragoman.ir.bisect import find_divergence, first_divergence
from dragoman.ir.builder import Builder
from dragoman.ir.equivalence import GraphRunner, Verdict, compare
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.interpreter import Interpreter
from dragoman.ir.provenance import Provenance, Source
from dragoman.ir.region import clone
from dragoman.ir.text import parse
from dragoman.ir.types import I64, parse_type
from dragoman.ir.weights import ArrayWeight

RNG = np.random.default_rng(6)
WEIGHTS = [RNG.standard_normal((8, 8)).astype(np.float32) for _ in range(6)]


def deep() -> Graph:
    """Six layers; layer i is in the module `layers.i`."""
    graph = Graph("deep")
    b = Builder(graph)
    h = graph.add_input(parse_type("f32[batch,8]"), "x")
    for i, w in enumerate(WEIGHTS):
        b.provenance = Provenance((Source("test.linear", f"layers.{i}", f"model.py:{10 + i}  h = layer(h)"),))
        h = b.tanh(b.mul(b.matmul(h, graph.add_weight(f"w{i}", ArrayWeight(w))), 3.0))
    graph.set_outputs([h], ["y"])
    return graph


class Tampered(Interpreter):
    """Runs a graph and changes what some nodes give."""

    changes: Mapping[Node, Any] = {}

    def run_node(self, node: Node, operands: Sequence[Any]) -> tuple[Any, ...]:
        results = super().run_node(node, operands)
        change = self.changes.get(node)
        return results if change is None else tuple(change(r) for r in results)


class Program:
    """A candidate that implements a graph, wrongly at some nodes, and cannot show the values of others."""

    name = "program"

    def __init__(
        self, graph: Graph, changes: Mapping[Node, Any], hidden: Sequence[str] = (), double: bool = False
    ) -> None:
        self.graph = graph
        self._changes = changes
        self._hidden = hidden
        self._always_double = double
        self.calls = 0

    def _interpreter(self, double: bool, keep: Any = None) -> Tampered:
        from dragoman.ir.arithmetic import NATIVE

        runner = Tampered(self.graph, FLOAT64 if double or self._always_double else NATIVE, keep)
        runner.changes = self._changes
        return runner

    def run(self, inputs: Sequence[Any], double: bool = False) -> list[Any]:
        return self._interpreter(double).run(inputs)

    def probe(self, inputs: Sequence[Any], values: Sequence[Value], double: bool = False) -> Mapping[Value, Any]:
        self.calls += 1
        wanted = {v for v in values if v.producer is not None and v.producer.op.name not in self._hidden}
        runner = self._interpreter(double, wanted.__contains__)
        runner.run(inputs)
        return {v: runner.values[v] for v in wanted}


def nodes(graph: Graph, op: str) -> list[Node]:
    return [n for n in graph if n.op.name == op]


X = RNG.standard_normal((3, 8)).astype(np.float32)


def test_a_right_program_has_no_divergence() -> None:
    graph = deep()
    program = Program(graph, {})
    assert first_divergence(graph, [X], lambda values: program.probe([X], values), "emission") is None


@pytest.mark.parametrize("layer", [0, 2, 5])
def test_the_first_wrong_node_is_found_among_many(layer: int) -> None:
    graph = deep()
    program = Program(graph, {nodes(graph, "matmul")[layer]: lambda r: r * np.float32(1 + 1e-5)})
    found = first_divergence(graph, [X], lambda values: program.probe([X], values), "emission")
    assert found is not None
    assert (found.op, found.module, found.line) == ("matmul", f"layers.{layer}", f"model.py:{10 + layer}  h = layer(h)")
    assert found.error > found.allowed


def test_of_two_wrong_nodes_the_first_is_named() -> None:
    graph = deep()
    tanh = nodes(graph, "tanh")
    program = Program(graph, {tanh[4]: lambda r: -r, tanh[1]: lambda r: r * np.float32(1.001)})
    found = first_divergence(graph, [X], lambda values: program.probe([X], values), "emission")
    assert found is not None
    assert (found.op, found.module) == ("tanh", "layers.1")


def test_the_smallest_failing_graph_is_given_as_text_that_parses_and_fails() -> None:
    graph = deep()
    bad = nodes(graph, "tanh")[3]
    program = Program(graph, {bad: np.negative})
    found = first_divergence(graph, [X], lambda values: program.probe([X], values), "emission")
    assert found is not None
    region = parse(found.region)
    assert [n.op.name for n in region] == ["tanh"]
    assert region.inputs[0].type.rank == 2
    assert found.place
    assert float(found.expected) == pytest.approx(-float(found.got), rel=1e-6)


def test_values_that_the_program_cannot_show_are_computed_from_those_before() -> None:
    graph = deep()
    program = Program(graph, {nodes(graph, "mul")[2]: lambda r: r + np.float32(0.01)}, hidden=("mul", "matmul"))
    found = first_divergence(graph, [X], lambda values: program.probe([X], values), "emission")
    assert found is not None
    assert (found.op, found.module) == ("tanh", "layers.2")
    assert [n.op.name for n in parse(found.region)] == ["matmul", "mul", "tanh"]


def test_a_wrong_integer_a_lost_nan_and_a_wrong_shape_are_found() -> None:
    graph = Graph()
    b = Builder(graph)
    x = graph.add_input(parse_type("f32[batch,8]"), "x")
    places, logs = b.argmax(x, axis=1), b.log(x)
    graph.set_outputs([b.add(places, b.const(1, I64)), b.neg(logs)])

    def found(op: str, change: Any) -> Any:
        def probe(values: Sequence[Value]) -> Mapping[Value, Any]:
            shown = GraphRunner(graph).probe([X], values)
            return {v: change(x) if v.op is not None and v.op.name == op else x for v, x in shown.items()}

        return first_divergence(graph, [X], probe, "emission")

    place = found("argmax", lambda r: (r + 1) % 8)
    assert (place.op, place.reason) == ("argmax", "3 of 3 elements differ")
    lost = found("log", np.nan_to_num)
    assert lost.op == "log"
    assert "is lost" in lost.reason
    assert found("neg", lambda r: r[:, :4]).reason == "the shape is [3, 4], not [3, 8]"


def test_movement_must_be_exact() -> None:
    graph = Graph()
    b = Builder(graph)
    x = graph.add_input(parse_type("f32[batch,8]"), "x")
    graph.set_outputs([b.exp(b.transpose(x, perm=(1, 0)))])
    program = Program(graph, {nodes(graph, "transpose")[0]: lambda r: np.nextafter(r, np.float32(9))})
    found = first_divergence(graph, [X], lambda values: program.probe([X], values), "emission")
    assert found is not None
    assert found.op == "transpose"


def test_a_program_in_double_is_held_to_double() -> None:
    graph = deep()
    slightly = {nodes(graph, "tanh")[2]: lambda r: r * (1 + 1e-10)}
    program = Program(graph, slightly)
    found = first_divergence(graph, [X], lambda values: program.probe([X], values, double=True), "import")
    assert found is not None
    assert found.module == "layers.2"
    clean = Program(graph, {})
    assert first_divergence(graph, [X], lambda values: clean.probe([X], values, double=True), "import") is None


def test_many_values_are_asked_for_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bisect, "_BATCH_BYTES", 1000)
    graph = deep()
    program = Program(graph, {nodes(graph, "tanh")[5]: np.negative})
    found = first_divergence(graph, [X], lambda values: program.probe([X], values), "emission")
    assert found is not None
    assert found.module == "layers.5"
    assert program.calls == 2  # 18 results of 96 bytes and 6 scalars, 1000 bytes a batch


def test_a_chain_of_thousands_is_walked_in_linear_time() -> None:
    graph = Graph()
    b = Builder(graph)
    h = graph.add_input(parse_type("f32[2]"), "x")
    for _ in range(3000):
        h = b.neg(h)
    graph.set_outputs([h])
    program = Program(graph, {graph.nodes[2900]: lambda r: r + np.float32(1)})
    x = np.ones(2, np.float32)
    found = first_divergence(graph, [x], lambda values: program.probe([x], values), "emission")
    assert found is not None
    assert found.op == "neg"


# ---- stages -------------------------------------------------------------------------------------------


def test_an_error_of_the_import_is_told_from_one_of_the_emission() -> None:
    graph = deep()
    truth = GraphRunner(graph).run([X], double=True)
    wrong_import = clone(graph)
    constant = nodes(wrong_import, "constant")[3]
    constant.op = constant.op.with_attributes(value=3.01)
    source = Program(graph, {}, double=True)
    found = find_divergence(wrong_import, source, GraphRunner(wrong_import), [X], truth)
    assert found is not None
    assert (found.stage, found.node) == ("import", "the imported graph")
    emission = find_divergence(graph, source, Program(graph, {nodes(graph, "tanh")[0]: np.negative}), [X], truth, "cmd")
    assert emission is not None
    assert (emission.stage, emission.module, emission.command) == ("emission", "layers.0", "cmd")


def test_a_source_that_shows_its_values_tells_which_node_was_imported_wrongly() -> None:
    right, wrong = deep(), deep()
    constant = nodes(wrong, "constant")[3]
    constant.op = constant.op.with_attributes(value=3.001)

    class Source64(GraphRunner):
        def probe(self, inputs: Sequence[Any], values: Sequence[Value], double: bool = False) -> Mapping[Value, Any]:
            pairs = {a: b for x, y in zip(wrong, right, strict=True) for a, b in zip(x.results, y.results, strict=True)}
            shown = GraphRunner(right).probe(inputs, [pairs[v] for v in values], double)
            return {v: shown[pairs[v]] for v in values if pairs[v] in shown}

    source = Source64(wrong, "source")
    source.run = GraphRunner(right).run  # type: ignore[method-assign]
    report = compare(wrong, source, GraphRunner(wrong, "candidate"))
    assert report.verdict is Verdict.DIFFERENT
    assert report.divergence is not None
    assert (report.divergence.stage, report.divergence.module) == ("import", "layers.3")
    assert "from      layers.3  model.py:13" in str(report)


def test_a_rewritten_graph_that_is_another_is_told_from_a_wrong_emission() -> None:
    graph = deep()
    rewritten = clone(graph)
    constant = nodes(rewritten, "constant")[2]
    constant.op = constant.op.with_attributes(value=3.0001)
    report = compare(graph, GraphRunner(graph, "source"), GraphRunner(rewritten, "candidate"))
    assert report.verdict is Verdict.DIFFERENT
    assert report.divergence is not None
    assert report.divergence.stage == "rewriting"


def test_a_data_dependent_size_is_taken_from_the_program() -> None:
    from dragoman.ir.dims import Symbol

    graph = Graph()
    b = Builder(graph)
    x = graph.add_input(parse_type("f32[7]"), "x")
    places = b.nonzero(b.greater(x, 0.0), size=Symbol("count", 0, 7).dim)
    picked = b.take(x, b.reshape(places, shape=(places.type.shape[1],)), axis=0)
    graph.set_outputs([b.exp(picked)])
    program = Program(graph, {nodes(graph, "exp")[0]: lambda r: r * np.float32(1.01)})
    x_values = np.array([1, -1, 2, -2, 3, -3, 4], np.float32)
    found = first_divergence(graph, [x_values], lambda values: program.probe([x_values], values), "emission")
    assert found is not None
    assert found.op == "exp"
