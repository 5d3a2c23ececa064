"""Proof B: agreement in float64 to its rounding, and no worse rounding than the original, tile by tile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dragoman.ir.builder import trace
from dragoman.ir.local import TILE, LocalResult, check_local, rounding_unit, special_values_differ, tile_maximum
from dragoman.ir.types import BF16, C64, F16, F32, F64, I64, parse_type

RNG = np.random.default_rng(3)


def check(before: Callable[..., Any], after: Callable[..., Any], *inputs: Any, dtype: str = "f32") -> LocalResult:
    arrays = [np.asarray(x) for x in inputs]
    types = [parse_type(f"{dtype if x.dtype.kind in 'fV' else 'i64'}[{','.join(map(str, x.shape))}]") for x in arrays]
    return check_local(
        trace(before, *types),
        trace(after, *types),
        [x.astype(t.dtype.numpy) for x, t in zip(arrays, types, strict=True)],
    )


def test_a_sum_in_another_order_is_accepted() -> None:
    x = RNG.standard_normal((4, 3000))
    result = check(
        lambda b, x: b.reduce_sum(x, axes=(1,)),
        lambda b, x: b.reduce_sum(b.reduce_sum(b.reshape(x, shape=(4, 30, 100)), axes=(1,)), axes=(1,)),
        x,
    )
    assert result.ok, result.reason


def test_a_product_of_matrices_reassociated_is_accepted() -> None:
    a, b_, c = (RNG.standard_normal((64, 64)) for _ in range(3))
    result = check(
        lambda b, x, y, z: b.matmul(b.matmul(x, y), z), lambda b, x, y, z: b.matmul(x, b.matmul(y, z)), a, b_, c
    )
    assert result.ok, result.reason


@pytest.mark.parametrize("factor", [1.0 + 1e-7, 1.01])
def test_a_wrong_constant_is_refused_however_little_it_changes(factor: float) -> None:
    result = check(lambda b, x: b.mul(x, 0.7), lambda b, x: b.mul(x, 0.7 * factor), RNG.standard_normal(500))
    assert not result.ok
    assert "float64 results differ by" in result.reason


def test_a_huge_number_that_passes_by_does_not_hide_a_mistake() -> None:
    x = RNG.standard_normal((2, 6))
    mask = np.where(np.arange(6) < 4, 0.0, np.finfo(np.float32).min)

    def masked(scale: float) -> Callable[..., Any]:
        return lambda b, x, m: b.softmax(b.add(b.mul(x, scale), m), axis=1)

    assert check(masked(1.0), masked(1.0), x, mask).ok
    assert not check(masked(1.0), masked(1.0001), x, mask).ok


def test_a_mistake_in_small_elements_is_not_hidden_by_large_ones_elsewhere() -> None:
    x = np.concatenate([np.full(TILE, 1e12), np.ones(TILE)])
    wrong = np.concatenate([np.ones(TILE), np.full(TILE, 1.0 + 1e-6)])

    def scaled(b: Any, x: Any, y: Any) -> Any:
        return b.mul(x, y)

    result = check(lambda b, x, y: b.mul(x, 1.0), scaled, x, wrong)
    assert not result.ok


def test_a_rewrite_that_rounds_worse_is_refused_though_it_is_equal_over_the_reals() -> None:
    x = RNG.standard_normal((8, 100)) + 30.0

    def two_passes(b: Any, x: Any) -> Any:
        return b.variance(x, axes=(1,), correction=0.0)

    def by_squares(b: Any, x: Any) -> Any:
        return b.sub(b.reduce_mean(b.square(x), axes=(1,)), b.square(b.reduce_mean(x, axes=(1,))))

    result = check(two_passes, by_squares, x)
    assert not result.ok
    assert "in f32, that of the original is" in result.reason
    assert result.error_after > 100 * result.error_before


def test_an_overflow_that_the_original_does_not_have_is_refused() -> None:
    x = np.array([1e20, -1e20, 1.0])
    result = check(lambda b, x: b.abs(x), lambda b, x: b.sqrt(b.mul(x, x)), x)
    assert not result.ok
    assert "overflows f32" in result.reason


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinities_must_stay_where_they_are(value: float) -> None:
    x = np.array([1.0, value, 3.0])
    assert check(lambda b, x: b.add(x, 1.0), lambda b, x: b.sub(x, -1.0), x).ok
    dropped = check(
        lambda b, x: b.neg(x), lambda b, x: b.neg(b.where(b.equal(x, x), b.clip(x, low=-9.0, high=9.0), 0.0)), x
    )
    assert not dropped.ok
    assert "is lost" in dropped.reason


def test_integers_must_be_equal() -> None:
    n = np.arange(-5, 5)
    result = check(lambda b, n: b.div(n, b.const(3, I64)), lambda b, n: b.floor_divide(n, b.const(3, I64)), n)
    assert result.reason == "output0: 4 of 10 elements differ"


def test_a_change_of_shape_or_number_of_results_is_refused() -> None:
    x = np.ones((2, 3))
    assert (
        "shape [2, 3] became [3, 2]" in check(lambda b, x: b.neg(x), lambda b, x: b.transpose(x, perm=(1, 0)), x).reason
    )
    assert check(lambda b, x: (b.neg(x), b.abs(x)), lambda b, x: b.neg(x), x).reason == "2 results became 1"


def test_a_region_that_does_not_run_is_refused_and_says_which() -> None:
    table, rows = np.ones((3, 2)), np.array([5])
    result = check(lambda b, x, i: b.take(x, i, axis=0), lambda b, x, i: b.take(x, i, axis=0), table, rows)
    assert not result.ok
    assert result.reason.startswith("the original region does not run: UsageError: index 5")


def test_half_precision_is_judged_by_its_own_unit() -> None:
    x = RNG.standard_normal((4, 256))
    again = check(
        lambda b, x: b.reduce_sum(x, axes=(1,)),
        lambda b, x: b.reduce_sum(b.flip(x, axes=(1,)), axes=(1,)),
        x,
        dtype="bf16",
    )
    assert again.ok, again.reason
    assert rounding_unit(F16) == 2.0**-11
    assert rounding_unit(BF16) == 2.0**-8
    assert rounding_unit(F32) == rounding_unit(C64) == 2.0**-24
    assert rounding_unit(F64) == 2.0**-53


def test_the_maximum_of_tiles_is_over_runs_of_elements() -> None:
    errors = np.zeros(2 * TILE + 1)
    errors[TILE], errors[2 * TILE] = 2.0, 3.0
    assert tile_maximum(errors).tolist() == [0.0, 2.0, 3.0]
    assert tile_maximum(np.zeros((0, 4))).tolist() == [0.0]


def test_special_values_are_told_apart_by_kind() -> None:
    x = np.array([np.nan, np.inf, -np.inf, 0.0])
    assert special_values_differ(x, x) == ""
    assert special_values_differ(x, np.array([np.nan, -np.inf, -np.inf, 0.0])) == "+Inf at 1 places is lost, at 0 new"
