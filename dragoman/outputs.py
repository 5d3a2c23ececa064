"""What can be written: an ONNX file, or a folder of Triton kernels. One face over both backends for `convert`.

Owns which options belong to which form, and what a conversion needs to know of the files it has written aside.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dragoman.certificate import certificate_of
from dragoman.ir.errors import UsageError
from dragoman.ir.graph import Graph
from dragoman.ir.runner import Runner

FORMS = ("onnx", "triton")


@dataclass(frozen=True)
class Written:
    """What was written aside: where, the files that a certificate hashes, how to run it, and what to report."""

    path: Path
    hashed: tuple[Path, ...]
    candidate: Callable[[], Runner]
    nodes: int
    weight_bytes: int
    file_bytes: int
    opset: int | None = None
    library: tuple[str, ...] = ()
    arena_bytes: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """The form asked for and its options."""

    to: str
    opset: int | None
    external: bool | None
    target: str
    pure: bool

    def check(self) -> None:
        """Raise UsageError for a form that is not there, or options that are not this form's."""
        if self.to not in FORMS:
            raise UsageError(f"there is no backend {self.to!r} yet; there is {' and '.join(FORMS)}")
        if self.to == "onnx":
            from dragoman.backends.onnx.types import checked_opset

            checked_opset(self.opset)
            if self.pure:
                raise UsageError("pure is for folders of Triton kernels: an ONNX file calls nothing")
        elif self.opset is not None or self.external is not None or self.target != "portable":
            raise UsageError("opset, external data and target are for ONNX: leave them out with --to triton")

    def check_runs(self) -> None:
        """Raise UsageError where what is asked for cannot be run here, and so not be verified."""
        missing = [m for m in ("torch", "triton") if self.to == "triton" and find_spec(m) is None]
        if missing:
            how = "install dragoman[triton], or write the folder unverified (--no-verify)"
            raise UsageError(f"running Triton kernels needs {' and '.join(missing)}: {how}")

    def check_destination(self, path: Path, overwrite: bool) -> None:
        """Raise OutputError where output or certificate cannot be written."""
        from dragoman.backends import onnx

        if self.to == "onnx":
            onnx.check_destination(path, overwrite=overwrite)
            onnx.check_destination(certificate_of(self.to, path), overwrite=True)
        else:
            from dragoman.backends import triton

            triton.check_destination(path, overwrite=overwrite)


def _casts(widened: Mapping[str, int]) -> tuple[str, ...]:
    """What was written with casts around it because ONNX Runtime has no kernel for its type."""
    if not widened:
        return ()
    ops = ", ".join(f"{name} {count}×" for name, count in sorted(widened.items()))
    return (f"for want of bf16 kernels in ONNX Runtime these compute in f32 between casts: {ops}",)


class Stage:
    """A place aside where a graph is written; `publish` moves it where it belongs."""

    def __init__(self, request: Request, staging: Any) -> None:
        self._request, self._staging = request, staging

    def write(self, graph: Graph) -> Written:
        """Write the graph aside. Raises EmitRefused, OutputError."""
        request = self._request
        if request.to == "triton":
            return self._write_kernels(graph)
        from dragoman.backends.onnx import Session

        contrib = request.target == "ort"
        saved = self._staging.write(graph, opset=request.opset, external=request.external, contrib=contrib)
        hashed = tuple(f for f in (saved.path, saved.data) if f is not None)

        def session() -> Runner:
            return Session(saved.path, optimise=False, graph=graph)

        return Written(
            saved.path,
            hashed,
            session,
            saved.nodes,
            saved.weight_bytes,
            saved.file_bytes,
            saved.opset,
            notes=_casts(saved.widened),
        )

    def _write_kernels(self, graph: Graph) -> Written:
        from dragoman.backends.triton import FolderRunner

        saved = self._staging.write(graph, pure=self._request.pure)
        emission = saved.emission
        hashed = sorted(saved.files, key=lambda f: (f.name != "manifest.json", f))
        return Written(
            saved.path,
            tuple(hashed),
            lambda: FolderRunner(saved.path),
            len(emission.launches),
            saved.weight_bytes,
            saved.file_bytes,
            None,
            emission.library,
            emission.manifest["peak_bytes"],
        )

    def publish(self) -> tuple[Path, ...]:
        """Move what was written into place; returns its files."""
        return self._staging.publish()


@contextmanager
def staged(request: Request, path: Path, overwrite: bool) -> Generator[Stage]:
    """A place beside the output to write it aside; what was not published is gone afterwards."""
    if request.to == "triton":
        from dragoman.backends.triton import Staging
    else:
        from dragoman.backends.onnx import Staging
    with Staging(path, overwrite=overwrite) as staging:
        yield Stage(request, staging)
