"""Attention scores in more axes than they need, as `vmap` leaves them: those of extent 1 go below the softmax."""

# pyright: reportSelfClsParameterName=false, reportGeneralTypeIssues=false
# A rule is a class of plain functions: they take a builder and what was bound, never `self`.

from __future__ import annotations

from typing import Any

from dragoman.ir.builder import Builder, trace
from dragoman.ir.dims import is_one, same
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.op import normal_axis
from dragoman.ir.ops.shape import Transpose
from dragoman.ir.ops.softmax import Softmax
from dragoman.ir.types import Shape, parse_type
from dragoman.passes.rewrite import Replacement, rewrite_node

_RESHAPES = ("reshape", "squeeze", "unsqueeze")


def _with_one_moved() -> Graph:
    def move(b: Builder, x: Value) -> Value:
        return b.transpose(b.reshape(x, shape=(2, 3, 1, 4)), perm=(2, 0, 1, 3))

    return trace(move, parse_type("f32[2,3,4]"))


@rewrite_node(roots=[Transpose], samples=[_with_one_moved])
class TransposeOfAddedOnes:
    """transpose(reshape(x))  ->  reshape(x)  where only axes of extent 1 were put in, and only those move"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        wide = node.operands[0]
        reshape = wide.producer if wide is not None else None
        if wide is None or reshape is None or reshape.op.name not in _RESHAPES:
            return "what is transposed is no reshape"
        op: Any = node.op
        x = reshape.operands[0]
        assert x is not None
        kept = [a % wide.type.rank for a in op.perm if not is_one(wide.type.shape[a])]
        if kept != sorted(kept):
            return f"perm={op.perm} moves more than axes of extent 1"
        if not _same_without_ones(x.type.shape, wide.type.shape):
            return "the reshape does more than put in axes of extent 1"
        return Replacement((b.reshape(x, shape=node.result.type.shape),), (node, reshape))


def _same_without_ones(a: Shape, c: Shape) -> bool:
    first, second = ([d for d in shape if not is_one(d)] for shape in (a, c))
    return len(first) == len(second) and all(map(same, first, second))


def _softened() -> Graph:
    def soften(b: Builder, x: Value) -> Value:
        return b.softmax(b.reshape(x, shape=(1, 2, 3, 4)), axis=3)

    return trace(soften, parse_type("f32[2,3,4]"))


@rewrite_node(roots=[Softmax], samples=[_softened])
class SinkReshapeThroughSoftmax:
    """softmax(reshape(x))  ->  reshape(softmax(x))  where the reshape puts axes before those of x"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        op: Any = node.op
        wide = node.operands[0]
        reshape = wide.producer if wide is not None else None
        if wide is None or reshape is None or reshape.op.name not in _RESHAPES:
            return "the operand is no reshape"
        x = reshape.operands[0]
        assert x is not None
        lead = wide.type.rank - x.type.rank
        axis = normal_axis(op.axis, wide.type.rank)
        if lead <= 0 or axis < lead or not all(map(is_one, wide.type.shape[:lead])):
            return "the reshape does not put axes of extent 1 before those of x"
        if not all(map(same, wide.type.shape[lead:], x.type.shape)):
            return "the reshape does more than that"
        y = b.softmax(x, axis=axis - lead)
        return Replacement((b.reshape(y, shape=node.result.type.shape),), (node, reshape))
