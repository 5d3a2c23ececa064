"""What guards against NaN, infinities and empty sums where the ops do so themselves."""

# pyright: reportSelfClsParameterName=false, reportGeneralTypeIssues=false
# A rule is a class of plain functions: they take a builder and what was bound, never `self`.

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from dragoman.ir.arithmetic import FLOAT64
from dragoman.ir.builder import Builder, trace
from dragoman.ir.dims import is_one
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.op import normal_axis, sample
from dragoman.ir.ops.comparison import Where
from dragoman.ir.ops.elementwise import Div
from dragoman.ir.ops.softmax import Softmax
from dragoman.ir.types import BOOL, F32, F64, parse_type, same_shape
from dragoman.ir.weights import ArrayWeight
from dragoman.passes.pattern import scalar_of
from dragoman.passes.positions import made_of
from dragoman.passes.rewrite import Replacement, rewrite, rewrite_node
from dragoman.passes.rules.masks import looks_back_along


def _guarded(test: Callable[[Builder, Value], Value]) -> Callable[[], Graph]:
    return lambda: trace(lambda b, x: b.where(test(b, x), x, b.softplus(x, threshold=None)), parse_type("f32[2,3]"))


@rewrite_node(roots=[Where], samples=[_guarded(lambda b, x: b.not_equal(x, x)), _guarded(lambda b, x: b.isnan(x))])
class DropGuardAgainstNan:
    """where(x is NaN, x, f(x))  ->  f(x)  where f of NaN is NaN"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        condition, x, otherwise = node.operands
        test = condition.producer if condition is not None else None
        if x is None or test is None or otherwise is None or not _asks_for_nan(test, x):
            return "the condition does not ask whether the value chosen is NaN"
        function = otherwise.producer
        if function is None or list(function.operands) != [x] or not _passes_nan_on(function):
            return "what is chosen otherwise is not known to be NaN for NaN"
        return Replacement((otherwise,), (node, test, function))


def _asks_for_nan(test: Node, x: Value) -> bool:
    return (test.op.name == "not_equal" and list(test.operands) == [x, x]) or (
        test.op.name == "isnan" and test.operands[0] is x
    )


def _passes_nan_on(function: Node) -> bool:
    if not function.op.pointwise or not function.result.type.dtype.is_float:
        return False
    with np.errstate(all="ignore"):
        return bool(np.isnan(np.asarray(function.op.reference(FLOAT64, np.array(np.nan)))).all())


def _known(truth: bool) -> Callable[[], Graph]:
    def choose(b: Builder, x: Value, y: Value) -> Value:
        return b.where(b.constant(value=truth, dtype=BOOL), x, y)

    return lambda: trace(choose, parse_type("f32[2,1]"), parse_type("f32[3]"))


@rewrite_node(roots=[Where], samples=[_known(True), _known(False)])
class DropKnownChoice:
    """where(true, x, y)  ->  x,  where(false, x, y)  ->  y"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        condition, *choices = node.operands
        constant = condition.producer if condition is not None else None
        if condition is None or constant is None or constant.op.name != "constant":
            return "the condition is not known"
        chosen = choices[0] if scalar_of(condition) else choices[1]
        assert chosen is not None
        return Replacement((b.broadcast_to(chosen, shape=node.result.type.shape),), (node, constant))


def _shifted() -> Graph:
    def soften(b: Builder, x: Value) -> Value:
        return b.softmax(b.sub(x, b.reduce_max(x, axes=(1,), keepdims=True)), axis=1)

    return trace(soften, parse_type("f32[2,3]"))


@rewrite_node(roots=[Softmax], samples=[_shifted])
class DropMaximumBeforeSoftmax:
    """softmax(x − max(x))  ->  softmax(x)  with the maximum over the softmax's axis"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        op: Any = node.op
        found = _without_maximum(node.operands[0], normal_axis(op.axis, node.result.type.rank))
        if isinstance(found, str):
            return found
        x, nodes = found
        return Replacement((b.softmax(x, axis=op.axis),), (node, *nodes))


def _powers_of_shifted() -> Graph:
    def soften(b: Builder, x: Value) -> Value:
        top = b.reshape(b.transpose(b.reduce_max(x, axes=(2,)), perm=(1, 0)), shape=(3, 2, 1))
        raised = b.exp(b.sub(b.transpose(x, perm=(1, 0, 2)), top))
        return b.div(raised, b.reduce_sum(raised, axes=(2,), keepdims=True))

    return trace(soften, parse_type("f32[2,3,4]"))


@rewrite_node(roots=[Div], samples=[_powers_of_shifted])
class SoftmaxOfShiftedPowers:
    """exp(x − max) / Σexp(x − max)  ->  softmax(x)  wherever the maximum was moved on its way

    Without a maximum taken out it overflows to NaN where a softmax does not: that stays as it is.
    """

    def apply(b: Builder, node: Node) -> Replacement | str:
        raised, total = (v.producer if v is not None else None for v in node.operands)
        if raised is None or raised.op.name != "exp" or total is None or total.op.name != "reduce_sum":
            return "no power is divided by a sum"
        op: Any = total.op
        if total.operands[0] is not raised.result or not op.keepdims or len(op.axes) != 1:
            return "what is summed is not the same power along one axis, which is kept"
        axis = normal_axis(op.axes[0], node.result.type.rank)
        found = _without_maximum(raised.operands[0], axis)
        if isinstance(found, str):
            return found
        x, nodes = found
        return Replacement((b.softmax(x, axis=axis),), (node, raised, total, *nodes))


_MOVES = ("reshape", "unsqueeze", "squeeze", "transpose")


def _without_maximum(shifted: Value | None, axis: int) -> tuple[Value, list[Node]] | str:
    """x out of x − max, where what is subtracted is the same along an axis, with the nodes in between; or why not."""
    difference = shifted.producer if shifted is not None else None
    if shifted is None or difference is None or difference.op.name != "sub":
        return "no maximum is taken out"
    x, subtracted = difference.operands
    assert x is not None
    assert subtracted is not None
    top, nodes = subtracted, [difference]
    while top.producer is not None and top.producer.op.name in _MOVES and top.producer.operands[0] is not None:
        nodes.append(top.producer)
        top = top.producer.operands[0]
    if top.producer is None or top.producer.op.name != "reduce_max":
        return "what is subtracted is no maximum"
    lead = shifted.type.rank - subtracted.type.rank
    if x.type.rank != shifted.type.rank or (axis >= lead and not is_one(subtracted.type.shape[axis - lead])):
        return f"what is subtracted varies along axis {axis}"
    return x, nodes


_LARGEST_MASK = 1 << 24  # bytes of a mask that is looked through
_NEVER = -1e30  # a score to which nothing that is not as large adds anything, in f32 as in float64


def _chosen_scores(weight: bool) -> Callable[[], Graph]:
    def soften(b: Builder, x: Value, m: Value) -> Value:
        return b.softmax(b.where(m, x, -3e38), axis=2)

    def build() -> Graph:
        if not weight:
            return trace(soften, parse_type("f32[2,3,4]"), parse_type("bool[3,4]"))
        graph = Graph()
        x = graph.add_input(parse_type("f32[2,4,4]"), "x")
        mask = graph.add_weight("mask", ArrayWeight(np.tri(4, dtype=np.bool_)))
        graph.set_outputs([soften(Builder(graph), x, mask)])
        return graph

    return build


@rewrite_node(
    roots=[Softmax],
    samples=[_chosen_scores(weight=False), _chosen_scores(weight=True)],
    inexact="over the reals a score of −10³⁰ is not without weight",
)
class AddMaskToScores:
    """softmax(where(m, x, −large))  ->  softmax(x + where(m, 0, −large))  with −∞ where no row of m is empty

    The same for finite scores: one that is NaN or infinite and masked comes through the sum, as in `attention`.
    """

    def apply(b: Builder, node: Node) -> Replacement | str:
        op: Any = node.op
        choice = node.operands[0].producer if node.operands[0] is not None else None
        if choice is None or not isinstance(choice.op, Where):
            return "the scores are not chosen by a mask"
        mask, x, otherwise = choice.operands
        assert mask is not None
        assert x is not None
        assert otherwise is not None
        number = scalar_of(otherwise)
        if not isinstance(number, (int, float)) or not number <= _NEVER:
            return "what is chosen otherwise is not a number that leaves no weight"
        dtype, rank = x.type.dtype, node.result.type.rank
        if dtype not in (F32, F64) or not same_shape(x.type.shape, node.result.type.shape):
            return f"scores {x.type}, of a {node.result.type}"
        reason = _rows_with_some(mask) if normal_axis(op.axis, rank) == rank - 1 else None
        lowest = b.const(-math.inf if reason is not None else number, dtype)
        y = b.softmax(b.add(x, b.where(mask, b.const(0.0, dtype), lowest)), axis=op.axis)
        known = [otherwise.producer] if otherwise.producer is not None else []
        return Replacement((y,), (node, choice, *known, *(reason or ())))


def _rows_with_some(mask: Value) -> list[Node] | None:
    """The nodes that tell that each row of a mask lets something through; None where that is not known."""
    if mask.weight is not None:
        small = mask.type.is_static and mask.type.rank > 0 and mask.weight.nbytes <= _LARGEST_MASK
        return [] if small and bool(np.asarray(mask.weight.array()).any(axis=-1).all()) else None
    return made_of(mask) if looks_back_along(mask, mask.type.shape) else None


@rewrite(
    samples=[sample("f32[2,3]"), sample("f16[]")], single_use=True, inexact="softplus is min and max of its operand"
)
class NegatedSoftplus:
    """−softplus(−x)  ->  log_sigmoid(x)"""

    def before(b: Any, x: Any) -> Any:
        return b.neg(b.softplus(b.neg(x), beta=1.0, threshold=None))

    def after(b: Builder, x: Value) -> Value:
        return b.log_sigmoid(x)
