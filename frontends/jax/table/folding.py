"""Reductions by a function of the model: over axes and over windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dragoman.frontends.jax.context import Context
from dragoman.frontends.jax.table.registry import translates
from dragoman.frontends.jax.table.window import windows_of
from dragoman.frontends.jax.xla.window import Windows, padded, reduce_windows, tap, taps
from dragoman.ir.dims import Dim
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value

_MOST = 4096  # elements that are combined by a function, in as many steps as they can be halved


@translates("reduce")
def reduce(
    c: Context, *operands: Value, jaxpr: Any, dimensions: Sequence[int], consts: Any = (), **_: Any
) -> list[Value]:
    """All elements along axes combined by an associative function, in halves, then with the initial value."""
    half = len(operands) // 2
    values, initial = list(operands[:half]), list(operands[half:])
    for axis in sorted(dimensions, reverse=True):
        values = _halved(c, values, initial, axis, jaxpr)
    first = [c.b.broadcast_to(i, shape=v.type.shape) for i, v in zip(initial, values, strict=True)]
    return c.lifted(jaxpr, [*first, *values])


def _halved(c: Context, values: list[Value], initial: list[Value], axis: int, program: Any) -> list[Value]:
    b = c.b
    extent = values[0].type.shape[axis]
    if not isinstance(extent, int) or extent > _MOST:
        raise Unsupported(f"{extent} elements are reduced by a function; at most {_MOST} are spelled out")
    if extent == 0:
        shape = (*values[0].type.shape[:axis], *values[0].type.shape[axis + 1 :])
        return [b.broadcast_to(i, shape=shape) for i in initial]
    while extent > 1:
        half = extent // 2
        left = [_cut(c, v, axis, 0, half) for v in values]
        right = [_cut(c, v, axis, half, 2 * half) for v in values]
        joined = c.lifted(program, [*left, *right])
        if extent % 2:
            joined = [
                b.concat(j, _cut(c, v, axis, 2 * half, extent), axis=axis) for j, v in zip(joined, values, strict=True)
            ]
        values, extent = joined, half + extent % 2
    return [b.squeeze(v, axes=(axis,)) for v in values]


def _cut(c: Context, x: Value, axis: int, start: Dim, stop: Dim) -> Value:
    return c.b.slice(x, axes=(axis,), starts=(start,), stops=(stop,))


@translates("reduce_window")
def reduce_window(c: Context, *operands: Value, jaxpr: Any, consts: Any = (), **geometry: Any) -> list[Value]:
    """Windows combined by a function of the model, the initial value filling the padding."""
    half = len(operands) // 2
    values, initial = list(operands[:half]), list(operands[half:])
    windows = windows_of(c, values[0].type.rank, **geometry)
    if half == 1:
        found = reduce_windows(c.b, values[0], windows, initial[0], lambda x, y: c.lifted(jaxpr, [x, y])[0])
        return c.lifted(jaxpr, [c.b.broadcast_to(initial[0], shape=found.type.shape), found])
    return _several(c, values, initial, windows, jaxpr)


def _several(c: Context, values: list[Value], initial: list[Value], windows: Windows, program: Any) -> list[Value]:
    """Several operands combined together, element by element of a window."""
    if taps(windows) > _MOST // 8:
        raise Unsupported(f"a window of {taps(windows)} elements is reduced by a function of several values")
    filled = [padded(c.b, v, windows, i) for v, i in zip(values, initial, strict=True)]
    result: list[Value] | None = None
    for offsets in windows.offsets():
        seen = [tap(c.b, v, windows, offsets) for v in filled]
        result = seen if result is None else c.lifted(program, [*result, *seen])
    assert result is not None
    first = [c.b.broadcast_to(i, shape=v.type.shape) for i, v in zip(initial, result, strict=True)]
    return c.lifted(program, [*first, *result])
