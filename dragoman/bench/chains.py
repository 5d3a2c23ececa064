"""Forty chains of a product or convolution with what follows it: bias, activation, scale, residual, a reduction.

Each is a module and the shapes of its inputs. Sizes take about 0.05 to 5 ms on an H100 in bf16; `small` ones run under
an interpreter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Tail = Callable[[Tensor], Tensor]


class Chain(nn.Module):
    """An anchor layer, then steps; `residual` adds the anchor's own result again."""

    def __init__(self, anchor: nn.Module, *steps: nn.Module | Tail, residual: bool = False) -> None:
        super().__init__()
        self.anchor, self.residual = anchor, residual
        self.layers = nn.ModuleList([s for s in steps if isinstance(s, nn.Module)])
        self.steps = steps

    def forward(self, *inputs: Tensor) -> Tensor:
        """The chain."""
        y = self.anchor(*inputs)
        kept = y
        for step in self.steps:
            y = step(y)
            if self.residual and y.shape == kept.shape:
                y, kept = y + kept, y
        return y


class Product(nn.Module):
    """A product of two batches of matrices."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """[b, m, k] and [b, k, n] -> [b, m, n]."""
        return x @ y


@dataclass(frozen=True)
class Subject:
    """A chain under a name: how to make it and the shapes of its inputs."""

    name: str
    make: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...]


def gelu(x: Tensor) -> Tensor:
    """By erf."""
    return F.gelu(x)


def scaled(x: Tensor) -> Tensor:
    """Halved and kept in −1…1."""
    return (x * 0.5).clamp(-1.0, 1.0)


def pooled(x: Tensor) -> Tensor:
    """The mean over all spatial axes."""
    return x.mean(tuple(range(2, x.dim())))


def highest(x: Tensor) -> Tensor:
    """The largest over the channels."""
    return x.amax(1)


def lowest(x: Tensor) -> Tensor:
    """The smallest over the channels, kept."""
    return x.amin(1, keepdim=True)


def summed(x: Tensor) -> Tensor:
    """The sum over the last axis."""
    return x.sum(-1)


def lumped(x: Tensor) -> Tensor:
    """Log of the sum of exponentials over axis 1."""
    return x.logsumexp(1)


def flat(x: Tensor) -> Tensor:
    """Softmax over axis 1."""
    return x.softmax(1)


def subjects(*, small: bool = False) -> list[Subject]:
    """All of them."""
    d = 16 if small else 1
    return [*_planar(d), *_deep(d), *_rows(d)]


def _planar(d: int) -> list[Subject]:
    c, s, n = max(64 // d, 4), max(128 // d, 8), 32 if d == 1 else 2
    wide, few = (n, c, s, s), (n, 3, s, s)

    def conv(inputs: int = c, outputs: int = 2 * c, kernel: int = 3, **settings: Any) -> nn.Module:
        return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **settings)

    def up(outputs: int = c) -> nn.Module:
        return nn.ConvTranspose2d(c, outputs, 4, 2, 1)

    g, f = 2 * c, nn.functional
    tails: list[tuple[str, Callable[[], nn.Module], tuple[int, ...]]] = [
        ("conv relu", lambda: Chain(conv(), F.relu), wide),
        ("conv gelu pool", lambda: Chain(conv(), gelu, pooled), wide),
        ("few channels gelu pool", lambda: Chain(conv(3), gelu, pooled), few),
        ("few channels relu max pool", lambda: Chain(conv(3), F.relu, nn.MaxPool2d(2)), few),
        ("conv group norm scale pool", lambda: Chain(conv(), nn.GroupNorm(4, g), scaled, pooled), wide),
        ("conv group norm silu", lambda: Chain(conv(), nn.GroupNorm(4, g), F.silu), wide),
        ("conv instance norm relu", lambda: Chain(conv(), nn.InstanceNorm2d(g), F.relu), wide),
        ("conv batch norm relu", lambda: Chain(conv(), nn.BatchNorm2d(g), F.relu), wide),
        ("conv max pool", lambda: Chain(conv(), nn.MaxPool2d(2), F.relu), wide),
        ("conv avg pool sigmoid sum", lambda: Chain(conv(), nn.AvgPool2d(2), torch.sigmoid, summed), wide),
        ("conv softmax", lambda: Chain(conv(), flat), wide),
        ("conv log-sum-exp", lambda: Chain(conv(), scaled, lumped), wide),
        ("conv min tanh", lambda: Chain(conv(), lowest, torch.tanh), wide),
        ("conv max", lambda: Chain(conv(), highest), wide),
        ("conv residual silu", lambda: Chain(conv(), F.silu, scaled, residual=True), wide),
        ("pointwise conv silu pool", lambda: Chain(conv(kernel=1), F.silu, pooled), wide),
        ("depthwise conv gelu", lambda: Chain(conv(c, c, 7, groups=c), gelu), wide),
        ("depthwise conv norm pool", lambda: Chain(conv(c, c, 3, groups=c), nn.GroupNorm(1, c), pooled), wide),
        ("transposed conv gelu", lambda: Chain(up(), gelu), wide),
        ("transposed conv group norm", lambda: Chain(up(), nn.GroupNorm(4, c), F.relu), wide),
        ("transposed conv min sum", lambda: Chain(up(), lowest, summed), wide),
        ("transposed conv softmax scale", lambda: Chain(up(), flat, scaled, f.relu), wide),
    ]
    return [Subject(name, make, (shape,)) for name, make, shape in tails]


def _deep(d: int) -> list[Subject]:
    c, s, n = max(32 // d, 4), max(32 // d, 4), 16 if d == 1 else 1
    shape = (n, c, s, s, s)

    def conv() -> nn.Module:
        return nn.Conv3d(c, 2 * c, 3, padding=1)

    def up() -> nn.Module:
        return nn.ConvTranspose3d(c, c, 3, 2, 1, output_padding=1)

    def last(x: Tensor) -> Tensor:
        return F.gelu(F.layer_norm(x, x.shape[-1:]))

    makes: list[tuple[str, Callable[[], nn.Module]]] = [
        ("conv3d relu pool", lambda: Chain(conv(), F.relu, pooled)),
        ("conv3d group norm pool", lambda: Chain(conv(), nn.GroupNorm(4, 2 * c), pooled)),
        ("conv3d max pool log-sum-exp", lambda: Chain(conv(), nn.MaxPool3d(2), lumped, F.relu)),
        ("conv3d softmax max", lambda: Chain(conv(), flat, highest)),
        ("conv3d scale sum", lambda: Chain(conv(), scaled, summed)),
        ("transposed conv3d layer norm gelu", lambda: Chain(up(), last)),
        ("transposed conv3d scale pool", lambda: Chain(up(), scaled, pooled)),
    ]
    return [Subject(name, make, (shape,)) for name, make in makes]


def _rows(d: int) -> list[Subject]:
    m, k = 4096 // d, 2048 // d
    rows, stacks = ((m, k),), ((max(64 // d, 2), 512 // d, 256 // d), (max(64 // d, 2), 256 // d, 512 // d))

    def linear() -> nn.Module:
        return nn.Linear(k, k)

    makes: list[tuple[str, Callable[[], nn.Module], tuple[tuple[int, ...], ...]]] = [
        ("linear gelu", lambda: Chain(linear(), gelu), rows),
        ("linear silu residual", lambda: Chain(linear(), F.silu, residual=True), rows),
        ("linear layer norm", lambda: Chain(linear(), nn.LayerNorm(k), gelu), rows),
        ("linear group norm clamp", lambda: Chain(linear(), nn.GroupNorm(8, k), scaled), rows),
        ("linear softmax", lambda: Chain(linear(), flat), rows),
        ("linear sum", lambda: Chain(linear(), torch.sigmoid, summed), rows),
        ("linear log-sum-exp", lambda: Chain(linear(), scaled, lumped, F.mish), rows),
        ("linear max scale", lambda: Chain(linear(), highest, scaled), rows),
        ("one row gelu", lambda: Chain(linear(), gelu), ((1, k),)),
        ("batched product softmax", lambda: Chain(Product(), scaled, lambda x: x.softmax(-1)), stacks),
        ("batched product sum", lambda: Chain(Product(), F.relu, summed), stacks),
    ]
    return [Subject(name, make, shapes) for name, make, shapes in makes]
