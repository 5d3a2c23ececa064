"""Small models that the command line's tests name as `tests.dragoman.models:…`."""

from __future__ import annotations

import torch
from torch import nn


class Small(nn.Module):
    """Two layers over f32[batch, 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.second = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.nn.functional.gelu(self.first(x)))


class Branching(nn.Module):
    """A Python `if` on data."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            return x + 1
        return x - 1


class Pinned(nn.Module):
    """Works for a batch of 2 only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(2, 2, 4)


class Spectral(nn.Module):
    """Operators that have no translation."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.eigvals(x @ x.T).real.sum() + x


def small() -> nn.Module:
    torch.manual_seed(0)
    return Small().eval()


def small_with_example() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    return small(), (torch.randn(2, 8, generator=torch.Generator().manual_seed(1)),)


def branching() -> nn.Module:
    return Branching()


def pinned() -> nn.Module:
    return Pinned()


def spectral() -> nn.Module:
    return Spectral()


def broken() -> nn.Module:
    raise ValueError("the weights are at home")


def a_number() -> int:
    return 7


constant = 5
