"""Constants, and tensors of one value."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from dragoman.frontends.onnx import known as k
from dragoman.frontends.onnx.context import Context
from dragoman.frontends.tensorflow.call import Call
from dragoman.frontends.tensorflow.operands import Tensor
from dragoman.frontends.tensorflow.registry import translates
from dragoman.ir.dims import Dim, maximum
from dragoman.ir.errors import Malformed
from dragoman.ir.graph import Value
from dragoman.ir.types import F64, I64, STRING
from dragoman.ir.weights import ArrayWeight

_FEW = 16  # elements of a constant that is no weight


@translates("Const")
def const(c: Context, n: Call) -> Tensor:
    """An array of the model."""
    try:
        array = tf.make_ndarray(n.node.attr["value"].tensor)
    except (TypeError, ValueError) as error:
        raise Malformed(f"the constant {n.node.name!r}: {error}") from None
    dtype = n.dtype("dtype")
    if dtype == STRING:
        array = np.array([_text(v) for v in array.reshape(-1)], object).reshape(array.shape)
    if array.size <= _FEW or (dtype.is_integer and array.size <= k.MOST and array.ndim <= 1):
        return c.of_known(k.array_of(array), dtype)
    return Tensor.of(c.scope.root.graph.add_weight(n.node.name.replace("/", "."), ArrayWeight(array)))


def _text(value: object) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


@translates("Fill")
def fill(c: Context, n: Call) -> Value:
    """One value everywhere."""
    return filled(c, n, n.sizes(0, "extents"), n[1])


@translates("ZerosLike", "OnesLike")
def like(c: Context, n: Call) -> Value:
    """0 or 1 everywhere."""
    type = n.type(0)
    return c.full(type.shape, int(n.op == "OnesLike"), type.dtype)


def filled(c: Context, n: Call, shape: list[Dim], value: Value) -> Value:
    """One value in some shape."""
    return c.broadcast(value, shape)


@translates("Range")
def range_(c: Context, n: Call) -> Value:
    """From a start in steps to a limit that is not reached."""
    found = [n.dims(i) for i in range(3)]
    start, limit, step = (f[0] if f else None for f in found)
    dtype = n.type(0).dtype
    if start is not None and limit is not None and step == 1:
        row = c.b.iota(size=maximum(limit - start, 0), dtype=dtype)
        return row if start == 0 else c.b.add(row, c.b.extent(start, dtype))
    span = c.b.div(c.cast(c.b.sub(n[1], n[0]), F64), c.cast(n[2], F64))
    count = c.cast(c.b.maximum(c.b.ceil(span), 0.0), I64)
    places = c.cast(c.b.dynamic_iota(count, size=c.fresh("range")), dtype)
    return c.b.add(c.b.mul(places, n[2]), n[0])
