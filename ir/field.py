"""Exact arithmetic for proofs: real numbers as residues modulo primes, so that equality is bit equality.

A real number is a tuple of residues modulo a chain of primes p₀ > p₁ > p₂ with p₁ | p₀−1 and p₂ | p₁−1. Sums, products,
quotients and the dyadic rationals that floats are embed exactly; a scalar is the simple number that f32 cannot tell
from it where there is one (0.1 is 1/10, 0.70710678 is √½), so that x·0.1 = x/10 and x/√2 = x·√½ have proofs.
`exp` maps the residue modulo pᵢ₊₁ to gᵢ^a modulo pᵢ, where gᵢ has order pᵢ₊₁, hence exp(a+b) = exp(a)·exp(b) holds
exactly (the idea is Mirage's, OSDI 2025, arXiv:2405.05751); the chain allows exp of exp. Comparisons use one fixed
random order with key(−x) = −key(x), so max, min, abs and relu keep their lattice laws. Every other function is a fixed
random one (odd where the real one is odd). Results are judged modulo p₀. Equality therefore shows equality over the
reals with high probability (Schwartz–Zippel) for random inputs; it says nothing about rounding.

Rounding, float-to-integer casts, infinities and NaN have no meaning here and raise `Inexact`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

from dragoman.ir.arithmetic import Arithmetic, Array, Axes, Inexact
from dragoman.ir.residues import (
    GENERATORS,
    PRIMES,
    exact_contraction,
    inverse,
    power_of_two,
    raised,
    residues,
    scramble,
)
from dragoman.ir.types import DType

_ODD = frozenset({"erf", "erfinv", "sin", "arcsin", "arctan", "arcsinh", "arctanh", "cbrt", "rint", "trunc"})
_EVEN = frozenset({"cos"})


class FieldArray:
    """An array of real numbers held as residues; behaves as a NumPy array under arithmetic, comparison and indexing."""

    __array_ufunc__ = None  # NumPy must hand mixed operations to this class
    __slots__ = ("levels", "splat")

    def __init__(self, levels: tuple[Any, ...], splat: float | None = None) -> None:
        self.levels = levels
        self.splat = splat  # the number this constant is, where known: exponents need it

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents."""
        return tuple(self.levels[0].shape)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return int(self.levels[0].ndim)

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(self.levels[0].size)

    def __getitem__(self, index: Any) -> FieldArray:
        return FieldArray(tuple(level[index] for level in self.levels))

    def __len__(self) -> int:
        return self.shape[0]

    def _with(self, other: Any, function: Callable[[Any, Any, int], Any]) -> FieldArray:
        right = embed(other)
        return FieldArray(tuple(function(a, b, p) for a, b, p in zip(self.levels, right.levels, PRIMES, strict=True)))

    def __add__(self, other: Any) -> FieldArray:
        return self._with(other, lambda a, b, p: (a + b) % p)

    __radd__ = __add__

    def __sub__(self, other: Any) -> FieldArray:
        return self._with(other, lambda a, b, p: (a - b) % p)

    def __rsub__(self, other: Any) -> FieldArray:
        return embed(other) - self

    def __mul__(self, other: Any) -> FieldArray:
        return self._with(other, lambda a, b, p: a * b % p)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> FieldArray:
        return self._with(other, lambda a, b, p: a * inverse(b, p) % p)

    def __rtruediv__(self, other: Any) -> FieldArray:
        return embed(other) / self

    def __neg__(self) -> FieldArray:
        return FieldArray(tuple(-a % p for a, p in zip(self.levels, PRIMES, strict=True)))

    def __pow__(self, exponent: Any) -> FieldArray:
        return _power(self, exponent)

    def __lt__(self, other: Any) -> Any:
        return _key(self) < _key(embed(other))

    def __le__(self, other: Any) -> Any:
        return _key(self) <= _key(embed(other))

    def __gt__(self, other: Any) -> Any:
        return _key(self) > _key(embed(other))

    def __ge__(self, other: Any) -> Any:
        return _key(self) >= _key(embed(other))

    def __eq__(self, other: object) -> Any:
        return self.levels[0] == embed(other).levels[0]

    def __ne__(self, other: object) -> Any:
        return self.levels[0] != embed(other).levels[0]

    __hash__ = None  # type: ignore[assignment]


def embed(values: Any) -> FieldArray:
    """Real numbers as residues: a float is mantissa·2^exponent. Raises Inexact for infinities, NaN and complex."""
    if isinstance(values, FieldArray):
        return values
    array = np.asarray(values)
    if array.dtype.kind in "cOSU":
        raise Inexact(f"{array.dtype} has no exact form")
    if array.dtype.kind not in "biu":
        array = array.astype(np.float64)
        if not np.all(np.isfinite(array)):
            raise Inexact("infinity or NaN among the values")
        return FieldArray(_dyadic(array)) if array.ndim else _scalar(float(array))
    splat = float(array) if array.ndim == 0 else None
    return FieldArray(
        tuple(residues(array.astype(np.int64) if array.dtype.kind == "b" else array, p) for p in PRIMES), splat
    )


def _dyadic(numbers: Any) -> tuple[Any, ...]:
    mantissa, exponent = np.frexp(numbers)
    scaled = np.ldexp(mantissa, 53).astype(np.int64)
    return tuple(scaled % p * power_of_two(exponent - 53, p) % p for p in PRIMES)


@lru_cache(maxsize=4096)
def _scalar(number: float) -> FieldArray:
    """A constant as the number it stands for: 0.1 is 1/10, 1.4142135 is √2; others are what f32 makes of them."""
    if not number.is_integer() and 2.0**-120 < abs(number) < 2.0**120:
        number = float(np.float32(number))
    fraction, square = _simple_fraction(number), _simple_fraction(number * number)
    if fraction is not None and (square is None or _complexity(fraction) <= _complexity(square)):
        return FieldArray(_arrays(_ratio(fraction)), number)
    if square is None:
        return FieldArray(_dyadic(np.array(number)), number)
    roots = (pow(r, (p + 1) // 4, p) for r, p in zip(_ratio(square), PRIMES, strict=True))
    return FieldArray(_arrays(roots if number > 0 else (-r for r in roots)), number)


def _complexity(fraction: Fraction) -> int:
    return abs(fraction.numerator) * fraction.denominator


def _ratio(fraction: Fraction) -> tuple[int, ...]:
    return tuple(fraction.numerator * pow(fraction.denominator, -1, p) % p for p in PRIMES)


def _arrays(numbers: Iterable[int]) -> tuple[Any, ...]:
    return tuple(np.array(r % p, np.int64) for r, p in zip(numbers, PRIMES, strict=True))


def _simple_fraction(number: float) -> Fraction | None:
    """A whole number, or the p/q with p·q ≤ 2^20 within four f32 roundings; those lie 2^−20 apart or more."""
    if number.is_integer():
        return Fraction(int(number))
    if not 2.0**-21 < abs(number) < 2.0**21:
        return None
    large = max(abs(number), 1 / abs(number))
    found = Fraction(large).limit_denominator(max(1, int(1024 / math.sqrt(large))))
    if abs(found - Fraction(large)) > Fraction(large) / 2**22 or _complexity(found) > 2**20:
        return None
    found = found if abs(number) > 1 else 1 / found
    return found if number > 0 else -found


def _uninterpreted(name: str, x: FieldArray, *, odd: bool = False, even: bool = False) -> FieldArray:
    levels: list[Any] = []
    for level, p in zip(x.levels, PRIMES, strict=True):
        scrambled = scramble(name, level * level % p if odd or even else level, p)
        levels.append(scrambled * level % p if odd else scrambled)
    return FieldArray(tuple(levels))


def _key(x: FieldArray) -> Any:
    """A random but fixed place of each number in an order with key(−x) = −key(x) and key(0) = 0."""
    residue, p = x.levels[0], PRIMES[0]
    negative = residue > p // 2
    magnitude = np.where(negative, p - residue, residue)
    hashed = scramble("order", magnitude, p) * 2 + 1
    sign = np.where(scramble("sign", magnitude, p) & 1, 1, -1)
    # The low residue breaks ties between numbers that hash alike.
    key = sign * (hashed * (p // 2 + 1) + magnitude)
    return np.where(residue == 0, 0, np.where(negative, -key, key))


def _power(x: FieldArray, exponent: Any) -> FieldArray:
    number = embed(exponent).splat
    if number is not None and number.is_integer() and abs(number) < 2**31:
        magnitude = FieldArray(tuple(raised(a, abs(int(number)), p) for a, p in zip(x.levels, PRIMES, strict=True)))
        return 1 / magnitude if number < 0 else magnitude
    if number is not None:
        if abs(number) == 0.5:
            return _sqrt(x) if number > 0 else 1 / _sqrt(x)
        return _uninterpreted(f"power {number!r}", x)
    e = embed(exponent)
    mixed = (scramble("exponent", b, p) for b, p in zip(e.levels, PRIMES, strict=True))
    return FieldArray(tuple(scramble("power", (a + m) % p, p) for a, m, p in zip(x.levels, mixed, PRIMES, strict=True)))


def _sqrt(x: FieldArray) -> FieldArray:
    # All three primes are 3 modulo 4: x^((p+1)/4) is multiplicative, and a root of x or of −x.
    return FieldArray(tuple(raised(a, (p + 1) // 4, p) for a, p in zip(x.levels, PRIMES, strict=True)))


def _exp(x: FieldArray) -> FieldArray:
    levels = [raised(g, x.levels[i + 1], PRIMES[i]) for i, g in enumerate(GENERATORS)]
    return FieldArray((*levels, scramble("exp", x.levels[-1], PRIMES[-1])))


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
        return FieldArray(
            tuple(moved), arrays[0].splat if len(arrays) == 1 and isinstance(arrays[0], FieldArray) else None
        )

    def where(self, condition: Array, x: Array, y: Array) -> Array:
        """Choice by an exact condition."""
        if not (isinstance(x, FieldArray) or isinstance(y, FieldArray)):
            return np.where(condition, x, y)
        a, b = embed(x), embed(y)
        return FieldArray(tuple(np.where(condition, p, q) for p, q in zip(a.levels, b.levels, strict=True)))

    def exp(self, x: Array) -> Array:
        """The homomorphism from sums to products."""
        return _exp(embed(x))

    def log(self, x: Array) -> Array:
        """A fixed random function."""
        return _uninterpreted("log", embed(x))

    def sqrt(self, x: Array) -> Array:
        """A multiplicative function whose square is x or −x."""
        return _sqrt(embed(x))

    def power(self, x: Array, y: Array) -> Array:
        """Exact for constant integer exponents and ±1/2, else a fixed random function."""
        if isinstance(x, FieldArray) or isinstance(y, FieldArray):
            return _power(embed(x), y)
        return super().power(x, y)

    def special(self, name: str, x: Array) -> Array:
        """Some through exp, log, erf and sin; the rest are fixed random functions, odd or even as the real ones are."""
        if not isinstance(x, FieldArray):
            return super().special(name, x)
        if name in _DERIVED:
            return _DERIVED[name](self, x)
        if name in ("isnan", "isinf"):
            return np.zeros(x.shape, np.bool_)
        if name in ("floor", "ceil"):
            floor = _uninterpreted("floor", x if name == "floor" else -x)
            return floor if name == "floor" else -floor
        if name == "sign":
            return embed(np.sign(_key(x)))
        return _uninterpreted(name, x, odd=name in _ODD, even=name in _EVEN)

    def special2(self, name: str, x: Array, y: Array) -> Array:
        """A fixed random function of both operands."""
        if not (isinstance(x, FieldArray) or isinstance(y, FieldArray)):
            return super().special2(name, x, y)
        a, b = embed(x), embed(y)
        return _uninterpreted(name, a + _uninterpreted(f"{name} second", b))

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
        return self.maximum(x, -x) if isinstance(x, FieldArray) else np.abs(x)

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
        place = np.asarray(choose(_key(rows), axis=-1))[..., None]
        return self.move(lambda a: np.take_along_axis(a, place, -1)[..., 0].reshape(shape), rows)

    def _fold(self, function: Callable[[Any, Any], Any], x: FieldArray, axes: Axes, keepdims: bool) -> FieldArray:
        rows, shape = self._rows(x, axes, keepdims)
        total = embed(np.ones(rows.shape[:-1], np.int64))
        for column in range(rows.shape[-1]):
            total = function(total, rows[..., column])
        return self.move(lambda a: a.reshape(shape), total)

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
        running = [rows[0:1]] if len(rows) else []
        for at in range(1, len(rows)):
            running.append(running[-1] * rows[at : at + 1])
        return self.move(lambda *a: np.moveaxis(np.concatenate(a), 0, axis), *running) if running else x

    def argsort(self, x: Array, axis: int, descending: bool = False) -> Array:
        """Stable order by the fixed random order."""
        return super().argsort(_key(x) if isinstance(x, FieldArray) else x, axis, descending)

    def matmul(self, x: Array, y: Array) -> Array:
        """Exact products of matrices."""
        if not (isinstance(x, FieldArray) or isinstance(y, FieldArray)):
            return np.matmul(x, y)
        return self._contract(np.matmul, embed(x), embed(y))

    def einsum(self, equation: str, *arrays: Array) -> Array:
        """Exact contractions of one or two arrays at a time."""
        if not any(isinstance(a, FieldArray) for a in arrays):
            return super().einsum(equation, *arrays)
        fields = [embed(a) for a in arrays]
        if len(fields) == 1:
            return FieldArray(tuple(np.einsum(equation, a) % p for a, p in zip(fields[0].levels, PRIMES, strict=True)))
        if len(fields) > 2:
            raise Inexact("einsum of more than two arrays at once")
        return self._contract(lambda a, b: np.einsum(equation, a, b, optimize=True), *fields)

    def _contract(self, function: Callable[[Any, Any], Any], x: FieldArray, y: FieldArray) -> FieldArray:
        pairs = zip(x.levels, y.levels, PRIMES, strict=True)
        return FieldArray(tuple(exact_contraction(function, a, b, p) for a, b, p in pairs))

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


_DERIVED: dict[str, Callable[[Field, FieldArray], FieldArray]] = {
    "expm1": lambda m, x: m.exp(x) - 1,
    "log1p": lambda m, x: m.log(1 + x),
    "erfc": lambda m, x: 1 - m.special("erf", x),
    "sinh": lambda m, x: (m.exp(x) - m.exp(-x)) / 2,
    "cosh": lambda m, x: (m.exp(x) + m.exp(-x)) / 2,
    "tanh": lambda m, x: 1 - 2 / (m.exp(x + x) + 1),
    "tan": lambda m, x: m.special("sin", x) / m.special("cos", x),
}

FIELD = Field()
