"""Every model of the zoo, by name: the list that tests and benchmarks iterate, and the factories a command line names.

Owns only the list. Each family's file owns its factories.
"""

from __future__ import annotations

from . import composed, language, recurrent, vision
from .composed import detector, unet, unet_nearest
from .entry import Entry
from .language import (
    bert_base,
    gpt2,
    gpt2_small_with_cache,
    llama,
    llama_stack,
    llama_stack_4,
    llama_stack_16,
    llama_stack_64,
    t5_small,
    whisper_tiny_encoder,
)
from .recurrent import (
    gru,
    gru_time_first,
    lstm,
    lstm_time_first,
    transformer_encoder,
    transformer_encoder_pre_norm,
)
from .vision import (
    clip_vision,
    convnext_tiny,
    efficientnet_b0,
    mobilenetv3_large_100,
    resnet50,
    swin_tiny_patch4_window7_224,
    vit_base_patch16_224,
)

ENTRIES: tuple[Entry, ...] = (*vision.ENTRIES, *language.ENTRIES, *recurrent.ENTRIES, *composed.ENTRIES)
BY_NAME: dict[str, Entry] = {entry.name: entry for entry in ENTRIES}

__all__ = [
    "BY_NAME",
    "ENTRIES",
    "bert_base",
    "clip_vision",
    "convnext_tiny",
    "detector",
    "efficientnet_b0",
    "gpt2",
    "gpt2_small_with_cache",
    "gru",
    "gru_time_first",
    "llama",
    "llama_stack",
    "llama_stack_4",
    "llama_stack_16",
    "llama_stack_64",
    "lstm",
    "lstm_time_first",
    "mobilenetv3_large_100",
    "resnet50",
    "swin_tiny_patch4_window7_224",
    "t5_small",
    "transformer_encoder",
    "transformer_encoder_pre_norm",
    "unet",
    "unet_nearest",
    "vit_base_patch16_224",
    "whisper_tiny_encoder",
]
