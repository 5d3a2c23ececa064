"""Gather, scatter and dynamic slices in every mode."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import ml_dtypes

from dragoman.frontends.jax.context import Context
from dragoman.frontends.jax.table.registry import translates
from dragoman.frontends.jax.xla import gather as reading
from dragoman.frontends.jax.xla.gather import Places
from dragoman.frontends.jax.xla.scatter import scatter, window_sizes
from dragoman.ir.dims import Dim
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.types import BOOL, I32, I64, DType

_MOST_OF_I32 = 2**31 - 1
_CLIP, _FILL, _IN_BOUNDS = "CLIP", "FILL_OR_DROP", "PROMISE_IN_BOUNDS"


def _mode(mode: Any) -> str:
    return str(getattr(mode, "name", mode))


@translates("gather")
def gather(
    c: Context,
    x: Value,
    indices: Value,
    *,
    dimension_numbers: Any,
    slice_sizes: Sequence[Any],
    mode: Any,
    fill_value: Any,
    **_: Any,
) -> Value:
    """Windows of x. Those that stick out are moved inside, or give the fill value; where none can, nothing is done."""
    d = dimension_numbers
    places = Places(
        tuple(d.offset_dims),
        tuple(d.collapsed_slice_dims),
        tuple(d.start_index_map),
        tuple(d.operand_batching_dims),
        tuple(d.start_indices_batching_dims),
    )
    b, shape, sizes = c.b, x.type.shape, c.shape(slice_sizes)
    how = _mode(mode)
    fill = b.const(_fill(x.type.dtype) if fill_value is None else fill_value, x.type.dtype)
    if how != _IN_BOUNDS and indices.type.rank > 1 and reading.takes_entries(x, places, sizes):
        return _entries(c, x, indices, places, None if how == _CLIP else fill)
    starts = reading.starts_of(b, indices)
    if how == _IN_BOUNDS:
        return reading.gather(b, x, starts, places, sizes)
    near = reading.clamped(b, starts, places, shape, sizes)
    found = reading.gather(b, x, near, places, sizes)
    if how == _CLIP:
        return found
    valid = reading.inside(b, starts, places, shape, sizes)
    return reading.masked(b, valid, found, places, fill)


def _entries(c: Context, x: Value, indices: Value, places: Places, fill: Value | None) -> Value:
    """Whole entries along one axis; `fill` for those outside, or where there is none the nearest."""
    b, (axis,) = c.b, places.indexed
    extent = x.type.shape[axis]
    fits = indices.type.dtype == I32 and isinstance(extent, int) and extent <= _MOST_OF_I32
    rows = b.reshape(indices if fits else reading.starts_of(b, indices), shape=indices.type.shape[:-1])
    near = _nearest(c, rows, extent)
    found = reading.entries(b, x, near, places)
    return found if fill is None else reading.masked(b, b.equal(rows, near), found, places, fill)


def _nearest(c: Context, rows: Value, extent: Dim) -> Value:
    """Places moved to the nearest of 0 … extent − 1."""
    if isinstance(extent, int):
        return c.b.clip(rows, low=0, high=extent - 1)
    return c.b.minimum(c.b.maximum(rows, 0), c.b.extent(extent - 1, rows.type.dtype))


def _fill(dtype: DType) -> float:
    """What JAX puts where an index is out of bounds: NaN, the least signed and the greatest unsigned integer, true."""
    if dtype.is_inexact:
        return math.nan
    if dtype == BOOL:
        return True
    limits = ml_dtypes.iinfo(dtype.numpy)
    return int(limits.min) if dtype.kind == "int" else int(limits.max)


_REDUCTIONS = {
    "scatter": "none",
    "scatter-add": "add",
    "scatter-mul": "mul",
    "scatter-min": "min",
    "scatter-max": "max",
}
_NAMES = [*_REDUCTIONS, *(name.replace("-", "_") for name in _REDUCTIONS)]


@translates(*dict.fromkeys(_NAMES))
def scatter_(
    c: Context, x: Value, indices: Value, updates: Value, *, dimension_numbers: Any, mode: Any, **_: Any
) -> Value:
    """Windows of updates combined into x. Those that stick out are moved inside, or left out."""
    reduction = _REDUCTIONS[c.equation.primitive.name.replace("_", "-")]
    return _scattered(c, x, indices, updates, dimension_numbers, mode, reduction)


@translates("scatter-sub", "scatter_sub")
def scatter_sub(
    c: Context, x: Value, indices: Value, updates: Value, *, dimension_numbers: Any, mode: Any, **_: Any
) -> Value:
    """Updates taken away: their negatives added."""
    return _scattered(c, x, indices, c.b.neg(updates), dimension_numbers, mode, "add")


def _scattered(c: Context, x: Value, indices: Value, updates: Value, numbers: Any, mode: Any, reduction: str) -> Value:
    places = Places(
        tuple(numbers.update_window_dims),
        tuple(numbers.inserted_window_dims),
        tuple(numbers.scatter_dims_to_operand_dims),
        tuple(numbers.operand_batching_dims),
        tuple(numbers.scatter_indices_batching_dims),
    )
    b = c.b
    booleans = x.type.dtype == BOOL and reduction != "none"
    if booleans:  # sums and maxima of booleans are disjunctions, products and minima conjunctions
        x, updates = c.cast(x, I64), c.cast(updates, I64)
        reduction = {"add": "max", "mul": "min"}.get(reduction, reduction)
    starts = reading.starts_of(b, indices)
    how = _mode(mode)
    if how == _CLIP:
        starts = reading.clamped(b, starts, places, x.type.shape, window_sizes(updates, places, x.type.rank))
    result = scatter(b, x, starts, updates, places, reduction, drop=how == _FILL)
    return c.cast(result, BOOL) if booleans else result


@translates("dynamic_slice")
def dynamic_slice(c: Context, x: Value, *starts: Value, slice_sizes: Sequence[Any]) -> Value:
    """A block, moved inside where it would stick out."""
    sizes = c.shape(slice_sizes)
    return c.b.dynamic_slice(x, _stacked(c, starts, len(sizes)), sizes=sizes) if sizes else x


@translates("dynamic_update_slice")
def dynamic_update_slice(c: Context, x: Value, update: Value, *starts: Value) -> Value:
    """x with a block replaced, moved inside where it would stick out."""
    return c.b.dynamic_update_slice(x, update, _stacked(c, starts, x.type.rank)) if starts else update


def _stacked(c: Context, starts: Sequence[Value], rank: int) -> Value:
    """Starts as one [rank] of i64; axes without one, those of words of keys, begin at 0."""
    wide = [c.cast(s, I64) for s in starts]
    wide += [c.b.const(0, I64)] * (rank - len(wide))
    if not wide:
        raise Unsupported("a block of nothing")
    return c.b.stack(*wide, axis=0)
