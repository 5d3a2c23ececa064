"""Quantisation in ONNX: QuantizeLinear and DequantizeLinear, decomposed where an opset lacks dtype or blocks."""

from __future__ import annotations

from typing import Any

from dragoman.backends.onnx import types
from dragoman.backends.onnx.emitter import Emitter
from dragoman.backends.onnx.table import emits
from dragoman.ir.graph import Node, Value
from dragoman.ir.op import normal_axis
from dragoman.ir.types import F32, U8


def _takes(op_type: str) -> Any:
    def where(node: Node, opset: int) -> str | None:
        op: Any = node.op
        x, scale, *rest = node.operands
        assert x is not None
        assert scale is not None
        if op.block and opset < 21:
            return "blocks begin at opset 21"
        if scale.type.dtype != F32:
            return "ONNX Runtime has kernels for scales in f32 only"
        quantised = node.result.type.dtype if op_type == "QuantizeLinear" else x.type.dtype
        zero_point = rest[0].type.dtype if rest and rest[0] is not None else quantised
        return types.objection(op_type, opset, (x.type.dtype, scale.type.dtype, zero_point))

    return where


def _attributes(node: Node, x: Value, scale: Value) -> dict[str, Any]:
    op: Any = node.op
    spread = scale.type.rank > 0
    return {"axis": normal_axis(op.axis, x.type.rank) if spread else None, "block_size": op.block or None}


@emits("quantize", where=_takes("QuantizeLinear"))
def quantize(e: Emitter, node: Node, x: Value, scale: Value, zero_point: Value | None = None) -> str:
    """QuantizeLinear. Before opset 21 only a zero point can tell the dtype, and one of zeros stands in for it."""
    dtype = node.result.type.dtype
    zero: Value | str | None = zero_point
    told = None
    if zero is None and e.opset >= 21:
        told = types.code(dtype)
    elif zero is None and dtype != U8:
        zero = e.scalar(0.0 if dtype.is_float else 0, dtype)
        if scale.type.rank:
            zero = e.op("Expand", zero, e.dims.shape(scale.type.shape))
    return e.op("QuantizeLinear", x, scale, zero, output_dtype=told, **_attributes(node, x, scale))


@emits("dequantize", where=_takes("DequantizeLinear"))
def dequantize(e: Emitter, node: Node, x: Value, scale: Value, zero_point: Value | None = None) -> str:
    """DequantizeLinear."""
    return e.op("DequantizeLinear", x, scale, zero_point, **_attributes(node, x, scale))
