"""NaN, infinities, ties, integers beyond f32, and the operators that torch defines only by what they compute there."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from dragoman.ir.interpreter import run
from tests.frontends.pytorch.compared import check, check_function

NAN, INF = math.nan, math.inf
SPECIAL = torch.tensor([NAN, 1.0, -INF, INF, -0.0, 0.0, 3.0, -2.5, NAN])
OTHER = torch.tensor([1.0, NAN, INF, -INF, 0.0, -0.0, NAN, 2.5, NAN])
ROW = torch.tensor([[1.0, NAN, 3.0, NAN], [3.0, 1.0, 3.0, 1.0], [NAN, NAN, NAN, NAN]])


@pytest.mark.parametrize(
    "name", ["sign", "sgn", "floor", "round", "relu", "isnan", "signbit", "cumsum", "nanmean", "median"]
)
def test_functions_of_nan_and_infinity_are_torchs(name: str) -> None:
    function = getattr(torch, name)
    check_function((lambda x: function(x, 0)) if name == "cumsum" else function, SPECIAL)


@pytest.mark.parametrize(
    "name", ["heaviside", "maximum", "fmin", "copysign", "remainder", "fmod", "floor_divide", "hypot"]
)
def test_functions_of_two_such_numbers_are_torchs(name: str) -> None:
    check_function(getattr(torch, name), SPECIAL, OTHER)


def test_the_sign_of_nan_is_zero_and_no_step_is_taken_there() -> None:
    source = check_function(lambda x: (torch.sign(x), torch.heaviside(x, x)), SPECIAL)
    sign, step = run(source.imported.graph, SPECIAL.numpy())
    assert sign[0] == 0.0
    assert step[0] == 0.0


ORDERED: dict[str, Any] = {
    "median": lambda x: torch.median(x, 1),
    "nanmedian": lambda x: (torch.nanmedian(x, 1).values, torch.nanmedian(x[:1], 1)),
    "nanmedian of all": torch.nanmedian,
    "kthvalue": lambda x: torch.kthvalue(x[:2], 2, 1).values,
    "cummax": lambda x: torch.cummax(x, 1),
    "cummin": lambda x: torch.cummin(x, 0),
    "logcumsumexp": lambda x: torch.logcumsumexp(x, 1),
    "mode": lambda x: torch.mode(x[1:2], 1),
    "argmax": lambda x: x.argmax(1),
    "search": lambda x: torch.searchsorted(torch.tensor([1.0, 2.0, 2.0, 5.0]), x),
    "search from the right": lambda x: torch.bucketize(x, torch.tensor([1.0, 3.0]), right=True),
}


@pytest.mark.parametrize("name", ORDERED)
def test_the_order_of_nan_and_of_equal_elements_is_torchs(name: str) -> None:
    check_function(ORDERED[name], ROW)


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_the_most_frequent_element_is_the_smallest_of_several(dtype: torch.dtype, keepdim: bool) -> None:
    x = torch.tensor([[3, 1, 1, 3, 0], [2, 0, 2, 1, 1]]).to(dtype)
    check_function(lambda x: torch.mode(x, -1, keepdim).values, x)


@pytest.mark.filterwarnings("ignore:index_reduce.. is in beta:UserWarning")
@pytest.mark.parametrize("reduce", ["prod", "mean", "amax", "amin"])
@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("integer", [False, True])
def test_index_reduce_combines_entries_of_one_index(reduce: str, include: bool, integer: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x, source = (torch.randint(-9, 9, (4, 3), generator=generator) for _ in range(2))
    index = torch.tensor([0, 2, 0])
    if not integer:
        x, source = x / 3.0, source / 7.0
    check_function(lambda x, s: x.index_reduce(0, index, s[:3], reduce, include_self=include), x, source)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_of_embeddings_leave_out_padding_and_may_be_empty(mode: str) -> None:
    torch.manual_seed(0)
    check(nn.EmbeddingBag(10, 4, mode=mode, padding_idx=3), torch.tensor([[1, 3, 9], [0, 0, 2]]))
    check(nn.EmbeddingBag(10, 4, mode=mode, padding_idx=-1), torch.tensor([[1, 3, 9], [0, 0, 2]]))
    bags = nn.EmbeddingBag(10, 4, mode=mode, include_last_offset=True)
    check(bags, torch.tensor([1, 3, 9, 0, 0, 2]), torch.tensor([0, 2, 2, 6]))


def test_a_padding_row_is_counted_from_the_end_where_it_is_negative() -> None:
    index = torch.tensor([[1, 3, 9], [9, 0, 2]])
    weight = torch.arange(40.0).reshape(10, 4)
    bag = nn.functional.embedding_bag
    check_function(lambda w: bag(index, w, mode="sum", padding_idx=-1), weight)


def test_distinct_elements_come_with_their_places_and_counts() -> None:
    x = torch.tensor([[3, 1], [3, 2], [1, 3]])
    check_function(lambda x: torch.unique(x, return_inverse=True, return_counts=True), x)
    check_function(lambda x: torch.unique(x, return_counts=True), torch.tensor([3.0, NAN, 1.0, 3.0, NAN, -0.0, 0.0]))
    runs = torch.tensor([3, 3, 1, 3, 2, 2])
    check_function(lambda x: torch.unique_consecutive(x, return_inverse=True, return_counts=True), runs)


def test_spacing_is_counted_from_the_nearer_end() -> None:
    x = torch.arange(5.0)
    check_function(lambda x: (x * torch.linspace(0, 1, 5), x + torch.linspace(3, -2, 5)), x)
    check_function(lambda x: (x + torch.linspace(2, 5, 1), x * torch.logspace(-2, 2, 5)), x)


def test_antialiasing_with_aligned_corners_changes_the_scale_and_nothing_else() -> None:
    x = torch.randn(1, 2, 9, 8, generator=torch.Generator().manual_seed(0))
    resize = nn.functional.interpolate
    check_function(lambda x: resize(x, size=(5, 4), mode="bilinear", antialias=True, align_corners=True), x)


def test_a_python_number_that_is_returned_keeps_pythons_precision() -> None:
    source = check_function(lambda x: x.sum().item(), torch.tensor([0.1, 0.2]))
    assert str(source.imported.graph.outputs[0].type) == "f64[]"


def test_numbers_are_stored_in_place_in_the_dtype_of_what_they_are_stored_to() -> None:
    x = torch.tensor([7, -7, 5, 0])
    check_function(lambda x: x.clone().mul_(3).floor_divide_(2).remainder_(5).pow_(2), x)


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("reduce", ["sum", "prod", "amax", "amin"])
def test_booleans_are_combined_by_or_and_by_and(reduce: str, include: bool) -> None:
    x = torch.tensor([[True, False, True], [False, False, True]])
    source = torch.tensor([[True, True, False, False], [False, True, False, True]])
    index = torch.tensor([[0, 2, 1, 0], [2, 2, 0, 1]])
    check_function(lambda x, s: x.scatter_reduce(1, index, s, reduce, include_self=include), x, source)
