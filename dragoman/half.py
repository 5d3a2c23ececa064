"""Verifying a model that was brought to half precision: what it is run in, and what it is held against.

It is run twice. The written file in ONNX Runtime shows that it says what the graph says; but its CPU provider keeps f32
between nodes in f16, and has no bf16. So the graph is run as well, in the steps that were written, node by node in the
declared types: half in, f32 inside, half out, as accelerators compute. Both may err K times as much as the source
itself in that precision. The verdict is the worse of the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dragoman.backends.onnx import Session, legal
from dragoman.ir.equivalence import Comparison, Verdict, compare
from dragoman.ir.errors import UsageError
from dragoman.ir.findings import RuleProofs
from dragoman.ir.graph import Graph
from dragoman.ir.region import clone
from dragoman.ir.runner import GraphRunner, Runner
from dragoman.ir.types import BF16, DType
from dragoman.passes.legalize import legalize
from dragoman.passes.precision import InHalf

_ORDER = (Verdict.PROVEN, Verdict.VERIFIED, Verdict.INCONCLUSIVE, Verdict.DIFFERENT)


def open_half(path: Path, half: DType | None, graph: Graph | None = None) -> Runner:
    """A written model in ONNX Runtime; one in bf16 with that as f32, where it lacks kernels. Raises UsageError."""
    try:
        return Session(path, optimise=False, graph=graph)
    except UsageError:
        if half != BF16:
            raise
    from dragoman.backends.onnx.widen import widened

    session = Session(widened(path), optimise=False)
    session.name += ", bf16 as f32"
    return session


def compare_half(
    imported: Graph,
    source: Runner | None,
    written: Graph,
    path: Path,
    half: DType,
    opset: int,
    *,
    given: Sequence[Sequence[Any]] = (),
    budget: float,
    rules: Sequence[RuleProofs] | None = None,
    command: str = "",
) -> Comparison:
    """Compare a written model, and the graph it was written from, with the source in half precision."""
    standard = InHalf(imported, source, half)
    steps = clone(written)
    legalize(steps, legal(opset))
    stepwise = compare(
        imported,
        standard,
        GraphRunner(steps, f"the graph as written, node by node in {half}"),
        given=given,
        budget=budget / 2,
        rules=rules,
        command=command,
        precision=half,
    )
    candidate = open_half(path, half, written)
    file = compare(
        imported,
        standard,
        candidate,
        given=given,
        budget=budget / 2,
        rules=rules,
        command=command,
        precision=half,
    )
    worse, other = (stepwise, file) if _rank(stepwise) > _rank(file) else (file, stepwise)
    told = f"{other.candidate}: {other.verdict}, {other.reason} ({len(other.cases)} cases)"
    # The worse of both holds the errors and the bisection; the other is told in a line.
    notes = dict.fromkeys((told, *standard.notes, *worse.notes))
    return replace(worse, notes=tuple(notes), seconds=stepwise.seconds + file.seconds, budget=budget)


def _rank(comparison: Comparison) -> int:
    return _ORDER.index(comparison.verdict)
