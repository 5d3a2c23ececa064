"""The way in for what `jax.export` serialised: a file, or the bytes of one.

Nothing in it is executed: the container is a flatbuffer, the program StableHLO. Refuses artefacts of versions of JAX
that this one does not read, and those that were not made for a processor.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dragoman.frontends.dynamic import Dynamic
from dragoman.frontends.imported import Imported, Source
from dragoman.frontends.jax import table
from dragoman.frontends.jax.context import type_of
from dragoman.frontends.jax.dims import Dims
from dragoman.frontends.jax.names import leaves, output_names
from dragoman.frontends.jax.stablehlo.reader import Reader
from dragoman.ir.errors import Malformed, Unsupported, UsageError
from dragoman.ir.graph import Graph


def _silent(stage: str) -> None:
    """No progress is shown."""


class ArtefactRunner:
    """An artefact called through JAX. It computes in the types it declares: it has no double precision."""

    def __init__(self, exported: Any, names: Sequence[str], examples: Sequence[Any]) -> None:
        self.name = f"JAX {jax.__version__}, the artefact"
        self.input_names = tuple(names)
        self._exported = exported
        self._examples = list(examples)
        self._call: Callable[..., Any] | None = None

    def examples(self) -> list[Any]:
        """The arguments that the caller gave, in the order of the inputs."""
        return self._examples

    def run(self, inputs: Sequence[Any], double: bool = False) -> list[Any]:
        """The outputs. Raises UsageError for `double`."""
        if double:
            raise UsageError("an artefact of jax.export computes in the types it declares, not in double precision")
        if self._call is None:
            self._call = jax.jit(self._exported.call)
        args, kwargs = jax.tree_util.tree_unflatten(self._exported.in_tree, list(inputs))
        return [np.asarray(x) for x in jax.tree_util.tree_leaves(self._call(*args, **kwargs))]

    def release(self) -> None:
        """Give up what was compiled."""
        self._call = None


def import_artefact(
    path: Path,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic: Dynamic | None = None,
    progress: Callable[[str], None] = _silent,
) -> Source:
    """Read what `jax.export` serialised into a file. Dynamic dims are those that it was exported with.

    Raises Malformed for a damaged file, Unsupported for one that another version made, ImportRefused for operations
    without translation.
    """
    if dynamic:
        raise UsageError(f"{path}: an artefact has the dynamic dims that it was exported with; leave out dynamic")
    started = time.perf_counter()
    progress("read")
    exported = _deserialised(path)
    dims = Dims()
    names = input_names(exported)
    graph = Graph(exported.fun_name)
    inputs = [graph.add_input(type_of(a, dims), n) for n, a in zip(names, exported.in_avals, strict=True)]
    progress("translate")
    table.load()
    with _Module(exported, path) as functions:
        kept = [inputs[i] for i in exported.module_kept_var_idx]
        outputs = Reader(functions, graph, dims).read("main", kept)
    graph.set_outputs(outputs, _output_names(exported))
    graph.metadata["framework"] = f"jax {jax.__version__}"
    _erase_unused(graph)
    seconds = {"translate": time.perf_counter() - started}
    examples = jax.tree_util.tree_leaves((tuple(args), dict(kwargs or {})))
    if examples and len(examples) != len(inputs):
        raise UsageError(f"{path} takes {len(inputs)} arrays ({', '.join(names)}), {len(examples)} are given")
    return Source(Imported(graph, (), (), seconds), ArtefactRunner(exported, names, examples))


def input_names(exported: Any) -> list[str]:
    """Names of the inputs by their place in the call: `args.0.x`, and keywords by theirs."""
    tree = jax.tree_util.tree_unflatten(exported.in_tree, list(range(exported.in_tree.num_leaves)))
    return [name for name, _ in [*leaves("args", tree[0]), *leaves("", tree[1])]]


def _output_names(exported: Any) -> list[str]:
    return output_names(jax.tree_util.tree_unflatten(exported.out_tree, list(range(exported.out_tree.num_leaves))))


def _deserialised(path: Path) -> Any:
    try:
        exported = jax.export.deserialize(bytearray(path.read_bytes()))
    except Exception as error:
        raise Unsupported(
            f"{path}: JAX {jax.__version__} does not read this artefact, which is damaged or was made by an"
            f" incompatible version ({_first_line(error)}): export it again with this version of JAX"
        ) from error
    if exported.nr_devices != 1:
        raise Unsupported(f"{path} is spread over {exported.nr_devices} devices: export the model on one")
    if "cpu" not in exported.platforms:
        made = ", ".join(exported.platforms)
        raise Unsupported(f"{path} was exported for {made}: export it with platforms=('cpu',) as well")
    low, high = (
        jax.export.minimum_supported_calling_convention_version,
        jax.export.maximum_supported_calling_convention_version,
    )
    if not low <= exported.calling_convention_version <= high:
        raise Unsupported(
            f"{path} has calling convention {exported.calling_convention_version}, made by an incompatible version of"
            f" JAX: JAX {jax.__version__} has {low} to {high}; export it again"
        )
    return exported


class _Module:
    """The functions of an artefact by name, while its MLIR context is open."""

    def __init__(self, exported: Any, path: Path) -> None:
        self._exported, self._path = exported, path

    def __enter__(self) -> dict[str, Any]:
        from jax.interpreters.mlir import make_ir_context
        from jaxlib.mlir.dialects import stablehlo

        self._context = make_ir_context()
        self._context.__enter__()
        try:
            serialised = self._exported.mlir_module_serialized
            self._module: Any = stablehlo.deserialize_portable_artifact(self._context, serialised)
        except Exception as error:
            self._context.__exit__(None, None, None)
            raise Malformed(f"{self._path}: its program cannot be read: {_first_line(error)}") from error
        return {str(f.attributes["sym_name"]).strip('"'): f.operation for f in self._module.body.operations}

    def __exit__(self, *told: Any) -> None:
        self._context.__exit__(*told)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200] if str(error).strip() else 'no message'}"


def _erase_unused(graph: Graph) -> None:
    for node in graph.reversed():
        if not node.is_used and node is not graph.terminator:
            graph.erase(node)
    for name in [name for name, value in graph.weights.items() if not value.uses]:
        graph.remove_weight(name)
