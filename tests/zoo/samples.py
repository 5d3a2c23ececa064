"""Inputs as users have them: images, token ids, padding masks, frames of sound.

Owns the generators, each a function of sizes and a `torch.Generator` only. Refuses white noise where a model
expects structure: a picture is smooth, a mask has rows of different length.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_IMAGENET_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
_IMAGENET_STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


def images(batch: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Smooth coloured fields with fine grain, normalised as ImageNet pictures are.  -> [batch, 3, height, width]"""
    coarse = torch.rand(batch, 3, 7, 7, generator=generator)
    smooth = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=True)
    grain = torch.rand(batch, 3, height, width, generator=generator)
    return (0.85 * smooth + 0.15 * grain - _IMAGENET_MEAN) / _IMAGENET_STD


def tokens(batch: int, length: int, vocabulary: int, generator: torch.Generator) -> Tensor:
    """Token ids, the frequent ones more often, as in text.  -> i64[batch, length]"""
    uniform = torch.rand(batch, length, generator=generator, dtype=torch.float64)
    return (uniform.square() * vocabulary).to(torch.int64)


def padding_mask(batch: int, length: int, *, left: bool = False, empty_row: bool = False) -> Tensor:
    """1 where a token counts, 0 where it pads; row r drops a share of its length.  -> i64[batch, length]

    With `empty_row` the last row of a batch of two or more is padding throughout.
    """
    kept = torch.tensor([max(1, length - (row * length) // (batch + 1)) for row in range(batch)])
    if empty_row and batch > 1:
        kept[-1] = 0
    position = torch.arange(length).expand(batch, length)
    counts = (position >= length - kept[:, None]) if left else (position < kept[:, None])
    return counts.to(torch.int64)


def spectrogram(batch: int, bands: int, frames: int, generator: torch.Generator) -> Tensor:
    """Log-mel-like frames, correlated in time, within [-1, 1.5].  -> [batch, bands, frames]"""
    coarse = torch.randn(batch, bands, max(2, frames // 20), generator=generator)
    smooth = F.interpolate(coarse, size=frames, mode="linear", align_corners=True)
    grain = torch.randn(batch, bands, frames, generator=generator)
    return (0.4 * smooth + 0.1 * grain).clamp(-1.0, 1.5)


def series(*shape: int, generator: torch.Generator) -> Tensor:
    """A standardised feature series: unit normal values of any shape."""
    return torch.randn(*shape, generator=generator)
