"""What each target gets: rows and plain operators for all, ONNX Runtime's own operators only where asked for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

import dragoman
from dragoman.ir.errors import UsageError
from dragoman.ir.findings import Verdict

DYNAMIC = {"x": {0: "batch", 1: "length"}}


class Block(nn.Module):
    """A layer of a transformer, one projection for queries, keys and values."""

    def __init__(self, *, causal: bool, groups: int = 4, rotary: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.causal, self.groups, self.rotary = causal, groups, rotary
        self.norm, self.out = nn.LayerNorm(32), nn.Linear(32, 32)
        self.project = nn.Linear(32, 32 + 16 * groups)
        self.register_buffer("frequency", 1.0 / 100 ** (torch.arange(4) / 4), persistent=False)

    def turned(self, x: Tensor) -> Tensor:
        angle = torch.arange(x.shape[2], dtype=torch.float32)[:, None] * self.frequency
        angle = torch.cat((angle, angle), -1)
        return x * angle.cos() + torch.cat((-x[..., 4:], x[..., :4]), -1) * angle.sin()

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q, k, v = self.project(self.norm(x)).split((32, 8 * self.groups, 8 * self.groups), -1)
        q, k, v = (t.view(batch, length, -1, 8).transpose(1, 2) for t in (q, k, v))
        if self.rotary:
            q, k = self.turned(q), self.turned(k)
        shared = self.groups != 4
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal, enable_gqa=shared)
        return x + self.out(y.transpose(1, 2).reshape(batch, length, 32))


BLOCKS = {
    "plain": (lambda: Block(causal=False), {"MultiHeadAttention"}),
    "causal": (lambda: Block(causal=True), {"GroupQueryAttention"}),
    "shared": (lambda: Block(causal=True, groups=2, rotary=True), {"GroupQueryAttention", "RotaryEmbedding"}),
}


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("target", ["portable", "ort"])
def test_a_transformer_block_is_proven_on_each_target(name: str, target: str, tmp_path: Path) -> None:
    make, contrib = BLOCKS[name]
    path = tmp_path / "m.onnx"
    report = dragoman.convert(make().eval(), path, args=(torch.randn(2, 6, 32),), dynamic=DYNAMIC, target=target)
    assert report.verdict is Verdict.PROVEN, str(report)
    model = onnx.load(path)
    own = {n.op_type for n in model.graph.node if n.domain}
    assert own == (contrib if target == "ort" else set())
    assert [o.domain for o in model.opset_import] == ["", *(["com.microsoft"] if target == "ort" else [])]
    counts = Counter(n.op_type for n in model.graph.node)
    assert counts["Gemm"] == 4  # the projection taken apart, and the one after attention
    assert not counts["Split"]
    if target == "portable":
        assert not counts["Expand"]  # no head is repeated
    if target == "ort" and name != "shared":
        assert not counts["Transpose"]
    onnx.checker.check_model(model)


@pytest.mark.parametrize(("length", "whole"), [(6, False), (300, True)])
def test_an_operator_is_used_from_the_size_on_at_which_it_is_faster(length: int, whole: bool, tmp_path: Path) -> None:
    model = dragoman.load(Block(causal=True).eval(), (torch.randn(2, length, 32),))
    model.optimise("ort")
    saved = onnx.load(model.save(tmp_path / "m.onnx"))
    assert any(n.op_type == "GroupQueryAttention" for n in saved.graph.node) is whole


def test_a_model_is_saved_for_the_target_that_it_was_optimised_for(tmp_path: Path) -> None:
    model = dragoman.load(Block(causal=False).eval(), (torch.randn(2, 6, 32),), dynamic=DYNAMIC)
    model.optimise("ort")
    saved = onnx.load(model.save(tmp_path / "m.onnx"))
    assert any(n.op_type == "MultiHeadAttention" for n in saved.graph.node)


def test_an_unknown_target_is_told_which_there_are() -> None:
    model = dragoman.load(Block(causal=False).eval(), (torch.randn(2, 6, 32),))
    with pytest.raises(UsageError, match=r"no target 'tpu' yet; there is portable, ort"):
        model.optimise("tpu")
