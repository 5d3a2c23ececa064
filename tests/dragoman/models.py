"""Small models that the command line's tests name as `tests.dragoman.models:…`."""

from __future__ import annotations

import sys
import time
import warnings
from typing import Any

import torch
from torch import Tensor, nn

NASTY = "a\x1b[31mred\nline\u202eRTL"


class Small(nn.Module):
    """Two layers over f32[batch, 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.second = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.nn.functional.gelu(self.first(x)))


class Branching(nn.Module):
    """A Python `if` on data."""

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x + 1
        return x - 1


class Cutting(nn.Module):
    """A size taken from data."""

    def forward(self, x: Tensor) -> Tensor:
        return x[: int(x.sum().item())]


class Pinned(nn.Module):
    """Works for a batch of 2 only."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(2, 2, 4)


class Limited(nn.Module):
    """A Python `if` on a size."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] > 4:
            return x + 1
        return x - 1


class Spectral(nn.Module):
    """Operators that have no translation."""

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(x).real.sum() + torch.fft.rfft(x + 1).real.sum()
        return torch.linalg.svd(x)[0] + spectrum


class Within(nn.Module):
    """Runs another module under a given name."""

    def __init__(self, name: str, inner: nn.Module) -> None:
        super().__init__()
        self.add_module(name, inner)

    def forward(self, x: Tensor) -> Tensor:
        (inner,) = self.children()
        return inner(x)


class Failing(nn.Module):
    """Raises whatever it is given."""

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("the model is out of order")


class Silent(nn.Module):
    """Returns nothing."""

    def forward(self, x: Tensor) -> None:
        return None


class Talking(nn.Module):
    """Prints and warns while it runs."""

    def forward(self, x: Tensor) -> Tensor:
        print("a word from the model")
        warnings.warn("the model warns", stacklevel=1)
        return x + 1


class Slow(nn.Module):
    """Gives time to be interrupted."""

    def forward(self, x: Tensor) -> Tensor:
        print("forward", flush=True)
        time.sleep(0.5)
        return x * 2


class Sum(nn.Module):
    """Two tensors of one shape."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Scaled(nn.Module):
    """A tensor and a number."""

    def forward(self, x: Tensor, k: Any) -> Tensor:
        return x * k


class Careless(nn.Module):
    """Takes an input that it does not use."""

    def forward(self, x: Tensor, unused: Tensor) -> Tensor:
        return x * 2


class KeywordsOnly(nn.Module):
    """Takes no positional arguments."""

    def forward(self, *, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return x if mask is None else x * mask


class Variadic(nn.Module):
    """Takes any number of tensors."""

    def forward(self, *xs: Tensor) -> Tensor:
        return torch.cat(xs, -1)


class Nested(nn.Module):
    """Takes a tuple and a dict of tensors."""

    def forward(self, pair: tuple[Tensor, Tensor], more: dict[str, Tensor]) -> Tensor:
        return pair[0] + pair[1] * more["scale"]


class Regularised(nn.Module):
    """Batch norm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.norm(x))


class Pyramid(nn.Module):
    """Halves and doubles pictures: their sides are multiples of 2, and no smaller than the window."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 4, 5, stride=2, padding=0)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(x)


def small() -> nn.Module:
    torch.manual_seed(0)
    return Small().eval()


def small_with_example() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return small(), (torch.randn(2, 8, generator=torch.Generator().manual_seed(1)),)


def small_with_keywords() -> tuple[nn.Module, tuple[Any, ...], dict[str, Tensor]]:
    return small(), (), {"x": torch.ones(2, 8)}


def large() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A model of 350 KiB."""
    torch.manual_seed(0)
    return nn.Linear(300, 300).eval(), (torch.ones(2, 300),)


def branching() -> nn.Module:
    return Branching()


def cutting() -> nn.Module:
    return Cutting()


def pinned() -> nn.Module:
    return Pinned()


def pinned_with_example() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return Pinned(), (torch.ones(2, 8),)


def limited() -> nn.Module:
    return Limited()


def spectral() -> nn.Module:
    return Within("body", Within("window", Spectral()))


def nasty() -> nn.Module:
    return Within(NASTY, nn.Linear(8, 4)).eval()


def nasty_and_unsupported() -> nn.Module:
    return Within(NASTY, Spectral())


def failing() -> nn.Module:
    return Failing()


def silent() -> nn.Module:
    return Silent()


def talking() -> nn.Module:
    print("a word from the factory")
    print("a word on standard error", file=sys.stderr)
    return Talking()


def slow() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return Slow(), (torch.ones(2, 3),)


def two() -> nn.Module:
    return Sum()


def two_that_differ() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return Sum(), (torch.ones(2, 8), torch.ones(3, 8))


def careless() -> nn.Module:
    return Careless()


def scaled_by_int() -> tuple[nn.Module, tuple[Any, ...]]:
    return Scaled(), (torch.ones(2, 8), 3)


def keywords_only() -> nn.Module:
    return KeywordsOnly()


def keywords_with_mask() -> tuple[nn.Module, dict[str, Tensor]]:
    return KeywordsOnly(), {"x": torch.ones(2, 8), "mask": torch.ones(2, 8)}


def variadic() -> nn.Module:
    return Variadic()


def nested() -> nn.Module:
    return Nested()


def pyramid() -> nn.Module:
    torch.manual_seed(0)
    return Pyramid().eval()


def regularised() -> nn.Module:
    return Regularised()


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return Small().eval()


def on_cuda() -> nn.Module:
    return Small().cuda()


def broken() -> nn.Module:
    raise ValueError("the weights are at home")


def leaving() -> nn.Module:
    sys.exit(3)


def interrupted() -> nn.Module:
    raise KeyboardInterrupt


def demanding(size: int) -> nn.Module:
    return nn.Linear(size, size)


def a_number() -> int:
    return 7


def a_state_dict() -> dict[str, Tensor]:
    return small().state_dict()


constant = 5
instance = small()


class Asking(nn.Module):
    """Asks about its batch, and does the same in either case."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if x.shape[0] > 1 else x + torch.ones_like(x)


def asking() -> nn.Module:
    return Asking()


class Counting(nn.Module):
    """Counts its runs in a buffer."""

    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.steps += 1
        return x * self.steps
