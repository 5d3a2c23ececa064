"""Running extrema and running log-sums, as a scan along the axis."""

from __future__ import annotations

from collections.abc import Callable

from dragoman.frontends.pytorch.context import Context
from dragoman.frontends.pytorch.table.registry import translates
from dragoman.frontends.pytorch.table.shape import axis_of, permuted
from dragoman.ir.builder import Builder, trace
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.types import BOOL, I64, U8

_Body = Callable[..., list[Value]]


def _scanned(c: Context, x: Value, axis: int, start: list[Value], body: _Body) -> list[Value]:
    """`body(b, *carries, element, place)` along an axis; what it carries, stacked on that axis."""
    b, rank, extent = c.b, x.type.rank, x.type.shape[axis]
    order = [axis, *(a for a in range(rank) if a != axis)]
    turned = permuted(c, x, order)
    places = b.iota(size=extent, dtype=I64)
    element = turned.type.with_shape(turned.type.shape[1:])

    def step(inner: Builder, *values: Value) -> list[Value]:
        new = body(inner, *values)
        return [*new, *new]

    region = trace(step, *(v.type for v in start), element, places.type.with_shape(()))
    results = b.scan(*start, turned, places, body=region, carries=len(start), length=extent)
    back = [order.index(a) for a in range(rank)]
    return [permuted(c, r, back) for r in results[len(start) :]]


def _extremum(largest: bool) -> Callable[..., tuple[Value, Value]]:
    def translate(c: Context, x: Value, dim: int) -> tuple[Value, Value]:
        if x.type.rank == 0:
            return x, c.b.const(0, I64)
        y = c.cast(x, U8) if x.type.dtype == BOOL else x
        axis, dtype = axis_of(y, dim), y.type.dtype
        shape = (*y.type.shape[:axis], *y.type.shape[axis + 1 :])
        if dtype.is_float:
            lowest: float = float("-inf") if largest else float("inf")
        else:
            low = -(1 << (dtype.bits - 1)) if dtype.kind == "int" else 0
            lowest = low if largest else low + (1 << dtype.bits) - 1

        def body(b: Builder, best: Value, place: Value, element: Value, here: Value) -> list[Value]:
            # Of equal elements the last, and NaN above all, as torch has it.
            takes = (b.greater_equal if largest else b.less_equal)(element, best)
            if dtype.is_float:
                takes = b.logical_or(b.isnan(element), b.logical_and(b.logical_not(b.isnan(best)), takes))
            return [b.where(takes, element, best), b.where(takes, here, place)]

        start = [c.full(shape, lowest, dtype), c.full(shape, 0, I64)]
        values, places = _scanned(c, y, axis, start, body)
        return c.cast(values, x.type.dtype), places

    return translate


translates("aten.cummax.default")(_extremum(True))
translates("aten.cummin.default")(_extremum(False))


@translates("aten.logcumsumexp.default")
def logcumsumexp(c: Context, x: Value, dim: int) -> Value:
    """log of the running sums of e^x."""
    if x.type.dtype.is_complex:
        raise Unsupported("logarithms of complex numbers")
    if x.type.rank == 0:
        return x
    axis = axis_of(x, dim)
    shape = (*x.type.shape[:axis], *x.type.shape[axis + 1 :])

    def body(b: Builder, total: Value, element: Value, _: Value) -> list[Value]:
        larger = b.maximum(total, element)
        spread = b.log1p(b.exp(b.neg(b.abs(b.sub(total, element)))))
        # Two equal infinities have no difference.
        infinite = b.logical_and(b.equal(total, element), b.isinf(total))
        return [b.where(infinite, total, b.add(larger, spread))]

    return _scanned(c, x, axis, [c.full(shape, float("-inf"), x.type.dtype)], body)[0]
