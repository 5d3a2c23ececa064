"""Views by strides, as reads at computed places. Only of tensors that lie in memory densely and in order, from its start."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.fx import Node

from dragoman.frontends.pytorch.context import Context
from dragoman.frontends.pytorch.table.registry import translates
from dragoman.frontends.pytorch.table.scatter import _along as put_along
from dragoman.ir.dims import Dim, product
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.types import I64


def _flat(c: Context, x: Value) -> Value:
    """x as the memory it lies in."""
    source = c.node.args[0] if c.node else None
    seen = source.meta.get("val") if isinstance(source, Node) else None
    if not isinstance(seen, torch.Tensor) or seen.is_sparse or not seen.is_contiguous() or seen.storage_offset() != 0:
        raise Unsupported("a view by strides of a tensor that is not dense and in order")
    if seen.untyped_storage().nbytes() != seen.numel() * seen.element_size():
        raise Unsupported("a view by strides of a part of a larger tensor")
    return c.reshape(x, (x.type.size,))


def _places(c: Context, sizes: Sequence[Dim], strides: Sequence[Dim], offset: Dim | None) -> Value:
    """Where in memory each element lies."""
    b = c.b
    total = b.extent(0 if offset is None else offset, I64)
    for axis, (size, stride) in enumerate(zip(sizes, strides, strict=True)):
        steps = b.mul(b.iota(size=size, dtype=I64), b.extent(stride, I64))
        total = b.add(total, b.reshape(steps, shape=(size, *(1,) * (len(sizes) - 1 - axis))))
    return c.broadcast(total, tuple(sizes))


@translates("aten.as_strided.default", "aten.as_strided_copy.default")
def as_strided(
    c: Context, x: Value, size: Sequence[Dim], stride: Sequence[Dim], storage_offset: Dim | None = None
) -> Value:
    """Element i of each axis lies i strides further on in memory."""
    return c.b.take(_flat(c, x), _places(c, size, stride, storage_offset), axis=0)


@translates("aten.as_strided_scatter.default", "prims.as_strided_scatter.default")
def as_strided_scatter(
    c: Context, x: Value, src: Value, size: Sequence[Dim], stride: Sequence[Dim], storage_offset: Dim | None = None
) -> Value:
    """x with src in place of that view."""
    flat, count = _flat(c, x), product(size)
    places = c.reshape(_places(c, size, stride, storage_offset), (count,))
    updates = c.reshape(c.cast(src, x.type.dtype), (count,))
    return c.reshape(put_along(c, flat, 0, places, updates, "none"), x.type.shape)
