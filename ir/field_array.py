"""Arrays of real numbers held as residues: what the exact arithmetic of `dragoman.ir.field` computes with.

Owns how a float becomes residues and the functions of one array. Refuses infinities, NaN, complex numbers and NumPy's
own functions, which would not know what they compute with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

from dragoman.ir.errors import Inexact
from dragoman.ir.order import note_constant, order_key
from dragoman.ir.residues import GENERATORS, PRIMES, inverse, power_of_two, raised, residues, scramble


class FieldArray:
    """An array of real numbers held as residues; behaves as a NumPy array under arithmetic, comparison and indexing."""

    __array_ufunc__ = None  # NumPy must hand mixed operations to this class
    __slots__ = ("levels", "splat")

    def __init__(self, levels: Sequence[Any], splat: float | None = None) -> None:
        self.levels = tuple([np.asarray(level) for level in levels])  # NumPy turns arrays of rank 0 into scalars
        self.splat = splat  # the number that every element is, where known: exponents need it

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

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise Inexact("NumPy cannot compute with residues: this op has no meaning over the field")

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
        return power(self, exponent)

    def __lt__(self, other: Any) -> Any:
        return key(self) < key(embed(other))

    def __le__(self, other: Any) -> Any:
        return key(self) <= key(embed(other))

    def __gt__(self, other: Any) -> Any:
        return key(self) > key(embed(other))

    def __ge__(self, other: Any) -> Any:
        return key(self) >= key(embed(other))

    def __eq__(self, other: object) -> Any:
        return self.levels[0] == embed(other).levels[0]

    def __ne__(self, other: object) -> Any:
        return self.levels[0] != embed(other).levels[0]

    def __abs__(self) -> FieldArray:
        negative = key(self) < 0
        return FieldArray([np.where(negative, -a % p, a) for a, p in zip(self.levels, PRIMES, strict=True)])

    def __rpow__(self, base: Any) -> FieldArray:
        return power(embed(base), self)

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
    whole = array.astype(np.int64) if array.dtype.kind == "b" else array
    levels = tuple(residues(whole, p) for p in PRIMES)
    return _noted(FieldArray(levels, float(array))) if array.ndim == 0 else FieldArray(levels)


def _noted(constant: FieldArray) -> FieldArray:
    assert constant.splat is not None
    note_constant(int(constant.levels[0]), constant.splat)
    return constant


def _dyadic(numbers: Any) -> tuple[Any, ...]:
    mantissa, exponent = np.frexp(numbers)
    scaled = np.ldexp(mantissa, 53).astype(np.int64)
    return tuple(scaled % p * power_of_two(exponent - 53, p) % p for p in PRIMES)


@lru_cache(maxsize=4096)
def _scalar(number: float) -> FieldArray:
    """A constant as the number it stands for."""
    fraction, is_root = meant(number)
    if not is_root:
        return _noted(FieldArray(_arrays(_ratio(fraction)), _as_f32(number)))
    roots = (pow(r, (p + 1) // 4, p) for r, p in zip(_ratio(fraction), PRIMES, strict=True))
    return _noted(FieldArray(_arrays(roots if number > 0 else (-r for r in roots)), _as_f32(number)))


def meant(number: float) -> tuple[Fraction, bool]:
    """The number that a constant stands for, or (True) whose root it is but for the sign.

    0.1 is 1/10, 1.4142135 is √2; others are what f32 makes of them.
    """
    number = _as_f32(number)
    fraction, square = _simple_fraction(number), _simple_fraction(number * number)
    if fraction is not None and (square is None or _complexity(fraction) <= _complexity(square)):
        return fraction, False
    return (square, True) if square is not None else (Fraction(number), False)


def _as_f32(number: float) -> float:
    if number.is_integer() or not 2.0**-120 < abs(number) < 2.0**120:
        return number
    return float(np.float32(number))


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


def is_only(x: FieldArray, number: FieldArray) -> bool:
    """Whether each element is this number."""
    return all(bool(np.all(a == b)) for a, b in zip(x.levels, number.levels, strict=True))


def uninterpreted(name: str, x: FieldArray, *, odd: bool = False, even: bool = False) -> FieldArray:
    """A fixed random function of that name, odd or even if wanted."""
    levels: list[Any] = []
    for level, p in zip(x.levels, PRIMES, strict=True):
        scrambled = scramble(name, level * level % p if odd or even else level, p)
        levels.append(scrambled * level % p if odd else scrambled)
    return FieldArray(tuple(levels))


def key(x: FieldArray) -> Any:
    """The place of each number in the fixed order of `dragoman.ir.order`."""
    return order_key(x.levels[0])


def power(x: FieldArray, exponent: Any) -> FieldArray:
    """Exact for constant integer exponents and ±1/2, else a fixed random function."""
    number = embed(exponent).splat
    if number is not None and number.is_integer() and abs(number) < 2**31:
        magnitude = FieldArray(tuple(raised(a, abs(int(number)), p) for a, p in zip(x.levels, PRIMES, strict=True)))
        return 1 / magnitude if number < 0 else magnitude
    if number is not None:
        if abs(number) == 0.5:
            return sqrt(x) if number > 0 else 1 / sqrt(x)
        return uninterpreted(f"power {number!r}", x)
    e = embed(exponent)
    mixed = (scramble("exponent", b, p) for b, p in zip(e.levels, PRIMES, strict=True))
    return FieldArray(tuple(scramble("power", (a + m) % p, p) for a, m, p in zip(x.levels, mixed, PRIMES, strict=True)))


def sqrt(x: FieldArray) -> FieldArray:
    """A multiplicative function whose square is x or −x."""
    # All three primes are 3 modulo 4: x^((p+1)/4) is multiplicative, and a root of x or of −x.
    return FieldArray(tuple(raised(a, (p + 1) // 4, p) for a, p in zip(x.levels, PRIMES, strict=True)))


def exp(x: FieldArray) -> FieldArray:
    """The homomorphism from sums to products."""
    levels = [raised(g, x.levels[i + 1], PRIMES[i]) for i, g in enumerate(GENERATORS)]
    return FieldArray((*levels, scramble("exp", x.levels[-1], PRIMES[-1])))
