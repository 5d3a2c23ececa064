"""XLA's scatter: windows of updates combined into an operand at computed places.

Every update gets the index of its place along the axes that places or partial windows touch, and one `scatter_nd`
writes rows of what is left. Windows that stick out are sent to a row that is cut off again.
"""

from __future__ import annotations

from collections.abc import Sequence

from dragoman.frontends.jax.xla.contraction import moved
from dragoman.frontends.jax.xla.gather import Places, full_indices, inside
from dragoman.ir.builder import Builder
from dragoman.ir.dims import Dim, same
from dragoman.ir.graph import Value


def scatter(
    b: Builder, x: Value, starts: Value, updates: Value, places: Places, reduction: str, *, drop: bool
) -> Value:
    """`x` with updates combined in, in row-major order; with `drop`, without the windows that stick out.

    x: [n…]   starts: i64[i…, columns]   updates: the axes of the indices and of the windows, these at `window_axes`
    """
    rank = x.type.rank
    kept = places.kept(rank)
    sizes = window_sizes(updates, places, rank)
    whole = _whole(places, x.type.shape, sizes)
    touched = [a for a in range(rank) if a not in whole] or [0]
    whole = [a for a in whole if a not in touched]
    partial = [a for a in kept if a not in whole]
    outer = starts.type.rank - 1
    index = full_indices(b, starts, places, sizes, touched, partial)
    rows = moved(b, x, [*touched, *whole])
    given = _gathered(b, updates, places, outer, [*partial, *whole], kept)
    first = rows.type.shape[0]
    if drop:
        valid = inside(b, starts, places, x.type.shape, sizes)
        index = _elsewhere(b, index, valid, len(partial), first)
        spare = b.broadcast_to(b.const(0, rows.type.dtype), shape=(1, *rows.type.shape[1:]))
        rows = b.concat(rows, spare, axis=0)
    result = b.scatter_nd(rows, index, given, reduction=reduction)
    if drop:
        result = b.slice(result, axes=(0,), starts=(0,), stops=(first,))
    order = [*touched, *whole]
    return moved(b, result, [order.index(a) for a in range(rank)])


def window_sizes(updates: Value, places: Places, rank: int) -> list[Dim]:
    """The extent of a window along each axis of the operand."""
    sizes: list[Dim] = [1] * rank
    for result, axis in zip(places.window_axes, places.kept(rank), strict=True):
        sizes[axis] = updates.type.shape[result]
    return sizes


def _whole(places: Places, shape: Sequence[Dim], sizes: Sequence[Dim]) -> list[int]:
    return [a for a in places.kept(len(shape)) if a not in places.indexed and same(sizes[a], shape[a])]


def _gathered(
    b: Builder, updates: Value, places: Places, outer: int, order: Sequence[int], kept: Sequence[int]
) -> Value:
    """The updates as [i…, window axes in `order`]."""
    at = dict(zip(kept, places.window_axes, strict=True))
    others = [a for a in range(outer + len(kept)) if a not in places.window_axes]
    return moved(b, updates, [*others, *(at[a] for a in order)])


def _elsewhere(b: Builder, index: Value, valid: Value, partial: int, last: Dim) -> Value:
    """Indices whose window is not valid sent to row `last`, the other columns to 0."""
    rank = index.type.rank
    mask = b.reshape(valid, shape=(*valid.type.shape, *[1] * (partial + 1)))
    columns = index.type.shape[-1]
    aside = b.unsqueeze(b.extent(last, index.type.dtype), axes=(0,))
    if isinstance(columns, int) and columns > 1:
        aside = b.pad(aside, padding=((0, columns - 1),))
    aside = b.reshape(aside, shape=(*[1] * (rank - 1), columns))
    return b.where(mask, index, aside)
