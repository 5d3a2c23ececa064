"""cond, while_loop and scan: their values against plain Python loops, their types on symbolic extents, their text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dragoman.ir.builder import trace
from dragoman.ir.errors import TypeRuleError, UsageError, VerifyError
from dragoman.ir.field import FIELD, embed
from dragoman.ir.graph import Graph
from dragoman.ir.interpreter import run
from dragoman.ir.text import parse, show
from dragoman.ir.types import TensorType, parse_type
from dragoman.ir.verify import verify
from dragoman.ir.weights import ArrayWeight
from tests.ir.one_op import KNOWN, dim

RANDOM = np.random.default_rng(13)


def typed(text: str) -> TensorType:
    return parse_type(text, KNOWN)


def graph_of(function: Any, *types: str) -> Graph:
    """The verified graph of a function, which reads back from its text as it was."""
    graph = trace(function, *map(typed, types))
    verify(graph)
    text = show(graph)
    assert show(parse(text)) == text
    return graph


# ---- cond ------------------------------------------------------------------------------------------------------


def chosen(b: Any, flag: Any, x: Any, y: Any) -> Any:
    then = trace(lambda c, p, q: [c.add(p, q), p], x.type, y.type)
    orelse = trace(lambda c, p, q: [c.mul(p, q), q], x.type, y.type)
    return b.cond(flag, x, y, then=then, orelse=orelse)


def test_cond_gives_the_results_of_the_branch_chosen() -> None:
    graph = graph_of(chosen, "bool[]", "f32[b,3]", "f32[b,3]")
    x, y = RANDOM.standard_normal((2, 2, 3))
    for flag, expected in ((True, (x + y, x)), (False, (x * y, y))):
        for ours, wanted in zip(run(graph, np.array(flag), x, y), expected, strict=True):
            np.testing.assert_array_equal(ours, wanted)


def test_only_the_branch_chosen_runs() -> None:
    def guarded(b: Any, flag: Any, x: Any, places: Any) -> Any:
        then = trace(lambda c, p, i: c.take(p, i, axis=0), x.type, places.type)
        orelse = trace(lambda c, p, i: c.slice(p, axes=(0,), starts=(0,), stops=(2,), steps=(1,)), x.type, places.type)
        return b.cond(flag, x, places, then=then, orelse=orelse)

    graph = graph_of(guarded, "bool[]", "f64[3]", "i64[2]")
    x, outside = np.arange(3.0), np.array([0, 7])
    np.testing.assert_array_equal(run(graph, np.array(False), x, outside)[0], [0, 1])
    with pytest.raises(UsageError, match="index 7 is out of range"):
        run(graph, np.array(True), x, outside)


def test_branches_that_disagree_are_refused_with_both_types() -> None:
    x = typed("f32[b,3]")
    same = trace(lambda c, p: p, x)
    longer = trace(lambda c, p: c.concat(p, p, axis=0), x)

    def cond(then: Graph, orelse: Graph, flag: str = "bool[]", *more: str) -> str:
        with pytest.raises(TypeRuleError) as caught:
            trace(lambda b, f, *p: b.cond(f, *p, then=then, orelse=orelse), typed(flag), x, *map(typed, more))
        return str(caught.value)

    assert "result 0 of then is f32[b,3], of orelse f32[2*b,3]" in cond(same, longer)
    assert "then gives 1 result(s), orelse 2" in cond(same, trace(lambda c, p: [p, p], x))
    assert "the predicate is bool[1], not bool[]" in cond(same, same, "bool[1]")
    assert "then takes 1 operand(s), it would be given 2" in cond(same, same, "bool[]", "f32[]")
    other = trace(lambda c, p: c.cast(p, dtype=x.dtype), typed("f16[b,3]"))
    assert "orelse takes x0: f16[b,3], it would be given f32[b,3]" in cond(same, other)


def test_results_equal_for_every_value_of_the_symbols_agree() -> None:
    x = typed("f32[2*s,3]")
    half = dim("s")
    then = trace(lambda c, p: c.reshape(p, shape=(half, 6)), x)
    orelse = trace(lambda c, p: c.reshape(p, shape=(dim("floordiv(2*s, 2)"), 6)), x)
    graph = trace(lambda b, f, p: b.cond(f, p, then=then, orelse=orelse), typed("bool[]"), x)
    assert [str(v.type) for v in graph.outputs] == ["f32[s,6]"]


def test_a_region_with_weights_of_its_own_does_not_verify() -> None:
    region = Graph()
    region.set_outputs([region.add_weight("w", ArrayWeight(np.zeros(3, np.float32)))])
    graph = trace(lambda b, f: b.cond(f, then=region, orelse=region), typed("bool[]"))
    with pytest.raises(VerifyError, match=r"of its own; pass (it|them) as"):
        verify(graph)


# ---- while_loop ----------------------------------------------------------------------------------------------


def powers(b: Any, count: Any, x: Any, factor: Any) -> Any:
    types = (count.type, x.type, factor.type)
    condition = trace(lambda c, i, p, f: c.less(i, 5), *types)
    body = trace(lambda c, i, p, f: [c.add(i, 1), c.mul(p, f)], *types)
    return b.while_loop(count, x, factor, condition=condition, body=body, invariants=1)


def test_a_while_loop_turns_as_long_as_its_condition_holds() -> None:
    graph = graph_of(powers, "i64[]", "f64[b]", "f64[b]")
    x, factor = RANDOM.standard_normal((2, 4))
    for start in (0, 3, 5, 9):
        count, result = run(graph, np.array(start), x, factor)
        assert count == max(start, 5)
        np.testing.assert_allclose(result, x * factor ** max(5 - start, 0), rtol=1e-14)


def test_a_while_loop_may_depend_on_the_data() -> None:
    def halved(b: Any, x: Any) -> Any:
        condition = trace(lambda c, p: c.greater(c.reduce_max(p, axes=(0,)), 1.0), x.type)
        return b.while_loop(x, condition=condition, body=trace(lambda c, p: c.mul(p, 0.5), x.type))

    graph = graph_of(halved, "f64[3]")
    np.testing.assert_array_equal(run(graph, np.array([9.0, 1.0, -64.0]))[0], [0.5625, 0.0625, -4.0])
    np.testing.assert_array_equal(run(graph, np.array([0.5, 1.0, 0.0]))[0], [0.5, 1.0, 0.0])


def test_a_state_that_changes_its_type_is_refused() -> None:
    x = typed("f32[b,3]")
    condition = trace(lambda c, p: c.const(True, typed("bool[]").dtype), x)
    doubled = trace(lambda c, p: c.concat(p, p, axis=0), x)
    with pytest.raises(TypeRuleError, match=r"result 0 of body is f32\[2\*b,3\], of the state f32\[b,3\]"):
        trace(lambda b, p: b.while_loop(p, condition=condition, body=doubled), x)
    with pytest.raises(TypeRuleError, match=r"the condition gives .*, not one bool"):
        trace(lambda b, p: b.while_loop(p, condition=trace(lambda c, p: p, x), body=trace(lambda c, p: p, x)), x)


# ---- scan ------------------------------------------------------------------------------------------------------


def filtered(reverse: bool) -> Any:
    """h ← h·w + x[t]; gives each h, and each x[t]·w."""

    def function(b: Any, h: Any, x: Any, w: Any) -> Any:
        element = x.type.with_shape(x.type.shape[1:])

        def body(c: Any, state: Any, seen: Any, factor: Any) -> Any:
            state = c.add(c.mul(state, factor), seen)
            return [state, state, c.mul(seen, factor)]

        region = trace(body, h.type, element, w.type)
        return b.scan(h, x, w, body=region, carries=1, invariants=1, length=x.type.shape[0], reverse=reverse)

    return function


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [1, 6])
def test_a_scan_is_the_loop_it_stands_for(length: int, reverse: bool) -> None:
    graph = graph_of(filtered(reverse), "f64[b]", "f64[s,b]", "f64[b]")
    assert [str(v.type) for v in graph.outputs] == ["f64[b]", "f64[s,b]", "f64[s,b]"]
    h, w, x = *RANDOM.standard_normal((2, 3)), RANDOM.standard_normal((length, 3))
    state, states = h, [h] * length
    for t in reversed(range(length)) if reverse else range(length):
        state = states[t] = state * w + x[t]
    for ours, expected in zip(run(graph, h, x, w), (state, np.stack(states), x * w), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-14)


def test_a_scan_over_nothing_gives_the_carries_and_empty_stacks_of_the_right_extents() -> None:
    graph = graph_of(filtered(False), "f64[b]", "f64[z,b]", "f64[b]")
    h, w = RANDOM.standard_normal((2, 3))
    state, states, products = run(graph, h, np.zeros((0, 3)), w)
    np.testing.assert_array_equal(state, h)
    assert states.shape == products.shape == (0, 3)


def test_a_scan_in_the_exact_field_agrees_with_whole_numbers() -> None:
    graph = graph_of(filtered(True), "f64[b]", "f64[s,b]", "f64[b]")
    arrays = [RANDOM.integers(-9, 9, s).astype(float) for s in ((3,), (5, 3), (3,))]
    for exact, plain in zip(run(graph, *arrays, arithmetic=FIELD), run(graph, *arrays), strict=True):
        np.testing.assert_array_equal(exact.levels[0], embed(plain).levels[0])


def test_loops_nest() -> None:
    def table(b: Any, rows: Any, columns: Any) -> Any:
        element = rows.type.with_shape(())

        def inner(c: Any, column: Any, row: Any) -> Any:
            return c.mul(column, row)

        def outer(c: Any, row: Any, all_columns: Any) -> Any:
            region = trace(inner, element, element)
            length = all_columns.type.shape[0]
            return c.scan(all_columns, row, body=region, carries=0, invariants=1, length=length)

        region = trace(outer, element, columns.type)
        return b.scan(rows, columns, body=region, carries=0, invariants=1, length=rows.type.shape[0])

    graph = graph_of(table, "f64[s]", "f64[b]")
    rows, columns = RANDOM.standard_normal(4), RANDOM.standard_normal(3)
    np.testing.assert_array_equal(run(graph, rows, columns)[0], np.outer(rows, columns))


def test_a_scan_that_cannot_be_is_refused_with_the_reason() -> None:
    body = trace(lambda c, h, x: [c.add(h, x), h], typed("f32[b]"), typed("f32[b]"))

    def scan(*types: str, **changes: Any) -> str:
        attributes = {"body": body, "carries": 1, "length": dim("s"), **changes}
        with pytest.raises(TypeRuleError) as caught:
            trace(lambda b, *x: b.scan(*x, **attributes), *map(typed, types))
        return str(caught.value)

    assert "the sequence f32[b,b] does not have the length s" in scan("f32[b]", "f32[b,b]")
    assert "body takes x1: f32[b], it would be given f32[7]" in scan("f32[b]", "f32[s,7]")
    assert "2 operand(s) for 3 carries and 0 invariants" in scan("f32[b]", "f32[s,b]", carries=3)
    assert "body takes 2 operand(s), it would be given 3" in scan("f32[b]", "f32[s,b]", "f32[s,b]")
    turned = trace(lambda c, h, x: [c.cast(h, dtype=typed("f16[]").dtype)], typed("f32[b]"), typed("f32[b]"))
    assert "result 0 of body is f16[b], of the carries f32[b]" in scan("f32[b]", "f32[s,b]", body=turned)
