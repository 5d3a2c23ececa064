"""What inputs are for, read off the graph; and the cases made from it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dragoman.ir.builder import Builder
from dragoman.ir.cases import Case, Style, digest, elements, plan_cases
from dragoman.ir.dims import Symbol
from dragoman.ir.errors import UsageError
from dragoman.ir.graph import Graph
from dragoman.ir.interpreter import run
from dragoman.ir.roles import InputRole, Kind, input_roles
from dragoman.ir.types import BOOL, F32, I32, I64, TensorType, parse_type
from dragoman.ir.weights import ArrayWeight

BATCH, SEQ = Symbol("batch", 1, 1024), Symbol("seq", 1, 77)
KNOWN = {"batch": BATCH, "seq": SEQ}


def graph(body: Callable[..., Any], **inputs: str) -> Graph:
    built = Graph()
    values = [built.add_input(parse_type(t, KNOWN), n) for n, t in inputs.items()]
    results = body(Builder(built), built, *values)
    built.set_outputs(list(results) if isinstance(results, tuple) else [results])
    return built


def role(body: Callable[..., Any], **inputs: str) -> InputRole:
    return input_roles(graph(body, **inputs))[0]


def table(g: Graph, rows: int) -> Any:
    return g.add_weight("table", ArrayWeight(np.ones((rows, 4), np.float32)))


def test_token_ids_stay_within_the_vocabulary() -> None:
    found = role(lambda b, g, ids: b.take(table(g, 30522), ids, axis=0), ids="i64[batch,seq]")
    assert found == InputRole("ids", "i64[batch,seq]", Kind.INDEX, 0, ("30521",))


def test_the_smallest_of_several_tables_holds_and_offsets_count() -> None:
    def body(b: Any, g: Graph, ids: Any) -> Any:
        narrow = b.cast(b.unsqueeze(ids, axes=(1,)), dtype=I32)
        shifted = b.add(narrow, b.const(2, I32))
        return b.take(table(g, 100), ids, axis=0), b.take(table(g, 9), shifted, axis=0)

    found = role(body, ids="i64[batch]")
    assert (found.kind, found.low, set(found.high)) == (Kind.INDEX, 0, {"99", "6"})


def test_an_index_into_a_dynamic_dimension_is_bounded_by_it() -> None:
    found = input_roles(graph(lambda b, g, x, i: b.take(x, i, axis=1), x="f32[batch,seq]", i="i64[3]"))[1]
    assert found.high == ("seq - 1",)
    (value,) = (Case({"batch": 2, "seq": 4}).inputs([found]),)
    assert value[0].max() == 3


def test_masks_are_told_by_their_dtype_their_name_and_what_is_asked_of_them() -> None:
    as_bool = role(lambda b, g, m: b.logical_not(m), keep="bool[batch,seq]")
    padding = role(lambda b, g, m: b.logical_not(m), src_key_padding_mask="bool[batch,seq]")
    by_name = role(lambda b, g, m: b.cast(m, dtype=F32), attention_mask="i64[batch,seq]")
    by_use = role(lambda b, g, m: b.not_equal(m, b.const(0, I64)), tokens="i64[batch,seq]")
    number = role(lambda b, g, m: b.mul(m, m), steps="i64[batch]")
    assert [r.kind for r in (as_bool, padding, by_name, by_use, number)] == [
        Kind.MASK,
        Kind.PADDING,
        Kind.MASK,
        Kind.MASK,
        Kind.COUNT,
    ]


def test_numbers_have_the_domain_of_what_is_computed_from_them() -> None:
    assert role(lambda b, g, x: b.log(b.reshape(x, shape=(6,))), x="f32[2,3]").kind is Kind.POSITIVE
    assert role(lambda b, g, x: b.asin(x), x="f32[3]").kind is Kind.UNIT
    assert role(lambda b, g, x: b.neg(x), pixels="f32[batch,3,32,32]").kind is Kind.IMAGE
    assert role(lambda b, g, x: b.neg(x), x="f32[batch,32]").kind is Kind.NORMAL
    query = "f32[batch,2,seq,8]"
    attention = graph(lambda b, g, q, m: b.attention(q, q, q, m), q=query, m="f32[batch,1,seq,seq]")
    assert input_roles(attention)[1].kind is Kind.BIAS


# ---- cases --------------------------------------------------------------------------------------------


def model() -> Graph:
    def body(b: Any, g: Graph, ids: Any, attention_mask: Any) -> Any:
        h = b.take(table(g, 50), ids, axis=0)
        return b.mul(h, b.unsqueeze(b.cast(attention_mask, dtype=F32), axes=(2,)))

    return graph(body, ids="i64[batch,seq]", attention_mask="i64[batch,seq]")


def test_each_dynamic_dimension_is_taken_odd_one_two_and_at_its_maximum() -> None:
    plan = plan_cases(model())
    sizes = [tuple(c.symbols.values()) for c in plan]
    assert sizes[:3] == [(3, 5), (1, 1), (2, 2)]
    assert (1, 5) in sizes
    assert (3, 1) in sizes
    assert sizes[-2:] == [(1024, 1), (1, 77)]
    assert plan[-1].label == "seq at its maximum"


def test_styles_follow_the_inputs() -> None:
    assert [c.style for c in plan_cases(model())[3:5]] == [Style.PADDED, Style.ZEROS]
    numbers = graph(lambda b, g, x: b.neg(x), x="f32[batch,8]")
    assert [c.style for c in plan_cases(numbers)[3:6]] == [Style.FAINT, Style.LARGE, Style.ZEROS]


def test_a_range_that_starts_above_one_is_respected() -> None:
    tall = Graph()
    x = tall.add_input(TensorType(F32, (Symbol("h", 33, 40).dim,)), "x")
    tall.set_outputs([x])
    sizes = [c.symbols["h"] for c in plan_cases(tall)]
    assert sizes[:3] == [35, 33, 34]
    assert sizes[-1] == 40


def test_a_static_model_has_each_case_once() -> None:
    plan = plan_cases(graph(lambda b, g, x: b.neg(x), x="f32[4]"), seeds=(0, 1, 2))
    assert [str(c) for c in plan] == ["typical", "faint", "large", "zeros", "typical, seed 1", "typical, seed 2"]


def test_what_the_user_gives_comes_first() -> None:
    x = np.ones(4, np.float32)
    plan = plan_cases(graph(lambda b, g, x: b.neg(x), x="f32[4]"), given=[[x]])
    assert plan[0].style is Style.GIVEN
    assert plan[0].inputs(())[0] is x


def test_the_same_case_gives_the_same_arrays_and_another_seed_others() -> None:
    roles = input_roles(model())
    case = Case({"batch": 3, "seq": 5})
    assert digest(case.inputs(roles)) == digest(case.inputs(roles))
    assert digest(case.inputs(roles)) != digest(Case({"batch": 3, "seq": 5}, seed=1).inputs(roles))
    ids, mask = case.inputs(roles)
    assert (ids.dtype, ids.shape, int(ids.max()), int(ids.min())) == (np.int64, (3, 5), 49, 0)
    assert set(np.unique(mask)) <= {0, 1}


def test_masks_have_padded_rows_and_in_their_own_style_an_empty_one() -> None:
    mask = input_roles(model())[1]
    sizes = {"batch": 64, "seq": 9}
    (typical,), (padded,), (zeros,) = (
        Case(sizes, s).inputs([mask]) for s in (Style.TYPICAL, Style.PADDED, Style.ZEROS)
    )
    assert typical[:2].sum(axis=1).tolist() == [9, 5]
    assert typical.any(axis=1).all()
    assert not typical.all()
    assert (np.diff(typical, axis=1) <= 0).all()
    assert not padded[-1].any()
    assert zeros.all()


@pytest.mark.parametrize(
    ("kind", "type", "low", "high"),
    [
        (Kind.POSITIVE, "f32[batch,20]", 0.25, 4.0),
        (Kind.UNIT, "f64[batch,20]", -0.95, 0.95),
        (Kind.COUNT, "i32[batch,20]", 1, 7),
        (Kind.IMAGE, "f32[batch,3,16,16]", -2.0, 2.45),
    ],
)
def test_arrays_stay_within_their_kind(kind: Kind, type: str, low: float, high: float) -> None:
    (made,) = Case({"batch": 3}).inputs([InputRole("x", type, kind)])
    assert str(made.dtype) == {"f32": "float32", "f64": "float64", "i32": "int32"}[type[:3]]
    assert low <= made.min() < made.max() <= high


def test_large_faint_and_zero_numbers_are_what_they_say() -> None:
    x = InputRole("x", "f32[batch,50]", Kind.NORMAL)

    def size(style: Style) -> Any:
        return np.abs(Case({"batch": 3}, style).inputs([x])[0]).mean(axis=1)

    assert (size(Style.LARGE) / size(Style.TYPICAL)).round(3).tolist() == [64.0] * 3
    assert np.log2(size(Style.FAINT) / size(Style.TYPICAL)).round(3).tolist() == [-8, -24, -44]
    assert size(Style.ZEROS).tolist() == [0, 0, 0]
    special = Case({"batch": 3}, Style.SPECIAL).inputs([x])[0]
    assert (np.isnan(special).sum(), np.isposinf(special).sum(), np.isneginf(special).sum()) == (1, 1, 1)


def test_a_bias_is_zero_where_a_place_counts_and_minus_infinity_elsewhere() -> None:
    (bias,) = Case({"batch": 8}, Style.PADDED).inputs([InputRole("m", "f32[batch,6]", Kind.BIAS)])
    assert set(np.unique(bias)) == {0.0, -math.inf}
    assert np.isneginf(bias[-1]).all()


def test_every_planned_case_runs() -> None:
    g = model()
    roles = input_roles(g)
    for case in plan_cases(g):
        (result,) = run(g, *case.inputs(roles))
        assert result.shape == (case.symbols["batch"], case.symbols["seq"], 4)


def test_the_cost_estimate_counts_the_elements_of_all_values() -> None:
    g = graph(lambda b, g, x: b.neg(b.concat(x, x, axis=0)), x="f32[batch,8]")
    assert elements(g, {"batch": 5}) == 2 * 2 * 5 * 8


def test_a_symbol_without_a_size_is_refused() -> None:
    with pytest.raises(UsageError, match="needs a value for batch"):
        Case({}).inputs([InputRole("x", "f32[batch]", Kind.NORMAL)])


def test_booleans_and_text_have_arrays_too() -> None:
    flags, words = Case({"n": 5}).inputs([InputRole("m", "bool[n]", Kind.MASK), InputRole("t", "string[n]", Kind.TEXT)])
    assert flags.dtype == BOOL.numpy
    assert all(isinstance(w, str) for w in words)
