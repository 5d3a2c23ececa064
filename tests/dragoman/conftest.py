"""The command line, run in this process: what it returns, and what it shows on which stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from dragoman.cli import status

MODELS = "tests.dragoman.models:"


@dataclass(frozen=True)
class Shown:
    """The end of one command."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """Standard error without the stages that ran before."""
        return "\n".join(line for line in self.err.splitlines() if not line.endswith(" s") or not line.startswith("  "))


Command = Callable[..., Shown]


@pytest.fixture
def dragoman(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `dragoman …`; a model of these tests is named by its factory alone."""

    def run(*arguments: str | Path) -> Shown:
        capsys.readouterr()
        code = status([str(a) for a in arguments])
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err + shown.out
        return Shown(code, shown.out, shown.err)

    return run


@pytest.fixture
def convert(dragoman: Command, tmp_path: Path) -> Command:
    """Runs `dragoman convert` on a factory of these tests; unless it succeeds, nothing may be left behind."""

    def run(factory: str, *arguments: str | Path, output: Path | None = None) -> Shown:
        output = output or tmp_path / "model.onnx"
        before = contents(output.parent)
        shown = dragoman("convert", MODELS + factory, "-o", output, *arguments)
        if shown.code:
            assert contents(output.parent) == before
        return shown

    return run


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every name below a folder, with the bytes of those that are files."""
    if not folder.is_dir():
        return {}
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}
