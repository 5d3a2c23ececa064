"""Activations that weigh x by a smooth gate: silu, gelu in its forms, glu. All composites."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from dragoman.ir.dims import same
from dragoman.ir.guess import Guess, guess, upstream
from dragoman.ir.op import Arithmetic, Array, Op, Sample, TensorType, normal_axis, require, sample
from dragoman.ir.ops.activation import Activation
from dragoman.ir.ops.elementwise import narrowed, widened
from dragoman.ir.types import same_shape

if TYPE_CHECKING:
    from dragoman.ir.builder import Builder
    from dragoman.ir.graph import Node, Value


class Silu(Activation, name="silu", pointwise=True):
    """x · sigmoid(x), also called swish."""

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """x / (1 + e^−x)."""
        return x / (1 + m.exp(-x))

    def decompose(self, b: Builder, x: Value) -> Value:
        """x · sigmoid(x)."""
        return b.mul(x, b.sigmoid(x))

    def as_quotient(self, b: Builder, x: Value) -> Value:
        """x / (1 + exp(−x))."""
        return b.div(x, b.add(b.exp(b.neg(x)), 1.0))

    spellings = (as_quotient,)


class QuickGelu(Activation, name="quick_gelu", pointwise=True):
    """x · sigmoid(alpha·x): the approximation of gelu that CLIP was trained with."""

    settings = ({}, {"alpha": 1.5})

    alpha: float = 1.702

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """x / (1 + e^(−alpha·x))."""
        return x / (1 + m.exp(x * -self.alpha))

    def decompose(self, b: Builder, x: Value) -> Value:
        """x · sigmoid(alpha·x)."""
        return b.mul(x, b.sigmoid(b.mul(x, self.alpha)))


_OUTER: dict[str, Callable[[Builder, Value, Value], Value]] = {
    "(x·½)·(1 + f)": lambda b, x, f: b.mul(b.mul(x, 0.5), b.add(f, 1.0)),
    "(x·(1 + f))·½": lambda b, x, f: b.mul(b.mul(x, b.add(f, 1.0)), 0.5),
    "x·((1 + f)·½)": lambda b, x, f: b.mul(x, b.mul(b.add(f, 1.0), 0.5)),
}
_ERF: dict[str, Callable[[Builder, Value], Value]] = {
    "erf(x·√½)": lambda b, x: b.erf(b.mul(x, math.sqrt(0.5))),
    "erf(x/√2)": lambda b, x: b.erf(b.div(x, math.sqrt(2.0))),
}
_BETA, _KAPPA = math.sqrt(2.0 / math.pi), 0.044715


def _cube(b: Builder, x: Value) -> Value:
    return b.mul(b.mul(x, x), x)


_TANH: dict[str, Callable[[Builder, Value], Value]] = {
    "tanh(β·(x + κ·x^3))": lambda b, x: b.tanh(b.mul(b.add(x, b.mul(b.power(x, 3.0), _KAPPA)), _BETA)),
    "tanh(β·(x + κ·(x·x·x)))": lambda b, x: b.tanh(b.mul(b.add(x, b.mul(_cube(b, x), _KAPPA)), _BETA)),
    "tanh(β·(x + κ·(x·x²)))": lambda b, x: b.tanh(b.mul(b.add(x, b.mul(b.mul(x, b.square(x)), _KAPPA)), _BETA)),
    "tanh((x·β)·(1 + (κ·x)·x))": lambda b, x: b.tanh(b.mul(b.mul(x, _BETA), b.add(b.mul(b.mul(x, _KAPPA), x), 1.0))),
}
_LEFT_TAIL: tuple[Callable[[Builder, Value], Value], ...] = (
    lambda b, x: b.erfc(b.mul(b.neg(x), math.sqrt(0.5))),
    lambda b, x: b.erfc(b.mul(x, -math.sqrt(0.5))),
    lambda b, x: b.erfc(b.div(b.neg(x), math.sqrt(2.0))),
)
_Spelling = Callable[["Gelu", "Builder", "Value"], "Value"]


def _gelu_spellings() -> tuple[_Spelling, ...]:
    """Every grouping of the products with every form of the inner function."""

    def spelling(outer: Callable[..., Value], erf: Callable[..., Value], tanh: Callable[..., Value]) -> _Spelling:
        return lambda op, b, x: outer(b, x, (erf if op.approximate == "none" else tanh)(b, x))

    inner = list(zip(itertools.cycle(_ERF.values()), _TANH.values(), strict=False))
    written = (spelling(outer, erf, tanh) for outer in _OUTER.values() for erf, tanh in inner)
    return (*written, *map(_with_erfc, _LEFT_TAIL))


def _with_erfc(tail: Callable[[Builder, Value], Value]) -> _Spelling:
    """x·½·erfc(−x/√2), as JAX has it."""

    def written(op: Gelu, b: Builder, x: Value) -> Value:
        if op.approximate != "none":
            return op.decompose(b, x)
        wide = widened(b, x)
        return narrowed(b, b.mul(b.mul(wide, 0.5), tail(b, wide)), x.type.dtype)

    return written


class Gelu(Activation, name="gelu", pointwise=True):
    """x·Φ(x), Φ the standard normal distribution function (arXiv:1606.08415), or its approximation by tanh.

    none: x·½·(1 + erf(x/√2))   tanh: x·½·(1 + tanh(√(2/π)·(x + 0.044715·x³)))
    """

    settings = ({}, {"approximate": "tanh"})

    approximate: str = "none"

    def infer(self, x: TensorType) -> TensorType:
        """The operand's type."""
        require(self.approximate in ("none", "tanh"), f"approximate={self.approximate!r} is neither 'none' nor 'tanh'")
        return super().infer(x)

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """Through erfc, which keeps the relative precision of the left tail; tanh through the logistic function."""
        if self.approximate == "none":
            return x * 0.5 * m.special("erfc", x * -math.sqrt(0.5))
        return x / (1 + m.exp((x + x * x * x * _KAPPA) * (-2.0 * _BETA)))

    def decompose(self, b: Builder, x: Value) -> Value:
        """x·½·(1 + …), half precision in f32."""
        wide = widened(b, x)
        inner = _ERF["erf(x·√½)"] if self.approximate == "none" else _TANH["tanh(β·(x + κ·(x·x·x)))"]
        return narrowed(b, _OUTER["(x·½)·(1 + f)"](b, wide, inner(b, wide)), x.type.dtype)

    spellings = _gelu_spellings()


class Glu(Op, name="glu"):
    """a · sigmoid(b), where a and b are the halves of x along an axis (arXiv:1612.08083)."""

    axis: int = -1

    def infer(self, x: TensorType) -> TensorType:
        """Half the extent, which is even."""
        require(x.dtype.is_float, f"glu of {x.dtype}: floats only")
        axis = normal_axis(self.axis, x.rank)
        half = x.shape[axis] // 2
        require(same_shape((half * 2,), (x.shape[axis],)), f"the extent {x.shape[axis]} of axis {axis} is not even")
        return x.with_shape(half if a == axis else d for a, d in enumerate(x.shape))

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """Two halves."""
        first, second = _halves(m, x, self.axis)
        return first / (1 + m.exp(-second))

    def decompose(self, b: Builder, x: Value) -> Value:
        """split, sigmoid, mul."""
        axis = normal_axis(self.axis, x.type.rank)
        half = x.type.shape[axis] // 2
        first, second = b.split(x, axis=axis, sizes=(half, half))
        return b.mul(first, b.sigmoid(second))

    def sliced(self, b: Builder, x: Value) -> Value:
        """The halves by two slices."""
        axis = normal_axis(self.axis, x.type.rank)
        half = x.type.shape[axis] // 2
        first, second = (
            b.slice(x, axes=(axis,), starts=(start,), stops=(stop,), steps=(1,))
            for start, stop in ((0, half), (half, x.type.shape[axis]))
        )
        return b.mul(first, b.sigmoid(second))

    spellings = (sliced,)

    @classmethod
    def guesses(cls, root: Node) -> Iterable[Guess]:
        """What is cut in two right before the product."""
        wanted = root.results[0].type
        seen: list[tuple[TensorType, int]] = []
        for node in upstream(root, 3):
            x = node.operands[0] if node.op.name in ("split", "slice") else None
            if x is None or x.type.rank != wanted.rank:
                continue
            halved = [a for a, (d, h) in enumerate(zip(x.type.shape, wanted.shape, strict=True)) if not same(d, h)]
            if len(halved) == 1 and (x.type, halved[0]) not in seen:
                seen.append((x.type, halved[0]))
                yield guess(x.type, axis=halved[0])

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Different axes."""
        yield sample("f32[2,6]", axis=1)
        yield sample("f64[4,3,2]", axis=0)
        yield sample("f16[2,8]")


def _halves(m: Arithmetic, x: Array, axis: int) -> tuple[Array, Array]:
    index = [slice(None)] * x.ndim
    middle = x.shape[axis] // 2
    index[axis] = slice(None, middle)
    first = x[tuple(index)]
    index[axis] = slice(middle, None)
    return first, x[tuple(index)]
