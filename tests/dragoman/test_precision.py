"""`--precision`: what is written, what the report and the certificate say of it, and what it is held against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import dragoman as package
from dragoman.certificate import read, replay
from dragoman.ir.errors import NotEquivalent, UsageError
from dragoman.ir.findings import Verdict
from dragoman.ir.weights import ArrayWeight
from dragoman.model import Model
from dragoman.passes.precision import Precision, narrow
from tests.dragoman.conftest import Command, contents
from tests.dragoman.models import Small

HALVES = {"f16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}
BATCH = {"x": {0: "batch"}}


class Scaled(nn.Module):
    """A layer divided by the norm of its input, written out: the squares leave the range of f16."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) / ((x * 300) ** 2).sum(-1, keepdim=True).sqrt()


def small() -> nn.Module:
    torch.manual_seed(0)
    return Small().eval()


def written(path: Path) -> onnx.ModelProto:
    return onnx.load(str(path))


@pytest.mark.parametrize("precision", sorted(HALVES))
def test_a_small_model_is_written_in_half_and_verified_against_its_source_in_half(
    precision: str, tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    report = package.convert(small(), path, args=(torch.randn(3, 8),), dynamic=BATCH, precision=precision)
    assert report.verdict is Verdict.VERIFIED
    proto = written(path)
    assert {t.data_type for t in proto.graph.initializer if t.dims} == {HALVES[precision]}
    assert [v.type.tensor_type.elem_type for v in (*proto.graph.input, *proto.graph.output)] == [1, 1]
    assert {t.name for t in proto.graph.initializer} >= {"first.weight", "first.bias", "second.weight", "second.bias"}
    comparison = report.comparison
    assert comparison is not None
    assert comparison.source.endswith(f"in {precision}")
    assert comparison.oracle.startswith("PyTorch")
    assert f"in {precision}:" in str(comparison)
    assert "3 × the source's own" in str(comparison)
    assert any("node by node" in note for note in comparison.notes) or "node by node" in comparison.candidate
    for output in comparison.outputs():
        assert 1e-5 < output.norm_candidate < {"f16": 2e-3, "bf16": 2e-2}[precision]


def test_the_report_and_the_certificate_name_what_stays_in_f32_and_why(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    report = package.convert(Scaled().eval(), path, args=(torch.randn(3, 8),), dynamic=BATCH, precision="f16")
    assert report.verdict is Verdict.VERIFIED
    assert isinstance(report.precision, Precision)
    kept = {k.node.partition("(")[0]: k for k in report.precision.kept}
    assert "sqrt" in kept
    assert any(name.startswith("reduce_") for name in kept)  # the sum of the squares, by whatever name
    assert "leaves the range of f16" in kept["sqrt"].reason
    assert "test_precision.py:" in kept["sqrt"].line
    page = str(report)
    assert f"{report.precision.nodes - len(kept)} of {report.precision.nodes} nodes in f16, {len(kept)} in f32" in page
    assert "in f32         sqrt(" in page
    certificate = read(path.with_name(path.name + ".dragoman.json"))
    assert certificate.precision == report.precision
    assert certificate.options["precision"] == "f16"
    # The source is lost in f16 (it divides by infinity), so being as good as that would be no demand at all.
    assert report.comparison is not None
    assert "loses 'output'" in str(report.comparison)
    assert all(o.norm_source < 2e-2 for o in report.comparison.outputs())


@pytest.mark.parametrize("precision", sorted(HALVES))
def test_a_certificate_is_replayed_by_the_same_standard(precision: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    package.convert(small(), path, args=(torch.randn(3, 8),), dynamic=BATCH, precision=precision)
    certificate = path.with_name(path.name + ".dragoman.json")
    remembered = replay(certificate)
    assert remembered.verdict is Verdict.VERIFIED
    model = package.load(small(), (torch.randn(3, 8),), dynamic=BATCH)
    again = replay(certificate, rebuild=lambda c, t: (model.graph, model.source, model.examples))  # type: ignore[arg-type,return-value]
    assert again.verdict is Verdict.VERIFIED
    assert again.source.endswith(f"in {precision}")


@pytest.mark.parametrize("precision", sorted(HALVES))
def test_a_weight_that_goes_wrong_on_the_way_is_still_found(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reduce = Model.reduce

    def then_break(model: Model, *args: Any, **kwargs: Any) -> Precision:
        record = reduce(model, *args, **kwargs)
        value = model.graph.weights["second.weight"]
        assert value.weight is not None
        value.weight = ArrayWeight((value.weight.array() * 1.1).astype(value.weight.dtype.numpy))
        return record

    monkeypatch.setattr(Model, "reduce", then_break)
    with pytest.raises(NotEquivalent, match="differs from the source"):
        package.convert(small(), tmp_path / "m.onnx", args=(torch.randn(3, 8),), dynamic=BATCH, precision=precision)
    assert not contents(tmp_path)


def test_rounding_that_is_wrong_leaves_nothing_in_half(monkeypatch: pytest.MonkeyPatch) -> None:
    def off(values: Any, half: Any) -> Any:
        return (np.asarray(values) * 1.1).astype(half.numpy)

    monkeypatch.setattr(narrow, "rounded", off)
    model = package.load(small(), (torch.randn(3, 8),), dynamic=BATCH).optimise(precision="f16")
    assert model.precision is not None
    kept = [k.node.partition("(")[0] for k in model.precision.kept]
    assert kept.count("linear") == 2
    assert model.precision.restored
    assert model.precision.holds


def test_a_model_can_be_reduced_without_being_converted() -> None:
    model = package.load(small(), (torch.randn(3, 8),), dynamic=BATCH).optimise(precision="f16")
    assert model.precision is not None
    assert model.precision.kept == ()
    assert [str(t.dtype) for t in (*model.inputs.values(), *model.outputs.values())] == ["f32", "f32"]
    assert model.precision.standard.endswith("in f16")
    assert model(np.ones((2, 8), np.float32)).shape == (2, 4)


def test_without_verification_the_precision_is_measured_all_the_same(tmp_path: Path) -> None:
    report = package.convert(
        Scaled().eval(), tmp_path / "m.onnx", args=(torch.randn(3, 8),), precision="f16", verify=False
    )
    assert report.verdict is None
    assert report.precision is not None
    assert report.precision.kept


@pytest.mark.parametrize("name", ["f8", "float16", ""])
def test_a_precision_that_is_not_there_is_refused_before_anything_is_read(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose f16 or bf16"):
        package.convert("there.is:nothing", tmp_path / "m.onnx", precision=name)
    with pytest.raises(UsageError, match="choose f16 or bf16"):
        package.load(small(), (torch.randn(3, 8),)).optimise(precision=name)


def test_the_command_line_takes_a_precision(convert: Command, tmp_path: Path) -> None:
    shown = convert("small_with_example", "--precision", "f16")
    assert shown.code == 0, shown.err
    assert "nodes in f16, 0 in f32" in shown.out
    assert "of K × the error of PyTorch" in shown.out
    refused = convert("small_with_example", "--precision", "f8", output=tmp_path / "other.onnx")
    assert refused.code == 2
    assert "there is no precision 'f8'" in refused.err
