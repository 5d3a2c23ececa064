"""XLA's gather: windows of an operand at computed places, by the simplest op that says it.

The general form makes an index for every axis of the operand that places or partial windows touch, and reads rows of
what is left with one `gather_nd`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dragoman.frontends.jax.xla.contraction import moved
from dragoman.ir.builder import Builder
from dragoman.ir.dims import Dim, is_one, same
from dragoman.ir.graph import Value
from dragoman.ir.types import BOOL, I64


@dataclass(frozen=True)
class Places:
    """Which axes of the operand the columns of the indices are for, and how windows lie in the other side.

    window_axes     axes of the result (of the updates) that run within a window
    dropped         axes of the operand whose window has one element and that have no axis in the result
    indexed         the axis of the operand that each column of the indices tells the start along
    batch_operand, batch_indices    axes of both that go together
    """

    window_axes: tuple[int, ...]
    dropped: tuple[int, ...]
    indexed: tuple[int, ...]
    batch_operand: tuple[int, ...] = ()
    batch_indices: tuple[int, ...] = ()

    def kept(self, rank: int) -> list[int]:
        """Axes of the operand that have an axis in the window, in order."""
        return [a for a in range(rank) if a not in self.dropped and a not in self.batch_operand]


def starts_of(b: Builder, indices: Value) -> Value:
    """The indices as i64, in which nothing that XLA computes with them wraps."""
    return indices if indices.type.dtype == I64 else b.cast(indices, dtype=I64)


def clamped(b: Builder, starts: Value, places: Places, shape: Sequence[Dim], sizes: Sequence[Dim]) -> Value:
    """Starts moved so that every window lies inside."""
    return b.minimum(b.maximum(starts, 0), limits(b, places, shape, sizes))


def inside(b: Builder, starts: Value, places: Places, shape: Sequence[Dim], sizes: Sequence[Dim]) -> Value:
    """Whether the whole window of each place lies inside: the indices' shape without columns."""
    fits = b.logical_and(b.greater_equal(starts, 0), b.less_equal(starts, limits(b, places, shape, sizes)))
    return b.reduce_all(fits, axes=(fits.type.rank - 1,))


def limits(b: Builder, places: Places, shape: Sequence[Dim], sizes: Sequence[Dim]) -> Value:
    """The last start by column: [columns] of i64, or a scalar where all are the same."""
    last = [shape[a] - sizes[a] for a in places.indexed]
    if all(same(d, last[0]) for d in last):
        return b.extent(last[0], I64) if last else b.const(0, I64)
    return b.stack(*(b.extent(d, I64) for d in last), axis=0)


def gather(b: Builder, x: Value, starts: Value, places: Places, sizes: Sequence[Dim]) -> Value:
    """Windows of `sizes` at `starts`, which lie inside.

    x: [n…]   starts: i64[i…, columns]   ->   the axes of the indices and of the windows, these at `window_axes`
    """
    simple = _take(b, x, starts, places, sizes)
    if simple is not None:
        return simple
    rank = x.type.rank
    whole = _whole(places, x.type.shape, sizes)
    touched = [a for a in range(rank) if a not in whole]
    rows = moved(b, x, [*touched, *whole])
    kept = places.kept(rank)
    partial = [a for a in kept if a not in whole]
    index = full_indices(b, starts, places, sizes, touched, partial)
    found = b.gather_nd(rows, index) if touched else _repeated(b, rows, starts)
    return _arranged(b, found, starts.type.rank - 1, places, [*partial, *whole], kept)


def _whole(places: Places, shape: Sequence[Dim], sizes: Sequence[Dim]) -> list[int]:
    """Axes of the operand that every window takes entirely."""
    free = [a for a in range(len(shape)) if a not in places.indexed and a not in places.batch_operand]
    return [a for a in free if a not in places.dropped and same(sizes[a], shape[a])]


def full_indices(
    b: Builder, starts: Value, places: Places, sizes: Sequence[Dim], touched: Sequence[int], partial: Sequence[int]
) -> Value:
    """The place of every element of every window along the touched axes: i64[i…, partial…, touched]."""
    outer = starts.type.shape[:-1]
    extent = [sizes[a] for a in partial]
    shape = (*outer, *extent)
    columns: list[Value] = []
    for axis in touched:
        column = b.const(0, I64)
        if axis in places.indexed:
            column = _column(b, starts, places.indexed.index(axis), len(extent))
        elif axis in places.batch_operand:
            at = places.batch_indices[places.batch_operand.index(axis)]
            column = _ramp(b, outer[at], at, len(shape))
        if axis in partial and not is_one(sizes[axis]):
            step = _ramp(b, sizes[axis], len(outer) + partial.index(axis), len(shape))
            column = b.add(column, step) if axis in places.indexed else step
        columns.append(b.broadcast_to(column, shape=shape) if column.type.shape != shape else column)
    return b.stack(*columns, axis=-1)


def _column(b: Builder, starts: Value, number: int, more: int) -> Value:
    rank = starts.type.rank
    column = starts
    if not is_one(starts.type.shape[-1]):
        column = b.slice(starts, axes=(rank - 1,), starts=(number,), stops=(number + 1,))
    return b.reshape(column, shape=(*starts.type.shape[:-1], *[1] * more))


def _ramp(b: Builder, size: Dim, axis: int, rank: int) -> Value:
    return b.reshape(b.iota(size=size, dtype=I64), shape=tuple(size if a == axis else 1 for a in range(rank)))


def _repeated(b: Builder, x: Value, starts: Value) -> Value:
    """The whole operand for every row of no indices."""
    return b.broadcast_to(x, shape=(*starts.type.shape[:-1], *x.type.shape))


def _arranged(b: Builder, found: Value, outer: int, places: Places, order: Sequence[int], kept: Sequence[int]) -> Value:
    """[i…, window axes in `order`] with the window axes in the operand's order, at their places in the result."""
    rank = outer + len(kept)
    within = {result: outer + list(order).index(axis) for result, axis in zip(places.window_axes, kept, strict=True)}
    others = iter(range(outer))
    return moved(b, found, [within[a] if a in within else next(others) for a in range(rank)])


def _take(b: Builder, x: Value, starts: Value, places: Places, sizes: Sequence[Dim]) -> Value | None:
    """Whole entries along one axis as `take`, or one block as `dynamic_slice`; None for other forms."""
    if places.batch_operand or not places.indexed:
        return None
    if starts.type.rank == 1:
        return _block(b, x, starts, places, sizes)
    if not takes_entries(x, places, sizes):
        return None
    return entries(b, x, b.reshape(starts, shape=starts.type.shape[:-1]), places)


def takes_entries(x: Value, places: Places, sizes: Sequence[Dim]) -> bool:
    """Whether each window is a whole entry along one axis, which the result lacks."""
    if places.batch_operand or len(places.indexed) != 1 or places.dropped != places.indexed:
        return False
    (axis,) = places.indexed
    return all(is_one(n) if a == axis else same(n, x.type.shape[a]) for a, n in enumerate(sizes))


def entries(b: Builder, x: Value, rows: Value, places: Places) -> Value:
    """Whole entries along one axis at the places in `rows`, which has no axis of columns."""
    (axis,) = places.indexed
    rank, outer = x.type.rank, rows.type.rank
    rest = [a for a in range(rank) if a != axis]
    taken = b.take(x, rows, axis=axis)
    order = [*range(axis, axis + outer), *range(axis), *range(axis + outer, rank - 1 + outer)]
    first = moved(b, taken, order) if axis else taken
    return _arranged(b, first, outer, places, rest, rest)


def _block(b: Builder, x: Value, starts: Value, places: Places, sizes: Sequence[Dim]) -> Value:
    first = whole_starts(b, starts, places.indexed, x.type.rank)
    block = b.dynamic_slice(x, first, sizes=tuple(sizes))
    kept = places.kept(x.type.rank)
    return block if not places.dropped else b.reshape(block, shape=tuple(sizes[a] for a in kept))


def whole_starts(b: Builder, starts: Value, indexed: Sequence[int], rank: int) -> Value:
    """Starts by column as starts by axis: [rank], zero where no column is for an axis."""
    if list(indexed) == list(range(rank)):
        return starts
    zero = b.unsqueeze(b.const(0, I64), axes=(0,))
    columns = [
        b.slice(starts, axes=(0,), starts=(indexed.index(a),), stops=(indexed.index(a) + 1,)) if a in indexed else zero
        for a in range(rank)
    ]
    return b.concat(*columns, axis=0)


def masked(b: Builder, valid: Value, found: Value, places: Places, fill: Value) -> Value:
    """What was found where `valid`, `fill` elsewhere; `valid` has the axes of the indices."""
    outer = iter(valid.type.shape)
    shape = tuple(1 if a in places.window_axes else next(outer) for a in range(found.type.rank))
    mask = valid if valid.type.shape == shape else b.reshape(valid, shape=shape)
    assert mask.type.dtype == BOOL
    return b.where(mask, found, fill)
