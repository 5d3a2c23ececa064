"""Logarithms of sums of powers as they are written by hand, after all that is made of them was recognised.

The ops do not overflow where these do. Equal over the reals; proof A sees logarithms as unknown functions.
"""

# pyright: reportSelfClsParameterName=false, reportGeneralTypeIssues=false
# A rule is a class of plain functions: they take a builder and what was bound, never `self`.

from __future__ import annotations

from typing import Any

from dragoman.ir.builder import Builder
from dragoman.ir.graph import Value
from dragoman.ir.op import sample
from dragoman.passes.rewrite import rewrite


@rewrite(
    samples=[sample("f32[2,3]", axes=(1,), keepdims=False), sample("f64[2,3,4]", axes=(0, 2), keepdims=True)],
    inexact="the field does not know the logarithm of a product",
)
class LogOfSumOfPowers:
    """log(reduce_sum(exp(x)))  ->  reduce_logsumexp(x)"""

    def before(b: Any, x: Any, *, axes: Any, keepdims: Any) -> Any:
        return b.log(b.reduce_sum(b.exp(x), axes=axes, keepdims=keepdims))

    def after(b: Builder, x: Value, *, axes: tuple[int, ...], keepdims: bool) -> Value:
        return b.reduce_logsumexp(x, axes=axes, keepdims=keepdims)


@rewrite(
    samples=[
        sample("f32[2,3]", beta=1.0, threshold=None),
        sample("f64[5]", beta=1.0, threshold=20.0),
    ],
    inexact="softplus above its threshold is its operand, where the tangent of both is one to 17 digits",
)
class MishOfSoftplus:
    """x · tanh(softplus(x))  ->  mish(x)"""

    def before(b: Any, x: Any, *, beta: Any, threshold: Any) -> Any:
        return b.mul(x, b.tanh(b.softplus(x, beta=beta, threshold=threshold)))

    def after(b: Builder, x: Value, *, beta: float, threshold: float | None) -> Value:
        return b.mish(x)

    def where(x: Value, *, beta: float, threshold: float | None) -> str | None:
        if beta != 1.0:
            return f"beta={beta}, that of mish is 1"
        return None if threshold is None or threshold >= 20.0 else f"a threshold of {threshold} shows in the tangent"
