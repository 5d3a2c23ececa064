#!/usr/bin/env python3
"""Carries every model of the zoo to ONNX, verifies it there, and writes what was found as a table.

    python tests/zoo/table.py docs/zoo.md                     # about a quarter of an hour on two cores
    python tests/zoo/table.py /tmp/zoo.md --models lstm,unet

Each conversion is what `dragoman convert` does, with its default time for verification. Then the file is checked with
ONNX's checker under full and strict shape inference, and compared once more with ONNX Runtime's optimiser on. Ends with
status 1 if a model is not verified at three sizes.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import dragoman
from dragoman.backends.onnx import Session, check
from dragoman.ir.cases import plan_cases
from dragoman.ir.equivalence import compare
from tests.zoo import ENTRIES, Entry

if TYPE_CHECKING:
    from dragoman.conversion import Report

_DEEP = ("llama_stack_16", "llama_stack_64")  # the layers of llama_stack_4 again


@dataclass(frozen=True)
class Row:
    """What became of one model."""

    entry: Entry
    report: Report
    optimised: str
    seconds: float

    @property
    def sizes(self) -> int:
        """At how many different sizes it was compared."""
        comparison = self.report.comparison
        return len({tuple(sorted(c.shapes.items())) for c in comparison.cases}) if comparison else 0

    @property
    def holds(self) -> bool:
        """Whether it is verified at three sizes, or at all there are, with the optimiser off and on."""
        verdict = self.report.verdict
        enough = self.sizes >= 3 or not self.entry.dynamic
        return verdict is not None and verdict.holds and enough and self.optimised in ("PROVEN", "VERIFIED")

    def cells(self) -> list[str]:
        """The row, as text."""
        comparison = self.report.comparison
        assert comparison is not None
        outputs = [o for case in comparison.cases for o in case.outputs]
        theirs, ours = (max((getattr(o, n) for o in outputs), default=0.0) for n in ("norm_source", "norm_candidate"))
        dims = ", ".join(dict.fromkeys(s for axes in self.entry.dynamic.values() for s in axes.values()))
        return [
            self.entry.name,
            dims or "none",
            str(self.report.verdict),
            str(self.sizes),
            f"{theirs:.1e}",
            f"{ours:.1e}",
            self.optimised,
            f"{self.report.nodes_imported} → {self.report.nodes_optimised} → {self.report.nodes_written}",
            f"{self.seconds:.0f}",
        ]


COLUMNS = ["model", "dynamic", "verdict", "sizes", "source's error", "ONNX's error", "optimiser on"]
COLUMNS += ["nodes: read → optimised → ONNX", "s"]


def convert(entry: Entry, folder: Path) -> Row:
    """Convert, check, and compare again with ONNX Runtime's optimiser on."""
    args, kwargs = entry.arguments(entry.example)
    module = entry.factory()
    path = folder / f"{entry.name}.onnx"
    started = time.perf_counter()
    report = dragoman.convert(module, path, args=args, kwargs=kwargs, dynamic=entry.dynamic, keep=True)
    seconds = time.perf_counter() - started
    check(path)
    model = dragoman.load(module, args, kwargs, dynamic=entry.dynamic)
    assert model.source is not None
    again = compare(model.graph, model.source, Session(path, optimise=True), cases=plan_cases(model.graph)[:2])
    return Row(entry, report, str(again.verdict), seconds)


def page(rows: Sequence[Row]) -> str:
    """The whole page."""
    versions = ", ".join(f"{p} {version(p)}" for p in ("torch", "transformers", "timm", "onnx", "onnxruntime"))
    lines = [
        "# The zoo in ONNX",
        "",
        f"Written by `python tests/zoo/table.py docs/zoo.md`: {sum(r.holds for r in rows)} of {len(rows)} models are",
        "verified, with random weights and random statistics. Errors are those of PyTorch in f32 and of ONNX Runtime",
        "against PyTorch in float64, relative in norm, the largest over outputs and cases; stress cases included.",
        "Seconds are those of the whole conversion with verification.",
        "",
        f"{versions}.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "| --- | --- | --- | ---: | ---: | ---: | --- | ---: | ---: |",
        *("| " + " | ".join(row.cells()) + " |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Convert, write; 1 if a model is not verified."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("page", type=Path, help="the Markdown file to write")
    parser.add_argument("--models", default="", help="names, with commas")
    options = parser.parse_args()
    chosen = [e for e in ENTRIES if e.name not in _DEEP and (not options.models or e.name in options.models.split(","))]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for entry in chosen:
            rows.append(convert(entry, Path(folder)))
            told = f"{rows[-1].report.verdict}, optimised {rows[-1].optimised}, {rows[-1].sizes} sizes"
            print(f"{entry.name}: {told}, {rows[-1].seconds:.0f} s", file=sys.stderr, flush=True)
            for written in Path(folder).iterdir():
                written.unlink()
            gc.collect()
    options.page.write_text(page(rows), encoding="utf-8")
    return int(not all(row.holds for row in rows))


if __name__ == "__main__":
    sys.exit(main())
