"""The summary of a conversion in words, without colour: what `str(report)` and the terminal show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dragoman.ir.text import printable
from dragoman.notes import pending

if TYPE_CHECKING:
    from dragoman.conversion import Report
    from dragoman.ir.findings import CaseFinding, Comparison
    from dragoman.passes.precision import Precision

WIDTH = 15
_LISTED = 5  # outputs
_KEPT = 10  # nodes left in f32


def size(count: float) -> str:
    """Bytes for a person."""
    for unit, bytes_each in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= bytes_each:
            return f"{count / bytes_each:,.{2 if unit == 'GiB' else 1}f} {unit}"
    return f"{count:g} bytes"


def report_lines(report: Report) -> Iterator[str]:
    """The summary of a conversion, line by line."""
    verdict = str(report.verdict) if report.verdict else "NOT VERIFIED (switched off)"
    yield row("verdict", verdict)
    if report.comparison is not None:
        yield from (row("", line) for line in error_lines(report.comparison))
    nodes = f"{report.nodes_imported} imported, {report.nodes_optimised} optimised, {report.nodes_written}"
    yield row(
        "nodes", f"{nodes} ONNX (opset {report.opset})" if report.opset else f"{nodes} launches of Triton kernels"
    )
    if report.library:
        calls = ", ".join(f"{n} {report.library.count(n)}×" for n in dict.fromkeys(report.library))
        yield row("by torch", printable(calls))
    if report.arena_bytes is not None:
        yield row("device memory", f"{size(report.arena_bytes)} besides weights and inputs")
    if report.precision is not None:
        yield from precision_lines(report.precision)
    rules = _rules(report)
    if rules:
        yield row("rewrites", rules)
    yield row("size", f"{size(report.file_bytes)}, of which weights {size(report.weight_bytes)}")
    times = ", ".join(f"{name} {seconds:.2f}" for name, seconds in report.seconds.items() if seconds >= 0.005)
    yield row("time", f"{report.total_seconds:.2f} s ({times})")
    if report.memory_peak:
        grown = max(report.memory_peak - report.memory_before, 0)
        yield row("peak memory", f"{size(report.memory_peak)}, {size(grown)} above the start")
    for note in pending(report.notes, report.comparison):
        yield row("note", printable(str(note)))
    for file in (*report.files, *([report.certificate] if report.certificate else [])):
        yield row("wrote", printable(str(file)))
    if report.comparison is not None and not report.comparison.verdict.holds:
        yield row("", f"what was written is not shown to equal its source{_for_want_of_time(report.comparison)}")


def error_lines(comparison: Comparison) -> Iterator[str]:
    """Each output's worst error beside the source's own, then what was run and skipped."""
    outputs = comparison.outputs()
    if len(outputs) > _LISTED:
        yield f"{_LISTED} of {len(outputs)} outputs, those that come closest to their bounds:"
        outputs = tuple(sorted(outputs, key=lambda found: -found.excess)[:_LISTED])
    for found in outputs:
        yield from str(found).splitlines()
    shapes = ", ".join(dict.fromkeys(_sizes(c) for c in comparison.cases))
    yield f"{_counted(len(comparison.cases), 'case')} at {shapes or 'no size'}; against {comparison.oracle}"
    if comparison.skipped:
        reasons = dict.fromkeys(s.reason for s in comparison.skipped)
        more = f" (and {_counted(len(reasons) - 1, 'other reason')})" if len(reasons) > 1 else ""
        yield printable(f"{_counted(len(comparison.skipped), 'case')} skipped: {next(iter(reasons))}{more}")
    if comparison.reason:
        yield printable(comparison.reason)


def precision_lines(precision: Precision) -> Iterator[str]:
    """What is in half precision, how the whole stands, and each node left in f32 with the reason."""
    first, *rest = str(precision).split("; ")
    yield row("precision", first)
    yield from (row("", line) for line in rest)
    for kept in precision.kept[:_KEPT]:
        yield row("in f32", printable(str(kept)))
    if len(precision.kept) > _KEPT:
        yield row("", f"and {len(precision.kept) - _KEPT} more nodes in f32, which the certificate names")


def _for_want_of_time(comparison: Comparison) -> str:
    unchecked = any(rule.unchecked for rule in comparison.rules or ())
    return ": there was not enough time, give more with --budget" if unchecked else ""


def _sizes(case: CaseFinding) -> str:
    if case.symbols:
        return " ".join(f"{n}={v}" for n, v in case.symbols.items())
    return "the example's own sizes" if case.style == "given" else "fixed sizes"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + "s" * (count != 1)


def row(label: str, text: str) -> str:
    """One line of a summary."""
    return f"  {label:<{WIDTH}}{text}".rstrip()


def _rules(report: Report) -> str:
    fired: dict[str, int] = {}
    for record in report.passes:
        for name, count in record.fired.items():
            fired[name] = fired.get(name, 0) + count
    return ", ".join(f"{name} {count}×" for name, count in sorted(fired.items(), key=lambda item: -item[1]))
