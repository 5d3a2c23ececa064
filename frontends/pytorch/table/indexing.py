"""Reading at computed places: embeddings, gathers, and indexing with tensors and masks."""

from __future__ import annotations

from collections.abc import Sequence

from dragoman.frontends.pytorch.context import Context
from dragoman.frontends.pytorch.table.registry import translates
from dragoman.frontends.pytorch.table.shape import axis_of, permuted
from dragoman.ir.dims import Dim
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.types import BOOL, I64, U8, broadcast, same_shape


def integers(c: Context, x: Value) -> Value:
    """Indices in i64; torch takes u8 for a mask, which is another thing."""
    return c.cast(x, I64)


@translates("aten.embedding.default")
def embedding(
    c: Context,
    weight: Value,
    indices: Value,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Value:
    """Rows of a table."""
    return c.b.take(weight, integers(c, indices), axis=0)


@translates("aten.index_select.default")
def index_select(c: Context, x: Value, dim: int, index: Value) -> Value:
    """Entries along an axis."""
    if x.type.rank == 0:
        return c.reshape(x, c.type.shape)
    index = c.reshape(index, (1,)) if index.type.rank == 0 else index
    return c.b.take(x, integers(c, index), axis=axis_of(x, dim))


@translates("aten.gather.default")
def gather(c: Context, x: Value, dim: int, index: Value, sparse_grad: bool = False) -> Value:
    """One index for each element."""
    if x.type.rank == 0:
        return c.broadcast(x, index.type.shape)
    if index.type.rank == 0:
        return c.reshape(c.b.take(x, integers(c, index), axis=0), ())
    return c.b.take_along_axis(x, integers(c, index), axis=axis_of(x, dim))


@translates("aten.take_along_dim.default")
def take_along_dim(c: Context, x: Value, indices: Value, dim: int | None = None) -> Value:
    """The same, with the other axes broadcast."""
    if dim is None:
        return c.b.take_along_axis(
            c.reshape(x, (x.type.size,)), integers(c, c.reshape(indices, (indices.type.size,))), axis=0
        )
    axis = axis_of(x, dim)
    shared = broadcast(_without(x.type.shape, axis), _without(indices.type.shape, axis))
    x = c.broadcast(x, (*shared[:axis], x.type.shape[axis], *shared[axis:]))
    indices = c.broadcast(indices, (*shared[:axis], indices.type.shape[axis], *shared[axis:]))
    return c.b.take_along_axis(x, integers(c, indices), axis=axis)


def _without(shape: Sequence[Dim], axis: int) -> tuple[Dim, ...]:
    return (*shape[:axis], *shape[axis + 1 :])


@translates("aten.take.default")
def take(c: Context, x: Value, index: Value) -> Value:
    """Elements of the flattened tensor."""
    return c.b.take(c.reshape(x, (x.type.size,)), integers(c, index), axis=0)


# ---- indexing with tensors -----------------------------------------------------------------------------------------


def with_indices(c: Context, indices: Sequence[Value | None], count: Dim | None) -> list[Value | None]:
    """Indices of which each mask is replaced by the places where it holds, `count` of them."""
    result: list[Value | None] = []
    for index in indices:
        if index is None or index.type.dtype not in (BOOL, U8):
            result.append(None if index is None else integers(c, index))
            continue
        if count is None:
            raise Unsupported("a mask among indices whose number of places is not known")
        mask = c.cast(index, BOOL)
        places = c.b.nonzero(mask, size=count)
        rows = c.b.split(places, axis=0, sizes=(1,) * mask.type.rank) if mask.type.rank > 1 else [places]
        result.extend(c.b.reshape(r, shape=(count,)) for r in rows)
    return result


def masked_count(c: Context, x: Value, indices: Sequence[Value | None], result: Sequence[Dim]) -> Dim | None:
    """How many places a mask among the indices picks, read off the result's shape."""
    masks = [i for i in indices if i is not None and i.type.dtype in (BOOL, U8)]
    if not masks:
        return None
    return result[first_axis([i for i in indices for _ in range(_width(i))])]


def _width(index: Value | None) -> int:
    """How many axes an index stands for."""
    return index.type.rank if index is not None and index.type.dtype in (BOOL, U8) else 1


def first_axis(indices: Sequence[Value | None]) -> int:
    """Where the indices' own axes come in the result: at the first index if all are neighbours, else in front."""
    used = [axis for axis, index in enumerate(indices) if index is not None]
    return used[0] if used == list(range(used[0], used[-1] + 1)) else 0


def places_of(c: Context, indices: Sequence[Value]) -> Value:
    """Broadcast indices side by side on a last axis, as gather_nd and scatter_nd take them."""
    shape = broadcast(*(i.type.shape for i in indices))
    columns = [c.b.reshape(c.broadcast(i, shape), shape=(*shape, 1)) for i in indices]
    return columns[0] if len(columns) == 1 else c.b.concat(*columns, axis=len(shape))


@translates("aten.index.Tensor", "aten._unsafe_index.Tensor")
def index(c: Context, x: Value, indices: Sequence[Value | None]) -> Value:
    """x[indices], None standing for a whole axis."""
    listed = with_indices(c, indices, masked_count(c, x, indices, c.type.shape))
    used = [axis for axis, i in enumerate(listed) if i is not None]
    given = [i for i in listed if i is not None]
    if not used:
        return x
    if len(used) == 1:
        return c.b.take(x, given[0], axis=used[0])
    rest = [axis for axis in range(x.type.rank) if axis not in used]
    picked = c.b.gather_nd(permuted(c, x, [*used, *rest]), places_of(c, given))
    width = picked.type.rank - len(rest)
    front = first_axis(listed)
    order = [*range(width, width + front), *range(width), *range(width + front, picked.type.rank)]
    return permuted(c, picked, order)


@translates("aten.masked_select.default")
def masked_select(c: Context, x: Value, mask: Value) -> Value:
    """The elements where the mask holds, in one row."""
    shape = broadcast(x.type.shape, mask.type.shape)
    (count,) = c.type.shape
    if not shape:
        x, mask, shape = c.reshape(x, (1,)), c.reshape(mask, (1,)), (1,)
    places = c.b.nonzero(c.broadcast(mask, shape), size=count)
    return c.b.gather_nd(c.broadcast(x, shape), c.b.transpose(places, perm=(1, 0)))


@translates("aten.nonzero.default")
def nonzero(c: Context, x: Value) -> Value:
    """The places of the elements other than zero, one row each."""
    if x.type.rank == 0:
        raise Unsupported("the places of a scalar")
    return c.b.transpose(c.b.nonzero(x, size=c.type.shape[0]), perm=(1, 0))


@translates("aten.nonzero_numpy.default", "aten.where.default")
def nonzero_numpy(c: Context, x: Value) -> list[Value]:
    """The same, one vector for each axis."""
    (count,) = c.type.shape
    places = c.b.nonzero(x, size=count)
    return [c.b.reshape(r, shape=(count,)) for r in c.b.split(places, axis=0, sizes=(1,) * x.type.rank)]


@translates("aten.argwhere.default")
def argwhere(c: Context, x: Value) -> Value:
    """The same as nonzero."""
    return nonzero(c, x)


# ---- search ---------------------------------------------------------------------------------------------------------


@translates("aten.bucketize.Tensor")
def bucketize(c: Context, x: Value, boundaries: Value, *, out_int32: bool = False, right: bool = False) -> Value:
    """How many boundaries lie below each element (`right`: or at it)."""
    return _counted(c, x, boundaries, right)


@translates("aten.searchsorted.Tensor")
def searchsorted(
    c: Context,
    sorted_sequence: Value,
    x: Value,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Value | None = None,
) -> Value:
    """The same along the last axis."""
    if sorter is not None:
        raise Unsupported("searchsorted with a sorter")
    right = right or side == "right"
    if sorted_sequence.type.rank == 1:
        return _counted(c, x, sorted_sequence, right)
    lead, extent = sorted_sequence.type.shape[:-1], sorted_sequence.type.shape[-1]
    assert same_shape(lead, x.type.shape[:-1])
    return _counted(c, x, c.b.reshape(sorted_sequence, shape=(*lead, 1, extent)), right)


def _counted(c: Context, x: Value, boundaries: Value, right: bool) -> Value:
    """Every element compared with every boundary: torch's own sizes are small here."""
    b = c.b
    a, d = c.promote(boundaries, b.reshape(x, shape=(*x.type.shape, 1)))
    # Not below means at or above: NaN, which is neither, goes behind everything.
    below = b.logical_not(b.greater(a, d) if right else b.greater_equal(a, d))
    total = b.reduce_sum(c.cast(below, I64), axes=(below.type.rank - 1,))
    return c.cast(total, c.type.dtype)
