"""What a zoo entry is: a factory, the sizes it is called at, and inputs made for any of them.

Owns the record and the seeding of weights. Refuses pretrained weights (nothing is downloaded) and statistics or
scales left at their constant defaults: a norm that does nothing hides the mistakes around it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

Sizes = Mapping[str, int]
Inputs = dict[str, Tensor]
BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
Arguments = tuple[tuple[Tensor, ...], dict[str, Tensor]]
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Entry:
    """One model: how to build it, how to call it, and which dims of which inputs vary.

    name       unique, as printed in tables
    factory    () -> module on the CPU, f32, in eval mode, the same weights on every call
    make       (sizes, generator) -> inputs by name, in the order of the module's `forward`
    dynamic    input name -> {axis: symbol}
    example    the sizes to export with: no 0 or 1, which torch.export would specialise on
    settings   three or more sizes to compare outputs at
    ranges     the closed range of each symbol; the high end is the model's own limit where it has one
    positional how many of the inputs a user passes by position
    heavy      over 60 MiB of weights
    """

    name: str
    factory: Callable[[], nn.Module]
    make: Callable[[Sizes, torch.Generator], Inputs]
    dynamic: Mapping[str, Mapping[int, str]]
    example: Sizes
    settings: tuple[Sizes, ...]
    ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    positional: int = 1
    heavy: bool = False

    def inputs(self, sizes: Sizes, seed: int = 0) -> Inputs:
        """Realistic inputs at `sizes`, the same for the same seed."""
        return self.make(sizes, torch.Generator().manual_seed(seed))

    def arguments(self, sizes: Sizes, seed: int = 0) -> Arguments:
        """The same inputs, split into what the user passes by position and by keyword."""
        named = list(self.inputs(sizes, seed).items())
        return tuple(value for _, value in named[: self.positional]), dict(named[self.positional :])


@contextmanager
def seeded(seed: int) -> Generator[None]:
    """Run the block under torch's global generator at `seed`, then put the generator back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@torch.no_grad()
def finished(model: nn.Module, calibration: Tensor | None = None) -> nn.Module:
    """`model` in eval mode, every constant parameter and statistic replaced; to be called inside `seeded`.

    A batch norm takes its statistics from one pass over `calibration`, so that activations keep their scale through
    the depth of the network, and is then moved off them.
    """
    model.eval()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            _replace_constant(parameter, is_scale=name == "weight")
    norms = [module for module in model.modules() if isinstance(module, _BATCH_NORMS)]
    if norms and calibration is not None:
        _calibrate(model, norms, calibration)
    for norm in norms:
        _move_statistics(norm)
    return model


def _replace_constant(parameter: Tensor, *, is_scale: bool) -> None:
    if parameter.dim() == 0 or parameter.numel() < 2:
        return
    first = parameter.flatten()[0]
    if not bool((parameter == first).all()):
        return
    if is_scale:  # a norm's scale; zero in a residual branch's last norm at the start of training
        parameter.uniform_(0.5, 1.5)
    elif float(first) == 0.0:
        parameter.normal_(0.0, 0.1)
    else:  # a layer scale, 1e-6 at the start of training
        parameter.uniform_(0.1, 0.5)


def _calibrate(model: nn.Module, norms: list[BatchNorm], images: Tensor) -> None:
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def _move_statistics(norm: BatchNorm) -> None:
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    mean += torch.randn_like(mean) * 0.2 * variance.sqrt()
    variance *= torch.empty_like(variance).uniform_(0.6, 1.6)
    variance += 0.1 * variance.mean()  # a channel that calibration hardly lit up would blow up on another picture
