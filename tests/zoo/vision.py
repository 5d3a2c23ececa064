"""timm's image classifiers and CLIP's image tower, with random weights and lived-in batch norms.

Owns their factories and entries. Refuses pretrained weights.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from dragoman.torchvision_operators import declare_missing_operators

from .entry import Entry, Inputs, Sizes, finished, seeded
from .samples import images


def resnet50(seed: int = 0) -> nn.Module:
    """ResNet-50: plain convolutions, batch norms, residual adds."""
    return _timm("resnet50", seed)


def mobilenetv3_large_100(seed: int = 0) -> nn.Module:
    """MobileNetV3-Large: depthwise convolutions, squeeze and excite, hard swish."""
    return _timm("mobilenetv3_large_100", seed)


def efficientnet_b0(seed: int = 0) -> nn.Module:
    """EfficientNet-B0: depthwise convolutions, squeeze and excite, SiLU."""
    return _timm("efficientnet_b0", seed)


def convnext_tiny(seed: int = 0) -> nn.Module:
    """ConvNeXt-Tiny: layer norms over channels, transposes, layer scale."""
    return _timm("convnext_tiny", seed)


def vit_base_patch16_224(seed: int = 0) -> nn.Module:
    """ViT-B/16: a class token, fused attention, GELU."""
    return _timm("vit_base_patch16_224", seed)


def swin_tiny_patch4_window7_224(seed: int = 0) -> nn.Module:
    """Swin-Tiny: windows by reshape and roll, relative position bias, shifted-window masks."""
    return _timm("swin_tiny_patch4_window7_224", seed)


def clip_vision(seed: int = 0) -> nn.Module:
    """The image tower of CLIP ViT-B/32."""
    declare_missing_operators()
    from transformers import CLIPVisionConfig, CLIPVisionModel

    with seeded(seed):
        return finished(CLIPVisionModel(CLIPVisionConfig()))


def _timm(name: str, seed: int) -> nn.Module:
    declare_missing_operators()
    import timm

    with seeded(seed):
        model = timm.create_model(name)
        return finished(model, images(8, 128, 128, torch.Generator().manual_seed(seed)))


def _square(sizes: Sizes, generator: torch.Generator) -> Inputs:
    return {"x": images(sizes["batch"], 224, 224, generator)}


def _any_size(sizes: Sizes, generator: torch.Generator) -> Inputs:
    return {"x": images(sizes["batch"], sizes["height"], sizes["width"], generator)}


def _pixels(sizes: Sizes, generator: torch.Generator) -> Inputs:
    return {"pixel_values": images(sizes["batch"], 224, 224, generator)}


_BATCHES: tuple[Sizes, ...] = ({"batch": 1}, {"batch": 2}, {"batch": 3})
_BATCH_RANGE = {"batch": (1, 1024)}


def _classifier(factory: Callable[[], nn.Module], *, heavy: bool = False) -> Entry:
    return Entry(
        name=factory.__name__,
        factory=factory,
        make=_square,
        dynamic={"x": {0: "batch"}},
        example={"batch": 2},
        settings=_BATCHES,
        ranges=_BATCH_RANGE,
        heavy=heavy,
    )


ENTRIES = (
    _classifier(resnet50, heavy=True),
    _classifier(mobilenetv3_large_100),
    _classifier(efficientnet_b0),
    _classifier(convnext_tiny, heavy=True),
    _classifier(vit_base_patch16_224, heavy=True),
    _classifier(swin_tiny_patch4_window7_224, heavy=True),
    Entry(
        name="resnet50_any_size",
        factory=resnet50,
        make=_any_size,
        dynamic={"x": {0: "batch", 2: "height", 3: "width"}},
        example={"batch": 2, "height": 96, "width": 128},
        settings=(
            {"batch": 1, "height": 64, "width": 64},
            {"batch": 2, "height": 97, "width": 65},
            {"batch": 3, "height": 224, "width": 160},
        ),
        ranges={"batch": (1, 1024), "height": (33, 4096), "width": (33, 4096)},
        heavy=True,
    ),
    Entry(
        name="clip_vision",
        factory=clip_vision,
        make=_pixels,
        dynamic={"pixel_values": {0: "batch"}},
        example={"batch": 2},
        settings=_BATCHES,
        ranges=_BATCH_RANGE,
        positional=0,
        heavy=True,
    ),
)
