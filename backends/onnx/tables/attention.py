"""Attention and rotary embedding in ONNX, whole from opset 23 on; Attention with a float mask from 25 on.

ONNX Runtime 1.32 on CPU runs Attention as fast as its decomposition or faster: 12.5 against 15.3 ms with a bool mask
at 12 heads × 512², 12.5 against 14.5 ms causal, 12.8 against 12.0 to 13 ms without a mask (one thread; 26.7 against
31.4 ms with a float mask at 4 × 12 × 384²). So it is used wherever its meaning is ours.
"""

from __future__ import annotations

import math
from typing import Any

from dragoman.backends.onnx.emitter import Emitter
from dragoman.backends.onnx.table import emits, requires
from dragoman.backends.onnx.tables.reduce import reduced
from dragoman.ir.dims import same
from dragoman.ir.graph import Node, Value
from dragoman.ir.types import BOOL, same_shape


def _takes_attention(node: Node, opset: int) -> str | None:
    op: Any = node.op
    query, key, value, *rest = node.operands
    assert query is not None
    assert key is not None
    assert value is not None
    mask = rest[0] if rest else None
    if query.type.rank != 4 or not all(same(query.type.shape[0], v.type.shape[0]) for v in (key, value)):
        return "ONNX's Attention takes rank 4 and one batch"
    if op.softcap:
        return "ONNX's Attention caps after masking"
    if mask is not None and (op.causal or mask.type.rank < 2 or op.empty_rows != "zero"):
        return "ONNX leaves open what a row with nothing to attend to gives"
    if mask is not None and not same(mask.type.shape[-1], key.type.shape[-2]):
        return "ONNX's Attention pads a mask along the keys instead of stretching it"
    if mask is not None and mask.type.dtype != BOOL and opset < 25:
        # A row of the lowest finite number, as models mask padding, attends to all keys evenly.
        return "ONNX Runtime gives 0 for a row masked by large numbers before opset 25"
    if op.scale is None and not isinstance(query.type.shape[-1], int):
        return "the scale depends on a dynamic extent"
    return requires("Attention", runs=True)(node, opset)


@emits("attention", since=23, where=_takes_attention)
def attention(e: Emitter, node: Node, query: Value, key: Value, value: Value, mask: Value | None = None) -> str:
    """Attention; rows that a mask empties are set to 0 afterwards, whatever the runtime makes of them."""
    op: Any = node.op
    scale = op.scale if op.scale is not None else 1 / math.sqrt(int(query.type.shape[-1]))
    given: Value | str | None = mask
    length = query.type.shape[-2]
    if mask is not None and e.opset < 25 and not same(mask.type.shape[-2], length):
        given = e.op("Expand", mask, e.dims.shape((length, 1)))  # until then ONNX Runtime wants a row for each query
    y = e.op("Attention", query, key, value, given, scale=float(scale), is_causal=int(op.causal) or None)
    if mask is None:
        return y
    dtype = query.type.dtype
    last = (mask.type.rank - 1,)
    if mask.type.dtype == BOOL:
        return e.op("Where", reduced(e, "ReduceMax", mask, last, True), y, e.scalar(0.0, dtype))
    peak = reduced(e, "ReduceMax", mask, last, True)
    return e.op("Where", e.op("Equal", peak, e.scalar(-math.inf, dtype)), e.scalar(0.0, dtype), y)


def _takes_rotary(node: Node, opset: int) -> str | None:
    x, cos, _ = node.operands
    assert x is not None
    assert cos is not None
    depth = x.type.shape[-1]
    batch, _, length, _ = x.type.shape if x.type.rank == 4 else (None,) * 4
    if batch is None or length is None or not isinstance(depth, int):
        return "ONNX's RotaryEmbedding takes rank 4"
    if not same_shape(cos.type.shape, (batch, length, depth // 2)):
        return "ONNX's RotaryEmbedding takes angles [batch, length, depth/2]"
    return requires("RotaryEmbedding")(node, opset)


@emits("rotary_embedding", since=23, where=_takes_rotary)
def rotary_embedding(e: Emitter, node: Node, x: Value, cos: Value, sin: Value) -> str:
    """RotaryEmbedding."""
    op: Any = node.op
    return e.op("RotaryEmbedding", x, cos, sin, interleaved=int(op.interleaved) or None)
