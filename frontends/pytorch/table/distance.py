"""Distances between rows of two matrices."""

from __future__ import annotations

import math

from dragoman.frontends.pytorch.context import Context
from dragoman.frontends.pytorch.table.registry import translates
from dragoman.ir.graph import Value


@translates("aten._cdist_forward.default")
def cdist(c: Context, x: Value, y: Value, p: float, compute_mode: int | None = None) -> Value:
    """The p-norm of the difference of each row of x and each of y."""
    b = c.b
    *lead, rows, width = x.type.shape
    difference = b.sub(
        b.reshape(x, shape=(*lead, rows, 1, width)),
        b.reshape(y, shape=(*y.type.shape[:-2], 1, y.type.shape[-2], width)),
    )
    axes = (difference.type.rank - 1,)
    if p == 2:
        return b.reduce_l2(difference, axes=axes)
    if p == 1:
        return b.reduce_l1(difference, axes=axes)
    if math.isinf(p):
        return b.reduce_max(b.abs(difference), axes=axes)
    if p == 0:
        return b.reduce_sum(c.cast(b.not_equal(difference, 0.0), x.type.dtype), axes=axes)
    return b.power(b.reduce_sum(b.power(b.abs(difference), float(p)), axes=axes), 1.0 / p)
