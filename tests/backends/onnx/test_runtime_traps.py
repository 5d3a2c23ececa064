"""Where ONNX Runtime's kernel or optimiser gives another number than the op: the spelling must step around it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dragoman.backends.onnx import Session, emit, legal
from dragoman.ir.builder import Builder, trace
from dragoman.ir.graph import Value
from dragoman.ir.interpreter import run
from dragoman.ir.types import F32, I64, parse_type
from dragoman.passes.legalize import legalize

SPECIAL = np.array([math.nan, math.inf, -math.inf, -0.0, 0.25, 0.75, -3.0], np.float32)


def outputs(body: Callable[..., Value], inputs: list[Any], *types: str, optimise: bool) -> tuple[Any, Any]:
    graph = trace(body, *(parse_type(t) for t in types))
    expected = run(graph, *inputs)
    legalize(graph, legal())
    return np.asarray(expected[0]), Session(emit(graph), optimise=optimise).run(inputs)[0]


@pytest.mark.parametrize("optimise", [False, True])
@pytest.mark.parametrize(
    "body",
    [
        lambda b, x: b.clip(x, low=0.0),
        lambda b, x: b.clip(x, high=0.5),
        lambda b, x: b.clip(x, low=math.nan, high=1.0),
        lambda b, x: b.clip(x, low=2.0, high=1.0),
        lambda b, x: b.soft_shrink(x, alpha=0.5),
        lambda b, x: b.hard_shrink(x, alpha=0.5),
    ],
)
def test_nan_and_infinity_pass_as_the_op_says(body: Callable[..., Value], optimise: bool) -> None:
    expected, got = outputs(body, [SPECIAL], "f32[7]", optimise=optimise)
    np.testing.assert_array_equal(got, expected.astype(np.float32))


def test_the_mean_of_nothing_is_nan() -> None:
    _, got = outputs(
        lambda b, x: b.reduce_mean(x, axes=(1,)), [np.zeros((2, 0), np.float32)], "f32[2,0]", optimise=False
    )
    assert np.isnan(got).all()


@pytest.mark.parametrize("optimise", [False, True])
def test_one_over_an_integer_times_another_is_no_quotient(optimise: bool) -> None:
    def body(b: Builder, x: Value, y: Value) -> Value:
        return b.mul(b.div(b.const(1, I64), x), y)

    given = [np.array([1, 2, -1, 5]), np.array([3, 6, 7, 10])]
    _, got = outputs(body, given, "i64[4]", "i64[4]", optimise=optimise)
    np.testing.assert_array_equal(got, [3, 0, -7, 0])


@pytest.mark.parametrize("optimise", [False, True])
@pytest.mark.parametrize("extent", [1, 2, 5])
def test_rolling_by_one_is_right_at_any_extent(extent: int, optimise: bool) -> None:
    x = np.arange(2 * extent, dtype=np.float32).reshape(2, extent)

    def body(b: Builder, x: Value) -> Value:
        return b.roll(x, shifts=(1,), axes=(1,))

    _, got = outputs(body, [x], "f32[2,m]", optimise=optimise)
    np.testing.assert_array_equal(got, np.roll(x, 1, 1))


def test_a_scalar_is_one_hot_too() -> None:
    _, got = outputs(lambda b, x: b.one_hot(x, depth=4, dtype=F32), [np.array(2)], "i64[]", optimise=False)
    np.testing.assert_array_equal(got, [0, 0, 1, 0])


def test_output_padding_may_reach_beyond_the_stride() -> None:
    def body(b: Builder, x: Value, w: Value) -> Value:
        settings = {"padding": ((1, 1),), "output_padding": (2,), "dilations": (3,), "groups": 1}
        return b.conv_transpose(x, w, strides=(2,), **settings)

    generator = np.random.default_rng(0)
    given = [generator.normal(size=s).astype(np.float32) for s in ((1, 2, 4), (2, 3, 3))]
    expected, got = outputs(body, given, "f32[1,2,4]", "f32[2,3,3]", optimise=False)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=8 * 2.0**-24 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("name", "points"),
    [
        ("lgamma", [0.5, 1.0, 2.0, 1e-20, 171.5, 1e10, -0.5, -9.7, -3.0, math.inf, math.nan]),
        ("digamma", [0.5, 1.4616321, 1e-3, 50.5, 1e10, -0.5, -9.7, -2.0, math.inf, math.nan]),
        ("erfinv", [0.0, 0.5, -0.99, 0.99999994, 1.0, -1.0, 1e-20, 1.5, math.nan]),
    ],
)
def test_series_give_every_digit_of_f32(name: str, points: list[float]) -> None:
    x = np.array(points, np.float32)
    expected, got = outputs(lambda b, x: getattr(b, name)(x), [x], f"f32[{len(points)}]", optimise=False)
    rounded = expected.astype(np.float32)
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(rounded))
    special = ~np.isfinite(rounded)
    np.testing.assert_array_equal(got[special], rounded[special])
    np.testing.assert_array_max_ulp(got[~special], rounded[~special], maxulp=1)
