"""torch's size expressions as dims, and conditions on sizes judged for all of them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest
import sympy
from torch.utils._sympy.functions import (
    CeilToInt,
    CleanDiv,
    FloorDiv,
    FloorToInt,
    IntTrueDiv,
    Max,
    Min,
    Mod,
    ModularIndexing,
    PythonMod,
    ToFloat,
    TruncToInt,
)

from dragoman.frontends.pytorch.conditions import Allowed, Condition, allowed, conjuncts, counterexample
from dragoman.frontends.pytorch.symints import Symbols
from dragoman.ir.dims import Symbol, evaluate
from dragoman.ir.errors import Unsupported

S0 = sympy.Symbol("s0", integer=True, positive=True)
S1 = sympy.Symbol("s1", integer=True, positive=True)
U0 = sympy.Symbol("u0", integer=True)


def known(**ranges: tuple[int, int]) -> Symbols:
    dims = Symbols(frozenset({"h", "w"}))
    for symbol, name in ((S0, "h"), (S1, "w")):
        dims.bind(symbol, Symbol(name, *ranges.get(name, (1, 100000))).dim)
    return dims


EXPRESSIONS: list[Any] = [
    3 * S0 * S1 - 2 * S0 + 7,
    S0**3 - S1**2,
    FloorDiv(S0 + 3, 4) * 2,
    FloorDiv(-S0 - 1, -2),
    -FloorDiv(-S0, 3),
    FloorDiv(FloorDiv(S0 - 1, 2) + 1, 2),
    CleanDiv(6 * S0, 3),
    Mod(S0, 7) + PythonMod(S1, 5),
    ModularIndexing(S0, 3, 5),
    Max(S0, S1, 9) - Min(S0, 12),
    CeilToInt(IntTrueDiv(S0, 3)),
    FloorToInt(IntTrueDiv(2 * S0, 5)),
    TruncToInt(sympy.Float(1.5) * ToFloat(S0)),
]


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=str)
def test_an_expression_is_the_same_number_as_a_dim(expression: Any) -> None:
    dim = known().dim(expression)
    source = random.Random(1)
    for _ in range(200):
        h, w = source.randint(1, 5000), source.randint(1, 5000)
        expected = int(expression.xreplace({S0: sympy.Integer(h), S1: sympy.Integer(w)}))
        assert evaluate(dim, {"h": h, "w": w}) == expected


def test_equal_expressions_are_equal_dims() -> None:
    dims = known()
    assert dims.dim(2 * (S0 + 1) - 2) == dims.dim(S0 + S0)
    assert str(dims.dim(FloorDiv(4 * S0 + 3, 2))) == "2*h + 1"


@pytest.mark.parametrize(
    "expression",
    [
        S0 ** sympy.Rational(1, 2),
        TruncToInt(sympy.Float(0.1234567890123) * ToFloat(S0)),
        FloorToInt(sympy.Float(0.7) * ToFloat(S0)),  # 190 · 0.7 is below 133 in floating point
        2**S0,
    ],
)
def test_a_size_that_no_dim_can_express_is_refused(expression: Any) -> None:
    with pytest.raises(Unsupported, match="size"):
        known().dim(expression)


def test_unknown_symbols_get_names_of_their_own() -> None:
    dims = Symbols(frozenset({"n0"}), lambda symbol: (0, 64))
    assert str(dims.dim(U0 + 1)) == "n1 + 1"
    assert dims.dim(U0) == Symbol("n1", 0, 64).dim


def test_a_value_read_from_a_tensor_is_refused_as_a_size_once() -> None:
    dims = known()
    dims.forbid(U0, "model.py:3")
    with pytest.raises(Unsupported, match=r"taken from the values of a tensor \(model\.py:3\)"):
        dims.dim(U0)
    assert str(dims.dim(U0)) == "n0"


# ---- conditions ------------------------------------------------------------------------------------------------


def condition(expression: Any, **ranges: tuple[int, int]) -> Condition:
    return Condition(expression, known(**ranges))


def symbols(**ranges: tuple[int, int]) -> Mapping[str, Symbol]:
    return {n: Symbol(n, *r) for n, r in ranges.items()}


def test_interval_arithmetic_proves_what_it_can() -> None:
    assert condition(sympy.Le(S0, 512), h=(1, 512)).proven()
    assert not condition(sympy.Le(S0, 512), h=(1, 513)).proven()
    assert condition(sympy.Ne(S0, 0)).proven()
    assert condition(sympy.Eq(2 * S0, S0 + S0)).proven()
    assert condition(sympy.Gt(FloorDiv(S0, 4), 0), h=(4, 9)).proven()
    assert str(condition(sympy.Le(S0, 512))) == "h ≤ 512"


def test_a_counterexample_is_found_or_none_exists() -> None:
    failing = counterexample(condition(sympy.Ne(FloorDiv(S0 - 1, 32) + 1, 3)), symbols(h=(1, 4096)), {"h": 224})
    assert failing is not None
    assert (failing["h"] - 1) // 32 == 2
    always = condition(sympy.Ge(FloorDiv(S0 + 1, 2) + FloorDiv(S0, 2), S0))
    assert counterexample(always, symbols(h=(1, 10**6)), {"h": 7}) is None
    both = counterexample(condition(sympy.Ne(S0 * S1, 1)), symbols(h=(1, 9), w=(1, 9)), {"h": 3, "w": 4})
    assert both == {"h": 1, "w": 1}


@pytest.mark.parametrize(
    ("expression", "example", "expected"),
    [
        (sympy.Le(S0, 512), 16, Allowed(1, 512)),
        (sympy.Gt(S0, 20), 30, Allowed(21, 10**6)),
        (sympy.Ge(FloorDiv(FloorDiv(S0, 2) - 2, 2), 1), 32, Allowed(8, 10**6)),
        (sympy.Eq(Mod(S0, 32), 0), 224, Allowed(1, 10**6, 32, 0)),
        (sympy.Eq(Mod(S0, 8), 3), 19, Allowed(1, 10**6, 8, 3)),
        (sympy.Eq(S0, 8 * FloorDiv(S0, 8)), 32, Allowed(1, 10**6, 8, 0)),
        (sympy.Eq(S0, 7), 7, Allowed(7, 7)),
        (sympy.And(S0 > 3, S0 < 10), 5, Allowed(4, 9)),
    ],
    ids=str,
)
def test_the_sizes_at_which_a_condition_holds(expression: Any, example: int, expected: Allowed) -> None:
    found = condition(expression, h=(1, 10**6))
    assert allowed(found, Symbol("h", 1, 10**6), example) == expected


def test_a_conjunction_is_judged_part_by_part() -> None:
    parts = list(conjuncts(sympy.And(S0 > 1, sympy.And(S1 > 2, sympy.Not(sympy.Or(S0 > 9, S1 > 9))))))
    assert set(parts) == {S0 > 1, S1 > 2, S0 <= 9, S1 <= 9}


def test_a_condition_on_real_numbers_is_tried() -> None:
    found = condition(sympy.Lt(IntTrueDiv(S0, S1), sympy.Float(1.5)))
    assert found.holds({"h": 2, "w": 2})
    assert not found.holds({"h": 4, "w": 2})
    assert not found.proven()
