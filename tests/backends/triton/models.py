"""Small models of the kinds that people convert, with random weights: a few layers each, so that an interpreter runs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dragoman.torchvision_operators import declare_missing_operators
from tests.zoo.entry import finished, seeded

declare_missing_operators()


class UNet(nn.Module):
    """One level: group norm, pooling, bilinear resize, transposed convolution, a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8)
        self.down, self.up, self.leave = nn.Conv2d(8, 8, 3, 2, 1), nn.ConvTranspose2d(8, 8, 2, 2), nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[b, 3, h, w] -> [b, 2, h, w], h and w multiples of 4."""
        first = F.silu(self.norm(self.enter(x)))
        below = F.interpolate(F.max_pool2d(self.down(first), 2), scale_factor=2, mode="bilinear")
        return self.leave(torch.cat([first, self.up(below)], 1))


class Recurrent(nn.Module):
    """Both directions of an LSTM, then a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.cells, self.head = nn.LSTM(6, 8, bidirectional=True, batch_first=True), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        """[b, t, 6] -> [b, t, 3]."""
        return self.head(self.cells(x)[0])


class Decode(nn.Module):
    """One token against a cache of keys and values, written at a position: two query heads to a key head."""

    def __init__(self) -> None:
        super().__init__()
        self.queries, self.pair, self.out = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 32)
        self.norm = nn.RMSNorm(32)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, length: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x: [b, 1, 32], caches: [b, 2, s, 8], length: how many places of them are filled."""
        batch, slots = x.shape[0], keys.shape[2]
        y = self.norm(x)
        query = self.queries(y).view(batch, 1, 4, 8).transpose(1, 2)
        key, value = self.pair(y).view(batch, 1, 2, 2, 8).permute(2, 0, 3, 1, 4)
        here = (torch.arange(slots) == length)[:, None]
        keys, values = torch.where(here, key, keys), torch.where(here, value, values)
        seen = torch.arange(slots) <= length
        found = F.scaled_dot_product_attention(query, keys, values, attn_mask=seen[None, None, None], enable_gqa=True)
        return x + self.out(found.transpose(1, 2).reshape(batch, 1, 32)), keys, values


def resnet() -> tuple[nn.Module, tuple[Any, ...]]:
    from timm.models.resnet import BasicBlock, ResNet

    model = ResNet(BasicBlock, (1, 1, 1, 1), num_classes=5, stem_width=8, channels=(8, 8, 16, 16))
    return model, (torch.randn(1, 3, 16, 16),)


def convnext() -> tuple[nn.Module, tuple[Any, ...]]:
    from timm.models.convnext import ConvNeXt

    return ConvNeXt(depths=(1, 1, 1, 1), dims=(4, 8, 8, 8), num_classes=5), (torch.randn(1, 3, 32, 32),)


def efficientnet() -> tuple[nn.Module, tuple[Any, ...]]:
    from timm.models._efficientnet_blocks import InvertedResidual, SqueezeExcite

    first = InvertedResidual(8, 8, dw_kernel_size=3, exp_ratio=4.0, se_layer=SqueezeExcite, act_layer=nn.SiLU)
    second = InvertedResidual(8, 16, dw_kernel_size=5, stride=2, exp_ratio=4.0, act_layer=nn.SiLU)
    stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.SiLU())
    model = nn.Sequential(stem, first, second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))
    return model, (torch.randn(1, 3, 12, 12),)


def vit() -> tuple[nn.Module, tuple[Any, ...]]:
    from timm.models.vision_transformer import VisionTransformer

    model = VisionTransformer(img_size=16, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=5)
    return model, (torch.randn(2, 3, 16, 16),)


def bert() -> tuple[nn.Module, tuple[Any, ...]]:
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    model = BertModel(BertConfig(**sizes, vocab_size=50, max_position_embeddings=16))
    return model, (torch.randint(0, 50, (2, 7)), torch.tensor([[1] * 7, [1] * 4 + [0] * 3]))


def llama() -> tuple[nn.Module, tuple[Any, ...]]:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(**sizes, intermediate_size=48, vocab_size=50, max_position_embeddings=16)
    return LlamaForCausalLM(config), (torch.randint(0, 50, (2, 7)),)


def decode() -> tuple[nn.Module, tuple[Any, ...]]:
    caches = (torch.randn(2, 2, 9, 8), torch.randn(2, 2, 9, 8))
    return Decode(), (torch.randn(2, 1, 32), *caches, torch.tensor(4))


def lstm() -> tuple[nn.Module, tuple[Any, ...]]:
    return Recurrent(), (torch.randn(2, 5, 6),)


def unet() -> tuple[nn.Module, tuple[Any, ...]]:
    return UNet(), (torch.randn(1, 3, 16, 16),)


_DYNAMIC: dict[str, dict[str, dict[int, str]]] = {
    "bert": {"input_ids": {0: "batch", 1: "length"}, "attention_mask": {0: "batch", 1: "length"}},
    "llama": {"input_ids": {0: "batch", 1: "length"}},
    "lstm": {"x": {0: "batch", 1: "time"}},
    "vit": {"x": {0: "batch"}},
}
FACTORIES: dict[str, Callable[[], tuple[nn.Module, tuple[Any, ...]]]] = {
    f.__name__: f for f in (resnet, convnext, efficientnet, vit, bert, llama, decode, lstm, unet)
}


def made(name: str) -> tuple[nn.Module, tuple[Any, ...], dict[str, dict[int, str]]]:
    """A model in evaluation mode, arguments for it, and its dynamic dims."""
    with seeded(0):
        model, arguments = FACTORIES[name]()
    return finished(model.eval()), arguments, _DYNAMIC.get(name, {})
