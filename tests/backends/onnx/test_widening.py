"""For ONNX Runtime itself, what it has no bf16 kernels for computes in f32 between casts, and the report says so."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch

import dragoman
from dragoman.backends.onnx import Session, emit
from dragoman.ir.builder import Builder
from dragoman.ir.graph import Graph
from dragoman.ir.interpreter import run
from dragoman.ir.runner import GraphRunner
from dragoman.ir.types import BF16, BOOL, F32, TensorType

WINDOW = {"strides": (1, 1), "padding": ((0, 0), (0, 0)), "dilations": (1, 1)}


def block() -> Graph:
    """softmax(x @ w + 1) and its maxima, all in bf16, and the shape of it elsewhere."""
    graph = Graph()
    b = Builder(graph)
    x = graph.add_input(TensorType(BF16, (3, 8)), "x")
    w = graph.add_input(TensorType(BF16, (8, 4)), "w")
    y = b.softmax(b.add(b.matmul(x, w), 1.0), axis=1)
    graph.set_outputs([y, b.reduce_max(y, axes=(0,)), b.transpose(y, perm=(1, 0)), b.greater(y, 0.5)])
    return graph


def arrays() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(s).astype(ml_dtypes.bfloat16) for s in ((3, 8), (8, 4))]


def test_a_graph_in_bf16_runs_with_casts_and_gives_what_the_ir_means() -> None:
    emission = emit(block(), contrib=True)
    assert emission.widened == {"matmul": 1, "add": 1, "softmax": 1, "reduce_max": 1, "greater": 1}
    got = Session(emission, optimise=False).run(arrays())
    # One unit of bf16: what f32 within an op may round the other way.
    stepwise = GraphRunner(block(), "node by node in bf16").run(arrays())
    for ours, theirs in zip(stepwise, got, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(theirs.astype(np.float32), ours.astype(np.float32), rtol=2**-7)


def test_a_portable_model_keeps_bf16_where_it_is() -> None:
    emission = emit(block())
    assert not emission.widened
    assert all(node.op_type != "Cast" for node in emission.skeleton.graph.node)


def test_nodes_of_regions_are_cast_one_by_one() -> None:
    graph = Graph()
    which, x = graph.add_input(TensorType(BOOL, ()), "which"), graph.add_input(TensorType(BF16, (4,)), "x")
    branches: list[Graph] = []
    for scale in (2.0, 3.0):
        inner = Graph()
        inner.set_outputs([Builder(inner).mul(inner.add_input(x.type, "x"), scale)])
        branches.append(inner)
    graph.set_outputs(list(Builder(graph).cond(which, x, then=branches[0], orelse=branches[1])))
    emission = emit(graph, contrib=True)
    assert emission.widened == {"mul": 2}
    x0 = np.arange(4).astype(ml_dtypes.bfloat16)
    (got,) = Session(emission, optimise=False).run([np.array(False), x0])
    np.testing.assert_array_equal(got.astype(np.float32), 3.0 * np.arange(4))


def test_nothing_is_cast_where_no_bf16_is() -> None:
    graph = Graph()
    graph.set_outputs([Builder(graph).exp(graph.add_input(TensorType(F32, (3,)), "x"))])
    assert not emit(graph, contrib=True).widened


def test_a_model_in_bf16_is_verified_for_onnx_runtime_and_the_certificate_tells_of_the_casts(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.GELU(), torch.nn.Linear(8, 3)).bfloat16().eval()
    report = dragoman.convert(
        model, tmp_path / "m.onnx", args=(torch.randn(2, 6).bfloat16(),), target="ort", dynamic={"input": {0: "n"}}
    )
    assert report.verdict is not None
    assert report.verdict.holds
    assert any("f32 between casts" in str(note) for note in report.notes)
    assert report.certificate is not None
    assert "f32 between casts" in report.certificate.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["conv", "layer_norm", "gelu", "cumsum", "topk", "where", "tile"])
def test_samples_of_ops_in_bf16_run(name: str) -> None:
    graph, given = (
        {
            "conv": (lambda b, x: b.conv(b.reshape(x, shape=(1, 2, 3, 4)), b.reshape(x, shape=(3, 2, 2, 2)), **WINDOW)),
            "layer_norm": (lambda b, x: b.layer_norm(x, axis=1, epsilon=1e-5)),
            "gelu": (lambda b, x: b.gelu(x)),
            "cumsum": (lambda b, x: b.cumsum(x, axis=1)),
            "topk": (lambda b, x: b.topk(x, k=2, axis=1)[0]),
            "where": (lambda b, x: b.where(b.less(x, 0.0), x, b.neg(x))),
            "tile": (lambda b, x: b.tile(x, repeats=(2, 1))),
        }[name],
        np.linspace(-2, 2, 24).astype(ml_dtypes.bfloat16).reshape(4, 6),
    )
    made = Graph()
    b = Builder(made)
    made.set_outputs([graph(b, made.add_input(TensorType(BF16, (4, 6)), "x"))])
    (got,) = Session(emit(made, contrib=True), optimise=False).run([given])
    (ours,) = run(made, given)
    # Against float64: one rounding to bf16 by each op, of at most 2^-9 of what it gives.
    np.testing.assert_allclose(got.astype(np.float32), np.asarray(ours).astype(np.float32), rtol=2**-7, atol=2**-8)
