"""Constants over the finite field: equal where they mean the same number, different where a digit is wrong."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from dragoman.ir.arithmetic import FLOAT64, NATIVE, Inexact
from dragoman.ir.builder import trace
from dragoman.ir.field import FIELD, embed
from dragoman.ir.interpreter import run
from dragoman.ir.residues import GENERATORS, PRIMES
from dragoman.ir.types import BF16, F16, F32, F64, parse_type

X = embed(np.random.default_rng(5).standard_normal(20))


def same(a: Any, b: Any) -> bool:
    left, right = embed(a), embed(b)
    return all(np.array_equal(x, y) for x, y in zip(left.levels, right.levels, strict=True))


def short(number: float) -> float:
    return float(np.float32(number))


def test_dividing_by_a_number_is_multiplying_by_its_inverse_in_any_precision() -> None:
    assert same(X / math.sqrt(2.0), X * math.sqrt(0.5))
    wrong: list[float] = []
    for number in [*(math.sqrt(d) for d in range(2, 2000)), *(d / 10 for d in range(1, 200))]:
        pairs = [(d, f) for d in (number, short(number)) for f in (1 / number, short(1 / number), 1 / short(number))]
        if not all(same(embed(divisor) * embed(factor), 1.0) for divisor, factor in pairs):
            wrong.append(number)
    assert wrong == []


def test_the_primes_are_a_chain_in_which_small_numbers_have_roots() -> None:
    for large, small in itertools.pairwise(PRIMES):
        assert large == 2 * small + 1
    for p in PRIMES:
        assert all(pow(a, p - 1, p) == 1 for a in (2, 3, 5))
        assert p % 8 == 7
        assert p < 2**31
        assert all(pow(n, (p - 1) // 2, p) == 1 for n in range(1, 19))
    for generator, p, order in zip(GENERATORS, PRIMES, PRIMES[1:], strict=False):
        assert generator != 1
        assert pow(generator, order, p) == 1


def test_roots_of_fractions_multiply_as_roots() -> None:
    assert same(embed(math.sqrt(2.0)) * embed(math.sqrt(3.0)), math.sqrt(6.0))
    assert same(embed(math.sqrt(0.5)) * embed(math.sqrt(8.0)), 2.0)
    assert same(embed(math.sqrt(1 / 96)) * embed(math.sqrt(1 / 96)), 1 / 96)
    assert same(-embed(math.sqrt(2.0)), embed(-math.sqrt(2.0)))
    assert same(FIELD.sqrt(embed(2.0)), math.sqrt(2.0))


def test_decimals_are_fractions() -> None:
    assert same(embed(0.1) * 10, 1.0)
    assert same(embed(1e-5) * 100000, 1.0)
    assert same(embed(0.1) + embed(0.2), embed(0.3))
    assert same(embed(1.0 / 6.0) * 6, 1.0)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [(1e-5, 1.1e-5), (math.sqrt(2.0), 1.41421), (0.044715, 0.04471), (1.702, 1.7), (0.1, 0.100001), (1.0, 1.000001)],
)
def test_a_wrong_digit_is_another_number(right: float, wrong: float) -> None:
    assert not np.any(embed(right).levels[0] == embed(wrong).levels[0])
    assert same(right, short(right))


def test_whole_numbers_and_arrays_are_exact() -> None:
    assert same(embed(float(2**60 + 2**20)), embed(np.array([2**60 + 2**20]))[0])
    assert not same(embed(np.array([0.1]))[0], embed(0.1))
    assert same(embed(np.array([0.1]))[0] * 2**55, embed(np.array([3602879701896397]))[0])


def test_infinity_and_nan_are_no_numbers() -> None:
    for number in (math.inf, -math.inf, math.nan):
        with pytest.raises(Inexact, match="infinity or NaN"):
            embed(number)


@pytest.mark.parametrize("dtype", [F16, BF16, F32, F64], ids=str)
def test_a_constant_is_the_number_as_written_and_only_the_native_arithmetic_rounds_it(dtype: Any) -> None:
    graph = trace(lambda b, x: b.mul(x, 0.1), parse_type(f"{dtype}[1]"))
    one = np.ones(1, dtype.numpy)
    assert run(graph, one)[0][0] == 0.1
    assert run(graph, one, arithmetic=NATIVE)[0][0] == dtype.numpy.type(0.1)
    assert same(run(graph, one, arithmetic=FIELD)[0], embed(0.1) * embed(np.ones(1)))
    assert FLOAT64.constant(1e6, F16) == math.inf


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("expm1", lambda x: FIELD.exp(x) - 1),
        ("log1p", lambda x: FIELD.log(1 + x)),
        ("erfc", lambda x: 1 - FIELD.special("erf", x)),
        ("tanh", lambda x: (FIELD.exp(x) - FIELD.exp(-x)) / (FIELD.exp(x) + FIELD.exp(-x))),
        ("tanh", lambda x: FIELD.special("sinh", x) / FIELD.special("cosh", x)),
        ("tan", lambda x: FIELD.special("sin", x) / FIELD.special("cos", x)),
    ],
)
def test_functions_that_are_made_of_others_keep_their_identities(name: str, formula: Any) -> None:
    assert np.array_equal(FIELD.special(name, X).levels[0], formula(X).levels[0])


def test_odd_functions_stay_odd() -> None:
    for name in ("erf", "sin", "tanh", "sinh", "tan", "arctan", "erfinv", "rint", "trunc"):
        assert np.array_equal(FIELD.special(name, -X).levels[0], (-FIELD.special(name, X)).levels[0]), name
