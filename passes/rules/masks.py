"""Masks computed from positions: what is known beforehand is written down, what is gathered in order is a slice."""

# pyright: reportSelfClsParameterName=false, reportGeneralTypeIssues=false
# A rule is a class of plain functions: they take a builder and what was bound, never `self`.

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from dragoman.ir.builder import Builder, trace
from dragoman.ir.dims import Dim, bounds, floordiv, is_one, same
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.op import normal_axis
from dragoman.ir.ops.attention import Attention
from dragoman.ir.ops.comparison import Comparison, LogicalAnd, LogicalOr, NotEqual, Where
from dragoman.ir.ops.indexing import GatherNd, Take
from dragoman.ir.types import BOOL, F32, I64, Shape, parse_type, same_shape
from dragoman.passes.pattern import scalar_of
from dragoman.passes.positions import Positions, difference, index_columns, made_of, positions
from dragoman.passes.rewrite import Replacement, rewrite_node


def _not_before_the_first() -> Graph:
    def compare(b: Builder, x: Value) -> Value:
        places = b.reshape(b.iota(size=5), shape=(1, 5, 1))
        return b.logical_and(b.greater_equal(places, 0), x)

    return trace(compare, parse_type("bool[2,1,3]"))


def _steps_of_one() -> Graph:
    def compare(b: Builder, x: Value) -> Value:
        places = b.iota(size=5)
        ahead = b.slice(
            b.concat(b.reshape(b.constant(value=-1, dtype=I64), shape=(1,)), places, axis=0),
            axes=(0,),
            starts=(0,),
            stops=(5,),
        )
        return b.logical_or(b.not_equal(b.sub(places, ahead), 1), x)

    return trace(compare, parse_type("bool[5]"))


@rewrite_node(roots=lambda op: issubclass(op, Comparison), samples=[_not_before_the_first, _steps_of_one])
class KnownComparison:
    """compare(positions, positions)  ->  true or false  where it is the same at every size"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        known = positions(node.results[0])
        if known is None:
            return "it is not known which of the two is greater"
        truth = b.constant(value=bool(known.start), dtype=BOOL)
        spread = b.broadcast_to(truth, shape=node.results[0].type.shape)
        return Replacement((spread,), tuple(made_of(node.results[0])))


def _truths_as_numbers() -> Graph:
    return trace(lambda b, x: b.not_equal(b.cast(x, dtype=F32), 0.0), parse_type("bool[2,3]"))


@rewrite_node(roots=[NotEqual], samples=[_truths_as_numbers])
class TruthOfNumber:
    """cast(c) ≠ 0  ->  c  where c is true or false"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        number, zero = node.operands
        cast = number.producer if number is not None else None
        truth = cast.operands[0] if cast is not None and cast.op.name == "cast" else None
        if cast is None or truth is None or truth.type.dtype != BOOL:
            return "what is compared was never true or false"
        if zero is None or scalar_of(zero) != 0:
            return "it is not compared with 0"
        made = (zero.producer,) if zero.producer is not None else ()
        return Replacement((truth,), (node, cast, *made))


def _joined(connective: str) -> Callable[[], Graph]:
    def build() -> Graph:
        def join(b: Builder, x: Value) -> Value:
            truth = b.constant(value=connective == "logical_and", dtype=BOOL)
            return getattr(b, connective)(b.broadcast_to(truth, shape=(2, 3, 1)), x)

        return trace(join, parse_type("bool[3,4]"))

    return build


@rewrite_node(roots=[LogicalAnd, LogicalOr], samples=[_joined("logical_and"), _joined("logical_or")])
class DropKnownOperand:
    """true and x  ->  x,  false or x  ->  x"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        neutral = int(isinstance(node.op, LogicalAnd))
        for value, other in (node.operands, node.operands[::-1]):
            assert value is not None
            assert other is not None
            known = positions(value)
            if known is not None and known.constant() and same(known.start, neutral):
                spread = b.broadcast_to(other, shape=node.results[0].type.shape)
                return Replacement((spread,), (node, *made_of(value)))
        return "neither operand is known"


def _truths(first: bool) -> Callable[[], Graph]:
    def choose(b: Builder, x: Value) -> Value:
        given, other = (b.constant(value=truth, dtype=BOOL) for truth in (first, not first))
        return b.where(x, b.broadcast_to(given, shape=(2, 3)), other)

    return lambda: trace(choose, parse_type("bool[3]"))


@rewrite_node(roots=[Where], samples=[_truths(True), _truths(False)])
class DropChoiceOfTruths:
    """where(c, true, false)  ->  c,  where(c, false, true)  ->  not c"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        condition, *choices = node.operands
        assert condition is not None
        if node.results[0].type.dtype != BOOL:
            return "no truths are chosen"
        known = [positions(v) if v is not None else None for v in choices]
        truths = [k.start for k in known if k is not None and k.constant()]
        if truths not in ([1, 0], [0, 1]):
            return "what is chosen is not known, or the same"
        value = condition if truths == [1, 0] else b.logical_not(condition)
        spread = b.broadcast_to(value, shape=node.results[0].type.shape)
        return Replacement((spread,), (node, *made_of(*(v for v in choices if v is not None))))


def _gathered_rows() -> Graph:
    def gather(b: Builder, x: Value) -> Value:
        def column(axis: int, size: int) -> Value:
            shape = [1, 1, 1]
            shape[axis] = size
            spread = b.broadcast_to(b.reshape(b.iota(size=size), shape=tuple(shape)), shape=(2, 4, 3))
            return b.reshape(spread, shape=(2, 4, 3, 1))

        return b.gather_nd(x, b.concat(column(0, 2), column(2, 3), axis=3))

    return trace(gather, parse_type("f32[2,5]"))


@rewrite_node(roots=[GatherNd], samples=[_gathered_rows])
class GatherInOrder:
    """gather_nd(x, positions)  ->  broadcast_to(slice(x))"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        op: Any = node.op
        x, rows = node.operands
        assert x is not None
        assert rows is not None
        columns = None if op.batch_dims else index_columns(rows)
        if columns is None:
            return "the indices are not known to be positions"
        shape = node.results[0].type.shape
        matched = (node, *made_of(rows))
        return _in_order(b, x, 0, [column for column, _ in columns], columns[0][1], shape, matched)


def _taken() -> Graph:
    def take(b: Builder, x: Value) -> Value:
        return b.take(x, b.add(b.iota(size=3), 1), axis=1)

    return trace(take, parse_type("f32[2,5,4]"))


@rewrite_node(roots=[Take], samples=[_taken])
class TakeInOrder:
    """take(x, positions)  ->  slice(x)"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        op: Any = node.op
        x, indices = node.operands
        assert x is not None
        assert indices is not None
        found = positions(indices)
        if found is None or found.constant():
            return "the indices are not known to be positions that go on"
        axis = normal_axis(op.axis, x.type.rank)
        matched = (node, *made_of(indices))
        return _in_order(b, x, axis, [found], indices.type.shape, node.results[0].type.shape, matched)


def _in_order(
    b: Builder, x: Value, first: int, columns: list[Positions], lead: Shape, shape: Shape, matched: tuple[Node, ...]
) -> Replacement | str:
    """Axes `first`… of x indexed by columns over `lead`, each going on along one axis of it, in order."""
    cut = x
    kept: dict[int, Dim] = {}  # axes of lead that index, and their extents
    for offset, column in enumerate(columns):
        moving = [axis for axis in range(len(lead)) if column.moves(axis)]
        at = moving[0] if moving else None
        if len(moving) > 1 or (at is not None and not same(column.steps[at], 1)):
            return "an index does not go on by one along one axis"
        if at is not None and (at in kept or any(at < other for other in kept)):
            return "the axes change places"
        count = 1 if at is None else lead[at]
        end, axis = column.start + count, first + offset
        if bounds(column.start)[0] < 0 or bounds(x.type.shape[axis] - end)[0] < 0:
            return "an index may count from the end, or lie outside"
        cut = b.slice(cut, axes=(axis,), starts=(column.start,), stops=(end,), steps=(1,))
        if at is not None:
            kept[at] = count
    before, after = x.type.shape[:first], x.type.shape[first + len(columns) :]
    spread = (*before, *(kept.get(axis, 1) for axis in range(len(lead))), *after)
    return Replacement((b.broadcast_to(b.reshape(cut, shape=spread), shape=shape),), matched)


_HEADS = ("f32[2,4,5,8]", "f32[2,4,5,8]", "f32[2,4,5,3]")


def _looks_back() -> Graph:
    def attend(b: Builder, q: Value, k: Value, v: Value) -> Value:
        places = b.iota(size=5)
        mask = b.less_equal(b.reshape(places, shape=(1, 1, 1, 5)), b.reshape(places, shape=(1, 1, 5, 1)))
        return b.attention(q, k, v, mask)

    return trace(attend, *map(parse_type, _HEADS))


def _looks_back_at_some() -> Graph:
    def attend(b: Builder, q: Value, k: Value, v: Value, some: Value) -> Value:
        places = b.iota(size=5)
        back = b.greater(b.add(b.reshape(places, shape=(5, 1)), 1), places)
        return b.attention(q, k, v, b.logical_and(some, back))

    return trace(attend, *map(parse_type, (*_HEADS, "bool[2,1,1,5]")))


@rewrite_node(roots=[Attention], samples=[_looks_back, _looks_back_at_some])
class CausalMask:
    """attention(q, k, v, key ≤ query and m)  ->  attention(q, k, v, m, causal)"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        op: Any = node.op
        query, key, value, *rest = node.operands
        mask = rest[0] if rest else None
        if mask is None or op.causal or mask.type.dtype != BOOL:
            return "there is no bool mask, or it is causal already"
        parts, joints = _conjuncts(mask)
        causal = next((part for part in parts if looks_back_along(part, mask.type.shape)), None)
        if causal is None:
            return "no part of the mask compares the positions of keys with those of queries"
        attributes = dict(op.attributes()) | {"causal": True}
        left = None
        for part in (p for p in parts if p is not causal):
            left = part if left is None else b.logical_and(left, part)
        operands = (query, key, value) if left is None else (query, key, value, left)
        return Replacement(b.apply(type(op)(**attributes), *operands), (node, *joints, *made_of(causal)))


def _conjuncts(mask: Value) -> tuple[list[Value], list[Node]]:
    """What a mask is the conjunction of, and the nodes that join it."""
    parts: list[Value] = []
    joints: list[Node] = []
    work = [mask]
    while work:
        value = work.pop()
        producer = value.producer
        if producer is not None and isinstance(producer.op, LogicalAnd) and len(parts) + len(work) < 8:
            joints.append(producer)
            work.extend(v for v in producer.operands if v is not None)
        else:
            parts.append(value)
    return parts, joints


def looks_back_along(part: Value, mask: Shape) -> bool:
    """Whether a comparison holds where the index along the last axis is at most that along the one before it."""
    node = part.producer
    while node is not None and node.op.name in ("reshape", "unsqueeze", "broadcast_to") and part.type.rank >= 2:
        (inner,) = node.operands
        if inner is None or not same_shape(inner.type.shape[-2:], part.type.shape[-2:]):
            return False
        part, node = inner, inner.producer
    ordered = {"less_equal": (1, 0), "less": (1, 1), "greater_equal": (-1, 0), "greater": (-1, 1)}
    if node is None or node.op.name not in ordered or part.type.rank < 2:
        return False
    if not same_shape(part.type.shape[-2:], mask[-2:]):
        return False
    a, c = node.operands
    found = difference(a, c) if a is not None and c is not None else None
    if found is None:
        return False
    sign, strict = ordered[node.op.name]
    steps = tuple(s * sign for s in found[0].steps)
    ahead = found[0].start * sign + strict  # key − query + ahead ≤ 0
    wanted = (*(0 for _ in steps[:-2]), -1, 1)
    return same(ahead, 0) and all(same(s, w) for s, w in zip(steps, wanted, strict=True))


def _numbers_for_truths() -> Graph:
    def attend(b: Builder, q: Value, k: Value, v: Value, some: Value) -> Value:
        mask = b.where(some, b.const(0.0, F32), b.const(-math.inf, F32))
        return b.attention(q, k, v, mask, empty_rows="nan")

    return trace(attend, *map(parse_type, (*_HEADS, "bool[2,1,1,5]")))


@rewrite_node(roots=[Attention], samples=[_numbers_for_truths], inexact="the field has no infinity")
class MaskOfTruths:
    """attention(q, k, v, where(m, 0, −∞))  ->  attention(q, k, v, m)"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        query, key, value, *rest = node.operands
        choice = rest[0].producer if rest and rest[0] is not None else None
        if choice is None or not isinstance(choice.op, Where):
            return "the mask is not chosen by truths"
        condition, *choices = choice.operands
        if [scalar_of(v) if v is not None else None for v in choices] != [0.0, -math.inf]:
            return "it is not 0 where they are true and −∞ where they are not"
        made = [v.producer for v in choices if v is not None and v.producer is not None]
        return Replacement(b.apply(node.op, query, key, value, condition), (node, choice, *made))


def _stretched_mask() -> Graph:
    def attend(b: Builder, q: Value, k: Value, v: Value, some: Value) -> Value:
        return b.attention(q, k, v, b.broadcast_to(some, shape=(2, 1, 5, 5)))

    return trace(attend, *map(parse_type, (*_HEADS, "bool[2,1,1,5]")))


@rewrite_node(roots=[Attention], samples=[_stretched_mask])
class DropBroadcastOfMask:
    """attention(q, k, v, broadcast_to(m))  ->  attention(q, k, v, m)"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        query, key, value, *rest = node.operands
        producer = rest[0].producer if rest and rest[0] is not None else None
        if producer is None or producer.op.name != "broadcast_to":
            return "the mask is not broadcast"
        return Replacement(b.apply(node.op, query, key, value, producer.operands[0]), (node, producer))


def _all_to_be_seen() -> Graph:
    def attend(b: Builder, q: Value, k: Value, v: Value) -> Value:
        return b.attention(q, k, v, b.constant(value=True, dtype=BOOL), causal=True)

    return trace(attend, *map(parse_type, _HEADS))


@rewrite_node(roots=[Attention], samples=[_all_to_be_seen])
class DropOpenMask:
    """attention(q, k, v, true)  ->  attention(q, k, v)"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        query, key, value, *rest = node.operands
        mask = rest[0] if rest else None
        if mask is None or mask.type.dtype != BOOL:
            return "there is no bool mask"
        known = positions(mask)
        if known is None or not known.constant() or not same(known.start, 1):
            return "the mask is not known to let all through"
        return Replacement(b.apply(node.op, query, key, value), (node, *made_of(mask)))


def _repeated_heads() -> Graph:
    def attend(b: Builder, q: Value, k: Value, v: Value) -> Value:
        def repeated(x: Value) -> Value:
            spread = b.broadcast_to(b.reshape(x, shape=(2, 2, 1, 5, 8)), shape=(2, 2, 3, 5, 8))
            return b.reshape(spread, shape=(2, 6, 5, 8))

        return b.attention(q, repeated(k), repeated(v))

    return trace(attend, *map(parse_type, ("f32[2,6,5,8]", "f32[2,2,5,8]", "f32[2,2,5,8]")))


@rewrite_node(roots=[Attention], samples=[_repeated_heads])
class ShareHeads:
    """attention(q, k repeated, v repeated)  ->  attention(q, k, v)  heads of queries sharing heads of keys"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        query, key, value, *rest = node.operands
        assert query is not None
        if key is None or value is None or query.type.rank != key.type.rank:
            return "the ranks differ"
        own = [_unrepeated(x) for x in (key, value)]
        if own[0] is None or own[1] is None or not same(own[0][0].type.shape[-3], own[1][0].type.shape[-3]):
            return "the heads of keys and values are not repeated alike"
        matched = (node, *own[0][1], *own[1][1])
        return Replacement(b.apply(node.op, query, own[0][0], own[1][0], *rest), tuple(dict.fromkeys(matched)))


def _unrepeated(value: Value) -> tuple[Value, tuple[Node, ...]] | None:
    """[*, heads, s, d] out of reshape(broadcast_to(reshape(x), (*, heads, times, s, d))), and the nodes in between."""
    outer = value.producer
    spread = outer.operands[0] if outer is not None and outer.op.name == "reshape" else None
    middle = spread.producer if spread is not None else None
    if outer is None or spread is None or middle is None or middle.op.name != "broadcast_to":
        return None
    narrow = middle.operands[0]
    assert narrow is not None
    inner = narrow.producer
    x = inner.operands[0] if inner is not None and inner.op.name in ("reshape", "unsqueeze") else None
    if inner is None or x is None or x.type.rank != value.type.rank or spread.type.rank != x.type.rank + 1:
        return None
    *lead, own, length, depth = x.type.shape
    times = floordiv(value.type.shape[-3], own)
    fits = (
        same_shape(narrow.type.shape, (*lead, own, 1, length, depth))
        and same_shape(spread.type.shape, (*lead, own, times, length, depth))
        and same_shape(value.type.shape, (*lead, own * times, length, depth))
    )
    return (x, (outer, middle, inner)) if fits and not is_one(times) else None
