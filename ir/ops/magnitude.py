"""Divisions by a magnitude: of vectors, and of what neighbouring channels hold. Composites."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from dragoman.ir.guess import Guess, guess, reduced
from dragoman.ir.op import Arithmetic, Array, Op, Sample, TensorType, normal_axes, operand, require, sample
from dragoman.ir.ops.elementwise import narrowed, widened

if TYPE_CHECKING:
    from dragoman.ir.builder import Builder
    from dragoman.ir.graph import Node, Value


class L2Normalize(Op, name="l2_normalize"):
    """x / max(√Σx², epsilon) over the axes."""

    axes: tuple[int, ...]
    epsilon: float

    def infer(self, x: TensorType) -> TensorType:
        """The operand's type."""
        require(x.dtype.is_float, f"{self.name} of {x.dtype}: floats only")
        normal_axes(self.axes, x.rank)
        return x

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """By the definition."""
        return x / m.maximum(m.sqrt(m.sum(x * x, self.axes, True)), self.epsilon)

    def decompose(self, b: Builder, x: Value) -> Value:
        """x / maximum(sqrt(Σx·x), epsilon), half precision in f32."""
        wide = widened(b, x)
        size = b.sqrt(b.reduce_sum(b.mul(wide, wide), axes=self.axes, keepdims=True))
        return narrowed(b, b.div(wide, b.maximum(size, self.epsilon)), x.type.dtype)

    def with_norm(self, b: Builder, x: Value) -> Value:
        """x / maximum(reduce_l2(x), epsilon)."""
        wide = widened(b, x)
        size = b.reduce_l2(wide, axes=self.axes, keepdims=True)
        return narrowed(b, b.div(wide, b.clip(size, low=self.epsilon)), x.type.dtype)

    spellings = (with_norm,)

    @classmethod
    def guesses(cls, root: Node) -> Iterable[Guess]:
        """The axes that are reduced upstream."""
        x = root.results[0].type
        return [guess(x, axes=axes) for t, axes, _ in reduced(root) if t.rank == x.rank]

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """One axis, two, all."""
        yield sample("f32[2,3,4]", axes=(1,), epsilon=1e-12)
        yield sample("f64[2,3]", axes=(-1, 0), epsilon=1e-6)
        yield sample(operand("f32[2,3]", low=-1e-3, high=1e-3), axes=(1,), epsilon=0.1)
        yield sample("f16[5]", axes=(0,), epsilon=1e-3)


class LocalResponseNorm(Op, name="local_response_norm"):
    """x / (bias + alpha/size · Σx²)^beta, the sum over `size` neighbouring channels at axis 1.

    x: [n, c, *]; the window of channel i is i − ⌊size/2⌋ … i + ⌊(size−1)/2⌋, zero outside (Krizhevsky et al. 2012).
    """

    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    bias: float = 1.0

    def infer(self, x: TensorType) -> TensorType:
        """The operand's type."""
        require(x.dtype.is_float, f"{self.name} of {x.dtype}: floats only")
        require(x.rank >= 2, f"{x} has no channel axis")
        require(self.size > 0, f"size={self.size} is not positive")
        return x

    def _padding(self, rank: int) -> tuple[tuple[int, int], ...]:
        return tuple((self.size // 2, (self.size - 1) // 2) if a == 1 else (0, 0) for a in range(rank))

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """Sums over a sliding window."""

        def windows(a: Array) -> Array:
            return np.lib.stride_tricks.sliding_window_view(np.pad(a, self._padding(a.ndim)), self.size, axis=1)

        total = m.sum(m.move(windows, x * x), (-1,))
        return x / m.power(total * (self.alpha / self.size) + self.bias, self.beta)

    def decompose(self, b: Builder, x: Value) -> Value:
        """The sum of `size` shifted slices of the padded squares, half precision in f32."""
        wide = widened(b, x)
        padded = b.pad(b.mul(wide, wide), padding=self._padding(x.type.rank))
        channels = x.type.shape[1]
        shifted = [
            b.slice(padded, axes=(1,), starts=(at,), stops=(channels + at,), steps=(1,)) for at in range(self.size)
        ]
        total = shifted[0]
        for part in shifted[1:]:
            total = b.add(total, part)
        below = b.power(b.add(b.mul(total, self.alpha / self.size), self.bias), self.beta)
        return narrowed(b, b.div(wide, below), x.type.dtype)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Odd and even windows, wider than the channels, each rank."""
        yield sample("f32[2,6,3]", size=3, alpha=0.5)
        yield sample("f64[2,5]", size=4, alpha=0.3, beta=0.5, bias=2.0)
        yield sample("f32[1,3,2,2]", size=7, alpha=1.0)
        yield sample("f16[1,4,2]", size=1)
