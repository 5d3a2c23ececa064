"""A variance computed from the mean of squares, as flax has it, in the form that loses no digits."""

# pyright: reportSelfClsParameterName=false, reportGeneralTypeIssues=false
# A rule is a class of plain functions: they take a builder and what was bound, never `self`.

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dragoman.ir.builder import Builder, trace
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.ops.activation import Relu
from dragoman.ir.ops.elementwise import Maximum
from dragoman.ir.types import parse_type
from dragoman.passes.pattern import scalar_of
from dragoman.passes.rewrite import Replacement, rewrite_node


def _graph(function: Callable[[Builder, Value], Value], type: str) -> Callable[[], Graph]:
    return lambda: trace(function, parse_type(type))


def _difference_of_means(b: Builder, x: Value) -> Value:
    mean = b.reduce_mean(x, axes=(1,))
    return b.maximum(b.sub(b.reduce_mean(b.square(x), axes=(1,)), b.square(mean)), 0.0)


def _bounded_difference(b: Builder, x: Value) -> Value:
    mean = b.reduce_mean(x, axes=(1, 2), keepdims=True)
    return b.relu(b.sub(b.reduce_mean(b.mul(x, x), axes=(1, 2), keepdims=True), b.mul(mean, mean)))


@rewrite_node(
    roots=[Maximum, Relu],
    samples=[_graph(_difference_of_means, "f32[2,3,4]"), _graph(_bounded_difference, "f64[2,3,4]")],
    inexact="a variance is not negative, of which the field knows nothing",
)
class VarianceByDeviations:
    """max(mean(x²) − mean(x)², 0)  ->  mean((x − mean(x))²)"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        bounded = _bounded(node)
        if bounded is None or bounded.op.name != "sub":
            return "what is bounded is no difference"
        squares, square = (v.producer if v is not None else None for v in bounded.operands)
        mean, mean_of_squares = _squared(square), squares
        if mean is None or mean.producer is None or mean_of_squares is None:
            return "no square is taken away"
        same_reduction = mean.producer.op == mean_of_squares.op and mean.producer.op.name == "reduce_mean"
        x, inner = mean.producer.operands[0], mean_of_squares.operands[0]
        if not same_reduction or inner is None or _squared(inner.producer) is not x or x is None:
            return "they are not the means of the square and of the same value over the same axes"
        op: Any = mean.producer.op
        kept = b.reduce_mean(x, axes=op.axes, keepdims=True)
        variance = b.one(op, b.square(b.sub(x, kept)))
        covered = tuple(n for n in (node, bounded, mean_of_squares, square, inner.producer, mean.producer) if n)
        return Replacement((variance,), covered)


def _bounded(node: Node) -> Node | None:
    """What is bounded by zero from below."""
    operands = [v for v in node.operands if v is not None]
    if isinstance(node.op, Relu):
        return operands[0].producer
    zero = next((v for v in operands if scalar_of(v) == 0), None)
    return next((v.producer for v in operands if v is not zero), None) if zero is not None else None


def _squared(node: Node | None) -> Value | None:
    """The value that is squared."""
    if node is None:
        return None
    if node.op.name == "square":
        return node.operands[0]
    return node.operands[0] if node.op.name == "mul" and node.operands[0] is node.operands[1] else None
