"""Views and rearrangements. Sizes come from torch's own record of the result, so that a −1 needs no arithmetic here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.fx import Node

from dragoman.frontends.pytorch.context import Context, Number, Scalar
from dragoman.frontends.pytorch.table.registry import translates
from dragoman.ir.dims import Dim, DimExpr, bounds, floordiv, same
from dragoman.ir.errors import Unsupported
from dragoman.ir.extents import slice_bounds
from dragoman.ir.graph import Value
from dragoman.ir.types import I64

FOREVER = 2**62  # an end beyond any extent: torch writes 2^63 − 1 for an open slice


def axis_of(x: Value, dim: int) -> int:
    """A possibly negative dimension as an axis of x; a scalar has axis 0 in torch."""
    return dim % max(x.type.rank, 1)


# ---- reshapes ------------------------------------------------------------------------------------------------


@translates(
    *("aten.view.default", "aten.reshape.default", "aten._unsafe_view.default", "aten.view_copy.default"),
    *("aten.flatten.using_ints", "aten.unflatten.int", "aten.view_as.default", "aten.reshape_as.default"),
    *("aten.squeeze.default", "aten.squeeze.dim", "aten.squeeze.dims", "aten.unsqueeze.default", "aten.ravel.default"),
    *("aten.unsqueeze_copy.default", "aten.squeeze_copy.dim", "aten._reshape_alias.default", "aten.atleast_1d.default"),
    *("aten.atleast_2d.default", "aten.atleast_3d.default", "aten._reshape_copy.default"),
)
def reshape(c: Context, x: Value, *args: Any, **kwargs: Any) -> Value:
    """x in the shape of the result."""
    return c.reshape(x, c.type.shape)


@translates("aten.expand.default", "aten.expand_as.default", "aten.broadcast_to.default", "aten.expand_copy.default")
def expand(c: Context, x: Value, *args: Any, **kwargs: Any) -> Value:
    """x broadcast to the shape of the result."""
    return c.broadcast(x, c.type.shape)


@translates("aten.broadcast_tensors.default", "aten.meshgrid.default", "aten.meshgrid.indexing")
def broadcast_tensors(c: Context, xs: Sequence[Value], indexing: str = "ij") -> list[Value]:
    """Each tensor in the common shape; a mesh gives each vector an axis of its own first."""
    mesh = "meshgrid" in str(c.node.target if c.node else "")
    results: list[Value] = []
    for index, (x, type) in enumerate(zip(xs, c.types, strict=True)):
        if mesh:
            axis = 1 - index if indexing == "xy" and index < 2 and len(xs) > 1 else index
            x = c.reshape(x, tuple(x.type.size if a == axis else 1 for a in range(type.rank)))
        results.append(c.broadcast(x, type.shape))
    return results


# ---- permutations --------------------------------------------------------------------------------------------


def permuted(c: Context, x: Value, perm: Sequence[int]) -> Value:
    """x with its axes in another order; nothing for the order that it has."""
    return x if list(perm) == list(range(x.type.rank)) else c.b.transpose(x, perm=tuple(perm))


def order_of(operator: str, rank: int, args: Sequence[Any]) -> list[int] | None:
    """The order of axes that an operator gives, None if it is no permutation."""
    order = list(range(rank))
    name = operator.split(".")[1]
    if name in ("permute", "permute_copy"):
        return [int(d) % rank for d in args[0]] if rank else []
    if name in ("transpose", "transpose_copy", "swapaxes", "swapdims"):
        first, second = (int(d) % max(rank, 1) for d in args[:2])
        if rank:
            order[first], order[second] = order[second], order[first]
        return order
    if name in ("t", "numpy_T", "matrix_H", "adjoint", "mT", "mH"):
        if name == "numpy_T":
            return order[::-1]
        return [*order[:-2], *order[:-3:-1]] if rank >= 2 else order
    if name in ("movedim", "moveaxis"):
        return _moved(rank, *(a if isinstance(a, list) else [a] for a in args[:2]))
    return None


def _moved(rank: int, source: Sequence[int], destination: Sequence[int]) -> list[int]:
    taken = {d % rank: s % rank for s, d in zip(source, destination, strict=True)}
    rest = iter(axis for axis in range(rank) if axis not in taken.values())
    return [taken[at] if at in taken else next(rest) for at in range(rank)]


@translates(
    *("aten.permute.default", "aten.permute_copy.default", "aten.transpose.int", "aten.transpose_copy.int"),
    *("aten.swapaxes.default", "aten.swapdims.default", "aten.t.default", "aten.numpy_T.default", "aten.mT.default"),
    *("aten.movedim.int", "aten.movedim.intlist", "aten.moveaxis.int", "aten.moveaxis.intlist", "aten.adjoint.default"),
    *("aten.matrix_H.default", "aten.mH.default"),
)
def permute(c: Context, x: Value, *args: Any) -> Value:
    """Axes in another order."""
    operator = str(c.node.target if c.node else "")
    if x.type.dtype.is_complex and operator.split(".")[1] in ("adjoint", "mH", "matrix_H"):
        raise Unsupported("the conjugate of a complex matrix")
    order = order_of(operator, x.type.rank, args)
    assert order is not None
    return permuted(c, x, order)


# ---- slices ---------------------------------------------------------------------------------------------------


def sliced(c: Context, x: Value, axis: int, start: Dim, stop: Dim, step: int = 1) -> Value:
    """x[start:stop:step] along an axis, bounds within the extent; nothing for all of it."""
    if isinstance(start, int) and start == 0 and step == 1 and same(stop, x.type.shape[axis]):
        return x
    return c.b.slice(x, axes=(axis,), starts=(start,), stops=(stop,), steps=(step,))


def known_dim(x: Scalar | None, what: str) -> Dim | None:
    """A size; refuses one that is known only when the model runs."""
    if isinstance(x, Number):
        raise Unsupported(f"{what} is taken from the values of a tensor")
    assert x is None or isinstance(x, (int, DimExpr))
    return x


def bounds_of(extent: Dim, start: Scalar | None, end: Scalar | None) -> tuple[Dim, Dim]:
    """The bounds of a torch slice within the extent."""
    first, last = known_dim(start, "the start of the slice"), known_dim(end, "the end of the slice")
    return slice_bounds(first, None if isinstance(last, int) and last >= FOREVER else last, extent)


@translates("aten.slice.Tensor", "aten.slice_copy.Tensor")
def slice_(
    c: Context, x: Value, dim: int = 0, start: Scalar | None = None, end: Scalar | None = None, step: int = 1
) -> Value:
    """x[start:end:step] along one axis."""
    axis = axis_of(x, dim)
    first, last = bounds_of(x.type.shape[axis], start, end)
    return sliced(c, x, axis, first, last, step)


@translates("aten.narrow.default", "aten.narrow_copy.default")
def narrow(c: Context, x: Value, dim: int, start: Scalar, length: Dim) -> Value:
    """`length` entries from `start` on."""
    axis = axis_of(x, dim)
    first = from_end(known_dim(start, "the start of the slice"), x.type.shape[axis])
    return sliced(c, x, axis, first, first + length)


def from_end(index: Dim | None, extent: Dim) -> Dim:
    """An index of which a negative one counts from the end."""
    assert index is not None
    return index + extent if bounds(index)[1] < 0 else index


@translates("aten.select.int", "aten.select_copy.int")
def select(c: Context, x: Value, dim: int, index: Scalar) -> Value:
    """One entry along an axis, which goes."""
    axis = axis_of(x, dim)
    if isinstance(index, Number):
        place = c.scalar(index, I64)
        return c.b.take(x, place, axis=axis)
    at = from_end(known_dim(index, "the index"), x.type.shape[axis])
    return c.reshape(sliced(c, x, axis, at, at + 1), c.type.shape)


def pieces(c: Context, x: Value, axis: int, sizes: Sequence[Dim]) -> list[Value]:
    """x cut along an axis."""
    return [x] if len(sizes) == 1 else list(c.b.split(x, axis=axis, sizes=tuple(sizes)))


@translates(
    *("aten.split.Tensor", "aten.split.sizes", "aten.split_with_sizes.default", "aten.chunk.default"),
    *(
        "aten.unsafe_split.Tensor",
        "aten.unsafe_chunk.default",
        "aten.tensor_split.sections",
        "aten.tensor_split.indices",
    ),
    *("aten.unsafe_split_with_sizes.default", "aten.split_copy.Tensor", "aten.split_with_sizes_copy.default"),
)
def split(c: Context, x: Value, sizes: Any, dim: int = 0) -> list[Value]:
    """x cut along an axis into parts of the sizes that torch says."""
    axis = axis_of(x, dim)
    return pieces(c, x, axis, [t.shape[axis] for t in c.types])


@translates("aten.hsplit.int", "aten.hsplit.array")
def hsplit(c: Context, x: Value, sections: Any) -> list[Value]:
    """x cut along its second axis, a vector along its only one."""
    return split(c, x, sections, 0 if x.type.rank == 1 else 1)


@translates("aten.vsplit.int", "aten.vsplit.array")
def vsplit(c: Context, x: Value, sections: Any) -> list[Value]:
    """x cut along its first axis."""
    return split(c, x, sections, 0)


@translates("aten.unbind.int", "aten.unbind_copy.int")
def unbind(c: Context, x: Value, dim: int = 0) -> list[Value]:
    """Every entry along an axis, which goes."""
    axis = axis_of(x, dim)
    return [c.reshape(p, t.shape) for p, t in zip(pieces(c, x, axis, [1] * len(c.types)), c.types, strict=True)]


# ---- joining and repeating ---------------------------------------------------------------------------------------


@translates("aten.cat.default", "aten.concat.default", "aten.concatenate.default")
def cat(c: Context, xs: Sequence[Value], dim: int = 0) -> Value:
    """Tensors one after the other; an empty vector joins with anything, as torch allows."""
    kept = [x for x in xs if not (x.type.shape == (0,) and c.type.rank > 1)] or list(xs[:1])
    dtype = c.result_dtype(*xs)
    parts = [c.cast(x, dtype) for x in kept]
    return parts[0] if len(parts) == 1 else c.b.concat(*parts, axis=dim % c.type.rank)


@translates("aten.stack.default")
def stack(c: Context, xs: Sequence[Value], dim: int = 0) -> Value:
    """Tensors along a new axis."""
    dtype = c.result_dtype(*xs)
    return c.b.stack(*(c.cast(x, dtype) for x in xs), axis=dim % c.type.rank)


@translates("aten.hstack.default")
def hstack(c: Context, xs: Sequence[Value]) -> Value:
    """Tensors side by side."""
    wide = [c.reshape(x, (1,)) if x.type.rank == 0 else x for x in xs]
    return cat(c, wide, 0 if wide[0].type.rank == 1 else 1)


@translates("aten.vstack.default", "aten.row_stack.default")
def vstack(c: Context, xs: Sequence[Value]) -> Value:
    """Tensors one below the other."""
    return cat(c, [c.reshape(x, (1, x.type.size)) if x.type.rank < 2 else x for x in xs], 0)


@translates("aten.repeat.default", "aten.tile.default")
def repeat(c: Context, x: Value, repeats: Sequence[Dim]) -> Value:
    """x repeated along each axis, leading axes being added where there are more repeats than axes."""
    missing = len(repeats) - x.type.rank
    x = c.reshape(x, ((1,) * missing + x.type.shape)) if missing > 0 else x
    counts = (*(1,) * (x.type.rank - len(repeats)), *repeats)
    once = all(isinstance(n, int) and n == 1 for n in counts)
    return x if once else c.b.tile(x, repeats=counts)


@translates("aten.repeat_interleave.self_int")
def repeat_interleave(
    c: Context, x: Value, repeats: Dim, dim: int | None = None, output_size: Dim | None = None
) -> Value:
    """Each entry several times in place."""
    if dim is None:
        return c.b.repeat_interleave(c.reshape(x, (x.type.size,)), repeats=repeats, axis=0)
    return c.b.repeat_interleave(x, repeats=repeats, axis=axis_of(x, dim))


# ---- moving and mirroring ----------------------------------------------------------------------------------------


@translates("aten.flip.default")
def flip(c: Context, x: Value, dims: Sequence[int]) -> Value:
    """Axes turned around."""
    return c.b.flip(x, axes=tuple(sorted(axis_of(x, d) for d in dims)))


@translates("aten.fliplr.default")
def fliplr(c: Context, x: Value) -> Value:
    """The second axis turned around."""
    return c.b.flip(x, axes=(1,))


@translates("aten.flipud.default")
def flipud(c: Context, x: Value) -> Value:
    """The first axis turned around."""
    return c.b.flip(x, axes=(0,))


@translates("aten.roll.default")
def roll(c: Context, x: Value, shifts: Sequence[Dim], dims: Sequence[int] = ()) -> Value:
    """Entries moved on along axes, or through the flattened tensor."""
    if not dims:
        flat = c.reshape(x, (x.type.size,))
        return c.reshape(c.b.roll(flat, shifts=tuple(shifts), axes=(0,)), x.type.shape)
    return c.b.roll(x, shifts=tuple(shifts), axes=tuple(axis_of(x, d) for d in dims))


@translates("aten.rot90.default")
def rot90(c: Context, x: Value, k: int = 1, dims: Sequence[int] = (0, 1)) -> Value:
    """A plane turned by quarter turns."""
    first, second = (axis_of(x, d) for d in dims)
    perm = list(range(x.type.rank))
    perm[first], perm[second] = second, first
    turns = k % 4
    if turns == 0:
        return x
    if turns == 2:
        return c.b.flip(x, axes=tuple(sorted((first, second))))
    if turns == 1:
        return permuted(c, c.b.flip(x, axes=(second,)), perm)
    return c.b.flip(permuted(c, x, perm), axes=(second,))


# ---- triangles, diagonals, windows, channels ---------------------------------------------------------------------


@translates("aten.tril.default")
def tril(c: Context, x: Value, diagonal: Dim = 0) -> Value:
    """The lower triangle, zeros above."""
    return c.b.triangle(x, upper=False, diagonal=diagonal)


@translates("aten.triu.default")
def triu(c: Context, x: Value, diagonal: Dim = 0) -> Value:
    """The upper triangle, zeros below."""
    return c.b.triangle(x, upper=True, diagonal=diagonal)


@translates("aten.diagonal.default", "aten.diagonal_copy.default", "aten.linalg_diagonal.default")
def diagonal(c: Context, x: Value, offset: Dim = 0, dim1: int = 0, dim2: int = 1) -> Value:
    """The elements of a diagonal on a new last axis."""
    return c.b.diagonal(x, offset=offset, axis1=axis_of(x, dim1), axis2=axis_of(x, dim2))


@translates("aten.pixel_shuffle.default")
def pixel_shuffle(c: Context, x: Value, upscale_factor: int) -> Value:
    """Channels moved into space."""
    return _with_batch(c, x, 3, lambda y: c.b.depth_to_space(y, block=upscale_factor, mode="crd"))


@translates("aten.pixel_unshuffle.default")
def pixel_unshuffle(c: Context, x: Value, downscale_factor: int) -> Value:
    """Space moved into channels: c, then the place in the block."""
    r = downscale_factor
    *lead, channels, height, width = x.type.shape
    rank = len(lead)
    split = c.reshape(x, (*lead, channels, floordiv(height, r), r, floordiv(width, r), r))
    order = (*range(rank), rank, rank + 2, rank + 4, rank + 1, rank + 3)
    return c.reshape(c.b.transpose(split, perm=order), c.type.shape)


@translates("aten.channel_shuffle.default", "aten.native_channel_shuffle.default")
def channel_shuffle(c: Context, x: Value, groups: int) -> Value:
    """Channels of the groups interleaved."""
    batch, channels, *rest = x.type.shape
    split = c.reshape(x, (batch, groups, floordiv(channels, groups), *rest))
    return c.reshape(c.b.transpose(split, perm=(0, 2, 1, *range(3, 3 + len(rest)))), x.type.shape)


def _with_batch(c: Context, x: Value, core: int, function: Any) -> Value:
    """`function` of x with exactly one leading axis before the last `core` ones."""
    lead = x.type.shape[: x.type.rank - core]
    total: Dim = 1
    for extent in lead:
        total = total * extent
    merged = c.reshape(x, (total, *x.type.shape[x.type.rank - core :]))
    return c.reshape(function(merged), c.type.shape)


@translates("aten.unfold.default", "aten.unfold_copy.default")
def unfold(c: Context, x: Value, dimension: int, size: int, step: int) -> Value:
    """Windows along an axis, on a new last axis."""
    if x.type.rank == 0:
        return c.reshape(x, c.type.shape)
    axis, b = axis_of(x, dimension), c.b
    count = c.type.shape[axis]
    starts = b.mul(b.iota(size=count, dtype=I64), b.const(step, I64)) if step != 1 else b.iota(size=count, dtype=I64)
    places = b.add(b.reshape(starts, shape=(count, 1)), b.iota(size=size, dtype=I64))
    taken = b.take(x, places, axis=axis)  # the window comes right after the axis
    rank = x.type.rank
    order = [a for a in range(rank + 1) if a != axis + 1]
    return permuted(c, taken, [*order, axis + 1])


@translates("aten.as_strided.default", "aten.as_strided_copy.default")
def as_strided(
    c: Context, x: Value, size: Sequence[Dim], stride: Sequence[Dim], storage_offset: Dim | None = None
) -> Value:
    """Elements of the flattened tensor at offset + Σ index·stride; x must be laid out in order from its memory's
    start.
    """
    source = c.node.args[0] if c.node is not None else None
    memory = source.meta.get("val") if isinstance(source, Node) else None
    if memory is None or not memory.is_contiguous() or memory.storage_offset() != 0:
        raise Unsupported("as_strided of a tensor that is not laid out in order")
    b = c.b
    places = c.full((1,) * len(size), storage_offset or 0, I64)
    for axis, (extent, step) in enumerate(zip(size, stride, strict=True)):
        row = b.mul(b.iota(size=extent, dtype=I64), c.scalar(step, I64))
        places = b.add(places, b.reshape(row, shape=tuple(extent if a == axis else 1 for a in range(len(size)))))
    return b.take(c.reshape(x, (x.type.size,)), c.broadcast(places, size), axis=0)
