"""Reading and writing at places that other tensors name."""

from __future__ import annotations

from dragoman.frontends.onnx.call import Call
from dragoman.frontends.onnx.context import Context
from dragoman.frontends.onnx.registry import translates
from dragoman.ir.dims import Dim, product
from dragoman.ir.errors import Malformed, Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.op import normal_axis
from dragoman.ir.types import BOOL, I64


@translates("Gather")
def gather(c: Context, n: Call) -> Value:
    """Entries along an axis."""
    x, places, axis = n[0], n.dims(1), n.int("axis", 0)
    at = normal_axis(axis, x.type.rank)
    if places is not None and n.type(1).rank == 0 and len(places) == 1:
        found = _one(c, x, at, places[0])
        if found is not None:
            return found
    return c.b.take(x, n[1], axis=axis)


def _one(c: Context, x: Value, axis: int, place: Dim) -> Value | None:
    """One entry, as a slice without its axis: a view, unlike a gather."""
    extent = x.type.shape[axis]
    if not isinstance(place, int) or x.type.dtype.kind == "string":
        return None
    if place < 0:
        place = place + extent
    elif isinstance(extent, int) and place >= extent:
        raise Malformed(f"the index {place} is out of range for axis {axis} of {x.type}")
    row = c.slice(x, axis, place, place + 1)
    return c.b.squeeze(row, axes=(axis,))


@translates("GatherElements")
def gather_elements(c: Context, n: Call) -> Value:
    """One index for each element."""
    return c.b.take_along_axis(n[0], n[1], axis=n.int("axis", 0))


@translates("GatherND")
def gather_nd(c: Context, n: Call) -> Value:
    """Places named by rows."""
    return c.b.gather_nd(n[0], n[1], batch_dims=n.int("batch_dims", 0))


@translates("Scatter", "ScatterElements")
def scatter_elements(c: Context, n: Call) -> Value:
    """Elements written to places."""
    return c.b.scatter_elements(n[0], n[1], n[2], axis=n.int("axis", 0), reduction=n.text("reduction", "none"))


@translates("ScatterND")
def scatter_nd(c: Context, n: Call) -> Value:
    """Slices written to places named by rows."""
    return c.b.scatter_nd(n[0], n[1], n[2], reduction=n.text("reduction", "none"))


@translates("OneHot")
def one_hot(c: Context, n: Call) -> Value:
    """The second of two values at the index, the first elsewhere; the first everywhere for an index out of range."""
    b, places, values = c.b, n[0], n[2]
    depth = n.dims(1)
    size = depth[0] if depth is not None else c.size(c.reshape(c.cast(n[1], I64), ()), "depth")
    if not places.type.dtype.is_integer:
        places = b.cast(places, dtype=I64)
    axis = n.int("axis", -1)
    known = n.known(2)
    if known is not None and known.reshape(-1).tolist() == [0, 1] and values.type.dtype != BOOL:
        return b.one_hot(places, depth=size, dtype=values.type.dtype, axis=axis)
    hit = b.one_hot(places, depth=size, dtype=BOOL, axis=axis)
    off, on = (c.reshape(c.slice(values, 0, i, i + 1), ()) for i in (0, 1))
    return b.where(hit, on, off)


@translates("Compress")
def compress(c: Context, n: Call) -> Value:
    """The entries for which a condition holds."""
    b, x, condition = c.b, n[0], n[1]
    axis = n.int("axis") if n.given("axis") else None
    if axis is None:
        x, axis = c.reshape(x, (product(x.type.shape),)), 0
    count = c.fresh("compressed")
    places = b.reshape(b.nonzero(condition, size=count), shape=(count,))
    return b.take(x, places, axis=axis)


@translates("ReverseSequence")
def reverse_sequence(c: Context, n: Call) -> Value:
    """The first elements of each sequence turned around, as many as its length says."""
    b, x = c.b, n[0]
    batch, time = n.int("batch_axis", 1), n.int("time_axis", 0)
    shape = x.type.shape
    along = c.reshape(b.iota(size=shape[time]), tuple(shape[time] if a == time else 1 for a in range(x.type.rank)))
    lengths = c.reshape(c.cast(n[1], I64), tuple(shape[batch] if a == batch else 1 for a in range(x.type.rank)))
    places = b.where(b.less(along, lengths), b.sub(b.sub(lengths, 1), along), along)
    return b.take_along_axis(x, c.broadcast(places, shape), axis=time)


@translates("TensorScatter")
def tensor_scatter(c: Context, n: Call) -> Value:
    """An update written into a cache from a place of each sequence on, around its end if it is circular."""
    b, cache, update = c.b, n[0], n[1]
    axis = normal_axis(n.int("axis", -2), cache.type.rank)
    if axis == 0:
        raise Malformed("TensorScatter along the batch")
    rank, shape = cache.type.rank, update.type.shape
    along = c.reshape(b.iota(size=shape[axis]), tuple(shape[axis] if a == axis else 1 for a in range(rank)))
    if n.has(2):
        start = c.reshape(c.cast(n[2], I64), (shape[0], *[1] * (rank - 1)))
        along = b.add(along, start)
    if n.text("mode", "linear") == "circular":
        along = b.remainder(along, b.extent(cache.type.shape[axis], I64))
    return b.scatter_elements(cache, c.broadcast(along, shape), update, axis=axis)


@translates("Col2Im")
def col2im(c: Context, n: Call) -> Value:
    """Columns of blocks added into an image."""
    b, x = c.b, n[0]
    image, block = n.numbers(1), n.numbers(2)
    if image is None or block is None:
        raise Unsupported("Col2Im with an image or block of sizes that are known only when the model runs")
    count = len(image)
    strides, dilations = n.ints("strides", [1] * count), n.ints("dilations", [1] * count)
    pads = n.ints("pads", [0] * (2 * count))
    padded = [e + pads[i] + pads[count + i] for i, e in enumerate(image)]
    taps = 1
    for extent in block:
        taps *= extent
    batch, rows, columns = x.type.shape
    places = _block_places(padded, block, strides, dilations)
    if not isinstance(rows, int) or (isinstance(columns, int) and columns != places.shape[1]):
        raise Malformed(f"Col2Im of {x.type} into {image} by blocks of {block}")
    channels = rows // taps
    flat = c.reshape(x, (batch, channels, places.size))
    total = 1
    for extent in padded:
        total *= extent
    at = c.broadcast(c.array(places.reshape(1, 1, -1), I64), (batch, channels, places.size))
    zeros = c.full((batch, channels, total), 0, x.type.dtype)
    summed = c.reshape(b.scatter_elements(zeros, at, flat, axis=2, reduction="add"), (batch, channels, *padded))
    for i, extent in enumerate(image):
        summed = c.slice(summed, 2 + i, pads[i], pads[i] + extent)
    return summed


def _block_places(padded: list[int], block: list[int], strides: list[int], dilations: list[int]):  # type: ignore[no-untyped-def]
    """[taps, blocks]: where each element of each block lies in the flattened padded image."""
    import numpy as np

    taps = np.zeros(1, np.int64)
    starts = np.zeros(1, np.int64)
    for extent, size, stride, dilation in zip(padded, block, strides, dilations, strict=True):
        blocks = (extent - dilation * (size - 1) - 1) // stride + 1
        taps = (taps[:, None] * extent + np.arange(size) * dilation).reshape(-1)
        starts = (starts[:, None] * extent + np.arange(blocks) * stride).reshape(-1)
    return taps[:, None] + starts[None, :]


@translates("ArrayFeatureExtractor", domain="ai.onnx.ml")
def array_feature_extractor(c: Context, n: Call) -> Value:
    """Entries along the last axis."""
    x = n[0]
    places = c.reshape(n[1], (product(n.type(1).shape),))
    result = c.b.take(x, places, axis=-1)
    return result if x.type.rank > 1 else c.reshape(result, (1, *result.type.shape))
