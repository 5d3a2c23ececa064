"""Keeps the length of sequences dynamic while torch traces LSTM, GRU and plain recurrent layers.

torch finds the result's type by unrolling the layer over time, which fixes the length. While this context is open, the
four operators answer with the types alone; afterwards they are as they were. One thread at a time may hold it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._C import DispatchKey

_KEYS = (DispatchKey.CompositeImplicitAutograd, DispatchKey.Autograd)
_LOCK = threading.RLock()


def _output(x: Tensor, hidden: Tensor, bidirectional: bool) -> Tensor:
    return x.new_empty((*x.shape[:-1], hidden.shape[-1] * (2 if bidirectional else 1)))


def _lstm(
    input: Tensor,
    hx: Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    hidden, cell = hx
    return _output(input, hidden, bidirectional), torch.empty_like(hidden), torch.empty_like(cell)


def _one_state(
    input: Tensor,
    hx: Tensor,
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor]:
    return _output(input, hx, bidirectional), torch.empty_like(hx)


def _patches() -> list[tuple[Any, Callable[..., Any]]]:
    aten = torch.ops.aten
    return [
        (aten.lstm.input, _lstm),
        (aten.gru.input, _one_state),
        (aten.rnn_tanh.input, _one_state),
        (aten.rnn_relu.input, _one_state),
    ]


@contextmanager
def typed_recurrence() -> Generator[None]:
    """Answer for recurrent layers with types alone while open."""
    with _LOCK:
        saved = [(operator, dict(operator.py_kernels)) for operator, _ in _patches()]
        try:
            for operator, kernel in _patches():
                for key in _KEYS:
                    operator.py_kernels[key] = kernel
                operator._dispatch_cache.clear()
            yield
        finally:
            for operator, kernels in saved:
                operator.py_kernels.clear()
                operator.py_kernels.update(kernels)
                operator._dispatch_cache.clear()
