"""Half precision by measurement: what stays in f32, why, and that the whole is as good as it should be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dragoman.ir.arithmetic import NATIVE
from dragoman.ir.builder import Builder, trace
from dragoman.ir.errors import UsageError
from dragoman.ir.graph import Graph, Node
from dragoman.ir.interpreter import Interpreter, run
from dragoman.ir.op import REGISTRY, Op, require
from dragoman.ir.types import BF16, BOOL, F16, F32, I64, DType, TensorType, parse_type
from dragoman.ir.weights import ArrayWeight, ComputedWeight
from dragoman.passes.precision import InHalf, Precision, half_dtype, reduce_precision
from dragoman.passes.precision.narrow import Forms, narrowed

RNG = [np.random.default_rng(7)]
BOTH = pytest.mark.parametrize("half", [F16, BF16], ids=str)
X = parse_type("f32[4,8]")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same numbers for a test whether it runs alone or not."""
    RNG[0] = np.random.default_rng(7)


def normal(*shape: int, scale: float = 1.0) -> Any:
    return (RNG[0].standard_normal(shape) * scale).astype(np.float32)


def graph_of(build: Callable[..., Any], *types: TensorType, **weights: Any) -> Graph:
    """`build(b, *inputs, *weights)` as a graph."""
    graph = Graph()
    inputs = [graph.add_input(t, f"x{i}") for i, t in enumerate(types)]
    values = [graph.add_weight(n, ArrayWeight(w)) for n, w in weights.items()]
    results = build(Builder(graph), *inputs, *values)
    graph.set_outputs(results if isinstance(results, (list, tuple)) else [results])
    return graph


def in_f32(record: Precision) -> list[str]:
    """The ops that stay, by name, in order."""
    return [kept.node.partition("(")[0] for kept in record.kept]


def dtypes(graph: Graph, op: str) -> list[DType]:
    return [r.type.dtype for n in graph if n.op.name == op for r in n.results]


def error(graph: Graph, result: Graph, *inputs: Any) -> float:
    """The relative error of the result, node by node in its declared types, against the graph in float64."""
    truth, got = run(graph, *inputs)[0], Interpreter(result, NATIVE).run(inputs)[0]
    return float(np.linalg.norm(got.astype(np.float64) - truth) / np.linalg.norm(truth))


# ---- what goes to half --------------------------------------------------------------------------------


@BOTH
def test_a_benign_model_computes_in_half_between_two_casts(half: DType) -> None:
    graph = graph_of(lambda b, x, w, v: b.linear(b.gelu(b.linear(x, w)), v), X, w=normal(16, 8), v=normal(4, 16))
    result, record = reduce_precision(graph, half)
    assert [n.op.name for n in result] == ["cast", "linear", "gelu", "linear", "cast"]
    assert dtypes(result, "linear") == [half, half]
    assert (record.nodes, record.kept, record.casts) == (3, (), 2)
    assert 0 < record.excess <= 1
    assert error(graph, result, normal(4, 8)) < {F16: 2e-3, BF16: 2e-2}[half]


@BOTH
def test_names_types_and_order_of_the_interface_stay(half: DType) -> None:
    def build(b: Any, x: Any, i: Any, y: Any) -> list[Any]:
        return [b.add(x, y), b.add(i, i), b.relu(y)]

    graph = graph_of(build, X, parse_type("i64[3]"), X)
    graph.set_outputs(graph.outputs, ("sum", "twice", "positive"))
    result, _ = reduce_precision(graph, half)
    assert [(v.name, v.type) for v in result.inputs] == [(v.name, v.type) for v in graph.inputs]
    assert [v.type for v in result.outputs] == [v.type for v in graph.outputs]
    assert result.output_names == ("sum", "twice", "positive")


def test_a_weight_is_rounded_when_it_is_asked_for_and_known_unrounded_to_references() -> None:
    asked: list[str] = []
    values = normal(16, 8)

    def compute() -> Any:
        asked.append("w")
        return values

    graph = Graph()
    x = graph.add_input(X, "x")
    w = graph.add_weight("layer.weight", ComputedWeight(F32, (16, 8), compute))
    graph.set_outputs([Builder(graph).linear(x, w)])
    result = narrowed(graph, Forms(F16), ())
    assert not asked
    weight = result.weights["layer.weight"].weight
    assert isinstance(weight, ComputedWeight)
    assert weight.exact is not None
    np.testing.assert_array_equal(weight.array(), values.astype(np.float16))
    np.testing.assert_array_equal(weight.exact(), values)
    np.testing.assert_array_equal(run(result, x := normal(4, 8))[0], run(graph, x)[0])


def test_a_tied_weight_used_in_both_precisions_is_two_values_and_once_in_each() -> None:
    graph = graph_of(lambda b, x, w: [b.linear(x, w), b.linear(b.relu(x), w), b.matmul(x, w)], X, w=normal(8, 8))
    last = graph.nodes[-1]
    result = narrowed(graph, Forms(F16), {last})
    assert {n: v.type.dtype for n, v in result.weights.items()} == {"w": F16, "w.f32": F32}


def test_integers_and_the_lookup_they_do_are_left_alone() -> None:
    def build(b: Any, ids: Any, table: Any) -> Any:
        return b.layer_norm(b.take(table, b.add(ids, ids), axis=0), axis=-1, epsilon=1e-5)

    graph = graph_of(build, parse_type("i64[batch,5]"), table=normal(20, 8))
    result, record = reduce_precision(graph, F16)
    assert [n.op.name for n in result] == ["add", "take", "layer_norm", "cast"]
    assert dtypes(result, "add") == [I64]
    assert dtypes(result, "take") == [F16]
    assert (record.nodes, record.kept) == (2, ())
    assert {"batch=1, typical", "batch=3, typical"} <= set(record.cases)


def test_a_dynamic_batch_stays_dynamic_and_is_measured_at_several_sizes() -> None:
    graph = graph_of(lambda b, x, w: b.softmax(b.linear(x, w), axis=-1), parse_type("f32[batch,8]"), w=normal(5, 8))
    result, record = reduce_precision(graph, F16)
    assert str(result.outputs[0].type) == "f32[batch,5]"
    assert len(record.cases) >= 3
    assert run(result, normal(6, 8))[0].shape == (6, 5)


def test_what_only_moves_numbers_between_f32_is_not_rounded() -> None:
    graph = graph_of(lambda b, x: [b.transpose(x, perm=(1, 0)), b.relu(x)], X)
    result, record = reduce_precision(graph, F16)
    assert dtypes(result, "transpose") == [F32]
    assert dtypes(result, "relu") == [F16]
    assert "moves numbers" in record.kept[0].reason


def test_a_graph_without_f32_is_as_it_was() -> None:
    graph = graph_of(lambda b, x: b.add(x, x), parse_type("f64[3]"))
    result, record = reduce_precision(graph, F16)
    assert [n.op.name for n in result] == ["add"]
    assert (record.nodes, record.share, record.holds) == (0, 0.0, True)


# ---- what stays in f32 --------------------------------------------------------------------------------


def norm_of(b: Any, x: Any, w: Any) -> Any:
    """w(x) / ‖x‖, written out."""
    total = b.reduce_sum(b.mul(x, x), axes=(1,), keepdims=True)
    return b.div(b.linear(x, w), b.sqrt(total))


def test_a_sum_of_squares_beyond_the_range_stays_with_the_root_that_reads_it() -> None:
    graph, x = graph_of(norm_of, X, w=normal(4, 8)), normal(4, 8, scale=200.0)
    result, record = reduce_precision(graph, F16, examples=[x])
    assert in_f32(record) == ["mul", "reduce_sum", "sqrt", "div"]  # by a faint row the sum is 0 in f16, and not in f32
    assert "leaves the range of f16" in record.kept[2].reason
    assert record.kept[1].reason.startswith("sqrt(f32[4,1]) needs its result in f32")
    assert record.kept[2].error == np.inf
    assert error(graph, result, x) < 2e-3
    every = narrowed(graph, Forms(F16), ())
    assert error(graph, every, x) == 1.0  # all of it divided by infinity


def test_bf16_has_the_range_for_it() -> None:
    _, record = reduce_precision(graph_of(norm_of, X, w=normal(4, 8)), BF16, examples=[normal(4, 8, scale=200.0)])
    assert record.kept == ()


@BOTH
def test_an_epsilon_that_underflows_is_kept_where_it_counts(half: DType) -> None:
    def build(b: Any, x: Any) -> Any:
        return b.div(x, b.add(b.sqrt(b.reduce_sum(b.mul(x, x), axes=(1,), keepdims=True)), 1e-12))

    x = normal(4, 8)
    x[2] = 0.0
    graph = graph_of(build, X)
    result, record = reduce_precision(graph, half, examples=[x])
    got = Interpreter(result, NATIVE).run([x])[0]
    assert np.all(got[2] == 0)
    assert error(graph, result, x) < {F16: 2e-3, BF16: 2e-2}[half]
    if half == F16:  # bf16 holds 1e-12
        assert in_f32(record) == ["add", "div"]
    else:
        assert record.kept == ()


def test_an_epsilon_that_never_counts_keeps_nothing() -> None:
    graph = graph_of(lambda b, x: b.layer_norm(x, axis=-1, epsilon=1e-12), X)
    _, record = reduce_precision(graph, F16, examples=[normal(4, 8)])
    assert record.kept == ()


def test_large_logits_keep_the_softmax_and_what_makes_them() -> None:
    def build(b: Any, x: Any, w: Any, v: Any) -> Any:
        return b.linear(b.softmax(b.linear(x, w), axis=-1), v)

    close = (normal(1, 8, scale=300.0) + normal(5, 8)).astype(np.float32)  # logits of 1000 that differ by some units
    graph = graph_of(build, X, w=close, v=normal(3, 5))
    x = normal(4, 8)
    result, record = reduce_precision(graph, F16, examples=[x])
    assert in_f32(record) == ["linear", "softmax"]
    assert error(graph, result, x) < 2e-3
    assert error(graph, narrowed(graph, Forms(F16), ()), x) > 0.02
    softmax = record.kept[1]
    assert softmax.error > softmax.allowed == pytest.approx(3 * 8 * 2.0**-11)
    assert f"{softmax.allowed:.2e} is allowed" in softmax.reason
    assert dtypes(result, "linear") == [F32, F16]


def test_small_logits_go_to_half() -> None:
    graph = graph_of(lambda b, x, w: b.softmax(b.linear(x, w), axis=-1), X, w=normal(5, 8))
    assert reduce_precision(graph, F16, examples=[normal(4, 8)])[1].kept == ()


@pytest.mark.parametrize(("offset", "scale"), [(3e5, 1e5), (5000.0, 1.0)], ids=["out of range", "cancelling"])
def test_a_layer_norm_over_large_values_keeps_what_feeds_it(offset: float, scale: float) -> None:
    def build(b: Any, x: Any, w: Any, y: Any, v: Any) -> Any:
        return b.linear(b.layer_norm(b.add(b.linear(x, w), y), axis=-1, epsilon=1e-5), v)

    shift = (offset + RNG[0].standard_normal(16) * scale).astype(np.float32)
    graph = graph_of(build, X, w=normal(16, 8), y=shift, v=normal(4, 16))
    x = normal(4, 8)
    result, record = reduce_precision(graph, F16, examples=[x])
    assert {"add", "layer_norm"} <= set(in_f32(record))
    assert error(graph, result, x) < 4e-3
    assert dtypes(result, "linear")[-1] == F16


def test_a_mask_of_minus_infinity_needs_no_f32_unless_a_row_is_all_masked() -> None:
    def build(b: Any, x: Any, mask: Any) -> Any:
        return b.softmax(b.add(x, b.where(mask, 0.0, b.const(-3e38, F32))), axis=-1)

    graph = graph_of(build, X, TensorType(BOOL, (4, 8)))
    mask = np.ones((4, 8), np.bool_)
    mask[:, 5:] = False
    measured = [normal(4, 8), mask]
    result, record = reduce_precision(graph, F16, examples=measured, seconds=0.0)
    assert record.kept == ()
    assert np.all(np.isfinite(Interpreter(result, NATIVE).run(measured)[0]))
    empty = mask.copy()
    empty[3] = False
    result, record = reduce_precision(graph, F16, examples=[measured[0], empty])
    assert in_f32(record) == ["where", "add", "softmax"]
    assert error(graph, result, measured[0], empty) < 2e-3


def test_an_exact_result_that_rounding_changes_keeps_what_it_hangs_on() -> None:
    graph = graph_of(lambda b, x: b.cast(b.mul(x, 1000.0), dtype=I64), parse_type("f32[4]"))
    x = np.array([4.0975, 8.1935, 16.3855, 3.0015], np.float32)
    result, record = reduce_precision(graph, F16, examples=[x])
    assert in_f32(record) == ["mul", "cast"]
    np.testing.assert_array_equal(Interpreter(result, NATIVE).run([x])[0], run(graph, x)[0])


def test_an_output_beyond_the_range_stays() -> None:
    graph = graph_of(lambda b, x: b.mul(b.exp(x), 1e6), parse_type("f32[4]"))
    result, record = reduce_precision(graph, F16, examples=[np.ones(4, np.float32)])
    assert in_f32(record) == ["mul"]
    assert np.all(np.isfinite(Interpreter(result, NATIVE).run([np.ones(4, np.float32)])[0]))


def test_an_op_whose_type_rule_refuses_half_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def infer(op: Op, x: TensorType) -> TensorType:
        require(x.dtype == F32, f"erfinv of {x.dtype}: f32 only")
        return x

    monkeypatch.setattr(REGISTRY["erfinv"], "infer", infer)
    graph = graph_of(lambda b, x: b.erfinv(b.tanh(x)), parse_type("f32[3,5,7]"))
    result, record = reduce_precision(graph, F16)
    assert in_f32(record) == ["erfinv"]
    assert "erfinv of f16: f32 only" in record.kept[0].reason
    assert dtypes(result, "tanh") == [F16]


def test_what_the_target_cannot_express_in_half_stays() -> None:
    def supports(node: Node) -> str | None:
        if node.op.name == "erf" and node.results[0].type.dtype == F16:
            return "there is no erf in f16"
        return None

    graph = graph_of(lambda b, x: b.erf(b.relu(x)), X)
    result, record = reduce_precision(graph, F16, supports=supports)
    assert in_f32(record) == ["erf"]
    assert "there is no erf in f16" in record.kept[0].reason
    assert dtypes(result, "relu") == [F16]


def test_a_composite_is_measured_in_the_steps_that_the_target_makes_of_it() -> None:
    def whole(node: Node) -> str | None:
        return None

    def in_steps(node: Node) -> str | None:
        return "in steps" if node.op.name == "attention" else None

    graph = graph_of(lambda b, q, k, v: b.attention(q, k, v, scale=1.0), *[parse_type("f32[1,2,4,8]")] * 3)
    # Scores of 8 · 100² = 80 000 are beyond f16 between the steps; one kernel holds them in f32.
    given = [np.full((1, 2, 4, 8), 100.0, np.float32), np.full((1, 2, 4, 8), 100.0, np.float32), normal(1, 2, 4, 8)]
    assert reduce_precision(graph, F16, examples=given, supports=whole, seconds=0.0)[1].kept == ()
    assert in_f32(reduce_precision(graph, F16, examples=given, supports=in_steps, seconds=0.0)[1]) == ["attention"]


def test_numbers_too_small_for_half_that_are_only_moved_are_judged_by_who_uses_them() -> None:
    def build(b: Any, x: Any, token: Any) -> Any:
        tokens = b.broadcast_to(token, shape=(4, 8))
        return b.add(b.concat(x, tokens, axis=0), 1.0) if used else b.mul(b.reshape(tokens, shape=(32,)), 1e6)

    token = normal(1, 8, scale=1e-6)  # subnormal in f16
    used = True
    assert reduce_precision(graph_of(build, X, token=token), F16)[1].kept == ()
    used = False
    graph = graph_of(build, X, token=token)
    result, record = reduce_precision(graph, F16)
    assert in_f32(record) == ["broadcast_to", "reshape", "mul"]
    assert error(graph, result, normal(4, 8)) < 1e-6
    moved = graph_of(lambda b, x, token: b.broadcast_to(token, shape=(4, 8)), X, token=token)
    assert dtypes(reduce_precision(moved, F16)[0], "broadcast_to") == [F32]


# ---- control flow -------------------------------------------------------------------------------------


def looping(turns: int, factor: float) -> Graph:
    state = TensorType(F32, (3,))
    condition = trace(lambda b, i, a: b.less(i, turns), TensorType(I64, ()), state)
    body = trace(lambda b, i, a: [b.add(i, 1), b.mul(a, factor)], TensorType(I64, ()), state)

    def build(b: Any, a: Any) -> Any:
        return b.relu(b.while_loop(b.const(0, I64), a, condition=condition, body=body)[1])

    return graph_of(build, state)


def test_a_loop_goes_to_half_as_a_whole() -> None:
    graph, x = looping(4, 0.7), np.array([1.0, 2.0, 3.0], np.float32)
    result, record = reduce_precision(graph, F16, examples=[x])
    (loop,) = [n for n in result if n.op.name == "while_loop"]
    assert record.kept == ()
    assert {v.type.dtype for region in loop.op.regions for v in region.inputs} == {F16, I64}
    assert error(graph, result, x) < 4e-3


def test_a_loop_that_leaves_the_range_stays_in_f32_as_a_whole() -> None:
    graph, x = looping(20, 2.0), np.array([1.0, 2.0, 3.0], np.float32)
    result, record = reduce_precision(graph, F16, examples=[x])
    assert in_f32(record) == ["while_loop", "relu"]
    assert error(graph, result, x) == 0.0


def test_both_branches_of_a_choice_go_to_half() -> None:
    then, orelse = trace(lambda b, a: b.relu(a), X), trace(lambda b, a: b.mul(a, 0.1), X)
    graph = graph_of(lambda b, p, x: b.cond(p, x, then=then, orelse=orelse)[0], TensorType(BOOL, ()), X)
    result, record = reduce_precision(graph, F16)
    assert record.kept == ()
    assert result.inputs[0].type.dtype == BOOL
    x = normal(4, 8)
    for flag in (True, False):
        assert error(graph, result, np.array(flag), x) < 2e-3


# ---- the whole ----------------------------------------------------------------------------------------


class Better:
    """A source whose half precision is better than node by node: in f32 but for its inputs and outputs."""

    name = "Better"

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def run(self, inputs: Sequence[Any], double: bool = False) -> list[Any]:
        return run(self.graph, *inputs)

    def cast(self, dtype: DType) -> Better:
        return self


def shaky(b: Any, x: Any, w: Any) -> Any:
    """A benign chain, beside one of three differences that magnify rounding nine times each."""
    y = x
    for _ in range(12):
        y = b.tanh(b.linear(y, w))
    z = b.add(x, 3.0)
    for _ in range(3):
        z = b.mul(b.sub(z, b.mul(b.reduce_mean(z, axes=(1,), keepdims=True), 0.9)), 1.0 / 0.3)
    return b.add(y, z)


def test_nodes_that_contribute_most_go_back_until_the_whole_holds() -> None:
    graph = graph_of(shaky, X, w=normal(8, 8, scale=0.3))
    x = normal(4, 8, scale=0.05)
    alone, alone_record = reduce_precision(graph, F16, examples=[x])
    assert alone_record.kept == ()  # against its own half precision there is nothing to do
    result, record = reduce_precision(graph, F16, examples=[x], source=Better(graph))
    assert record.holds
    assert record.restored
    assert set(in_f32(record)) <= {"add", "sub", "mul", "reduce_mean"}
    assert dtypes(result, "tanh") == [F16] * 12
    assert all("the whole is beyond its bound" in k.reason for k in record.kept)
    assert error(graph, result, x) < error(graph, alone, x) / 3


def test_a_source_that_is_lost_in_half_is_no_standard() -> None:
    graph, x = graph_of(norm_of, X, w=normal(4, 8)), normal(4, 8, scale=200.0)
    standard = InHalf(graph, None, F16)
    truth = run(graph, x)[0]
    own = standard.run([x])[0]
    assert np.linalg.norm(own - truth) / np.linalg.norm(truth) < 1e-2
    assert "loses 'output0'" in standard.notes[0]


def test_a_model_that_runs_on_nothing_is_refused() -> None:
    def build(b: Any, ids: Any, table: Any) -> Any:
        return b.take(table, b.add(b.mul(b.cast(b.cast(ids, dtype=BOOL), dtype=I64), 0), 99), axis=0)

    graph = graph_of(build, parse_type("i64[3]"), table=normal(4, 8))
    with pytest.raises(UsageError, match="nothing could be measured in f16"):
        reduce_precision(graph, F16)


def test_there_are_two_half_precisions() -> None:
    assert half_dtype("bf16").numpy == np.dtype(ml_dtypes.bfloat16)
    with pytest.raises(UsageError, match="choose f16 or bf16"):
        half_dtype("f8")
