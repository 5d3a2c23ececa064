"""Slices, gathers and scatters."""

from __future__ import annotations

from typing import Any

from dragoman.frontends.onnx.context import Context
from dragoman.frontends.tensorflow.call import Call
from dragoman.frontends.tensorflow.registry import translates
from dragoman.ir.dims import Dim, bounds, maximum, minimum
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.types import BOOL, I64


def _bits(n: Call, name: str) -> int:
    return n.int(name) if n.has(name) else 0


def index_of(n: Call, begin: Any, end: Any, strides: Any) -> tuple[Any, ...]:
    """The index of Python that a StridedSlice of known bounds spells; entries may be dims."""
    masks = {m: _bits(n, f"{m}_mask") for m in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")}
    index: list[Any] = []
    for i, (first, last, step) in enumerate(zip(begin.reshape(-1), end.reshape(-1), strides.reshape(-1), strict=True)):
        bit = 1 << i
        if masks["ellipsis"] & bit:
            index.append(Ellipsis)
        elif masks["new_axis"] & bit:
            index.append(None)
        elif masks["shrink_axis"] & bit:
            index.append(first)
        else:
            index.append(
                slice(None if masks["begin"] & bit else first, None if masks["end"] & bit else last, int(step))
            )
    return tuple(index)


@translates("StridedSlice")
def strided_slice(c: Context, n: Call) -> Value:
    """As NumPy indexes with slices, numbers, new axes and an ellipsis."""
    x = n[0]
    bounds_of = [n.known(i) for i in (1, 2, 3)]
    if any(b is None for b in bounds_of):
        return _one_row(c, n, x)
    index = list(index_of(n, *bounds_of))
    consumed = sum(1 for i in index if i is not None and i is not Ellipsis)
    if not any(i is Ellipsis for i in index):
        index.append(Ellipsis)
    at = next(i for i, e in enumerate(index) if e is Ellipsis)
    index[at : at + 1] = [slice(None, None, 1)] * (x.type.rank - consumed)
    axis, shape = 0, list[Dim]()
    for entry in index:
        if entry is None:
            shape.append(1)
            continue
        extent = x.type.shape[axis]
        if isinstance(entry, slice):
            x = _sliced(c, x, axis, entry)
            shape.append(x.type.shape[axis])
        else:
            first = _place(entry, extent)
            x = c.slice(x, axis, first, first + 1)
        axis += 1
    return c.reshape(x, shape)


def _place(at: Dim, extent: Dim) -> Dim:
    if isinstance(at, int):
        return at + extent if at < 0 else at
    low, high = bounds(at)
    if high < 0:
        return at + extent
    if low >= 0:
        return at
    raise Unsupported(f"an index {at} whose sign is known only when the model runs")


def _sliced(c: Context, x: Value, axis: int, entry: slice) -> Value:
    extent, step = x.type.shape[axis], entry.step
    if entry.start is None and entry.stop is None and step in (1, -1):
        return x if step == 1 else c.b.flip(x, axes=(axis,))
    if step < 0:
        if entry.start is not None or entry.stop is not None:
            if not all(e is None or isinstance(e, int) for e in (extent, entry.start, entry.stop)):
                raise Unsupported("a slice backwards with bounds along a dynamic dimension")
            places = list(range(*slice(entry.start, entry.stop, step).indices(int(extent))))  # type: ignore[arg-type]
            return c.b.take(x, c.array(places, I64), axis=axis)
        return _sliced(c, c.b.flip(x, axes=(axis,)), axis, slice(None, None, -step))
    first = 0 if entry.start is None else minimum(maximum(_place(entry.start, extent), 0), extent)
    last = extent if entry.stop is None else minimum(maximum(_place(entry.stop, extent), 0), extent)
    return c.slice(x, axis, first, maximum(last, first), step)


def _one_row(c: Context, n: Call, x: Value) -> Value:
    """x[i, j, …] or x[:, …, i, …] for places that the model computes."""
    shrink, count = _bits(n, "shrink_axis_mask"), n.type(1).shape[0]
    whole = _bits(n, "begin_mask") & _bits(n, "end_mask")
    if not isinstance(count, int) or _bits(n, "ellipsis_mask") or _bits(n, "new_axis_mask"):
        raise Unsupported("StridedSlice with bounds that are known only when the model runs")
    if any(not ((shrink | whole) >> i) & 1 for i in range(count)):
        raise Unsupported("StridedSlice with bounds that are known only when the model runs")
    begin, axis = c.cast(n[1], I64), 0
    for i in range(count):
        if (shrink >> i) & 1:
            at = c.reshape(c.slice(begin, 0, i, i + 1), ())
            x = c.b.take(x, _counted(c, at, x.type.shape[axis]), axis=axis)
        else:
            axis += 1
    return x


def _counted(c: Context, places: Value, extent: Dim) -> Value:
    """Places that may be counted from the end."""
    return c.b.where(c.b.less(places, 0), c.b.add(places, c.b.extent(extent, places.type.dtype)), places)


@translates("Slice")
def slice_(c: Context, n: Call) -> Value:
    """A block by its first corner and its sizes."""
    x, sizes = n[0], n.sizes(2, "sizes")
    starts = n.dims(1)
    if starts is None:
        if any(isinstance(s, int) and s == -1 for s in sizes):
            raise Unsupported("Slice up to the end from a place that is known only when the model runs")
        return c.b.dynamic_slice(x, c.cast(n[1], I64), sizes=tuple(sizes))
    for axis, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        extent = x.type.shape[axis]
        stop = extent if isinstance(size, int) and size == -1 else start + size
        if not (isinstance(start, int) and start == 0 and stop is extent):
            x = c.slice(x, axis, start, stop)
    return x


@translates("GatherV2", "Gather", "ResourceGather")
def gather(c: Context, n: Call) -> Value:
    """Parts of one axis by their places."""
    x, places = n[0], n[1]
    axis = n.numbers(2, "axes")[0] if n.op == "GatherV2" else 0
    batch = n.int("batch_dims") if n.has("batch_dims") else 0
    if batch == 0:
        return c.b.take(x, places, axis=axis % x.type.rank)
    axis, batch = axis % x.type.rank, batch % max(places.type.rank, 1)
    if axis != batch:
        order = [*range(batch), axis, *(a for a in range(batch, x.type.rank) if a != axis)]
        y = c.b.gather_nd(c.b.transpose(x, perm=tuple(order)), _columns(c, places), batch_dims=batch)
        rank, more = y.type.rank, places.type.rank - batch
        back = [*range(batch), *range(batch + more, batch + more + axis - batch), *range(batch, batch + more)]
        return c.b.transpose(y, perm=(*back, *range(batch + more + axis - batch, rank)))
    return c.b.gather_nd(x, _columns(c, places), batch_dims=batch)


def _columns(c: Context, places: Value) -> Value:
    return c.cast(c.reshape(places, (*places.type.shape, 1)), I64)


@translates("GatherNd", "ResourceGatherNd")
def gather_nd(c: Context, n: Call) -> Value:
    """Parts by index vectors."""
    return c.b.gather_nd(n[0], c.cast(n[1], I64))


@translates("TensorScatterUpdate", "TensorScatterAdd", "TensorScatterMax", "TensorScatterMin")
def scatter(c: Context, n: Call) -> Value:
    """Updates at index vectors."""
    kind = {"Update": "none", "Add": "add", "Max": "max", "Min": "min"}[n.op.removeprefix("TensorScatter")]
    return c.b.scatter_nd(n[0], c.cast(n[1], I64), n[2], reduction=kind)


@translates("ScatterNd")
def scatter_nd(c: Context, n: Call) -> Value:
    """Updates at index vectors, added up, among zeros."""
    updates = n[1]
    zeros = c.full(n.sizes(2, "extents"), 0, updates.type.dtype)
    return c.b.scatter_nd(zeros, c.cast(n[0], I64), updates, reduction="add")


@translates("OneHot")
def one_hot(c: Context, n: Call) -> Value:
    """One value at the place, another elsewhere."""
    (depth,) = n.sizes(1, "depths")
    places, axis, on, off = n[0], n.int("axis"), n[2], n[3]
    if places.type.dtype.kind != "uint":  # below 0 nothing is on; the IR counts such places from the end
        places = c.b.where(c.b.less(places, 0), c.b.extent(depth, places.type.dtype), places)
    return c.b.where(c.b.one_hot(places, depth=depth, dtype=BOOL, axis=axis), on, off)


@translates("Where")
def where(c: Context, n: Call) -> Value:
    """The places of what is not 0, as rows."""
    x = n[0]
    return c.b.transpose(c.b.nonzero(x, size=c.fresh("found")), perm=(1, 0))
