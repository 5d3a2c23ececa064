"""Fourier transforms in ONNX: DFT, which holds complex numbers as pairs of real ones."""

from __future__ import annotations

from typing import Any

from dragoman.backends.onnx.emitter import Emitter
from dragoman.backends.onnx.table import emits
from dragoman.ir.graph import Node, Value
from dragoman.ir.op import normal_axis

_SMALL, _LARGEST = 1 << 8, 1 << 12  # terms


def _takes(node: Node, opset: int) -> str | None:
    """Where it pays: a product with a matrix is exact to f32, and the operator is not (off by 1e-4 for 20 terms)."""
    op: Any = node.op
    if not isinstance(op.size, int) or op.size > _LARGEST:
        return None
    # ONNX Runtime is fast for powers of two alone.
    if op.size <= _SMALL or op.size & (op.size - 1):
        return "a product with a matrix is as fast and more exact"
    return None


@emits("dft", since=17, where=_takes)
def dft(e: Emitter, node: Node, x: Value) -> str:
    """DFT; its axis is an input from opset 20 on."""
    op: Any = node.op
    axis = normal_axis(op.axis, x.type.rank)
    flags = {"inverse": int(op.inverse) or None, "onesided": int(op.onesided) or None}
    length = e.dims.scalar(op.size) if op.inverse and op.onesided else None
    if e.opset >= 20:
        return e.op("DFT", x, length, e.i64(axis), **flags)
    return e.op("DFT", x, length, axis=axis, **flags)
