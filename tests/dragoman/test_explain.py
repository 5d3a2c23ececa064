"""What `explain` tells of a model: rules that fired, near misses with their place in the source, names that are wrong."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import dragoman
from dragoman.ir.errors import UsageError


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(16))
        self.query, self.key = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        h = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight
        scores = self.query(h) @ self.key(h).transpose(1, 2) / 4.0
        dimmed = scores.softmax(-1) * 0.9
        y = dimmed @ h
        return x + 0.5 * y * (1 + torch.erf(y / 1.414))


def told(rule: str | None = None) -> str:
    model = nn.Sequential(Block(), Block()).eval()
    return str(dragoman.explain(model, rule, args=(torch.rand(2, 5, 16),), dynamic={"input": {0: "batch"}}))


def test_what_fired_and_what_nearly_did_is_told_with_its_lines() -> None:
    text = told()
    fired, _, missed = text.partition("near misses")
    assert "2×  recognise_rms_norm" in fired
    assert "torch.rsqrt(x.pow(2)" in fired
    assert "recognise_gelu" in missed
    assert "the constant is 1.414 where 1.41421356" in missed
    assert "return x + 0.5 * y * (1 + torch.erf(y / 1.414))" in missed
    assert "2×" in missed


@pytest.mark.parametrize("name", ["attention", "fuse_attention", "recognise_attention"])
def test_one_rule_tells_how_far_it_came(name: str) -> None:
    text = told(name)
    assert "recognise_attention" in text
    assert "softmax is needed, found mul" in text or "where is needed, found mul" in text
    assert "dimmed = scores.softmax(-1) * 0.9" in text
    assert "rms_norm" not in text


def test_a_rule_that_does_not_exist_gets_the_nearest_names() -> None:
    with pytest.raises(UsageError, match="did you mean attention"):
        told("atention")


def test_nothing_near_is_said() -> None:
    text = str(dragoman.explain(nn.ReLU(), "attention", args=(torch.rand(3),)))
    assert "nothing comes near the rule recognise_attention" in text
