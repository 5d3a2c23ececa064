"""Collects what the page of a conversion shows: both graphs, errors within, what rules did and nearly did."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dragoman.bench.results import write_text
from dragoman.ir.cases import sizes_of
from dragoman.ir.graph import Graph, Value
from dragoman.ir.region import clone
from dragoman.ir.runner import Runner
from dragoman.report.drawing import drawn, errors_within
from dragoman.report.page import rendered, write

if TYPE_CHECKING:
    from dragoman.conversion import Report


def write_conversion(
    path: Path, report: Report, imported: Graph, optimised: Graph, candidate: Runner, examples: Sequence[Any]
) -> None:
    """Write the page, and beside it the errors as node data for Model Explorer. Raises OutputError."""
    from dragoman.passes.explain import explain

    sizes: Mapping[str, int] = dict(sizes_of(imported, examples) or {}) if examples else {}
    errors, missing = ({}, "") if not examples else errors_within(optimised, candidate, examples, sizes)
    graphs = {"before": drawn(imported, sizes), "after": drawn(optimised, sizes, errors)}
    stories = explain(clone(imported))
    write(path, rendered(report, graphs, stories, [missing] if missing else []))
    if errors:
        write_text(path.with_suffix(".node-data.json"), node_data(optimised, errors))


def node_data(graph: Graph, errors: Mapping[Value, float]) -> str:
    """Errors by the names that outputs of nodes have, in the form that Model Explorer takes as custom node data
    (https://github.com/google-ai-edge/model-explorer/wiki/2.-User-Guide).
    """
    named = {r.name: {"value": errors[r]} for node in graph for r in node.results if r in errors and r.name}
    colours = [{"value": 0, "bgColor": "#dbe9ff"}, {"value": 0.01, "bgColor": "#e0583c"}]
    return json.dumps({graph.name or "main": {"results": named, "gradient": _stops(colours)}}, indent=1) + "\n"


def _stops(colours: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"stop": float(i), "bgColor": c["bgColor"]} for i, c in enumerate(colours)]
