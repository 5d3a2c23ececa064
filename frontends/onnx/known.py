"""Small tensors whose elements are known while importing: numbers, and sizes as symbolic dims.

A known tensor is a NumPy array of objects: `int` or `DimExpr` in integer tensors, `bool`, `str`, `float`, and
`Quotient`, a size divided by a small power of two, in floating-point ones: how older exporters compute sizes.
What the ranges of the symbols leave open raises `Undecided`; the model then computes it when it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from dragoman.ir.dims import Dim, DimExpr, bounds, ceildiv, floordiv, maximum, minimum, mod, same
from dragoman.ir.types import DType

MOST = 4096  # elements of a known tensor: what shapes, axes and small tables have
_LARGEST_PART = 4096  # of numerator and denominator: products with sizes below 2^12 are exact in f32


class Undecided(Exception):
    """The ranges of the symbols do not decide it."""


@dataclass(frozen=True)
class Quotient:
    """A size divided by a whole number, as a float: `h * 0.5`."""

    above: Dim
    below: int = 1


def array_of(values: Any, shape: Sequence[int] | None = None) -> Any:
    """An array of objects; NumPy must not look into them."""
    if isinstance(values, np.ndarray):
        flat = [plain(v) for v in values.reshape(-1).tolist()] if values.dtype.kind != "V" else _small(values)
        return _filled(flat, values.shape if shape is None else shape)
    flat = list(values)
    return _filled(flat, (len(flat),) if shape is None else shape)


def _small(values: Any) -> list[Any]:
    wide = values.astype(np.float64)
    return [float(v) for v in wide.reshape(-1)]


def _filled(flat: Sequence[Any], shape: Sequence[int]) -> Any:
    result = np.empty(len(flat), np.object_)
    for index, value in enumerate(flat):
        result[index] = value
    return result.reshape(tuple(shape))


def scalar_of(value: Any) -> Any:
    """A rank-0 array of one object."""
    return _filled([value], ())


def plain(value: Any) -> Any:
    """A NumPy scalar as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def is_symbolic(array: Any) -> bool:
    """Whether any element holds a symbol."""
    return any(isinstance(v, (DimExpr, Quotient)) for v in array.flat)


def fits(array: Any, dtype: DType) -> bool:
    """Whether the integers of an array need no wrapping in a dtype."""
    if not dtype.is_integer:
        return True
    low = -(1 << (dtype.bits - 1)) if dtype.kind == "int" else 0
    high = low + (1 << dtype.bits) - 1
    return all(low <= v <= high for v in array.flat if isinstance(v, int))


def mapped(function: Callable[..., Any], first: Any, *others: Any) -> Any:
    """A function of elements, arrays broadcasting. Raises Undecided where it does."""
    arrays = (first, *others)
    spread: Any = np.broadcast_arrays(*arrays) if others else [np.asarray(first, np.object_)]
    flat = [function(*row) for row in zip(*(a.reshape(-1).tolist() for a in spread), strict=True)]
    return _filled(flat, np.broadcast_shapes(*(a.shape for a in arrays)))


# ---- arithmetic of one element ---------------------------------------------------------------------------


def _ratio(x: Any) -> tuple[Dim, int]:
    """A floating-point element as numerator and denominator."""
    if isinstance(x, Quotient):
        return x.above, x.below
    if isinstance(x, float):
        if x != x or x in (float("inf"), float("-inf")):
            raise Undecided
        exact = Fraction(x)
        if exact.denominator > _LARGEST_PART or abs(exact.numerator) > _LARGEST_PART:
            raise Undecided
        return exact.numerator, exact.denominator
    raise Undecided


def _quotient(above: Dim, below: int) -> Any:
    if below > _LARGEST_PART:
        raise Undecided
    if isinstance(above, int):
        return above / below
    return Quotient(floordiv(above, below), 1) if same(mod(above, below), 0) else Quotient(above, below)


def _is_real(*xs: Any) -> bool:
    return any(isinstance(x, (float, Quotient)) for x in xs)


def add(x: Any, y: Any) -> Any:
    """x + y."""
    if not _is_real(x, y):
        return x + y
    (a, b), (c, d) = _ratio(x), _ratio(y)
    return _quotient(a * d + c * b, b * d)


def negative(x: Any) -> Any:
    """−x."""
    if not _is_real(x):
        return -x
    a, b = _ratio(x)
    return _quotient(-a, b)


def subtract(x: Any, y: Any) -> Any:
    """x − y."""
    return add(x, negative(y))


def multiply(x: Any, y: Any) -> Any:
    """x · y."""
    if not _is_real(x, y):
        return x * y
    (a, b), (c, d) = _ratio(x), _ratio(y)
    return _quotient(a * c, b * d)


def divide(x: Any, y: Any) -> Any:
    """x / y: of integers the quotient truncated toward zero."""
    if _is_real(x, y):
        (a, b), (c, d) = _ratio(x), _ratio(y)
        if isinstance(c, int):
            if c <= 0:
                raise Undecided
            return _quotient(a * d, b * c)
        above, below = a * d, c * b  # both sizes: exact where one is a multiple of the other
        if bounds(below)[0] > 0 and same(mod(above, below), 0):
            return Quotient(floordiv(above, below))
        raise Undecided
    if isinstance(x, int) and isinstance(y, int):
        if y == 0:
            raise Undecided
        return abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
    if bounds(y)[0] > 0 and bounds(x)[0] >= 0:
        return floordiv(x, y)
    if isinstance(y, int) and y < 0 and bounds(x)[0] >= 0:
        return -floordiv(x, -y)
    if isinstance(y, int) and y > 0 and same(mod(x, y), 0):
        return floordiv(x, y)
    raise Undecided


def modulo(x: Any, y: Any) -> Any:
    """x mod y with the sign of the divisor."""
    if _is_real(x, y) or (isinstance(y, int) and y <= 0) or bounds(y)[0] <= 0:
        raise Undecided
    return mod(x, y)


def larger(x: Any, y: Any) -> Any:
    """The larger."""
    if _is_real(x, y):
        return x if less_equal(y, x) else y
    return maximum(x, y)


def smaller(x: Any, y: Any) -> Any:
    """The smaller."""
    if _is_real(x, y):
        return x if less_equal(x, y) else y
    return minimum(x, y)


def _difference(x: Any, y: Any) -> tuple[int, int]:
    if _is_real(x, y):
        (a, b), (c, d) = _ratio(x), _ratio(y)
        return bounds(a * d - c * b)
    return bounds(x - y)


def equal(x: Any, y: Any) -> bool:
    """x = y."""
    if isinstance(x, str) or isinstance(y, str) or isinstance(x, bool) or isinstance(y, bool):
        return x == y
    low, high = _difference(x, y)
    if low > 0 or high < 0:
        return False
    if low == high or (not _is_real(x, y) and same(x, y)):
        return True
    raise Undecided


def less(x: Any, y: Any) -> bool:
    """x < y."""
    low, high = _difference(x, y)
    if high < 0:
        return True
    if low >= 0:
        return False
    raise Undecided


def less_equal(x: Any, y: Any) -> bool:
    """x ≤ y."""
    return not less(y, x)


def floor(x: Any) -> Any:
    """⌊x⌋ of a float."""
    a, b = _ratio(x)
    return _quotient(floordiv(a, b), 1)


def ceiling(x: Any) -> Any:
    """⌈x⌉ of a float."""
    a, b = _ratio(x)
    return _quotient(ceildiv(a, b), 1)


def absolute(x: Any) -> Any:
    """|x|."""
    return x if less_equal(0.0 if _is_real(x) else 0, x) else negative(x)


def converted(x: Any, dtype: DType) -> Any:
    """One element cast to a dtype."""
    if dtype.kind == "bool":
        return x if isinstance(x, bool) else not equal(x, 0.0 if _is_real(x) else 0)
    if dtype.is_integer:
        return _whole(x)
    if dtype.kind == "float":
        return _real(x)
    raise Undecided


def _whole(x: Any) -> Any:
    if isinstance(x, bool):
        return int(x)
    if not _is_real(x):
        return x
    a, b = _ratio(x)
    if b == 1:
        return a
    if bounds(a)[0] < 0:
        raise Undecided
    return floordiv(a, b)


def _real(x: Any) -> Any:
    if isinstance(x, DimExpr):
        return Quotient(x)
    if isinstance(x, str):
        raise Undecided
    return x if _is_real(x) else float(x)
