"""Model directories: configuration and safetensors, weights mapped, nothing fetched and nothing executed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from dragoman.frontends.pytorch import import_directory
from dragoman.frontends.pytorch.huggingface import load_model
from dragoman.ir.errors import Malformed, UnsafeInput, Unsupported
from dragoman.torchvision_operators import declare_missing_operators
from tests.frontends.pytorch.compared import arrays_of, assert_same

pytest.importorskip("transformers")
declare_missing_operators()

TINY: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    torch.manual_seed(0)
    BertModel(BertConfig(**TINY)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    torch.manual_seed(0)
    config = LlamaConfig(**TINY, num_key_value_heads=1, tie_word_embeddings=True)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


def copy_of(folder: Path, place: Path, **changes: Any) -> Path:
    place.mkdir()
    for path in folder.iterdir():
        (place / path.name).write_bytes(path.read_bytes())
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | changes))
    return place


def test_a_directory_is_imported_with_examples_of_its_own(bert: Path) -> None:
    source = import_directory(bert)
    graph = source.imported.graph
    assert [str(v.type) for v in graph.inputs] == ["i64[batch,sequence]"] * 3
    assert [v.name for v in graph.inputs] == ["input_ids", "attention_mask", "token_type_ids"]
    assert graph.output_names == ("last_hidden_state", "pooler_output")
    assert graph.name == "tiny-bert"
    ids = torch.tensor([[3, 7, 11, 2, 0]])
    assert_same(source, arrays_of([ids, (ids > 0).long(), torch.zeros_like(ids)]))


def test_weights_keep_their_dtype_and_tied_ones_are_there_once(llama: Path) -> None:
    source = import_directory(llama)
    weights = source.imported.graph.weights
    assert {str(v.type.dtype) for n, v in weights.items() if n.endswith("weight")} == {"bf16"}
    assert "lm_head.weight" not in weights
    assert source.imported.graph.output_names == ("logits",)


def test_weights_are_mapped_from_the_files(bert: Path) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("/proc tells where memory comes from")
    model = load_model(bert)
    address = next(model.parameters()).data_ptr()
    maps = Path("/proc/self/maps").read_text().splitlines()
    ranges = ((*(int(a, 16) for a in line.split()[0].split("-")), line) for line in maps)
    (line,) = [text for low, high, text in ranges if low <= address < high]
    assert line.endswith("model.safetensors")


def test_arguments_of_the_caller_are_used_as_they_are(bert: Path) -> None:
    ids = torch.tensor([[3, 7, 11], [1, 2, 3]])
    source = import_directory(bert, kwargs={"input_ids": ids}, dynamic={"input_ids": {0: "rows"}})
    assert [str(v.type) for v in source.imported.graph.inputs] == ["i64[rows,3]"]


def test_a_folder_without_configuration_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match="has no config.json"):
        import_directory(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(Malformed, match="cannot be read"):
        import_directory(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(Malformed, match="names no architecture"):
        import_directory(tmp_path)


@pytest.mark.parametrize("name", ["MyOwnModel", "AutoModel", "logging", "__import__('os')", "BertConfig"])
def test_a_class_that_transformers_does_not_have_is_refused(bert: Path, tmp_path: Path, name: str) -> None:
    folder = copy_of(bert, tmp_path / "odd", architectures=[name])
    with pytest.raises(Unsupported, match="code beside the model is never run"):
        import_directory(folder)


def test_code_beside_the_model_is_never_run(bert: Path, tmp_path: Path) -> None:
    folder = copy_of(
        bert, tmp_path / "custom", auto_map={"AutoModel": "modeling.Evil", "AutoConfig": "modeling.EvilConfig"}
    )
    (folder / "modeling.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    import_directory(folder)
    assert not (tmp_path / "ran").exists()


def test_pickled_weights_are_refused_as_unsafe(bert: Path, tmp_path: Path) -> None:
    folder = copy_of(bert, tmp_path / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UnsafeInput, match=r"pytorch_model\.bin: reading it would run code"):
        import_directory(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(Malformed, match="has no safetensors file"):
        import_directory(folder)


def test_missing_weights_are_not_made_up(bert: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = copy_of(bert, tmp_path / "partial")
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.1.attention.self.query.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        Malformed, match=r"has no values for encoder\.layer\.1\.attention\.self\.query\.weight of BertModel"
    ):
        import_directory(folder)
