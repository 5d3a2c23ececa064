"""Scaled dot-product attention, kept whole from the frameworks, and rotary position embedding."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from dragoman.ir.dims import Dim, floordiv, is_one, same
from dragoman.ir.errors import TypeRuleError
from dragoman.ir.guess import Guess, guess, operand_types, upstream
from dragoman.ir.op import Arithmetic, Array, Op, Sample, TensorType, operand, require, same_dtype, sample
from dragoman.ir.types import BOOL, DType, Shape, broadcast, same_shape

if TYPE_CHECKING:
    from dragoman.ir.builder import Builder
    from dragoman.ir.graph import Node, Value

_CHUNK = 1 << 20  # scores held at once: 8 MiB in float64, which stay in cache


class Attention(Op, name="attention", exact_field=False):
    """softmax(scale · query·keyᵀ + mask) · value, for each head.

    query: [*, heads, l, d]   key: [*, key_heads, s, d]   value: [*, key_heads, s, dv]
    mask: broadcasts to [*, heads, l, s]   ->   [*, heads, l, dv]
    `*` broadcasts; heads = g · key_heads, query heads g·i … g·i+g−1 sharing key head i. A bool mask tells where to look
    (it adds 0 or −∞), a float one is added. `causal` lets query i see the keys 0 … i. `softcap` c > 0 makes scores
    c·tanh(scores/c) before masking. `scale` is 1/√d unless given. A row with nothing to attend to gives 0 for
    `empty_rows="zero"` (torch's scaled_dot_product_attention) and NaN for "nan"; a score that is NaN makes its row NaN
    even where it is masked. Vaswani et al. 2017 (arXiv:1706.03762), eq. 1.
    """

    scale: float | None = None
    causal: bool = False
    softcap: float = 0.0
    empty_rows: str = "zero"

    def infer(
        self, query: TensorType, key: TensorType, value: TensorType, mask: TensorType | None = None
    ) -> TensorType:
        """Heads of keys divide heads of queries; depths and lengths agree."""
        same_dtype(query, key, value)
        require(query.dtype.is_float, f"attention over {query.dtype}")
        require(self.empty_rows in ("zero", "nan"), f"empty_rows={self.empty_rows!r} is neither zero nor nan")
        require(self.softcap >= 0, f"softcap={self.softcap} is negative")
        rank = query.rank
        require(rank >= 3 and key.rank == rank and value.rank == rank, "query, key and value need one rank from 3 up")
        require(same(query.shape[-1], key.shape[-1]), f"query depth {query.shape[-1]} is not key depth {key.shape[-1]}")
        require(
            same(key.shape[-2], value.shape[-2]), f"key length {key.shape[-2]} is not value length {value.shape[-2]}"
        )
        heads, key_heads = query.shape[-3], key.shape[-3]
        require(same(key_heads, value.shape[-3]), f"{key_heads} key heads, {value.shape[-3]} value heads")
        require(
            same(floordiv(heads, key_heads) * key_heads, heads), f"{key_heads} key heads do not divide {heads} heads"
        )
        lead = broadcast(query.shape[:-3], key.shape[:-3], value.shape[:-3])
        _check_mask(mask, query, (*lead, heads, query.shape[-2], key.shape[-2]))
        return query.with_shape((*lead, heads, query.shape[-2], value.shape[-1]))

    def reference(self, m: Arithmetic, query: Array, key: Array, value: Array, mask: Array | None = None) -> Array:
        """Some rows of queries at a time, so that the scores of long sequences are never held whole."""
        groups = query.shape[-3] // max(key.shape[-3], 1)
        if groups != 1:
            key, value = (m.move(lambda a: np.repeat(a, groups, axis=-3), x) for x in (key, value))
        scale = 1 / math.sqrt(max(query.shape[-1], 1)) if self.scale is None else self.scale
        turned = m.move(lambda a: np.swapaxes(a, -1, -2), key)
        length, extent = query.shape[-2], key.shape[-2]
        lead = np.broadcast_shapes(query.shape[:-3], key.shape[:-3], value.shape[:-3])
        per_row = max(1, math.prod(lead) * query.shape[-3] * extent)
        step = max(1, _CHUNK // per_row)
        parts: list[Array] = []
        for start in range(0, max(length, 1), step):
            rows = slice(start, min(start + step, length))
            scores = m.matmul(query[..., rows, :] * scale, turned)
            if self.softcap:
                scores = m.special("tanh", scores / self.softcap) * self.softcap
            weights = self._weights(m, scores, _rows_of(mask, rows), np.arange(length)[rows])
            parts.append(m.matmul(weights, value))
        return parts[0] if len(parts) == 1 else m.move(lambda *a: np.concatenate(a, axis=-2), *parts)

    def _weights(self, m: Arithmetic, scores: Array, mask: Array | None, places: Any) -> Array:
        """Masked softmax over the last axis, with no infinity written down: the exact arithmetic has none."""
        allowed: Any = None
        if mask is not None and not m.is_real(mask):
            allowed = mask
        elif mask is not None:
            scores = scores + mask
        if self.causal:
            seen = places[:, None] >= np.arange(scores.shape[-1])
            allowed = seen if allowed is None else allowed & seen
        candidates = scores
        if allowed is not None:
            candidates = m.where(allowed, scores, m.min(scores, -1, keepdims=True))
        peak = m.max(candidates, -1, keepdims=True)
        peak = m.where(m.special("isinf", peak) & (peak < 0), 0.0, peak)
        raised = m.exp(scores - peak)
        if allowed is not None:
            # x − x is 0, or NaN where a masked score was NaN or +∞: adding −∞ to those gives NaN too.
            bounded = m.maximum(scores, 0.0)
            raised = m.where(allowed, raised, bounded - bounded)
        total = m.sum(raised, -1, keepdims=True)
        if self.empty_rows == "zero":
            total = m.where(total == 0, 1.0, total)
        return raised / total

    def decompose(self, b: Builder, query: Value, key: Value, value: Value, mask: Value | None = None) -> Value:
        """Scale, product, soft cap, mask, softmax, zero for empty rows, product.

        Query heads that share a key head are rows of one product with it: nothing is repeated.
        """
        own = key.type.shape[-3]
        groups = floordiv(query.type.shape[-3], own)
        scaled = query if self.scale == 1.0 else b.mul(query, self._factor(b, query))
        if is_one(groups):
            return self._attended(b, b.matmul(scaled, _turned(b, key)), query, value, mask)
        *lead, heads, length, depth = query.type.shape
        extent = key.type.shape[-2]
        product = b.matmul(b.reshape(scaled, shape=(*lead, own, groups * length, depth)), _turned(b, key))
        batch = product.type.shape[:-3]
        scores = b.reshape(product, shape=(*batch, own, groups, length, extent))
        weights = self._masked_softmax(b, scores, query, extent, _grouped(b, mask, own, groups))
        rows = weights.type.shape[:-4]
        weights = b.reshape(weights, shape=(*rows, own, groups * length, extent))
        y = b.matmul(weights, value)
        return b.reshape(y, shape=(*y.type.shape[:-3], heads, length, value.type.shape[-1]))

    def repeated_heads(self, b: Builder, query: Value, key: Value, value: Value, mask: Value | None = None) -> Value:
        """The same with keys and values repeated until each query head has its own."""
        turned = _turned(b, _repeat_heads(b, key, query.type.shape[-3]))
        scores = b.matmul(b.mul(query, self._factor(b, query)), turned)
        return self._attended(b, scores, query, value, mask)

    def scaled_scores(self, b: Builder, query: Value, key: Value, value: Value, mask: Value | None = None) -> Value:
        """The same with the product scaled instead of the query."""
        turned = _turned(b, _repeat_heads(b, key, query.type.shape[-3]))
        scores = b.mul(b.matmul(query, turned), self._factor(b, query))
        return self._attended(b, scores, query, value, mask)

    def divided_scores(self, b: Builder, query: Value, key: Value, value: Value, mask: Value | None = None) -> Value:
        """The same with the product divided by √d, or by the inverse of the scale."""
        turned = _turned(b, _repeat_heads(b, key, query.type.shape[-3]))
        depth = query.type.shape[-1]
        known = self.scale is None and isinstance(depth, int)
        factor = math.sqrt(max(int(depth), 1)) if known else 1.0 / (self.scale or 1.0)
        return self._attended(b, b.div(b.matmul(query, turned), factor), query, value, mask)

    spellings = (repeated_heads, scaled_scores, divided_scores)

    def _factor(self, b: Builder, query: Value) -> Value:
        dtype, depth = query.type.dtype, query.type.shape[-1]
        if self.scale is not None:
            return b.const(self.scale, dtype)
        if isinstance(depth, int):
            return b.const(1 / math.sqrt(max(depth, 1)), dtype)  # of nothing, every score is 0
        return b.reciprocal(b.sqrt(b.extent(depth, dtype)))

    def _attended(self, b: Builder, scores: Value, query: Value, value: Value, mask: Value | None) -> Value:
        """What follows the scaled product."""
        weights = self._masked_softmax(b, scores, query, value.type.shape[-2], mask)
        return b.matmul(weights, _repeat_heads(b, value, query.type.shape[-3]))

    def _masked_softmax(self, b: Builder, scores: Value, query: Value, extent: Dim, mask: Value | None) -> Value:
        dtype, last = query.type.dtype, scores.type.rank - 1
        if self.softcap:
            scores = b.mul(b.tanh(b.div(scores, self.softcap)), self.softcap)
        added = self._added(b, mask, query.type.shape[-2], extent, dtype)
        if added is not None:
            scores = b.add(scores, added)
        weights = b.softmax(scores, axis=last)
        if mask is not None and self.empty_rows == "zero":
            # By the scores, not the mask, which would be cheaper: a NaN in an empty row is to come through.
            empty = b.isinf(b.reduce_max(scores, axes=(last,), keepdims=True), positive=False)
            weights = b.where(empty, b.const(0.0, dtype), weights)
        return weights

    def _added(self, b: Builder, mask: Value | None, length: Dim, extent: Dim, dtype: DType) -> Value | None:
        """What is added to the scores: the float mask, and −∞ where a bool or the causal mask forbids."""
        allowed = mask if mask is not None and mask.type.dtype == BOOL else None
        added = mask if mask is not None and mask.type.dtype != BOOL else None
        if self.causal:
            rows = b.reshape(b.iota(size=length), shape=(length, 1))
            seen = b.greater_equal(rows, b.iota(size=extent))
            allowed = seen if allowed is None else b.logical_and(allowed, seen)
        if allowed is None:
            return added
        forbidden = b.where(allowed, b.const(0.0, dtype), b.const(-math.inf, dtype))
        return forbidden if added is None else b.add(added, forbidden)

    @classmethod
    def guesses(cls, root: Node) -> Iterable[Guess]:
        """The types at the two products around a softmax; what is added to the scores is the mask, or part of it."""
        last = (
            next((n for n in upstream(root, 2) if n.op.name == "matmul"), None) if root.op.name == "reshape" else root
        )
        scores = next((n for n in upstream(root, 6) if n.op.name == "softmax"), None)
        product = None if scores is None else next((n for n in upstream(scores, 7) if n.op.name == "matmul"), None)
        if last is None or last.op.name != "matmul" or scores is None or product is None:
            return
        query, turned, value = product.operands[0], product.operands[1], last.operands[1]
        if query is None or turned is None or value is None or query.type.rank < 3 or turned.type.rank < 3:
            return
        asked = query.type
        if last is not root:  # heads that share a key head are rows of one product
            if root.results[0].type.rank != asked.rank:
                return
            asked = asked.with_shape((*asked.shape[:-3], *root.results[0].type.shape[-3:-1], asked.shape[-1]))
        *lead, depth, extent = turned.type.shape
        names = {n.op.name for n in upstream(root)}
        masks = [wide for mask in _masks(scores, product) for wide in _ungrouped(mask, asked, scores.results[0].type)]
        softcaps: list[dict[str, Any]] = [{"softcap": 0.0}] if "tanh" not in names else [{}]
        scales: list[dict[str, Any]] = [{}, {"scale": None}, {"scale": 1.0}]
        # What says more comes first: a mask may be any value, the causal one among them.
        for own in dict.fromkeys((*_narrower(product, last), lead[-1])):
            key = asked.with_shape((*lead[:-1], own, extent, depth))
            shared = value.type.with_shape((*value.type.shape[:-3], own, *value.type.shape[-2:]))
            for mask in (None, *masks):
                # A causal mask is compared out of positions, or was folded into what looks like a mask.
                causals = (True, False) if "greater_equal" in names or (masks and mask is None) else (False,)
                empties = ("zero",) if mask is None or "isinf" in names else ("nan",)
                for causal, empty, softcap, scale in itertools.product(causals, empties, softcaps, scales):
                    yield guess(asked, key, shared, mask, causal=causal, empty_rows=empty, **softcap, **scale)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Each mask kind alone and with `causal`, shared key heads, broadcast batches, soft cap, empty rows."""
        plain = ("f32[2,3,5,4]", "f32[2,3,6,4]", "f32[2,3,6,2]")
        yield sample(*plain)
        yield sample(*plain, scale=0.25, causal=True)
        yield sample(*plain, "f32[5,6]")
        yield sample(*plain, "bool[2,1,5,6]", causal=True)
        yield sample(*plain, operand("bool[2,1,1,6]", values=(True, False, True, True, False, False, *[False] * 6)))
        yield sample("f64[2,4,3,16]", "f64[2,2,5,16]", "f64[2,2,5,16]", "f64[1,4,3,5]", causal=True, softcap=2.0)
        yield sample("f32[2,2,4,3,4]", "f32[1,2,1,5,4]", "f32[2,1,1,5,3]", scale=0.3)
        yield sample("f32[3,1,4]", "f32[3,1,4]", "f32[3,1,4]", "bool[]", empty_rows="nan")
        yield sample("f16[1,2,3,4]", "f16[1,2,3,4]", "f16[1,2,3,4]", causal=True)


def _narrower(*products: Node) -> list[Dim]:
    """Heads of keys and values before they were repeated for the products."""
    found: list[Dim] = []
    for product in products:
        for node in upstream(product, 5):
            if node.op.name == "broadcast_to" and node.operands[0] is not None and node.operands[0].type.rank >= 4:
                found.append(node.operands[0].type.shape[-4])
    return found


def _masks(scores: Node, product: Node) -> list[TensorType]:
    """Types of what is added to the scores, or chooses among them."""
    found: list[TensorType] = []
    for node in upstream(scores, 5):
        if node is product:
            break
        for value in node.operands:
            narrow = value is not None and value.type.dtype in (BOOL, scores.results[0].type.dtype)
            if value is not None and narrow and value.type.rank and value.type not in found:
                fits = _fits_into(value.type.shape, scores.results[0].type.shape)
                if fits:
                    found.append(value.type)
    return found


def _ungrouped(mask: TensorType, query: TensorType, scores: TensorType) -> Iterable[TensorType]:
    """The type of a mask as the op takes it, where scores are [*, key_heads, groups, l, s]."""
    yield mask
    if scores.rank == query.rank + 1 and mask.rank >= 4:
        *lead, own, groups, length, extent = mask.shape
        yield mask.with_shape((*lead, own * groups, length, extent))


def _check_mask(mask: TensorType | None, query: TensorType, scores: Shape) -> None:
    if mask is None:
        return
    require(mask.dtype in (BOOL, query.dtype), f"the mask is {mask.dtype}, neither bool nor {query.dtype}")
    fits = mask.rank <= len(scores) and same_shape(broadcast(mask.shape, scores), scores)
    require(fits, f"a mask {mask} does not broadcast to [{','.join(map(str, scores))}]")


def _fits_into(shape: Shape, into: Shape) -> bool:
    """Whether a shape broadcasts to another without stretching it."""
    if len(shape) > len(into):
        return False
    try:
        return same_shape(broadcast(shape, into), into)
    except TypeRuleError:
        return False


def _rows_of(mask: Array | None, rows: slice) -> Array | None:
    if mask is None or len(mask.shape) < 2 or mask.shape[-2] == 1:
        return mask
    return mask[..., rows, :]


def _turned(b: Builder, key: Value) -> Value:
    """The last two axes exchanged."""
    rank = key.type.rank
    return b.transpose(key, perm=(*range(rank - 2), rank - 1, rank - 2))


def _grouped(b: Builder, mask: Value | None, own: Dim, groups: Dim) -> Value | None:
    """A mask [*, heads, l, s] as one of [*, key_heads, heads / key_heads, l, s]; 1 where it has one for all heads."""
    if mask is None or mask.type.rank < 3:
        return mask
    *lead, heads, length, extent = mask.type.shape
    apart = (1, 1) if is_one(heads) else (own, groups)
    return b.reshape(mask, shape=(*lead, *apart, length, extent))


def _repeat_heads(b: Builder, x: Value, heads: Dim) -> Value:
    """[*, key_heads, s, d] with each head repeated until there are `heads`."""
    *lead, own, length, depth = x.type.shape
    groups = floordiv(heads, own)
    if groups == 1:
        return x
    if own == 1:
        return b.broadcast_to(x, shape=(*lead, heads, length, depth))
    spread = b.reshape(x, shape=(*lead, own, 1, length, depth))
    spread = b.broadcast_to(spread, shape=(*lead, own, groups, length, depth))
    return b.reshape(spread, shape=(*lead, heads, length, depth))


class RotaryEmbedding(Op, name="rotary_embedding"):
    """Turns pairs of features by an angle that depends on the position: (a, b) -> (a·cos − b·sin, b·cos + a·sin).

    x: [*, d]   cos, sin: broadcast to [*, d/2], or to [*, d] with an angle for each feature   ->   [*, d]
    The pairs are features (i, i + d/2), or (2i, 2i + 1) if `interleaved`. Su et al. 2021 (arXiv:2104.09864), eq. 34.
    """

    interleaved: bool = False

    def infer(self, x: TensorType, cos: TensorType, sin: TensorType) -> TensorType:
        """An even depth, and angles for it."""
        same_dtype(x, cos, sin)
        require(x.dtype.is_float and x.rank >= 1, f"rotary embedding of {x}")
        depth = x.shape[-1]
        require(same(floordiv(depth, 2) * 2, depth), f"the depth {depth} is odd")
        require(same_shape(cos.shape, sin.shape) and cos.rank >= 1, f"cos is {cos}, sin is {sin}")
        half = same(cos.shape[-1], floordiv(depth, 2))
        require(half or same(cos.shape[-1], depth), f"angles of extent {cos.shape[-1]} for depth {depth}")
        fits = cos.rank <= x.rank and same_shape(broadcast(cos.shape[:-1], x.shape[:-1]), x.shape[:-1])
        require(fits, f"angles {cos} do not broadcast to {x}")
        return x

    def reference(self, m: Arithmetic, x: Array, cos: Array, sin: Array) -> Array:
        """x·cos + rotated(x)·sin, where rotated is (−b, a)."""
        depth = x.shape[-1]
        if cos.shape[-1] != depth:
            double = _interleave if self.interleaved else _halves
            cos, sin = (m.move(lambda a: double(a, a), c) for c in (cos, sin))
        first, second = (
            (x[..., 0::2], x[..., 1::2]) if self.interleaved else (x[..., : depth // 2], x[..., depth // 2 :])
        )
        turned = m.move(_interleave if self.interleaved else _halves, -second, first)
        return x * cos + turned * sin

    def decompose(self, b: Builder, x: Value, cos: Value, sin: Value) -> Value:
        """Split into pairs, turn, join."""
        depth = x.type.shape[-1]
        half = floordiv(depth, 2)
        if not same(cos.type.shape[-1], depth):
            cos, sin = self._join(b, cos, cos), self._join(b, sin, sin)
        first, second = self._split(b, x, half)
        return b.add(b.mul(x, cos), b.mul(self._join(b, b.neg(second), first), sin))

    @classmethod
    def guesses(cls, root: Node) -> Iterable[Guess]:
        """Angles of any type upstream that fits, both pairings."""
        x = root.results[0].type
        if not x.rank:
            return
        for angles in operand_types(root):
            wide = angles.rank and (same(angles.shape[-1], x.shape[-1]) or same(angles.shape[-1] * 2, x.shape[-1]))
            if wide and angles.dtype == x.dtype and _fits_into(angles.shape[:-1], x.shape[:-1]):
                for interleaved in (False, True):
                    yield guess(x, angles, angles, interleaved=interleaved)

    def strided(self, b: Builder, x: Value, cos: Value, sin: Value) -> Value:
        """Pairs taken apart by slices of step 2, and stacked; halves as in the decomposition."""
        if not self.interleaved:
            return self.decompose(b, x, cos, sin)
        axis, depth = x.type.rank - 1, x.type.shape[-1]
        if not same(cos.type.shape[-1], depth):
            cos, sin = self._join(b, cos, cos), self._join(b, sin, sin)
        ends = {"axes": (axis,), "stops": (depth,), "steps": (2,)}
        first, second = (b.slice(x, starts=(start,), **ends) for start in (0, 1))
        turned = b.reshape(b.stack(b.neg(second), first, axis=axis + 1), shape=x.type.shape)
        return b.add(b.mul(x, cos), b.mul(turned, sin))

    spellings = (strided,)

    def _split(self, b: Builder, x: Value, half: Dim) -> tuple[Value, Value]:
        axis, depth = x.type.rank - 1, x.type.shape[-1]
        if self.interleaved:
            paired = b.reshape(x, shape=(*x.type.shape[:-1], half, 2))
            parts = b.split(paired, axis=axis + 1, sizes=(1, 1))
            return tuple(b.reshape(p, shape=(*x.type.shape[:-1], half)) for p in parts)  # type: ignore[return-value]
        cut = [b.slice(x, axes=(axis,), starts=(s,), stops=(e,), steps=(1,)) for s, e in ((0, half), (half, depth))]
        return cut[0], cut[1]

    def _join(self, b: Builder, first: Value, second: Value) -> Value:
        axis, (*lead, half) = first.type.rank - 1, first.type.shape
        if not self.interleaved:
            return b.concat(first, second, axis=axis)
        paired = b.concat(*(b.reshape(p, shape=(*lead, half, 1)) for p in (first, second)), axis=axis + 1)
        return b.reshape(paired, shape=(*lead, half * 2))

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Half and full angles, both pairings, several ranks."""
        yield sample("f32[2,3,5,8]", "f32[5,4]", "f32[5,4]")
        yield sample("f32[2,3,5,8]", "f32[2,1,5,8]", "f32[2,1,5,8]")
        yield sample("f64[2,5,6]", "f64[5,3]", "f64[5,3]", interleaved=True)
        yield sample("f32[4]", "f32[4]", "f32[4]", interleaved=True)
        yield sample("bf16[1,2]", "bf16[1]", "bf16[1]")


def _halves(a: Any, b: Any) -> Any:
    return np.concatenate([a, b], axis=-1)


def _interleave(a: Any, b: Any) -> Any:
    return np.stack([a, b], axis=-1).reshape(*a.shape[:-1], -1)
