"""The certificate beside an output: what was verified, how, and enough to verify it again later.

`certify` makes it, `write` and `read` keep it as JSON, `replay` is `dragoman verify CERT`. Reading executes nothing,
and neither does replaying: the source is run again only where that executes nothing from a file, or with `trust`;
else the output is compared with what the certificate remembers of the oracle, and the report says so.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dragoman
from dragoman.ir.cases import Case, Style
from dragoman.ir.equivalence import Comparison, compare
from dragoman.ir.errors import DragomanError, Malformed, OutputError, UsageError
from dragoman.ir.findings import Skipped, Verdict
from dragoman.ir.graph import Graph
from dragoman.ir.recall import compare_with_memory
from dragoman.ir.records import decode, encode
from dragoman.ir.roles import InputRole, input_roles
from dragoman.ir.runner import Runner
from dragoman.ir.types import DType
from dragoman.ir.weights import fingerprint
from dragoman.passes.precision import InHalf, Precision, half_dtype

FORMAT = 1
SUFFIX = ".dragoman.json"
_MAX_BYTES = 64 << 20  # no certificate of ours comes near; more is refused unread
_PIECE = 1 << 24
_LIBRARIES = ("numpy", "ml_dtypes", "torch", "onnx", "onnxruntime", "transformers", "timm")


@dataclass(frozen=True)
class FileHash:
    """A file beside the certificate or in a folder there, by its place, with its size and the SHA-256 of its bytes."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Certificate:
    """What is known of a verified output. `model` is the SHA-256 over the imported graph's text and weights."""

    format: int
    dragoman: str
    versions: Mapping[str, str]
    source: str  # how the source was named: a path, package.module:factory, or the name of a class
    model: str
    files: tuple[FileHash, ...]  # the output first, then its external data
    inputs: tuple[InputRole, ...]
    options: Mapping[str, str]
    comparison: Comparison
    precision: Precision | None = None  # how the graph was brought to half precision, if it was

    @property
    def output(self) -> str:
        """The name of the output."""
        return self.files[0].name


def certificate_path(output: Path) -> Path:
    """Where the certificate of an output lies."""
    return output.with_name(output.name + SUFFIX)


def certificate_of(form: str, output: Path) -> Path:
    """Where the certificate of an output of this form lies: beside a file, within a folder."""
    return certificate_path(output) if form == "onnx" else output / f"certificate{SUFFIX}"


def certify(
    source: str,
    graph: Graph,
    files: Sequence[Path],
    comparison: Comparison,
    options: Mapping[str, str] | None = None,
    precision: Precision | None = None,
) -> Certificate:
    """The certificate of an output (the first of `files`) for the graph as imported. Reads every byte of both once."""
    return Certificate(
        format=FORMAT,
        dragoman=dragoman.__version__,
        versions=_versions(),
        source=source,
        model=graph_hash(graph),
        files=tuple(replace(file_hash(p), name=p.relative_to(files[0].parent).as_posix()) for p in files),
        inputs=input_roles(graph),
        options=dict(options or {}),
        comparison=comparison,
        precision=precision,
    )


def write(certificate: Certificate, path: Path) -> None:
    """Write a certificate, whole or not at all. Raises OutputError."""
    text = json.dumps(encode(certificate), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise OutputError(f"{path}: the certificate could not be written: {error.strerror or error}") from error


def read(path: Path) -> Certificate:
    """Read a certificate. Raises UsageError where there is no file, Malformed for what is no certificate."""
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise Malformed(f"{path} has {size} bytes: no certificate is so large")
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise Malformed(f"{path} is no certificate: {error}") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise Malformed(f"{path} is no certificate of format {FORMAT}")
    certificate = decode(Certificate, data, "certificate")
    if not certificate.files:
        raise Malformed(f"{path}: certificate.files is empty")
    for file in certificate.files:
        if not _is_within(file.name):
            raise Malformed(f"{path}: {file.name!r} is not the name of a file beside the certificate")
    return certificate


def _is_within(name: str) -> bool:
    """Whether a name tells a place in the certificate's own folder: relative, without a way up."""
    parts = name.split("/")
    return "\\" not in name and ":" not in parts[0] and not {"", ".", ".."} & set(parts)


# ---- hashes -------------------------------------------------------------------------------------------


def file_hash(path: Path) -> FileHash:
    """Size and SHA-256 of a regular file, read in pieces. Raises UsageError."""
    try:
        if not path.is_file():
            raise UsageError(f"{path}: no such file")
        digest = hashlib.sha256()
        size = 0
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
                size += len(piece)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    return FileHash(path.name, size, digest.hexdigest())


def graph_hash(graph: Graph) -> str:
    """SHA-256 over a graph's text and the fingerprint of each weight, in the order of their names."""
    digest = hashlib.sha256(str(graph).encode())
    for name in sorted(graph.weights):
        weight = graph.weights[name].weight
        assert weight is not None
        digest.update(f"\n{name} {fingerprint(weight)}".encode())
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    """Python, the machine, and those libraries that are loaded: only they can have had a part in it."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for library in _LIBRARIES:
        if library in sys.modules:
            found[library] = importlib.metadata.version(library)
    return found


# ---- again --------------------------------------------------------------------------------------------

Rebuilt = tuple[Graph, Runner, Sequence[Any]]
"""A source that was read again: the imported graph, what runs it, and its example inputs."""


def replay(
    path: Path,
    *,
    budget: float | None = None,
    trust: bool = False,
    rebuild: Callable[[Certificate, bool], Rebuilt | str] | None = None,
    open_output: Callable[[Path], Runner] | None = None,
) -> Comparison:
    """Verify the output of a certificate again: its bytes, then its results in the cases that were run.

    The source is read again and run where it can be (`rebuild` gives a reason otherwise), else results are compared
    with what the certificate remembers. Raises UsageError and Malformed as `read` does.
    """
    certificate = read(path)
    changed = _changed_files(certificate, path.parent)
    if changed:
        return _refused(certificate, changed)
    half = half_dtype(certificate.precision.dtype) if certificate.precision is not None else None
    output = path.parent / certificate.output
    candidate = open_output(output) if open_output is not None else _open_output(output, half)
    source = (rebuild or _rebuild)(certificate, trust)
    if isinstance(source, str):
        remembered = f"the source was not run again ({source}): compared with what the certificate remembers"
        return compare_with_memory(certificate.comparison, certificate.inputs, candidate, remembered, budget)
    graph, runner, examples = source
    report = compare(
        graph,
        runner if half is None else InHalf(graph, runner, half),
        candidate,
        cases=_cases(certificate, examples),
        budget=budget,
        rules=certificate.comparison.rules,
        precision=half,
    )
    if report.rules:
        report = _noted(report, "rewrites were not proved again: their proofs are the recorded ones")
    if graph_hash(graph) != certificate.model:
        report = _noted(report, "the source is not the one that was certified: its graph or weights have another hash")
    return report


def _changed_files(certificate: Certificate, folder: Path) -> str:
    for file in certificate.files:
        found = file_hash(folder / file.name)
        if (found.size, found.sha256) != (file.size, file.sha256):
            return f"{file.name} is not the file that was certified: its SHA-256 is {found.sha256}"
    return ""


def _refused(certificate: Certificate, reason: str) -> Comparison:
    recorded = certificate.comparison
    skipped = tuple(Skipped(case.name, "the file has changed") for case in recorded.cases)
    return Comparison(
        Verdict.DIFFERENT, reason, recorded.source, certificate.output, "none was needed", skipped=skipped
    )


def _noted(report: Comparison, note: str) -> Comparison:
    return replace(report, notes=(note, *report.notes))


def _cases(certificate: Certificate, examples: Sequence[Any]) -> list[Case]:
    """The recorded cases; those of given arrays only where the source brings the arrays along."""
    cases: list[Case] = []
    for found in certificate.comparison.cases:
        style = _style(found.style)
        if style is not Style.GIVEN:
            cases.append(Case(found.symbols, style, found.seed))
        elif examples:
            cases.append(Case({}, style, arrays=tuple(examples)))
    return cases


def _style(text: str) -> Style:
    try:
        return Style(text)
    except ValueError:
        raise Malformed(f"certificate: there is no style of cases {text[:80]!r}") from None


def _open_output(path: Path, half: DType | None) -> Runner:
    if path.name == "manifest.json":
        from dragoman.backends.triton import FolderRunner

        return FolderRunner(path.parent)
    from dragoman.half import open_half

    return open_half(path, half)


def _rebuild(certificate: Certificate, trust: bool) -> Rebuilt | str:
    """Read the source again, as it is named. A reason, where that would execute code, or cannot be done."""
    from dragoman.model import load

    spec = certificate.source
    if not trust and not Path(spec).is_dir():
        return "reading it may execute code: --trust allows it" if _names_something(spec) else f"{spec} is no path"
    try:
        model = load(spec, inputs=[f"{role.name}:{role.type}" for role in certificate.inputs], trust=trust)
    except DragomanError as error:
        return str(error).splitlines()[0]
    if model.source is None:
        return f"{spec} has nothing that runs it"
    return model.graph, model.source, model.examples


def _names_something(spec: str) -> bool:
    return Path(spec).is_file() or ":" in spec
