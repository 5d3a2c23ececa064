"""Combining what several indices send to one place: index_reduce, embedding bags, histograms of known bins."""

from __future__ import annotations

from dragoman.frontends.pytorch.context import Context, Scalar
from dragoman.frontends.pytorch.table.indexing import integers
from dragoman.frontends.pytorch.table.registry import translates
from dragoman.frontends.pytorch.table.scatter import scatter_reduce
from dragoman.frontends.pytorch.table.shape import axis_of
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value


@translates("aten.index_reduce.default")
def index_reduce(
    c: Context, x: Value, dim: int, index: Value, source: Value, reduce: str, *, include_self: bool = True
) -> Value:
    """x with entries of the source combined in at entries along an axis."""
    if x.type.rank == 0:
        wide = index_reduce(c, c.reshape(x, (1,)), 0, index, c.reshape(source, (1,)), reduce, include_self=include_self)
        return c.reshape(wide, ())
    axis = axis_of(x, dim)
    count = index.type.shape[0] if index.type.rank else 1
    shape = (*x.type.shape[:axis], count, *x.type.shape[axis + 1 :])
    column = c.reshape(index, tuple(count if a == axis else 1 for a in range(x.type.rank)))
    places = c.broadcast(integers(c, column), shape)
    return scatter_reduce(c, x, axis, places, c.reshape(source, shape), reduce, include_self=include_self)


@translates("aten._embedding_bag.default", "aten._embedding_bag_forward_only.default")
def embedding_bag(
    c: Context,
    weight: Value,
    indices: Value,
    offsets: Value,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Value | None = None,
    include_last_offset: bool = False,
    padding_idx: int = -1,
) -> tuple[Value, None, None, None]:
    """Sum (mode 0), mean (1) or maximum (2) of the rows of each bag; bag i begins at offset i. Empty bags give 0.

    A negative `padding_idx` is none.
    """
    b, dtype = c.b, weight.type.dtype
    bags = c.type.shape[0]
    (count,) = indices.type.shape
    indices, offsets = integers(c, indices), integers(c, offsets)
    # An element lies in the last bag that has begun.
    element = b.reshape(b.iota(size=count), shape=(count, 1))
    begun = b.less_equal(b.reshape(offsets, shape=(1, *offsets.type.shape)), element)
    bag = b.sub(b.reduce_sum(c.cast(begun, indices.type.dtype), axes=(1,)), 1)
    belongs = b.equal(b.reshape(b.iota(size=bags), shape=(bags, 1)), b.reshape(bag, shape=(1, count)))
    if padding_idx >= 0:
        belongs = b.logical_and(belongs, b.not_equal(indices, padding_idx))
    rows = b.take(weight, indices, axis=0)
    if per_sample_weights is not None:
        rows = b.mul(rows, c.reshape(per_sample_weights, (count, 1)))
    if mode == 2:
        spread = b.where(b.reshape(belongs, shape=(bags, count, 1)), rows, b.const(float("-inf"), dtype))
        most = b.reduce_max(spread, axes=(1,))
        filled = b.reduce_any(belongs, axes=(1,), keepdims=True)
        return b.where(filled, most, b.const(0.0, dtype)), None, None, None
    share = c.cast(belongs, dtype)
    total = b.matmul(share, rows)
    if mode == 1:
        total = b.div(total, b.maximum(b.reduce_sum(share, axes=(1,), keepdims=True), 1.0))
    return total, None, None, None


@translates("aten.embedding_bag.default", "aten.embedding_bag.padding_idx")
def outer_embedding_bag(
    c: Context,
    weight: Value,
    indices: Value,
    offsets: Value,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Value | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> tuple[Value, None, None, None]:
    """The same as torch's users call it: a negative `padding_idx` counts from the end."""
    padding = -1
    if padding_idx is not None:
        rows = weight.type.shape[0]
        if padding_idx < 0 and not isinstance(rows, int):
            raise Unsupported("padding counted from the end of a table of unknown size")
        padding = padding_idx + rows if padding_idx < 0 and isinstance(rows, int) else padding_idx
    weights = per_sample_weights
    return embedding_bag(
        c, weight, indices, offsets, scale_grad_by_freq, mode, sparse, weights, include_last_offset, padding
    )


@translates("aten.histc.default")
def histc(c: Context, x: Value, bins: int = 100, min: Scalar = 0, max: Scalar = 0) -> Value:
    """How many elements lie in each of equal bins; what lies outside is not counted."""
    if not isinstance(min, (int, float)) or not isinstance(max, (int, float)) or min == max:
        raise Unsupported("a histogram whose ends are taken from the values")
    b, dtype = c.b, x.type.dtype
    flat = c.reshape(x, (x.type.size, 1))
    low, high = c.scalar(min, dtype), c.scalar(max, dtype)
    place = b.floor(b.div(b.mul(b.sub(flat, low), float(bins)), b.sub(high, low)))
    place = b.minimum(place, float(bins - 1))  # the last bin includes its end
    inside = b.logical_and(b.greater_equal(flat, low), b.less_equal(flat, high))
    hits = b.logical_and(b.equal(place, b.iota(size=bins, dtype=dtype)), inside)
    return b.reduce_sum(c.cast(hits, dtype), axes=(0,))
