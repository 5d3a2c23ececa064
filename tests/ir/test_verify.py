from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dragoman.ir.builder import Builder, trace
from dragoman.ir.dims import Symbol
from dragoman.ir.errors import VerifyError
from dragoman.ir.graph import Graph, Return, Value
from dragoman.ir.op import REGISTRY
from dragoman.ir.provenance import Provenance, Source
from dragoman.ir.types import BOOL, F32, I64, TensorType, parse_type
from dragoman.ir.verify import primitives, verify
from dragoman.ir.weights import ArrayWeight
from tests.ir.cost import seconds

X = TensorType(F32, (2, 3))
FLAG = TensorType(BOOL, ())


def model() -> Graph:
    """y = softmax(x @ w) with provenance."""
    graph = Graph()
    x = graph.add_input(X, "x")
    w = graph.add_weight("w", ArrayWeight(np.ones((3, 3), np.float32)))
    b = Builder(graph, provenance=Provenance((Source("aten.softmax", "head", "net.py:5"),)))
    graph.set_outputs([b.softmax(b.matmul(x, w), axis=-1)], ["y"])
    return graph


def refusal(graph: Graph) -> str:
    with pytest.raises(VerifyError) as caught:
        verify(graph)
    return str(caught.value)


def test_a_sound_graph_passes_at_the_level_of_imports_but_not_of_primitives() -> None:
    verify(model())
    with pytest.raises(VerifyError, match="softmax is not legal here: it is composite: legalise it"):
        verify(model(), primitives)


def test_an_error_shows_the_op_its_origin_and_its_surroundings() -> None:
    graph = model()
    graph.nodes[1].results[0].type = TensorType(F32, (2, 4))
    assert refusal(graph).splitlines() == [
        "softmax gives f32[2,3], the graph says f32[2,4]",
        "  from head (net.py:5)",
        "    %0: f32[2,3] = matmul(%x, @w)",
        ">>  %1: f32[2,4] = softmax(%0) {axis=-1}",
        '    return %1 as "y"',
    ]


class TestTypes:
    def test_a_type_changed_behind_the_graphs_back(self) -> None:
        graph = model()
        graph.inputs[0].type = TensorType(F32, (2, 4))
        assert "matmul(f32[2,4], f32[3,3]): " in refusal(graph)

    def test_a_type_rule_that_now_refuses(self) -> None:
        graph = trace(lambda b, x: b.transpose(x, perm=(1, 0)), X)
        graph.inputs[0].type = TensorType(F32, (2, 3, 4))
        assert refusal(graph).startswith("transpose(f32[2,3,4]) {perm=(1, 0)}: ")

    def test_an_op_changed_to_one_with_another_type(self) -> None:
        graph = trace(lambda b, x: b.reduce_sum(x, axes=(0,)), X)
        graph.nodes[0].op = graph.nodes[0].op.with_attributes(keepdims=True)
        assert refusal(graph).startswith("reduce_sum gives f32[1,3], the graph says f32[3]")

    def test_a_number_of_results_that_is_not_the_type_rules(self) -> None:
        graph = trace(lambda b, x: b.topk(x, k=1, axis=0)[0], X)
        graph.nodes[0].results = graph.nodes[0].results[:1]
        assert refusal(graph).startswith("topk has 1 results, its type rule 2")

    def test_equal_types_in_another_form_are_sound(self) -> None:
        n = Symbol("n").dim
        graph = trace(lambda b, x: b.neg(x), TensorType(F32, (n,)))
        graph.nodes[0].results[0].type = TensorType(F32, (n // 2 + (n + 1) // 2,))
        verify(graph)


class TestStructure:
    def test_use_before_definition(self) -> None:
        graph = model()
        first, second = graph
        graph.move_before(second, first)
        message = refusal(graph)
        assert message.startswith("operand 0 of softmax is used before it is defined, by <matmul(f32[2,3], f32[3,3])")
        assert ">>  %0: f32[2,3] = softmax(%1) {axis=-1}" in message

    def test_an_operand_from_another_graph(self) -> None:
        graph, other = model(), model()
        graph.nodes[0].set_operand(0, other.inputs[0])
        assert refusal(graph).startswith("operand 0 of matmul is <input x: f32[2,3]>, which does not belong to this")
        graph.nodes[0].set_operand(0, other.nodes[0].result)
        assert refusal(graph).startswith("operand 0 of matmul is the result of a node that was erased or is in another")

    def test_an_output_that_was_erased(self) -> None:
        graph = model()
        node = graph.nodes[1]
        node.results[0].uses.clear()
        graph.erase(node)
        node.results[0].uses[graph.terminator, 0] = None
        assert refusal(graph).startswith("operand 0 of return is the result of a node that was erased")

    def test_an_operand_that_does_not_list_its_use(self) -> None:
        graph = model()
        graph.inputs[0].uses.clear()
        assert refusal(graph).startswith("operand 0 of matmul, <input x: f32[2,3]>, does not list this use")

    @pytest.mark.parametrize("index", [1, 7])
    def test_a_use_that_is_none(self, index: int) -> None:
        graph = model()
        graph.inputs[0].uses[graph.nodes[0], index] = None
        assert f"lists a use as operand {index} of <matmul" in refusal(graph)

    def test_a_use_in_a_node_that_was_erased(self) -> None:
        graph = model()
        extra = graph.insert(REGISTRY["neg"](), graph.inputs)
        graph.erase(extra)
        extra.set_operands(graph.inputs)
        assert "lists a use by <neg(f32[2,3]) -> f32[2,3]>, which was erased or is in another graph" in refusal(graph)

    def test_a_result_that_does_not_know_its_producer(self) -> None:
        for change in ({"producer": None}, {"index": 1}, {"weight": ArrayWeight(np.ones((2, 3), np.float32))}):
            graph = model()
            for name, value in change.items():
                setattr(graph.nodes[0].results[0], name, value)
            assert "result 0 of matmul does not know its producer" in refusal(graph)

    def test_a_broken_node_list(self) -> None:
        graph = model()
        graph.nodes[1].previous = None
        assert "the node list is broken at <softmax" in refusal(graph)
        graph = model()
        graph._count += 1  # pyright: ignore[reportPrivateUsage]
        assert "the node list is broken at its end: 2 of 3 nodes were met" in refusal(graph)
        for node in model().nodes:
            graph = model()
            graph.nodes[node.op.name == "softmax"].graph = Graph()
            assert "the node list is broken at" in refusal(graph)
        graph = model()
        graph.terminator.previous = graph.nodes[0]
        assert "the node list is broken at its end" in refusal(graph)

    def test_a_return_before_the_end(self) -> None:
        graph = model()
        node = graph.nodes[1]
        node.op, node.results = Return(), ()
        graph.set_outputs([])
        assert refusal(graph).startswith("return stands before the end")

    def test_a_graph_that_does_not_end_in_a_return(self) -> None:
        graph = model()
        graph.terminator.op = REGISTRY["neg"]()
        assert refusal(graph).startswith("the graph does not end in a return of its own")

    def test_outputs_and_names_that_differ(self) -> None:
        graph = model()
        graph.terminator.set_operands([graph.outputs[0]] * 2)
        assert refusal(graph).startswith("2 outputs have 1 names")
        graph.terminator.op = Return(names=("y", "y"))
        assert refusal(graph).startswith("two outputs have one name: y, y")
        graph.set_outputs([graph.inputs[0]], ["y"])
        graph.terminator.set_operand(0, None)
        assert refusal(graph).startswith("1 outputs have 1 names")


class TestInputsAndWeights:
    def test_two_inputs_of_one_name(self) -> None:
        graph = model()
        graph.inputs.append(Value(X, name="x"))
        assert refusal(graph) == "two inputs are named 'x'"

    def test_an_input_that_is_a_result_or_a_weight(self) -> None:
        graph = model()
        graph.inputs[0].producer = graph.nodes[0]
        assert refusal(graph) == "the input 'x' is <matmul x: f32[2,3]>"

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            (lambda w: setattr(w, "type", X), "the weight 'w' is f32[2,3], its elements are f32[3,3]"),
            (lambda w: setattr(w, "name", "v"), "the weight 'v' is listed as 'w'"),
            (lambda w: setattr(w, "weight", None), "the weight 'w' is <input w: f32[3,3]>"),
        ],
    )
    def test_a_weight_at_odds_with_its_value(self, change: Callable[[Value], None], complaint: str) -> None:
        graph = model()
        change(graph.weights["w"])
        assert refusal(graph) == complaint


class TestSymbols:
    def test_one_name_has_one_range(self) -> None:
        graph = Graph()
        a = graph.add_input(TensorType(F32, (Symbol("n", 1, 8).dim,)), "a")
        graph.add_input(TensorType(F32, (Symbol("n", 1, 9).dim,)), "b")
        graph.set_outputs([a])
        assert refusal(graph) == "the input 'b' is f32[n], where n has two ranges: 1..9 and 1..8"

    def test_an_op_needs_sizes_that_something_before_it_tells(self) -> None:
        m = Symbol("m").dim
        graph = trace(lambda b, x: b.broadcast_to(x, shape=(m, 3)), TensorType(F32, (3,)))
        assert refusal(graph).startswith("broadcast_to needs the size m, which nothing before it tells")
        graph = trace(lambda b, x: b.extent(m, I64), TensorType(F32, (3,)))
        assert refusal(graph).startswith("dimension needs the size m, which nothing before it tells")

    def test_a_data_dependent_size_is_known_from_then_on(self) -> None:
        k = Symbol("k", 0).dim

        def build(b: Builder, x: Value) -> list[Value]:
            places = b.nonzero(x, size=k)
            return [places, b.extent(k, I64)]

        graph = trace(build, X)
        verify(graph)
        first, second = graph
        graph.move_before(second, first)
        assert refusal(graph).startswith("dimension needs the size k, which nothing before it tells")


class TestRegions:
    @staticmethod
    def with_region(region: Graph, flag: TensorType = FLAG, x: TensorType = X) -> Graph:
        return trace(lambda b, p, v: b.cond(p, v, then=region, orelse=region), flag, x)

    def test_what_is_wrong_in_a_region_is_told_with_the_way_there(self) -> None:
        region = trace(lambda b, x: b.neg(b.neg(x)), X)
        graph = self.with_region(trace(lambda b, x: b.cond(b.const(True, BOOL), x, then=region, orelse=region), X))
        region.move_before(region.nodes[1], region.nodes[0])
        assert refusal(graph).startswith("cond#1: cond#1: operand 0 of neg is used before it is defined")

    def test_a_region_captures_nothing(self) -> None:
        graph = self.with_region(trace(lambda b, x: b.neg(x), X))
        region = graph.nodes[0].op.regions[0]
        region.nodes[0].set_operand(0, graph.inputs[1])
        assert "lists a use by <neg(f32[2,3]) -> f32[2,3]>, which was erased or is in another graph" in refusal(graph)
        graph.inputs[1].uses.popitem()
        assert refusal(graph).startswith("cond#1: operand 0 of neg is <input x1: f32[2,3]>, which does not belong to")

    def test_a_region_has_no_weights(self) -> None:
        region = trace(lambda b, x: b.neg(x), X)
        region.add_weight("w", ArrayWeight(np.zeros(3, np.float32)))
        assert (
            refusal(self.with_region(region))
            == "cond#1: a sub-graph has weights of its own; pass them as operands: 'w'"
        )

    def test_a_region_that_no_longer_suits_its_op(self) -> None:
        region = trace(lambda b, x: b.neg(x), X)
        graph = self.with_region(region)
        region.inputs[0].type = TensorType(F32, (2, 4))
        assert "then takes x0: f32[2,4], it would be given f32[2,3]" in refusal(graph)

    def test_a_region_sees_the_sizes_known_where_it_stands(self) -> None:
        n = Symbol("n").dim
        typed = TensorType(F32, (n,))
        region = trace(lambda b, x: b.mul(x, b.extent(n, F32)), typed)
        verify(self.with_region(region, x=typed))

    def test_a_graph_within_itself(self) -> None:
        region = trace(lambda b, x: b.neg(x), X)
        graph = self.with_region(region)
        node = region.insert(graph.nodes[0].op, [Builder(region).const(True, BOOL), region.inputs[0]])
        region.set_outputs(node.results)
        assert refusal(graph).endswith("a sub-graph contains itself")

    def test_very_deep_nesting(self) -> None:
        region = trace(lambda b, x: b.neg(x), X)
        for _ in range(70):
            region = looped(region)
        assert refusal(region).endswith("sub-graphs are nested more than 64 deep")


def looped(region: Graph) -> Graph:
    condition = trace(lambda b, x: b.const(False, BOOL), X)
    return trace(lambda b, x: b.while_loop(x, condition=condition, body=region), X)


def test_a_hundred_thousand_nodes_take_linear_time() -> None:
    def chain(length: int) -> Graph:
        def build(b: Builder, x: Value) -> Value:
            y = x
            for _ in range(length):
                y = b.add(y, x)
            return y

        return trace(build, parse_type("f32[b,64]"))

    def cost(graph: Graph) -> float:
        return seconds(lambda: verify(graph))

    small = min(cost(chain(10_000)) for _ in range(2))
    assert cost(chain(100_000)) < 30 * small + 1
