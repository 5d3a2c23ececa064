"""Constants, extents and ranges in ONNX. Nothing here is a Constant node: constants are initializers, each written
once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dragoman.backends.onnx import types
from dragoman.backends.onnx.emitter import Emitter
from dragoman.backends.onnx.table import emits
from dragoman.ir.graph import Node
from dragoman.ir.types import I64

_LARGEST = 4096  # elements of a range that is written out; beyond that a Range node is smaller


@emits("constant")
def constant(e: Emitter, node: Node) -> str:
    """An initializer of rank 0."""
    op: Any = node.op
    return e.scalar(op.value, op.dtype)


@emits("dimension")
def dimension(e: Emitter, node: Node) -> str:
    """The extent from Shape, or a number."""
    op: Any = node.op
    if isinstance(op.dim, int):
        return e.scalar(op.dim, op.dtype)
    return e.cast_from(e.dims.scalar(op.dim), I64, op.dtype)


@emits("iota")
def iota(e: Emitter, node: Node) -> str:
    """A constant where it is short, else Range in i64, which is exact, as the dtype asked for."""
    op: Any = node.op
    if isinstance(op.size, int) and op.size <= _LARGEST:
        return e.constant(np.arange(op.size).astype(op.dtype.numpy), op.dtype)
    direct = types.objection("Range", e.opset, (op.dtype,)) is None and op.dtype.is_integer
    dtype = op.dtype if direct else I64
    limit = e.cast_from(e.dims.scalar(op.size), I64, dtype)
    return e.cast_from(e.op("Range", e.scalar(0, dtype), limit, e.scalar(1, dtype)), dtype, op.dtype)
