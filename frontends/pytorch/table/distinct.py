"""Distinct elements: how many there are is known only when the model runs."""

from __future__ import annotations

from dragoman.frontends.pytorch.context import Context
from dragoman.frontends.pytorch.table.registry import translates
from dragoman.frontends.pytorch.table.shape import sliced
from dragoman.ir.dims import Dim
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.types import BOOL, I64, U8

_Three = tuple[Value, Value | None, Value | None]


@translates("aten._unique2.default")
def unique(
    c: Context, x: Value, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False
) -> _Three:
    """The distinct elements in ascending order, for each element which one it is, and how often each is there."""
    flat = c.reshape(x, (x.type.size,))
    values, places = c.b.sort(c.cast(flat, U8) if x.type.dtype == BOOL else flat, axis=0, descending=False)
    found, ranks, counts = _runs(c, c.cast(values, x.type.dtype), c.types[0].shape[0])
    inverse = c.b.scatter_elements(c.full((x.type.size,), 0, I64), places, ranks, axis=0) if return_inverse else None
    return found, c.reshape(inverse, x.type.shape) if inverse is not None else None, counts if return_counts else None


@translates("aten.unique_consecutive.default")
def unique_consecutive(
    c: Context, x: Value, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> _Three:
    """The same of neighbours only, in their order."""
    if dim is not None and x.type.rank != 1:
        raise Unsupported("distinct slices along an axis")
    found, ranks, counts = _runs(c, c.reshape(x, (x.type.size,)), c.types[0].shape[0])
    return found, c.reshape(ranks, x.type.shape) if return_inverse else None, counts if return_counts else None


def _runs(c: Context, x: Value, count: Dim) -> tuple[Value, Value, Value]:
    """The first element of each run of equal ones, the run of each element, and the lengths of the runs."""
    b, total = c.b, x.type.size
    if isinstance(total, int) and total == 0:
        raise Unsupported("distinct elements of nothing")
    changes = b.not_equal(sliced(c, x, 0, 1, total), sliced(c, x, 0, 0, total - 1))
    first = b.concat(c.full((1,), True, BOOL), changes, axis=0)
    begins = c.reshape(b.nonzero(first, size=count), (count,))
    ranks = b.sub(b.cumsum(c.cast(first, I64), axis=0), 1)
    ends = b.concat(sliced(c, begins, 0, 1, count), b.reshape(b.extent(total, I64), shape=(1,)), axis=0)
    return b.take(x, begins, axis=0), ranks, b.sub(ends, begins)
