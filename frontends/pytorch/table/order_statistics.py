"""Elements by their rank: medians of numbers, the k-th smallest, the most frequent. Ties are given to the first place
of the order.
"""

from __future__ import annotations

from dragoman.frontends.pytorch.context import Context
from dragoman.frontends.pytorch.table.reduction import median
from dragoman.frontends.pytorch.table.registry import translates
from dragoman.frontends.pytorch.table.shape import axis_of, sliced
from dragoman.ir.dims import Dim
from dragoman.ir.graph import Value
from dragoman.ir.types import BOOL, I64, U8

_Pair = tuple[Value, Value]


def _sorted(c: Context, x: Value, axis: int) -> _Pair:
    """In ascending order, NaN last, as torch orders; booleans as numbers."""
    y = c.cast(x, U8) if x.type.dtype == BOOL else x
    values, places = c.b.sort(y, axis=axis, descending=False)
    return c.cast(values, x.type.dtype), places


def _one(c: Context, x: Value, axis: int, at: Dim, keepdim: bool) -> Value:
    row = sliced(c, x, axis, at, at + 1)
    return row if keepdim else c.reshape(row, (*x.type.shape[:axis], *x.type.shape[axis + 1 :]))


def _scalar_pair(c: Context, x: Value) -> _Pair:
    return x, c.b.const(0, I64)


@translates("aten.kthvalue.default")
def kthvalue(c: Context, x: Value, k: Dim, dim: int = -1, keepdim: bool = False) -> _Pair:
    """The k-th smallest element along an axis, and where it was."""
    if x.type.rank == 0:
        return _scalar_pair(c, x)
    axis = axis_of(x, dim)
    values, places = _sorted(c, x, axis)
    return _one(c, values, axis, k - 1, keepdim), _one(c, places, axis, k - 1, keepdim)


@translates("aten.nanmedian.dim")
def nanmedian_dim(c: Context, x: Value, dim: int, keepdim: bool = False) -> _Pair:
    """The same of the elements that are numbers; NaN where none is."""
    if x.type.rank == 0 or not x.type.dtype.is_float:
        return median(c, x, dim, keepdim)
    axis, b = axis_of(x, dim), c.b
    values, places = _sorted(c, x, axis)
    numbers = b.reduce_sum(c.cast(b.logical_not(b.isnan(x)), I64), axes=(axis,), keepdims=True)
    # Of n numbers the lower middle is number (n − 1) // 2; of none, the first, which is NaN.
    middle = b.maximum(b.div(b.sub(numbers, 1), b.const(2, I64)), 0)
    picked = [b.take_along_axis(v, middle, axis=axis) for v in (values, places)]
    if not keepdim:
        picked = [c.reshape(v, (*x.type.shape[:axis], *x.type.shape[axis + 1 :])) for v in picked]
    return picked[0], picked[1]


@translates("aten.nanmedian.default")
def nanmedian(c: Context, x: Value) -> Value:
    """The same of all."""
    return nanmedian_dim(c, c.reshape(x, (x.type.size,)), 0)[0]


@translates("aten.mode.default")
def mode(c: Context, x: Value, dim: int = -1, keepdim: bool = False) -> _Pair:
    """The most frequent element along an axis, the smallest of several, and its last place."""
    if x.type.rank == 0:
        return _scalar_pair(c, x)
    axis, b = axis_of(x, dim), c.b
    values, places = _sorted(c, x, axis)
    column = c.reshape(values, (*x.type.shape[: axis + 1], 1, *x.type.shape[axis + 1 :]))
    row = c.reshape(values, (*x.type.shape[:axis], 1, *x.type.shape[axis:]))
    # NaN equals nothing, yet is there once.
    counts = b.maximum(b.reduce_sum(c.cast(b.equal(column, row), I64), axes=(axis + 1,)), 1)
    best = b.argmax(counts, axis=axis, keepdims=True)
    last = b.sub(b.add(best, b.take_along_axis(counts, best, axis=axis)), b.const(1, I64))
    picked = [
        c.cast(b.take_along_axis(values, best, axis=axis), x.type.dtype),
        b.take_along_axis(places, last, axis=axis),
    ]
    if not keepdim:
        picked = [c.reshape(v, (*v.type.shape[:axis], *v.type.shape[axis + 1 :])) for v in picked]
    return picked[0], picked[1]
