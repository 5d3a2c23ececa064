"""Operators that move elements: reshapes, transposes, joins, splits, padding."""

from __future__ import annotations

from collections.abc import Sequence

from dragoman.frontends.onnx.context import Context
from dragoman.frontends.tensorflow.call import Call
from dragoman.frontends.tensorflow.operands import Operand
from dragoman.frontends.tensorflow.registry import translates
from dragoman.ir.dims import Dim, floordiv, product
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.types import I64


@translates("Reshape")
def reshape(c: Context, n: Call) -> Value:
    """Another shape, one extent of it left open."""
    x, sizes = n[0], n.dims(1)
    if sizes is None:
        count = n.type(1).shape[0]
        if not isinstance(count, int):
            raise Unsupported("Reshape to a rank that is known only when the model runs")
        shape = tuple(c.fresh("reshaped") for _ in range(count))
        return c.b.dynamic_reshape(x, c.cast(n[1], I64), shape=shape)
    return c.reshape(x, resolved(x.type.shape, sizes))


def resolved(shape: Sequence[Dim], sizes: Sequence[Dim]) -> list[Dim]:
    """Sizes with the one that is −1 as what is left."""
    if not any(isinstance(s, int) and s == -1 for s in sizes):
        return list(sizes)
    rest = product([s for s in sizes if not (isinstance(s, int) and s == -1)])
    left = floordiv(product(shape), rest)
    return [left if isinstance(s, int) and s == -1 else s for s in sizes]


@translates("ExpandDims")
def expand_dims(c: Context, n: Call) -> Value:
    """A new axis."""
    (axis,) = n.numbers(1, "axes")
    return c.b.unsqueeze(n[0], axes=(axis,))


@translates("Squeeze")
def squeeze(c: Context, n: Call) -> Value:
    """Without axes of extent 1."""
    x, axes = n[0], n.ints("squeeze_dims")
    if not axes and not x.type.is_static:
        raise Unsupported("Squeeze of axes that depend on dynamic dimensions")
    axes = axes or [i for i, d in enumerate(x.type.shape) if d == 1]
    return c.b.squeeze(x, axes=tuple(axes)) if axes else x


@translates("Transpose")
def transpose(c: Context, n: Call) -> Value:
    """Axes permuted."""
    return c.b.transpose(n[0], perm=tuple(n.numbers(1, "axes")))


@translates("ConcatV2")
def concat(c: Context, n: Call) -> Value:
    """One after the other."""
    (axis,) = n.numbers(len(n.inputs) - 1, "axes")
    values = [n[i] for i in range(len(n.inputs) - 1)]
    return values[0] if len(values) == 1 else c.b.concat(*values, axis=axis)


@translates("Pack")
def pack(c: Context, n: Call) -> Value:
    """Side by side along a new axis."""
    return c.b.stack(*n.values, axis=n.int("axis"))


@translates("Unpack")
def unpack(c: Context, n: Call) -> list[Value]:
    """Apart along an axis, which is gone."""
    x, axis = n[0], n.int("axis")
    axis %= x.type.rank
    shape = [d for i, d in enumerate(x.type.shape) if i != axis]
    return [c.reshape(c.slice(x, axis, i, i + 1), shape) for i in range(n.int("num"))]


@translates("Split", "SplitV")
def split(c: Context, n: Call) -> list[Operand] | tuple[Value, ...]:
    """Apart along an axis, in equal or given parts."""
    even = n.op == "Split"
    x, count = n[1 if even else 0], n.int("num_split")
    (axis,) = n.numbers(0 if even else 2, "axes")
    extent = x.type.shape[axis]
    sizes = [floordiv(extent, count)] * count if even else resolved_parts(extent, n.sizes(1, "sizes"))
    return c.b.split(x, axis=axis, sizes=tuple(sizes))


def resolved_parts(extent: Dim, sizes: Sequence[Dim]) -> list[Dim]:
    """Sizes with the one that is −1 as what is left."""
    rest = extent
    for s in sizes:
        rest = rest if isinstance(s, int) and s == -1 else rest - s
    return [rest if isinstance(s, int) and s == -1 else s for s in sizes]


@translates("Tile")
def tile(c: Context, n: Call) -> Value:
    """Repeated as a whole along each axis."""
    return c.b.tile(n[0], repeats=tuple(n.sizes(1, "repeats")))


@translates("BroadcastTo")
def broadcast_to(c: Context, n: Call) -> Value:
    """Repeated to a shape."""
    return c.broadcast(n[0], n.sizes(1, "extents"))


@translates("ReverseV2")
def reverse(c: Context, n: Call) -> Value:
    """Turned around along axes."""
    axes = n.numbers(1, "axes")
    return c.b.flip(n[0], axes=tuple(axes)) if axes else n[0]


@translates("Roll")
def roll(c: Context, n: Call) -> Value:
    """Moved along axes, around the end."""
    return c.b.roll(n[0], shifts=tuple(n.sizes(1, "shifts")), axes=tuple(n.numbers(2, "axes")))


@translates("Pad", "PadV2", "MirrorPad")
def pad(c: Context, n: Call) -> Value:
    """More around: zeros, a value, or what lies within mirrored."""
    x, amounts = n[0], n.sizes(1, "amounts")
    pairs = tuple(zip(amounts[::2], amounts[1::2], strict=True))
    if n.op == "MirrorPad":
        return c.b.pad(x, padding=pairs, mode="reflect") if n.text("mode") == "REFLECT" else _mirrored(c, x, pairs)
    value = 0.0
    if n.op == "PadV2":
        known = n.known(2)
        if known is None:
            raise Unsupported("PadV2 with a value that is known only when the model runs")
        exact = known.reshape(-1)[0]
        value = float(exact)
        if value != exact and value == value:
            raise Unsupported(f"PadV2 with the integer {exact}, which no double is")
    return c.b.pad(x, padding=pairs, value=value)


def _mirrored(c: Context, x: Value, pairs: Sequence[tuple[Dim, Dim]]) -> Value:
    """Mirrored with the border: b a | a b c | c b."""
    for axis, (before, after) in enumerate(pairs):
        extent = x.type.shape[axis]
        parts = (c.slice(x, axis, 0, before), x, c.slice(x, axis, extent - after, extent))
        turned = [x if p is x else c.b.flip(p, axes=(axis,)) for p in parts]
        kept = [t for t, n in zip(turned, (before, 1, after), strict=True) if n != 0]
        x = kept[0] if len(kept) == 1 else c.b.concat(*kept, axis=axis)
    return x


@translates("DepthToSpace", "SpaceToDepth")
def depth(c: Context, n: Call) -> Value:
    """Channels as blocks of pixels, or back."""
    if n.text("data_format", "NHWC") != "NHWC":
        raise Unsupported(f"{n.op} of {n.text('data_format')}")
    make = c.b.depth_to_space if n.op == "DepthToSpace" else c.b.space_to_depth
    x = make(c.b.transpose(n[0], perm=(0, 3, 1, 2)), block=n.int("block_size"))
    return c.b.transpose(x, perm=(0, 2, 3, 1))


@translates("MatrixBandPart")
def band(c: Context, n: Call) -> Value:
    """A matrix without what is far from its diagonal."""
    x = n[0]
    (lower,), (upper,) = n.sizes(1, "bands"), n.sizes(2, "bands")
    if not (isinstance(lower, int) and lower < 0):
        x = c.b.triangle(x, upper=True, diagonal=-lower)
    if not (isinstance(upper, int) and upper < 0):
        x = c.b.triangle(x, upper=False, diagonal=upper)
    return x


@translates("SpaceToBatchND")
def space_to_batch(c: Context, n: Call) -> Value:
    """Blocks of the spatial axes as more of the batch."""
    blocks, amounts = n.numbers(1, "blocks"), n.sizes(2, "amounts")
    x, count = n[0], len(n.numbers(1, "blocks"))
    rest = x.type.rank - count - 1
    pairs = [(0, 0), *zip(amounts[::2], amounts[1::2], strict=True), *[(0, 0)] * rest]
    x = c.b.pad(x, padding=tuple(pairs))
    batch, *spatial = x.type.shape[: count + 1]
    apart: list[Dim] = [batch]
    for extent, block in zip(spatial, blocks, strict=True):
        apart += [floordiv(extent, block), block]
    tail = x.type.shape[count + 1 :]
    x = c.b.reshape(x, shape=(*apart, *tail))
    first = range(1, 2 * count, 2)
    order = [*(i + 1 for i in first), 0, *first, *range(2 * count + 1, x.type.rank)]
    x = c.b.transpose(x, perm=tuple(order))
    outer = product([batch, *blocks])
    return c.b.reshape(x, shape=(outer, *(floordiv(e, b) for e, b in zip(spatial, blocks, strict=True)), *tail))


@translates("BatchToSpaceND")
def batch_to_space(c: Context, n: Call) -> Value:
    """Parts of the batch as blocks of the spatial axes, cropped."""
    blocks, crops = n.numbers(1, "blocks"), n.sizes(2, "crops")
    x, count = n[0], len(blocks)
    batch, *spatial = x.type.shape[: count + 1]
    tail = x.type.shape[count + 1 :]
    outer = floordiv(batch, product(blocks))
    x = c.b.reshape(x, shape=(*blocks, outer, *spatial, *tail))
    order = [count]
    for i in range(count):
        order += [count + 1 + i, i]
    x = c.b.transpose(x, perm=(*order, *range(2 * count + 1, x.type.rank)))
    x = c.b.reshape(x, shape=(outer, *(e * b for e, b in zip(spatial, blocks, strict=True)), *tail))
    for i, (low, high) in enumerate(zip(crops[::2], crops[1::2], strict=True)):
        x = c.slice(x, i + 1, low, x.type.shape[i + 1] - high)
    return x
