"""Whether a module is ready to be converted: its tensors have values, and it behaves as it will in use.

Refuses tensors on the meta device, lazy modules that were never run, and training mode wherever that makes a
difference: a model with dropout or batch norm would be traced as something that nobody wants to run.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from dragoman.ir.errors import UsageError

_NAMED = 3  # how many a message names


def check_ready(module: nn.Module) -> None:
    """Raise UsageError, saying what to do, for a module that is not ready."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    lazy = [name for name, tensor in tensors if is_lazy(tensor)]
    if lazy:
        raise UsageError(f"{_listed(lazy)} have no shape yet: run the model once on real inputs before converting it")
    empty = [name for name, tensor in tensors if tensor.is_meta]
    if empty:
        raise UsageError(
            f"{_listed(empty)} have no values (they are on the meta device):"
            " load the model's weights before converting it"
        )
    training = [
        f"{path or 'the model'} ({type(m).__name__})" for path, m in module.named_modules() if differs_in_training(m)
    ]
    if training:
        raise UsageError(
            f"the model is in training mode, where it is another function: see {_listed(training)}\n"
            "Call model.eval() before converting it."
        )


def differs_in_training(module: nn.Module) -> bool:
    """Whether a module, its children aside, is in training mode and computes something else than in evaluation."""
    if not module.training:
        return False
    match module:
        case nn.BatchNorm1d() | nn.BatchNorm2d() | nn.BatchNorm3d() | nn.SyncBatchNorm() | nn.RReLU():
            return True
        case nn.InstanceNorm1d() | nn.InstanceNorm2d() | nn.InstanceNorm3d():
            return module.track_running_stats
        case nn.Dropout() | nn.Dropout1d() | nn.Dropout2d() | nn.Dropout3d() | nn.AlphaDropout():
            return module.p > 0
        case nn.FeatureAlphaDropout():
            return module.p > 0
        case nn.RNNBase():
            return module.dropout > 0 and module.num_layers > 1
        case nn.MultiheadAttention():
            return module.dropout > 0
        case _:
            return not type(module).__module__.startswith("torch.nn.") and _asks_for_mode(type(module).forward)


def _asks_for_mode(forward: Any) -> bool:
    """Whether the code of a `forward` reads `self.training`."""
    code = getattr(inspect.unwrap(forward), "__code__", None)
    return code is not None and "training" in code.co_names


def example_device(module: nn.Module) -> torch.device:
    """Where example inputs belong: beside the first of the module's tensors."""
    return next((tensor.device for tensor in _tensors(module)), torch.device("cpu"))


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
