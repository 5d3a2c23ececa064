"""XLA's padding: around and between elements, negative widths cutting away, any value."""

from __future__ import annotations

from collections.abc import Sequence

from dragoman.ir.builder import Builder
from dragoman.ir.dims import Dim, bounds, maximum
from dragoman.ir.graph import Value
from dragoman.ir.ops.constant import Constant
from dragoman.ir.types import BOOL

Widths = Sequence[tuple[Dim, Dim, int]]


def pad(b: Builder, x: Value, fill: Value | float, widths: Widths) -> Value:
    """`x` with (before, after, between) elements of `fill` at each axis; negative ones before and after cut."""
    value = _number(fill)
    if value is None:
        assert isinstance(fill, Value)
        inside = b.broadcast_to(b.const(True, BOOL), shape=x.type.shape)
        return b.where(pad(b, inside, 0, widths), pad(b, x, 0, widths), fill)
    for axis, (_, _, between) in enumerate(widths):
        if between:
            x = stretched(b, x, axis, between, value)
    around = tuple((positive(low), positive(high)) for low, high, _ in widths)
    if any(w != 0 for pair in around for w in pair):
        x = b.pad(x, padding=around, value=value)
    return cropped(b, x, [(low, high) for low, high, _ in widths])


def positive(width: Dim) -> Dim:
    """A width, or 0 for a negative one."""
    return maximum(width, 0)


def cropped(b: Builder, x: Value, widths: Sequence[tuple[Dim, Dim]]) -> Value:
    """`x` without as many elements as the negative widths say."""
    axes = [a for a, (low, high) in enumerate(widths) if bounds(low)[0] < 0 or bounds(high)[0] < 0]
    if not axes:
        return x
    starts = tuple(positive(-widths[a][0]) for a in axes)
    stops = tuple(x.type.shape[a] - positive(-widths[a][1]) for a in axes)
    return b.slice(x, axes=tuple(axes), starts=starts, stops=stops)


def stretched(b: Builder, x: Value, axis: int, between: int, value: float = 0.0) -> Value:
    """`x` with so many elements of `value` between each two along `axis`; nothing stays nothing."""
    shape = x.type.shape
    extent = shape[axis]
    x = b.unsqueeze(x, axes=(axis + 1,))
    x = b.pad(x, padding=tuple((0, between if a == axis + 1 else 0) for a in range(x.type.rank)), value=value)
    grown = extent * (between + 1)
    x = b.reshape(x, shape=(*shape[:axis], grown, *shape[axis + 1 :]))
    if isinstance(extent, int) and extent == 0:
        return x
    return b.slice(x, axes=(axis,), starts=(0,), stops=(grown - between,))


def _number(fill: Value | float) -> float | None:
    """The number that a value is, if it is a real constant."""
    if not isinstance(fill, Value):
        return fill
    op = fill.op
    if not isinstance(op, Constant) or isinstance(op.value, (complex, str)):
        return None
    return op.value
