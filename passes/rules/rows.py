"""Matrix products over rows: a linear layer over [*, k] is one over the [n, k] rows of it, and what follows stays so.

Where a target multiplies a matrix with its bias in one go and a stack in two (ONNX's Gemm and MatMul + Add).
"""

# pyright: reportSelfClsParameterName=false, reportGeneralTypeIssues=false
# A rule is a class of plain functions: they take a builder and what was bound, never `self`.

from __future__ import annotations

from typing import Any

from dragoman.ir.builder import Builder, trace
from dragoman.ir.dims import product, same
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.op import Op, normal_axis
from dragoman.ir.ops.matmul import Linear, Matmul
from dragoman.ir.ops.norm import LayerNorm, RmsNorm
from dragoman.ir.ops.shape import Reshape
from dragoman.ir.types import Shape, parse_type, same_shape
from dragoman.passes.rewrite import Replacement, rewrite_node


def _linear() -> Graph:
    types = map(parse_type, ("f32[2,3,4]", "f32[5,4]", "f32[5]"))
    return trace(lambda b, x, w, c: b.linear(x, w, c), *types)


def _linear_without_bias() -> Graph:
    return trace(lambda b, x, w: b.relu(b.linear(x, w)), parse_type("f32[2,1,3,4]"), parse_type("f32[5,4]"))


@rewrite_node(roots=[Linear], samples=[_linear, _linear_without_bias])
class LinearOverRows:
    """linear(x, w, c)  ->  reshape(linear(rows of x, w, c))"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        x, *parameters = node.operands
        assert x is not None
        if x.type.rank <= 2 or not x.type.dtype.is_float:
            return f"{x.type} has no more than rows"
        if len(parameters) < 2 and _is_output_only(node):
            return "the result is an output: putting it into shape would copy it"
        (y,) = b.apply(node.op, _rows(b, x), *parameters)
        return Replacement((b.reshape(y, shape=node.results[0].type.shape),), (node,))


def _is_output_only(node: Node) -> bool:
    graph = node.graph
    return graph is not None and all(user is graph.terminator for user in node.results[0].users)


def _product() -> Graph:
    return trace(lambda b, x, w: b.relu(b.matmul(x, w)), parse_type("f32[2,3,4]"), parse_type("f32[4,5]"))


@rewrite_node(roots=[Matmul], samples=[_product])
class MatmulOverRows:
    """matmul(x, matrix)  ->  reshape(matmul(rows of x, matrix))"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        x, matrix = node.operands
        assert x is not None
        assert matrix is not None
        if x.type.rank <= 2 or matrix.type.rank != 2 or not x.type.dtype.is_float:
            return f"{x.type} times {matrix.type} is not rows times a matrix"
        if _is_output_only(node):
            return "the result is an output: putting it into shape would copy it"
        (y,) = b.apply(node.op, _rows(b, x), matrix)
        return Replacement((b.reshape(y, shape=node.results[0].type.shape),), (node,))


def _rows(b: Builder, x: Value) -> Value:
    *lead, depth = x.type.shape
    return b.reshape(x, shape=(product(lead), depth))


def _rows_split(value: Value | None) -> Value | None:
    """The [n, k] matrix whose rows a value [*, k] is, if that is where it comes from."""
    producer = value.producer if value is not None else None
    if value is None or producer is None or not isinstance(producer.op, Reshape):
        return None
    source = producer.operands[0]
    assert source is not None
    if source.type.rank != 2 or value.type.rank <= 2:
        return None
    (rows, depth), (*lead, last) = source.type.shape, value.type.shape
    return source if same(depth, last) and same(rows, product(lead)) else None  # of empty rows, any number is one


def _residual() -> Graph:
    def add(b: Builder, x: Value, y: Value) -> Value:
        return b.add(b.reshape(x, shape=(2, 3, 4)), y)

    return trace(add, parse_type("f32[6,4]"), parse_type("f32[2,3,4]"))


def _scaled() -> Graph:
    def scale(b: Builder, x: Value, y: Value) -> Value:
        return b.mul(b.mul(b.reshape(x, shape=(2, 3, 4)), y), 0.5)

    return trace(scale, parse_type("f32[6,4]"), parse_type("f32[1,4]"))


def _chosen() -> Graph:
    def choose(b: Builder, c: Value, x: Value) -> Value:
        rows = b.reshape(x, shape=(2, 3, 4))
        return b.where(c, b.gelu(rows), rows)

    return trace(choose, parse_type("bool[4]"), parse_type("f32[6,4]"))


@rewrite_node(roots=lambda op: op.pointwise, samples=[_residual, _scaled, _chosen])
class PointwiseOverRows:
    """pointwise(reshape(rows), y, …)  ->  reshape(pointwise(rows, rows of y, …))"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        if len(node.results) != 1 or "axis" in node.op.attribute_names():
            return "it has several results, or an axis of its own"
        shape = node.results[0].type.shape
        if len(shape) <= 2:
            return "the result has no more than rows"
        matched, operands = [node], list[Value | None]()
        for value in node.operands:
            operand = _as_rows(b, value, shape)
            if isinstance(operand, str):
                return operand
            operands.append(operand)
            if value is not None and value.producer is not None and _rows_split(value) is not None:
                matched.append(value.producer)
        if len(matched) == 1:
            return "no operand comes in rows"
        (y,) = b.apply(node.op, *operands)
        return Replacement((b.reshape(y, shape=shape),), tuple(dict.fromkeys(matched)))


def _as_rows(b: Builder, value: Value | None, shape: Shape) -> Value | str | None:
    """An operand of a pointwise op over `shape` as one over its rows; a reason where it is stretched along them."""
    if value is None or value.type.rank <= 1:
        return value
    rows = _rows_split(value)
    if rows is not None and same_shape(value.type.shape, shape):
        return rows
    *lead, depth = value.type.shape
    if all(isinstance(d, int) and d == 1 for d in lead):
        return b.reshape(value, shape=(depth,))
    if same_shape(value.type.shape, shape):
        return _rows(b, value)
    return f"{value.type} is stretched along the rows"


def _normalised() -> Graph:
    def norm(b: Builder, x: Value, scale: Value) -> Value:
        return b.rms_norm(
            b.layer_norm(b.reshape(x, shape=(2, 3, 4)), scale, scale, axis=-1, epsilon=1e-5),
            scale,
            axis=2,
            epsilon=1e-6,
        )

    return trace(norm, parse_type("f32[6,4]"), parse_type("f32[4]"))


@rewrite_node(roots=[LayerNorm, RmsNorm], samples=[_normalised])
class NormOverRows:
    """norm(reshape(rows), scale, bias)  ->  reshape(norm(rows, scale, bias))  over the last axis"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        x, *parameters = node.operands
        rows = _rows_split(x)
        if x is None or x.producer is None or rows is None:
            return "what is normalised does not come in rows"
        op: Any = node.op
        if normal_axis(op.axis, x.type.rank) != x.type.rank - 1:
            return f"axis={op.axis} normalises more than the last axis"
        (y,) = b.apply(_over_last(op), rows, *parameters)
        return Replacement((b.reshape(y, shape=node.results[0].type.shape),), (node, x.producer))


def _over_last(op: Any) -> Op:
    return type(op)(**{**dict(op.attributes()), "axis": 1})
