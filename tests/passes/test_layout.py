"""Layouts chosen by a minimum cut: how many transposes are left, and that nothing else changes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.backends.onnx import PREFERRED_LAYOUT, channels_first_only, emit
from dragoman.ir.builder import Builder, trace
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.interpreter import run
from dragoman.ir.op import Op
from dragoman.ir.ops.conv import CHANNELS_FIRST, CHANNELS_LAST
from dragoman.ir.ops.shape import Transpose
from dragoman.ir.ops.softmax import Softmax
from dragoman.ir.provenance import NOWHERE, Provenance, Source
from dragoman.ir.types import parse_type
from dragoman.passes import layout, min_cut, permuted
from dragoman.passes.check import RewriteChecker
from dragoman.passes.layout import choose_layout
from dragoman.passes.manager import Context, TargetLayout, run_passes
from dragoman.passes.min_cut import SINK, SOURCE, MinimumCut
from dragoman.passes.pipelines import OPTIMISE

from . import nhwc

ONNX = TargetLayout(PREFERRED_LAYOUT, channels_first_only)
TO_FIRST, TO_LAST = (0, 3, 1, 2), (0, 2, 3, 1)
PLAIN = {"strides": (1, 1), "padding": ((0, 0), (0, 0)), "dilations": (1, 1)}


def optimised(graph: Graph, target: TargetLayout = ONNX) -> RewriteChecker:
    """Every pass, each rewrite proved. Fails if a proof refuses one."""
    checker = RewriteChecker()
    run_passes(graph, OPTIMISE, Context(checker, target))
    assert not checker.refused, [str(f) for f in checker.refused]
    assert not checker.unchecked
    return checker


def transposes(graph: Graph) -> int:
    """Transposes of the ONNX model, those around operators that know channels first only among them."""
    return sum(node.op_type == "Transpose" for node in emit(graph).skeleton.graph.node)


def inner_transposes(graph: Graph) -> int:
    return sum(node.op.name == "transpose" for node in graph)


def example(graph: Graph, sizes: tuple[int, ...]) -> Any:
    return np.random.default_rng(1).standard_normal(sizes)


def check_same(graph: Graph, change: Callable[[Graph], object], *inputs: Any) -> None:
    """The results in float64 are the same after `change` but for the order of sums, and so is the interface."""
    expected, interface = run(graph, *inputs), [str(v.type) for v in (*graph.inputs, *graph.outputs)]
    names = [v.name for v in graph.inputs], graph.output_names
    change(graph)
    assert interface == [str(v.type) for v in (*graph.inputs, *graph.outputs)]
    assert names == ([v.name for v in graph.inputs], graph.output_names)
    for a, b in zip(expected, run(graph, *inputs), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-10, atol=1e-12)


# ---- whole models ---------------------------------------------------------------------------------------------

LEFT = {"resnet": 1, "mobilenet": 1, "unet": 2, "convnext": 8, "cut_apart": 1}
BEFORE = {"resnet": 104, "mobilenet": 34, "unet": 20, "convnext": 8, "cut_apart": 6}


@pytest.mark.parametrize("spelling", nhwc.SPELLINGS)
@pytest.mark.parametrize("name", nhwc.MODELS)
def test_an_nhwc_model_reaches_onnx_with_the_fewest_transposes(name: str, spelling: str) -> None:
    graph = nhwc.MODELS[name](spelling)
    assert transposes(graph) == BEFORE[name]
    checker = optimised(graph)
    assert all(firing.proven for firing in checker.firings)
    assert transposes(graph) == LEFT[name]  # at the image; unet: at its output too; convnext: two for each convolution


SMALL: dict[str, Callable[[str], Graph]] = {
    **nhwc.MODELS,
    "resnet": lambda spelling: nhwc.resnet(spelling, "f32[n,h,w,3]", 2, (1, 2), 5),
    "mobilenet": lambda spelling: nhwc.mobilenet(spelling, "f32[n,h,w,3]"),
    "unet": lambda spelling: nhwc.unet(spelling, "f32[n,8,4,3]"),
    "convnext": lambda spelling: nhwc.convnext(spelling, "f32[n,h,w,3]", 1),
}


@pytest.mark.parametrize("spelling", nhwc.SPELLINGS)
@pytest.mark.parametrize("name", SMALL)
def test_a_model_computes_the_same_at_dynamic_sizes(name: str, spelling: str) -> None:
    graph = SMALL[name](spelling)
    size = [n if isinstance(n, int) else 16 for n in graph.inputs[0].type.shape[1:]]
    before = transposes(graph)
    check_same(graph, optimised, example(graph, (2, *size)))
    assert transposes(graph) <= min(before, LEFT[name])


def test_rows_and_columns_may_be_dynamic_without_another_transpose() -> None:
    graph = nhwc.resnet("direct", "f32[n,h,w,3]")
    optimised(graph)
    assert transposes(graph) == 1


@pytest.mark.parametrize("spelling", nhwc.SPELLINGS)
@pytest.mark.parametrize("name", ["resnet", "mobilenet", "unet", "convnext"])
def test_a_target_that_wants_channels_last_gets_them_without_a_transpose(name: str, spelling: str) -> None:
    graph = SMALL[name](spelling)
    optimised(graph, TargetLayout(CHANNELS_LAST))
    assert inner_transposes(graph) == 0
    assert {dict(n.op.attributes()).get("layout") for n in graph if n.op.name == "conv"} == {CHANNELS_LAST}


@pytest.mark.parametrize("spelling", nhwc.SPELLINGS)
@pytest.mark.parametrize("name", SMALL)
def test_what_was_chosen_is_chosen_again(name: str, spelling: str) -> None:
    graph = SMALL[name](spelling)
    optimised(graph)
    assert choose_layout(graph, Context(layout=ONNX)) == 0


# ---- single decisions -----------------------------------------------------------------------------------------


def image_graph(build: Callable[[nhwc.Maker], Value | tuple[Value, ...]], image: str = "f32[2,4,6,3]") -> Graph:
    m = nhwc.Maker(image, "wrapped")
    results = build(m)
    return m.done(*([results] if isinstance(results, Value) else results))


def small_input(graph: Graph) -> Any:
    return example(graph, tuple(int(d) if isinstance(d, int) else 2 for d in graph.inputs[0].type.shape))


def test_what_only_a_move_of_all_ops_together_saves_is_saved() -> None:
    """Between two convolutions the value is eight times larger: moving either op of the chain alone costs more."""

    def hill(m: nhwc.Maker) -> Value:
        x = m.b.tile(m.conv(m.x, 4, 1), repeats=(1, 1, 1, 8))
        return m.conv(m.b.reduce_max(m.b.reshape(x, shape=(2, 4, 6, 8, 4)), axes=(3,)), 3, 1)

    graph = image_graph(hill)
    check_same(graph, optimised, small_input(graph))
    assert transposes(graph) == 2


def test_branches_that_must_stay_are_not_paid_for_one_by_one() -> None:
    """Three results in NHWC along the way between two convolutions: two transposes, not three."""

    def comb(m: nhwc.Maker) -> tuple[Value, ...]:
        x = m.conv(m.x, 3, 1)
        kept: list[Value] = []
        for _ in range(3):
            x = m.b.tanh(x)
            kept.append(x)
        return (*kept, m.b.reduce_max(m.conv(x, 2, 1), axes=(1, 2, 3)))

    graph = image_graph(comb)
    check_same(graph, optimised, small_input(graph))
    assert transposes(graph) == 3  # the image, after the first convolution, before the second


def test_all_users_share_one_transpose() -> None:
    def fan(m: nhwc.Maker) -> tuple[Value, ...]:
        x = m.b.relu(m.x)
        return tuple(m.b.reduce_max(m.conv(x, 2, k), axes=(1, 2, 3)) for k in (1, 2, 3))

    graph = image_graph(fan)
    optimised(graph)
    assert transposes(graph) == 1


def test_one_shared_transpose_is_better_than_three_smaller_ones() -> None:
    def halves(m: nhwc.Maker) -> tuple[Value, ...]:
        x = m.conv(m.x, 8, 1)
        return tuple(m.b.slice(x, axes=(3,), starts=(at,), stops=(at + 4,)) for at in (0, 2, 4))

    m = nhwc.Maker("f32[2,4,6,3]", "direct")
    graph = m.done(*halves(m))
    optimised(graph)
    assert transposes(graph) == 2  # the image, and what is sliced


def test_squeeze_and_excite_costs_no_transpose_where_its_gate_is_made_by_linear_layers() -> None:
    def gated(m: nhwc.Maker) -> Value:
        x = m.conv(m.x, 8, 1)
        gate = m.b.sigmoid(m.dense(m.b.relu(m.dense(m.b.reduce_mean(x, axes=(1, 2)), 4)), 8))
        x = m.b.mul(x, m.b.reshape(gate, shape=(2, 1, 1, 8)))
        return m.b.reduce_mean(m.conv(x, 2, 1), axes=(1, 2))

    graph = image_graph(gated)
    check_same(graph, optimised, small_input(graph))
    assert transposes(graph) == 1


def test_a_flattened_image_keeps_its_order() -> None:
    graph = image_graph(lambda m: m.dense(m.b.reshape(m.conv(m.x, 5, 1), shape=(2, 120)), 4))
    check_same(graph, optimised, small_input(graph))
    assert transposes(graph) == 2  # the image, and before the channels are mixed with the places


def test_a_mask_of_a_lower_rank_is_transposed_once_instead_of_the_image() -> None:
    graph = Graph()
    b = Builder(graph)
    x, mask = graph.add_input(parse_type("f32[n,96,96,8]")), graph.add_input(parse_type("f32[96,8]"))
    m = nhwc.Maker("f32[1,1,1,1]", "direct")
    m.graph, m.b = graph, b
    y = m.conv(b.mul(m.conv(x, 8, 1), mask), 8, 1)
    graph.set_outputs([b.reduce_mean(y, axes=(1, 2))])
    optimised(graph)
    found = [n.operands[0].type.rank for n in graph if n.op.name == "transpose" and n.operands[0] is not None]
    assert sorted(found) == [2, 4]


def test_regions_of_control_flow_are_laid_out_as_well() -> None:
    types = [parse_type(t) for t in ("f32[2,8,8,3]", "f32[4,3,3,3]", "f32[4,4,3,3]")]
    window = {**PLAIN, "layout": CHANNELS_LAST}

    def twice(b: Builder, x: Value, w: Value, v: Value) -> Value:
        return b.reduce_max(b.conv(b.relu(b.conv(x, w, **window)), v, **window), axes=(1, 2))

    def mean(b: Builder, x: Value, w: Value, v: Value) -> Value:
        return b.reduce_mean(b.slice(b.concat(x, x, axis=3), axes=(3,), starts=(0,), stops=(4,)), axes=(1, 2))

    then, orelse = trace(twice, *types), trace(mean, *types)
    graph = Graph()
    values = [graph.add_input(t) for t in (parse_type("bool[]"), *types)]
    graph.set_outputs(list(Builder(graph).cond(*values, then=then, orelse=orelse)))
    arrays = [np.random.default_rng(0).standard_normal(tuple(map(int, t.shape))) for t in types]
    check_same(graph, optimised, np.array(True), *arrays)
    assert [n.op.layout for n in then if n.op.name == "conv"] == [CHANNELS_FIRST] * 2  # type: ignore[attr-defined]
    assert inner_transposes(then) == 1
    assert inner_transposes(orelse) == 0


def test_a_model_with_channels_first_throughout_is_left_as_it_is() -> None:
    def plain(b: Builder, x: Value, w: Value) -> Value:
        y = b.relu(b.conv(x, w, **PLAIN))
        y = b.max_pool(b.add(y, x), window=(2, 2), **{**PLAIN, "strides": (2, 2)})
        return b.reshape(b.reduce_mean(y, axes=(2, 3), keepdims=True), shape=(2, 3))

    graph = trace(plain, parse_type("f32[2,3,8,8]"), parse_type("f32[3,3,1,1]"))
    text = str(graph)
    assert choose_layout(graph, Context(layout=ONNX)) == 0
    assert str(graph) == text


# ---- a wrong move ---------------------------------------------------------------------------------------------


def test_a_wrong_move_is_refused_blamed_and_the_others_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    def axis_forgotten(op: Op, perm: permuted.Perm, types: permuted.Types) -> permuted.Permuted | None:
        return (op, perm) if isinstance(op, Softmax) else permuted.permuted(op, perm, types)

    monkeypatch.setattr(layout, "permuted", axis_forgotten)
    origin = Provenance((Source("softmax", "head.attention", "model.py:7"),))

    def model(m: nhwc.Maker) -> Value:
        x = m.b.relu(m.conv(m.x, 5, 1))
        m.b.provenance = origin
        x = m.b.softmax(x, axis=1)
        m.b.provenance = NOWHERE
        return m.b.reduce_max(m.conv(m.b.exp(x), 3, 1), axes=(1, 2))

    graph = image_graph(model)
    checker = RewriteChecker()
    check_same(graph, lambda g: run_passes(g, OPTIMISE, Context(checker, ONNX)), small_input(graph))
    (refused,) = checker.refused
    assert (refused.rule, refused.node) == ("MoveAxes", "softmax")
    assert (refused.module, refused.line) == (origin.module, origin.line)
    assert [n.op for n in graph if n.op.name == "softmax"] == [Softmax(axis=1)]
    assert {"relu", "exp", "reduce_max"} <= {f.node for f in checker.firings if f.accepted}


# ---- random graphs --------------------------------------------------------------------------------------------

Step = Callable[[nhwc.Maker, Value, Value], Value]
"""From the newest value and an older one of the same shape [2,h,w,4] to the next."""


def _padded(m: nhwc.Maker, x: Value, y: Value) -> Value:
    wide = m.b.pad(x, padding=((0, 0), (1, 0), (0, 2), (0, 0)), value=0.5)
    return m.b.slice(wide, axes=(2, 1), starts=(2, 0), stops=(wide.type.shape[2], x.type.shape[1]))


def _joined(m: nhwc.Maker, x: Value, y: Value) -> Value:
    left, right = m.b.split(m.b.concat(x, y, axis=-1), axis=3, sizes=(4, 4))
    return m.b.maximum(left, right)


def _gated(m: nhwc.Maker, x: Value, y: Value) -> Value:
    gate = m.dense(m.b.reduce_mean(y, axes=(1, 2)), 4)
    return m.b.mul(x, m.b.reshape(m.b.sigmoid(gate), shape=(2, 1, 1, 4)))


STEPS: dict[str, Step] = {
    "conv": lambda m, x, y: m.conv(x, 4, 1),
    "depthwise": lambda m, x, y: m.conv(x, 4, 3, groups=4),
    "pool": lambda m, x, y: m.pool(m.b.pad(x, padding=((0, 0), (1, 1), (1, 1), (0, 0))), 3, 1, "avg_pool"),
    "norm": lambda m, x, y: m.norm(x),
    "relu": lambda m, x, y: m.b.relu(x),
    "add": lambda m, x, y: m.b.add(x, y),
    "bias": lambda m, x, y: m.b.add(m.weight(4), x),
    "layer_norm": lambda m, x, y: m.b.layer_norm(x, m.weight(4), m.weight(4), axis=3, epsilon=1e-3),
    "dense": lambda m, x, y: m.dense(x, 4),
    "softmax": lambda m, x, y: m.b.softmax(x, axis=-1),
    "padded": _padded,
    "joined": _joined,
    "gated": _gated,
    "scaled": lambda m, x, y: m.b.mul(x, m.b.reduce_max(y, axes=(-1,), keepdims=True)),
    "swapped": lambda m, x, y: m.b.transpose(m.b.tanh(m.b.transpose(x, perm=(0, 2, 1, 3))), perm=(0, 2, 1, 3)),
    "rows": lambda m, x, y: m.b.reshape(m.dense(m.b.reshape(x, shape=(2, 15, 4)), 4), shape=(2, 3, 5, 4)),
    "first": lambda m, x, y: m.b.transpose(m.b.relu(m.b.transpose(x, perm=TO_FIRST)), perm=TO_LAST),
    "centred": lambda m, x, y: m.b.sub(x, m.b.reduce_mean(y, axes=(0, 1), keepdims=False)),
}
DRAWN = st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 9), st.booleans()), min_size=1, max_size=12)


def drawn_graph(drawn: list[tuple[str, int, bool]], spelling: str) -> Graph:
    """Each step takes the newest value and one further back; some results are outputs on the way."""
    m = nhwc.Maker("f32[2,3,5,4]", spelling)
    values, outputs = [m.x], list[Value]()
    for name, back, kept in drawn:
        values.append(STEPS[name](m, values[-1], values[max(len(values) - 1 - back, 0)]))
        outputs += [values[-1]] if kept else []
    return m.done(*dict.fromkeys([*outputs, values[-1]]))


@settings(max_examples=60)
@hypothesis.example(
    drawn=[("add", 0, False), ("conv", 0, False), ("add", 2, False), ("norm", 0, False)], spelling="direct"
)
@given(drawn=DRAWN, spelling=st.sampled_from(nhwc.SPELLINGS))
def test_a_random_graph_computes_the_same_with_no_more_transposes(
    drawn: list[tuple[str, int, bool]], spelling: str
) -> None:
    plain, graph = drawn_graph(drawn, spelling), drawn_graph(drawn, spelling)
    run_passes(plain, [p for p in OPTIMISE if p is not choose_layout])
    check_same(graph, optimised, small_input(graph))
    assert transposes(graph) <= transposes(plain)


@settings(max_examples=6)
@hypothesis.example(drawn=[("pool", 0, False), ("centred", 0, True), ("conv", 0, False)], spelling="direct")
@hypothesis.example(drawn=[("pool", 0, True), ("first", 0, False)], spelling="wrapped")
@given(drawn=DRAWN.filter(lambda d: len(d) <= 5), spelling=st.sampled_from(nhwc.SPELLINGS))
def test_no_other_choice_has_fewer_transposes(drawn: list[tuple[str, int, bool]], spelling: str) -> None:
    """Every subset of the ops that may move, up to seven of them, against the one chosen."""
    until = OPTIMISE.index(choose_layout)

    def left(choice: Callable[[dict[Node, layout.Move]], dict[Node, layout.Move]] | None) -> int:
        graph = drawn_graph(drawn, spelling)
        context = Context(layout=ONNX)
        run_passes(graph, OPTIMISE[:until], context)
        if choice is not None:
            layouts = layout._Layouts(graph, ONNX)
            layouts.plan()
            plan = choice({n: m for n, m in layouts.moves.items() if not isinstance(n.op, Transpose)})
            context.rewrite(graph, [layout.MoveAxes(plan)])
            context.rewrite(graph, layout._TIDY)
        run_passes(graph, OPTIMISE[until + (choice is not None) :], context)
        return transposes(graph)

    count = 0

    def counted(moves: dict[Node, layout.Move]) -> dict[Node, layout.Move]:
        nonlocal count
        count = len(moves)
        return {}

    left(counted)
    best = left(None)
    for chosen in itertools.product((False, True), repeat=min(count, 7)):
        assert best <= left(lambda moves, chosen=chosen: dict(itertools.compress(moves.items(), chosen)))


# ---- the cut --------------------------------------------------------------------------------------------------

EDGES = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(1, 9)), max_size=14)


def cost_of(edges: list[tuple[int, int, int]], at_source: list[bool]) -> int:
    return sum(cost for tail, head, cost in edges if at_source[tail] and not at_source[head])


@given(edges=EDGES, wishes=st.lists(st.booleans(), min_size=5, max_size=5))
def test_a_cut_is_a_minimum_and_keeps_the_preferences_if_they_are_one(
    edges: list[tuple[int, int, int]], wishes: list[bool]
) -> None:
    problem = MinimumCut()
    for _ in range(5):
        problem.variable()
    for edge in edges:
        problem.edge(*edge)
    sides = [bool(s) for s in problem.cut([v + 2 for v, wish in enumerate(wishes) if wish])]
    assert sides[SOURCE]
    assert not sides[SINK]
    best = min(cost_of(edges, [True, False, *rest]) for rest in itertools.product((True, False), repeat=5))
    assert cost_of(edges, sides) == best
    if cost_of(edges, [True, False, *wishes]) == best:
        assert sides == [True, False, *wishes]


@given(edges=EDGES, wishes=st.lists(st.booleans(), min_size=5, max_size=5))
def test_a_cut_is_the_same_by_hand_and_by_scipy(edges: list[tuple[int, int, int]], wishes: list[bool]) -> None:
    found: list[list[bool]] = []
    for most in (len(edges), -1):
        problem = MinimumCut()
        for _ in range(5):
            problem.variable()
        for tail, head, cost in edges:
            problem.edge(tail, head, None if cost == 9 and min(tail, head) > SINK else cost)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(min_cut, "_FEW", most)
            found.append(list(problem.cut([v + 2 for v, wish in enumerate(wishes) if wish])))
    assert found[0] == found[1]


@pytest.mark.parametrize("few", [9, -1])
def test_costs_beyond_32_bits_are_scaled_and_what_is_forbidden_stays_so(
    few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(min_cut, "_FEW", few)
    problem = MinimumCut()
    a, b = problem.variable(), problem.variable()
    problem.edge(SOURCE, a, 1 << 45)
    problem.edge(a, b, None)
    problem.edge(b, SINK, (1 << 45) + (1 << 30))
    assert list(problem.cut([])) == [True, False, False, False]


# ---- work -----------------------------------------------------------------------------------------------------


def wide_graph(count: int) -> Graph:
    """One value with many users, all of which meet in one concatenation."""
    m = nhwc.Maker("f32[2,4,4,3]", "direct")
    x = m.conv(m.x, 4, 1)
    joined = m.b.concat(*(m.b.add(x, float(i)) for i in range(count)), axis=-1)
    return m.done(m.b.reduce_mean(m.conv(joined, 2, 1), axes=(1, 2)))


def test_each_op_is_looked_at_a_few_times_however_many_share_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[type[Op]] = []

    def counted(op: Op, *args: Any) -> Any:
        calls.append(type(op))
        return original(op, *args)

    original = layout.permuted
    monkeypatch.setattr(layout, "permuted", counted)
    graph = wide_graph(500)
    nodes: list[Node] = graph.nodes
    choose_layout(graph, Context(layout=ONNX))
    assert len(calls) <= 2 * len(nodes)
    assert inner_transposes(graph) == 1
    assert {n.op.layout for n in graph if n.op.name == "conv"} == {CHANNELS_FIRST}  # type: ignore[attr-defined]
