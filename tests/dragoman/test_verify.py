"""`dragoman verify`: two models, a certificate, or an output that has one; and `dragoman demo`."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

import dragoman.demo
from dragoman.demo import Example
from dragoman.ir.errors import EmitRefused, Occurrence
from tests.dragoman.conftest import MODELS, Command, contents
from tests.dragoman.models import small_with_example

SOURCE = MODELS + "small_with_example"


@pytest.fixture
def converted(convert: Command, tmp_path: Path) -> Path:
    assert convert("small_with_example").code == 0
    return tmp_path / "model.onnx"


def spoiled(path: Path) -> None:
    """One weight of a model a little larger."""
    model = onnx.load(path)
    weight = next(t for t in model.graph.initializer if t.name == "second.weight")
    values = onnx.numpy_helper.to_array(weight) * 1.01
    weight.CopyFrom(onnx.numpy_helper.from_array(values.astype("float32"), weight.name))
    onnx.save(model, path)


def test_a_model_and_its_conversion_are_the_same(converted: Path, dragoman: Command) -> None:
    shown = dragoman("verify", SOURCE, converted)
    assert shown.code == 0
    assert shown.out.startswith("VERIFIED: all outputs end to end")
    assert shown.err.splitlines()[-1].split()[0] == "verify"


def test_a_changed_weight_is_different(converted: Path, dragoman: Command) -> None:
    spoiled(converted)
    shown = dragoman("verify", SOURCE, converted)
    assert shown.code == 4
    assert shown.out.startswith("DIFFERENT: ")


def test_two_sources_are_compared(dragoman: Command) -> None:
    assert dragoman("verify", SOURCE, MODELS + "small").code == 0
    assert dragoman("verify", SOURCE, MODELS + "scaled_by_int").code in (2, 4)


def test_a_certificate_is_replayed_by_its_name_and_by_that_of_its_output(converted: Path, dragoman: Command) -> None:
    certificate = converted.with_name("model.onnx.dragoman.json")
    for named in (certificate, converted):
        shown = dragoman("verify", named)
        assert shown.code == 0
        assert "give what was recorded" in shown.out
        assert "--trust allows it" in shown.out
    trusted = dragoman("verify", certificate, "--trust")
    assert trusted.code == 0
    assert "oracle: PyTorch in float64" in trusted.out


def test_a_certificate_of_another_file_is_told(converted: Path, dragoman: Command) -> None:
    spoiled(converted)
    shown = dragoman("verify", converted)
    assert shown.code == 4
    assert "model.onnx is not the file that was certified" in shown.out


@pytest.mark.parametrize(
    ("content", "code", "complaint"),
    [
        ("{}", 6, "is no certificate"),
        ("no JSON", 6, "is no certificate"),
        ('{"format": 1}', 6, "no field"),
        (None, 2, "No such file"),
    ],
)
def test_what_is_no_certificate_is_refused(
    content: str | None, code: int, complaint: str, dragoman: Command, tmp_path: Path
) -> None:
    path = tmp_path / "x.dragoman.json"
    if content is not None:
        path.write_text(content)
    shown = dragoman("verify", path)
    assert shown.code == code
    assert complaint in shown.err


def test_a_certificate_that_names_files_elsewhere_is_refused(converted: Path, dragoman: Command) -> None:
    path = converted.with_name("model.onnx.dragoman.json")
    record = json.loads(path.read_text())
    record["files"][0]["name"] = "../model.onnx"
    path.write_text(json.dumps(record))
    shown = dragoman("verify", path)
    assert shown.code == 6
    assert "is not the name of a file beside the certificate" in shown.err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([SOURCE], "verify takes two models, or one certificate"),
        ([SOURCE, "nowhere.onnx"], "nowhere.onnx: no such file"),
        (["nowhere.pt2", "nowhere.onnx"], "nowhere.pt2: no such file or folder"),
        ([MODELS + "small", SOURCE], "example arguments are needed"),
    ],
)
def test_models_that_are_not_there_are_refused(arguments: list[str], complaint: str, dragoman: Command) -> None:
    shown = dragoman("verify", *arguments)
    assert shown.code == 2
    assert complaint in shown.err


# ---- the demonstration --------------------------------------------------------------------------------


@pytest.fixture
def demonstrated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that takes no minute stands for those of the demonstration."""
    example = Example("A small model", "small.onnx", lambda: (*small_with_example(), {}), {"x": {0: "batch"}})
    monkeypatch.setattr(dragoman.demo, "EXAMPLES", (example,))


@pytest.mark.usefixtures("demonstrated")
def test_the_demonstration_writes_over_what_it_wrote_before(dragoman: Command, tmp_path: Path) -> None:
    for _ in range(2):
        shown = dragoman("demo", "--folder", tmp_path / "new" / "folder")
        assert shown.code == 0
        assert "A small model" in shown.out
        assert "verdict        PROVEN" in shown.out
    assert sorted(contents(tmp_path / "new" / "folder")) == ["small.onnx", "small.onnx.dragoman.json"]


@pytest.mark.usefixtures("demonstrated")
def test_a_demonstration_without_its_libraries_or_its_folder_is_refused(
    dragoman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    shown = dragoman("demo", "--folder", tmp_path / "file")
    assert (shown.code, "cannot be made: File exists" in shown.err) == (2, True)
    monkeypatch.setattr("dragoman.demo.find_spec", lambda name: None if name == "timm" else object())
    shown = dragoman("demo", "--folder", tmp_path / "demo")
    assert (shown.code, shown.complaint) == (2, "UsageError: the demo needs timm: pip install 'dragoman[zoo]'")


def test_the_demonstration_is_of_real_models() -> None:
    assert [e.file for e in dragoman.demo.EXAMPLES] == ["resnet50.onnx", "bert.onnx"]


def test_inspect_also_lists_what_onnx_cannot_express(dragoman: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is shown all the same."""

    def refuse(*arguments: object, **options: object) -> None:
        raise EmitRefused(
            "ONNX opset 20", [Occurrence("gelu", 3, "body.0", "models.py:7", "no such node")], "Choose 21."
        )

    monkeypatch.setattr("dragoman.backends.onnx.emit", refuse)
    shown = dragoman("inspect", SOURCE)
    assert shown.code == 3
    assert "x: f32[2,8]" in shown.out
    before, _, listed = shown.out.partition("  no translation into ONNX\n")
    assert before
    assert listed.split() == ["gelu", "3×", "body.0", "models.py:7", "no", "such", "node", "Choose", "21."]
