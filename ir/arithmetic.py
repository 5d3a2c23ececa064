"""The arithmetics that op semantics run in. An op's `reference(m, …)` is written once over `m` and holds in all.

* `Float64`: every real number is a float64, every complex one a complex128; the oracle of all numeric proofs.
* `Native`: each node's operands and results have their declared types; half precision computes inside a node in f32.
* `Field` (`dragoman.ir.field`): real numbers are residues; equality there is a proof over the reals.

Integers, booleans and strings are plain NumPy arrays in all three, with their declared width; those of 2 and 4 bits
compute in eight inside a node and wrap when they are stored. Semantics that only move elements go through
`m.move(f, *arrays)`, where `f` is a NumPy function; it then holds for every representation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dragoman.ir.errors import Inexact as Inexact
from dragoman.ir.types import F32, U64, DType, dtype_of

Array = Any  # a NumPy array, or the representation an arithmetic has of one
Axes = Sequence[int] | int | None


class Arithmetic:
    """What semantics may use: NumPy on float64. Subclasses change how real numbers are held."""

    name = "float64"
    rounds = False  # whether values are rounded to their declared types

    # ---- representation --------------------------------------------------------------------------

    def working(self, dtype: DType) -> np.dtype[Any]:
        """The NumPy dtype in which values declared as `dtype` are computed."""
        if dtype.is_float:
            return np.dtype(np.float64)
        return np.dtype(np.complex128) if dtype.is_complex else dtype.numpy

    def embed(self, values: Any, dtype: DType) -> Array:
        """Bring given numbers (an input, a weight) declared as `dtype` into this arithmetic."""
        return np.asarray(values).astype(self.working(dtype), copy=False)

    def constant(self, value: float | complex | str, dtype: DType) -> Array:
        """A scalar constant of the program: the number as written, so that 0.1 is one number in every precision.

        What `dtype` cannot hold at all is what it makes of it: infinity. Only the native arithmetic rounds to `dtype`.
        """
        if dtype.kind == "string":
            return np.array(value, np.object_)
        with np.errstate(over="ignore"):
            rounded = np.array(value).astype(dtype.numpy)
        keeps = dtype.is_inexact and bool(np.isfinite(rounded))
        return self.embed(np.array(value) if keeps else rounded, dtype)

    def load(self, x: Array, dtype: DType) -> Array:
        """An operand as the semantics of one node get it."""
        return x.astype(_EIGHT_BITS[dtype.kind]) if dtype.is_integer and dtype.bits < 8 else x

    def store(self, x: Array, dtype: DType) -> Array:
        """The result of one node's semantics, declared as `dtype`, as it is kept."""
        return np.asarray(x).astype(self.working(dtype), copy=False)

    def extract(self, x: Array, dtype: DType) -> Any:
        """A result of the program as a NumPy array. Float64 keeps the width of its computation."""
        return x

    def cast(self, x: Array, dtype: DType) -> Array:
        """`x` as `dtype`: floats to integers truncate toward zero; precision of floats is not reduced here."""
        x = np.asarray(x)
        if dtype.kind == "bool":
            return x != 0
        if dtype.is_integer and x.dtype.kind in "fc":
            return _truncate_to_integer(x.real, dtype)
        if dtype.kind == "string":
            return x.astype(np.str_).astype(np.object_)
        if x.dtype.kind == "c" and not dtype.is_complex:
            x = x.real
        return x.astype(self.working(dtype), copy=False)

    # ---- movement --------------------------------------------------------------------------------

    def move(self, function: Callable[..., Any], *arrays: Array) -> Array:
        """Apply a NumPy function that only moves, repeats or drops elements."""
        return function(*arrays)

    def where(self, condition: Array, x: Array, y: Array) -> Array:
        """Elements of `x` where `condition` holds, of `y` elsewhere."""
        return np.where(condition, x, y)

    # ---- pointwise --------------------------------------------------------------------------------

    def exp(self, x: Array) -> Array:
        """e^x."""
        return np.exp(x)

    def log(self, x: Array) -> Array:
        """Natural logarithm."""
        return np.log(x)

    def sqrt(self, x: Array) -> Array:
        """Square root."""
        return np.sqrt(x)

    def power(self, x: Array, y: Array) -> Array:
        """x^y; of integers, an integer."""
        if np.asarray(x).dtype.kind in "iu" and np.asarray(y).dtype.kind in "iu":
            return _integer_power(x, y)
        return np.power(x, y)

    def special(self, name: str, x: Array) -> Array:
        """A unary function by its NumPy or scipy.special name: `sin`, `erf`, `gammaln`, …"""
        function = getattr(np, name, None)
        if function is None:
            import scipy.special

            function = getattr(scipy.special, name)
        return function(x)

    def special2(self, name: str, x: Array, y: Array) -> Array:
        """A binary function by its NumPy name: `arctan2`, `fmod`, …"""
        return getattr(np, name)(x, y)

    def maximum(self, x: Array, y: Array) -> Array:
        """The larger of each pair; NaN where either is."""
        return np.maximum(x, y)

    def minimum(self, x: Array, y: Array) -> Array:
        """The smaller of each pair; NaN where either is."""
        return np.minimum(x, y)

    def absolute(self, x: Array) -> Array:
        """|x|."""
        return np.abs(x)

    def divide(self, x: Array, y: Array) -> Array:
        """x / y; of integers, the quotient truncated toward zero (by zero: zero)."""
        if np.asarray(x).dtype.kind in "iu" and np.asarray(y).dtype.kind in "iu":
            return _truncated_quotient(x, y)
        return np.true_divide(x, y)

    def is_real(self, x: Array) -> bool:
        """Whether `x` holds real or complex numbers rather than integers, booleans or strings."""
        return dtype_of(np.asarray(x)).is_inexact

    def holds(self, x: Array) -> bool:
        """Whether `x`, which is no NumPy array, is already in this arithmetic's form."""
        return self.is_real(x)

    # ---- reductions --------------------------------------------------------------------------------

    def sum(self, x: Array, axes: Axes = None, keepdims: bool = False) -> Array:
        """Sum over `axes`, integers in their own width."""
        return np.sum(x, axis=_axes(axes), keepdims=keepdims, dtype=_keep(x))

    def prod(self, x: Array, axes: Axes = None, keepdims: bool = False) -> Array:
        """Product over `axes`, integers in their own width."""
        return np.prod(x, axis=_axes(axes), keepdims=keepdims, dtype=_keep(x))

    def max(self, x: Array, axes: Axes = None, keepdims: bool = False) -> Array:
        """Largest element over `axes`; the lowest value of the type over none."""
        start = {"initial": _lowest(x)} if np.size(x) == 0 else {}
        return np.max(x, axis=_axes(axes), keepdims=keepdims, **start)

    def min(self, x: Array, axes: Axes = None, keepdims: bool = False) -> Array:
        """Smallest element over `axes`; the highest value of the type over none."""
        start = {"initial": _highest(x)} if np.size(x) == 0 else {}
        return np.min(x, axis=_axes(axes), keepdims=keepdims, **start)

    def cumsum(self, x: Array, axis: int) -> Array:
        """Running sums along `axis`, integers in their own width."""
        return np.cumsum(x, axis=axis, dtype=_keep(x))

    def cumprod(self, x: Array, axis: int) -> Array:
        """Running products along `axis`, integers in their own width."""
        return np.cumprod(x, axis=axis, dtype=_keep(x))

    def argsort(self, x: Array, axis: int, descending: bool = False) -> Array:
        """Indices that sort `x` stably along `axis`; NaN is larger than any number."""
        if not descending:
            return np.argsort(x, axis=axis, kind="stable")
        flipped = np.flip(np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)
        return x.shape[axis] - 1 - flipped

    # ---- products of arrays --------------------------------------------------------------------------

    def matmul(self, x: Array, y: Array) -> Array:
        """NumPy's matmul, batch dimensions broadcasting."""
        return np.matmul(x, y)

    def einsum(self, equation: str, *arrays: Array) -> Array:
        """NumPy's einsum."""
        return np.einsum(equation, *arrays, optimize=len(arrays) > 1)

    def scatter(self, x: Array, index: tuple[Any, ...], updates: Array, reduction: str) -> Array:
        """A copy of `x` with `updates` put at `index`; `reduction` is none, add, mul, max or min, applied in order."""
        result = np.array(x)
        if reduction == "none":
            result[index] = updates
            return result
        function = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}[reduction]
        function.at(result, index, updates)
        return result


class Native(Arithmetic):
    """Each node rounds to its declared types, as a framework running node by node does."""

    name = "native"
    rounds = True

    def working(self, dtype: DType) -> np.dtype[Any]:
        """The declared type itself."""
        return dtype.numpy

    def load(self, x: Array, dtype: DType) -> Array:
        """Half and quarter precision compute in f32 inside a node."""
        return x.astype(np.float32) if dtype.is_float and dtype.bits < F32.bits else super().load(x, dtype)

    def cast(self, x: Array, dtype: DType) -> Array:
        """Also rounds to narrower floats."""
        x = super().cast(x, dtype)
        return x.astype(np.float32) if dtype.is_float and dtype.bits < F32.bits else x


_EIGHT_BITS: dict[str, Any] = {"int": np.int8, "uint": np.uint8}
FLOAT64 = Arithmetic()
NATIVE = Native()


def numbers(x: Array, what: str) -> Any:
    """`x` as a NumPy array, for semantics that a library computes. Raises Inexact where it is held in another form."""
    if not isinstance(x, (np.ndarray, np.generic)):
        raise Inexact(f"{what} is computed in floating point")
    return np.asarray(x)


def _axes(axes: Axes) -> tuple[int, ...] | int | None:
    return tuple(axes) if isinstance(axes, Sequence) else axes


def _keep(x: Array) -> np.dtype[Any] | None:
    dtype = np.asarray(x).dtype
    return dtype if dtype.kind in "iu" else None


def _lowest(x: Array) -> Any:
    dtype = np.asarray(x).dtype
    return -math.inf if dtype.kind == "f" else (False if dtype.kind == "b" else np.iinfo(dtype).min)


def _highest(x: Array) -> Any:
    dtype = np.asarray(x).dtype
    return math.inf if dtype.kind == "f" else (True if dtype.kind == "b" else np.iinfo(dtype).max)


def _truncate_to_integer(x: Any, dtype: DType) -> Any:
    # What does not fit int64, NaN included, becomes its lowest value and then wraps, as on x86: spelled out, because
    # NumPy leaves it to the processor.
    whole = np.trunc(x)
    fits = (whole >= -(2.0**63)) & (whole < 2.0**63)
    wide = np.where(fits, np.where(fits, whole, 0).astype(np.int64), np.iinfo(np.int64).min)
    if dtype == U64:
        large = (whole >= 2.0**63) & (whole < 2.0**64)
        return np.where(large, np.where(large, whole, 0).astype(np.uint64), wide.astype(np.uint64))
    return wide.astype(dtype.numpy)


def _truncated_quotient(x: Any, y: Any) -> Any:
    with np.errstate(all="ignore"):
        quotient = np.floor_divide(x, y)
        remainder = np.remainder(x, y)
    return quotient + ((remainder != 0) & ((np.less(x, 0)) != (np.less(y, 0)))).astype(quotient.dtype)


def _integer_power(x: Any, y: Any) -> Any:
    # NumPy refuses negative integer exponents; frameworks give 1, ±1 or 0 there.
    positive = np.power(x, np.maximum(y, 0))
    inverse = np.where(np.equal(x, 1), 1, np.where(np.equal(x, -1), np.where(np.remainder(y, 2) == 0, 1, -1), 0))
    return np.where(np.less(y, 0), inverse.astype(positive.dtype), positive)
