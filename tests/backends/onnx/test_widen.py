"""bf16 in f32: the numbers of a written file in a runtime that has no kernels for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dragoman.backends.onnx import Session, save
from dragoman.backends.onnx.widen import widened
from dragoman.ir.builder import Builder, trace
from dragoman.ir.errors import UsageError
from dragoman.ir.graph import Graph
from dragoman.ir.types import BF16, BOOL, F32, TensorType, parse_type
from dragoman.ir.weights import ArrayWeight

WEIGHT = np.random.default_rng(3).standard_normal((8, 4)).astype(ml_dtypes.bfloat16)


def model() -> Graph:
    """tanh(x·w)·0.1 in bf16 between casts, in a branch of a choice."""
    graph = Graph()
    b: Any = Builder(graph)
    x, p = graph.add_input(parse_type("f32[3,8]"), "x"), graph.add_input(TensorType(BOOL, ()), "p")
    y = b.matmul(b.cast(x, dtype=BF16), graph.add_weight("w", ArrayWeight(WEIGHT)))
    then = trace(lambda b, a: b.mul(b.tanh(a), 0.1), y.type)
    orelse = trace(lambda b, a: b.cast(b.cast(a, dtype=F32), dtype=BF16), y.type)
    graph.set_outputs([b.cast(b.cond(p, y, then=then, orelse=orelse)[0], dtype=F32)], ["y"])
    return graph


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("branch", [True, False])
def test_a_model_in_bf16_runs_with_the_weights_of_its_file(tmp_path: Path, external: bool, branch: bool) -> None:
    path = tmp_path / "m.onnx"
    save(model(), path, external=external)
    with pytest.raises(UsageError, match="does not take the model"):
        Session(path)
    x = np.random.default_rng(4).standard_normal((3, 8)).astype(np.float32)
    (got,) = Session(widened(path)).run([x, np.array(branch)])
    product = x.astype(np.float64) @ WEIGHT.astype(np.float64)
    tenth = np.float64(np.float32(ml_dtypes.bfloat16(0.1)))
    np.testing.assert_allclose(got, np.tanh(product) * tenth if branch else product, rtol=1e-5)


def test_an_interface_in_bf16_is_refused(tmp_path: Path) -> None:
    save(trace(lambda b, x: b.tanh(x), parse_type("bf16[3]")), tmp_path / "m.onnx")
    with pytest.raises(UsageError, match="inputs or outputs in bf16"):
        widened(tmp_path / "m.onnx")
