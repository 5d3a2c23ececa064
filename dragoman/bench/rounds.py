"""Rounds: every target takes turns in random order and again in the reverse, so that what drifts hits all alike."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence

from dragoman.bench import intervals
from dragoman.bench.process import Process, TargetFailed
from dragoman.bench.results import Row

LEAST, MOST = 10, 400
_TURN = 0.03  # seconds that the counted inferences of a turn take at least …
_MOST_CALLS = 100  # … within this many
_FINE = 0.008  # half an interval that needs no more rounds
_SETTLING = 0.002  # seconds between turns: threads of the one before stop spinning


def take_turns(
    entries: Sequence[tuple[Row, Process, float]],
    seconds: float,
    *,
    seed: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Fill in the rounds of rows, given each with its process and the seconds of one call, until `seconds` are over or
    every ratio is fine. A row whose process fails says so and drops out.
    """
    chance, playing = random.Random(seed), list(entries)
    end, done = time.perf_counter() + seconds, 0
    while playing and done < MOST:
        order = chance.sample(playing, len(playing))
        heard: dict[int, list[float]] = {id(entry[0]): [] for entry in playing}
        for entry in (*order, *reversed(order)):
            row, process, call = entry
            if entry not in playing:
                continue
            try:
                heard[id(row)].append(_turn(process, call))
            except TargetFailed as error:
                row.failure, row.rounds = f"failed after {done} rounds: {error}", []
                playing.remove(entry)
        for row, _, _ in playing:
            row.rounds.append(statistics.fmean(heard[id(row)]))
        done += 1
        progress(done)
        if done >= LEAST and (time.perf_counter() > end or _is_fine([row for row, _, _ in playing])):
            return


def _turn(process: Process, call: float) -> float:
    """Seconds of one inference: the median of a turn's."""
    calls = min(max(round(_TURN / max(call, 1e-7)), 1), _MOST_CALLS)
    times = process.ask("turn", calls=calls)["times"]
    time.sleep(_SETTLING)
    return statistics.median(times)


def _is_fine(rows: Sequence[Row]) -> bool:
    if len(rows) < 2:
        return bool(rows) and intervals.median(rows[0].rounds).half_width < _FINE
    return all(intervals.ratio(row.rounds, rows[0].rounds).half_width < 2 * _FINE for row in rows[1:])
