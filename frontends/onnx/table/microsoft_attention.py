"""Attention of com.microsoft: what ONNX Runtime's own optimiser and its exporters make of transformers."""

from __future__ import annotations

from dragoman.frontends.onnx.call import Call
from dragoman.frontends.onnx.context import Context
from dragoman.frontends.onnx.registry import MICROSOFT, translates
from dragoman.frontends.onnx.table.matmul import multiplied
from dragoman.ir.dims import Dim, floordiv
from dragoman.ir.errors import Malformed, Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.types import BOOL


def _heads(c: Context, x: Value, heads: int) -> Value:
    """[batch, length, heads·depth] as [batch, heads, length, depth]."""
    batch, length, width = x.type.shape
    split = c.b.reshape(x, shape=(batch, length, heads, floordiv(width, heads)))
    return c.b.transpose(split, perm=(0, 2, 1, 3))


def _joined(c: Context, y: Value) -> Value:
    batch, heads, length, depth = y.type.shape
    return c.b.reshape(c.b.transpose(y, perm=(0, 2, 1, 3)), shape=(batch, length, heads * depth))


def _added(c: Context, n: Call, mask: Value | None, bias: Value | None) -> Value | None:
    """What is added to the scores: a bias, and the mask's number where a key of a row is padding."""
    if mask is None:
        return bias
    if mask.type.rank != 2:
        raise Unsupported(f"{n.op} with a mask of {mask.type}: one number for each key is understood")
    batch, keys = mask.type.shape
    dtype = n.type(0).dtype
    seen = mask if mask.type.dtype == BOOL else c.b.not_equal(mask, 0)
    hidden = c.b.where(seen, c.const(0.0, dtype), c.const(n.float("mask_filter_value", -10000.0), dtype))
    hidden = c.b.reshape(hidden, shape=(batch, 1, 1, keys))
    return hidden if bias is None else c.b.add(bias, hidden)


def _attended(c: Context, n: Call, parts: list[Value], heads: int, added: Value | None) -> Value:
    causal = bool(n.int("unidirectional", 0))
    if causal and added is not None:
        raise Unsupported(f"{n.op} with a mask, that is causal too: which number hides both is not defined")
    scale = n.float("scale", 0.0) or None
    query, key, value = (_heads(c, x, heads) for x in parts)
    return _joined(c, c.b.attention(query, key, value, added, scale=scale, causal=causal, empty_rows="nan"))


def _refuse_state(n: Call, *indices: int) -> None:
    if any(n.has(i) for i in indices) or any(n.wants(i) for i in range(1, len(n.outputs))):
        raise Unsupported(f"{n.op} with past keys and values")


@translates("MultiHeadAttention", domain=MICROSOFT)
def multi_head_attention(c: Context, n: Call) -> Value:
    """Heads side by side in one axis; a bias for queries, keys and values one after the other."""
    _refuse_state(n, 6, 7, 8, 9)
    if not (n.has(1) and n.has(2)) or any(n.type(i).rank != 3 for i in range(3)):
        raise Unsupported("MultiHeadAttention of keys and values in one tensor")
    parts = [n[i] for i in range(3)]
    if n.has(3):
        at: Dim = 0
        for i, x in enumerate(parts):
            width = x.type.shape[2]
            parts[i] = c.b.add(x, c.slice(n[3], 0, at, at + width))
            at = at + width
    return _attended(c, n, parts, n.int("num_heads"), _added(c, n, n.get(4), n.get(5)))


@translates("Attention", domain=MICROSOFT)
def attention(c: Context, n: Call) -> Value:
    """Queries, keys and values by one product of the input."""
    _refuse_state(n, 4, 6)
    if n.int("do_rotary", 0) or n.int("past_present_share_buffer", 0):
        raise Unsupported("Attention of com.microsoft with rotary embedding or a shared buffer")
    x = multiplied(c, n[0], n[1])
    x = c.b.add(x, n[2]) if n.has(2) else x
    width = x.type.shape[2]
    sizes: list[Dim] = list(n.ints("qkv_hidden_sizes", [])) or [floordiv(width, 3)] * 3
    if len(sizes) != 3:
        raise Malformed(f"Attention with {len(sizes)} hidden sizes")
    parts: list[Value] = []
    at: Dim = 0
    for size in sizes:
        parts.append(c.slice(x, 2, at, at + size))
        at = at + size
    return _attended(c, n, parts, n.int("num_heads"), _added(c, n, n.get(3), n.get(5)))
