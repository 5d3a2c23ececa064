"""One conversion of a model whose weights lie in a file, measured in this process; run by big_model.py only.

Owns the ways a model can lie on disk: an IR graph over ranges of a file, and a torch module whose parameters are mapped
by safetensors or by `torch.load(mmap=True)`. Checks, off the clock, that every tensor reached the output.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from big_weights import INNER, WIDTH, Layout, meta_module, write_checkpoint, write_safetensors, written_marks
from convert_once import preload
from fresh_process import Request, Result, answer
from meter import Meter

if TYPE_CHECKING:
    from torch import nn

    from dragoman.ir.graph import Graph


def measure(request: Request) -> Result:
    """Make the file if it is not there, load the model, convert under the meter, look at what was written."""
    logging.disable(logging.WARNING)
    layout, source = Layout(request["bytes"]), Path(request["source"])
    if request["way"] == "make":
        return {"offsets": write_safetensors(source, layout)}
    if request["way"] == "make checkpoint":
        write_checkpoint(source, layout)
        return {}
    folder = Path(tempfile.mkdtemp(prefix="dragoman-bench-", dir=request.get("folder")))
    try:
        return _measured(request, layout, source, folder / "model.onnx")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _measured(request: Request, layout: Layout, source: Path, path: Path) -> Result:
    meter = Meter(sampled=True)
    if request["way"] == "ir":
        from dragoman.backends.onnx import save
        from dragoman.passes.manager import run_passes
        from dragoman.passes.pipelines import OPTIMISE

        graph = file_graph(layout, source, request["offsets"])
        with meter:
            run_passes(graph, OPTIMISE)
            save(graph, path, external=True)
    else:
        import torch

        import dragoman

        preload()
        module = mapped_module(layout, source, request["way"])
        ids = torch.zeros(2, 3, dtype=torch.int64)
        with meter:
            dragoman.convert(module, path, args=(ids,), dynamic={"ids": {0: "batch"}}, external="always", verify=False)
    files = [file for file in path.parent.iterdir() if file.is_file()]
    return {
        **meter.reading.as_dict(),
        "largest": layout.largest,
        "file_bytes": sum(file.stat().st_size for file in files),
        "complete": set(written_marks(path)) == layout.marks(),
    }


def file_graph(layout: Layout, source: Path, offsets: dict[str, int]) -> Graph:
    """The model as a graph whose weights are ranges of the file."""
    from dragoman.ir.builder import Builder
    from dragoman.ir.graph import Graph
    from dragoman.ir.types import F32, parse_type
    from dragoman.ir.weights import FileWeight

    graph = Graph("big")
    b = Builder(graph)
    weights = {
        name: graph.add_weight(name, FileWeight(source, offsets[name], F32, shape))
        for name, shape in layout.shapes().items()
    }
    x = b.take(weights["embedding.weight"], graph.add_input(parse_type("i64[batch,3]"), "ids"), axis=0)
    for i in range(layout.pairs):
        wide = b.relu(b.linear(x, weights[f"layers.{i}.widen.weight"]))
        assert wide.type.shape[-1] == INNER
        x = b.add(x, b.linear(wide, weights[f"layers.{i}.narrow.weight"]))
        assert x.type.shape[-1] == WIDTH
    graph.set_outputs([x])
    return graph


def mapped_module(layout: Layout, source: Path, way: str) -> nn.Module:
    """The model as a module whose parameters are pages of the file."""
    import torch
    from safetensors.torch import load_file

    module = meta_module(layout)
    state = load_file(source) if way == "safetensors" else torch.load(source, mmap=True, weights_only=True)
    module.load_state_dict(state, assign=True)
    return module


if __name__ == "__main__":
    answer(measure)
