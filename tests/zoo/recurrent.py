"""torch.nn's own sequence modules: LSTM, GRU and the transformer encoder.

Owns their factories and entries. The bare modules are entered, not wrappers: this is how users hold them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from .entry import Entry, Inputs, Sizes, finished, seeded
from .samples import padding_mask, series


def lstm(seed: int = 0) -> nn.Module:
    """Two layers, both directions, batch first."""
    with seeded(seed):
        return finished(nn.LSTM(24, 40, num_layers=2, bidirectional=True, batch_first=True))


def lstm_time_first(seed: int = 0) -> nn.Module:
    """Two layers, one direction, time first, no biases."""
    with seeded(seed):
        return finished(nn.LSTM(24, 40, num_layers=2, bias=False))


def gru(seed: int = 0) -> nn.Module:
    """Two layers, both directions, batch first."""
    with seeded(seed):
        return finished(nn.GRU(24, 40, num_layers=2, bidirectional=True, batch_first=True))


def gru_time_first(seed: int = 0) -> nn.Module:
    """One layer, one direction, time first, called with an initial state."""
    with seeded(seed):
        return finished(nn.GRU(24, 40))


def transformer_encoder(seed: int = 0) -> nn.Module:
    """Three post-norm layers as `torch.nn` gives them by default."""
    with seeded(seed):
        layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
        return finished(nn.TransformerEncoder(layer, 3))


def transformer_encoder_pre_norm(seed: int = 0) -> nn.Module:
    """Three pre-norm GELU layers, time first, with a final norm."""
    with seeded(seed):
        layer = nn.TransformerEncoderLayer(64, 4, 128, activation="gelu", norm_first=True)
        return finished(nn.TransformerEncoder(layer, 3, norm=nn.LayerNorm(64), enable_nested_tensor=False))


def _batch_first(sizes: Sizes, generator: torch.Generator) -> Inputs:
    return {"input": series(sizes["batch"], sizes["sequence"], 24, generator=generator)}


def _time_first(sizes: Sizes, generator: torch.Generator) -> Inputs:
    return {"input": series(sizes["sequence"], sizes["batch"], 24, generator=generator)}


def _gru_with_state(sizes: Sizes, generator: torch.Generator) -> Inputs:
    state = series(1, sizes["batch"], 40, generator=generator)
    return _time_first(sizes, generator) | {"hx": state}


def _masked_source(sizes: Sizes, generator: torch.Generator) -> Inputs:
    batch, length = sizes["batch"], sizes["sequence"]
    return {
        "src": series(batch, length, 64, generator=generator),
        "src_key_padding_mask": padding_mask(batch, length, empty_row=True) == 0,
    }


def _masked_source_time_first(sizes: Sizes, generator: torch.Generator) -> Inputs:
    inputs = _masked_source(sizes, generator)
    return inputs | {"src": inputs["src"].transpose(0, 1).contiguous()}


def _entry(
    factory: Callable[[], nn.Module],
    make: Callable[[Sizes, torch.Generator], Inputs],
    dynamic: dict[str, dict[int, str]],
    *,
    positional: int = 1,
) -> Entry:
    return Entry(
        name=factory.__name__,
        factory=factory,
        make=make,
        dynamic=dynamic,
        example={"batch": 2, "sequence": 11},
        settings=(
            {"batch": 1, "sequence": 1},
            {"batch": 2, "sequence": 2},
            {"batch": 3, "sequence": 17},
            {"batch": 5, "sequence": 64},
        ),
        ranges={"batch": (1, 1024), "sequence": (1, 4096)},
        positional=positional,
    )


_BATCH_THEN_TIME = {0: "batch", 1: "sequence"}
_TIME_THEN_BATCH = {0: "sequence", 1: "batch"}

ENTRIES = (
    _entry(lstm, _batch_first, {"input": _BATCH_THEN_TIME}),
    _entry(lstm_time_first, _time_first, {"input": _TIME_THEN_BATCH}),
    _entry(gru, _batch_first, {"input": _BATCH_THEN_TIME}),
    _entry(gru_time_first, _gru_with_state, {"input": _TIME_THEN_BATCH, "hx": {1: "batch"}}, positional=2),
    _entry(
        transformer_encoder,
        _masked_source,
        {"src": _BATCH_THEN_TIME, "src_key_padding_mask": _BATCH_THEN_TIME},
    ),
    _entry(
        transformer_encoder_pre_norm,
        _masked_source_time_first,
        {"src": _TIME_THEN_BATCH, "src_key_padding_mask": _BATCH_THEN_TIME},
    ),
)
