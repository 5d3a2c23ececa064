"""One export of one zoo model by one tool, for ort_cpu.py; run in a fresh process, never by hand.

Owns what is timed later: our files for each target, the framework's own export after onnxsim, and the inputs at the
sizes of a request that arrives (one element of a batch, 128 tokens). Refuses to time anything.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert_once import brief
from fresh_process import Request, Result, answer
from subjects import Subject, entries, subject

if TYPE_CHECKING:
    from tests.zoo import Entry

TOKENS = 128  # of a sequence, where the model's own range allows as many
TOOLS = ("portable", "ort", "torch.onnx")


def serving_sizes(entry: Entry) -> dict[str, int]:
    """A batch of one; sequences of `TOKENS`; pictures at the example's size."""
    sizes = dict(entry.example)
    for symbol, (low, high) in entry.ranges.items():
        if symbol == "batch":
            sizes[symbol] = 1
        elif symbol in ("sequence", "source", "target"):
            sizes[symbol] = min(max(TOKENS, low), high)
    return sizes


def export(request: Request) -> Result:
    """Write the file, and the inputs beside it. Says which form of export it came from."""
    logging.disable(logging.WARNING)
    import numpy as np
    import torch

    torch.set_num_threads(1)
    entry = entries()[request["model"]]
    it = subject(request["model"])
    path = Path(request["path"])
    given = entry.inputs(serving_sizes(entry))
    np.savez(path.with_suffix(".npz"), **{f"{i:03}": value.numpy() for i, value in enumerate(given.values())})
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        if request["tool"] == "torch.onnx":
            return _theirs(it, entry, path)
        return _ours(it, path, request["tool"])


def _ours(it: Subject, path: Path, target: str) -> Result:
    import dragoman

    report = dragoman.convert(
        it.module, path, args=it.args, kwargs=it.kwargs, dynamic=it.dynamic, target=target, verify=False, overwrite=True
    )
    return {"form": target, "nodes": report.nodes_written}


def _theirs(it: Subject, entry: Entry, path: Path) -> Result:
    """torch.onnx with dynamic dims, or without where it cannot, or the older exporter; then onnxsim if that works."""
    form, failures = exported(it, entry, path)
    return (
        {"failure": "; ".join(failures)} if form is None else {"form": form, "failures": failures, **_simplified(path)}
    )


def exported(it: Subject, entry: Entry, path: Path) -> tuple[str | None, list[str]]:
    """The first form in which torch.onnx exports a model, None where none works, and how those before it failed."""
    failures: list[str] = []
    for form, attempt in _FORMS.items():
        try:
            attempt(it, entry, path)
        except Exception as error:
            failures.append(f"{form}: {brief(error)[:120]}")
            continue
        return form, failures
    return None, failures


def _dynamo(it: Subject, entry: Entry, path: Path) -> None:
    import torch

    torch.onnx.export(
        *(it.module, it.args, path),
        kwargs=it.kwargs,
        dynamo=True,
        external_data=False,
        dynamic_shapes=it.dynamic_shapes,
        verbose=False,
    )


def _static(it: Subject, entry: Entry, path: Path, *, dynamo: bool = True) -> None:
    import torch

    args, kwargs = entry.arguments(serving_sizes(entry))
    options: dict[str, Any] = {"external_data": False} if dynamo else {}
    torch.onnx.export(it.module, args, path, kwargs=kwargs, dynamo=dynamo, verbose=False, **options)


def _legacy(it: Subject, entry: Entry, path: Path) -> None:
    _static(it, entry, path, dynamo=False)


_FORMS: dict[str, Callable[[Subject, Entry, Path], None]] = {
    "dynamo": _dynamo,
    "dynamo, fixed sizes": _static,
    "TorchScript, fixed sizes": _legacy,
}


def _simplified(path: Path) -> Result:
    """onnxsim's form in place of the file; the file itself where onnxsim fails."""
    import onnx
    import onnxsim

    try:
        model, sound = onnxsim.simplify(onnx.load(path))
        if not sound:
            raise ValueError("onnxsim's own check fails")
        onnx.save(model, path)
        simplified = "yes"
    except Exception as error:
        simplified = brief(error)[:120]
    return {"simplified": simplified, "nodes": len(onnx.load(path, load_external_data=False).graph.node)}


if __name__ == "__main__":
    answer(export)
