"""Reductions that keep their axes where what follows puts them back."""

# pyright: reportSelfClsParameterName=false, reportGeneralTypeIssues=false
# A rule is a class of plain functions: they take a builder and what was bound, never `self`.

from __future__ import annotations

from collections.abc import Callable

from dragoman.ir.builder import Builder, trace
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.op import normal_axes
from dragoman.ir.ops.reduce import Reduction
from dragoman.ir.ops.shape import Reshape, Unsqueeze
from dragoman.ir.types import parse_type, same_shape
from dragoman.passes.rewrite import Replacement, rewrite_node


def _mean(b: Builder, x: Value) -> Value:
    return b.reshape(b.reduce_mean(x, axes=(1,)), shape=(2, 1, 4))


def _largest(b: Builder, x: Value) -> Value:
    return b.unsqueeze(b.reduce_max(x, axes=(0, 2)), axes=(0, 2))


def _graph(function: Callable[[Builder, Value], Value], type: str) -> Callable[[], Graph]:
    return lambda: trace(function, parse_type(type))


@rewrite_node(roots=[Reshape, Unsqueeze], samples=[_graph(_mean, "f32[2,3,4]"), _graph(_largest, "f32[2,3,4]")])
class KeepReducedAxes:
    """reshape(reduce(x), with ones at the reduced axes)  ->  reduce(x, keepdims)"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        reduction = node.operands[0].producer if node.operands[0] is not None else None
        if reduction is None or not isinstance(reduction.op, Reduction) or reduction.op.keepdims:
            return "what is reshaped is no reduction, or one that keeps its axes"
        if len(reduction.result.uses) > 1:
            return "the reduction is used without its axes too"
        (x,) = reduction.operands
        assert x is not None
        axes = set(normal_axes(reduction.op.axes, x.type.rank))
        kept = tuple(1 if a in axes else d for a, d in enumerate(x.type.shape))
        if not same_shape(node.result.type.shape, kept):
            return "the axes that it puts back are others"
        return Replacement((b.one(reduction.op.with_attributes(keepdims=True), x),), (node, reduction))
