"""The references of reductions, softmax and normalisations against torch in double, at every rank, on edge values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dragoman.ir.arithmetic import NATIVE
from dragoman.ir.errors import TypeRuleError
from tests.ir.torch_witness import agree, apply

torch = pytest.importorskip("torch")
F = torch.nn.functional

NAN, INF = float("nan"), float("inf")
RANDOM = np.random.default_rng()


@pytest.fixture(autouse=True)
def each_test_draws_the_same_numbers() -> None:
    RANDOM.bit_generator.state = np.random.default_rng(11).bit_generator.state


ROWS = np.array(
    [
        [1.0, 2.0, -3.0, 0.5],
        [NAN, 1.0, 2.0, 3.0],
        [INF, 1.0, -2.0, 0.0],
        [-INF, 1.0, -2.0, 0.0],
        [-INF, -INF, -INF, -INF],
        [INF, -INF, 0.0, 1.0],
        [1e300, 1e300, -1e300, 5.0],
        [1000.0, 1001.0, 999.0, -1000.0],
        [0.0, -0.0, 0.0, 0.0],
    ]
)
SHAPES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((5,), (0,)),
    ((3, 4), (1,)),
    ((3, 4), (0, 1)),
    ((2, 3, 4), (0, 2)),
    ((2, 3, 4, 5), (-1, -3)),
    ((2, 1, 3, 2, 2), (1, 4)),
    ((3, 4), ()),
]


def tensor(x: Any) -> Any:
    return torch.from_numpy(np.ascontiguousarray(x))


def each_axis(function: Callable[..., Any]) -> Callable[..., Any]:
    """A torch reduction of one axis, applied to several."""

    def reduce(x: Any, axes: Any, keepdims: bool) -> Any:
        for axis in sorted((a % x.ndim for a in axes), reverse=True):
            x = function(x, axis, keepdims)
        return x

    return reduce


REDUCTIONS: dict[str, Callable[[Any, Any, bool], Any]] = {
    "reduce_sum": lambda x, a, k: x.sum(a, k) if a else x,
    "reduce_prod": each_axis(lambda x, a, k: x.prod(a, k)),
    "reduce_max": lambda x, a, k: x.amax(a, k) if a else x,
    "reduce_min": lambda x, a, k: x.amin(a, k) if a else x,
    "reduce_mean": lambda x, a, k: x.mean(a, k) if a else x,
    "reduce_l1": lambda x, a, k: x.abs().sum(a, k) if a else x.abs(),
    "reduce_l2": lambda x, a, k: x.square().sum(a, k).sqrt() if a else x.abs(),
    "reduce_sum_square": lambda x, a, k: x.square().sum(a, k) if a else x.square(),
    "reduce_logsumexp": lambda x, a, k: torch.logsumexp(x, a, k) if a else x,
}


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize(("shape", "axes"), SHAPES, ids=str)
@pytest.mark.parametrize("name", REDUCTIONS)
def test_a_reduction_is_torchs_at_every_rank(
    name: str, shape: tuple[int, ...], axes: tuple[int, ...], keepdims: bool
) -> None:
    x = RANDOM.standard_normal(shape)
    agree(apply(name, x, axes=axes, keepdims=keepdims), REDUCTIONS[name](tensor(x), axes, keepdims), absolute=1e-14)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_a_reduction_is_torchs_on_edge_values(name: str) -> None:
    x = ROWS if name not in ("reduce_l2", "reduce_sum_square") else np.delete(ROWS, 6, axis=0)
    agree(apply(name, x, axes=(1,)), REDUCTIONS[name](tensor(x), (1,), False))


def test_the_norm_is_torchs() -> None:
    x = RANDOM.standard_normal((3, 4, 5))
    agree(apply("reduce_l2", x, axes=(0, 2)), torch.linalg.vector_norm(tensor(x), 2, (0, 2)))
    agree(apply("reduce_l1", x, axes=(1,)), torch.linalg.vector_norm(tensor(x), 1, 1))


def test_reductions_over_nothing_give_the_neutral_element() -> None:
    x = np.zeros((2, 0))
    agree(apply("reduce_sum", x, axes=(1,)), tensor(x).sum(1))
    agree(apply("reduce_prod", x, axes=(1,)), tensor(x).prod(1))
    agree(apply("reduce_mean", x, axes=(1,)), tensor(x).mean(1))
    agree(apply("reduce_logsumexp", x, axes=(1,)), torch.logsumexp(tensor(x), 1))
    np.testing.assert_array_equal(apply("reduce_max", x, axes=(1,)), [-INF, -INF])
    np.testing.assert_array_equal(apply("reduce_min", np.zeros((2, 0), np.int8), axes=(1,)), [127, 127])
    empty = np.zeros((2, 0), np.bool_)
    np.testing.assert_array_equal(apply("reduce_any", empty, axes=(1,)), [False, False])
    np.testing.assert_array_equal(apply("reduce_all", empty, axes=(1,)), [True, True])


def test_any_and_all_are_torchs() -> None:
    x = RANDOM.random((3, 4, 2)) < 0.5
    for axis in range(3):
        agree(apply("reduce_any", x, axes=(axis,)), tensor(x).any(axis))
        agree(apply("reduce_all", x, axes=(axis,), keepdims=True), tensor(x).all(axis, True))


def test_integers_sum_in_their_own_width() -> None:
    x = np.array([[120, 100, 7], [-128, -1, 0]], np.int8)
    agree(apply("reduce_sum", x, axes=(1,)), tensor(x).sum(1, dtype=torch.int8))
    agree(apply("reduce_prod", x, axes=(1,)), tensor(x).prod(1, dtype=torch.int8))
    agree(apply("cumsum", x, axis=1), tensor(x).cumsum(1, dtype=torch.int8))


@pytest.mark.parametrize("correction", [0, 1, 0.5, 1.5])
@pytest.mark.parametrize(("shape", "axes"), [c for c in SHAPES[:-1] if c[0] != (2, 1, 3, 2, 2)], ids=str)
def test_the_variance_is_torchs_with_its_correction(
    shape: tuple[int, ...], axes: tuple[int, ...], correction: float
) -> None:
    x = RANDOM.standard_normal(shape) + 3
    if float(correction).is_integer():
        theirs = torch.var(tensor(x), axes, correction=int(correction))
    else:
        count = np.prod([shape[a] for a in axes])
        theirs = torch.var(tensor(x), axes, correction=0) * (count / (count - correction))
    agree(apply("variance", x, axes=axes, correction=correction), theirs)


@pytest.mark.filterwarnings("ignore:var.*degrees of freedom:UserWarning")
def test_the_variance_of_too_few_is_not_a_number_as_torch_has_it() -> None:
    x = np.array([[1.0], [2.0]])
    agree(apply("variance", x, axes=(1,), correction=1), torch.var(tensor(x), 1, correction=1))
    agree(apply("variance", x, axes=(1,), correction=3), torch.var(tensor(x), 1, correction=3))
    spread = np.array([[1.0, 3.0]])
    agree(apply("variance", spread, axes=(1,), correction=3), torch.var(tensor(spread), 1, correction=3))


def test_the_place_of_an_extreme_is_that_of_its_first_or_last_occurrence() -> None:
    x = np.array([[1.0, 3.0, 3.0, -2.0, -2.0], [0.0, -0.0, 0.0, -0.0, 0.0]])
    np.testing.assert_array_equal(apply("argmax", x, axis=1), [1, 0])
    np.testing.assert_array_equal(apply("argmax", x, axis=1, last=True), [2, 4])
    np.testing.assert_array_equal(apply("argmin", x, axis=1), [3, 0])
    np.testing.assert_array_equal(apply("argmin", x, axis=1, last=True, keepdims=True), [[4], [4]])


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_the_place_of_an_extreme_is_torchs_nan_and_ties_included(name: str) -> None:
    many = RANDOM.integers(0, 3, (5, 6, 7)).astype(np.float64)
    for x, axis in ((ROWS, 1), (ROWS, 0), (many, 0), (many, -1), (many.astype(np.int32), 1)):
        agree(apply(name, x, axis=axis), getattr(torch, name)(tensor(x), axis))
        agree(apply(name, x, axis=axis, keepdims=True), getattr(torch, name)(tensor(x), axis, keepdim=True))


def test_an_extreme_of_nothing_has_no_place() -> None:
    with pytest.raises(TypeRuleError, match="axis 1 has no elements"):
        apply("argmax", np.zeros((2, 0)), axis=1)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
def test_running_sums_are_torchs_forward_and_reversed(name: str, axis: int) -> None:
    x = RANDOM.standard_normal((3, 4, 2))
    theirs = getattr(torch, name)
    agree(apply(name, x, axis=axis), theirs(tensor(x), axis))
    agree(apply(name, x, axis=axis, reverse=True), theirs(tensor(x).flip(axis), axis).flip(axis))


def test_an_exclusive_running_sum_leaves_the_element_itself_out() -> None:
    x = np.array([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_array_equal(apply("cumsum", x, axis=0, exclusive=True), [0, 1, 3, 6])
    np.testing.assert_array_equal(apply("cumsum", x, axis=0, exclusive=True, reverse=True), [9, 7, 4, 0])
    np.testing.assert_array_equal(apply("cumprod", x, axis=0, exclusive=True), [1, 1, 2, 6])
    np.testing.assert_array_equal(apply("cumprod", x, axis=0, exclusive=True, reverse=True), [24, 12, 4, 1])
    infinite = np.array([1.0, INF, 2.0])
    np.testing.assert_array_equal(apply("cumsum", infinite, axis=0, exclusive=True), [0, 1, INF])


# ---- softmax ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_is_torchs_on_every_axis_and_on_edge_values(name: str) -> None:
    x = RANDOM.standard_normal((2, 3, 4)) * 5
    for axis in (0, 1, -1):
        agree(apply(name, x, axis=axis), getattr(torch, name)(tensor(x), axis))
    agree(apply(name, ROWS, axis=1), getattr(torch, name)(tensor(ROWS), 1))


# ---- normalisations -----------------------------------------------------------------------------------------

RANKS = [(2, 6), (2, 6, 5), (2, 6, 3, 4), (2, 6, 2, 3, 2)]


def optional(given: bool, shape: tuple[int, ...]) -> Any:
    return RANDOM.standard_normal(shape) if given else None


def maybe(x: Any) -> Any:
    return None if x is None else tensor(x)


@pytest.mark.parametrize("shape", RANKS, ids=str)
def test_batch_norm_is_torchs_at_every_rank(shape: tuple[int, ...]) -> None:
    x = RANDOM.standard_normal(shape)
    scale, bias, mean = (RANDOM.standard_normal(6) for _ in range(3))
    variance = RANDOM.uniform(0.1, 2, 6)
    theirs = F.batch_norm(*map(tensor, (x, mean, variance, scale, bias)), eps=1e-3)
    agree(apply("batch_norm", x, scale, bias, mean, variance, epsilon=1e-3), theirs, absolute=1e-14)
    turned = np.moveaxis(x, 1, -1)
    ours = apply("batch_norm", turned, scale, bias, mean, variance, epsilon=1e-3, axis=-1)
    agree(np.moveaxis(ours, -1, 1), theirs, absolute=1e-14)


@pytest.mark.parametrize(("with_scale", "with_bias"), [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize(("shape", "axis"), [((7,), 0), ((3, 5), 1), ((2, 3, 4), -2), ((2, 3, 4, 2), 1)], ids=str)
def test_layer_norm_is_torchs_over_any_number_of_axes(
    shape: tuple[int, ...], axis: int, with_scale: bool, with_bias: bool
) -> None:
    x, inner = RANDOM.standard_normal(shape) + 2, shape[axis:]
    scale, bias = optional(with_scale, inner), optional(with_bias, inner)
    theirs = F.layer_norm(tensor(x), inner, maybe(scale), maybe(bias), eps=1e-5)
    agree(apply("layer_norm", x, scale, bias, axis=axis, epsilon=1e-5), theirs, absolute=1e-13)


@pytest.mark.parametrize("with_scale", [True, False])
@pytest.mark.parametrize(("shape", "axis"), [((7,), 0), ((3, 5), 1), ((2, 3, 4), -2)], ids=str)
def test_rms_norm_is_torchs(shape: tuple[int, ...], axis: int, with_scale: bool) -> None:
    x, inner = RANDOM.standard_normal(shape), shape[axis:]
    scale = optional(with_scale, inner)
    agree(apply("rms_norm", x, scale, axis=axis, epsilon=1e-6), F.rms_norm(tensor(x), inner, maybe(scale), 1e-6))


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
@pytest.mark.parametrize("shape", RANKS[1:], ids=str)
def test_group_norm_is_torchs_at_every_rank(shape: tuple[int, ...], groups: int) -> None:
    x, scale, bias = RANDOM.standard_normal(shape), RANDOM.standard_normal(6), RANDOM.standard_normal(6)
    theirs = F.group_norm(tensor(x), groups, tensor(scale), tensor(bias), 1e-4)
    agree(apply("group_norm", x, scale, bias, groups=groups, epsilon=1e-4), theirs, absolute=1e-13)
    turned = apply("group_norm", np.moveaxis(x, 1, -1), scale, bias, groups=groups, epsilon=1e-4, axis=-1)
    agree(np.moveaxis(turned, -1, 1), theirs, absolute=1e-13)


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("shape", RANKS[1:], ids=str)
def test_instance_norm_is_torchs_at_every_rank(shape: tuple[int, ...], given: bool) -> None:
    x, scale, bias = RANDOM.standard_normal(shape), optional(given, (6,)), optional(given, (6,))
    theirs = F.instance_norm(tensor(x), weight=maybe(scale), bias=maybe(bias), eps=1e-4)
    agree(apply("instance_norm", x, scale, bias, epsilon=1e-4), theirs, absolute=1e-13)


def test_l2_normalize_is_torchs_a_row_of_zeros_included() -> None:
    x = np.concatenate([RANDOM.standard_normal((3, 4)), np.zeros((1, 4)), np.full((1, 4), 1e-9)])
    for axis in (0, 1):
        agree(apply("l2_normalize", x, axes=(axis,), epsilon=1e-6), F.normalize(tensor(x), 2.0, axis, 1e-6))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("shape", RANKS[1:], ids=str)
def test_local_response_norm_is_torchs_for_odd_and_even_windows(shape: tuple[int, ...], size: int) -> None:
    x = RANDOM.standard_normal(shape)
    ours = apply("local_response_norm", x, size=size, alpha=0.3, beta=0.6, bias=1.5)
    agree(ours, F.local_response_norm(tensor(x), size, 0.3, 0.6, 1.5))


def test_a_normalisation_refuses_parameters_of_another_extent() -> None:
    x = np.zeros((2, 3, 4))
    with pytest.raises(TypeRuleError, match=r"scale is f64\[3\], its shape should be \[4\]"):
        apply("layer_norm", x, np.zeros(3), None, axis=2, epsilon=1e-5)
    with pytest.raises(TypeRuleError, match=r"bias is f64\[4\], its shape should be \[3\]"):
        apply("group_norm", x, None, np.zeros(4), groups=3, epsilon=1e-5)
    with pytest.raises(TypeRuleError, match="3 channels, 2 groups"):
        apply("group_norm", x, groups=2, epsilon=1e-5)


# ---- half precision -----------------------------------------------------------------------------------------

HALF: dict[str, tuple[dict[str, Any], Callable[[Any], Any]]] = {
    "softmax": ({"axis": 1}, lambda x: torch.softmax(x, 1)),
    "log_softmax": ({"axis": 1}, lambda x: torch.log_softmax(x, 1)),
    "reduce_mean": ({"axes": (1,)}, lambda x: x.mean(1)),
    "layer_norm": ({"axis": 1, "epsilon": 1e-5}, lambda x: F.layer_norm(x, x.shape[1:])),
    "gelu": ({}, F.gelu),
    "silu": ({}, F.silu),
    "sigmoid": ({}, torch.sigmoid),
    "softplus": ({}, F.softplus),
}


@pytest.mark.parametrize("name", HALF)
def test_half_precision_rounds_once_as_torchs_kernels_do(name: str) -> None:
    """The native arithmetic in bf16 is within one unit in the last place of torch, whose kernels compute in f32."""
    attributes, theirs = HALF[name]
    x = RANDOM.standard_normal((8, 64)).astype(np.float32).astype(ml_dtypes.bfloat16)
    ours = apply(name, x, arithmetic=NATIVE, **attributes)
    assert ours.dtype == ml_dtypes.bfloat16
    expected = theirs(torch.from_numpy(x.astype(np.float32)).bfloat16()).float().numpy()
    step = np.maximum(np.abs(expected), 2.0**-126) * 2.0**-7
    assert np.all(np.abs(ours.astype(np.float32) - expected) <= step)
