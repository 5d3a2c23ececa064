"""Which modules are ready to be converted, and what is said of the others."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dragoman.frontends.pytorch.readiness import check_ready, differs_in_training, example_device
from dragoman.ir.errors import UsageError


class Own(nn.Module):
    """Asks for the mode itself."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if self.training else x


class Wrapped(nn.Module):
    """Asks for the mode behind a decorator, as models of large libraries do."""

    @staticmethod
    def _plain(function: Any) -> Any:
        @functools.wraps(function)
        def call(*args: Any) -> Any:
            return function(*args)

        return call

    @_plain
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.5, training=self.training)


@pytest.mark.parametrize(
    ("module", "differs"),
    [
        (nn.BatchNorm2d(4), True),
        (nn.BatchNorm1d(4, track_running_stats=False), True),
        (nn.InstanceNorm2d(4), False),
        (nn.InstanceNorm2d(4, track_running_stats=True), True),
        (nn.Dropout(0.1), True),
        (nn.Dropout(0.0), False),
        (nn.Dropout2d(0.1), True),
        (nn.AlphaDropout(0.1), True),
        (nn.RReLU(), True),
        (nn.LSTM(4, 4, num_layers=2, dropout=0.1), True),
        (nn.GRU(4, 4, num_layers=2), False),
        (nn.MultiheadAttention(4, 2, dropout=0.1), True),
        (nn.MultiheadAttention(4, 2), False),
        (nn.LayerNorm(4), False),
        (nn.Linear(4, 4), False),
        (Own(), True),
        (Wrapped(), True),
    ],
    ids=lambda value: str(value)[:40],
)
def test_training_mode_matters_where_it_changes_the_function(module: nn.Module, differs: bool) -> None:
    assert differs_in_training(module) is differs
    assert not differs_in_training(module.eval())


def test_each_module_that_differs_is_named_up_to_three() -> None:
    module = nn.Sequential(*(nn.Dropout(0.1) for _ in range(5)))
    with pytest.raises(
        UsageError, match=r"0 \(Dropout\), 1 \(Dropout\), 2 \(Dropout\) and 2 more\nCall model\.eval\(\)"
    ):
        check_ready(module)
    check_ready(module.eval())


def test_a_norm_that_is_frozen_within_a_training_model_is_no_obstacle() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    assert module.training
    module[1].eval()
    check_ready(module)


def test_modules_without_values_or_shapes_are_named() -> None:
    with pytest.raises(UsageError, match=r"weight, bias have no values \(they are on the meta device\)"):
        check_ready(nn.Linear(4, 4, device="meta"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some versions of torch call lazy modules new
        lazy = nn.LazyLinear(4)
    with pytest.raises(UsageError, match="weight, bias have no shape yet: run the model once"):
        check_ready(lazy)


def test_examples_go_where_the_weights_are() -> None:
    assert example_device(nn.Linear(4, 4, device="meta")) == torch.device("meta")
    assert example_device(nn.BatchNorm1d(4, affine=False, device="meta")) == torch.device("meta")
    assert example_device(nn.ReLU()) == torch.device("cpu")
