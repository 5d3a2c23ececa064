"""Reductions over windows: maxima and sums by pooling, others tap by tap; what gradients of pooling need."""

from __future__ import annotations

from typing import Any

from dragoman.frontends.jax.context import Context
from dragoman.frontends.jax.table.registry import translates
from dragoman.frontends.jax.xla.extremes import highest, lowest
from dragoman.frontends.jax.xla.window import (
    Windows,
    max_windows,
    padded,
    reduce_windows,
    scatter_to_selected,
    sum_windows,
    tap,
)
from dragoman.ir.graph import Value
from dragoman.ir.types import BOOL


def windows_of(
    c: Context,
    rank: int,
    window_dimensions: Any,
    window_strides: Any,
    padding: Any,
    base_dilation: Any = None,
    window_dilation: Any = None,
) -> Windows:
    """The windows as an equation has them."""
    return Windows(
        tuple(int(n) for n in window_dimensions),
        tuple(int(n) for n in window_strides),
        tuple((c.dim(low), c.dim(high)) for low, high in padding),
        tuple(int(n) for n in base_dilation or (1,) * rank),
        tuple(int(n) for n in window_dilation or (1,) * rank),
    )


@translates("reduce_window_max")
def reduce_window_max(c: Context, x: Value, **geometry: Any) -> Value:
    """The largest element of each window."""
    windows = windows_of(c, x.type.rank, **geometry)
    if x.type.dtype == BOOL:
        return reduce_windows(c.b, x, windows, 0, c.b.logical_or)
    return max_windows(c.b, x, windows) or reduce_windows(c.b, x, windows, lowest(x.type.dtype), c.b.maximum)


@translates("reduce_window_min")
def reduce_window_min(c: Context, x: Value, **geometry: Any) -> Value:
    """The smallest element of each window: the negated maximum of the negated."""
    windows = windows_of(c, x.type.rank, **geometry)
    if x.type.dtype == BOOL:
        return reduce_windows(c.b, x, windows, 1, c.b.logical_and)
    if x.type.dtype.is_float:
        pooled = max_windows(c.b, c.b.neg(x), windows)
        if pooled is not None:
            return c.b.neg(pooled)
    return reduce_windows(c.b, x, windows, highest(x.type.dtype), c.b.minimum)


@translates("reduce_window_sum")
def reduce_window_sum(c: Context, x: Value, **geometry: Any) -> Value:
    """The sum of each window."""
    windows = windows_of(c, x.type.rank, **geometry)
    return sum_windows(c.b, x, windows) or reduce_windows(c.b, x, windows, 0, c.b.add)


@translates("select_and_scatter_add")
def select_and_scatter_add(c: Context, source: Value, x: Value, *, select_prim: Any, **geometry: Any) -> Value:
    """Each element of the source added where its window has its first extremum: the gradient of pooling."""
    windows = windows_of(c, x.type.rank, **geometry)
    ahead = _SELECTS[str(select_prim)]
    return scatter_to_selected(c.b, source, x, windows, getattr(c.b, ahead), _neutral(ahead, x), 0.0)


@translates("select_and_gather_add")
def select_and_gather_add(c: Context, tangents: Value, x: Value, *, select_prim: Any, **geometry: Any) -> Value:
    """From each window the tangent at the first extremum of the operand."""
    windows = windows_of(c, x.type.rank, **geometry)
    ahead = _SELECTS[str(select_prim)]
    neutral = _neutral(ahead, x)
    keys, values = padded(c.b, x, windows, neutral), padded(c.b, tangents, windows, 0)
    best: Value | None = None
    found: Value | None = None
    for offsets in windows.offsets():
        key, value = tap(c.b, keys, windows, offsets), tap(c.b, values, windows, offsets)
        if best is None or found is None:
            best, found = key, value
            continue
        keep = getattr(c.b, ahead)(best, key)
        best, found = c.b.where(keep, best, key), c.b.where(keep, found, value)
    assert found is not None
    return found


_SELECTS = {"ge": "greater_equal", "le": "less_equal", "gt": "greater", "lt": "less"}


def _neutral(ahead: str, x: Value) -> float:
    return lowest(x.type.dtype) if ahead.startswith("greater") else highest(x.type.dtype)
