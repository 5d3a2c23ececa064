"""The page of a benchmark, and the same for a notebook."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from dragoman.bench.results import Benchmark, Group, Row
from dragoman.bench.table import bytes_text, error_text, remarks, seconds_text
from dragoman.report.page import environment
from dragoman.report.page import write as write_page


def write(benchmark: Benchmark, path: Path) -> None:
    """One file that needs no network. Raises OutputError."""
    template = environment().get_template("bench.html.j2")
    write_page(path, template.render(benchmark=benchmark, groups=list(map(_shown, benchmark.groups))))


def fragment(benchmark: Benchmark) -> str:
    """The tables alone."""
    template = environment().get_template("bench_groups.html.j2")
    return template.render(benchmark=benchmark, groups=list(map(_shown, benchmark.groups)))


def _shown(group: Group) -> dict[str, Any]:
    longest = max((row.median.high for row in group.rows if row.median and math.isfinite(row.median.high)), default=1.0)
    rows = [_row(group, row, longest) for row in group.rows]
    return {"group": group, "rows": rows, "remarks": list(remarks(group))}


def _row(group: Group, row: Row, longest: float) -> dict[str, Any]:
    median, ratio = row.median, group.ratio(row)
    shown: dict[str, Any] = {"row": row, "base": row.name == group.base, "wrong": error_text(row.error) == "WRONG"}
    shown["median"] = seconds_text(median.value) if median else ""
    shown["interval"] = f"{seconds_text(median.low)} – {seconds_text(median.high)}" if median else ""
    shown["ratio"] = f"{ratio.value:.3f}" if ratio else ""
    shown["between"] = f"{ratio.low:.3f} – {ratio.high:.3f}" if ratio else ""
    shown["same"] = ratio is not None and ratio.holds(1.0)
    shown["bar"] = 100 * median.value / longest if median else 0
    shown["from"] = 100 * median.low / longest if median else 0
    shown["to"] = min(100 * median.high / longest, 100) if median else 0
    shown["error"] = error_text(row.error)
    shown["load"], shown["first"] = seconds_text(row.load_s), seconds_text(row.first_s)
    shown["peak"], shown["file"] = bytes_text(row.peak_bytes), bytes_text(row.file_bytes)
    shown["device"] = bytes_text(row.device_bytes)
    return shown
