"""XLA's reductions over windows at any axes, as pooling where that says the same, else one axis after the other."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

from dragoman.frontends.jax.xla.contraction import moved
from dragoman.frontends.jax.xla.padding import pad
from dragoman.ir.builder import Builder
from dragoman.ir.dims import Dim, floordiv, product
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.types import I64

_MOST_TAPS = 512
_POOLED_AXES = 3
Combine = Callable[[Value, Value], Value]


@dataclass(frozen=True)
class Windows:
    """By axis: extent, stride, padding and dilation of the windows, and the dilation of what they run over."""

    extents: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[Dim, Dim], ...]
    base_dilation: tuple[int, ...]
    dilation: tuple[int, ...]

    def is_idle(self, axis: int) -> bool:
        """Whether nothing happens along an axis."""
        return self.extents[axis] == self.strides[axis] == self.base_dilation[axis] == 1 and self.padding[axis] == (
            0,
            0,
        )

    def offsets(self) -> Iterator[tuple[int, ...]]:
        """The places within a window in row-major order. Raises Unsupported where they are too many."""
        if prod(self.extents) > _MOST_TAPS:
            raise Unsupported(f"a window of {prod(self.extents)} elements; at most {_MOST_TAPS} are spelled out")
        return itertools.product(*(range(n) for n in self.extents))

    def reach(self, axis: int) -> int:
        """The extent of a window with the gaps in it."""
        return (self.extents[axis] - 1) * self.dilation[axis] + 1


def reduce_windows(b: Builder, x: Value, windows: Windows, neutral: Value | float, combine: Combine) -> Value:
    """The elements of each window combined, by an operation that is associative and has this neutral element."""
    x = padded(b, x, windows, neutral)
    for axis in range(x.type.rank):
        x = _along(b, x, windows, axis, combine)
    return x


def padded(b: Builder, x: Value, windows: Windows, fill: Value | float) -> Value:
    """`x` with the padding of the windows and the gaps between its elements filled."""
    widths = [(low, high, d - 1) for (low, high), d in zip(windows.padding, windows.base_dilation, strict=True)]
    return pad(b, x, fill, widths) if any(w != (0, 0, 0) for w in widths) else x


def tap(b: Builder, x: Value, windows: Windows, offsets: Sequence[int | None]) -> Value:
    """From padded `x`, the element at these offsets of every window; None leaves an axis as it is."""
    axes, starts, stops, steps = [], [], [], []
    for axis, offset in enumerate(offsets):
        if offset is None or windows.is_idle(axis):
            continue
        start = offset * windows.dilation[axis]
        count = floordiv(x.type.shape[axis] - windows.reach(axis), windows.strides[axis]) + 1
        axes.append(axis)
        starts.append(start)
        stops.append(start + (count - 1) * windows.strides[axis] + 1)
        steps.append(windows.strides[axis])
    if not axes:
        return x
    return b.slice(x, axes=tuple(axes), starts=tuple(starts), stops=tuple(stops), steps=tuple(steps))


def _along(b: Builder, x: Value, windows: Windows, axis: int, combine: Combine) -> Value:
    extent = windows.extents[axis]
    if extent > _MOST_TAPS:
        raise Unsupported(f"a window of {extent} elements; at most {_MOST_TAPS} are spelled out")
    offsets: list[int | None] = [None] * x.type.rank
    if windows.is_idle(axis) or (extent == 1 and windows.strides[axis] == 1):
        return x
    result: Value | None = None
    for offset in range(extent):
        offsets[axis] = offset
        seen = tap(b, x, windows, offsets)
        result = seen if result is None else combine(result, seen)
    assert result is not None
    return result


def max_windows(b: Builder, x: Value, windows: Windows) -> Value | None:
    """The largest element of each window by pooling; None where pooling does not say it."""
    return _pooled(b, x, windows, "max_pool", {})


def sum_windows(b: Builder, x: Value, windows: Windows) -> Value | None:
    """The sum of each window by pooling; None where pooling does not say it."""
    return _pooled(b, x, windows, "avg_pool", {"count_include_pad": True, "divisor": 1})


def _pooled(b: Builder, x: Value, windows: Windows, op: str, settings: dict[str, object]) -> Value | None:
    axes = [a for a in range(x.type.rank) if not windows.is_idle(a)]
    fits = all(_pools(windows, a) for a in axes)
    if not fits or not 0 < len(axes) <= _POOLED_AXES or not x.type.dtype.is_float:
        return None
    rank = x.type.rank
    attributes = {
        "window": tuple(windows.extents[a] for a in axes),
        "strides": tuple(windows.strides[a] for a in axes),
        "padding": tuple(windows.padding[a] for a in axes),
        "dilations": tuple(windows.dilation[a] for a in axes),
        **settings,
    }
    pool = getattr(b, op)
    if rank >= 3 and axes == list(range(1, rank - 1)):
        return pool(x, layout="channels_last", **attributes)
    if rank >= 3 and axes == list(range(2, rank)):
        return pool(x, **attributes)
    still = [a for a in range(rank) if a not in axes]
    shape = x.type.shape
    order = [*still, *axes]
    turned = moved(b, x, order)
    flat = b.reshape(turned, shape=(product(shape[a] for a in still), 1, *(shape[a] for a in axes)))
    result = pool(flat, **attributes)
    result = b.reshape(result, shape=(*(shape[a] for a in still), *result.type.shape[2:]))
    return moved(b, result, [order.index(a) for a in range(rank)])


def _pools(windows: Windows, axis: int) -> bool:
    """Whether pooling takes what windows do along an axis: padding less than the window, nothing in between."""
    low, high = windows.padding[axis]
    if not isinstance(low, int) or not isinstance(high, int) or windows.base_dilation[axis] != 1:
        return False
    return 0 <= low < windows.extents[axis] and 0 <= high < windows.extents[axis]


def taps(windows: Windows) -> int:
    """How many elements a window has."""
    return prod(windows.extents)


def scatter_to_selected(
    b: Builder, source: Value, x: Value, windows: Windows, ahead: Combine, neutral: float, fill: float
) -> Value:
    """Each element of `source` added to `fill` where its window of `x` has the element that is ahead of all others.

    The choice is made place by place in the window; then each place gives what it was chosen for, spread out again.
    """
    keys = padded(b, x, windows, neutral)
    offsets = list(windows.offsets())
    best = tap(b, keys, windows, offsets[0])
    chosen = b.broadcast_to(b.const(0, I64), shape=best.type.shape)
    for number, offset in enumerate(offsets[1:], 1):
        key = tap(b, keys, windows, offset)
        keep = ahead(best, key)
        best, chosen = b.where(keep, best, key), b.where(keep, chosen, number)
    total: Value | None = None
    for number, offset in enumerate(offsets):
        given = b.where(b.equal(chosen, number), source, 0)
        spread = _untapped(b, given, windows, offset, keys.type.shape)
        total = spread if total is None else b.add(total, spread)
    assert total is not None
    lows = [low for low, _ in windows.padding]
    axes = tuple(range(x.type.rank))
    stops = tuple(low + d for low, d in zip(lows, x.type.shape, strict=True))
    result = b.slice(total, axes=axes, starts=tuple(lows), stops=stops) if axes else total
    return b.add(result, fill) if fill else result


def _untapped(b: Builder, x: Value, windows: Windows, offset: Sequence[int], shape: Sequence[Dim]) -> Value:
    """The elements of `x`, one of each window, at their places in padded `shape`, zeros elsewhere."""
    widths = []
    for axis, at in enumerate(offset):
        start = at * windows.dilation[axis]
        stride = windows.strides[axis]
        used = start + (x.type.shape[axis] - 1) * stride + 1
        widths.append((start, shape[axis] - used, stride - 1))
    return pad(b, x, 0, widths)
