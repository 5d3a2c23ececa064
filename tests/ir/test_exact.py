"""Proof A: what it proves, what it catches that a tolerance would pass, and what it leaves undecided."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dragoman.ir.builder import trace
from dragoman.ir.exact import Outcome, prove_exact, with_input_types
from dragoman.ir.graph import Graph
from dragoman.ir.types import F32, I64, parse_type


def graph(function: Callable[..., Any], *types: str) -> Graph:
    return trace(function, *(parse_type(t) for t in types))


def outcome(before: Callable[..., Any], after: Callable[..., Any], *types: str, seed: int = 0) -> Outcome:
    return prove_exact(graph(before, *types), graph(after, *types), seed=seed).outcome


@pytest.mark.parametrize(
    ("before", "after", "types"),
    [
        pytest.param(
            lambda b, x, y: b.matmul(b.matmul(x, y), x),
            lambda b, x, y: b.matmul(x, b.matmul(y, x)),
            ("f32[5,5]", "f32[5,5]"),
            id="a product of matrices re-associated",
        ),
        pytest.param(
            lambda b, x: b.softmax(x, axis=1),
            lambda b, x: b.div(e := b.exp(x), b.reduce_sum(e, axes=(1,), keepdims=True)),
            ("f32[batch,6]",),
            id="a softmax without its maximum",
        ),
        pytest.param(
            lambda b, x: b.silu(x),
            lambda b, x: b.div(x, b.add(b.exp(b.neg(x)), 1.0)),
            ("f32[4]",),
            id="silu spelled out",
        ),
        pytest.param(
            lambda b, x, i: b.take(b.mul(x, 2.0), i, axis=0),
            lambda b, x, i: b.mul(b.take(x, i, axis=0), 2.0),
            ("f32[7,3]", "i64[n]"),
            id="a scale moved through a gather",
        ),
        pytest.param(
            lambda b, x: b.reduce_mean(x, axes=(1,)),
            lambda b, x: b.mul(b.reduce_sum(x, axes=(1,)), 0.25),
            ("f32[batch,4]",),
            id="a mean as a scaled sum",
        ),
    ],
)
def test_regions_that_are_equal_over_the_reals_are_proved(
    before: Callable[..., Any], after: Callable[..., Any], types: tuple[str, ...]
) -> None:
    assert outcome(before, after, *types) is Outcome.EQUAL
    assert outcome(before, after, *types, seed=5) is Outcome.EQUAL


def _norm(epsilon: float) -> Callable[..., Any]:
    def build(b: Any, x: Any) -> Any:
        return b.layer_norm(x, axis=-1, epsilon=epsilon)

    return build


@pytest.mark.parametrize(
    ("before", "after", "types"),
    [
        pytest.param(_norm(1e-5), _norm(1.1e-5), ("f32[3,8]",), id="an epsilon of 1.1e-5 for 1e-5"),
        pytest.param(_norm(1e-5), _norm(1.000001e-5), ("f32[3,8]",), id="an epsilon off in the sixth digit"),
        pytest.param(
            lambda b, x: b.mul(x, 1.4142135), lambda b, x: b.mul(x, 1.414213), ("f32[4]",), id="a truncated root of 2"
        ),
        pytest.param(
            lambda b, x: b.gelu(x), lambda b, x: b.gelu(x, approximate="tanh"), ("f32[4]",), id="gelu by tanh"
        ),
        pytest.param(
            lambda b, x: b.maximum(x, 0.0), lambda b, x: b.minimum(x, 0.0), ("f32[9]",), id="minimum for maximum"
        ),
        pytest.param(
            lambda b, x: b.transpose(x, perm=(1, 0)),
            lambda b, x: b.reshape(x, shape=(9, 9)),
            ("f32[9,9]",),
            id="a reshape for a transpose of a square",
        ),
        pytest.param(
            lambda b, x, y: b.add(x, y), lambda b, x, y: b.mul(x, y), ("i64[20]", "i64[20]"), id="integers multiplied"
        ),
        pytest.param(
            lambda b, x, i: b.take(x, i, axis=0),
            lambda b, x, i: b.take(x, b.minimum(i, b.const(5, I64)), axis=0),
            ("f32[7,3]", "i64[40]"),
            id="the last row of a table never read",
        ),
    ],
)
def test_small_mistakes_that_a_tolerance_would_pass_are_caught(
    before: Callable[..., Any], after: Callable[..., Any], types: tuple[str, ...]
) -> None:
    assert outcome(before, after, *types) is Outcome.DIFFERENT


def test_the_reason_tells_how_many_elements_differ_and_of_which_output() -> None:
    before = graph(lambda b, x: (b.neg(x), b.add(x, 1.0)), "f32[6]")
    after = graph(lambda b, x: (b.neg(x), b.add(x, 2.0)), "f32[6]")
    result = prove_exact(before, after)
    assert result.outcome is Outcome.DIFFERENT
    assert result.reason == "output1: 6 of 6 elements differ over the field"
    assert result.shapes == ((6,),)


def test_what_the_field_cannot_express_is_undecided_with_the_reason() -> None:
    rounding = graph(lambda b, x: b.cast(x, dtype=I64), "f32[4]")
    result = prove_exact(rounding, rounding)
    assert result.outcome is Outcome.UNDECIDED
    assert "rounds" in result.reason
    infinite = graph(lambda b, x: b.add(x, b.const(float("-inf"), F32)), "f32[4]")
    assert prove_exact(infinite, infinite).outcome is Outcome.UNDECIDED


def test_an_op_that_fails_over_the_field_is_undecided_not_an_error() -> None:
    before = graph(lambda b, x: b.div(x, b.sub(x, x)), "f32[4]")
    result = prove_exact(before, before)
    assert result.outcome is Outcome.UNDECIDED
    assert "division by zero" in result.reason


def test_another_number_of_outputs_is_different() -> None:
    before, after = graph(lambda b, x: (x, x), "f32[2]"), graph(lambda b, x: x, "f32[2]")
    before.set_outputs([before.inputs[0]])
    after.set_outputs([after.inputs[0], after.inputs[0]], ["a", "b"])
    assert prove_exact(before, after).outcome is Outcome.DIFFERENT


def test_large_extents_are_shrunk_where_both_sides_allow_it() -> None:
    def before(b: Any, x: Any, y: Any) -> Any:
        return b.matmul(x, y)

    result = prove_exact(
        graph(before, "f32[4096,1024]", "f32[1024,2048]"), graph(before, "f32[4096,1024]", "f32[1024,2048]")
    )
    assert result.outcome is Outcome.EQUAL
    assert result.shapes == ((3, 3), (3, 3))


def test_extents_that_attributes_pin_are_kept() -> None:
    def before(b: Any, x: Any) -> Any:
        return b.reshape(x, shape=(32, 2))

    assert prove_exact(graph(before, "f32[64]"), graph(before, "f32[64]")).shapes == ((64,),)


def test_an_instance_that_cannot_be_made_small_is_undecided() -> None:
    def before(b: Any, x: Any) -> Any:
        return b.reshape(b.neg(x), shape=(4096, 1024))

    result = prove_exact(graph(before, "f32[4194304]"), graph(before, "f32[4194304]"))
    assert result.outcome is Outcome.UNDECIDED
    assert "too large" in result.reason


def test_symbols_that_occur_only_within_expressions_are_given_sizes() -> None:
    def before(b: Any, x: Any) -> Any:
        return b.reshape(x, shape=(x.type.shape[0] // 2, 2))

    pair = parse_type("f32[2*seq]")
    result = prove_exact(trace(before, pair), trace(before, pair))
    assert result.outcome is Outcome.EQUAL
    assert result.shapes == ((4,),)


def test_given_values_are_used_in_place_of_random_ones() -> None:
    before = graph(lambda b, x, w: b.mul(x, w), "f32[3]", "f32[3]")
    after = graph(lambda b, x, w: x, "f32[3]", "f32[3]")
    after.set_outputs([after.inputs[0]])
    assert prove_exact(before, after).outcome is Outcome.DIFFERENT
    assert prove_exact(before, after, fixed={1: np.ones(3, np.float32)}).outcome is Outcome.EQUAL


def test_a_type_that_no_longer_fits_gives_no_graph() -> None:
    before = graph(lambda b, x, y: b.matmul(x, y), "f32[3,4]", "f32[4,5]")
    assert with_input_types(before, [parse_type("f32[3,4]"), parse_type("f32[3,5]")]) is None
    retyped = with_input_types(before, [parse_type("f32[7,4]"), parse_type("f32[4,5]")])
    assert retyped is not None
    assert str(retyped.outputs[0].type) == "f32[7,5]"


def test_regions_with_symbols_in_their_types_are_proved_at_sizes_of_all_of_them() -> None:
    body = trace(lambda b, total, x: [b.add(total, x)], *map(parse_type, ("f32[batch,3]", "f32[batch,3]")))

    def loop(b: Any, start: Any, xs: Any) -> Any:
        return b.scan(start, xs, body=body, carries=1, length=4)

    graph = trace(loop, *map(parse_type, ("f32[batch,3]", "f32[4,batch,3]")))
    at_two = with_input_types(graph, [parse_type("f32[2,3]"), parse_type("f32[4,2,3]")])
    assert at_two is not None
    assert str(at_two.outputs[0].type) == "f32[2,3]"
    assert prove_exact(graph, graph).outcome is Outcome.EQUAL
