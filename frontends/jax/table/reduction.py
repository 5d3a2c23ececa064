"""Reductions over axes, positions of extrema, running reductions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dragoman.frontends.jax.context import Context
from dragoman.frontends.jax.table.registry import translates
from dragoman.ir.graph import Value
from dragoman.ir.types import BOOL, I64


def _reduces(numbers: str, booleans: str) -> Callable[..., Value]:
    def translation(c: Context, x: Value, *, axes: Sequence[int], **_: Any) -> Value:
        if not axes:
            return x
        op = booleans if x.type.dtype == BOOL else numbers
        return c.fit(getattr(c.b, op)(x, axes=tuple(axes)))

    return translation


translates("reduce_sum")(_reduces("reduce_sum", "reduce_any"))
translates("reduce_prod")(_reduces("reduce_prod", "reduce_all"))
translates("reduce_max")(_reduces("reduce_max", "reduce_any"))
translates("reduce_min")(_reduces("reduce_min", "reduce_all"))
translates("reduce_or")(_reduces("", "reduce_any"))
translates("reduce_and")(_reduces("", "reduce_all"))


@translates("argmax", "argmin")
def argmax(c: Context, x: Value, *, axes: Sequence[int], **_: Any) -> Value:
    """Where the first of the largest elements is."""
    (axis,) = axes
    if x.type.dtype == BOOL:
        x = c.cast(x, I64)
    name = c.equation.primitive.name
    return c.fit(getattr(c.b, name)(x, axis=axis))


def _runs(op: str) -> Callable[..., Value]:
    def translation(c: Context, x: Value, *, axis: int, reverse: bool) -> Value:
        return c.fit(getattr(c.b, op)(x, axis=axis, reverse=reverse))

    return translation


translates("cumsum")(_runs("cumsum"))
translates("cumprod")(_runs("cumprod"))
