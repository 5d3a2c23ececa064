"""Scaled dot-product attention, kept whole."""

from __future__ import annotations

from dragoman.frontends.pytorch.context import Context
from dragoman.frontends.pytorch.table.registry import translates
from dragoman.ir.dims import same
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.types import BOOL


@translates("aten.scaled_dot_product_attention.default")
def attention(
    c: Context,
    query: Value,
    key: Value,
    value: Value,
    attn_mask: Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Value:
    """softmax(scale·query·keyᵀ + mask)·value; a row that may look nowhere gives 0."""
    if dropout_p > 0:
        raise Unsupported("attention with dropout is random: call model.eval() first")
    rank = query.type.rank
    if rank == 2:  # one head
        query, key, value = (c.b.reshape(v, shape=(1, *v.type.shape)) for v in (query, key, value))
    if not enable_gqa and not same(query.type.shape[-3], key.type.shape[-3]):
        shared = (*query.type.shape[:-3], query.type.shape[-3])
        key, value = (c.broadcast(v, (*shared, *v.type.shape[-2:])) for v in (key, value))
    if attn_mask is not None and attn_mask.type.dtype != BOOL:
        attn_mask = c.cast(attn_mask, query.type.dtype)
    factor = None if scale is None else float(scale)
    result = c.b.attention(query, key, value, attn_mask, scale=factor, causal=bool(is_causal))
    return c.reshape(result, c.type.shape) if rank == 2 else result


def _fused(
    c: Context,
    query: Value,
    key: Value,
    value: Value,
    mask: Value | None,
    dropout_p: float,
    causal: bool,
    scale: float | None,
) -> tuple[Value | None, ...]:
    result = attention(c, query, key, value, mask, dropout_p, causal, scale)
    return (result, *(None for _ in _results(c)[1:]))


def _results(c: Context) -> tuple[object, ...]:
    value = c.node.meta.get("val") if c.node is not None else ()
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


@translates("aten._scaled_dot_product_flash_attention_for_cpu.default")
def flash_attention_for_cpu(
    c: Context,
    query: Value,
    key: Value,
    value: Value,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    attn_mask: Value | None = None,
    scale: float | None = None,
) -> tuple[Value | None, ...]:
    """torch's kernel for the CPU."""
    return _fused(c, query, key, value, attn_mask, dropout_p, is_causal, scale)


@translates("aten._scaled_dot_product_efficient_attention.default")
def efficient_attention(
    c: Context,
    query: Value,
    key: Value,
    value: Value,
    attn_bias: Value | None,
    compute_log_sumexp: bool,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
) -> tuple[Value | None, ...]:
    """torch's memory-efficient kernel."""
    return _fused(c, query, key, value, attn_bias, dropout_p, is_causal, scale)


@translates("aten._scaled_dot_product_flash_attention.default")
def flash_attention(
    c: Context,
    query: Value,
    key: Value,
    value: Value,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    return_debug_mask: bool = False,
    *,
    scale: float | None = None,
) -> tuple[Value | None, ...]:
    """torch's flash kernel."""
    return _fused(c, query, key, value, None, dropout_p, is_causal, scale)


@translates("aten._scaled_dot_product_attention_math.default")
def attention_math(
    c: Context,
    query: Value,
    key: Value,
    value: Value,
    attn_mask: Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    dropout_mask: Value | None = None,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> tuple[Value, None]:
    """The spelled-out form."""
    return attention(c, query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa), None
