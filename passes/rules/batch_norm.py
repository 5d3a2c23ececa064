"""Batch normalisation with known statistics is an affine map per channel: it goes into the conv or linear before it.

The arithmetic on weights stays as ops here, which the proofs can follow; `fold_constants` evaluates it afterwards in
float64.
"""

# pyright: reportSelfClsParameterName=false, reportGeneralTypeIssues=false
# A rule is a class of plain functions: they take a builder and what was bound, never `self`.

from __future__ import annotations

from typing import Any

from dragoman.ir.builder import Builder
from dragoman.ir.graph import Value
from dragoman.ir.op import operand, sample
from dragoman.passes.rewrite import rewrite


def _affine(b: Builder, statistics: tuple[Value, ...], epsilon: float) -> tuple[Value, Value]:
    """Scale s and shift t with batch_norm(x) = x·s + t."""
    scale, bias, mean, variance = statistics
    s = b.div(scale, b.sqrt(b.add(variance, epsilon)))
    return s, b.sub(bias, b.mul(mean, s))


def _per_output(b: Builder, s: Value, w: Value) -> Value:
    """A vector over the first axis of `w`, shaped to multiply it; without numbers, so that proofs may shrink it."""
    return b.unsqueeze(s, axes=tuple(range(1, w.type.rank)))


def _constant(*values: Value) -> str | None:
    for v in values:
        if v.weight is None and (v.producer is None or v.producer.operands):
            return f"an operand of type {v.type} is computed at run time: {_origin(v)}"
    return None


def _origin(value: Value) -> str:
    if value.producer is None:
        return f"the input {value.name}"
    place = value.producer.provenance.line
    return value.producer.op.name + (f" at {place}" if place else "")


_VECTOR = operand("f32[4]", weight=True)
_CHANNELS = [_VECTOR, _VECTOR, _VECTOR, operand("f32[4]", low=0.1, high=2.0, weight=True)]
_CONV = {
    "strides": (1, 2),
    "padding": ((1, 0), (0, 1)),
    "dilations": (1, 1),
    "layout": "channels_first",
    "epsilon": 1e-5,
    "axis": 1,
}


@rewrite(
    samples=[
        sample("f32[2,3,5,6]", operand("f32[4,3,2,3]", weight=True), *_CHANNELS, groups=1, **_CONV),
        sample("f32[1,4,5,6]", operand("f32[4,2,1,1]", weight=True), *_CHANNELS, groups=2, **_CONV),
    ]
)
class FoldBatchNormIntoConv:
    """batch_norm(conv(x, w))  ->  conv(x, w·s, t)"""

    def before(
        b: Any, x: Any, w: Any, scale: Any, bias: Any, mean: Any, variance: Any, *,
        strides: Any, padding: Any, dilations: Any, groups: Any, layout: Any, epsilon: Any, axis: Any,
    ) -> Any:  # fmt: skip
        y = b.conv(x, w, strides=strides, padding=padding, dilations=dilations, groups=groups, layout=layout)
        return b.batch_norm(y, scale, bias, mean, variance, epsilon=epsilon, axis=axis)

    def after(
        b: Builder, x: Value, w: Value, *statistics: Value, epsilon: float, axis: int, **convolution: Any
    ) -> Value:
        s, t = _affine(b, statistics, epsilon)
        return b.conv(x, b.mul(w, _per_output(b, s, w)), t, **convolution)

    def where(x: Value, w: Value, *statistics: Value, epsilon: float, axis: int, **convolution: Any) -> str | None:
        return _constant(w, *statistics) or _channel_axis(x, axis, convolution["layout"])


@rewrite(
    samples=[
        sample("f32[2,3,5,6]", operand("f32[4,3,2,3]", weight=True), _VECTOR, *_CHANNELS, groups=1, **_CONV),
        sample("f32[1,4,5,6]", operand("f32[4,1,1,1]", weight=True), _VECTOR, *_CHANNELS, groups=4, **_CONV),
    ]
)
class FoldBatchNormIntoBiasedConv:
    """batch_norm(conv(x, w, c))  ->  conv(x, w·s, c·s + t)"""

    def before(
        b: Any, x: Any, w: Any, c: Any, scale: Any, bias: Any, mean: Any, variance: Any, *,
        strides: Any, padding: Any, dilations: Any, groups: Any, layout: Any, epsilon: Any, axis: Any,
    ) -> Any:  # fmt: skip
        y = b.conv(x, w, c, strides=strides, padding=padding, dilations=dilations, groups=groups, layout=layout)
        return b.batch_norm(y, scale, bias, mean, variance, epsilon=epsilon, axis=axis)

    def after(
        b: Builder, x: Value, w: Value, c: Value, *statistics: Value, epsilon: float, axis: int, **convolution: Any
    ) -> Value:
        s, t = _affine(b, statistics, epsilon)
        return b.conv(x, b.mul(w, _per_output(b, s, w)), b.add(b.mul(c, s), t), **convolution)

    def where(
        x: Value, w: Value, c: Value, *statistics: Value, epsilon: float, axis: int, **convolution: Any
    ) -> str | None:
        return _constant(w, c, *statistics) or _channel_axis(x, axis, convolution["layout"])


def _channel_axis(x: Value, axis: int, layout: str) -> str | None:
    channels = 1 if layout == "channels_first" else x.type.rank - 1
    return None if axis % x.type.rank == channels else f"axis={axis} is not the channels of {layout}"


@rewrite(samples=[sample("f32[2,3]", operand("f32[4,3]", weight=True), *_CHANNELS, epsilon=1e-3, axis=1)])
class FoldBatchNormIntoLinear:
    """batch_norm(linear(x, w))  ->  linear(x, w·s, t)"""

    def before(
        b: Any, x: Any, w: Any, scale: Any, bias: Any, mean: Any, variance: Any, *, epsilon: Any, axis: Any
    ) -> Any:
        return b.batch_norm(b.linear(x, w), scale, bias, mean, variance, epsilon=epsilon, axis=axis)

    def after(b: Builder, x: Value, w: Value, *statistics: Value, epsilon: float, axis: int) -> Value:
        s, t = _affine(b, statistics, epsilon)
        return b.linear(x, b.mul(w, _per_output(b, s, w)), t)

    def where(x: Value, w: Value, *statistics: Value, epsilon: float, axis: int) -> str | None:
        if axis % x.type.rank != x.type.rank - 1:
            return f"axis={axis} is not the last of {x.type}"
        return _constant(w, *statistics)


@rewrite(samples=[sample("f32[2,3]", operand("f32[4,3]", weight=True), _VECTOR, *_CHANNELS, epsilon=1e-3, axis=1)])
class FoldBatchNormIntoBiasedLinear:
    """batch_norm(linear(x, w, c))  ->  linear(x, w·s, c·s + t)"""

    def before(
        b: Any, x: Any, w: Any, c: Any, scale: Any, bias: Any, mean: Any, variance: Any, *, epsilon: Any, axis: Any
    ) -> Any:
        return b.batch_norm(b.linear(x, w, c), scale, bias, mean, variance, epsilon=epsilon, axis=axis)

    def after(b: Builder, x: Value, w: Value, c: Value, *statistics: Value, epsilon: float, axis: int) -> Value:
        s, t = _affine(b, statistics, epsilon)
        return b.linear(x, b.mul(w, _per_output(b, s, w)), b.add(b.mul(c, s), t))

    def where(x: Value, w: Value, c: Value, *statistics: Value, epsilon: float, axis: int) -> str | None:
        if axis % x.type.rank != x.type.rank - 1:
            return f"axis={axis} is not the last of {x.type}"
        return _constant(w, c, *statistics)
