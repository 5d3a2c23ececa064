"""What a person sees in a terminal: stages as they run, and the summary at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dragoman.ir.text import printable

if TYPE_CHECKING:
    from dragoman.conversion import Report
    from dragoman.inspection import Inspection
    from dragoman.ir.equivalence import Comparison

_WIDTH = 15


def mebibytes(count: float) -> str:
    """Bytes for a person."""
    return f"{count / 2**20:,.1f} MiB" if count < 2**30 else f"{count / 2**30:,.2f} GiB"


def report_lines(report: Report) -> Iterator[str]:
    """The summary of a conversion, line by line, without colour."""
    verdict = str(report.verdict) if report.verdict else "NOT VERIFIED (switched off)"
    yield _row("verdict", verdict)
    if report.comparison is not None:
        yield from (_row("", line) for line in error_lines(report.comparison))
    nodes = f"{report.nodes_imported} imported, {report.nodes_optimised} optimised, {report.nodes_written} ONNX"
    yield _row("nodes", f"{nodes} (opset {report.opset})")
    rules = _rules(report)
    if rules:
        yield _row("rewrites", rules)
    yield _row("size", f"{mebibytes(report.file_bytes)}, of which weights {mebibytes(report.weight_bytes)}")
    times = ", ".join(f"{name} {seconds:.2f}" for name, seconds in report.seconds.items() if seconds >= 0.005)
    yield _row("time", f"{report.total_seconds:.2f} s ({times})")
    if report.memory_peak:
        grown = max(report.memory_peak - report.memory_before, 0)
        yield _row("peak memory", f"{mebibytes(report.memory_peak)}, {mebibytes(grown)} above the start")
    for note in report.notes:
        yield _row("note", printable(note))
    for file in (*report.files, *([report.certificate] if report.certificate else [])):
        yield _row("wrote", printable(str(file)))


def error_lines(comparison: Comparison) -> Iterator[str]:
    """Each output's worst error beside the source's own, then what was run and skipped."""
    for found in comparison.outputs():
        yield str(found)
    sizes = (" ".join(f"{n}={v}" for n, v in c.symbols.items()) or "fixed" for c in comparison.cases)
    shapes = ", ".join(dict.fromkeys(sizes))
    yield f"{len(comparison.cases)} cases at {shapes}; against {comparison.oracle}"
    if comparison.skipped:
        yield f"{len(comparison.skipped)} cases skipped: {comparison.skipped[0].reason}"
    if comparison.reason:
        yield printable(comparison.reason)


def _row(label: str, text: str) -> str:
    return f"  {label:<{_WIDTH}}{text}"


def _rules(report: Report) -> str:
    fired: dict[str, int] = {}
    for record in report.passes:
        for name, count in record.fired.items():
            fired[name] = fired.get(name, 0) + count
    return ", ".join(f"{name} {count}×" for name, count in sorted(fired.items(), key=lambda item: -item[1]))


class Console:
    """Shows stages on standard error while they run, and results on standard output."""

    def __init__(self) -> None:
        from rich.console import Console as RichConsole

        self._errors = RichConsole(stderr=True)
        self._out = RichConsole(soft_wrap=True)
        self._status: Any = None
        self._stage = ""
        self._started = 0.0

    def stage(self, name: str) -> None:
        """Begin a stage: the one before is printed with its time."""
        self._finish()
        self._stage, self._started = name, time.perf_counter()
        if self._errors.is_terminal:
            self._status = self._errors.status(f"{name} …")
            self._status.start()

    def _finish(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None
        if self._stage:
            seconds = time.perf_counter() - self._started
            self._errors.print(f"  {self._stage:<{_WIDTH}}{seconds:8.2f} s", highlight=False, markup=False)
        self._stage = ""

    def heading(self, text: str) -> None:
        """A line above what follows."""
        self._finish()
        self._out.print(f"\n{text}", style="bold", highlight=False, markup=False)

    def report(self, report: Report) -> None:
        """The summary of a conversion."""
        self._finish()
        holds = report.verdict is None or report.verdict.holds
        for line in report_lines(report):
            style = ("bold green" if holds else "bold red") if line.startswith("  verdict") else None
            self._out.print(line, style=style, highlight=False, markup=False)

    def comparison(self, comparison: Comparison) -> None:
        """The page of a comparison."""
        self._finish()
        self._out.print(str(comparison), highlight=False, markup=False)

    def inspection(self, inspection: Inspection, *, text: bool) -> None:
        """Inputs, outputs, parameters and operators; then the whole graph if asked for."""
        self._finish()
        self._out.print(str(inspection), highlight=False, markup=False)
        if text and inspection.model is not None:
            sys.stdout.write(f"{inspection.model}\n")
