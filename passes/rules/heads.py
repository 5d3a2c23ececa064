"""Attention in the forms that a runtime has as one operator: heads side by side, angles once for each pair."""

# pyright: reportSelfClsParameterName=false, reportGeneralTypeIssues=false
# A rule is a class of plain functions: they take a builder and what was bound, never `self`.

from __future__ import annotations

from typing import Any

from dragoman.ir.builder import Builder, trace
from dragoman.ir.dims import same
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.op import normal_axis
from dragoman.ir.ops.attention import RotaryEmbedding
from dragoman.ir.ops.shape import Reshape
from dragoman.ir.types import F32, parse_type
from dragoman.passes.rewrite import Replacement, rewrite_node

_SWAPPED = (0, 2, 1, 3)


def _heads_put_together() -> Graph:
    def attend(b: Builder, q: Value, k: Value, v: Value) -> Value:
        def apart(x: Value, heads: int) -> Value:
            return b.transpose(b.reshape(x, shape=(2, 5, heads, 4)), perm=_SWAPPED)

        y = b.attention(apart(q, 4), apart(k, 2), apart(v, 2), causal=True)
        return b.reshape(b.transpose(y, perm=_SWAPPED), shape=(10, 16))

    return trace(attend, *map(parse_type, ("f32[10,16]", "f32[2,5,8]", "f32[2,5,8]")))


@rewrite_node(roots=[Reshape], samples=[_heads_put_together])
class FuseHeads:
    """reshape(transpose(attention(heads of q, of k, of v)))  ->  multi_head_attention(q, k, v)"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        swapped = _producer(node.operands[0], "transpose")
        inner = _producer(swapped.operands[0], "attention") if swapped is not None else None
        if swapped is None or inner is None or _perm(swapped) != _SWAPPED:
            return "no attention whose heads come together here"
        reason = _one_operator(inner)
        if reason is not None or any(len(n.results[0].users) > 1 for n in (swapped, inner)):
            return reason or "the heads apart are used elsewhere"
        heads = swapped.results[0].type.shape[2]
        operands, matched = list[Value](), [node, swapped, inner]
        for value in inner.operands[:3]:
            assert value is not None
            side_by_side, through = _put_together(b, value)
            operands.append(side_by_side)
            matched.extend(through)
        attention: Any = inner.op
        y = b.multi_head_attention(
            *operands,
            heads=_number(heads),
            key_heads=_number(inner.operands[1].type.shape[1]) if inner.operands[1] is not None else 0,
            scale=attention.scale,
            causal=attention.causal,
        )
        return Replacement((b.reshape(y, shape=node.results[0].type.shape),), tuple(dict.fromkeys(matched)))


def _one_operator(node: Node) -> str | None:
    """Why runtimes do not have an attention as one operator, or None."""
    op: Any = node.op
    query, key, value, *rest = node.operands
    assert query is not None
    assert key is not None
    assert value is not None
    if any(v is not None for v in rest) or op.softcap:
        return "attention with a mask or a cap is not faster as one operator"
    if query.type.rank != 4 or query.type.dtype != F32:
        return f"{query.type} is not f32 with one batch axis"
    if not all(isinstance(v.type.shape[axis], int) for v in (query, key, value) for axis in (1, 3)):
        return "the number of heads or their depth is dynamic"
    if op.causal and not same(query.type.shape[2], key.type.shape[2]):
        return "a causal mask that does not begin at the first key"
    if not same(key.type.shape[3], value.type.shape[3]) or not same(key.type.shape[1], value.type.shape[1]):
        return "values have another depth than keys"
    if not op.causal and not same(query.type.shape[1], key.type.shape[1]):
        return "heads share keys, and nothing is causal"
    if not all(same(v.type.shape[0], query.type.shape[0]) for v in (key, value)):
        return "the batch is broadcast"
    return None


def _number(dim: Any) -> int:
    return int(dim)


def _producer(value: Value | None, name: str) -> Node | None:
    producer = value.producer if value is not None else None
    return producer if producer is not None and producer.op.name == name else None


def _perm(node: Node) -> tuple[int, ...]:
    op: Any = node.op
    return tuple(axis % len(op.perm) for axis in op.perm)


def _put_together(b: Builder, value: Value) -> tuple[Value, list[Node]]:
    """[batch, heads, length, depth] as [batch, length, heads·depth], and the nodes that this undoes."""
    batch, heads, length, depth = value.type.shape
    swapped = _producer(value, "transpose")
    matched: list[Node] = []
    if swapped is not None and _perm(swapped) == _SWAPPED and swapped.operands[0] is not None:
        matched.append(swapped)
        apart = swapped.operands[0]
        reshaped = _producer(apart, "reshape")
        if reshaped is not None and reshaped.operands[0] is not None:
            matched.append(reshaped)
            apart = reshaped.operands[0]
    else:
        apart = b.transpose(value, perm=_SWAPPED)
    return b.reshape(apart, shape=(batch, length, heads * depth)), matched


def _doubled_angles() -> Graph:
    def rotate(b: Builder, x: Value, angle: Value) -> Value:
        twice = b.concat(angle, angle, axis=1)
        cos, sin = (b.reshape(f(twice), shape=(1, 5, 8)) for f in (b.cos, b.sin))
        return b.rotary_embedding(x, b.mul(cos, 0.5), sin)

    return trace(rotate, *map(parse_type, ("f32[2,3,5,8]", "f32[5,4]")))


@rewrite_node(roots=[RotaryEmbedding], samples=[_doubled_angles])
class HalveAngles:
    """rotary_embedding(x, cos(concat(a, a)), sin(concat(a, a)))  ->  rotary_embedding(x, cos(a), sin(a))"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        op: Any = node.op
        x, cos, sin = node.operands
        assert x is not None
        assert cos is not None
        assert sin is not None
        if op.interleaved or not same(cos.type.shape[-1], x.type.shape[-1]):
            return "there is one angle for each pair already, or the pairs are neighbours"
        chains = [_chain(v) for v in (cos, sin)]
        if chains[0] is None or chains[1] is None:
            return "the two halves of the angles are not known to be the same"
        halves = [_rebuilt(b, chain) for chain in chains if chain is not None]
        matched = (node, *(n for chain in chains if chain is not None for n in chain))
        return Replacement(b.apply(node.op, x, *halves), tuple(dict.fromkeys(matched)))


def _chain(value: Value) -> list[Node] | None:
    """The nodes from a value back to concat(a, a) along the last axis, each keeping that axis apart from the others."""
    nodes: list[Node] = []
    current = value
    while current.producer is not None and len(nodes) < 8:
        node = current.producer
        nodes.append(node)
        op: Any = node.op
        if node.op.name == "concat":
            twice = len(node.operands) == 2 and node.operands[0] is node.operands[1]
            return nodes if twice and normal_axis(op.axis, current.type.rank) == current.type.rank - 1 else None
        wide = [v for v in node.operands if v is not None and v.type.rank]
        if len(wide) != 1 or not same(wide[0].type.shape[-1], current.type.shape[-1]):
            return None
        if not (node.op.pointwise or node.op.name == "reshape"):
            return None
        current = wide[0]
    return None


def _rebuilt(b: Builder, chain: list[Node]) -> Value:
    value = chain[-1].operands[0]
    assert value is not None
    for node in reversed(chain[:-1]):
        if node.op.name == "reshape":
            value = b.reshape(value, shape=(*node.results[0].type.shape[:-1], value.type.shape[-1]))
        else:
            (value,) = b.apply(node.op, *(value if v is not None and v.type.rank else v for v in node.operands))
    return value
