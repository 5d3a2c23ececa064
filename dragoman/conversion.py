"""`convert`: read, optimise, write aside, verify what was written, and only then put it in place.

A reader of the output path never meets a file that failed verification: the model is written to a folder beside the
target and moved when its verdict is known.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dragoman.certificate import certificate_of, certify, write
from dragoman.inputs import InputSpec
from dragoman.ir.equivalence import Comparison, Verdict, compare, tally
from dragoman.ir.errors import NotEquivalent, OutputError, UsageError
from dragoman.ir.graph import Graph
from dragoman.ir.region import clone
from dragoman.ir.runner import GraphRunner
from dragoman.model import Model, checked_target, external_of, load
from dragoman.notes import Note
from dragoman.outputs import Request, staged
from dragoman.passes.check import RewriteChecker
from dragoman.passes.manager import PassRecord
from dragoman.passes.precision import Precision, half_dtype
from dragoman.source import is_part_of
from dragoman.stages import Progress, Stages, memory, silent

if TYPE_CHECKING:
    from dragoman.outputs import Written

_LEAST_BUDGET, _BUDGET_PER_SECOND = 6.0, 3.0
_LEAST_MEASURING = 30.0  # seconds that measuring for half precision may take, if verification takes less
_REFUSALS = 5  # refused rewrites that a report tells of
_LEAST_CHECK = 9.0  # seconds for proofs of single rewrites: bert-base needs 6 on one core
_CHECK_SHARE = 0.3  # of the verification budget that proofs of single rewrites may take


@dataclass
class Report:
    """What a conversion did: verdict, errors, sizes, times. `str()` gives the page that a person reads."""

    source: str
    path: Path
    verdict: Verdict | None  # None: verification was switched off
    comparison: Comparison | None
    opset: int | None  # of ONNX
    nodes_imported: int
    nodes_optimised: int
    nodes_written: int  # of ONNX, or launches of kernels
    weight_bytes: int
    file_bytes: int
    seconds: Mapping[str, float]
    memory_before: int
    memory_peak: int
    files: tuple[Path, ...] = ()
    certificate: Path | None = None
    passes: Sequence[PassRecord] = ()
    notes: tuple[Note, ...] = ()
    precision: Precision | None = None  # None: as the source has it
    library: tuple[str, ...] = ()  # operations that a folder of kernels leaves to torch
    arena_bytes: int | None = None  # of a folder of kernels of fixed sizes: memory besides weights and inputs

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
    params: Any = None,
    dynamic: Mapping[str, Mapping[int, Any]] | None = None,
    inputs: Sequence[str | InputSpec] = (),
    opset: int | None = None,
    target: str = "portable",
    precision: str | None = None,
    external: str = "auto",
    pure: bool = False,
    verify: bool = True,
    budget: float | None = None,
    keep: bool = False,
    overwrite: bool = False,
    trust: bool = False,
    page: str | Path | None = None,
    progress: Progress = silent,
) -> Report:
    """Convert a model and verify the result against its source.

    `source`, `args`, `kwargs`, `params`, `dynamic`, `inputs`, `trust` are those of `load`. `budget` is the time in
    seconds that verification may take, by default three times what reading took and at least six; what it skipped is in
    the report.
    `precision`, "f16" or "bf16", brings f32 nodes to half precision but for those that lose too much there, which the
    report names; the result may then err K times as much as the source itself in that precision.
    `page` is an HTML file to write besides, for a verified conversion: verdict, errors, both graphs, the passes. It is
    written for a result that differs, too.
    `to` is "onnx", a file, or "triton", a folder that runs with torch and Triton alone; `pure` bars calls of torch in
    it.
    Raises NotEquivalent, and writes nothing, when the result differs (`keep` writes it all the same), and every error
    of `load` and of the backend.
    """
    path = Path(output)
    request = Request(to, opset, external_of(external), target, pure)
    _check_request(request, precision)
    _check_page(page, verify)
    if verify:
        request.check_runs()
    _check_output(request, path, source, overwrite)
    stages = Stages(progress)
    before, _ = memory()
    with stages.stage("load"):
        model = load(
            source,
            args,
            kwargs,
            params=params,
            dynamic=dynamic,
            inputs=inputs,
            trust=trust,
            check=_LEAST_BUDGET if verify else None,
            progress=stages.begin,
        )
    imported, nodes_imported = clone(model.graph) if verify else None, len(model.graph)
    with stages.stage("optimise"):
        budget = max(_LEAST_BUDGET, _BUDGET_PER_SECOND * stages.total) if budget is None else budget
        check = max(_LEAST_CHECK, budget * _CHECK_SHARE) if verify else None
        model.optimise(target, check=check)
    if precision is not None:
        with stages.stage("reduce precision"):
            model.reduce(precision, opset=opset, seconds=max(_LEAST_MEASURING, budget))
    with staged(request, path, overwrite) as staging:
        with stages.stage("write"):
            saved = staging.write(model.graph)
        comparison = None
        if imported is not None:
            with stages.stage("verify"):
                comparison = _compared(model, imported, saved, budget, _again(source, path, to, precision))
                comparison = replace(comparison, notes=(*comparison.notes, *saved.notes))
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
            notes=(*model.notes, *map(Note, saved.notes)),
            precision=model.precision,
            library=saved.library,
            arena_bytes=saved.arena_bytes,
        )
        if page is not None and imported is not None:
            from dragoman.report.conversion_page import write_conversion

            with stages.stage("report"):
                write_conversion(Path(page), report, imported, model.graph, saved.candidate(), model.examples)
        if report.verdict is Verdict.DIFFERENT and not keep:
            raise NotEquivalent(f"{path} was not written: the result differs from the source\n{comparison}")
        certificate = None
        if comparison is not None and imported is not None:
            with stages.stage("certify"):
                options = {"to": to, "target": target, **({"opset": str(saved.opset)} if saved.opset else {})}
                options |= {"precision": precision} if precision is not None else {}
                certificate = certificate_of(to, saved.path)
                try:
                    write(
                        certify(model.spec, imported, saved.hashed, comparison, options, model.precision), certificate
                    )
                except OutputError as error:
                    reason = getattr(error.__cause__, "strerror", None) or error
                    raise OutputError(
                        f"{path} and its certificate were not written: {reason}; make room, or write elsewhere"
                    ) from error
        with stages.stage("publish"):
            report.files = tuple(f for f in staging.publish() if f != certificate_of(to, path))
            report.certificate = _publish_certificate(certificate, certificate_of(to, path))
    return report


def _publish_certificate(made: Path | None, place: Path) -> Path | None:
    """Put a certificate in its place; without one, remove that of the output that was there before."""
    if made is None:
        place.unlink(missing_ok=True)
        return None
    try:
        return made.replace(place) if made.exists() else place  # within a folder it has moved with that
    except OSError as error:
        what = place.name.removesuffix(".dragoman.json")
        raise OutputError(f"{what} was written, its certificate was not: {error.strerror or error}") from error


def _check_request(request: Request, precision: str | None) -> None:
    """Raise UsageError for what is not there, before the model is read."""
    checked_target(request.target)
    request.check()
    if precision is not None:
        half_dtype(precision)
        if request.to != "onnx":
            raise UsageError("precision is for ONNX as yet: convert the model itself to half precision first")


def _check_page(page: str | Path | None, verify: bool) -> None:
    """Raise before the model is read for a page that cannot be written or has nothing to tell."""
    if page is None:
        return
    if not verify:
        raise UsageError("a report tells what verification found: leave out --no-verify")
    from dragoman.bench.results import check_writable

    check_writable(Path(page))


def _check_output(request: Request, path: Path, source: Any, overwrite: bool) -> None:
    """Raise OutputError where output or certificate cannot be written, before the model is read."""
    request.check_destination(path, overwrite)
    if isinstance(source, (str, Path)) and is_part_of(path, source):
        raise OutputError(f"{path} belongs to the source: write elsewhere")


def _compared(model: Model, imported: Graph, saved: Written, budget: float, command: str) -> Comparison:
    checker = model.checker
    rules = tally(checker.firings, checker.unchecked) if checker else None
    given = [model.examples] if model.examples else []
    spent = checker.spent if checker else 0.0
    left = max(budget - spent, 0.0)
    if model.precision is not None:
        from dragoman.half import compare_half

        half = half_dtype(model.precision.dtype)
        assert saved.opset is not None
        places = (imported, model.source, model.graph, saved.path, half, saved.opset)
        found = compare_half(*places, given=given, budget=left, rules=rules, command=command)
    else:
        candidate = saved.candidate()
        source = model.source or GraphRunner(imported, "Dragoman's interpreter")
        found = compare(imported, source, candidate, given=given, budget=left, rules=rules, command=command)
    return replace(found, notes=(*found.notes, *_proof_notes(checker))) if checker else found


def _proof_notes(checker: RewriteChecker) -> list[str]:
    """On which values rewrites were judged, and those that a proof refused: they did not take effect."""
    notes = [f"rewrites were judged on random values and on those of {checker.run}"] if checker.firings else []
    refused = dict.fromkeys(f"a proof refused {firing}: it was not done" for firing in checker.refused)
    return notes + list(refused)[:_REFUSALS]


def _again(source: Any, path: Path, to: str, precision: str | None) -> str:
    """The command that writes the result in spite of a difference, where a shell can name the source."""
    if not isinstance(source, (str, Path)):
        return ""
    more = (["--to", to] if to != "onnx" else []) + (["--precision", precision] if precision is not None else [])
    return shlex.join(["dragoman", "convert", str(source), "-o", str(path), *more, "--keep"])
