"""Small PyTorch models for faults of the importer to live in; each call is on a line of its own: that is blamed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Vision(nn.Module):
    """Convolutions with uneven attributes, norms off their defaults, pooling, resampling."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(2, 1))
        self.norm = nn.BatchNorm2d(6, eps=1e-3)
        self.grouped = nn.Conv2d(6, 6, 3, padding=1, groups=3)
        self.up = nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1)
        self.groups = nn.GroupNorm(2, 4)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = self.norm(x)
        x = functional.hardswish(x)
        x = self.grouped(x)
        x = functional.max_pool2d(x, 3, stride=2, padding=1, ceil_mode=False)
        x = functional.avg_pool2d(x, 2, stride=1, padding=1, count_include_pad=False)
        x = self.up(x)
        x = self.groups(x)
        x = self.act(x)
        x = functional.interpolate(x, size=(9, 14), mode="bilinear", align_corners=False)
        x = functional.interpolate(x, size=(6, 20), mode="nearest")
        x = functional.pad(x, (1, 2, 2, 0), mode="reflect")
        return functional.pixel_shuffle(x, 2)


class Language(nn.Module):
    """Embeddings of the usual small size, attention with padding and with causality, norms, index arithmetic."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(31, 16)
        self.norm = nn.LayerNorm(16)
        self.query = nn.Linear(16, 16)
        self.key = nn.Linear(16, 16)
        self.head = nn.Linear(16, 31, bias=False)

    def forward(self, ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        x = self.tokens(ids)
        x = self.norm(x)
        q = self.query(x).unflatten(2, (2, 8)).transpose(1, 2)
        k = self.key(x).unflatten(2, (2, 8)).transpose(1, 2)
        seen = attention_mask[:, None, None, :] > 0
        first = functional.scaled_dot_product_attention(q, k, k, attn_mask=seen)
        second = functional.scaled_dot_product_attention(q, k, k, is_causal=True)
        scores = q @ k.transpose(2, 3)
        scores = scores.masked_fill(seen.logical_not(), float("-inf"))
        third = torch.softmax(scores, dim=3) @ k
        x = torch.cat([first, second + third], dim=3)
        x = x.mean(dim=1)
        x = x / (x.var(dim=2, keepdim=True, correction=1) + 1e-3).sqrt()
        logits = self.head(x)
        places = attention_mask.cumsum(dim=1) - 1
        best = logits.argmax(dim=2)
        return {"logits": torch.clamp(logits, max=1.5), "places": places, "best": torch.where(seen[:, 0, 0], best, ids)}


class Recurrent(nn.Module):
    """Layers that remember."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 4, num_layers=2, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(8, 3, batch_first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, (h, _) = self.lstm(x)
        z, _ = self.gru(y)
        return z, h


@torch.no_grad()
def _settled(model: nn.Module) -> nn.Module:
    """In eval mode, no parameter or statistic at its default, embeddings as small as trained ones."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if "running_var" in name:
            tensor.uniform_(0.001, 0.5)
        elif "tokens" in name:
            tensor.normal_(0.0, 0.02)
        elif tensor.is_floating_point():
            tensor.normal_(0.0, 0.5)
    return model.eval()


def vision() -> tuple[nn.Module, dict[str, Tensor], dict[str, Any]]:
    """Model, example inputs, dynamic dims."""
    return _settled(Vision()), {"x": torch.randn(2, 4, 9, 11)}, {"x": {0: "batch"}}


def language() -> tuple[nn.Module, dict[str, Tensor], dict[str, Any]]:
    """Model, example inputs, dynamic dims."""
    inputs = {"ids": torch.randint(0, 31, (2, 4)), "attention_mask": torch.ones(2, 4, dtype=torch.int64)}
    return _settled(Language()), inputs, {name: {0: "batch", 1: "seq"} for name in inputs}


def recurrent() -> tuple[nn.Module, dict[str, Tensor], dict[str, Any]]:
    """Model, example inputs, dynamic dims."""
    return _settled(Recurrent()), {"x": torch.randn(2, 4, 5)}, {"x": {0: "batch", 1: "time"}}
