"""Attention with the heads side by side, as projections leave them: what runtimes offer as one operator."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from dragoman.ir.dims import Dim, floordiv, same
from dragoman.ir.op import Arithmetic, Array, Op, Sample, TensorType, require, same_dtype, sample
from dragoman.ir.ops.attention import Attention

if TYPE_CHECKING:
    from dragoman.ir.builder import Builder
    from dragoman.ir.graph import Value


class MultiHeadAttention(Op, name="multi_head_attention"):
    """`attention` of queries, keys and values whose last axis is heads × depth.

    query: [batch, l, heads·d]   key: [batch, s, key_heads·d]   value: [batch, s, key_heads·dv]   ->
    [batch, l, heads·dv]. Attributes as in `attention`. Vaswani et al. 2017 (arXiv:1706.03762), section 3.2.2.
    """

    heads: int
    key_heads: int
    scale: float | None = None
    causal: bool = False

    def infer(self, query: TensorType, key: TensorType, value: TensorType) -> TensorType:
        """Three axes; heads divide extents; what `attention` asks of the heads."""
        same_dtype(query, key, value)
        require(query.rank == key.rank == value.rank == 3, "query, key and value need three axes")
        require(self.heads > 0 and self.key_heads > 0, f"{self.heads} heads, {self.key_heads} heads of keys")
        whole = Attention(scale=self.scale, causal=self.causal)
        given = zip((query, key, value), (self.heads, self.key_heads, self.key_heads), strict=True)
        y = whole.infer(*(t.with_shape(_apart(t.shape, n)) for t, n in given))
        batch, heads, length, depth = y.shape
        return query.with_shape((batch, length, heads * depth))

    def reference(self, m: Arithmetic, query: Array, key: Array, value: Array) -> Array:
        """`attention` on heads taken apart."""

        def apart(x: Array, heads: int) -> Array:
            batch, length, width = x.shape
            return m.move(lambda a: a.reshape(batch, length, heads, width // heads).swapaxes(1, 2), x)

        whole = Attention(scale=self.scale, causal=self.causal)
        y = whole.reference(m, apart(query, self.heads), apart(key, self.key_heads), apart(value, self.key_heads))
        batch, heads, length, depth = y.shape
        return m.move(lambda a: np.swapaxes(a, 1, 2).reshape(batch, length, heads * depth), y)

    def decompose(self, b: Builder, query: Value, key: Value, value: Value) -> Value:
        """Heads taken apart, attention, heads put together."""
        given = zip((query, key, value), (self.heads, self.key_heads, self.key_heads), strict=True)
        apart = [b.transpose(b.reshape(v, shape=_split(v.type.shape, n)), perm=(0, 2, 1, 3)) for v, n in given]
        y = b.transpose(b.attention(*apart, scale=self.scale, causal=self.causal), perm=(0, 2, 1, 3))
        *lead, heads, depth = y.type.shape
        return b.reshape(y, shape=(*lead, heads * depth))

    def factor(self, depth: int) -> float:
        """What the scores are multiplied by."""
        return 1 / math.sqrt(max(depth, 1)) if self.scale is None else self.scale

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Plain, with shared heads, causal, another depth of values."""
        yield sample("f32[2,5,12]", "f32[2,6,12]", "f32[2,6,9]", heads=3, key_heads=3)
        yield sample("f32[2,5,16]", "f32[2,5,8]", "f32[2,5,8]", heads=4, key_heads=2, causal=True, scale=0.3)
        yield sample("f64[1,1,4]", "f64[1,3,4]", "f64[1,3,4]", heads=1, key_heads=1, scale=1.0)


def _split(shape: tuple[Dim, ...], heads: int) -> tuple[Dim, ...]:
    batch, length, width = shape
    require(same(floordiv(width, heads) * heads, width), f"{heads} heads do not divide {width}")
    return batch, length, heads, floordiv(width, heads)


def _apart(shape: tuple[Dim, ...], heads: int) -> tuple[Dim, ...]:
    batch, length, own, depth = _split(shape, heads)
    return batch, own, length, depth
