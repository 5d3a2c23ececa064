"""Exact arithmetic for proofs: real numbers as residues modulo primes, so that equality is bit equality.

A real number is a tuple of residues modulo a chain of primes p₀ > p₁ > p₂ with p₁ | p₀−1 and p₂ | p₁−1. Sums, products,
quotients and the dyadic rationals that floats are embed exactly; a scalar is the simple number that f32 cannot tell
from it where there is one (0.1 is 1/10, 0.70710678 is √½), so that x·0.1 = x/10 and x/√2 = x·√½ have proofs.
`exp` maps the residue modulo pᵢ₊₁ to gᵢ^a modulo pᵢ, where gᵢ has order pᵢ₊₁, hence exp(a+b) = exp(a)·exp(b) holds
exactly (the idea is Mirage's, OSDI 2025, arXiv:2405.05751); the chain allows exp of exp. Comparisons use one fixed
random order (`dragoman.ir.order`), in which max, min, abs and relu keep their laws. Every other function is a fixed
random one (odd where the real one is odd). Results are judged modulo p₀. Equality therefore shows equality over the
reals with high probability (Schwartz–Zippel) for random inputs; it says nothing about rounding.

Rounding, float-to-integer casts, infinities and NaN have no meaning here and raise `Inexact`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dragoman.ir.arithmetic import Arithmetic, Array, Axes, Inexact
from dragoman.ir.field_array import FieldArray, embed, exp, is_only, key, power, sqrt, uninterpreted
from dragoman.ir.residues import PRIMES, exact_contraction
from dragoman.ir.types import DType

__all__ = ["FIELD", "PRIMES", "Field", "FieldArray", "embed"]

_ODD = frozenset({"erf", "erfinv", "sin", "arcsin", "arctan", "arcsinh", "arctanh", "cbrt", "rint", "trunc"})
_EVEN = frozenset({"cos"})


class Field(Arithmetic):
    """The arithmetic of residues. Integers and booleans stay NumPy arrays."""

    name = "field"

    def embed(self, values: Any, dtype: DType) -> Array:
        """Floats become residues; complex and strings raise Inexact."""
        if isinstance(values, FieldArray):
            return values
        if dtype.is_float:
            return embed(values)
        if dtype.is_complex:
            raise Inexact("complex numbers have no exact form here")
        return np.asarray(values).astype(dtype.numpy, copy=False)

    def store(self, x: Array, dtype: DType) -> Array:
        """Residues for floats, NumPy arrays for the rest."""
        return embed(x) if dtype.is_float else np.asarray(x).astype(dtype.numpy, copy=False)

    def cast(self, x: Array, dtype: DType) -> Array:
        """Exact casts only: between floats (precision is not modelled) and from integers."""
        if dtype.is_float:
            return embed(x)
        if isinstance(x, FieldArray):
            if dtype.kind == "bool":
                return x.levels[0] != 0
            raise Inexact(f"a cast from float to {dtype} rounds")
        return super().cast(x, dtype)

    def is_real(self, x: Array) -> bool:
        """Whether `x` is made of residues."""
        return isinstance(x, FieldArray)

    def move(self, function: Callable[..., Any], *arrays: Array) -> Array:
        """Apply the movement to each residue."""
        if not any(isinstance(a, FieldArray) for a in arrays):
            return function(*arrays)
        parts = [embed(a).levels for a in arrays]
        moved = [function(*level) for level in zip(*parts, strict=True)]
        if isinstance(moved[0], (list, tuple)):
            return [FieldArray(levels) for levels in zip(*moved, strict=True)]
        result = FieldArray(moved)
        if len(arrays) == 1 and arrays[0].splat is not None and is_only(result, embed(arrays[0].splat)):
            result.splat = arrays[0].splat  # not so where zeros were moved in, as by padding
        return result

    def where(self, condition: Array, x: Array, y: Array) -> Array:
        """Choice by an exact condition."""
        if not (isinstance(x, FieldArray) or isinstance(y, FieldArray)):
            return np.where(condition, x, y)
        a, b = embed(x), embed(y)
        return FieldArray(tuple(np.where(condition, p, q) for p, q in zip(a.levels, b.levels, strict=True)))

    def exp(self, x: Array) -> Array:
        """The homomorphism from sums to products."""
        return exp(embed(x))

    def log(self, x: Array) -> Array:
        """A fixed random function."""
        return uninterpreted("log", embed(x))

    def sqrt(self, x: Array) -> Array:
        """A multiplicative function whose square is x or −x."""
        return sqrt(embed(x))

    def power(self, x: Array, y: Array) -> Array:
        """Exact for constant integer exponents and ±1/2, else a fixed random function."""
        if isinstance(x, FieldArray) or isinstance(y, FieldArray):
            return power(embed(x), y)
        return super().power(x, y)

    def special(self, name: str, x: Array) -> Array:
        """Some through exp, log, erf and sin; the rest are fixed random functions, odd or even as the real ones are."""
        if not isinstance(x, FieldArray):
            return super().special(name, x)
        if name in DERIVED:
            return DERIVED[name](self, x)
        if name in ("isnan", "isinf"):
            return np.zeros(x.shape, np.bool_)
        if name in ("floor", "ceil"):
            floor = uninterpreted("floor", x if name == "floor" else -x)
            return floor if name == "floor" else -floor
        if name == "sign":
            return embed(np.sign(key(x)))
        return uninterpreted(name, x, odd=name in _ODD, even=name in _EVEN)

    def special2(self, name: str, x: Array, y: Array) -> Array:
        """A fixed random function of both operands."""
        if not (isinstance(x, FieldArray) or isinstance(y, FieldArray)):
            return super().special2(name, x, y)
        a, b = embed(x), embed(y)
        return uninterpreted(name, a + uninterpreted(f"{name} second", b))

    def maximum(self, x: Array, y: Array) -> Array:
        """The one that comes later in the fixed random order."""
        if not (isinstance(x, FieldArray) or isinstance(y, FieldArray)):
            return np.maximum(x, y)
        return self.where(embed(x) >= embed(y), x, y)

    def minimum(self, x: Array, y: Array) -> Array:
        """The one that comes earlier in the fixed random order."""
        if not (isinstance(x, FieldArray) or isinstance(y, FieldArray)):
            return np.minimum(x, y)
        return self.where(embed(x) <= embed(y), x, y)

    def absolute(self, x: Array) -> Array:
        """max(x, −x) in the fixed random order."""
        return abs(x) if isinstance(x, FieldArray) else np.abs(x)

    def divide(self, x: Array, y: Array) -> Array:
        """The exact quotient; of integers, truncated."""
        if isinstance(x, FieldArray) or isinstance(y, FieldArray):
            return embed(x) / embed(y)
        return super().divide(x, y)

    def sum(self, x: Array, axes: Axes = None, keepdims: bool = False) -> Array:
        """Exact sums."""
        if not isinstance(x, FieldArray):
            return super().sum(x, axes, keepdims)
        axis = tuple(axes) if isinstance(axes, Sequence) else axes
        return FieldArray(
            tuple(np.asarray(a.sum(axis=axis, keepdims=keepdims)) % p for a, p in zip(x.levels, PRIMES, strict=True))
        )

    def prod(self, x: Array, axes: Axes = None, keepdims: bool = False) -> Array:
        """Exact products."""
        if not isinstance(x, FieldArray):
            return super().prod(x, axes, keepdims)
        return self._fold(lambda a, b: a * b, x, axes, keepdims)

    def max(self, x: Array, axes: Axes = None, keepdims: bool = False) -> Array:
        """The last element in the fixed random order."""
        if not isinstance(x, FieldArray):
            return super().max(x, axes, keepdims)
        return self._select(np.argmax, x, axes, keepdims)

    def min(self, x: Array, axes: Axes = None, keepdims: bool = False) -> Array:
        """The first element in the fixed random order."""
        if not isinstance(x, FieldArray):
            return super().min(x, axes, keepdims)
        return self._select(np.argmin, x, axes, keepdims)

    def _normal_axes(self, x: FieldArray, axes: Axes) -> tuple[int, ...]:
        if axes is None:
            return tuple(range(x.ndim))
        return tuple(sorted(a % x.ndim for a in (axes if isinstance(axes, Sequence) else (axes,))))

    def _rows(self, x: FieldArray, axes: Axes, keepdims: bool) -> tuple[FieldArray, tuple[int, ...]]:
        """`x` with the reduced axes merged into the last one, and the shape of the result."""
        reduced = self._normal_axes(x, axes)
        kept = [a for a in range(x.ndim) if a not in reduced]
        merged = [x.shape[a] for a in kept] + [math.prod(x.shape[a] for a in reduced)]
        rows = self.move(lambda a: a.transpose([*kept, *reduced]).reshape(merged), x)
        shape = [1 if a in reduced else x.shape[a] for a in range(x.ndim) if keepdims or a not in reduced]
        return rows, tuple(shape)

    def _select(self, choose: Callable[..., Any], x: FieldArray, axes: Axes, keepdims: bool) -> FieldArray:
        rows, shape = self._rows(x, axes, keepdims)
        if rows.shape[-1] == 0:
            raise Inexact("the maximum of nothing is infinite")
        place = np.asarray(choose(key(rows), axis=-1))[..., None]
        return self.move(lambda a: np.take_along_axis(a, place, -1)[..., 0].reshape(shape), rows)

    def _fold(self, function: Callable[[Any, Any], Any], x: FieldArray, axes: Axes, keepdims: bool) -> FieldArray:
        rows, shape = self._rows(x, axes, keepdims)
        if rows.shape[-1] == 0:
            rows = embed(np.ones((*rows.shape[:-1], 1), np.int64))
        while (count := rows.shape[-1]) > 1:  # halves against each other, an odd one out carried along
            half = count // 2
            folded = function(rows[..., :half], rows[..., half : 2 * half])
            rows = self.move(lambda *a: np.concatenate(a, axis=-1), folded, rows[..., 2 * half :])
        return self.move(lambda a: a.reshape(shape), rows)

    def cumsum(self, x: Array, axis: int) -> Array:
        """Exact running sums."""
        if not isinstance(x, FieldArray):
            return super().cumsum(x, axis)
        return FieldArray(tuple(np.cumsum(a, axis=axis) % p for a, p in zip(x.levels, PRIMES, strict=True)))

    def cumprod(self, x: Array, axis: int) -> Array:
        """Exact running products."""
        if not isinstance(x, FieldArray):
            return super().cumprod(x, axis)
        rows = self.move(lambda a: np.moveaxis(a, axis, 0), x)
        step = 1
        while step < len(rows):  # each round doubles how many factors a place has
            rows = self.move(lambda *a: np.concatenate(a), rows[:step], rows[step:] * rows[:-step])
            step *= 2
        return self.move(lambda a: np.moveaxis(a, 0, axis), rows)

    def argsort(self, x: Array, axis: int, descending: bool = False) -> Array:
        """Stable order by the fixed random order."""
        return super().argsort(key(x) if isinstance(x, FieldArray) else x, axis, descending)

    def matmul(self, x: Array, y: Array) -> Array:
        """Exact products of matrices."""
        if not (isinstance(x, FieldArray) or isinstance(y, FieldArray)):
            return np.matmul(x, y)
        a, b = embed(x), embed(y)
        return self._contract(np.matmul, a, b, a.shape[-1] if a.ndim else 1)

    def einsum(self, equation: str, *arrays: Array) -> Array:
        """Exact contractions, two arrays at a time from the left."""
        if not any(isinstance(a, FieldArray) for a in arrays):
            return super().einsum(equation, *arrays)
        first, *rest = [embed(a) for a in arrays]
        terms, result = _einsum_terms(equation, len(arrays))
        if not rest:
            return FieldArray([np.einsum(equation, a) % p for a, p in zip(first.levels, PRIMES, strict=True)])
        while rest:
            second, *rest = rest
            left, right, *others = terms
            # What a later array or the result still needs, once each.
            needed = (
                "".join(dict.fromkeys(c for c in left + right if c in "".join(others) + result)) if rest else result
            )
            extents = dict(zip(left + right, first.shape + second.shape, strict=True))
            count = math.prod(extent for letter, extent in extents.items() if letter not in needed)
            contract = _einsum(f"{left},{right}->{needed}")
            first, terms = self._contract(contract, first, second, count), [needed, *others]
        return first

    def _contract(self, function: Callable[[Any, Any], Any], x: FieldArray, y: FieldArray, terms: int) -> FieldArray:
        """`terms`: how many products each element of the result sums."""
        if terms >= _MOST_TERMS:
            raise Inexact(f"a contraction of {terms} terms")
        pairs = zip(x.levels, y.levels, PRIMES, strict=True)
        return FieldArray([exact_contraction(function, a, b, p) for a, b, p in pairs])

    def scatter(self, x: Array, index: tuple[Any, ...], updates: Array, reduction: str) -> Array:
        """Exact; max and min by the fixed random order."""
        if not isinstance(x, FieldArray):
            return super().scatter(x, index, updates, reduction)
        if reduction not in ("none", "add"):
            return self._scatter_in_rounds(x, index, embed(updates), reduction)
        levels: list[Any] = []
        for a, u, p in zip(x.levels, embed(updates).levels, PRIMES, strict=True):
            result = np.array(a)
            if reduction == "none":
                result[index] = u
            else:
                np.add.at(result, index, u)
            levels.append(result % p)
        return FieldArray(tuple(levels))

    def _scatter_in_rounds(self, x: FieldArray, index: tuple[Any, ...], updates: FieldArray, reduction: str) -> Array:
        """Each round applies at most one update to a place."""
        function = {"mul": lambda a, b: a * b, "max": self.maximum, "min": self.minimum}[reduction]
        places = np.arange(x.size).reshape(x.shape)[index]
        values = self.move(lambda u: np.broadcast_to(u, places.shape).reshape(-1), updates)
        places = places.reshape(-1)
        order = np.argsort(places, kind="stable")
        ordered = places[order]
        rounds = np.arange(len(order)) - np.searchsorted(ordered, ordered)
        result = self.move(lambda a: np.array(a).reshape(-1), x)
        for number in range(int(rounds.max(initial=-1)) + 1):
            chosen = order[rounds == number]
            at = (places[chosen],)
            result = self.scatter(result, at, function(result[at], values[chosen]), "none")
        return self.move(lambda a: a.reshape(x.shape), result)


_MOST_TERMS = 1 << 21  # float64 sums fewer products of 16-bit halves without rounding


def _einsum(equation: str) -> Callable[[Any, Any], Any]:
    return lambda a, b: np.einsum(equation, a, b, optimize=True)


def _einsum_terms(equation: str, count: int) -> tuple[list[str], str]:
    """The letters of each operand and of the result. Raises Inexact for an ellipsis."""
    if "." in equation:
        raise Inexact("einsum with an ellipsis")
    given, arrow, result = equation.replace(" ", "").partition("->")
    terms = given.split(",")
    if not arrow:  # NumPy's rule: what occurs once, in the order of the alphabet
        result = "".join(sorted(c for c in set(given) - {","} if given.count(c) == 1))
    if len(terms) != count:
        raise Inexact(f"the equation {equation!r} has {len(terms)} operands, not {count}")
    return terms, result


DERIVED: dict[str, Callable[[Any, Any], Any]] = {
    "expm1": lambda m, x: m.exp(x) - 1,
    "log1p": lambda m, x: m.log(1 + x),
    "erfc": lambda m, x: 1 - m.special("erf", x),
    "sinh": lambda m, x: (m.exp(x) - m.exp(-x)) / 2,
    "cosh": lambda m, x: (m.exp(x) + m.exp(-x)) / 2,
    "tanh": lambda m, x: 1 - 2 / (m.exp(x + x) + 1),
    "tan": lambda m, x: m.special("sin", x) / m.special("cos", x),
}
"""Functions by name that are others put together, over any arithmetic."""

FIELD = Field()
