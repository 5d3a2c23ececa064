"""An ONNX model as a source: read by our frontend, run by ONNX Runtime on the file as it was given, optimiser off.

A file has no double precision: the oracle is the graph as imported, in float64, and what ONNX Runtime gives on the
original must be explained by it, or the reading itself is in doubt. Where ONNX Runtime does not take the original, our
interpreter stands for it and says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dragoman.ir.errors import DragomanError, UsageError
from dragoman.ir.graph import Graph
from dragoman.ir.interpreter import bind_shapes
from dragoman.ir.runner import GraphRunner, Runner
from dragoman.ir.types import TensorType

if TYPE_CHECKING:
    from collections.abc import Callable

    from dragoman.frontends.imported import Imported, Source


class OnnxRunner:
    """The original in ONNX Runtime. `again` reads the model once more, for where ONNX Runtime does not take it."""

    def __init__(self, model: Any, graph: Graph, examples: Sequence[Any], again: Callable[[], Graph]) -> None:
        self._model = model
        self._again = again
        self._examples = list(examples)
        self._inner: Runner | None = None
        self.input_names: tuple[str, ...] = tuple(v.name for v in graph.inputs)
        self.output_names: tuple[str, ...] = graph.output_names

    @property
    def name(self) -> str:
        """What runs it."""
        return self._runner().name

    def examples(self) -> list[Any]:
        """The arguments that the caller gave, in the order of the inputs."""
        return self._examples

    def run(self, inputs: Sequence[Any], double: bool = False) -> list[Any]:
        """The outputs. Raises UsageError for `double`."""
        if double:
            raise UsageError("an ONNX model computes in the types it declares, not in double precision")
        return self._runner().run(inputs)

    def release(self) -> None:
        """Give up the session."""
        self._inner = None

    def _runner(self) -> Runner:
        if self._inner is None:
            from dragoman.backends.onnx import Session

            try:
                self._inner = Session(self._model, optimise=False)
            except DragomanError:
                self._inner = GraphRunner(self._again(), "Dragoman's interpreter: ONNX Runtime does not take the file")
        return self._inner


def read_onnx(
    model: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    types: Mapping[str, TensorType],
    dynamic: Mapping[str, Mapping[int, Any]],
    progress: Callable[[str], None],
) -> Source:
    """Read a path or a ModelProto. Example arguments are optional: by position, or by the names of inputs."""
    from dragoman.frontends.imported import Source
    from dragoman.frontends.onnx import import_file, import_model

    def read() -> Imported:
        if isinstance(model, Path):
            return import_file(model, types=types, dynamic=dynamic, progress=progress)
        return import_model(model, types=types, dynamic=dynamic)

    imported = read()
    examples = _examples(imported.graph, args, kwargs)
    return Source(imported, OnnxRunner(model, imported.graph, examples, lambda: read().graph))


def _examples(graph: Graph, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    if not args and not kwargs:
        return []
    names = [v.name for v in graph.inputs]
    given = dict(zip(names, args, strict=False)) | dict(kwargs)
    unknown = sorted(set(kwargs) - set(names))
    missing = [n for n in names if n not in given]
    if unknown or missing or len(args) > len(names):
        raise UsageError(f"the example arguments do not fit the model's inputs: {', '.join(names)}")
    arrays = [np.asarray(given[n]) for n in names]
    bind_shapes([(v.type, a.shape, v.name) for v, a in zip(graph.inputs, arrays, strict=True)], {})
    return arrays


def proto_of(source: Any) -> Any:
    """A ModelProto from an object of onnx or onnx_ir."""
    import onnx

    if isinstance(source, onnx.ModelProto):
        return source
    import onnx_ir

    if isinstance(source, onnx_ir.Model):
        return onnx_ir.serde.serialize_model(source)
    raise UsageError(f"{type(source).__qualname__} is no ONNX model: give a ModelProto or an onnx_ir.Model")
