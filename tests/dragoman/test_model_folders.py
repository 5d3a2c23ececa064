"""Hugging Face folders: what is missing, damaged or dangerous in them, and that no code in them ever runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dragoman.torchvision_operators import declare_missing_operators
from tests.dragoman.conftest import Command, contents

declare_missing_operators()
transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of 40 tensors."""
    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, vocab_size=100
    )
    transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def bert(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "bert"))


def configured(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def with_a_pickle(folder: Path) -> None:
    without_weights(folder)
    torch.save({}, folder / "pytorch_model.bin")


def with_cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:3000])


def with_an_index_that_leads_outside(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
    (folder / "part.safetensors").touch()
    listed = {"metadata": {}, "weight_map": {"pooler.dense.bias": "../outside.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(listed))


def with_a_broken_index(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    (folder / "model.safetensors.index.json").write_text("[]")


def with_a_broken_configuration(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "bert",')


@pytest.mark.parametrize(
    ("change", "code", "complaint"),
    [
        (without_weights, 6, "has no safetensors file"),
        (with_a_pickle, 5, "pytorch_model.bin: reading it would run code; save safetensors instead"),
        (with_cut_weights, 6, "cannot be loaded as BertModel: SafetensorError"),
        (with_an_index_that_leads_outside, 5, "names '../outside.safetensors'"),
        (with_a_broken_index, 6, "is no index of weights"),
        (with_a_broken_configuration, 6, "config.json cannot be read"),
        (configured(architectures=[]), 6, "names no architecture"),
        (configured(architectures=["os.system"]), 3, "is a 'os.system', which transformers"),
        (configured(architectures=["NoSuchModel"]), 3, "code beside the model is never run"),
        (configured(hidden_size=64), 6, "has values of another shape for embeddings.LayerNorm.bias"),
        (configured(hidden_size=-32), 6, "cannot be loaded as BertModel: "),
        (configured(num_hidden_layers=2), 6, "has no values for encoder.layer.1."),
    ],
)
def test_a_folder_that_is_not_whole_is_refused_in_one_message(
    change: Callable[[Path], None], code: int, complaint: str, bert: Path, dragoman: Command
) -> None:
    change(bert)
    shown = dragoman("inspect", bert)
    assert shown.code == code
    assert shown.out == ""
    assert complaint in shown.complaint
    assert len(shown.complaint.splitlines()) == 1


def test_code_beside_a_model_is_never_run(bert: Path, dragoman: Command, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    for name in ("modeling_own.py", "configuration_own.py"):
        (bert / name).write_text(f"open({str(mark)!r}, 'w').write('ran')\n")
    own = {"AutoModel": "modeling_own.Own", "AutoConfig": "configuration_own.OwnConfig"}
    for changes in ({"auto_map": own}, {"auto_map": own, "model_type": "own"}, {"architectures": ["Own"]}):
        configured(**changes)(bert)
        dragoman("inspect", bert)
        assert not mark.exists()


def test_a_folder_converts_and_is_not_touched(bert: Path, dragoman: Command, tmp_path: Path) -> None:
    before = contents(bert)
    shown = dragoman("convert", bert, "-o", tmp_path / "bert.onnx", "--input", "input_ids:i64[batch,length]")
    assert shown.code == 0
    assert "batch=3 length=5" in shown.out
    assert "'length' may only be 1..512 (modeling_bert.py:" in shown.out
    assert contents(bert) == before


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_the_output_never_replaces_a_file_of_the_folder(name: str, bert: Path, dragoman: Command) -> None:
    before = contents(bert)
    shown = dragoman("convert", bert, "-o", bert / name, "--overwrite")
    assert shown.code == 2
    assert "belongs to the source" in shown.err
    assert contents(bert) == before


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("nonsense:i64[b,s]", "You must specify exactly one of input_ids or inputs_embeds"),
        ("input_ids:f32[b,s]", "Expected tensor for argument #1 'indices'"),
        ("input_ids:i64[b]", "(--input input_ids:i64[b], tried with b = 2)"),
    ],
)
def test_a_wrong_input_of_a_folder_s_model_is_refused(
    given: str, complaint: str, bert: Path, dragoman: Command, tmp_path: Path
) -> None:
    shown = dragoman("convert", bert, "-o", tmp_path / "x.onnx", "--input", given)
    assert shown.code == 2
    assert complaint in shown.complaint
