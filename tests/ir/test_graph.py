from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.ir.builder import Builder, trace
from dragoman.ir.errors import TypeRuleError, VerifyError
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.op import REGISTRY
from dragoman.ir.types import F32, I64, TensorType, parse_type
from dragoman.ir.verify import verify
from dragoman.ir.weights import AbsentWeight, ArrayWeight
from tests.ir.cost import seconds

X = TensorType(F32, (2, 3))


def chain(length: int) -> Graph:
    """neg(neg(… x)), each node with a use."""

    def build(b: Builder, x: Value) -> Value:
        for _ in range(length):
            x = b.neg(x)
        return x

    return trace(build, X)


def names(graph: Graph) -> list[str]:
    return [n.op.name for n in graph]


def true_uses(graph: Graph) -> dict[Value, set[tuple[Node, int]]]:
    """The use lists as the operands say they are."""
    found: dict[Value, set[tuple[Node, int]]] = {}
    for node in [*graph.nodes, graph.terminator]:
        for index, value in enumerate(node.operands):
            if value is not None:
                found.setdefault(value, set()).add((node, index))
    return found


def assert_consistent(graph: Graph) -> None:
    nodes = graph.nodes
    assert len(graph) == len(nodes)
    assert [*graph.reversed()] == nodes[::-1]
    assert all(n.graph is graph for n in nodes)
    uses = true_uses(graph)
    values = [*graph.inputs, *graph.weights.values(), *(r for n in nodes for r in n.results)]
    for value in values:
        assert set(value.uses) == uses.get(value, set())


class TestUses:
    def test_each_operand_place_is_a_use_and_each_user_is_listed_once(self) -> None:
        graph = trace(lambda b, x: b.add(x, x), X)
        (node,) = graph
        (x,) = graph.inputs
        assert list(x.uses) == [(node, 0), (node, 1)]
        assert x.users == [node]
        assert node.result.users == [graph.terminator]

    def test_replacing_all_uses_reaches_operands_and_outputs(self) -> None:
        graph = trace(lambda b, x, y: [b.add(x, x), b.mul(y, x), x], X, X)
        x, y = graph.inputs
        x.replace_all_uses(y)
        assert not x.uses
        assert [[v.name for v in n.operands if v] for n in graph] == [["x1", "x1"], ["x1", "x1"]]
        assert graph.outputs[2] is y
        assert_consistent(graph)

    def test_replacing_a_value_by_itself_changes_nothing(self) -> None:
        graph = trace(lambda b, x: b.add(x, x), X)
        before = str(graph)
        graph.inputs[0].replace_all_uses(graph.inputs[0])
        assert str(graph) == before
        assert_consistent(graph)

    def test_optional_operands_that_are_left_out_use_nothing(self) -> None:
        graph = trace(lambda b, x, w: b.linear(x, w, None), X, TensorType(F32, (4, 3)))
        (node,) = graph
        assert node.operands == graph.inputs  # a trailing None is dropped
        node.set_operand(1, None)
        assert not graph.inputs[1].uses


class TestOutputsAndNames:
    def test_outputs_keep_their_names_when_replaced_by_as_many(self) -> None:
        graph = chain(1)
        graph.set_outputs(graph.outputs, ["logits"])
        graph.set_outputs([graph.inputs[0]])
        assert graph.output_names == ("logits",)
        graph.set_outputs([graph.inputs[0]] * 2)
        assert graph.output_names == ("output0", "output1")

    @pytest.mark.parametrize("given", [["a"], ["a", "a"], ["a", "b", "c"]])
    def test_outputs_need_as_many_different_names(self, given: list[str]) -> None:
        graph = chain(1)
        with pytest.raises(VerifyError, match="2 outputs need as many different names"):
            graph.set_outputs([graph.inputs[0]] * 2, given)

    def test_names_that_are_taken_get_a_suffix(self) -> None:
        graph = Graph()
        assert [graph.add_input(X, n).name for n in ("x", "x", "", "x", "x_1")] == [
            "x",
            "x_1",
            "input2",
            "x_3",
            "x_1_4",
        ]
        assert [graph.add_weight("w", AbsentWeight(F32, ())).name for _ in range(3)] == ["w", "w_1", "w_2"]

    def test_a_name_is_free_again_when_its_input_was_taken_out_of_the_list(self) -> None:
        graph = Graph()
        graph.add_input(X, "x")
        graph.inputs.clear()
        assert graph.add_input(X, "x").name == "x"

    def test_a_weight_is_removed_only_when_nothing_uses_it(self) -> None:
        graph = Graph()
        weight = graph.add_weight("w", ArrayWeight(np.zeros((2, 3), np.float32)))
        graph.set_outputs([Builder(graph).neg(weight)])
        with pytest.raises(VerifyError, match=r"the weight 'w' is still used by <neg\(f32\[2,3\]\)"):
            graph.remove_weight("w")
        graph.set_outputs([])
        graph.erase(graph.nodes[0])
        graph.remove_weight("w")
        assert graph.weights == {}
        with pytest.raises(VerifyError, match="there is no weight 'w' to remove"):
            graph.remove_weight("w")

    def test_the_terminator_is_no_op_of_the_registry(self) -> None:
        assert "return" not in REGISTRY


class TestEdits:
    def test_a_node_is_inserted_where_asked_with_its_type_inferred(self) -> None:
        graph = chain(2)
        second = graph.nodes[1]
        node = graph.insert(REGISTRY["abs"](), [graph.inputs[0]], before=second)
        assert names(graph) == ["neg", "abs", "neg"]
        assert node.result.type == X
        assert_consistent(graph)

    def test_a_refused_insertion_leaves_no_trace(self) -> None:
        graph, other = chain(2), chain(1)
        before = str(graph)
        with pytest.raises(TypeRuleError):
            graph.insert(REGISTRY["add"](), [graph.inputs[0]])
        with pytest.raises(VerifyError, match="belongs to another graph"):
            graph.insert(REGISTRY["neg"](), [graph.inputs[0]], before=other.nodes[0])
        erased = graph.insert(REGISTRY["neg"](), [graph.inputs[0]])
        graph.erase(erased)
        with pytest.raises(VerifyError, match="was erased"):
            graph.insert(REGISTRY["neg"](), [graph.inputs[0]], before=erased)
        assert str(graph) == before
        assert_consistent(graph)

    def test_a_node_in_use_is_not_erased(self) -> None:
        graph = chain(2)
        with pytest.raises(VerifyError, match=r"<neg\(.*> is erased while it is used by <neg\("):
            graph.erase(graph.nodes[0])
        assert_consistent(graph)

    def test_the_terminator_stays(self) -> None:
        graph = chain(1)
        for edit in (graph.erase, lambda n: graph.move_before(n, graph.nodes[0])):
            with pytest.raises(VerifyError, match="the terminator can be neither erased nor moved"):
                edit(graph.terminator)
        assert_consistent(graph)

    def test_nodes_move_and_a_refused_move_changes_nothing(self) -> None:
        graph = trace(lambda b, x: [b.neg(x), b.abs(x), b.exp(x)], X)
        first, second, third = graph
        graph.move_before(third, first)
        assert names(graph) == ["exp", "neg", "abs"]
        graph.move_before(third, graph.terminator)
        assert names(graph) == ["neg", "abs", "exp"]
        graph.move_before(second, second)
        assert names(graph) == ["neg", "abs", "exp"]
        with pytest.raises(VerifyError, match="belongs to another graph"):
            graph.move_before(first, chain(1).nodes[0])
        assert names(graph) == ["neg", "abs", "exp"]
        assert_consistent(graph)

    def test_the_only_result_of_several_is_an_error(self) -> None:
        graph = trace(lambda b, x: b.topk(x, k=1, axis=0)[0], X)
        with pytest.raises(VerifyError, match="topk has 2 results where one was expected"):
            _ = graph.nodes[0].result

    def test_erasing_the_dead_takes_what_only_they_used(self) -> None:
        graph = trace(lambda b, x: [b.exp(b.neg(x)), b.abs(b.neg(x))], X)
        dead, kept = graph.outputs
        graph.set_outputs([kept])
        assert graph.erase_dead([dead, dead, kept, graph.inputs[0]]) == 2
        assert names(graph) == ["neg", "abs"]
        assert_consistent(graph)


class TestIteration:
    def test_the_node_yielded_may_be_erased(self) -> None:
        graph = chain(5)
        graph.set_outputs([graph.inputs[0]])
        assert [graph.erase(n) for n in graph.reversed()] == [None] * 5
        assert names(graph) == []

    def test_any_node_may_be_erased(self) -> None:
        graph = trace(lambda b, x: [b.neg(x) for _ in range(6)], X)
        nodes = graph.nodes
        graph.set_outputs([])
        seen: list[Node] = []
        for node in graph:
            seen.append(node)
            if node is nodes[1]:
                for gone in (nodes[2], nodes[1], nodes[0], nodes[3]):
                    graph.erase(gone)
        assert seen == [nodes[0], nodes[1], nodes[4], nodes[5]]
        assert graph.nodes == nodes[4:]

    def test_going_backwards_skips_operands_that_died_with_their_user(self) -> None:
        graph = chain(4)
        graph.set_outputs([graph.inputs[0]])
        seen = []
        for node in graph.reversed():
            seen.append(node)
            graph.erase_dead(node.results)
        assert len(seen) == 1
        assert len(graph) == 0

    def test_what_is_inserted_before_the_next_node_is_not_visited(self) -> None:
        graph = chain(3)
        for node in graph:
            graph.insert(REGISTRY["abs"](), node.operands, before=node)
            graph.insert(REGISTRY["exp"](), node.operands, before=node.next)
        assert names(graph) == ["abs", "neg", "exp"] * 3

    def test_the_node_yielded_may_move(self) -> None:
        graph = trace(lambda b, x: [b.neg(x), b.abs(x), b.exp(x)], X)
        for node in graph:
            graph.move_before(node, graph.nodes[0])
        assert names(graph) == ["exp", "abs", "neg"]


class Editor:
    """Random edits of a graph; none of them moves the node where a walk stands."""

    def __init__(self, seed: int, size: int) -> None:
        self.rng = random.Random(seed)
        self.graph = trace(lambda b, x, y: [b.add(x, y) for _ in range(size)], X, X)

    def node(self) -> Node:
        return self.rng.choice([*self.graph.nodes, self.graph.terminator])

    def value(self) -> Value:
        return self.rng.choice([*self.graph.inputs, *(r for n in self.graph for r in n.results)])

    def insert(self) -> None:
        self.graph.insert(REGISTRY["add"](), [self.value(), self.value()], before=self.node())

    def erase(self) -> None:
        node = self.node()
        if not node.is_used and node is not self.graph.terminator:
            self.graph.erase(node)

    def erase_dead(self) -> None:
        self.graph.set_outputs(self.graph.outputs[: self.rng.randrange(3)])
        self.graph.erase_dead([self.value()])

    def move(self) -> None:
        node = self.node()
        if node is not self.graph.terminator:
            self.graph.move_before(node, self.node())

    def replace(self) -> None:
        self.value().replace_all_uses(self.rng.choice(self.graph.inputs))

    def rewire(self) -> None:
        node = self.node()
        if node is not self.graph.terminator:
            node.set_operands([self.value(), self.value()])

    def edit(self, *others: Callable[[], None]) -> None:
        self.rng.choice([self.insert, self.erase, self.erase_dead, self.replace, self.rewire, *others])()
        assert_consistent(self.graph)


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 30), st.booleans())
def test_use_lists_and_order_stay_true_under_random_edits_while_iterating(seed: int, size: int, back: bool) -> None:
    editor = Editor(seed, size)
    for step, node in enumerate(editor.graph.reversed() if back else editor.graph):
        assert node.graph is editor.graph
        editor.edit()
        if step > 2 * size:  # insertion at the end can outrun a walk
            break
    for _ in editor.graph.nodes:
        editor.edit(editor.move)


class TestCost:
    def test_ten_times_the_inputs_cost_about_ten_times_the_time(self) -> None:
        def inputs(count: int) -> None:
            graph = Graph()
            for _ in range(count):
                graph.add_input(X, "x")

        small = min(seconds(lambda: inputs(3_000)) for _ in range(3))
        assert seconds(lambda: inputs(30_000)) < 40 * small + 0.5

    def test_a_hundred_thousand_nodes_are_erased_from_either_end_in_linear_time(self) -> None:
        graph = chain(20_000)
        graph.set_outputs([graph.inputs[0]])
        last = graph.nodes[-1].results
        assert seconds(lambda: graph.erase_dead(last)) < 2
        assert len(graph) == 0


def test_symbols_come_from_inputs_and_results() -> None:
    graph = trace(
        lambda b, x: b.nonzero(x, size=parse_type("i64[count]").shape[0]), parse_type("f32[batch,3]"), names=["x"]
    )
    assert sorted(graph.symbols()) == ["batch", "count"]
    verify(graph)
    assert graph.outputs[0].type.dtype is I64
