"""Primitives that move, repeat, join and cut; ranges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dragoman.frontends.jax.context import Context
from dragoman.frontends.jax.table.registry import translates
from dragoman.frontends.jax.xla import padding
from dragoman.frontends.jax.xla.contraction import moved
from dragoman.ir.dims import Dim
from dragoman.ir.graph import Value


def _shaped(c: Context, x: Value, shape: tuple[Dim, ...]) -> Value:
    return x if x.type.shape == shape else c.b.reshape(x, shape=shape)


@translates("broadcast_in_dim")
def broadcast_in_dim(
    c: Context, x: Value, *_sizes: Value, shape: Sequence[Any], broadcast_dimensions: Sequence[int], **_: Any
) -> Value:
    """The axes of x at the places given, new ones elsewhere, all stretched to the shape."""
    wanted = c.shape(shape)
    spread: list[Dim] = [1] * len(wanted)
    for axis, place in enumerate(broadcast_dimensions):
        spread[place] = x.type.shape[axis]
    trailing = tuple(broadcast_dimensions) == tuple(range(len(wanted) - x.type.rank, len(wanted)))
    if not trailing:
        x = _shaped(c, x, tuple(spread))
    return x if x.type.shape == wanted else c.b.broadcast_to(x, shape=wanted)


@translates("reshape")
def reshape(c: Context, x: Value, *_sizes: Value, new_sizes: Sequence[Any], dimensions: Any = None, **_: Any) -> Value:
    """The same elements in another shape."""
    if dimensions is not None:
        x = moved(c.b, x, dimensions)
    return _shaped(c, x, c.shape(new_sizes))


@translates("squeeze", "expand_dims")
def squeeze(c: Context, x: Value, *, dimensions: Sequence[int]) -> Value:
    """Without axes of one element, or with new ones."""
    return _shaped(c, x, c.type.shape)


@translates("transpose")
def transpose(c: Context, x: Value, *, permutation: Sequence[int]) -> Value:
    """The axes in another order."""
    return moved(c.b, x, permutation)


@translates("rev")
def rev(c: Context, x: Value, *, dimensions: Sequence[int]) -> Value:
    """Elements from the last to the first."""
    return c.b.flip(x, axes=tuple(dimensions)) if dimensions else x


@translates("concatenate")
def concatenate(c: Context, *xs: Value, dimension: int) -> Value:
    """One after the other."""
    return xs[0] if len(xs) == 1 else c.b.concat(*xs, axis=dimension)


@translates("split")
def split(c: Context, x: Value, *, sizes: Sequence[Any], axis: int) -> list[Value]:
    """Parts of these sizes."""
    parts = c.b.split(x, axis=axis, sizes=c.shape(sizes))
    return list(parts)


@translates("slice")
def slice_(
    c: Context, x: Value, *, start_indices: Sequence[Any], limit_indices: Sequence[Any], strides: Any = None
) -> Value:
    """Every so many elements from a start to a limit."""
    steps = tuple(int(s) for s in strides) if strides is not None else (1,) * x.type.rank
    starts, stops = c.shape(start_indices), c.shape(limit_indices)
    cut = [a for a in range(x.type.rank) if not (starts[a] == 0 and stops[a] == x.type.shape[a] and steps[a] == 1)]
    if not cut:
        return x
    return c.b.slice(
        x,
        axes=tuple(cut),
        starts=tuple(starts[a] for a in cut),
        stops=tuple(stops[a] for a in cut),
        steps=tuple(steps[a] for a in cut),
    )


@translates("pad")
def pad(c: Context, x: Value, fill: Value, *, padding_config: Sequence[tuple[Any, Any, Any]]) -> Value:
    """Elements around and between; negative numbers cut."""
    widths = [(c.dim(low), c.dim(high), int(between)) for low, high, between in padding_config]
    return padding.pad(c.b, x, fill, widths)


@translates("iota")
def iota(c: Context, *_sizes: Value, dimension: int, **_: Any) -> Value:
    """0, 1, … along one axis."""
    shape = c.type.shape
    numbers = c.b.iota(size=shape[dimension], dtype=c.type.dtype)
    if len(shape) == 1:
        return numbers
    numbers = c.b.reshape(numbers, shape=tuple(d if a == dimension else 1 for a, d in enumerate(shape)))
    return c.b.broadcast_to(numbers, shape=shape)


@translates("tile")
def tile(c: Context, x: Value, *, reps: Sequence[Any], **_: Any) -> Value:
    """The whole several times along each axis."""
    return c.b.tile(x, repeats=c.shape(reps))


@translates("unstack")
def unstack(c: Context, x: Value, *, axis: int, **_: Any) -> list[Value]:
    """The entries along an axis."""
    count = len(c.types)
    return [c.b.squeeze(part, axes=(axis,)) for part in c.b.split(x, axis=axis, sizes=(1,) * count)]


@translates("stack")
def stack(c: Context, *xs: Value, axis: int = 0, dimension: int | None = None, **_: Any) -> Value:
    """Side by side along a new axis."""
    return c.b.stack(*xs, axis=axis if dimension is None else dimension)


@translates("empty", "empty2")
def empty(c: Context, **_: Any) -> Value:
    """Zeros: what is there is not defined."""
    return c.full(0, c.type)
