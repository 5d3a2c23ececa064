"""Reductions over axes, cumulative sums, and places of extremes."""

from __future__ import annotations

from collections.abc import Callable

from dragoman.frontends.onnx.context import Context
from dragoman.frontends.tensorflow.call import Call
from dragoman.frontends.tensorflow.registry import translates
from dragoman.ir.dims import product
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.types import I32

_KINDS = {
    "All": "reduce_all", "Any": "reduce_any", "Max": "reduce_max", "Min": "reduce_min",
    "Prod": "reduce_prod", "Sum": "reduce_sum", "EuclideanNorm": "reduce_l2",
}  # fmt: skip


def _reduction(name: str) -> Callable[[Context, Call], Value]:
    def translate(c: Context, n: Call) -> Value:
        x = n[0]
        axes = tuple(dict.fromkeys(a % max(x.type.rank, 1) for a in n.numbers(1, "axes")))
        if not axes:  # each element is a set of its own
            return c.b.abs(x) if n.op == "EuclideanNorm" else x
        return getattr(c.b, name)(x, axes=axes, keepdims=n.flag("keep_dims"))

    return translate


for _operator, _name in _KINDS.items():
    translates(_operator)(_reduction(_name))


@translates("Mean")
def mean(c: Context, n: Call) -> Value:
    """The sum over the count; of integers toward zero."""
    x, keepdims = n[0], n.flag("keep_dims")
    axes = tuple(dict.fromkeys(a % max(x.type.rank, 1) for a in n.numbers(1, "axes")))
    if not axes or not x.type.dtype.is_integer:
        return c.b.reduce_mean(x, axes=axes, keepdims=keepdims) if axes else x
    count = product([x.type.shape[a] for a in axes])
    return c.b.div(c.b.reduce_sum(x, axes=axes, keepdims=keepdims), c.b.extent(count, x.type.dtype))


@translates("ArgMax", "ArgMin")
def arg(c: Context, n: Call) -> Value:
    """Where the extreme is, the first of several."""
    (axis,) = n.numbers(1, "axes")
    make = c.b.argmax if n.op == "ArgMax" else c.b.argmin
    return c.cast(make(n[0], axis=axis), n.dtype("output_type"))


@translates("Cumsum", "Cumprod")
def cumulative(c: Context, n: Call) -> Value:
    """Running sums or products."""
    (axis,) = n.numbers(1, "axes")
    make = c.b.cumsum if n.op == "Cumsum" else c.b.cumprod
    return make(n[0], axis=axis, exclusive=n.flag("exclusive"), reverse=n.flag("reverse"))


@translates("TopKV2")
def top_k(c: Context, n: Call) -> list[Value]:
    """The largest along the last axis, with their places."""
    (k,) = n.sizes(1, "a number of results")
    values, places = c.b.topk(n[0], k=k, axis=-1)
    return [values, c.cast(places, n.dtype("index_type")) if n.has("index_type") else c.cast(places, I32)]


@translates("L2Loss")
def l2_loss(c: Context, n: Call) -> Value:
    """Half the sum of squares."""
    x = n[0]
    if not x.type.dtype.is_float:
        raise Unsupported("L2Loss of integers")
    return c.b.mul(c.b.reduce_sum(c.b.square(x), axes=tuple(range(x.type.rank))), 0.5)
