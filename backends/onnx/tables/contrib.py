"""What ONNX Runtime has beyond ONNX, in the domain com.microsoft: for the target `ort`, where it is the faster form.

Measured by `benchmarks/ort_operators.py` (docs/benchmarks/ort_operators.md); what is not listed here was not faster.
"""

from __future__ import annotations

from typing import Any

from dragoman.backends.onnx import types
from dragoman.backends.onnx.emitter import Emitter
from dragoman.backends.onnx.table import emits
from dragoman.ir.dims import is_one, same
from dragoman.ir.graph import Node, Value
from dragoman.ir.types import F32, I32, I64

_DOMAIN = "com.microsoft"
_LEAST_CAUSAL = 256  # queries from which GroupQueryAttention was faster: 1.08 x at 128, 0.96 x at 512, 0.64 x at 1500


def _takes_heads(node: Node, opset: int) -> str | None:
    op: Any = node.op
    query, key, value = node.operands
    assert query is not None
    assert key is not None
    assert value is not None
    if query.type.dtype != F32:
        return f"ONNX Runtime's attention on a CPU is not for {query.type.dtype}"
    if op.scale == 0.0:
        return "ONNX Runtime takes a scale of 0 for none given"
    if not isinstance(query.type.shape[-1], int) or not same(key.type.shape[-1], value.type.shape[-1]):
        return "ONNX Runtime's attention wants one known depth"
    if op.causal:
        length = query.type.shape[1]
        if isinstance(length, int) and length < _LEAST_CAUSAL:
            return f"GroupQueryAttention is slower than its parts for {length} queries"
        return None if same(length, key.type.shape[1]) else "GroupQueryAttention wants as many keys as queries"
    return None if op.heads == op.key_heads else "MultiHeadAttention shares no heads"


@emits("multi_head_attention", where=_takes_heads, contrib=True)
def multi_head_attention(e: Emitter, node: Node, query: Value, key: Value, value: Value) -> str:
    """MultiHeadAttention, or GroupQueryAttention where each query sees the keys up to its own place."""
    op: Any = node.op
    scale = op.factor(int(query.type.shape[-1]) // op.heads)
    if not op.causal:
        return e.op("MultiHeadAttention", query, key, value, domain=_DOMAIN, num_heads=op.heads, scale=float(scale))
    batch, length, _ = query.type.shape
    total = e.op("Cast", e.dims.scalar(length), to=types.code(I32))
    last = e.op("Sub", total, e.scalar(1, I32))
    each = e.op("Expand", last, e.dims.shape((batch,)))
    y, *_ = e.ops(
        "GroupQueryAttention",
        [query, key, value, None, None, each, total],
        3,
        domain=_DOMAIN,
        num_heads=op.heads,
        kv_num_heads=op.key_heads,
        scale=float(scale),
    )
    return y


def _takes_angles(node: Node, opset: int) -> str | None:
    x, cos, _ = node.operands
    assert x is not None
    assert cos is not None
    if x.type.dtype != F32 or x.type.rank != 4 or cos.type.rank < 2:
        return "RotaryEmbedding is for f32 with batch, heads, length and depth"
    depth = x.type.shape[3]
    if not isinstance(depth, int) or not same(cos.type.shape[-1], depth // 2):
        return "RotaryEmbedding wants one angle for each pair"
    if not all(is_one(d) for d in cos.type.shape[:-2]) or not same(cos.type.shape[-2], x.type.shape[2]):
        return "RotaryEmbedding wants angles by place, the same for all of a batch"
    return None


@emits("rotary_embedding", where=_takes_angles, contrib=True)
def rotary_embedding(e: Emitter, node: Node, x: Value, cos: Value, sin: Value) -> str:
    """RotaryEmbedding with the angles as its cache, from place 0 on."""
    op: Any = node.op
    tables = [e.op("Reshape", v, e.i64([-1, int(v.type.shape[-1])])) if v.type.rank > 2 else v for v in (cos, sin)]
    first = e.constant(types.array([0], I64), I64)
    return e.op("RotaryEmbedding", x, first, *tables, domain=_DOMAIN, interleaved=int(op.interleaved) or None)
