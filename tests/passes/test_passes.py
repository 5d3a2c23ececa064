"""Folding, deduplication, dead code, legalisation and the manager."""

from __future__ import annotations

import numpy as np
import pytest

from dragoman.ir.builder import Builder, trace
from dragoman.ir.errors import EmitRefused, VerifyError
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.interpreter import run
from dragoman.ir.types import F32, I64, parse_type
from dragoman.ir.verify import primitives, verify
from dragoman.ir.weights import ArrayWeight, ComputedWeight
from dragoman.passes.deduplicate import deduplicate
from dragoman.passes.eliminate_dead import eliminate_dead
from dragoman.passes.fold_constants import fold_constants
from dragoman.passes.legalize import legalize
from dragoman.passes.manager import Context, run_passes
from dragoman.passes.pipelines import OPTIMISE

F = parse_type("f32[2,3]")


def weighted(shape: tuple[int, ...], build: object) -> Graph:
    """A graph `build(b, x, w)` over an input f32[2,3] and a weight `layer.weight` of the given shape."""
    graph = Graph()
    x = graph.add_input(F, "x")
    w = graph.add_weight("layer.weight", ArrayWeight(np.arange(np.prod(shape), dtype=np.float32).reshape(shape)))
    graph.set_outputs([build(Builder(graph), x, w)])  # type: ignore[operator]
    return graph


def test_folding_evaluates_in_float64_and_rounds_once() -> None:
    third, seventh = np.float32(1) / np.float32(3), np.float32(1) / np.float32(7)
    graph = Graph()
    x = graph.add_input(F, "x")
    w = graph.add_weight("w", ArrayWeight(np.full(3, third)))
    v = graph.add_weight("v", ArrayWeight(np.full(3, seventh)))
    b = Builder(graph)
    graph.set_outputs([b.mul(x, b.sub(b.add(b.exp(w), v), 1.0))])
    fold_constants(graph, Context())
    (folded,) = [u for u in graph.weights.values() if u.uses]
    assert folded.weight is not None
    exact = np.exp(np.float64(third)) + np.float64(seventh) - 1
    np.testing.assert_array_equal(folded.weight.array(), np.full(3, np.float32(exact)))


def test_a_folded_weight_takes_over_the_name_of_the_parameter_it_replaces() -> None:
    graph = weighted((3, 3), lambda b, x, w: b.matmul(x, b.transpose(w, perm=(1, 0))))
    fold_constants(graph, Context())
    eliminate_dead(graph, Context())
    assert list(graph.weights) == ["layer.weight"]
    assert [n.op.name for n in graph] == ["matmul"]


def test_a_parameter_that_is_still_used_keeps_its_name() -> None:
    graph = weighted((3, 3), lambda b, x, w: b.matmul(b.matmul(x, w), b.transpose(w, perm=(1, 0))))
    fold_constants(graph, Context())
    assert set(graph.weights) == {"layer.weight", "layer.weight.folded"}


def test_a_large_folded_weight_is_computed_only_when_asked_for() -> None:
    graph = weighted((3, 4096), lambda b, x, w: b.matmul(x, b.mul(w, 2.0)))
    fold_constants(graph, Context())
    eliminate_dead(graph, Context())
    (value,) = graph.weights.values()
    assert isinstance(value.weight, ComputedWeight)
    np.testing.assert_array_equal(value.weight.array(), 2 * np.arange(3 * 4096, dtype=np.float32).reshape(3, 4096))


def test_what_would_grow_is_not_folded() -> None:
    graph = weighted((3,), lambda b, x, w: b.add(b.broadcast_to(w, shape=(4096, 2, 3)), x))
    assert fold_constants(graph, Context()) == 0


def test_a_folded_scalar_becomes_a_constant() -> None:
    graph = trace(lambda b, x: b.mul(x, b.sqrt(b.const(2.0, F32))), F)
    fold_constants(graph, Context())
    assert [n.op.name for n in graph] == ["constant", "mul"]
    assert graph.nodes[0].op.attributes is not None
    np.testing.assert_allclose(run(graph, np.ones((2, 3)))[0], np.sqrt(2.0), rtol=1e-15)


def test_what_depends_on_a_symbolic_extent_is_not_folded() -> None:
    graph = trace(lambda b, x: b.mul(x, b.extent(x.type.shape[0], F32)), parse_type("f32[n]"))
    assert fold_constants(graph, Context()) == 0


def test_equal_nodes_are_computed_once_even_with_operands_exchanged() -> None:
    def twice(b: Builder, x: Value, y: Value) -> Value:
        return b.mul(b.add(x, y), b.add(y, x))

    graph = trace(twice, F, F)
    assert deduplicate(graph, Context()) == 1
    verify(graph)
    assert len(graph) == 2


def test_zero_and_minus_zero_are_different_constants() -> None:
    def both(b: Builder, x: Value) -> Value:
        return b.add(b.div(x, b.const(0.0, F32)), b.div(x, b.const(-0.0, F32)))

    graph = trace(both, F)
    assert deduplicate(graph, Context()) == 0


def test_what_no_output_needs_is_dropped_and_inputs_stay() -> None:
    graph = weighted((3,), lambda b, x, w: (b.exp(b.add(x, w)), b.neg(x))[1])
    assert eliminate_dead(graph, Context()) == 3
    assert [n.op.name for n in graph] == ["neg"]
    assert not graph.weights
    assert len(graph.inputs) == 1


def test_legalising_to_primitives_leaves_the_values_alone() -> None:
    graph = trace(lambda b, x: b.softmax(b.gelu(b.silu(x)), axis=-1), F)
    values = np.linspace(-3, 3, 6).reshape(2, 3)
    (expected,) = run(graph, values)
    count = legalize(graph, lambda node: primitives(type(node.op)))
    assert count >= 3
    verify(graph, primitives)
    np.testing.assert_allclose(run(graph, values)[0], expected, rtol=1e-14)


def test_legalising_lists_every_primitive_that_cannot_be_expressed() -> None:
    graph = trace(lambda b, x: b.exp(b.sqrt(b.exp(x))), F)

    def supports(node: Node) -> str | None:
        return f"there is no {node.op.name}"

    with pytest.raises(EmitRefused) as caught:
        legalize(graph, supports, "this target")
    assert [(o.operator, o.count) for o in caught.value.occurrences] == [("exp", 2), ("sqrt", 1)]


def test_the_manager_names_the_pass_that_broke_the_graph() -> None:
    def vandalise(graph: Graph, context: Context) -> int:
        """Break it."""
        graph.nodes[0].results[0].type = parse_type("f32[7]")
        return 1

    with pytest.raises(VerifyError) as caught:
        run_passes(trace(lambda b, x: b.neg(x), F), [vandalise])
    assert caught.value.__notes__ == ["after the pass vandalise"]


def test_the_manager_records_time_counts_and_rules() -> None:
    graph = trace(lambda b, x: b.transpose(b.transpose(b.mul(x, 1), perm=(1, 0)), perm=(1, 0)), F)
    context = run_passes(graph, OPTIMISE)
    canonicalise = next(r for r in context.records if r.name == "canonicalise")
    assert canonicalise.fired == {"MergeTransposes": 1, "DropIdentityTranspose": 1, "DropMulOne": 1}
    assert len(graph) == 0
    assert context.records[-1].nodes_after == 0


def test_a_batch_norm_is_folded_into_the_convolution_with_one_weight_and_one_bias() -> None:
    rng = np.random.default_rng(0)
    graph = Graph()
    x = graph.add_input(parse_type("f32[n,3,8,8]"), "x")

    def weight(name: str, values: object) -> Value:
        return graph.add_weight(name, ArrayWeight(np.asarray(values, np.float32)))

    w = weight("conv.weight", rng.standard_normal((4, 3, 3, 3)))
    parts = [weight(f"bn.{n}", rng.uniform(0.5, 2, 4)) for n in ("weight", "bias", "running_mean", "running_var")]
    b = Builder(graph)
    y = b.conv(x, w, strides=(1, 1), padding=((1, 1), (1, 1)), dilations=(1, 1))
    graph.set_outputs([b.relu(b.batch_norm(y, *parts, epsilon=1e-5))])
    images = rng.standard_normal((2, 3, 8, 8)).astype(np.float32)
    (expected,) = run(graph, images)
    run_passes(graph, OPTIMISE)
    assert [n.op.name for n in graph] == ["conv", "relu"]
    assert "conv.weight" in graph.weights
    assert len(graph.weights) == 2
    np.testing.assert_allclose(run(graph, images)[0], expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def test_an_unused_integer_buffer_is_dropped() -> None:
    graph = weighted((3,), lambda b, x, w: b.add(x, w))
    graph.add_weight("bn.num_batches_tracked", ArrayWeight(np.array(0, I64.numpy)))
    eliminate_dead(graph, Context())
    assert list(graph.weights) == ["layer.weight"]
