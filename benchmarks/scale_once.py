"""One generated graph through every stage, each under its own meter; run by scale.py, never by hand.

Owns the stages: build, verify, print, parse, optimise (with the verifier after every pass), emit (an ONNX file written,
read back and checked). Between them, off the clock, it looks at what came out: parsed text prints the same, and the
emitted file computes what the graph says.
"""

from __future__ import annotations

import cProfile
import io
import pstats
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fresh_process import Request, Result, answer
from generated_graph import ROWS, WIDTH, generate
from meter import Meter

from dragoman.backends.onnx import Session, save
from dragoman.ir.graph import Graph
from dragoman.ir.interpreter import run
from dragoman.ir.text import parse, show
from dragoman.ir.verify import verify
from dragoman.passes.manager import run_passes
from dragoman.passes.pipelines import OPTIMISE

_PROFILED = 25  # lines of a profile that are kept


class Stages:
    """Runs stages under a meter each; `profile` names one to be profiled."""

    def __init__(self, profile: str) -> None:
        self.readings: dict[str, dict[str, float]] = {}
        self.profile_text = ""
        self._profile = profile

    def run(self, name: str, stage: Callable[[], Any]) -> Any:
        """The result of a stage."""
        profiler = cProfile.Profile() if name == self._profile else None
        with Meter() as meter:
            result = profiler.runcall(stage) if profiler else stage()
        self.readings[name] = meter.reading.as_dict()
        if profiler:
            text = io.StringIO()
            pstats.Stats(profiler, stream=text).sort_stats("tottime").print_stats(_PROFILED)
            self.profile_text = text.getvalue()
        return result


def measure(request: Request) -> Result:
    """Every stage of one graph."""
    stages = Stages(request.get("profile", ""))
    graph: Graph = stages.run("build", lambda: generate(request["nodes"], request["seed"]))
    nodes = len(graph)
    stages.run("verify", lambda: verify(graph))
    text: str = stages.run("print", lambda: show(graph))
    values = {name: v.weight for name, v in graph.weights.items() if v.weight is not None}
    parsed: Graph = stages.run("parse", lambda: parse(text, values))
    if show(parsed) != text:
        raise AssertionError("the text does not parse back to the same graph")
    expected = run(parsed, _input()) if request["check"] else []
    parsed = Graph()  # let the copy go
    context = stages.run("optimise", lambda: run_passes(graph, OPTIMISE))
    with tempfile.TemporaryDirectory(prefix="dragoman-bench-", dir=request.get("folder")) as folder:
        saved = stages.run("emit", lambda: save(graph, Path(folder) / "model.onnx"))
        difference = _difference(saved.path, graph, expected) if request["check"] else None
        return {
            "nodes": nodes,
            "optimised": len(graph),
            "written": saved.nodes,
            "text_bytes": len(text),
            "file_bytes": saved.file_bytes,
            "difference": difference,
            "stages": stages.readings,
            "passes": [{"name": r.name, "seconds": r.seconds, "changes": r.changes} for r in context.records],
            "profile": stages.profile_text,
        }


def _input() -> Any:
    return np.random.default_rng(0).standard_normal((2, ROWS, WIDTH)).astype(np.float32)


def _difference(path: Path, graph: Graph, expected: list[Any]) -> float:
    """ONNX Runtime on the file against the graph as built in float64, in parts of the largest value."""
    got = Session(path, optimise=False, graph=graph).run([_input()])
    scales = [float(np.abs(e).max()) for e in expected]
    return max(float(np.abs(g - e).max()) / s for g, e, s in zip(got, expected, scales, strict=True))


if __name__ == "__main__":
    answer(measure)
