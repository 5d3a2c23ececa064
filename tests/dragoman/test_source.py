"""Finding out what SOURCE is."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch

from dragoman.ir.errors import UnsafeInput, Unsupported, UsageError
from dragoman.source import locate
from tests.dragoman.models import Small


def test_a_module_and_an_exported_program_are_recognised() -> None:
    module = Small().eval()
    assert locate(module).kind == "module"
    assert locate(torch.export.export(module, (torch.ones(2, 8),))).kind == "exported"


def test_a_factory_may_return_a_model_or_a_model_with_arguments() -> None:
    assert locate("tests.dragoman.models:small").args == ()
    found = locate("tests.dragoman.models:small_with_example")
    assert found.kind == "module"
    assert found.args[0].shape == (2, 8)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("no/such/file.pt2", "no such file or folder"),
        ("tests.dragoman.models:missing", "has no 'missing'"),
        ("tests.dragoman.nowhere:small", "there is no module"),
        ("tests.dragoman.models:constant", "should be a function"),
        ("tests.dragoman.models:a_number", "is no model"),
        ("tests.dragoman.models:broken", "raised ValueError: the weights are at home"),
        ("tests.dragoman.models:", "after the colon"),
    ],
)
def test_a_source_that_is_none_is_refused_with_the_reason(text: str, complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        locate(text)
    assert complaint in str(caught.value)


def test_a_pt2_file_is_loaded_only_when_trusted(tmp_path: Path) -> None:
    path = tmp_path / "small.pt2"
    torch.export.save(torch.export.export(Small().eval(), (torch.ones(2, 8),)), path)
    with pytest.raises(UnsafeInput, match="--trust"):
        locate(path)
    assert locate(path, trust=True).kind == "exported"


def test_the_content_decides_not_the_name(tmp_path: Path) -> None:
    renamed = tmp_path / "model.bin"
    torch.export.save(torch.export.export(Small().eval(), (torch.ones(2, 8),)), tmp_path / "x.pt2")
    renamed.write_bytes((tmp_path / "x.pt2").read_bytes())
    with pytest.raises(UnsafeInput, match="--trust"):
        locate(renamed)


def test_a_pickled_checkpoint_is_never_opened(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "model.pt")
    with pytest.raises(UnsafeInput, match="pickled"):
        locate(tmp_path / "model.pt", trust=True)


def test_other_files_are_refused_by_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"\x08\x0a\x12\x04onnx")
    with pytest.raises(Unsupported, match="ONNX"):
        locate(tmp_path / "a.onnx")
    (tmp_path / "b.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(Unsupported, match="Keras"):
        locate(tmp_path / "b.h5")
    (tmp_path / "c.txt").write_text("hello")
    with pytest.raises(UsageError, match="no format"):
        locate(tmp_path / "c.txt")
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.writestr("readme", "hello")
    with pytest.raises(Unsupported, match="archive"):
        locate(tmp_path / "d.zip")
    (tmp_path / "e.pt2").write_bytes(b"PK\x03\x04 and nothing more")
    with pytest.raises(UsageError, match="damaged"):
        locate(tmp_path / "e.pt2")


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"config\.json"):
        locate(tmp_path)
