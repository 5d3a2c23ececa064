"""Writing at computed places, as new tensors: scatters, index_put, and the parts of views."""

from __future__ import annotations

from collections.abc import Sequence

from dragoman.frontends.pytorch.context import Context, Number, Operand, Scalar
from dragoman.frontends.pytorch.table.indexing import (
    first_axis,
    integers,
    masked_count,
    places_of,
    with_indices,
)
from dragoman.frontends.pytorch.table.registry import translates
from dragoman.frontends.pytorch.table.shape import axis_of, bounds_of, from_end, known_dim, permuted, sliced
from dragoman.ir.dims import Dim, maximum, same
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.types import BOOL, I32, I64, U8, broadcast

_REDUCTIONS = {"sum": "add", "add": "add", "prod": "mul", "multiply": "mul", "amax": "max", "amin": "min"}

_OF_BOOLEANS = {"add": "max", "max": "max", "mul": "min", "min": "min"}  # or, and


def _scattered(c: Context, x: Value, dim: int, index: Value, updates: Value, reduction: str = "none") -> Value:
    """Updates as far as the index goes, at the places that it says."""
    if x.type.dtype == BOOL and reduction != "none":
        whole = _scattered(c, c.cast(x, I32), dim, index, c.cast(updates, I32), _OF_BOOLEANS[reduction])
        return c.cast(whole, BOOL)
    if x.type.rank == 0 or index.type.rank == 0:
        shape = x.type.shape if x.type.rank else (1,)
        wide = [c.reshape(v, (1,)) if v.type.rank == 0 else v for v in (x, index, updates)]
        result = c.b.scatter_elements(wide[0], integers(c, wide[1]), wide[2], axis=0, reduction=reduction)
        return c.reshape(result, x.type.shape if x.type.rank else ()) if shape else result
    for axis, extent in enumerate(index.type.shape):
        updates = sliced(c, updates, axis, 0, extent)
    return c.b.scatter_elements(x, integers(c, index), updates, axis=axis_of(x, dim), reduction=reduction)


@translates("aten.scatter.src")
def scatter(c: Context, x: Value, dim: int, index: Value, src: Value) -> Value:
    """x with elements of src at the index."""
    return _scattered(c, x, dim, index, src)


@translates("aten.scatter.value")
def scatter_value(c: Context, x: Value, dim: int, index: Value, value: Scalar) -> Value:
    """x with a number at the index."""
    return _scattered(c, x, dim, index, c.full(index.type.shape, value, x.type.dtype))


@translates("aten.scatter.reduce", "aten.scatter.value_reduce")
def scatter_reduced(c: Context, x: Value, dim: int, index: Value, src: Operand, *, reduce: str) -> Value:
    """x with src added or multiplied in."""
    updates = src if isinstance(src, Value) else c.full(index.type.shape, src, x.type.dtype)
    return _scattered(c, x, dim, index, updates, _REDUCTIONS[reduce])


@translates("aten.scatter_add.default")
def scatter_add(c: Context, x: Value, dim: int, index: Value, src: Value) -> Value:
    """x with src added at the index."""
    return _scattered(c, x, dim, index, src, "add")


@translates("aten.scatter_reduce.two")
def scatter_reduce(
    c: Context, x: Value, dim: int, index: Value, src: Value, reduce: str, *, include_self: bool = True
) -> Value:
    """x with src combined in; without x itself, places that are written start from nothing."""
    b = c.b
    if reduce == "mean":
        return _scatter_mean(c, x, dim, index, src, include_self)
    reduction = _REDUCTIONS[reduce]
    if not include_self:
        touched = _scattered(c, x, dim, index, _sliced_like(c, src, index))
        neutral = _neutral(c, reduction, x)
        written = _scattered(c, c.full(x.type.shape, 0, I64), dim, index, c.full(index.type.shape, 1, I64))
        x = b.where(b.greater(written, 0), neutral, touched)
    return _scattered(c, x, dim, index, src, reduction)


def _sliced_like(c: Context, src: Value, index: Value) -> Value:
    for axis, extent in enumerate(index.type.shape):
        src = sliced(c, src, axis, 0, extent)
    return src


def _neutral(c: Context, reduction: str, x: Value) -> Value:
    dtype = x.type.dtype
    if dtype == BOOL:
        return c.b.const(reduction in ("mul", "min"), BOOL)
    if reduction in ("add", "mul"):
        return c.scalar(0 if reduction == "add" else 1, dtype)
    if dtype.is_float:
        return c.b.const(-float("inf") if reduction == "max" else float("inf"), dtype)
    low = -(1 << (dtype.bits - 1)) if dtype.kind == "int" else 0
    return c.b.const(low if reduction == "max" else low + (1 << dtype.bits) - 1, dtype)


def _scatter_mean(c: Context, x: Value, dim: int, index: Value, src: Value, include_self: bool) -> Value:
    b, dtype = c.b, x.type.dtype
    ones = c.full(index.type.shape, 1, dtype)
    count = _scattered(c, c.full(x.type.shape, int(include_self), dtype), dim, index, ones, "add")
    start = x
    if not include_self:
        start = b.where(b.greater(count, c.scalar(0, dtype)), c.scalar(0, dtype), x)
        count = b.maximum(count, c.scalar(1, dtype))
    total = _scattered(c, start, dim, index, src, "add")
    return b.floor_divide(total, count) if dtype.is_integer else b.div(total, count)


# ---- index_put and its kin ---------------------------------------------------------------------------------------


@translates("aten.index_put.default", "aten._unsafe_index_put.default", "aten.index_put_.default")
def index_put(c: Context, x: Value, indices: Sequence[Value | None], values: Value, accumulate: bool = False) -> Value:
    """x with values at the indices, added or put."""
    values = c.cast(values, x.type.dtype)
    masks = [i for i in indices if i is not None and i.type.dtype in (BOOL, U8)]
    if len(masks) == 1 and not accumulate and _covers(indices) and values.type.size == 1:
        return _masked(c, x, indices, masks[0], values)
    count = None
    if masks:
        count = _count_of_values(c, x, indices, values)
    listed = with_indices(c, indices, count)
    used = [axis for axis, i in enumerate(listed) if i is not None]
    given = [i for i in listed if i is not None]
    rest = [axis for axis in range(x.type.rank) if axis not in used]
    places = places_of(c, given)
    width, front = places.type.rank - 1, first_axis(listed)
    rest_shape = tuple(x.type.shape[a] for a in rest)
    # Values broadcast to the shape that reading there would give; its axes are then put in the scatter's order.
    shape = (*rest_shape[:front], *places.type.shape[:-1], *rest_shape[front:])
    order = [*range(front, front + width), *range(front), *range(front + width, len(shape))]
    updates = permuted(c, c.broadcast(values, shape), order)
    turned = permuted(c, x, [*used, *rest])
    result = c.b.scatter_nd(turned, places, updates, reduction="add" if accumulate else "none")
    back = [0] * x.type.rank
    for at, axis in enumerate([*used, *rest]):
        back[axis] = at
    return permuted(c, result, back)


def _covers(indices: Sequence[Value | None]) -> bool:
    """Whether a mask is the only index."""
    return sum(i is not None for i in indices) == 1


def _masked(c: Context, x: Value, indices: Sequence[Value | None], mask: Value, value: Value) -> Value:
    """One value wherever a mask holds: a choice, of no data-dependent size."""
    axis = next(a for a, i in enumerate(indices) if i is not None)
    trailing = x.type.rank - axis - mask.type.rank
    mask = c.reshape(c.cast(mask, BOOL), (*mask.type.shape, *(1,) * trailing))
    return c.b.where(mask, c.reshape(value, ()), x)


def _count_of_values(c: Context, x: Value, indices: Sequence[Value | None], values: Value) -> Dim:
    """How many places a mask picks: as many as there are values along its axis."""
    rank = x.type.rank - sum(i.type.rank - 1 for i in indices if i is not None and i.type.dtype in (BOOL, U8))
    if values.type.rank < rank:
        raise Unsupported("values are broadcast to the places of a mask")
    count = masked_count(c, x, indices, values.type.shape)
    assert count is not None
    if isinstance(count, int) and count == 1:
        raise Unsupported("values are broadcast to the places of a mask")
    return count


@translates("aten.index_add.default")
def index_add(c: Context, x: Value, dim: int, index: Value, source: Value, *, alpha: Scalar = 1) -> Value:
    """x with alpha·source added at entries along an axis."""
    updates = source if alpha == 1 else c.b.mul(source, c.scalar(alpha, source.type.dtype))
    return _along(c, x, dim, index, updates, "add")


@translates("aten.index_copy.default")
def index_copy(c: Context, x: Value, dim: int, index: Value, source: Value) -> Value:
    """x with source at entries along an axis."""
    return _along(c, x, dim, index, source, "none")


@translates("aten.index_fill.int_Scalar", "aten.index_fill.int_Tensor")
def index_fill(c: Context, x: Value, dim: int, index: Value, value: Operand) -> Value:
    """x with one value at entries along an axis."""
    axis = axis_of(x, dim)
    index = c.reshape(index, (1,)) if index.type.rank == 0 else index
    shape = (*x.type.shape[:axis], index.type.shape[0], *x.type.shape[axis + 1 :])
    return _along(c, x, dim, index, c.full(shape, value, x.type.dtype), "none")


def _along(c: Context, x: Value, dim: int, index: Value, updates: Value, reduction: str) -> Value:
    if x.type.dtype == BOOL and reduction != "none":
        whole = _along(c, c.cast(x, I32), dim, index, c.cast(updates, I32), _OF_BOOLEANS[reduction])
        return c.cast(whole, BOOL)
    if x.type.rank == 0:
        wide = _along(c, c.reshape(x, (1,)), 0, index, c.reshape(updates, (1,)), reduction)
        return c.reshape(wide, ())
    axis = axis_of(x, dim)
    index = c.reshape(index, (1,)) if index.type.rank == 0 else index
    updates = c.reshape(updates, (*x.type.shape[:axis], index.type.shape[0], *x.type.shape[axis + 1 :]))
    order = [axis, *(a for a in range(x.type.rank) if a != axis)]
    back = [order.index(a) for a in range(x.type.rank)]
    places = c.b.reshape(integers(c, index), shape=(index.type.shape[0], 1))
    moved = c.b.scatter_nd(permuted(c, x, order), places, permuted(c, updates, order), reduction=reduction)
    return permuted(c, moved, back)


@translates("aten.put.default")
def put(c: Context, x: Value, index: Value, source: Value, accumulate: bool = False) -> Value:
    """x with source at places of the flattened tensor."""
    flat, places, updates = (c.reshape(v, (v.type.size,)) for v in (x, integers(c, index), source))
    written = c.b.scatter_elements(flat, places, updates, axis=0, reduction="add" if accumulate else "none")
    return c.reshape(written, x.type.shape)


@translates("aten.masked_scatter.default")
def masked_scatter(c: Context, x: Value, mask: Value, source: Value) -> Value:
    """The elements where the mask holds replaced by those of the source, in order."""
    b = c.b
    shape = broadcast(x.type.shape, mask.type.shape)
    mask = c.broadcast(c.cast(mask, BOOL), shape)
    flat = b.reshape(mask, shape=(mask.type.size,))
    rank = b.sub(b.cumsum(b.cast(flat, dtype=I64), axis=0), 1)
    taken = b.take(c.reshape(source, (source.type.size,)), b.maximum(rank, 0), axis=0)
    return b.where(mask, b.reshape(taken, shape=shape), c.broadcast(x, shape))


# ---- parts of views ----------------------------------------------------------------------------------------------


def put_slice(c: Context, base: Value, part: Value, axis: int, start: Dim, stop: Dim, step: int = 1) -> Value:
    """`base` with `part` in place of base[start:stop:step] along an axis."""
    extent = base.type.shape[axis]
    if step == 1 and same(part.type.shape[axis], extent):
        return part
    if step == 1:
        pieces = [
            *([] if isinstance(start, int) and start == 0 else [sliced(c, base, axis, 0, start)]),
            part,
            *([] if same(stop, extent) else [sliced(c, base, axis, stop, extent)]),
        ]
        return pieces[0] if len(pieces) == 1 else c.b.concat(*pieces, axis=axis)
    count = part.type.shape[axis]
    places = c.b.mul(c.b.iota(size=count, dtype=I64), c.b.const(step, I64))
    if not (isinstance(start, int) and start == 0):
        places = c.b.add(places, c.b.extent(start, I64))
    return _along(c, base, axis, places, part, "none")


@translates("aten.slice_scatter.default")
def slice_scatter(
    c: Context,
    x: Value,
    src: Value,
    dim: int = 0,
    start: Scalar | None = None,
    end: Scalar | None = None,
    step: int = 1,
) -> Value:
    """x with src in place of a slice."""
    axis = axis_of(x, dim)
    first, last = bounds_of(x.type.shape[axis], start, end)
    return put_slice(c, x, c.cast(src, x.type.dtype), axis, first, last, step)


@translates("aten.select_scatter.default")
def select_scatter(c: Context, x: Value, src: Value, dim: int, index: Scalar) -> Value:
    """x with src in place of one entry along an axis."""
    axis = axis_of(x, dim)
    row = c.reshape(c.cast(src, x.type.dtype), (*x.type.shape[:axis], 1, *x.type.shape[axis + 1 :]))
    if isinstance(index, Number):
        return _along(c, x, axis, c.b.reshape(c.scalar(index, I64), shape=(1,)), row, "none")
    at = from_end(known_dim(index, "the index"), x.type.shape[axis])
    return put_slice(c, x, row, axis, at, at + 1)


@translates("aten.diagonal_scatter.default")
def diagonal_scatter(c: Context, x: Value, src: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    """x with src in place of a diagonal."""
    b, rank = c.b, x.type.rank
    first, second = axis_of(x, dim1), axis_of(x, dim2)
    order = [*(a for a in range(rank) if a not in (first, second)), first, second]
    turned = permuted(c, x, order)
    height, width = turned.type.shape[-2:]
    rows = b.reshape(b.iota(size=height, dtype=I64), shape=(height, 1))
    on_diagonal = b.equal(b.iota(size=width, dtype=I64), b.add(rows, b.const(offset, I64)))
    # Row r of the matrix holds element r − skipped of the diagonal.
    skipped = max(-offset, 0)
    last = maximum(src.type.shape[-1] - 1, 0)
    places = b.sub(b.iota(size=height, dtype=I64), b.const(skipped, I64))
    places = b.minimum(b.maximum(places, 0), b.extent(last, I64))
    spread = b.take(c.cast(src, x.type.dtype), places, axis=src.type.rank - 1)
    column = b.reshape(spread, shape=(*spread.type.shape, 1))
    put = b.where(on_diagonal, column, turned)
    return permuted(c, put, [order.index(a) for a in range(rank)])
