"""One export of one model of JAX by one tool, for jax_models.py; run in a fresh process, never by hand.

Owns what is timed later: our files for each target, jax2onnx's, and the inputs. The clock runs from the model in memory
to the file on disk, tracing included; our verification is not in it, as the peer has none. Refuses to time inference.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import io
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fresh_process import Request, Result, answer

PEER = "jax2onnx"
TOOLS = ("portable", "ort", PEER)
_TESTS = Path(__file__).resolve().parent.parent / "tests" / "frontends" / "jax"


def subjects() -> dict[str, Callable[[], Any]]:
    """The models by name, as tests/frontends/jax/subjects.py has them."""
    name = "dragoman_jax_tests"
    if name not in sys.modules:
        sys.modules[name] = importlib.util.module_from_spec(importlib.machinery.ModuleSpec(name, None, is_package=True))
        sys.modules[name].__path__ = [str(_TESTS)]
    return importlib.import_module(f"{name}.subjects").SUBJECTS


def export(request: Request) -> Result:
    """Write the file, and the inputs beside it. Says how long it took, and how many nodes it has."""
    logging.disable(logging.WARNING)
    import numpy as np

    subject = subjects()[request["model"]]()
    path = Path(request["path"])
    given = [np.asarray(value) for _, value in subject.states] + [np.asarray(value) for value in subject.args]
    np.savez(path.with_suffix(".npz"), **{f"{i:03}": value for i, value in enumerate(given)})
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        seconds = _theirs(subject, path) if request["tool"] == PEER else _ours(subject, path, request["tool"])
    import onnx

    model = onnx.load(path, load_external_data=False)
    version = importlib.metadata.version("jax2onnx" if request["tool"] == PEER else "dragoman")
    return {"seconds": seconds, "nodes": _count(model.graph), "opset": _opset(model), "version": version}


def _ours(subject: Any, path: Path, target: str) -> float:
    import dragoman

    started = time.perf_counter()
    dragoman.convert(
        subject.source,
        path,
        args=subject.args,
        kwargs=dict(subject.kwargs),
        params=subject.params,
        dynamic=subject.dims(),
        target=target,
        verify=False,
        overwrite=True,
    )
    return time.perf_counter() - started


def _theirs(subject: Any, path: Path) -> float:
    from jax2onnx import to_onnx

    specs = _specs(subject)
    started = time.perf_counter()
    to_onnx(subject.closed, specs, return_mode="file", output_path=str(path))
    return time.perf_counter() - started


def _specs(subject: Any) -> list[Any]:
    """Types with symbolic dims, one symbol for each name."""
    import jax
    import numpy as np

    arrays = [*subject.states, *zip(_names(subject), subject.args, strict=True)]
    scope = jax.export.SymbolicScope([f"{name} <= {high}" for name, high in subject.longest.items()])
    found: list[Any] = []
    for name, value in arrays:
        array = np.asarray(value)
        axes = subject.dynamic.get(name, {})
        text = ", ".join(str(axes.get(a, n)) for a, n in enumerate(array.shape))
        shape = jax.export.symbolic_shape(f"({text},)", scope=scope) if axes else array.shape
        found.append(jax.ShapeDtypeStruct(tuple(shape), array.dtype))
    return found


def _names(subject: Any) -> list[str]:
    """The inputs in order, by the names that dynamic dims are given by; those that have none count."""
    states = {name for name, _ in subject.states}
    named = [name for name in subject.dynamic if name not in states]
    return [*named, *(f"unnamed{i}" for i in range(len(subject.args) - len(named)))]


def _count(graph: Any) -> int:
    """Nodes, those of graphs within nodes too."""
    inner = [g for n in graph.node for a in n.attribute for g in (*a.graphs, *([a.g] if a.HasField("g") else []))]
    return len(graph.node) + sum(map(_count, inner))


def _opset(model: Any) -> int:
    return next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))


if __name__ == "__main__":
    answer(export)
