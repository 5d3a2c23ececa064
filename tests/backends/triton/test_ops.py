"""Every op, at every sample that Triton computes: emitted, run under its interpreter, and judged in float64.

All samples of an op go into one folder, so that there is one process and one import for them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dragoman.backends.triton import emit, save
from dragoman.backends.triton.runner import worker
from dragoman.ir.errors import EmitRefused
from dragoman.ir.graph import Graph, Value
from dragoman.ir.op import REGISTRY
from dragoman.ir.region import inline
from dragoman.ir.samples import given_operands, random_operands, sample_graph, sample_seed
from tests.backends.onnx.judging import disagreement

OPS = [name for name, cls in REGISTRY.items() if any(True for _ in cls.samples())]

# Why a sample may be refused, by what the refusal says. Anything else that is refused is a gap.
REASONS = (
    r"Triton does not compute in (c64|c128|string|f8e4m3fn|f8e5m2|f8e8m0|i4|u4)",
    r"its size is known only when it has run",
    r"bits_of_float of f(32|64) has no Triton expression",
    r"power of i(32|64) has no Triton expression",
    r"there is no kernel for (conv|max_pool) of i32",
    r"there is no kernel for (det|eigh|lu|qr|svd|gather_nd|grid_sample|max_pool_with_indices|roi_align|tree_ensemble)",
    r"there is no kernel for (count_ngrams|lookup)",
)


def joined(name: str) -> tuple[Graph, list[tuple[Graph, list[Any]]]]:
    """One graph of all samples that are not refused, and each sample by itself."""
    whole, parts = Graph(), list[tuple[Graph, list[Any]]]()
    outputs: list[Value] = []
    cls = REGISTRY[name]
    for index, sample in enumerate(cls.samples()):
        graph = sample_graph(cls, sample)
        try:
            emit(graph)
        except EmitRefused as refusal:
            if not any(re.search(reason, str(refusal)) for reason in REASONS):
                pytest.fail(f"sample {index}: {refusal}")
            continue
        inputs = given_operands(random_operands(sample, sample_seed(name, index)))
        operands = [whole.add_input(v.type, f"x{index}_{k}") for k, v in enumerate(graph.inputs)]
        outputs += inline(graph, whole, operands)
        parts.append((graph, [np.asarray(x) for x in inputs]))
    whole.set_outputs(outputs)
    return whole, parts


@pytest.mark.parametrize("name", OPS)
def test_every_sample_computes_what_the_reference_does(name: str, tmp_path: Path) -> None:
    whole, parts = joined(name)
    if not parts:
        return
    save(whole, tmp_path / "model")
    results = iter(worker().run(tmp_path / "model", [x for _, inputs in parts for x in inputs]))
    for graph, inputs in parts:
        outputs = [next(results) for _ in graph.outputs]
        label = next(iter(graph)).op.describe(tuple(v.type for v in graph.inputs))
        assert disagreement(graph, inputs, outputs) == "", label
