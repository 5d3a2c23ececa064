"""Results as text, as Markdown and as JSON, with what they were measured on.

Owns the layout. Refuses to print a number without its machine: every page opens with versions, cores and load.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fresh_process import Result, machine_load

_PACKAGES = ("torch", "jax", "flax", "onnx", "onnxscript", "onnxruntime", "transformers", "timm", "numpy", "dragoman")


@dataclass
class Table:
    """A heading, column names and rows of text; the first column is set to the left, the others to the right."""

    heading: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list[Sequence[str]])

    def text(self) -> str:
        """For a terminal."""
        widths = [max(len(str(row[i])) for row in (self.columns, *self.rows)) for i in range(len(self.columns))]

        def line(cells: Sequence[str]) -> str:
            rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
            return "  ".join([cells[0].ljust(widths[0]), *rest]).rstrip()

        rule = "  ".join("-" * width for width in widths)
        return "\n".join([self.heading, line(self.columns), rule, *map(line, self.rows)])

    def markdown(self) -> str:
        """For a page of the documentation."""
        rows = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *self.rows]
        listed = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
        return f"### {self.heading}\n\n{listed}"


@dataclass(frozen=True)
class Demand:
    """One line of acceptance: what is demanded, what was measured, and whether it holds (None: not measured)."""

    demand: str
    measured: str
    holds: bool | None

    def __str__(self) -> str:
        return f"{'—' if self.holds is None else 'PASS' if self.holds else 'FAIL':<4}  {self.demand}: {self.measured}"


@dataclass
class Page:
    """All that one benchmark has to say."""

    title: str
    about: str
    tables: list[Table] = field(default_factory=list[Table])
    demands: list[Demand] = field(default_factory=list[Demand])
    samples: list[Result] = field(default_factory=list[Result])
    machine: dict[str, Any] = field(default_factory=lambda: describe_machine())

    def text(self) -> str:
        """For a terminal."""
        parts = [self.title, self.noise(), *(t.text() for t in self.tables), "\n".join(map(str, self.demands))]
        return "\n\n".join(part for part in parts if part)

    def markdown(self) -> str:
        """For the documentation."""
        demands = "\n".join(f"- {demand}" for demand in self.demands)
        parts = [f"## {self.title}", self.about, self.noise(), *(t.markdown() for t in self.tables), demands]
        return "\n\n".join(part for part in parts if part) + "\n"

    def noise(self) -> str:
        """Versions, and how busy the machine was with other things."""
        running = sorted(s["load"]["running"] for s in self.samples if "load" in s)
        middle = f"{running[len(running) // 2]:.0f}" if running else "?"
        versions = ", ".join(f"{name} {version}" for name, version in self.machine["versions"].items())
        hardware = f"{self.machine['processor']}, {self.machine['cores']} cores"
        return (
            f"{hardware}, Python {self.machine['python']}; {versions}.\n"
            f"Other processes running when a measurement began: {middle} (median of {len(running)})."
        )

    def failed(self) -> bool:
        """Whether a demand was measured and does not hold."""
        return any(demand.holds is False for demand in self.demands)

    def write(self, json_path: Path | None, markdown_path: Path | None) -> None:
        """Print the page, and write it where asked."""
        print(self.text())
        if json_path is not None:
            demands = [{"demand": d.demand, "measured": d.measured, "holds": d.holds} for d in self.demands]
            data = {"title": self.title, "machine": self.machine, "demands": demands, "samples": self.samples}
            json_path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        if markdown_path is not None:
            markdown_path.parent.mkdir(parents=True, exist_ok=True)
            markdown_path.write_text(self.markdown(), encoding="utf-8")


def describe_machine() -> dict[str, Any]:
    """Processor, cores, versions and load."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": dict(_versions(_PACKAGES)),
        "load": machine_load(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _versions(packages: Iterable[str]) -> Iterable[tuple[str, str]]:
    for name in packages:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue


def mib(count: float) -> str:
    """Bytes as MiB without a unit."""
    return f"{count / (1 << 20):.0f}" if count >= 10 << 20 else f"{count / (1 << 20):.1f}"
