"""One graph through the optimising passes, measured in this process; run by optimise.py, never by hand.

Owns what is timed: `Model.optimise` on a model of the zoo, twice on the same model read anew, with or without proofs;
or the passes on a generated graph. Every module of ours and the ONNX libraries are imported before; what the passes
import all the same is on the clock and listed in `late_imports`.
"""

from __future__ import annotations

import sys
from typing import Any

from fresh_process import Request, Result, answer
from meter import Meter


def measure(request: Request) -> Result:
    """The model or the generated graph that is asked for."""
    return generated(request) if request["nodes"] else of_the_zoo(request)


def generated(request: Request) -> Result:
    """The passes on one generated graph."""
    from generated_graph import generate

    from dragoman.passes.manager import run_passes
    from dragoman.passes.pipelines import OPTIMISE

    graph = generate(request["nodes"], request["seed"])
    nodes = len(graph)
    with Meter() as meter:
        context = run_passes(graph, OPTIMISE)
    return {"nodes": nodes, "optimised": len(graph), "passes": passes_of(context.records), **meter.reading.as_dict()}


def of_the_zoo(request: Request) -> Result:
    """The passes on a model as PyTorch exports it: the first time in this process, and again."""
    from subjects import subject

    import dragoman
    import dragoman.backends.onnx

    it = subject(request["model"])
    turns: list[Result] = []
    for _ in range(2):
        model = dragoman.load(it.module, it.args, it.kwargs, dynamic=it.dynamic)
        nodes, before = len(model.graph), set(sys.modules)
        with Meter() as meter:
            model.optimise(check=request["seconds"] if request["proofs"] else None)
        late = sorted(set(sys.modules) - before)
        turns.append({"passes": passes_of(model.passes), "late_imports": late, **meter.reading.as_dict()})
    first, again = turns
    found = {"nodes": nodes, "optimised": len(model.graph), **first, "again": again["seconds"]}
    return {**found, **proofs_of(model.checker)}


def proofs_of(checker: Any) -> Result:
    """How many firings were proved, how many were not looked at for want of time or size, and how many were refused."""
    if checker is None:
        return {}
    unchecked, refused = sum(checker.unchecked.values()), len(checker.refused)
    return {"proved": len(checker.firings), "unchecked": unchecked, "refused": refused}


def passes_of(records: Any) -> list[Result]:
    """Time and changes of each pass in order."""
    return [{"name": r.name, "seconds": r.seconds, "changes": r.changes} for r in records]


if __name__ == "__main__":
    answer(measure)
