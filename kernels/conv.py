"""Convolution over one to three spatial axes as a product of matrices that is never written out.

    y_NFO = act( Σ_CT x_{N, C, O·stride − low + T·dilation} · w_FCT + bias_F ) for each group of channels

N images, C channels and F filters of a group, O places of the result, T taps. The hooks of the matrix product turn a
row into an image and a place, and a step of the sum into a tap and a channel, channels fastest; padding is a mask. Any
strides, so channels first and last are one kernel. Weights may lie packed (`pack`): channels beside each other, as the
sum runs. Groups are the batch of the product: correct for depthwise convolution, which wastes most of each tile on it.
"""

# Parameters of device code are Triton's to type, and its stubs know no tuples, hooks or numbers as arguments.
# pyright: reportMissingParameterType=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportAssignmentType=false
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl

from .case import Build, case, operand
from .matmul import matmul_kernel, product

CHANNELS_FIRST, CHANNELS_LAST = "channels_first", "channels_last"


@triton.jit
def load_window(group, m, k, mask, source):
    """The element of x that row m of the result meets at step k of the sum; 0 in the padding."""
    x, per_group, strides, extents, out, taps, steps, lows, dilations = source
    channel = k % per_group
    tap = k // per_group
    w = m % out[2] * steps[2] - lows[2] + tap % taps[2] * dilations[2]
    h = m // out[2] % out[1] * steps[1] - lows[1] + tap // taps[2] % taps[1] * dilations[1]
    d = m // (out[2] * out[1]) % out[0] * steps[0] - lows[0] + tap // (taps[2] * taps[1]) * dilations[0]
    inside = (d >= 0) & (d < extents[0]) & (h >= 0) & (h < extents[1]) & (w >= 0) & (w < extents[2])
    image = (m // (out[2] * out[1] * out[0])).to(tl.int64)
    place = image * strides[0] + (group * per_group + channel) * strides[1]
    place += d.to(tl.int64) * strides[2] + h.to(tl.int64) * strides[3] + w * strides[4]
    return tl.load(x + place, mask=mask & inside, other=0)


@triton.jit
def load_filter(group, k, n, mask, source):
    """The weight of filter n of the group at step k of the sum."""
    weight, per_group, filters, strides, taps = source
    tap = k // per_group
    place = (group * filters + n) * strides[0] + k % per_group * strides[1] + tap // (taps[2] * taps[1]) * strides[2]
    place += tap // taps[2] % taps[1] * strides[3] + tap % taps[2] * strides[4]
    return tl.load(weight + place, mask=mask, other=0)


@triton.jit
def store_place(value, group, m, n, mask, sinks):
    """value + bias at the place of the result that row m and filter n mean."""
    y, filters, strides, out, bias, has_bias = sinks
    filter = group * filters + n
    if has_bias:
        value = value + tl.load(bias + filter, mask=n < filters, other=0).to(value.dtype)
    image = (m // (out[2] * out[1] * out[0])).to(tl.int64)
    place = image * strides[0] + filter * strides[1] + m // (out[2] * out[1]) % out[0] * strides[2]
    place += m // out[2] % out[1] * strides[3] + m % out[2] * strides[4]
    tl.store(y + place, value.to(y.dtype.element_ty), mask=mask)


@triton.jit
def store_relu(value, group, m, n, mask, sinks):
    """relu(value + bias), NaN kept, there."""
    _, filters, _, _, bias, has_bias = sinks
    if has_bias:
        value = value + tl.load(bias + group * filters + n, mask=n < filters, other=0).to(value.dtype)
    y, filters, strides, out, bias, _ = sinks
    store_place(tl.where(value < 0, 0.0, value), group, m, n, mask, (y, filters, strides, out, bias, 0))


def conv(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilations: Sequence[int] | None = None,
    groups: int = 1,
    layout: str = CHANNELS_FIRST,
    activation: str | None = None,
    precision: str = "ieee",
    out: torch.Tensor | None = None,
    splits: int | None = None,
    block: int | None = None,
) -> torch.Tensor:
    """x: [N, C, *spatial] (channels_last: [N, *spatial, C])   weight: [F, C/groups, *kernel]   bias: [F].

    `padding` is (low, high) for each spatial axis; x and weight may have any strides. The result has the layout of x
    and is contiguous. `activation` is "relu" or None. Raises ValueError for what `supports` declines.
    """
    dilations = dilations or (1,) * len(strides)
    reason = supports(x, weight, bias, strides=strides, groups=groups, layout=layout, activation=activation)
    if reason:
        raise ValueError(reason)
    shape = result_shape(x, weight, strides, padding, dilations, layout)
    y = torch.empty(shape, dtype=x.dtype, device=x.device) if out is None else out
    if not y.numel():
        return y
    results = _five(_first(y, layout))
    filters, places = weight.shape[0] // groups, tuple(results.shape[2:])
    sinks = (y, filters, results.stride(), places, y if bias is None else bias.contiguous(), int(bias is not None))
    store = store_relu if activation == "relu" else store_place
    lows = [low for low, _ in padding]
    windows(x, weight, places, (strides, lows, dilations), groups, layout, (sinks, store), (precision, splits, block))
    return y


def windows(
    x: torch.Tensor,
    weight: torch.Tensor,
    places: Sequence[int],
    window: tuple[Sequence[int], Sequence[int], Sequence[int]],
    groups: int,
    layout: str,
    store: tuple[tuple[Any, ...], Any],
    settings: tuple[str, int | None, int | None] = ("ieee", None, None),
) -> None:
    """Launch the product of all windows with the filters; its rows are images and `places`, its columns filters.

    window: strides, low paddings, dilations   store: sinks and hook   settings: precision, splits, block
    """
    images, kernels = _five(_first(x, layout)), _five(weight)
    filters, per_group = weight.shape[0] // groups, weight.shape[1]
    places = _three(places, 1)
    steps = [_three(v, fill) for v, fill in zip(window, (1, 0, 1), strict=True)]
    taps = tuple(kernels.shape[2:])
    rows, depth = images.shape[0] * places[0] * places[1] * places[2], per_group * taps[0] * taps[1] * taps[2]
    left = (images, per_group, images.stride(), tuple(images.shape[2:]), places, taps, *steps)
    right = (kernels, per_group, filters, kernels.stride(), taps)
    precision, splits, block = settings
    extents, hooks = (groups, rows, filters, depth), (load_window, load_filter, store[1])
    product(left, right, store[0], extents, hooks, x, precision, splits, None, block)


def pack(weight: torch.Tensor) -> torch.Tensor:
    """The same weights, the channels of each tap beside each other in memory."""
    return weight.movedim(1, -1).contiguous().movedim(-1, 1)


def result_shape(
    x: torch.Tensor,
    weight: torch.Tensor,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilations: Sequence[int],
    layout: str,
) -> tuple[int, ...]:
    """The extents of the result in the layout of x."""
    spatial = _first(x, layout).shape[2:]
    window = zip(spatial, weight.shape[2:], strides, padding, dilations, strict=True)
    places = [(extent + low + high - (k - 1) * d - 1) // step + 1 for extent, k, step, (low, high), d in window]
    return (x.shape[0], *places, weight.shape[0]) if layout == CHANNELS_LAST else (x.shape[0], weight.shape[0], *places)


def _first(x: torch.Tensor, layout: str) -> torch.Tensor:
    return x.movedim(-1, 1) if layout == CHANNELS_LAST else x


def _five(x: torch.Tensor) -> torch.Tensor:
    """With three spatial axes, the first of them of extent 1."""
    return x[(slice(None), slice(None), *(None,) * (5 - x.dim()))]


def _three(given: Sequence[int], fill: int) -> tuple[int, ...]:
    return (*(fill,) * (3 - len(given)), *given)


def supports(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    strides: Sequence[int],
    groups: int = 1,
    layout: str = CHANNELS_FIRST,
    activation: str | None = None,
    **settings: Any,
) -> str | None:
    """Why not, or None."""
    if not x.is_floating_point() or {t.dtype for t in (weight, bias) if t is not None} != {x.dtype}:
        return f"a convolution of {x.dtype} with {weight.dtype}: one floating-point type"
    if x.dim() not in (3, 4, 5) or weight.dim() != x.dim() or len(strides) != x.dim() - 2:
        return f"ranks {x.dim()} and {weight.dim()}: one to three spatial axes"
    if layout not in (CHANNELS_FIRST, CHANNELS_LAST):
        return f"no layout {layout!r}"
    channels = _first(x, layout).shape[1]
    if weight.shape[1] * groups != channels or weight.shape[0] % groups:
        return f"{channels} channels and {weight.shape[0]} filters in {groups} groups of {weight.shape[1]} channels"
    return None if activation in (None, "relu") else f"no activation {activation!r}"


def reference(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilations: Sequence[int] | None = None,
    groups: int = 1,
    layout: str = CHANNELS_FIRST,
    activation: str | None = None,
    **settings: Any,
) -> torch.Tensor:
    """In torch."""
    function = {3: torch.nn.functional.conv1d, 4: torch.nn.functional.conv2d, 5: torch.nn.functional.conv3d}[x.dim()]
    ends = [end for pair in reversed(padding) for end in pair]
    padded = torch.nn.functional.pad(_first(x, layout), ends)
    y = function(padded, weight, bias, tuple(strides), 0, tuple(dilations or (1,) * len(strides)), groups)
    y = torch.relu(y) if activation else y
    return y.movedim(1, -1).contiguous() if layout == CHANNELS_LAST else y


launch = conv

_PLAIN = {"strides": (1, 1), "padding": ((0, 0), (0, 0))}
_SAME = {"strides": (1, 1), "padding": ((1, 1), (1, 1))}
CASES = (
    case("3 × 3 with bias and relu", "f32[2,3,6,5]", "f32[4,3,3,3]", "f32[4]", activation="relu", **_SAME),
    case("channels last", "f32[2,6,5,3]", "f32[4,3,3,3]", "f32[4]", layout=CHANNELS_LAST, **_SAME),
    case("strides, uneven padding", "f32[1,4,7,6]", "f32[6,4,3,2]", strides=(2, 1), padding=((1, 2), (0, 1))),
    case("dilations and groups", "f32[1,4,8,7]", "f32[6,2,3,3]", "f32[6]", dilations=(1, 2), groups=2, **_SAME),
    case("depthwise", "f32[2,5,6,6]", "f32[5,1,3,3]", "f32[5]", groups=5, **_SAME),
    case("1 × 1", "f16[2,8,4,4]", "f16[6,8,1,1]", "f16[6]", **_PLAIN),
    case("one axis", "f32[2,3,9]", "f32[5,3,4]", strides=(2,), padding=((1, 2),)),
    case("three axes", "f32[1,2,4,3,5]", "f32[3,2,2,1,3]", strides=(1, 1, 2), padding=((0, 1), (0, 0), (1, 1))),
    case("several tiles, K split", "f32[1,20,5,5]", "f32[18,20,3,3]", "f32[18]", splits=3, block=16, **_SAME),
    case("relu after a split", "f32[1,8,4,4]", "f32[6,8,3,3]", splits=2, block=16, activation="relu", **_SAME),
    case("bfloat16", "bf16[1,4,5,5]", "bf16[4,4,3,3]", **_SAME),
    case("double", "f64[1,2,5,4]", "f64[3,2,2,2]", **_PLAIN),
    case("strided and unaligned", operand("f32[1,2,5,4]", "strided"), operand("f32[3,2,3,3]", "shifted"), **_SAME),
    case("NaN and infinities", operand("f32[1,2,9,8]", special=True), "f32[3,2,2,2]", **_PLAIN),
    case("no images", "f32[0,3,4,4]", "f32[2,3,3,3]", **_SAME),
    case("one element", "f32[1,1,1,1]", "f32[1,1,1,1]", **_PLAIN),
)
_THREE = ("i32", "i32", "i32")
_FIVE = ("i32:16", "1", "i32:16", "i32:16", "i32:16")
BUILDS = (
    Build(
        "convolution, f16, channels last",
        matmul_kernel,
        {
            "left": ("*fp16:16", "i32:16", _FIVE, _THREE, _THREE, _THREE, _THREE, _THREE, _THREE),
            "right": ("*fp16:16", "i32:16", "i32:16", _FIVE, _THREE),
            "sinks": ("*fp16:16", "i32:16", _FIVE, _THREE, "*fp16:16", "1"),
            "partial": "*fp32:16",
            **dict.fromkeys(("batches", "rows", "cols", "depth"), "i32"),
        },
        {
            "LOAD_LEFT": load_window,
            "LOAD_RIGHT": load_filter,
            "STORE": store_relu,
            "SPLITS": 1,
            "WIDE": False,
            "WIDEN": False,
            "PRECISION": "ieee",
            "BLOCK_M": 64,
            "BLOCK_N": 64,
            "BLOCK_K": 32,
        },
        warps=8,
    ),
)
