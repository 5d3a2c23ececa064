"""XLA's general convolution: any order of axes, both operands dilated, groups of channels and of batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dragoman.frontends.jax.xla.contraction import moved
from dragoman.frontends.jax.xla.padding import pad
from dragoman.ir.builder import Builder
from dragoman.ir.dims import Dim, bounds, floordiv
from dragoman.ir.graph import Value

_FIRST, _LAST = "channels_first", "channels_last"


@dataclass(frozen=True)
class Axes:
    """Where the axes are: (batch, feature, *spatial) of operand and result, (out, in, *spatial) of the filter."""

    operand: tuple[int, ...]
    filter: tuple[int, ...]
    result: tuple[int, ...]


@dataclass(frozen=True)
class Window:
    """Strides, padding and dilations by spatial axis; `reversed` turns the filter around along an axis."""

    strides: tuple[int, ...]
    padding: tuple[tuple[Dim, Dim], ...]
    operand_dilation: tuple[int, ...]
    filter_dilation: tuple[int, ...]
    reversed: tuple[bool, ...] = ()


def convolution(
    b: Builder, x: Value, w: Value, axes: Axes, window: Window, *, groups: int = 1, batch_groups: int = 1
) -> Value:
    """The convolution in the dtype of its operands, axes of the result where `axes` has them."""
    w = moved(b, w, axes.filter)
    turned = tuple(2 + i for i, flag in enumerate(window.reversed) if flag)
    w = b.flip(w, axes=turned) if turned else w
    layout, given, wanted = _layout(axes, x.type.rank)
    x = moved(b, x, given)
    if batch_groups > 1:
        x = _batches_as_channels(b, x, batch_groups, layout)
        groups = batch_groups
    if x.type.rank == 2:  # no spatial axes
        x, w = b.unsqueeze(x, axes=(2,)), b.unsqueeze(w, axes=(2,))
        return moved(b, b.squeeze(_spatial(b, x, w, _POINT, groups, _FIRST), axes=(2,)), wanted)
    return moved(b, _spatial(b, x, w, window, groups, layout), wanted)


_POINT = Window((1,), ((0, 0),), (1,), (1,))


def _layout(axes: Axes, rank: int) -> tuple[str, list[int], list[int]]:
    """The layout to compute in, the order that brings the operand there and the one that brings the result back."""
    last = [0, *range(2, rank), 1]
    if rank > 2 and axes.operand[1] == rank - 1 and axes.result[1] == rank - 1:
        given, placed = [axes.operand[i] for i in last], [axes.result[i] for i in last]
        return _LAST, given, _inverse(placed)
    return _FIRST, list(axes.operand), _inverse(axes.result)


def _inverse(order: Sequence[int]) -> list[int]:
    inverse = [0] * len(order)
    for at, axis in enumerate(order):
        inverse[axis] = at
    return inverse


def _batches_as_channels(b: Builder, x: Value, count: int, layout: str) -> Value:
    """[count·n, c, …] as [n, count·c, …]: a group of batches becomes a group of channels."""
    rank, shape = x.type.rank, x.type.shape
    channel = rank - 1 if layout == _LAST else 1
    x = b.reshape(x, shape=(count, floordiv(shape[0], count), *shape[1:]))
    order = [1, *range(2, rank + 1)]
    order.insert(channel, 0)
    x = b.transpose(x, perm=tuple(order))
    merged = [*x.type.shape[:channel], x.type.shape[channel] * x.type.shape[channel + 1], *x.type.shape[channel + 2 :]]
    return b.reshape(x, shape=tuple(merged))


def _spatial(b: Builder, x: Value, w: Value, window: Window, groups: int, layout: str) -> Value:
    first = 1 if layout == _LAST else 2
    if any(d > 1 for d in window.operand_dilation):
        adjoint = _adjoint(b, x, w, window, groups, layout)
        if adjoint is not None:
            return adjoint
    simple = all(isinstance(p, int) and p >= 0 for pair in window.padding for p in pair)
    padding = window.padding
    if not simple or any(d > 1 for d in window.operand_dilation):
        around = [(low, high, d - 1) for (low, high), d in zip(padding, window.operand_dilation, strict=True)]
        still = [(0, 0, 0)] * x.type.rank
        x = pad(b, x, 0, [*still[:first], *around, *still[first + len(around) :]])
        padding = ((0, 0),) * len(around)
    return b.conv(
        x, w, strides=window.strides, padding=padding, dilations=window.filter_dilation, groups=groups, layout=layout
    )


def _adjoint(b: Builder, x: Value, w: Value, window: Window, groups: int, layout: str) -> Value | None:
    """A convolution of a stretched operand as a transposed one, which XLA spells so; None where it is none."""
    if any(s != 1 for s in window.strides):
        return None
    padding: list[tuple[int, int]] = []
    extra: list[int] = []
    kernel = w.type.shape[2:]
    for k, d, stride, (low, high) in zip(
        kernel, window.filter_dilation, window.operand_dilation, window.padding, strict=True
    ):
        if not (isinstance(k, int) and isinstance(low, int) and isinstance(high, int)) or k == 0:
            return None
        reach = (k - 1) * d
        more = max(high - reach, 0)
        if low > reach or more >= max(stride, d):
            return None
        padding.append((reach - low, max(reach - high, 0)))
        extra.append(more)
    if any(bounds(e)[0] < 1 for e in x.type.shape):
        return None
    out, inner = w.type.shape[:2]
    w = b.reshape(w, shape=(groups, floordiv(out, groups), inner, *kernel))
    w = b.transpose(w, perm=(0, 2, 1, *range(3, w.type.rank)))
    w = b.reshape(w, shape=(inner * groups, floordiv(out, groups), *kernel))
    w = b.flip(w, axes=tuple(range(2, w.type.rank)))
    return b.conv_transpose(
        x,
        w,
        strides=window.operand_dilation,
        padding=tuple(padding),
        output_padding=tuple(extra),
        dilations=window.filter_dilation,
        groups=groups,
        layout=layout,
    )
