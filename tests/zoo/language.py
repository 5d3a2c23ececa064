"""transformers' text and speech models, built from their published configurations with random weights.

Owns their factories and entries. Refuses tokenizers and checkpoints: ids are drawn, weights are random.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from dragoman.torchvision_operators import declare_missing_operators

from .entry import Entry, Inputs, Sizes, finished, seeded
from .samples import padding_mask, spectrogram, tokens


def bert_base(seed: int = 0) -> nn.Module:
    """BERT-base, encoder and pooler."""
    declare_missing_operators()
    from transformers import BertConfig, BertModel

    with seeded(seed):
        return finished(BertModel(BertConfig()))


def gpt2(seed: int = 0, *, use_cache: bool = False) -> nn.Module:
    """GPT-2 (124 M parameters) with its language-model head."""
    declare_missing_operators()
    from transformers import GPT2Config, GPT2LMHeadModel

    with seeded(seed):
        return finished(GPT2LMHeadModel(GPT2Config(use_cache=use_cache)))


def gpt2_small_with_cache(seed: int = 0) -> nn.Module:
    """A two-layer GPT-2 as the plain user has it: it also returns its keys and values."""
    declare_missing_operators()
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_layer=2, n_embd=128, n_head=4, vocab_size=2000, bos_token_id=1, eos_token_id=2)
    with seeded(seed):
        return finished(GPT2LMHeadModel(config))


def llama(seed: int = 0) -> nn.Module:
    """Llama, 4 layers: rotary positions, RMS norm, gated SiLU, four query heads to each key head."""
    return _llama(seed, layers=4, hidden=512, inner=1376, heads=8, groups=2, vocabulary=32000)


def llama_stack(layers: int, seed: int = 0) -> nn.Module:
    """Llama blocks 256 wide, for measuring how cost grows with depth."""
    return _llama(seed, layers=layers, hidden=256, inner=688, heads=4, groups=2, vocabulary=4000)


def llama_stack_4(seed: int = 0) -> nn.Module:
    """`llama_stack` of 4 layers."""
    return llama_stack(4, seed)


def llama_stack_16(seed: int = 0) -> nn.Module:
    """`llama_stack` of 16 layers."""
    return llama_stack(16, seed)


def llama_stack_64(seed: int = 0) -> nn.Module:
    """`llama_stack` of 64 layers."""
    return llama_stack(64, seed)


def t5_small(seed: int = 0) -> nn.Module:
    """T5-small, encoder and decoder, with its language-model head."""
    declare_missing_operators()
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(d_model=512, d_kv=64, d_ff=2048, num_layers=6, num_heads=8, use_cache=False)
    with seeded(seed):
        return finished(T5ForConditionalGeneration(config))


def whisper_tiny_encoder(seed: int = 0) -> nn.Module:
    """The audio encoder of Whisper-tiny; the model itself fixes the length at 3000 frames."""
    declare_missing_operators()
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    config = WhisperConfig(d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536)
    with seeded(seed):
        return finished(WhisperEncoder(config))


def _llama(seed: int, *, layers: int, hidden: int, inner: int, heads: int, groups: int, vocabulary: int) -> nn.Module:
    declare_missing_operators()
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=groups,
        max_position_embeddings=2048,
        use_cache=False,
    )
    with seeded(seed):
        return finished(LlamaForCausalLM(config))


def _text(
    vocabulary: int, *, mask: bool = True, left: bool = False, empty_row: bool = False, kinds: bool = False
) -> Callable[[Sizes, torch.Generator], Inputs]:
    def make(sizes: Sizes, generator: torch.Generator) -> Inputs:
        batch, length = sizes["batch"], sizes["sequence"]
        inputs = {"input_ids": tokens(batch, length, vocabulary, generator)}
        if mask:
            inputs["attention_mask"] = padding_mask(batch, length, left=left, empty_row=empty_row)
        if kinds:  # two segments, the second from the middle on
            inputs["token_type_ids"] = (torch.arange(length) >= length // 2).long().repeat(batch, 1)
        return inputs

    return make


def _text_pair(sizes: Sizes, generator: torch.Generator) -> Inputs:
    batch, source, target = sizes["batch"], sizes["source"], sizes["target"]
    return {
        "input_ids": tokens(batch, source, 32128, generator),
        "attention_mask": padding_mask(batch, source, empty_row=True),
        "decoder_input_ids": tokens(batch, target, 32128, generator),
    }


def _sound(sizes: Sizes, generator: torch.Generator) -> Inputs:
    return {"input_features": spectrogram(sizes["batch"], 80, 3000, generator)}


_SEQUENCES: tuple[Sizes, ...] = (
    {"batch": 1, "sequence": 1},
    {"batch": 2, "sequence": 2},
    {"batch": 3, "sequence": 17},
    {"batch": 1, "sequence": 128},
)


def _decoder(
    name: str,
    factory: Callable[[], nn.Module],
    make: Callable[[Sizes, torch.Generator], Inputs],
    *,
    masked: bool,
    longest: int,
    heavy: bool = True,
) -> Entry:
    names = ["input_ids", "attention_mask"][: 2 if masked else 1]
    return Entry(
        name=name,
        factory=factory,
        make=make,
        dynamic={each: {0: "batch", 1: "sequence"} for each in names},
        example={"batch": 2, "sequence": 16},
        settings=_SEQUENCES,
        ranges={"batch": (1, 1024), "sequence": (1, longest)},
        positional=0,
        heavy=heavy,
    )


ENTRIES = (
    Entry(
        name="bert_base",
        factory=bert_base,
        make=_text(30522, empty_row=True, kinds=True),
        dynamic={each: {0: "batch", 1: "sequence"} for each in ("input_ids", "attention_mask", "token_type_ids")},
        example={"batch": 2, "sequence": 16},
        settings=_SEQUENCES,
        ranges={"batch": (1, 1024), "sequence": (1, 512)},
        positional=3,
        heavy=True,
    ),
    _decoder("gpt2", gpt2, _text(50257, mask=False), masked=False, longest=1024),
    _decoder("gpt2_masked", gpt2, _text(50257, left=True), masked=True, longest=1024),
    _decoder("gpt2_small_with_cache", gpt2_small_with_cache, _text(2000), masked=True, longest=1024, heavy=False),
    _decoder("llama", llama, _text(32000, mask=False), masked=False, longest=2048),
    _decoder("llama_stack_4", llama_stack_4, _text(4000), masked=True, longest=2048, heavy=False),
    _decoder("llama_stack_16", llama_stack_16, _text(4000), masked=True, longest=2048, heavy=False),
    _decoder("llama_stack_64", llama_stack_64, _text(4000), masked=True, longest=2048),
    Entry(
        name="t5_small",
        factory=t5_small,
        make=_text_pair,
        dynamic={
            "input_ids": {0: "batch", 1: "source"},
            "attention_mask": {0: "batch", 1: "source"},
            "decoder_input_ids": {0: "batch", 1: "target"},
        },
        example={"batch": 2, "source": 16, "target": 12},
        settings=(
            {"batch": 1, "source": 1, "target": 1},
            {"batch": 2, "source": 2, "target": 5},
            {"batch": 3, "source": 33, "target": 2},
            {"batch": 1, "source": 128, "target": 64},
        ),
        ranges={"batch": (1, 1024), "source": (1, 4096), "target": (1, 4096)},
        positional=0,
        heavy=True,
    ),
    Entry(
        name="whisper_tiny_encoder",
        factory=whisper_tiny_encoder,
        make=_sound,
        dynamic={"input_features": {0: "batch"}},
        example={"batch": 2},
        settings=({"batch": 1}, {"batch": 2}, {"batch": 3}),
        ranges={"batch": (1, 1024)},
    ),
)
