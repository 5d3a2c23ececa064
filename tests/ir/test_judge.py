"""The rule for one output: exact where the source is, else K times its error, tile by tile; and the noise model."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dragoman.ir.builder import trace
from dragoman.ir.findings import OutputFinding, Status
from dragoman.ir.judge import Output, judge, judge_draws, outputs_of
from dragoman.ir.local import TILE
from dragoman.ir.noise import most_amplifying, noisy_outputs, shaken, spread
from dragoman.ir.types import BF16, F16, F32, F64, parse_type

RNG = np.random.default_rng(2)
Y = RNG.standard_normal(4 * TILE)
OUTPUT = Output("y", F32)


def noised(level: float, seed: int = 0) -> Any:
    return (Y + level * np.random.default_rng(seed).standard_normal(Y.shape)).astype(np.float32)


def verdict(source: Any, candidate: Any, oracle: Any = Y, output: Output = OUTPUT) -> OutputFinding:
    return judge(output, oracle, source, candidate)


def test_an_error_like_the_sources_is_fine_and_three_times_it_is_not() -> None:
    assert verdict(noised(1e-4, 1), noised(1e-4, 2)).status is Status.OK
    assert verdict(noised(1e-4, 1), noised(1.8e-4, 2)).status is Status.OK
    worse = verdict(noised(1e-4, 1), noised(3e-4, 2))
    assert worse.status is Status.WRONG
    assert 1.3 < worse.excess < 1.8
    assert worse.norm_candidate / worse.norm_source == pytest.approx(3, rel=0.05)


def test_one_bad_element_among_thousands_is_found_though_the_norm_is_fine() -> None:
    candidate = noised(1e-4, 2)
    candidate[2 * TILE + 7] = Y[2 * TILE + 7] + 2e-3
    found = verdict(noised(1e-4, 1), candidate)
    assert found.norm_candidate < 2 * found.norm_source
    assert found.status is Status.WRONG
    assert found.place == (2 * TILE + 7,)
    assert "in a tile of 1024 elements (K=2)" in found.reason


def test_small_elements_are_not_judged_by_large_ones_elsewhere() -> None:
    y = np.concatenate([1e6 * Y[:TILE], Y[:TILE]])
    source = (y * (1 + 1e-6 * RNG.standard_normal(y.shape))).astype(np.float32)
    candidate = source.copy()
    candidate[TILE + 3] += 1e-3
    assert verdict(source, candidate, y).status is Status.WRONG


def test_where_the_source_happens_to_be_exact_rounding_is_still_allowed() -> None:
    y = Y.astype(np.float32).astype(np.float64)
    nearly = (y * (1 + 5 * 2.0**-24)).astype(np.float32)
    assert verdict(y.astype(np.float32), nearly, y).status is Status.OK
    assert verdict(y.astype(np.float32), (y * (1 + 64 * 2.0**-24)).astype(np.float32), y).status is Status.WRONG


def test_what_is_only_moved_must_be_an_exact_copy() -> None:
    y = Y.astype(np.float32)
    off = np.nextafter(y, np.float32(9))
    moved = Output("y", F32, rounded=False)
    assert verdict(y, y, y.astype(np.float64), moved).status is Status.OK
    assert verdict(y, off, y.astype(np.float64), moved).status is Status.WRONG


def test_half_precision_is_allowed_three_times_the_error() -> None:
    source, candidate = (noised(level, seed).astype(np.float16) for level, seed in ((1e-2, 1), (2.6e-2, 2)))
    found = judge(Output("y", F16), Y, source, candidate)
    assert (found.status, found.factor) == (Status.OK, 3.0)
    bf16 = Y.astype(ml_dtypes.bfloat16)
    assert judge(Output("y", BF16), Y, bf16, bf16).status is Status.OK


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinities_must_be_where_they_are_in_the_source(value: float) -> None:
    y = np.array([1.0, value, 3.0])
    kept, dropped = y.astype(np.float32), np.array([1.0, 0.0, 3.0], np.float32)
    assert verdict(kept, kept, y).status is Status.OK
    lost = verdict(kept, dropped, y)
    assert lost.status is Status.WRONG
    assert "at 1 places is lost" in lost.reason
    assert (lost.place, lost.got) == ((1,), "0.0")
    assert verdict(dropped, kept, np.array([1.0, 0.0, 3.0])).status is Status.WRONG


def test_where_only_the_source_overflows_the_candidate_may_do_either() -> None:
    y = np.array([1.0, 3.5e38])
    over, under = np.array([1.0, np.inf], np.float32), np.array([1.0, 3.4e38], np.float32)
    assert verdict(over, over, y).status is Status.OK
    assert verdict(over, under, y).status is Status.OK
    assert verdict(over, np.array([1.0, np.nan], np.float32), y).status is Status.WRONG
    assert verdict(over, np.array([np.inf, np.inf], np.float32), y).status is Status.WRONG


def test_shape_and_dtype_must_be_the_sources() -> None:
    y = Y.astype(np.float32)
    assert verdict(y, y[None]).reason == "the shape is [1, 4096], not [4096]"
    assert verdict(y, y.astype(np.float64)).reason == "the dtype is f64, not f32"


@pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.uint8])
def test_integers_and_booleans_must_be_equal(dtype: Any) -> None:
    n = np.array([0, 1, 1, 0]).astype(dtype)
    off = np.array([0, 1, 0, 0]).astype(dtype)
    assert verdict(n, n, n).status is Status.OK
    wrong = verdict(n, off, n)
    assert (wrong.status, wrong.place, wrong.factor) == (Status.WRONG, (2,), 0.0)
    assert verdict(n, off, off).status is Status.OK  # the source itself is the one that rounding moved


def test_text_must_be_equal() -> None:
    words = np.array(["a", "b"], np.object_)
    assert verdict(words, words, words).status is Status.OK
    assert verdict(words, np.array(["a", "c"], np.object_), words).got == "'c'"


def test_complex_numbers_are_judged_by_their_distance() -> None:
    y = Y[:100] + 1j * Y[100:200]
    source = y.astype(np.complex64)
    assert verdict(source, source, y).status is Status.OK
    assert verdict(source, (y * (1 + 1e-4j)).astype(np.complex64), y).status is Status.WRONG


def test_scalars_and_empty_outputs_are_judged_too() -> None:
    assert verdict(np.float32(2.0), np.float32(2.0), np.float64(2.0)).status is Status.OK
    assert verdict(np.float32(2.0), np.float32(2.1), np.float64(2.0)).place == ()
    empty = np.zeros((0, 3), np.float32)
    assert verdict(empty, empty, empty.astype(np.float64)).status is Status.OK


def test_pooling_draws_decides_what_one_small_draw_cannot() -> None:
    def draw(level: float, seed: int) -> tuple[Any, Any, Any]:
        rng = np.random.default_rng(seed)
        y = rng.standard_normal(2)
        return (
            y,
            (y + 1e-4 * rng.standard_normal(2)).astype(np.float32),
            (y + level * rng.standard_normal(2)).astype(np.float32),
        )

    fair, unfair = [draw(1e-4, s) for s in range(16)], [draw(1e-3, s) for s in range(16)]
    assert any(judge(OUTPUT, *d).status is Status.WRONG for d in fair)
    assert judge_draws(OUTPUT, fair).status is Status.OK
    assert judge_draws(OUTPUT, unfair).status is Status.WRONG


def test_what_a_graph_computes_and_how_precisely_is_read_off_it() -> None:
    def body(b: Any, x: Any, h: Any) -> Any:
        return b.reshape(x, shape=(6,)), b.relu(x), b.exp(x), b.cast(h, dtype=F32), b.neg(b.cast(x, dtype=F16))

    outputs = outputs_of(trace(body, parse_type("f32[2,3]"), parse_type("f16[2]")))
    assert [o.rounded for o in outputs] == [False, False, True, True, True]
    assert [o.precision for o in outputs] == [F32, F32, F32, F16, F16]


# ---- noise --------------------------------------------------------------------------------------------


def test_shaking_moves_numbers_by_a_unit_and_leaves_exact_ones() -> None:
    x = np.array([0.1, -3.3, 0.0, 1.0, 2.5, -7.0, np.inf])
    moved = shaken(x, 2.0**-24, np.random.default_rng(0))
    assert (np.abs(moved[:2] / x[:2] - 1) - 2.0**-24 < 1e-12).all()
    assert (moved[:2] != x[:2]).all()
    assert moved[2:].tolist() == x[2:].tolist()
    assert shaken(np.arange(3), 0.5, np.random.default_rng(0)).tolist() == [0, 1, 2]


def test_the_spread_of_shaken_runs_grows_with_the_condition_of_the_graph() -> None:
    x = RNG.standard_normal(64)

    def size(offset: float) -> float:
        graph = trace(lambda b, x: b.sub(b.add(x, offset), offset), parse_type("f64[64]"))
        exact = [x]
        return float(spread(exact, noisy_outputs(graph, [x], 2.0**-24))[0].max())

    assert size(0.1) < 1e-6
    assert 1e-4 < size(1e4) < 1e-2


def test_a_comparison_of_nearly_equal_numbers_is_seen_to_be_unstable() -> None:
    graph = trace(lambda b, x: b.argmax(x, axis=0), parse_type("f64[3]"))
    tied, clear = np.array([0.3, 0.7, 0.7 + 1e-9]), np.array([0.3, 0.7, 0.8])
    assert spread([np.array(2)], noisy_outputs(graph, [tied], 2.0**-24, draws=8))[0] == 1
    assert spread([np.array(2)], noisy_outputs(graph, [clear], 2.0**-24, draws=8))[0] == 0


def test_the_node_that_magnifies_errors_most_is_named() -> None:
    def body(b: Any, x: Any) -> Any:
        return b.exp(b.sub(b.tanh(x), b.tanh(b.add(x, 1e-7))))

    graph = trace(body, parse_type("f64[16]"))
    worst = most_amplifying(graph, [RNG.standard_normal(16)], 2.0**-24)
    assert worst is not None
    assert worst.node.op.name == "sub"
    assert worst.factor > 1e4


def test_double_precision_has_its_own_unit() -> None:
    y = Y.copy()
    assert judge(Output("y", F64), Y, y, Y * (1 + 4e-16)).status is Status.OK
    assert judge(Output("y", F64), Y, y, Y * (1 + 4e-15)).status is Status.WRONG
