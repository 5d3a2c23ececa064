"""Answers for the operators whose result torch types by computing with fixed numbers: their dims stay dynamic.

torch finds the type of an LSTM by unrolling it over time, and that of a few others in code that knows no symbolic
sizes; either fixes the dims. While this context is open those operators answer with the types alone; afterwards they
are as they were. One thread at a time may hold it.
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


def _max_pool1d(
    self: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> Tensor:
    """As a two-dimensional pool of height one, which knows symbolic sizes."""
    listed = [(v,) if isinstance(v, int) else tuple(v) for v in (kernel_size, stride, padding, dilation)]
    kernel, steps, pads, spread = ((o, *v) if v else () for o, v in zip((1, 1, 0, 1), listed, strict=True))
    wide = torch.ops.aten.max_pool2d_with_indices(self.unsqueeze(-2), kernel, steps, pads, spread, ceil_mode)
    return wide[0].squeeze(-2)


def _take_along_dim(self: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    if dim is None:
        return self.new_empty(indices.numel())
    shape = list(self.shape)
    shape[dim] = indices.shape[dim]
    return self.new_empty(torch.broadcast_shapes(shape, indices.shape))


def _kron(self: Tensor, other: Tensor) -> Tensor:
    rank = max(self.dim(), other.dim())
    left, right = ([*(1,) * (rank - t.dim()), *t.shape] for t in (self, other))
    return torch.empty(
        [a * b for a, b in zip(left, right, strict=True)],
        dtype=torch.result_type(self, other),
        device=self.device,
    )


def _kernels() -> list[tuple[Any, Callable[..., Any]]]:
    aten = torch.ops.aten
    return [
        (aten.lstm.input, _lstm),
        (aten.gru.input, _one_state),
        (aten.rnn_tanh.input, _one_state),
        (aten.rnn_relu.input, _one_state),
        (aten.max_pool1d.default, _max_pool1d),
        (aten.take_along_dim.default, _take_along_dim),
        (aten.kron.default, _kron),
    ]


@contextmanager
def symbolic_kernels() -> Generator[None]:
    """Answer for these operators with types alone while open."""
    with _LOCK:
        saved = [(operator, dict(operator.py_kernels)) for operator, _ in _kernels()]
        try:
            for operator, kernel in _kernels():
                for key in _KEYS:
                    operator.py_kernels[key] = kernel
                operator._dispatch_cache.clear()
            yield
        finally:
            for operator, kernels in saved:
                operator.py_kernels.clear()
                operator.py_kernels.update(kernels)
                operator._dispatch_cache.clear()
