"""Warming up until the times of a program stop falling: caches, lazy compilation and clocks have then settled."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

_BLOCK_SECONDS = 0.05
_LEAST_CALLS = 2
_SETTLED = 0.03  # a block may be this much faster than the fastest before it and still count as no progress
_QUIET_BLOCKS = 3


def warm_up(run: Callable[[], Any], most: float) -> tuple[float, int, bool]:
    """Run until `_QUIET_BLOCKS` blocks in a row bring no progress, or `most` seconds are over.

    Returns seconds of one call in the last block, the number of calls, and whether the times have settled.
    """
    end = time.perf_counter() + most
    fastest, quiet, calls, last = float("inf"), 0, 0, 0.0
    while quiet < _QUIET_BLOCKS:
        times = block(run)
        calls += len(times)
        last = statistics.median(times)
        quiet = quiet + 1 if last > fastest * (1 - _SETTLED) else 0
        fastest = min(fastest, last)
        if time.perf_counter() > end:
            break
    return last, calls, quiet >= _QUIET_BLOCKS


def block(run: Callable[[], Any]) -> list[float]:
    """Seconds of each call of a block."""
    times: list[float] = []
    end = time.perf_counter() + _BLOCK_SECONDS
    while len(times) < _LEAST_CALLS or time.perf_counter() < end:
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return times
