"""A dim that the model fixes or ties is refused with the user's own line and what to write instead."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dragoman.frontends.pytorch import import_module
from dragoman.ir.dims import Symbol
from dragoman.ir.errors import DimensionPinned
from tests.frontends.pytorch.compared import arrays_of, assert_same, imported


class Model(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, y: Tensor | None = None) -> Any:
        return self.function(x) if y is None else self.function(x, y)


def refusal(function: Any, *args: Tensor, dynamic: Any) -> str:
    with pytest.raises(DimensionPinned) as refused:
        import_module(Model(function), args, dynamic=dynamic)
    return str(refused.value)


def test_a_constant_of_fixed_size_pins_with_the_line_that_adds_it() -> None:
    def forward(x: Tensor) -> Tensor:
        return x + torch.zeros(4, 8)

    text = refusal(forward, torch.randn(4, 8), dynamic={"x": {0: "batch"}})
    assert text.startswith(
        "the dynamic dimension 'batch' (axis 0 of 'x') is fixed to 4 by the model\n  test_pinned.py:"
    )
    assert re.search(r"test_pinned\.py:\d+  return x \+ torch\.zeros\(4, 8\)\n", text)
    assert "Sizes stay dynamic in arithmetic" in text


@pytest.mark.parametrize(
    ("function", "code"),
    [
        (lambda x: x / math.sqrt(x.shape[0]), "math.sqrt(x.shape[0])"),
        (lambda x: x * float(x.shape[0]), "float(x.shape[0])"),
        (lambda x: x[: int(x.shape[0] * 0.5 + 1)] if x.shape[0] == 6 else x, "x.shape[0] == 6"),
        (lambda x: torch.linspace(0, 1, x.shape[0]) + x[:, 0], "torch.linspace(0, 1, x.shape[0])"),
    ],
)
def test_a_size_turned_into_a_number_is_refused_with_its_line(function: Any, code: str) -> None:
    text = refusal(function, torch.randn(6, 2), dynamic={"x": {0: "n"}})
    assert "'n' (axis 0 of 'x') is fixed to 6" in text
    assert code in text


def test_a_dim_that_must_be_a_multiple_is_told_how_to_be_written() -> None:
    def forward(x: Tensor) -> Tensor:
        return x.view(-1, 8).sum(1)

    text = refusal(forward, torch.randn(32), dynamic={"x": {0: "n"}})
    assert "'n' (axis 0 of 'x') must be a multiple of 8" in text
    assert "return x.view(-1, 8).sum(1)" in text
    assert "Write dynamic={'x': {0: '8*n'}}." in text
    source = imported(Model(forward), (torch.randn(32),), dynamic={"x": {0: "8*n"}})
    assert_same(source, arrays_of([torch.randn(56)]))


def test_a_multiple_that_an_assertion_asks_for_counts_too() -> None:
    def forward(x: Tensor) -> Tensor:
        assert x.shape[2] % 32 == 0, "height"
        return x * 2

    text = refusal(forward, torch.randn(1, 3, 64, 5), dynamic={"x": {2: "height"}})
    assert 'assert x.shape[2] % 32 == 0, "height"' in text
    assert "Write dynamic={'x': {2: '32*height'}}." in text


def test_two_dims_that_must_be_equal_are_named_with_the_line() -> None:
    def forward(x: Tensor, y: Tensor) -> Tensor:
        return (x + y).relu()

    text = refusal(forward, torch.randn(5, 2), torch.randn(5, 2), dynamic={"x": {0: "n"}, "y": {0: "m"}})
    assert "'m' (axis 0 of 'y') and 'n' (axis 0 of 'x') are tied by the model: it needs " in text
    assert "return (x + y).relu()" in text
    assert "Give both the same name" in text


def test_dims_tied_by_an_expression_are_refused() -> None:
    def forward(x: Tensor, y: Tensor) -> Tensor:
        return torch.cat([x, x]) + y

    text = refusal(forward, torch.randn(5), torch.randn(10), dynamic={"x": {0: "n"}, "y": {0: "m"}})
    assert "return torch.cat([x, x]) + y" in text
    source = imported(Model(forward), (torch.randn(5), torch.randn(10)), dynamic={"x": {0: "n"}, "y": {0: "2*n"}})
    assert_same(source, arrays_of([torch.randn(3), torch.randn(6)]))


def test_a_range_wider_than_the_model_allows_is_refused_with_the_condition() -> None:
    def forward(x: Tensor) -> Tensor:
        if x.shape[1] > 20:
            return x[:, :20]
        return x + 1

    text = refusal(forward, torch.randn(2, 7), dynamic={"x": {1: Symbol("seq", 1, 128)}})
    assert "'seq' (axis 1 of 'x') may be 1..128, but the model needs 1..20: it asks whether seq ≤ 20" in text
    assert "if x.shape[1] > 20:" in text
    assert "Symbol('seq', 1, 20)" in text


def test_the_other_side_of_a_branch_is_imported_where_the_range_lies_there() -> None:
    def forward(x: Tensor) -> Tensor:
        if x.shape[1] > 20:
            return x[:, :20]
        return x + 1

    source = imported(Model(forward), (torch.randn(2, 30),), dynamic={"x": {1: "seq"}})
    assert source.imported.graph.symbols()["seq"].low == 21
    assert_same(source, arrays_of([torch.randn(2, 21)]))


def test_a_branch_on_a_size_of_one_is_an_assumption_with_its_line() -> None:
    def forward(x: Tensor) -> Tensor:
        if x.shape[0] == 1:
            return x * 2
        return x + 1

    source = imported(Model(forward), (torch.randn(3, 2),), dynamic={"x": {0: "n"}})
    (assumption,) = source.imported.assumptions
    assert assumption.condition == "n ≠ 1"
    assert assumption.fails_at == {"n": 1}
    assert assumption.line.endswith("if x.shape[0] == 1:")
    assert str(assumption).startswith("the model asks whether n ≠ 1 (test_pinned.py:")


def test_ordinary_layers_assume_nothing_about_a_batch_of_one() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))
    module(torch.randn(2, 3, 8, 8))
    source = imported(module, (torch.randn(1, 3, 8, 8),), dynamic={"input": {0: "batch"}})
    assert source.imported.assumptions == ()
    for batch in (1, 2, 9):
        assert_same(source, arrays_of([torch.randn(batch, 3, 8, 8)]))


def test_what_an_operator_of_torch_asks_about_memory_is_no_assumption_of_the_model() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    source = imported(layer, (torch.randn(3, 5, 8),), dynamic={"src": {0: "batch", 1: "length"}})
    assert source.imported.assumptions == ()
    for batch, length in ((1, 1), (1, 4), (2, 1)):
        assert_same(source, arrays_of([torch.randn(batch, length, 8)]))


def test_spatial_dims_of_a_network_without_fixed_sizes_stay_dynamic_down_to_one() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.MaxPool2d(3, 2, 1), nn.AdaptiveAvgPool2d(1))
    source = imported(module, (torch.randn(2, 3, 32, 48),), dynamic={"input": {0: "b", 2: "h", 3: "w"}})
    assert {n: s.low for n, s in source.imported.graph.symbols().items()} == {"b": 1, "h": 1, "w": 1}
    for shape in ((1, 3, 1, 1), (2, 3, 7, 2), (1, 3, 33, 64)):
        assert_same(source, arrays_of([torch.randn(*shape)]))


def test_a_chain_of_layers_that_needs_a_size_narrows_an_open_range() -> None:
    module = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(3, 4, 3), nn.MaxPool2d(2))
    source = imported(module, (torch.randn(2, 3, 32, 48),), dynamic={"input": {2: "h", 3: "w"}})
    assert {n: s.low for n, s in source.imported.graph.symbols().items()} == {"h": 8, "w": 8}
    assert_same(source, arrays_of([torch.randn(2, 3, 8, 9)]))
