"""The public functions: everything that `import dragoman` offers comes from here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dragoman.bench.harness import bench
from dragoman.conversion import Report, convert
from dragoman.explanation import Explanation, explain
from dragoman.inspection import Inspection, inspect
from dragoman.ir.equivalence import Comparison, Verdict, compare
from dragoman.ir.errors import UsageError
from dragoman.ir.runner import GraphRunner, Runner
from dragoman.model import Model, load
from dragoman.stages import Progress, silent

__all__ = [
    "Comparison",
    "Explanation",
    "Inspection",
    "Model",
    "Report",
    "Verdict",
    "bench",
    "convert",
    "explain",
    "inspect",
    "load",
    "replay",
    "verify",
]


def verify(
    first: Any,
    second: Any,
    inputs: Sequence[Sequence[Any]] | None = None,
    *,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    params: Any = None,
    dynamic: Mapping[str, Mapping[int, Any]] | None = None,
    specs: Sequence[str] = (),
    budget: float | None = 120.0,
    trust: bool = False,
    progress: Progress = silent,
) -> Comparison:
    """Compare a model with another that should be the same: `second` may err at most twice as much as `first`.

    `first` is anything that `load` takes. `second` is an `.onnx` file or anything that `load` takes. `inputs` are lists
    of arrays to compare at besides those made from the graph. Raises UsageError where the inputs or outputs differ.
    """
    model = (
        first
        if isinstance(first, Model)
        else load(first, args, kwargs, params=params, dynamic=dynamic, inputs=specs, trust=trust, progress=progress)
    )
    progress("verify")
    source: Runner = model.source or GraphRunner(model.graph)
    given = list(inputs or ()) or ([model.examples] if model.examples else [])
    return compare(model.graph, source, _candidate(second, model, trust), given=given, budget=budget)


def _candidate(second: Any, model: Model, trust: bool) -> Runner:
    if isinstance(second, (str, Path)) and Path(second).suffix == ".onnx":
        if not Path(second).is_file():
            raise UsageError(f"{second}: no such file")
        from dragoman.backends.onnx import Session

        return Session(Path(second), optimise=False)
    other = second if isinstance(second, Model) else load(second, model.examples, trust=trust)
    return other.source or GraphRunner(other.graph)


def replay(
    certificate: str | Path, *, budget: float = 120.0, trust: bool = False, progress: Progress = silent
) -> Comparison:
    """Run the comparison that a certificate records again. Raises Malformed for what is no certificate."""
    from dragoman.certificate import replay as run

    progress("verify")
    return run(Path(certificate), budget=budget, trust=trust)
