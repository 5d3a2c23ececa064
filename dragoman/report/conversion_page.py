"""Collects what the page of a conversion shows: both graphs, errors within, what rules did and nearly did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dragoman.ir.cases import sizes_of
from dragoman.ir.graph import Graph
from dragoman.ir.region import clone
from dragoman.ir.runner import Runner
from dragoman.report.drawing import drawn, errors_within
from dragoman.report.page import rendered, write

if TYPE_CHECKING:
    from dragoman.conversion import Report


def write_conversion(
    path: Path, report: Report, imported: Graph, optimised: Graph, candidate: Runner, examples: Sequence[Any]
) -> None:
    """Write the page. Raises OutputError."""
    from dragoman.passes.explain import explain

    sizes: Mapping[str, int] = dict(sizes_of(imported, examples) or {}) if examples else {}
    errors, missing = ({}, "") if not examples else errors_within(optimised, candidate, examples, sizes)
    graphs = {"before": drawn(imported, sizes), "after": drawn(optimised, sizes, errors)}
    stories = explain(clone(imported))
    write(path, rendered(report, graphs, stories, [missing] if missing else []))
