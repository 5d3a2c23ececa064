"""Sorting by one or several keys, the largest elements, running extrema."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dragoman.frontends.jax.context import Context
from dragoman.frontends.jax.table.registry import translates
from dragoman.frontends.jax.xla.extremes import highest, lowest
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.types import BOOL, I32


@translates("sort")
def sort(c: Context, *xs: Value, dimension: int, num_keys: int, **_: Any) -> list[Value]:
    """All operands in the order of the first `num_keys`, the first above all; equal ones stay in their order."""
    b = c.b
    if len(xs) == 1 and not xs[0].type.dtype.is_complex:
        return [c.cast(b.sort(_comparable(c, xs[0]), axis=dimension)[0], xs[0].type.dtype)]
    order: Value | None = None
    for key in reversed(xs[:num_keys]):  # stable sorts, the least significant key first
        if key.type.dtype.is_complex:
            raise Unsupported("complex numbers are sorted")
        key = _comparable(c, key)
        seen = key if order is None else b.take_along_axis(key, order, axis=dimension)
        step = b.sort(seen, axis=dimension)[1]
        order = step if order is None else b.take_along_axis(order, step, axis=dimension)
    assert order is not None
    return [b.take_along_axis(x, order, axis=dimension) for x in xs]


def _comparable(c: Context, x: Value) -> Value:
    """`x` in a dtype that has an order."""
    return c.cast(x, I32) if x.type.dtype == BOOL else x


@translates("top_k")
def top_k(c: Context, x: Value, *, k: Any, axis: int = -1, **_: Any) -> list[Value]:
    """The largest elements and where they are."""
    axis = axis % x.type.rank
    values, places = c.b.topk(_comparable(c, x), k=c.dim(k), axis=axis)
    return [c.cast(values, x.type.dtype), c.cast(places, c.types[1].dtype)]


@translates("approx_top_k")
def approx_top_k(
    c: Context, x: Value, *, k: Any, reduction_dimension: int, is_max_k: bool, aggregate_to_topk: bool, **_: Any
) -> list[Value]:
    """The largest or smallest elements, all of them right, whatever share of them is asked for."""
    if not aggregate_to_topk:
        raise Unsupported(
            "approx_top_k with aggregate_to_topk=False: how many elements it gives, and in which order, is left to the"
            " device; ask for aggregate_to_topk=True"
        )
    axis = reduction_dimension % x.type.rank
    values, places = c.b.topk(x, k=c.dim(k), axis=axis, largest=is_max_k)
    return [values, c.cast(places, c.types[1].dtype)]


# ---- running extrema --------------------------------------------------------------------------------------


def _running(c: Context, x: Value, axis: int, reverse: bool, neutral: float, combine: Callable[..., Value]) -> Value:
    """Each element combined with all before it: with the one before, the two before those, the four before those, …"""
    b = c.b
    extent = x.type.shape[axis]
    if not isinstance(extent, int):
        raise Unsupported("a running extremum along a dynamic dimension")
    step = 1
    while step < extent:
        widths = [(0, 0)] * x.type.rank
        widths[axis] = (0, step) if reverse else (step, 0)
        moved = b.pad(x, padding=tuple(widths), value=neutral)
        start = step if reverse else 0
        moved = b.slice(moved, axes=(axis,), starts=(start,), stops=(start + extent,))
        x = combine(x, moved)
        step *= 2
    return x


@translates("cummax")
def cummax(c: Context, x: Value, *, axis: int, reverse: bool) -> Value:
    """The largest element so far."""
    if x.type.dtype == BOOL:
        return _running(c, x, axis, reverse, 0, c.b.logical_or)
    return _running(c, x, axis, reverse, lowest(x.type.dtype), c.b.maximum)


@translates("cummin")
def cummin(c: Context, x: Value, *, axis: int, reverse: bool) -> Value:
    """The smallest element so far."""
    if x.type.dtype == BOOL:
        return _running(c, x, axis, reverse, 1, c.b.logical_and)
    return _running(c, x, axis, reverse, highest(x.type.dtype), c.b.minimum)


@translates("cumlogsumexp")
def cumlogsumexp(c: Context, x: Value, *, axis: int, reverse: bool) -> Value:
    """The logarithm of the sum of exponentials so far, pairs by log(e^x + e^y) = max + log(1 + e^−|x−y|)."""
    b = c.b

    def pair(x: Value, y: Value) -> Value:
        larger = b.maximum(x, y)
        both = b.add(larger, b.log1p(b.exp(b.neg(b.abs(b.sub(x, y))))))
        return b.where(b.isfinite(b.sub(x, y)), both, larger)

    return _running(c, x, axis, reverse, lowest(x.type.dtype), pair)
