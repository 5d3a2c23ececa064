"""What attention looks like before it is recognised, brought to one form: one mask, added to the scores."""

# pyright: reportSelfClsParameterName=false, reportGeneralTypeIssues=false
# A rule is a class of plain functions: they take a builder and what was bound, never `self`.

from __future__ import annotations

from typing import Any

from dragoman.ir.builder import Builder
from dragoman.ir.graph import Value
from dragoman.ir.op import sample
from dragoman.passes.rewrite import rewrite

_OPERANDS = ("f32[2,3,4,5]", "f32[2,3,5,4]", "f32[1,3,4,4]", "f32[2,1,1,4]")


@rewrite(samples=[sample(*_OPERANDS, axis=-1), sample("f64[3,4,5]", "f64[3,5,6]", "f64[4,6]", "f64[3,4,6]", axis=2)])
class JoinMasks:
    """softmax((q·k + a) + b)  ->  softmax(q·k + (a + b))"""

    def before(b: Any, q: Any, k: Any, first: Any, second: Any, *, axis: Any) -> Any:
        return b.softmax(b.add(b.add(b.matmul(q, k), first), second), axis=axis)

    def after(b: Builder, q: Value, k: Value, first: Value, second: Value, *, axis: int) -> Value:
        return b.softmax(b.add(b.matmul(q, k), b.add(first, second)), axis=axis)


@rewrite(samples=[sample(*_OPERANDS, axis=-1, scale=0.25)])
class JoinMasksOfScaled:
    """softmax((scale·(q·k) + a) + b)  ->  softmax(scale·(q·k) + (a + b))"""

    def before(b: Any, q: Any, k: Any, first: Any, second: Any, *, axis: Any, scale: Any) -> Any:
        return b.softmax(b.add(b.add(b.mul(b.matmul(q, k), scale), first), second), axis=axis)

    def after(b: Builder, q: Value, k: Value, first: Value, second: Value, *, axis: int, scale: float) -> Value:
        return b.softmax(b.add(b.mul(b.matmul(q, k), scale), b.add(first, second)), axis=axis)


@rewrite(samples=[sample(*_OPERANDS, axis=-1, scale=0.25)])
class JoinMasksAroundScale:
    """softmax(scale·(q·k + a) + b)  ->  softmax(scale·(q·k) + (scale·a + b))"""

    def before(b: Any, q: Any, k: Any, first: Any, second: Any, *, axis: Any, scale: Any) -> Any:
        return b.softmax(b.add(b.mul(b.add(b.matmul(q, k), first), scale), second), axis=axis)

    def after(b: Builder, q: Value, k: Value, first: Value, second: Value, *, axis: int, scale: float) -> Value:
        mask = b.add(b.mul(first, scale), second)
        return b.softmax(b.add(b.mul(b.matmul(q, k), scale), mask), axis=axis)


@rewrite(samples=[sample(*_OPERANDS[:3], axis=-1, scale=0.25)])
class ScaleProductAndMask:
    """softmax(scale·(q·k + a))  ->  softmax(scale·(q·k) + scale·a)"""

    def before(b: Any, q: Any, k: Any, mask: Any, *, axis: Any, scale: Any) -> Any:
        return b.softmax(b.mul(b.add(b.matmul(q, k), mask), scale), axis=axis)

    def after(b: Builder, q: Value, k: Value, mask: Value, *, axis: int, scale: float) -> Value:
        return b.softmax(b.add(b.mul(b.matmul(q, k), scale), b.mul(mask, scale)), axis=axis)


@rewrite(samples=[sample(*_OPERANDS, axis=-1, divisor=4.0)])
class JoinMasksOfDivided:
    """softmax((q·k / divisor + a) + b)  ->  softmax(q·k / divisor + (a + b))"""

    def before(b: Any, q: Any, k: Any, first: Any, second: Any, *, axis: Any, divisor: Any) -> Any:
        return b.softmax(b.add(b.add(b.div(b.matmul(q, k), divisor), first), second), axis=axis)

    def after(b: Builder, q: Value, k: Value, first: Value, second: Value, *, axis: int, divisor: float) -> Value:
        return b.softmax(b.add(b.div(b.matmul(q, k), divisor), b.add(first, second)), axis=axis)
