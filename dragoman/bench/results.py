"""What a benchmark found, as records: JSON and the page are made from these alone, and so is the table.

A row is one target on one source at one batch size in one precision. A row that failed says why and has no times.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dragoman.bench import intervals
from dragoman.bench.intervals import Estimate
from dragoman.bench.machine import Machine
from dragoman.ir.errors import OutputError


@dataclass
class Row:
    """One target. `rounds` are seconds of one inference by round, the same rounds for all rows of a group."""

    target: str
    precision: str = "f32"
    failure: str = ""
    rounds: list[float] = field(default_factory=list[float])
    errors: list[float] = field(default_factory=list[float])
    load_s: float | None = None
    first_s: float | None = None
    warm_calls: int = 0
    settled: bool = True
    peak_bytes: int | None = None
    device_bytes: int | None = None
    file_bytes: int | None = None
    latencies: list[float] = field(default_factory=list[float])  # under concurrency, seconds of each request
    throughput: float | None = None  # requests a second under concurrency
    said: str = ""

    @property
    def name(self) -> str:
        """The target, with its precision where that is not f32."""
        return self.target if self.precision == "f32" else f"{self.target} {self.precision}"

    @property
    def error(self) -> float | None:
        """The worst of its outputs' errors; None where nothing is known."""
        return max(self.errors) if self.errors else None

    @property
    def median(self) -> Estimate | None:
        """Seconds of one inference."""
        return intervals.median(self.rounds) if self.rounds else None


@dataclass
class Group:
    """All targets on one source at one batch size: what was interleaved, and may be compared."""

    source: str
    batch: int | None
    rows: list[Row] = field(default_factory=list[Row])
    base: str = ""  # the row that others are compared with
    oracle: str = ""
    operations: float = 0.0
    bytes: float = 0.0
    shapes: dict[str, str] = field(default_factory=dict[str, str])
    others: float = 0.0  # processors that other programs kept busy meanwhile
    failure: str = ""  # why nothing could be measured

    @property
    def title(self) -> str:
        """What was measured."""
        return self.source + (f", batch {self.batch}" if self.batch is not None else "")

    def ratio(self, row: Row) -> Estimate | None:
        """Seconds of a row ÷ seconds of the base, round by round; None where one has no times."""
        base = next((r for r in self.rows if r.name == self.base and r.rounds), None)
        if base is None or not row.rounds or row is base:
            return None
        return intervals.ratio(row.rounds, base.rounds)

    def throughput(self) -> bool:
        """Whether there were clients."""
        return any(row.latencies for row in self.rows)


@dataclass
class Benchmark:
    """A whole run. `str()` gives the table that a person reads."""

    machine: Machine
    groups: list[Group] = field(default_factory=list[Group])
    absent: dict[str, str] = field(default_factory=dict[str, str])  # targets not measured, and what they need
    command: str = ""
    clients: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        from dragoman.bench.table import lines

        return "\n".join(lines(self))

    def _repr_html_(self) -> str:
        from dragoman.report.bench_page import fragment

        return fragment(self)

    @property
    def measured(self) -> bool:
        """Whether any target has a result."""
        return any(row.load_s is not None and not row.failure for g in self.groups for row in g.rows)

    def data(self) -> dict[str, Any]:
        """Everything, with the estimates, for programs."""
        groups: list[dict[str, Any]] = []
        for group in self.groups:
            record = asdict(group)
            for row, kept in zip(group.rows, record["rows"], strict=True):
                kept["median_s"] = _record(row.median)
                kept["ratio"] = _record(group.ratio(row))
                kept["error"] = row.error
            groups.append(record)
        whole = {"command": self.command, "clients": self.clients, "seconds": self.seconds, "absent": self.absent}
        return {"machine": asdict(self.machine), "groups": groups, **whole}

    def write_json(self, path: Path) -> None:
        """Raises OutputError."""
        write_text(path, json.dumps(self.data(), indent=1, allow_nan=True) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file aside and put it in its place. Raises OutputError."""
    aside = path.with_name(f".{path.name}.part")
    try:
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error


def check_writable(path: Path) -> None:
    """Raise OutputError before anything is measured, rather than after."""
    import os

    if path.is_dir():
        raise OutputError(f"{path} is a folder: name a file")
    if not path.parent.is_dir():
        raise OutputError(f"{path} cannot be written: there is no folder {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise OutputError(f"{path} cannot be written: permission denied")


def _record(estimate: Estimate | None) -> dict[str, float] | None:
    return asdict(estimate) if estimate is not None else None
