"""Writing a folder that runs with torch and Triton alone, so that a reader meets the old one or the new one, whole.

    __init__.py graph.py fused.py      what was generated      support.py memory.py kernels/    what it runs on
    weights.safetensors manifest.json  weights, and names, types, launches, calls of torch, peak memory

Everything is written to a folder beside the target, which is then renamed. Refuses a target that exists, unless it is a
folder of ours and `overwrite` is given.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import TracebackType

import numpy as np

from dragoman.backends.triton.emitter import Emission, emit
from dragoman.ir.errors import OutputError, UsageError
from dragoman.ir.graph import Graph
from dragoman.ir.weights import Weight

MANIFEST, WEIGHTS = "manifest.json", "weights.safetensors"
_SAFE = {"f16": "F16", "bf16": "BF16", "f32": "F32", "f64": "F64", "bool": "BOOL"} | {
    f"{kind}{bits}": f"{kind.upper()}{bits}" for kind in "iu" for bits in (8, 16, 32, 64)
}
_KERNELS = ("attention", "case", "conv", "functions", "layer_norm", "matmul", "reduce", "rows", "softmax")
_INIT = '''"""A model written by Dragoman as Triton kernels: `from {name} import model`, then `model(*inputs)`.

Without a GPU, set TRITON_INTERPRET=1 before Triton is imported: the kernels then run, slowly, on the CPU.
"""

from pathlib import Path

from . import graph
from .support import Model

model = Model(Path(__file__).parent, graph)
'''


@dataclass(frozen=True)
class Saved:
    """What was written: the folder, its files, and what it holds."""

    path: Path
    files: tuple[Path, ...]
    emission: Emission
    weight_bytes: int
    file_bytes: int


class Staging:
    """A folder beside the target where the model is written first; `publish` moves it into place. A context manager."""

    def __init__(self, path: str | Path, *, overwrite: bool = False) -> None:
        self.path = Path(path)
        self._overwrite = overwrite
        self._folder: Path | None = None

    def __enter__(self) -> Staging:
        check_destination(self.path, overwrite=self._overwrite)
        try:
            self._folder = Path(tempfile.mkdtemp(prefix=".dragoman.", suffix=".partial", dir=self.path.parent))
        except OSError as error:
            raise OutputError(f"{self.path} was not written: {error.strerror or error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def write(self, graph: Graph, *, pure: bool = False) -> Saved:
        """Write a graph into the folder. Raises EmitRefused, OutputError."""
        if self._folder is None:
            raise UsageError("a Staging is used in a with statement")
        emission = emit(graph, pure=pure)
        target = self._folder / "model"
        try:
            return _write(emission, target, self.path.name)
        except OSError as error:
            raise OutputError(f"{self.path} was not written: {error.strerror or error}") from error

    def publish(self) -> tuple[Path, ...]:
        """Move what was written into place; returns the folder's files."""
        assert self._folder is not None
        staged, old = self._folder / "model", self._folder / "old"
        check_destination(self.path, overwrite=self._overwrite)
        try:
            if self.path.exists():
                self.path.rename(old)
            staged.rename(self.path)
        except OSError as error:
            if old.exists() and not self.path.exists():
                old.rename(self.path)
            raise OutputError(f"{self.path} was not written: {error.strerror or error}") from error
        return tuple(sorted(p for p in self.path.rglob("*") if p.is_file()))


def save(graph: Graph, path: str | Path, *, pure: bool = False, overwrite: bool = False) -> Path:
    """Write a graph as a folder; returns its path. Raises EmitRefused, OutputError."""
    with Staging(path, overwrite=overwrite) as staging:
        staging.write(graph, pure=pure)
        staging.publish()
    return Path(path)


def check_destination(path: Path, *, overwrite: bool = False) -> None:
    """Raise OutputError, saying what to do, unless a folder can be written there."""
    if not path.parent.is_dir():
        raise OutputError(f"{path.parent} is not a folder: create it first, or write elsewhere")
    if path.exists() or path.is_symlink():
        ours = path.is_dir() and not path.is_symlink() and (path / MANIFEST).is_file() and (path / WEIGHTS).is_file()
        if not overwrite or not ours:
            how = (
                "choose another name, or have it replaced (--overwrite)"
                if ours
                else "it is not one of ours: write elsewhere"
            )
            raise OutputError(f"{path} exists: {how}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"{path.parent} cannot be written to: change its permissions, or write elsewhere")


def _write(emission: Emission, folder: Path, name: str) -> Saved:
    (folder / "kernels").mkdir(parents=True)
    called = name if name.isidentifier() else "build"
    texts = {"__init__.py": _INIT.format(name=called), "graph.py": emission.graph, "fused.py": emission.fused}
    texts[MANIFEST] = emission.manifest_text
    texts |= {f"{stem}.py": _standalone(f"{stem}.py", "dragoman.backends.triton") for stem in ("support", "memory")}
    texts["kernels/__init__.py"] = '"""GPU kernels, usable alone."""\n'
    texts |= {f"kernels/{stem}.py": _standalone(f"{stem}.py", "dragoman.kernels") for stem in _KERNELS}
    for file, text in texts.items():
        (folder / file).write_text(text, encoding="utf-8")
    _write_weights(folder / WEIGHTS, emission.weights)
    written = tuple(sorted(p for p in folder.rglob("*") if p.is_file()))
    weights = sum(w.nbytes for w, _ in emission.weights.values())
    return Saved(folder, written, emission, weights, sum(p.stat().st_size for p in written))


def _standalone(file: str, package: str) -> str:
    """A module of ours that imports its neighbours in the folder."""
    text = (files(package) / file).read_text(encoding="utf-8")
    return text.replace("from dragoman.kernels.", "from .kernels.").replace("from dragoman.backends.triton.", "from .")


def _write_weights(path: Path, weights: Mapping[str, tuple[Weight, bool]]) -> None:
    """A safetensors file, one weight in memory at a time."""
    header: dict[str, object] = {}
    at = 0
    for key, (weight, packed) in weights.items():
        shape = [*weight.shape]
        shape = [shape[0], *shape[2:], shape[1]] if packed else shape
        span = [at, at + weight.nbytes]
        header[key] = {"dtype": _SAFE[weight.dtype.name], "shape": shape, "data_offsets": span}
        at += weight.nbytes
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for weight, packed in weights.values():
            array = np.moveaxis(weight.array(), 1, -1) if packed else weight.array()
            plain = np.ascontiguousarray(array)
            out.write(plain.reshape(-1).view(np.uint8).data if plain.size else b"")
