"""Rules about moves (reshape, transpose, squeeze, broadcast, concat, slice): two become one, idle ones go."""

# pyright: reportSelfClsParameterName=false, reportGeneralTypeIssues=false
# A rule is a class of plain functions: they take a builder and what was bound, never `self`.

from __future__ import annotations

from typing import Any

import numpy as np

from dragoman.ir.builder import Builder, trace
from dragoman.ir.dims import Dim, bounds, same
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.op import sample
from dragoman.ir.ops.indexing import DynamicSlice
from dragoman.ir.ops.matmul import Matmul
from dragoman.ir.ops.shape import Concat, Reshape, Transpose
from dragoman.ir.types import Shape, broadcast, parse_type, same_shape
from dragoman.ir.weights import ArrayWeight
from dragoman.passes.rewrite import Replacement, rewrite, rewrite_node


@rewrite(
    samples=[sample("f32[2,3,4]", p=(1, 0, 2), q=(2, 1, 0)), sample("i64[2,3]", p=(1, 0), q=(1, 0))], single_use=False
)
class MergeTransposes:
    """transpose(transpose(x, p), q)  ->  transpose(x, p∘q)"""

    def before(b: Any, x: Any, *, p: Any, q: Any) -> Any:
        return b.transpose(b.transpose(x, perm=p), perm=q)

    def after(b: Builder, x: Value, *, p: tuple[int, ...], q: tuple[int, ...]) -> Value:
        return b.transpose(x, perm=tuple(p[i] for i in q))


@rewrite(samples=[sample("f32[2,3]", p=(0, 1)), sample("f32[2,1,3]", p=(0, 1, 2))])
class DropIdentityTranspose:
    """transpose(x, identity)  ->  x"""

    def before(b: Any, x: Any, *, p: Any) -> Any:
        return b.transpose(x, perm=p)

    def after(b: Builder, x: Value, *, p: tuple[int, ...]) -> Value:
        return x

    def where(x: Value, *, p: tuple[int, ...]) -> str | None:
        return None if tuple(p) == tuple(range(len(p))) else f"perm={p} moves axes"


@rewrite(samples=[sample("f32[2,3,4]", s=(6, 4), t=(3, 8)), sample("f32[]", s=(1,), t=(1, 1))], single_use=False)
class MergeReshapes:
    """reshape(reshape(x, s), t)  ->  reshape(x, t)"""

    def before(b: Any, x: Any, *, s: Any, t: Any) -> Any:
        return b.reshape(b.reshape(x, shape=s), shape=t)

    def after(b: Builder, x: Value, *, s: Any, t: Any) -> Value:
        return b.reshape(x, shape=t)


@rewrite(samples=[sample("f32[2,3]", s=(2, 3)), sample("i32[]", s=())])
class DropIdentityReshape:
    """reshape(x, shape of x)  ->  x"""

    def before(b: Any, x: Any, *, s: Any) -> Any:
        return b.reshape(x, shape=s)

    def after(b: Builder, x: Value, *, s: Any) -> Value:
        return x

    def where(x: Value, *, s: Any) -> str | None:
        return None if same_shape(x.type.shape, s) else f"{x.type} becomes {list(map(str, s))}"


@rewrite(samples=[sample("f32[2,3]", s=(2, 1, 3), a=(1,)), sample("f32[6]", s=(1, 6, 1), a=(0, 2))], single_use=False)
class MergeSqueezeOfReshape:
    """squeeze(reshape(x, s), a)  ->  reshape(x, s without a)"""

    def before(b: Any, x: Any, *, s: Any, a: Any) -> Any:
        return b.squeeze(b.reshape(x, shape=s), axes=a)

    def after(b: Builder, x: Value, *, s: Any, a: tuple[int, ...]) -> Value:
        dropped = {i % len(s) for i in a}
        return b.reshape(x, shape=tuple(d for i, d in enumerate(s) if i not in dropped))


@rewrite(samples=[sample("f32[2,3]", s=(6,), a=(0,)), sample("f32[4]", s=(2, 2), a=(1, 3))], single_use=False)
class MergeUnsqueezeOfReshape:
    """unsqueeze(reshape(x, s), a)  ->  reshape(x, s with 1 at a)"""

    def before(b: Any, x: Any, *, s: Any, a: Any) -> Any:
        return b.unsqueeze(b.reshape(x, shape=s), axes=a)

    def after(b: Builder, x: Value, *, s: Any, a: tuple[int, ...]) -> Value:
        rank = len(s) + len(a)
        inserted = {i % rank for i in a}
        rest = iter(s)
        return b.reshape(x, shape=tuple(1 if i in inserted else next(rest) for i in range(rank)))


@rewrite(samples=[sample("f32[2,1,3]", a=(1,), s=(3, 2)), sample("f32[1,4]", a=(0,), s=(2, 2))], single_use=False)
class MergeReshapeOfSqueeze:
    """reshape(squeeze(x, a), s)  ->  reshape(x, s)"""

    def before(b: Any, x: Any, *, a: Any, s: Any) -> Any:
        return b.reshape(b.squeeze(x, axes=a), shape=s)

    def after(b: Builder, x: Value, *, a: Any, s: Any) -> Value:
        return b.reshape(x, shape=s)


@rewrite(samples=[sample("f32[2,3]", a=(1,), s=(6,)), sample("f32[4]", a=(0,), s=(2, 2))], single_use=False)
class MergeReshapeOfUnsqueeze:
    """reshape(unsqueeze(x, a), s)  ->  reshape(x, s)"""

    def before(b: Any, x: Any, *, a: Any, s: Any) -> Any:
        return b.reshape(b.unsqueeze(x, axes=a), shape=s)

    def after(b: Builder, x: Value, *, a: Any, s: Any) -> Value:
        return b.reshape(x, shape=s)


@rewrite(samples=[sample("f32[2,3]", a=(1,)), sample("f32[]", a=(0, 1))], single_use=False)
class DropSqueezeOfUnsqueeze:
    """squeeze(unsqueeze(x, a), a)  ->  x"""

    def before(b: Any, x: Any, *, a: Any) -> Any:
        return b.squeeze(b.unsqueeze(x, axes=a), axes=a)

    def after(b: Builder, x: Value, *, a: Any) -> Value:
        return x


@rewrite(samples=[sample("f32[2,1,3]", a=(1,)), sample("f32[1,1]", a=(0, 1))], single_use=False)
class DropUnsqueezeOfSqueeze:
    """unsqueeze(squeeze(x, a), a)  ->  x"""

    def before(b: Any, x: Any, *, a: Any) -> Any:
        return b.unsqueeze(b.squeeze(x, axes=a), axes=a)

    def after(b: Builder, x: Value, *, a: Any) -> Value:
        return x


@rewrite(samples=[sample("f32[2,3]", s=(2, 3)), sample("i32[]", s=())])
class DropIdentityBroadcast:
    """broadcast_to(x, shape of x)  ->  x"""

    def before(b: Any, x: Any, *, s: Any) -> Any:
        return b.broadcast_to(x, shape=s)

    def after(b: Builder, x: Value, *, s: Any) -> Value:
        return x

    def where(x: Value, *, s: Any) -> str | None:
        return None if same_shape(x.type.shape, s) else f"{x.type} is stretched to {list(map(str, s))}"


@rewrite(samples=[sample("f32[3]", s=(2, 3), t=(4, 2, 3)), sample("f32[1,3]", s=(2, 3), t=(2, 3))], single_use=False)
class MergeBroadcasts:
    """broadcast_to(broadcast_to(x, s), t)  ->  broadcast_to(x, t)"""

    def before(b: Any, x: Any, *, s: Any, t: Any) -> Any:
        return b.broadcast_to(b.broadcast_to(x, shape=s), shape=t)

    def after(b: Builder, x: Value, *, s: Any, t: Any) -> Value:
        return b.broadcast_to(x, shape=t)


def _stretched_operands() -> Graph:
    return trace(
        lambda b, x, y: b.add(b.broadcast_to(x, shape=(2, 3)), y), parse_type("f32[1,3]"), parse_type("f32[2,3]")
    )


def _stretched_choice() -> Graph:
    def choose(b: Builder, c: Value, x: Value, y: Value) -> Value:
        return b.where(c, b.broadcast_to(x, shape=(2, 3)), y)

    return trace(choose, parse_type("bool[2,3]"), parse_type("f32[3]"), parse_type("f32[]"))


@rewrite_node(roots=lambda op: op.pointwise, samples=[_stretched_operands, _stretched_choice])
class DropBroadcastOfOperand:
    """pointwise(broadcast_to(x), …)  ->  pointwise(x, …)  where the other operands give the same shape"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        operands = list(node.operands)
        matched = [node]
        for index, value in enumerate(operands):
            if value is None or value.producer is None or value.producer.op.name != "broadcast_to":
                continue
            source = value.producer.operands[0]
            assert source is not None
            trial = [source if i == index else v for i, v in enumerate(operands)]
            shape = broadcast(*(v.type.shape for v in trial if v is not None))
            if same_shape(shape, node.results[0].type.shape):
                operands, matched = trial, [*matched, value.producer]
        if len(matched) == 1:
            return "no operand is broadcast needlessly"
        return Replacement(b.apply(node.op, *operands), tuple(matched))


def _scaled_by_row() -> Graph:
    graph = trace(lambda b, x: b.mul(x, x), parse_type("f32[2,3,4]"))
    (node,) = [n for n in graph if n.op.name == "mul"]
    row = graph.add_weight("row", ArrayWeight(np.arange(4, dtype=np.float32)))
    node.set_operand(1, Builder(graph, before=node).reshape(row, shape=(1, 1, 4)))
    return graph


@rewrite_node(roots=lambda op: op.pointwise, samples=[_scaled_by_row])
class DropLeadingOnesOfOperand:
    """pointwise(reshape(w, (1, …, 1, *shape of w)), y)  ->  pointwise(w, y)  where w is a weight, y has all axes"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        operands = list(node.operands)
        rank = node.results[0].type.rank
        matched = [node]
        for index, value in enumerate(operands):
            source = _before_leading_ones(value)
            others = [v for i, v in enumerate(operands) if i != index and v is not None]
            if source is not None and value is not None and any(v.type.rank == rank for v in others):
                assert value.producer is not None
                operands[index] = source
                matched.append(value.producer)
        if len(matched) == 1:
            return "no operand has leading axes of 1 that another one gives as well"
        return Replacement(b.apply(node.op, *operands), tuple(matched))


def _before_leading_ones(value: Value | None) -> Value | None:
    """The weight that was given axes of 1 before its own."""
    node = value.producer if value is not None else None
    if value is None or node is None or node.op.name not in ("reshape", "unsqueeze") or node.operands[0] is None:
        return None
    source = node.operands[0]
    more = value.type.rank - source.type.rank
    shape = (*[1] * more, *source.type.shape)
    return source if source.weight is not None and more > 0 and same_shape(value.type.shape, shape) else None


def _repeated_head() -> Graph:
    def repeat(b: Builder, x: Value) -> Value:
        spread = b.broadcast_to(b.unsqueeze(x, axes=(2,)), shape=(2, 1, 4, 3, 5))
        return b.reshape(spread, shape=(2, 4, 3, 5))

    return trace(repeat, parse_type("f32[2,1,3,5]"))


@rewrite_node(roots=[Reshape], samples=[_repeated_head])
class DropReshapesAroundBroadcast:
    """reshape(broadcast_to(reshape(x), s), t)  ->  broadcast_to(x, t)  where the reshapes move extents of 1 only"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        spread = _producer(node.operands[0], "broadcast_to")
        inner = None if spread is None else _producer(spread.operands[0], "reshape", "unsqueeze", "squeeze")
        if spread is None or inner is None:
            return "nothing is reshaped and broadcast"
        source = inner.operands[0]
        assert source is not None
        shape = node.result.type.shape
        if len(shape) != source.type.rank:
            return "the rank changes"
        around = _stretched(inner.result.type.shape, spread.result.type.shape)
        if around != _stretched(source.type.shape, shape):
            return "the reshapes do not only move extents of 1"
        return Replacement((b.broadcast_to(source, shape=shape),), (node, spread, inner))


def _producer(value: Value | None, *names: str) -> Node | None:
    node = value.producer if value is not None else None
    return node if node is not None and node.op.name in names else None


def _stretched(source: Shape, shape: Shape) -> list[tuple[Dim, bool]]:
    """The extents that a broadcast gives, those of 1 left out, and whether it stretched them."""
    lead = (1,) * (len(shape) - len(source))
    pairs = zip((*lead, *source), shape, strict=True)
    return [(new, not same(old, new)) for old, new in pairs if not same(new, 1)]


@rewrite(samples=[sample("f32[2,1,3]", s=(2, 4, 3), p=(2, 0, 1)), sample("f32[1,3]", s=(2, 3), p=(1, 0))])
class TransposeBeforeBroadcast:
    """transpose(broadcast_to(x, s), p)  ->  broadcast_to(transpose(x, p), s∘p)"""

    def before(b: Any, x: Any, *, s: Any, p: Any) -> Any:
        return b.transpose(b.broadcast_to(x, shape=s), perm=p)

    def after(b: Builder, x: Value, *, s: Any, p: tuple[int, ...]) -> Value:
        return b.broadcast_to(b.transpose(x, perm=p), shape=tuple(s[i] for i in p))

    def where(x: Value, *, s: Any, p: tuple[int, ...]) -> str | None:
        return None if x.type.rank == len(s) else f"{x.type} gets new axes"


def _stretched_factors() -> Graph:
    def product(b: Builder, x: Value, y: Value) -> Value:
        return b.matmul(x, b.broadcast_to(y, shape=(2, 4, 5, 6)))

    return trace(product, parse_type("f32[2,4,3,5]"), parse_type("f32[2,1,5,6]"))


@rewrite_node(roots=[Matmul], samples=[_stretched_factors])
class DropBroadcastOfFactor:
    """matmul(x, broadcast_to(y))  ->  matmul(x, y)  where the batches of x give the same shape"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        operands = list(node.operands)
        matched = [node]
        for index, value in enumerate(operands):
            spread = _producer(value, "broadcast_to")
            source = None if spread is None else spread.operands[0]
            if value is None or spread is None or source is None or source.type.rank < 2:
                continue
            other = operands[1 - index]
            assert other is not None
            if not same_shape(source.type.shape[-2:], value.type.shape[-2:]):
                continue
            batches = broadcast(source.type.shape[:-2], other.type.shape[:-2])
            if same_shape(batches, broadcast(value.type.shape[:-2], other.type.shape[:-2])):
                operands[index] = source
                matched.append(spread)
        if len(matched) == 1:
            return "no factor is broadcast needlessly"
        return Replacement((b.matmul(*operands),), tuple(dict.fromkeys(matched)))


def _transposed_pointwise() -> Graph:
    def chain(b: Builder, x: Value, y: Value) -> Value:
        return b.add(b.transpose(x, perm=(2, 0, 1)), b.mul(b.transpose(y, perm=(2, 0, 1)), 0.5))

    return trace(chain, parse_type("f32[2,3,4]"), parse_type("f32[2,3,4]"))


@rewrite_node(roots=lambda op: op.pointwise, samples=[_transposed_pointwise])
class SinkTransposeThroughPointwise:
    """pointwise(transpose(x, p), transpose(y, p), scalar)  ->  transpose(pointwise(x, y, scalar), p)"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        if len(node.results) != 1:
            return "it has several results"
        perm: tuple[int, ...] | None = None
        matched = [node]
        sources: list[Value | None] = []
        for value in node.operands:
            if value is None or value.type.rank == 0:
                sources.append(value)
                continue
            producer = value.producer
            if producer is None or not isinstance(producer.op, Transpose):
                return "an operand is not transposed"
            if perm not in (None, producer.op.perm) or len(value.users) > 1:
                return "the transposes differ or have other users"
            perm = producer.op.perm
            if producer not in matched:
                matched.append(producer)
            sources.append(producer.operands[0])
        if perm is None:
            return "no operand is transposed"
        (moved,) = b.apply(node.op, *sources)
        return Replacement((b.transpose(moved, perm=perm),), tuple(matched))


@rewrite(samples=[sample("f32[2,3]", axis=1), sample("f32[2]", axis=0)])
class DropConcatOfOne:
    """concat(x)  ->  x"""

    def before(b: Any, x: Any, *, axis: Any) -> Any:
        return b.concat(x, axis=axis)

    def after(b: Builder, x: Value, *, axis: int) -> Value:
        return x


def _nested_concat() -> Graph:
    def nested(b: Builder, x: Value, y: Value, z: Value) -> Value:
        return b.concat(b.concat(x, y, axis=1), z, axis=1)

    return trace(nested, parse_type("f32[2,1]"), parse_type("f32[2,3]"), parse_type("f32[2,2]"))


@rewrite_node(roots=[Concat], samples=[_nested_concat])
class FlattenConcat:
    """concat(concat(x, y), z)  ->  concat(x, y, z)  along one axis"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        operands: list[Value | None] = []
        matched = [node]
        for value in node.operands:
            inner = value.producer if value is not None else None
            if inner is not None and inner.op == node.op and value is not None and len(value.users) == 1:
                operands.extend(inner.operands)
                matched.append(inner)
            else:
                operands.append(value)
        if len(matched) == 1:
            return "no operand is a concatenation along the same axis used only here"
        return Replacement(b.apply(node.op, *operands), tuple(matched))


@rewrite(
    samples=[sample("f32[2,3]", a=(1,), lo=(0,), hi=(3,), st=(1,)), sample("f32[4]", a=(0,), lo=(0,), hi=(4,), st=())]
)
class DropFullSlice:
    """slice(x, everything)  ->  x"""

    def before(b: Any, x: Any, *, a: Any, lo: Any, hi: Any, st: Any) -> Any:
        return b.slice(x, axes=a, starts=lo, stops=hi, steps=st)

    def after(b: Builder, x: Value, *, a: Any, lo: Any, hi: Any, st: Any) -> Value:
        return x

    def where(x: Value, *, a: Any, lo: Any, hi: Any, st: Any) -> str | None:
        for axis, start, stop, step in zip(a, lo, hi, st or (1,) * len(a), strict=True):
            if not (same(start, 0) and same(stop, x.type.shape[axis]) and step == 1):
                return f"axis {axis} keeps {start}..{stop} by {step} of {x.type.shape[axis]}"
        return None


@rewrite(samples=[sample("f32[2,3]", padding=((0, 0), (0, 0)), mode="constant", value=1.0)])
class DropEmptyPad:
    """pad(x, nothing)  ->  x"""

    def before(b: Any, x: Any, *, padding: Any, mode: Any, value: Any) -> Any:
        return b.pad(x, padding=padding, mode=mode, value=value)

    def after(b: Builder, x: Value, *, padding: Any, mode: Any, value: Any) -> Value:
        return x

    def where(x: Value, *, padding: Any, mode: Any, value: Any) -> str | None:
        return None if all(same(lo, 0) and same(hi, 0) for lo, hi in padding) else f"padding={padding}"


@rewrite(samples=[sample("f32[2,3]", a=(1,)), sample("f32[2,3]", a=(0, 1))], single_use=False)
class DropDoubleFlip:
    """flip(flip(x, a), a)  ->  x"""

    def before(b: Any, x: Any, *, a: Any) -> Any:
        return b.flip(b.flip(x, axes=a), axes=a)

    def after(b: Builder, x: Value, *, a: Any) -> Value:
        return x


def _block_at_known_place() -> Graph:
    graph = trace(lambda b, x, i: b.dynamic_slice(x, i, sizes=(4, 2)), parse_type("f32[4,5]"), parse_type("i64[2]"))
    (node,) = [n for n in graph if n.op.name == "dynamic_slice"]
    node.set_operand(1, graph.add_weight("starts", ArrayWeight(np.array([3, 1]))))
    return graph


@rewrite_node(roots=[DynamicSlice], samples=[_block_at_known_place])
class SliceAtKnownPlace:
    """dynamic_slice(x, known starts)  ->  slice(x)  where at every size the block lies inside, or is a whole axis"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        assert isinstance(node.op, DynamicSlice)
        x, starts = node.operands
        assert x is not None
        if starts is None or starts.weight is None:
            return "where the block begins is not known"
        cut: list[tuple[int, int, Dim]] = []
        for axis, (start, size, extent) in enumerate(
            zip(starts.weight.array().tolist(), node.op.sizes, x.type.shape, strict=True)
        ):
            if same(size, extent):
                continue
            if start < 0 or bounds(extent - size - start)[0] < 0:
                return f"along axis {axis} the block may stick out, and is moved then"
            cut.append((axis, start, size + start))
        if not cut:
            return Replacement((x,), (node,))
        axes, begins, ends = (tuple(column) for column in zip(*cut, strict=True))
        return Replacement((b.slice(x, axes=axes, starts=begins, stops=ends, steps=(1,) * len(axes)),), (node,))
