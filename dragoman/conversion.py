"""`convert`: read, optimise, write aside, verify what was written, and only then put it in place.

A reader of the output path never meets a file that failed verification: the model is written to a folder beside the
target and moved when its verdict is known.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragoman.certificate import certificate_path, certify, write
from dragoman.inputs import InputSpec
from dragoman.ir.equivalence import Comparison, Verdict, compare, tally
from dragoman.ir.errors import NotEquivalent, OutputError, UsageError
from dragoman.ir.region import clone
from dragoman.model import Model, checked_target, external_of, load
from dragoman.notes import Note
from dragoman.passes.manager import PassRecord
from dragoman.source import is_part_of
from dragoman.stages import Progress, Stages, memory, silent

_LEAST_BUDGET, _BUDGET_PER_SECOND = 6.0, 3.0
_CHECK_SHARE = 0.3  # of the verification budget that proofs of single rewrites may take


@dataclass
class Report:
    """What a conversion did: verdict, errors, sizes, times. `str()` gives the page that a person reads."""

    source: str
    path: Path
    verdict: Verdict | None  # None: verification was switched off
    comparison: Comparison | None
    opset: int
    nodes_imported: int
    nodes_optimised: int
    nodes_written: int
    weight_bytes: int
    file_bytes: int
    seconds: Mapping[str, float]
    memory_before: int
    memory_peak: int
    files: tuple[Path, ...] = ()
    certificate: Path | None = None
    passes: Sequence[PassRecord] = ()
    notes: tuple[Note, ...] = ()

    @property
    def total_seconds(self) -> float:
        """Seconds over all stages."""
        return sum(self.seconds.values())

    def __str__(self) -> str:
        from dragoman.summary import report_lines

        return "\n".join(report_lines(self))


def convert(
    source: Any,
    output: str | Path,
    *,
    to: str = "onnx",
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    dynamic: Mapping[str, Mapping[int, Any]] | None = None,
    inputs: Sequence[str | InputSpec] = (),
    opset: int | None = None,
    target: str = "portable",
    precision: str | None = None,
    external: str = "auto",
    verify: bool = True,
    budget: float | None = None,
    keep: bool = False,
    overwrite: bool = False,
    trust: bool = False,
    progress: Progress = silent,
) -> Report:
    """Convert a model and verify the result against its source.

    `source`, `args`, `kwargs`, `dynamic`, `inputs`, `trust` are those of `load`. `budget` is the time in seconds that
    verification may take, by default three times what reading took and at least six; what it skipped is in the report.
    Raises NotEquivalent, and writes nothing, when the result differs (`keep` writes it all the same), and every error
    of `load` and of the backend.
    """
    path = Path(output)
    _check_request(to, target, precision, opset, external)
    _check_output(path, source, overwrite)
    from dragoman.backends.onnx import Staging

    stages = Stages(progress)
    before, _ = memory()
    with stages.stage("load"):
        model = load(source, args, kwargs, dynamic=dynamic, inputs=inputs, trust=trust, progress=stages.begin)
    imported, nodes_imported = clone(model.graph) if verify else None, len(model.graph)
    with stages.stage("optimise"):
        budget = max(_LEAST_BUDGET, _BUDGET_PER_SECOND * stages.total) if budget is None else budget
        model.optimise(target, check=max(_LEAST_BUDGET, budget * _CHECK_SHARE) if verify else None)
    with Staging(path, overwrite=overwrite) as staging:
        with stages.stage("write"):
            saved = staging.write(model.graph, opset=opset, external=external_of(external))
        comparison = None
        if imported is not None:
            with stages.stage("verify"):
                comparison = _compared(model, imported, saved.path, budget, _again(source, path))
        _, peak = memory()
        report = Report(
            source=model.spec,
            path=path,
            verdict=comparison.verdict if comparison else None,
            comparison=comparison,
            opset=saved.opset,
            nodes_imported=nodes_imported,
            nodes_optimised=len(model.graph),
            nodes_written=saved.nodes,
            weight_bytes=saved.weight_bytes,
            file_bytes=saved.file_bytes,
            seconds=stages.seconds,
            memory_before=before,
            memory_peak=peak,
            passes=tuple(model.passes),
            notes=model.notes,
        )
        if report.verdict is Verdict.DIFFERENT and not keep:
            raise NotEquivalent(f"{path} was not written: the result differs from the source\n{comparison}")
        certificate = None
        if comparison is not None and imported is not None:
            with stages.stage("certify"):
                options = {"to": to, "target": target, "opset": str(report.opset)}
                files = [f for f in (saved.path, saved.data) if f is not None]
                certificate = certificate_path(saved.path)
                try:
                    write(certify(model.spec, imported, files, comparison, options), certificate)
                except OutputError as error:
                    reason = getattr(error.__cause__, "strerror", None) or error
                    raise OutputError(
                        f"{path} and its certificate were not written: {reason}; make room, or write elsewhere"
                    ) from error
        with stages.stage("publish"):
            report.files = staging.publish()
            report.certificate = _publish_certificate(certificate, path)
    return report


def _publish_certificate(staged: Path | None, output: Path) -> Path | None:
    """Put a certificate beside its output; without one, remove that of the output that was there before."""
    if staged is None:
        certificate_path(output).unlink(missing_ok=True)
        return None
    try:
        return staged.replace(certificate_path(output))
    except OSError as error:
        raise OutputError(f"{output} was written, its certificate was not: {error.strerror or error}") from error


def _check_request(to: str, target: str, precision: str | None, opset: int | None, external: str) -> None:
    """Raise UsageError for what is not there, before the model is read."""
    if to != "onnx":
        raise UsageError(f"there is no backend {to!r} yet; there is onnx")
    checked_target(target)
    external_of(external)
    from dragoman.backends.onnx.types import checked_opset

    checked_opset(opset)
    if precision is not None:
        raise UsageError(f"precision {precision!r}: reduced precision is not there yet; leave it out")


def _check_output(path: Path, source: Any, overwrite: bool) -> None:
    """Raise OutputError where output or certificate cannot be written, before the model is read."""
    from dragoman.backends.onnx import check_destination

    check_destination(path, overwrite=overwrite)
    check_destination(certificate_path(path), overwrite=True)
    if isinstance(source, (str, Path)) and is_part_of(path, source):
        raise OutputError(f"{path} belongs to the source: write elsewhere")


def _compared(model: Model, imported: Any, path: Path, budget: float, command: str) -> Comparison:
    from dragoman.backends.onnx import Session
    from dragoman.ir.equivalence import GraphRunner

    candidate = Session(path, optimise=False, graph=model.graph)
    source = model.source or GraphRunner(imported, "Dragoman's interpreter")
    rules = tally(model.checker.firings, model.checker.unchecked) if model.checker else None
    given = [model.examples] if model.examples else []
    spent = model.checker.spent if model.checker else 0.0
    left = max(budget - spent, 0.0)
    return compare(imported, source, candidate, given=given, budget=left, rules=rules, command=command)


def _again(source: Any, path: Path) -> str:
    """The command that writes the result in spite of a difference, where a shell can name the source."""
    if not isinstance(source, (str, Path)):
        return ""
    return shlex.join(["dragoman", "convert", str(source), "-o", str(path), "--keep"])
