"""Intervals hold what they should, and no more often than they say by much."""

from __future__ import annotations

import numpy as np
import pytest

from dragoman.bench import intervals
from dragoman.bench.accuracy import WRONG, distance


def test_intervals_of_a_median_hold_it_in_about_95_of_100_measurements() -> None:
    chance = np.random.default_rng(1)
    held = sum(intervals.median(np.exp(0.05 * chance.standard_normal(15))).holds(1.0) for _ in range(400))
    assert 0.91 <= held / 400 <= 0.995


def test_drift_that_hits_both_alike_leaves_their_ratio_alone() -> None:
    chance = np.random.default_rng(2)
    drift = np.exp(np.cumsum(0.1 * chance.standard_normal(20)))
    ours, base = (drift * np.exp(0.004 * chance.standard_normal(20)) for _ in range(2))
    found = intervals.ratio(1.05 * ours, base)
    assert found.holds(1.05)
    assert found.low > 1.0
    assert not intervals.ratio(ours, base).low > 1.0


def test_neighbouring_rounds_that_resemble_each_other_widen_the_interval() -> None:
    chance = np.random.default_rng(3)
    held, runs = 0, 200
    for _ in range(runs):
        steps, logs = 0.02 * chance.standard_normal(40), np.zeros(40)
        for i in range(1, 40):
            logs[i] = 0.5 * logs[i - 1] + steps[i]
        held += intervals.median(np.exp(logs)).holds(1.0)
    assert held / runs > 0.80  # independent resampling holds it in about 75 of 100


def test_one_round_tells_nothing() -> None:
    assert intervals.median([0.1]).holds(1e9)


@pytest.mark.parametrize(
    ("found", "expected", "error"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([3.0, 4.1], [3.0, 4.0], 0.1 / 5.0),
        ([1.0], [1.0, 2.0], WRONG),
        ([1.0, np.nan], [1.0, 2.0], WRONG),
        ([1.0, np.nan], [1.0, np.nan], 0.0),
        ([np.inf, 1.0], [-np.inf, 1.0], WRONG),
    ],
)
def test_errors_are_relative_and_what_is_no_number_must_match(found: object, expected: object, error: float) -> None:
    assert distance(found, expected) == pytest.approx(error)
