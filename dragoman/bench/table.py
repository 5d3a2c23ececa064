"""A benchmark as text of at most 100 columns."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator

from dragoman.bench import intervals
from dragoman.bench.intervals import Estimate
from dragoman.bench.machine import disturbance
from dragoman.bench.results import Benchmark, Group, Row
from dragoman.ir.text import printable

WIDTH = 100
_COLUMNS = (("median", 14), ("ratio to first", 18), ("error", 8), ("load", 7), ("first", 8), ("peak", 8), ("file", 8))
_NAME = WIDTH - sum(width + 1 for _, width in _COLUMNS)


def lines(benchmark: Benchmark) -> Iterator[str]:
    """Every line."""
    for group in benchmark.groups:
        yield from _group(group)
        yield ""
    yield from _wrapped(str(benchmark.machine))
    yield from _wrapped(", ".join(f"{n} {v}" for n, v in benchmark.machine.versions.items()))
    for name, reason in benchmark.absent.items():
        yield from _wrapped(f"not measured: {name} ({reason})")


def _group(group: Group) -> Iterator[str]:
    yield from _wrapped(printable(group.title))
    if group.failure:
        yield from _wrapped(printable(group.failure), "  ")
        return
    yield f"{'target':<{_NAME}}" + "".join(f" {name:>{width}}" for name, width in _COLUMNS)
    for row in group.rows:
        yield from _row(group, row)
    yield from (line for said in remarks(group) for line in _wrapped(printable(said), "  "))


def _row(group: Group, row: Row) -> Iterator[str]:
    name = printable(row.name)
    name = name if len(name) <= _NAME else name[: _NAME - 1] + "…"
    if row.failure:
        yield from _wrapped(f"{name:<{_NAME}} {printable(row.failure)}", " " * (_NAME + 1), first="")
        return
    cells = (
        _with_interval(row.median),
        _ratio(group.ratio(row)) or ("1" if row.name == group.base else ""),
        error_text(row.error),
        seconds_text(row.load_s),
        seconds_text(row.first_s),
        bytes_text((row.peak_bytes or 0) + (row.device_bytes or 0) or None),
        bytes_text(row.file_bytes),
    )
    yield f"{name:<{_NAME}}" + "".join(f" {c:>{w}}" for c, (_, w) in zip(cells, _COLUMNS, strict=True))
    if row.said and not row.rounds:
        yield from _wrapped(printable(row.said), "  ")


def remarks(group: Group) -> Iterator[str]:
    """What a reader should know besides the numbers: what is not resolved, noise, errors, clients."""
    rounds = max((len(r.rounds) for r in group.rows), default=0)
    if rounds:
        yield f"{rounds} rounds in random order; intervals hold 95 of 100; error: against {group.oracle or 'nothing'}"
    unresolved = [r.name for r in group.rows if (q := group.ratio(r)) is not None and q.holds(1.0)]
    if unresolved:
        yield f"not told apart from {group.base}: {', '.join(unresolved)}"
    noisy = [
        f"{r.name} {intervals.noise(r.rounds):.0%}" for r in group.rows if r.rounds and intervals.is_noisy(r.rounds)
    ]
    if noisy:
        yield f"noisy: the middle half of the rounds spreads over {', '.join(noisy)} of the median"
    if disturbance(group.others):
        yield disturbance(group.others)
    unsettled = [r.name for r in group.rows if not r.settled and not r.failure]
    if unsettled:
        yield f"still getting faster when warm-up ended: {', '.join(unsettled)}"
    wrong = [r.name for r in group.rows if r.error is not None and not math.isfinite(r.error)]
    if wrong:
        yield f"WRONG RESULT (shape, NaN or a missing output): {', '.join(wrong)}"
    for row in group.rows:
        if row.latencies:
            yield client_text(row)


def client_text(row: Row) -> str:
    """One line of a row's clients."""
    p50, p95, p99 = (1e3 * percentile(row.latencies, p) for p in (50, 95, 99))
    return (
        f"{row.name} with clients: {row.throughput or 0:.1f} requests/s, latency {p50:.2f} / {p95:.2f} / {p99:.2f} ms"
        " (50 / 95 / 99 %)"
    )


def percentile(numbers: list[float], p: float) -> float:
    """A percentile."""
    import numpy as np

    return float(np.percentile(numbers, p))


def _wrapped(text: str, indent: str = "", first: str | None = None) -> list[str]:
    opening = indent if first is None else first
    return textwrap.wrap(text, WIDTH, initial_indent=opening, subsequent_indent=indent) or [""]


def _with_interval(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    wide = f"{estimate.half_width:.1%}" if math.isfinite(estimate.half_width) else "?"
    return f"{seconds_text(estimate.value)} ±{wide}"


def _ratio(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    high = f"{estimate.high:.3f}" if math.isfinite(estimate.high) else "∞"
    return f"{estimate.value:.3f} {estimate.low:.3f}–{high}"


def error_text(error: float | None) -> str:
    """An error relative to the size of an output."""
    return "" if error is None else f"{error:.1e}" if math.isfinite(error) else "WRONG"


def seconds_text(seconds: float | None) -> str:
    """Seconds with three digits and a unit."""
    if seconds is None:
        return ""
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= scale:
            return f"{_digits(seconds / scale)}{unit}"
    return f"{_digits(seconds / 1e-6)}µs"


def bytes_text(count: int | None) -> str:
    """Bytes with three digits and a unit."""
    if count is None:
        return ""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{_digits(count / scale)}{unit}"
    return f"{count}B"


def _digits(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"
