"""Models as users convert them: verified, with dynamic dims, and in the operators that ONNX has for what they do."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import pytest

import dragoman
from tests.frontends.jax.subjects import SUBJECTS

_QUICK = ("equinox_mlp", "nnx_lstm", "nnx_gru", "scan_rnn", "vmap_gradient")


def converted(name: str, folder: Path) -> Counter[str]:
    """The operators of the file, which was verified."""
    subject = SUBJECTS[name]()
    path = folder / f"{name}.onnx"
    report = dragoman.convert(
        subject.source,
        path,
        args=subject.args,
        kwargs=dict(subject.kwargs),
        params=subject.params,
        dynamic=subject.dims(),
    )
    assert report.verdict is not None
    assert report.verdict.holds, str(report)
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in _QUICK else pytest.mark.slow) for n in SUBJECTS if n != "linen_resnet50"]
)
def test_a_model_is_verified_with_its_dynamic_dims(name: str, tmp_path: Path) -> None:
    converted(name, tmp_path)


@pytest.mark.slow
def test_a_resnet_is_convolutions_without_transposes_between_them(tmp_path: Path) -> None:
    operators = converted("linen_resnet50", tmp_path)
    assert operators["Conv"] == 53
    assert operators["Transpose"] <= 2
    assert "BatchNormalization" not in operators


@pytest.mark.parametrize(("name", "operator"), [("nnx_lstm", "LSTM"), ("nnx_gru", "GRU"), ("scan_rnn", "RNN")])
def test_a_loop_over_a_cell_is_the_layer_at_any_batch_and_length(name: str, operator: str, tmp_path: Path) -> None:
    operators = converted(name, tmp_path)
    assert operators[operator] == 1
    assert "Scan" not in operators


def test_norms_gelu_and_softmax_of_flax_are_operators(tmp_path: Path) -> None:
    operators = converted("nnx_transformer", tmp_path)
    assert operators["LayerNormalization"] == 2
    assert operators["Gelu"] == 1
    assert operators["Softmax"] == 1
    assert "ReduceMean" not in operators
