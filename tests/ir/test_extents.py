"""Extents that follow from others, for numbers and for symbols."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.ir.dims import Dim, evaluate
from dragoman.ir.errors import TypeRuleError
from dragoman.ir.extents import exact_quotient, infer_dim, resolve_shape, slice_bounds
from tests.ir.one_op import dim


@pytest.mark.parametrize(
    ("total", "known", "expected"),
    [
        ("24", ["2", "3"], "4"),
        ("0", ["5"], "0"),
        ("12*b*s", ["b", "4"], "3*s"),
        ("768*b*s", ["b", "s", "12"], "64"),
        ("b*s + b", ["s + 1"], "b"),
        ("b*s*s - b", ["b", "s + 1"], "s - 1"),
        ("4*s*s + 4*s + 1", ["2*s + 1"], "2*s + 1"),
        ("2*b*floordiv(s, 2)", ["2", "b"], "floordiv(s, 2)"),
        ("z*b", ["b"], "z"),
        ("b*max(s, 7)", ["b"], "max(7, s)"),
    ],
)
def test_the_open_extent_is_the_exact_quotient(total: str, known: list[str], expected: str) -> None:
    assert infer_dim(dim(total), [dim(k) for k in known]) == dim(expected)


@pytest.mark.parametrize(
    ("total", "known", "message"),
    [
        ("7", ["2"], "7 elements are not a multiple of 2"),
        ("7*b", ["2"], "7*b elements are not a multiple of 2 for every value of their symbols"),
        ("b", ["s"], "b elements are not a multiple of s"),
        ("b*s + 1", ["s + 1"], "b*s + 1 elements are not a multiple of s + 1"),
        ("b*s", ["b", "0"], "an extent that makes b*s elements with one of 0 is not determined"),
    ],
)
def test_an_open_extent_without_an_exact_value_is_refused(total: str, known: list[str], message: str) -> None:
    with pytest.raises(TypeRuleError) as refused:
        infer_dim(dim(total), [dim(k) for k in known])
    assert message in str(refused.value)


def polynomials() -> st.SearchStrategy[Dim]:
    atom = st.sampled_from([dim("b"), dim("s"), dim("floordiv(h, 3)"), dim("1")])
    term = st.tuples(st.integers(-4, 4), atom, atom).map(lambda t: t[1] * t[2] * t[0])
    return st.lists(term, min_size=1, max_size=3).map(lambda terms: sum(terms[1:], terms[0]))


@given(polynomials(), polynomials())
def test_a_product_divides_by_each_factor(a: Dim, b: Dim) -> None:
    if isinstance(b, int) and b == 0:
        assert exact_quotient(a, b) is None
    else:
        assert exact_quotient(a * b, b) == a


@given(polynomials(), polynomials())
def test_a_quotient_times_the_divisor_is_the_dividend(a: Dim, b: Dim) -> None:
    quotient = exact_quotient(a, b)
    assert quotient is None or quotient * b == a


def test_minus_one_is_resolved_wherever_it_stands() -> None:
    assert resolve_shape(dim("12*b*s"), (dim("b"), -1, 4)) == (dim("b"), dim("3*s"), 4)
    assert resolve_shape(dim("12*b*s"), (-1, 6)) == (dim("2*b*s"), 6)
    assert resolve_shape(10, (2, 5)) == (2, 5)
    with pytest.raises(TypeRuleError, match=r"more than one extent of \[-1,-1\] is left open"):
        resolve_shape(10, (-1, -1))


def test_slice_bounds_of_numbers_are_python_s() -> None:
    bounds = [None, *range(-7, 8), 2**63 - 1]
    for extent, start, stop in itertools.product((0, 1, 5), bounds, bounds):
        expected = list(range(extent))[start:stop]
        first, last = slice_bounds(start, stop, extent)
        assert 0 <= first <= last <= extent
        assert list(range(extent))[first:last] == expected


@pytest.mark.parametrize(("start", "stop"), [(None, None), (-2, None), (None, -1), (1, 4), (-5, -2), (3, 2**63 - 1)])
def test_slice_bounds_of_a_symbolic_extent_hold_for_each_of_its_values(start: int | None, stop: int | None) -> None:
    first, last = slice_bounds(start, stop, dim("s"))
    for s in range(1, 9):
        kept = list(range(s))[start:stop]
        assert list(range(s))[evaluate(first, {"s": s}) : evaluate(last, {"s": s})] == kept
        assert evaluate(last - first, {"s": s}) == len(kept)


def test_bounds_that_cannot_leave_the_extent_stay_plain() -> None:
    assert slice_bounds(None, None, dim("s")) == (0, dim("s"))
    assert slice_bounds(None, -1, dim("s")) == (0, dim("s - 1"))
    assert slice_bounds(1, None, dim("s")) == (1, dim("s"))
    assert slice_bounds(-2, None, dim("h")) == (dim("h - 2"), dim("h"))
    assert slice_bounds(dim("s"), dim("s + 1"), 1024) == (dim("s"), dim("s + 1"))
