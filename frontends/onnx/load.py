"""The ways in: an ONNX file, or a model in memory. Nothing of a file is executed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import onnx

from dragoman.frontends.imported import Imported
from dragoman.frontends.onnx.importer import Held, translate
from dragoman.ir.errors import Malformed, OverBudget, UsageError
from dragoman.ir.types import TensorType

Progress = Callable[[str], None]
_LIMIT = (1 << 31) - 1  # bytes: protobuf's own


def _silent(stage: str) -> None:
    """No progress is shown."""


def import_file(
    path: str | Path,
    *,
    types: Mapping[str, TensorType] | None = None,
    dynamic: Mapping[str, Mapping[int, object]] | None = None,
    progress: Progress = _silent,
) -> Imported:
    """Read an ONNX file. External data is checked and stays where it lies until it is used.

    Raises UsageError where there is no file, and all that `translate` raises.
    """
    path = Path(path)
    progress("read")
    started = time.perf_counter()
    model = read_model(path)
    read = time.perf_counter() - started
    progress("translate")
    found = translate(model, folder=path.parent, types=types, dynamic=dynamic)
    if not found.graph.name:
        found.graph.name = path.stem
    return replace(found, seconds={"read": read, **found.seconds})


def import_model(
    model: onnx.ModelProto,
    *,
    folder: str | Path | None = None,
    types: Mapping[str, TensorType] | None = None,
    dynamic: Mapping[str, Mapping[int, object]] | None = None,
    held: Mapping[str, Held] | None = None,
) -> Imported:
    """Translate a ModelProto; `folder` is where its external data lies. `held`: the tensors that inputs hold which are
    sequences or optionals (`{"xs": [F32[2, 3]], "maybe": None}`), for a model of so many tensors; and arrays for inputs
    that decide how many there are, such as the turns of a loop, for a model of that value alone.
    """
    where = Path(folder) if folder is not None else None
    return translate(model, folder=where, types=types, dynamic=dynamic, held=held)


def read_model(path: Path) -> onnx.ModelProto:
    """The ModelProto of a file, without external data. Raises Malformed for what is none."""
    try:
        size = path.stat().st_size
        if size > _LIMIT:
            raise OverBudget(f"{path} has {size:,} bytes; a ModelProto has at most {_LIMIT:,}: use external data")
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None
    model = onnx.ModelProto()
    try:
        model.ParseFromString(raw)
    except Exception as error:  # protobuf's DecodeError, which onnx does not name
        raise Malformed(f"{path} holds no ONNX model: {error}") from None
    if not model.HasField("graph"):
        raise Malformed(f"{path} holds no ONNX model: it has no graph")
    return model
