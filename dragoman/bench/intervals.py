"""Medians and ratios with bootstrap intervals from rounds, and what counts as noise.

Rounds follow each other on one machine and are no independent draws, so blocks of neighbours are resampled (Künsch
1989); few of them make percentiles too narrow, so the tails are widened as Student's t is wider than the
normal (Hesterberg
2015, arXiv:1411.5279, §3.3). What differs from one process to the next of the same program (where memory lies) shows in
no round: `BETWEEN_PROCESSES` is added for it, as measured by `python -m dragoman.bench study`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

BETWEEN_PROCESSES = 0.005  # standard deviation of the logarithm of a target's time
_RESAMPLES = 2000
_NOISY = 0.10  # of the median: the range that holds the middle half of the rounds


@dataclass(frozen=True)
class Estimate:
    """A number with the interval that holds it in 95 of 100 measurements."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of the interval, as a part of the value."""
        return (self.high - self.low) / (2 * self.value) if self.value else math.inf

    def holds(self, number: float) -> bool:
        """Whether a number lies within."""
        return self.low <= number <= self.high


def median(seconds: Sequence[float]) -> Estimate:
    """The median of rounds."""
    return _estimate(np.log(np.asarray(seconds, np.float64)))


def ratio(ours: Sequence[float], base: Sequence[float]) -> Estimate:
    """The median over rounds of ours ÷ base, both of the same round. Above 1, ours is slower."""
    logs = np.log(np.asarray(ours, np.float64)) - np.log(np.asarray(base, np.float64))
    return _estimate(logs, between=BETWEEN_PROCESSES * math.sqrt(2))


def noise(seconds: Sequence[float]) -> float:
    """The middle half of the rounds, as a part of their median."""
    low, middle, high = np.percentile(seconds, [25, 50, 75])
    return float((high - low) / middle)


def is_noisy(seconds: Sequence[float]) -> bool:
    """Whether rounds scatter so much that a reader should know."""
    return noise(seconds) > _NOISY


def _estimate(logs: np.ndarray[Any, np.dtype[np.float64]], between: float = 0.0) -> Estimate:
    middle = float(np.median(logs))
    if len(logs) < 2:
        return Estimate(math.exp(middle), 0.0, math.inf)
    medians = np.median(logs[_blocks(len(logs))], axis=1)
    tail = 100 * _tail(len(logs))
    low, high = np.percentile(medians, [tail, 100 - tail])
    below, above = (math.hypot(d, 1.96 * between) for d in (middle - low, high - middle))
    return Estimate(math.exp(middle), math.exp(middle - below), math.exp(middle + above))


@cache
def _blocks(count: int) -> Any:
    """Indices of resampled rounds, [resamples, count]: blocks of about the cube root of their number, in a circle."""
    length = max(1, round(count ** (1 / 3)))
    starts = np.random.default_rng(count).integers(0, count, (_RESAMPLES, -(-count // length)))
    return ((starts[:, :, None] + np.arange(length)) % count).reshape(_RESAMPLES, -1)[:, :count]


@cache
def _tail(count: int) -> float:
    from scipy import special

    widened = math.sqrt(count / (count - 1)) * special.stdtrit(count - 1, 0.025)
    return float(special.ndtr(widened))
