"""Products and convolutions, in the dtype that the equation asks for."""

from __future__ import annotations

from typing import Any

from dragoman.frontends.jax.context import Context
from dragoman.frontends.jax.table.registry import translates
from dragoman.frontends.jax.xla.contraction import dot_general
from dragoman.frontends.jax.xla.convolution import Axes, Window, convolution
from dragoman.ir.graph import Value
from dragoman.ir.types import BOOL, DType


def computing(x: DType, y: DType, result: DType) -> DType:
    """The dtype to multiply and sum in: the widest of the three, since a cast to a wider one loses nothing."""
    return max((result, x, y), key=lambda d: (d.is_complex, d.is_float, d.kind != "bool", d.bits))


@translates("dot_general")
def dot(c: Context, x: Value, y: Value, *, dimension_numbers: Any, **_: Any) -> Value:
    """XLA's general product."""
    contracted, batch = dimension_numbers
    wide = computing(x.type.dtype, y.type.dtype, c.type.dtype)
    if wide == BOOL:
        return dot_general(c.b, x, y, contracted, batch)
    return c.fit(dot_general(c.b, c.cast(x, wide), c.cast(y, wide), contracted, batch))


@translates("conv_general_dilated")
def conv(
    c: Context,
    x: Value,
    w: Value,
    *,
    window_strides: Any,
    padding: Any,
    lhs_dilation: Any,
    rhs_dilation: Any,
    dimension_numbers: Any,
    feature_group_count: int,
    batch_group_count: int,
    **_: Any,
) -> Value:
    """XLA's general convolution."""
    axes = Axes(*(tuple(spec) for spec in dimension_numbers))
    window = Window(
        tuple(int(s) for s in window_strides),
        tuple((c.dim(low), c.dim(high)) for low, high in padding),
        tuple(int(d) for d in lhs_dilation),
        tuple(int(d) for d in rhs_dilation),
    )
    wide = computing(x.type.dtype, w.type.dtype, c.type.dtype)
    result = convolution(
        c.b,
        c.cast(x, wide),
        c.cast(w, wide),
        axes,
        window,
        groups=feature_group_count,
        batch_groups=batch_group_count,
    )
    return c.fit(result)
