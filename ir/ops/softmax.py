"""Normalised exponentials along an axis."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from dragoman.ir.guess import Guess, guess, reduced
from dragoman.ir.op import (
    Arithmetic,
    Array,
    Op,
    Sample,
    TensorType,
    equal_over_the_reals,
    normal_axis,
    operand,
    require,
    sample,
)
from dragoman.ir.ops.elementwise import narrowed, widened

if TYPE_CHECKING:
    from dragoman.ir.builder import Builder
    from dragoman.ir.graph import Node, Value


class AlongAxis(Op):
    """A float tensor of which each row along an axis is normalised."""

    axis: int

    def infer(self, x: TensorType) -> TensorType:
        """The operand's type."""
        require(x.dtype.is_float, f"{self.name} of {x.dtype}: floats only")
        normal_axis(self.axis, x.rank)
        return x

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Several ranks and axes, large numbers, one element, none."""
        yield sample("f32[2,3]", axis=1)
        yield sample("f64[2,3,4]", axis=-2)
        yield sample("bf16[5]", axis=0)
        yield sample(operand("f32[2,4]", low=900.0, high=1000.0), axis=-1)
        yield sample("f32[3,1]", axis=1)
        yield sample("f32[0,3]", axis=1)

    @classmethod
    def guesses(cls, root: Node) -> Iterable[Guess]:
        """The axes of sums upstream."""
        x = root.results[0].type
        axes = dict.fromkeys(a for type, a, _ in reduced(root) if len(a) == 1 and type.rank == x.rank)
        return [guess(x, axis=axis) for (axis,) in axes]


class Softmax(AlongAxis, name="softmax"):
    """e^x / Σe^x along an axis. A row of −∞ alone gives NaN."""

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """With the largest element taken out, so that nothing overflows."""
        raised = m.exp(x - m.max(x, (self.axis,), True))
        return raised / m.sum(raised, (self.axis,), True)

    def decompose(self, b: Builder, x: Value) -> Value:
        """exp(x − max) / Σexp(x − max), half precision in f32."""
        wide = widened(b, x)
        raised = b.exp(b.sub(wide, b.reduce_max(wide, axes=(self.axis,), keepdims=True)))
        return narrowed(b, b.div(raised, b.reduce_sum(raised, axes=(self.axis,), keepdims=True)), x.type.dtype)

    def with_reciprocal(self, b: Builder, x: Value) -> Value:
        """exp(x − max) · (1 / Σexp(x − max))."""
        wide = widened(b, x)
        raised = b.exp(b.sub(wide, b.reduce_max(wide, axes=(self.axis,), keepdims=True)))
        scale = b.reciprocal(b.reduce_sum(raised, axes=(self.axis,), keepdims=True))
        return narrowed(b, b.mul(raised, scale), x.type.dtype)

    spellings = (with_reciprocal,)


class LogSoftmax(AlongAxis, name="log_softmax"):
    """x − log Σe^x along an axis."""

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """With the largest element taken out, so that nothing overflows."""
        left = x - m.max(x, (self.axis,), True)
        return left - m.log(m.sum(m.exp(left), (self.axis,), True))

    def decompose(self, b: Builder, x: Value) -> Value:
        """(x − max) − log Σexp(x − max), half precision in f32."""
        wide = widened(b, x)
        left = b.sub(wide, b.reduce_max(wide, axes=(self.axis,), keepdims=True))
        total = b.reduce_sum(b.exp(left), axes=(self.axis,), keepdims=True)
        return narrowed(b, b.sub(left, b.log(total)), x.type.dtype)

    def with_logsumexp(self, b: Builder, x: Value) -> Value:
        """x − logsumexp(x)."""
        wide = widened(b, x)
        total = b.reduce_logsumexp(wide, axes=(self.axis,), keepdims=True)
        return narrowed(b, b.sub(wide, total), x.type.dtype)

    @equal_over_the_reals("the field does not know the logarithm of a quotient")
    def of_softmax(self, b: Builder, x: Value) -> Value:
        """log(softmax(x)), which loses the small ones."""
        return b.log(b.softmax(x, axis=self.axis))

    spellings = (with_logsumexp, of_softmax)
