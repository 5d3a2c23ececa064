"""The reference models of `dragoman bench --zoo`, at the sizes of a request that arrives: a batch of one."""

from __future__ import annotations

from typing import Any


def resnet50() -> tuple[Any, tuple[Any, ...]]:
    """ResNet-50 of timm, random weights: one picture of 224 × 224."""
    module, (images,), _ = _example("resnet50.onnx")
    return module, (images[:1],)


def bert() -> tuple[Any, dict[str, Any]]:
    """BERT base of transformers, random weights: 128 tokens."""
    module, _, given = _example("bert.onnx")
    torch = __import__("torch")
    tokens = given["input_ids"][:1].repeat(1, 8)
    return module, {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}


def _example(file: str) -> Any:
    from dragoman.demo import EXAMPLES

    return next(example.make() for example in EXAMPLES if example.file == file)
