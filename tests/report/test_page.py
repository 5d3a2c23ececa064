"""The page of a conversion: one file, nothing fetched, every name of the model escaped."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import dragoman
from dragoman.cli import main

EVIL = "<img src=x onerror=alert(1)>"


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.Linear(8, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x).softmax(-1)


def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "given.onnx"
    dragoman.convert(Net().eval(), model, args=(torch.zeros(2, 4),), verify=False)
    import onnx

    proto = onnx.load(str(model))
    for node in proto.graph.node:
        node.name = EVIL + node.name
    for value in proto.graph.output:
        for node in proto.graph.node:
            for index, name in enumerate(node.output):
                if name == value.name:
                    node.output[index] = EVIL
        value.name = EVIL
    onnx.save(proto, str(model))
    monkeypatch.setattr("sys.argv", ["dragoman", "convert", "given.onnx", "-o", "m.onnx", "--report", "r.html"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    return (tmp_path / "r.html").read_text(encoding="utf-8")


def test_the_page_tells_the_verdict_and_shows_both_graphs_without_fetching_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = page(tmp_path, monkeypatch)
    assert "VERIFIED" in text or "PROVEN" in text
    assert len(text) < 5_000_000
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?:https?:)?//""", text)
    assert "Content-Security-Policy" in text


def test_names_of_the_model_are_inert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = page(tmp_path, monkeypatch)
    assert "onerror" in text  # the name is there
    assert "<img" not in text
