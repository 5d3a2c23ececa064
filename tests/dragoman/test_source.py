"""Finding out what SOURCE is."""

from __future__ import annotations

import errno
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dragoman.ir.errors import Malformed, UnsafeInput, Unsupported, UsageError
from dragoman.source import is_part_of, locate
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


def test_an_onnx_file_is_found_by_its_content_too(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"\x08\x0a")
    (tmp_path / "b.bin").write_bytes(b"\x08\x0a\x12\x04onnx")
    assert locate(tmp_path / "a.onnx").kind == locate(tmp_path / "b.bin").kind == "onnx"


def test_other_files_are_refused_by_what_they_are(tmp_path: Path) -> None:
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
    (tmp_path / "e.gguf").write_bytes(b"GGUF\x03\x00\x00\x00")
    with pytest.raises(Unsupported, match="GGUF"):
        locate(tmp_path / "e.gguf")
    (tmp_path / "f.tflite").write_bytes(b"\x1c\x00\x00\x00TFL3")
    with pytest.raises(Unsupported, match="TensorFlow Lite"):
        locate(tmp_path / "f.tflite")
    (tmp_path / "g.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    with pytest.raises(UsageError, match=r"weights alone: give the folder that also has their config\.json"):
        locate(tmp_path / "g.safetensors")
    (tmp_path / "h.py").write_text("def make(): ...")
    with pytest.raises(UsageError, match="as in h:function"):
        locate(tmp_path / "h.py")
    (tmp_path / "i.dragoman.json").write_text("{}")
    with pytest.raises(UsageError, match="dragoman verify"):
        locate(tmp_path / "i.dragoman.json")


def exported(path: Path) -> Path:
    torch.export.save(torch.export.export(Small().eval(), (torch.ones(2, 8),)), path)
    return path


def rewritten(path: Path, change: Callable[[str, bytes], bytes | None], added: dict[str, bytes] | None = None) -> Path:
    """An archive with other contents."""
    changed = path.with_name("changed.pt2")
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(changed, "w") as after:
        for name in before.namelist():
            content = change(name, before.read(name))
            if content is not None:
                after.writestr(name, content)
        for name, content in (added or {}).items():
            after.writestr(name, content)
    return changed


def test_a_truncated_pt2_is_malformed_trusted_or_not(tmp_path: Path) -> None:
    path = exported(tmp_path / "small.pt2")
    whole = path.read_bytes()
    for kept in (4, 100, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:kept])
        for trust in (False, True):
            with pytest.raises(Malformed, match="damaged archive"):
                locate(path, trust=trust)


@pytest.mark.parametrize("lost", ["models/model.json", "model_weights_config.json"])
def test_a_pt2_that_lacks_a_part_is_malformed(lost: str, tmp_path: Path) -> None:
    path = rewritten(exported(tmp_path / "small.pt2"), lambda name, data: None if name.endswith(lost) else data)
    with pytest.raises(Malformed, match=r"cannot load this \.pt2") as caught:
        locate(path, trust=True)
    assert "warnings above" not in str(caught.value)


def test_a_pt2_whose_program_is_cut_is_malformed(tmp_path: Path) -> None:
    path = rewritten(
        exported(tmp_path / "small.pt2"), lambda name, data: data[:200] if name.endswith("model.json") else data
    )
    with pytest.raises(Malformed, match="JSONDecodeError"):
        locate(path, trust=True)


def test_compiled_code_in_a_pt2_is_refused_even_when_trusted(tmp_path: Path) -> None:
    library = {"small/data/aotinductor/model/model.so": b"\x7fELF"}
    path = rewritten(exported(tmp_path / "small.pt2"), lambda name, data: data, library)
    with pytest.raises(UnsafeInput, match="compiled code"):
        locate(path, trust=True)


def test_pickles_of_every_age_and_torchscript_are_refused_even_when_trusted(tmp_path: Path) -> None:
    module = Small().eval()
    torch.save(module, tmp_path / "new.pth")
    torch.save(module, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "plain.bin").write_bytes(pickle.dumps({"weight": [1.0]}))
    (tmp_path / "script.pth").write_bytes((tmp_path / "new.pth").read_bytes())
    with zipfile.ZipFile(tmp_path / "script.pth", "a") as archive:
        archive.writestr("script/code/__torch__.py", "class M: ...")
    for name in ("new.pth", "old.pth", "plain.bin", "script.pth"):
        with pytest.raises(UnsafeInput, match="runs code when"):
            locate(tmp_path / name, trust=True)


class Exploding:
    """An object that leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


def test_what_is_pickled_in_a_pt2_does_not_run_unless_it_is_trusted(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    payload = pickle.dumps(Exploding(mark))
    path = rewritten(exported(tmp_path / "small.pt2"), lambda name, data: payload if "sample_inputs/" in name else data)
    with pytest.raises(UnsafeInput):
        locate(path)
    assert not mark.exists()


def test_what_is_neither_file_nor_folder_is_refused_unread(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(UsageError, match="neither a file nor a folder"):
            locate(path)


@pytest.mark.parametrize("text", ["x" * 5000, "a\0b", "", "/" + "y" * 300, "\udcff"])
def test_a_name_that_no_file_can_have_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        locate(text)


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.pt2"
    path.touch()

    def denied(*args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(UsageError, match=r"secret\.pt2: Permission denied"):
        locate(path)


def test_a_near_miss_is_suggested(tmp_path: Path) -> None:
    (tmp_path / "model.pt2").touch()
    with pytest.raises(UsageError, match=r"Did you mean .*model\.pt2\?"):
        locate(tmp_path / "modle.pt2")


def test_models_are_never_fetched_and_the_refusal_says_so() -> None:
    for text in ("google-bert/bert-base-uncased", "https://example.org/model.pt2"):
        with pytest.raises(UsageError):
            locate(text)
    with pytest.raises(UsageError, match="never downloaded"):
        locate("google-bert/bert-base-uncased")


def test_wrappers_around_a_module_are_taken_off() -> None:
    module = Small().eval()
    assert locate(torch.nn.DataParallel(module)).what is module
    assert locate(torch.compile(module, backend="eager")).what is module


def test_torchscript_is_refused_by_name() -> None:
    with pytest.warns(DeprecationWarning, match="deprecated"):
        script = torch.jit.trace(Small().eval(), torch.ones(2, 8))
    with pytest.raises(Unsupported, match=r"TorchScript has no reader; give the nn\.Module"):
        locate(script)


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        (Small, "the class Small, of which an instance is needed"),
        (Small().state_dict(), "a dictionary of weights"),
        (3, "no model but of type int"),
        ((), "it has 0 parts"),
        ((Small(), 1), "should be a tuple or a dict, not of type int"),
        ((Small(), (), 1), "should be a dict, not of type int"),
        ((Small(), (), {}, None, 5), "it has 5 parts"),
    ],
)
def test_an_object_that_is_no_model_is_refused_by_what_it_is(source: object, complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        locate(source)
    assert complaint in str(caught.value)


def test_one_tensor_may_stand_for_a_tuple_of_one() -> None:
    (given,) = locate((Small(), torch.ones(2, 8))).args
    assert given.shape == (2, 8)


def test_an_output_that_would_replace_its_source_is_known(tmp_path: Path) -> None:
    path = exported(tmp_path / "small.pt2")
    (tmp_path / "link.onnx").symlink_to(path)
    assert is_part_of(path, path)
    assert is_part_of(tmp_path / "link.onnx", path)
    assert not is_part_of(tmp_path / "other.onnx", path)
    (tmp_path / "model").mkdir()
    for name in ("model.safetensors", "config.json", "model.onnx"):
        (tmp_path / "model" / name).touch()
    assert is_part_of(tmp_path / "model" / "model.safetensors", tmp_path / "model")
    assert not is_part_of(tmp_path / "model" / "model.onnx", tmp_path / "model")
    assert not is_part_of(tmp_path / "model" / "new.json", tmp_path / "model")


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"config\.json"):
        locate(tmp_path)
