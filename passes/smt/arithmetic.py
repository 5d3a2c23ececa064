"""The arithmetic of z3 terms: op semantics run in it become formulas.

Floats are real numbers (`dragoman.passes.smt.terms`), booleans are z3 Bools, and integers z3 Ints: they do not wrap.
What a program knows (indices, ranges, masks by position) stays a NumPy array. An infinite constant is any number beyond
the unknowns, e^−∞ is 0, and no number is found to be infinite. Rounding, NaN, complex numbers, bits of integers and
indices computed from unknown values have no meaning here and raise `Inexact`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import z3

from dragoman.ir.arithmetic import Arithmetic, Array, Axes, Inexact
from dragoman.ir.field import DERIVED
from dragoman.ir.field_array import meant
from dragoman.ir.types import DType
from dragoman.passes.smt.array import TermArray, each, larger, pairs, select, smaller
from dragoman.passes.smt.terms import INFINITY, Functions, Real, choose

_LARGEST = 2**128  # above every f32


class Symbolic(Arithmetic):
    """The arithmetic of terms. `free` are numbers of the program that stand for any number."""

    name = "smt"

    def __init__(self, free: dict[float, Real] | None = None) -> None:
        self.functions = Functions()
        self.free = free or {}
        self.unknowns: list[Any] = []

    # ---- representation --------------------------------------------------------------------------

    def unknown(self, name: str, shape: Sequence[int], dtype: DType) -> TermArray:
        """An array of unknowns."""
        if dtype.kind not in ("bool", "int", "uint", "float"):
            raise Inexact(f"{dtype} has no form here")
        make = {"float": z3.Real, "bool": z3.Bool}.get(dtype.kind, z3.Int)
        terms = np.empty(tuple(shape), dtype=object)
        for place in np.ndindex(*terms.shape):
            term = make(f"{name}[{','.join(map(str, place))}]")
            self.unknowns.append(term)
            terms[place] = Real(term) if dtype.is_float else term
        kind = "real" if dtype.is_float else ("bool" if dtype.kind == "bool" else "int")
        return TermArray(self, terms, kind, None if dtype.is_float else dtype.numpy)

    def embed(self, values: Any, dtype: DType) -> Array:
        """Floats as exact fractions; the rest stays NumPy's."""
        if isinstance(values, TermArray):
            return values
        if dtype.is_complex or dtype.kind == "string":
            raise Inexact(f"{dtype} has no form here")
        return self.lift(values, "real") if dtype.is_float else np.asarray(values).astype(dtype.numpy, copy=False)

    def lift(self, x: Any, kind: str) -> TermArray:
        """Anything as terms of a kind."""
        if isinstance(x, TermArray):
            if x.kind == kind:
                return x
            raise Inexact(f"{x.kind} where {kind} is needed")
        array = np.asarray(x)
        if kind == "real":
            convert = self.number if array.ndim == 0 and array.dtype.kind == "f" else self._exact
            return TermArray(self, each(convert)(array.astype(object)), kind)
        convert = {"int": lambda v: z3.IntVal(int(v)), "bool": lambda v: z3.BoolVal(bool(v))}[kind]
        return TermArray(self, each(convert)(array.astype(object)), kind, array.dtype if kind == "int" else None)

    def _exact(self, value: Any) -> Real:
        """An element of an array as the fraction it is."""
        if isinstance(value, float) and not math.isfinite(value):
            return self.infinity(value)
        return Real(Fraction(value))

    def number(self, value: float) -> Real:
        """A scalar of the program: any number where it is free, else the simple one it stands for."""
        value = float(value)
        if abs(value) in self.free:
            return self.free[abs(value)] if value > 0 else -self.free[abs(value)]
        if not math.isfinite(value):
            return self.infinity(value)
        fraction, is_root = meant(value)
        if not is_root:
            return Real(fraction)
        root = self.functions.root(fraction)
        return root if value > 0 else -root

    def infinity(self, value: float) -> Real:
        """±∞: any number beyond all the unknowns. What is equal for each of these is equal in the limit."""
        if math.isnan(value):
            raise Inexact("the constant NaN")
        return Real(INFINITY) if value > 0 else -Real(INFINITY)

    def bounds(self) -> list[Any]:
        """What is known of infinity."""
        return [INFINITY > _LARGEST, *(z3.And(u < INFINITY, u > -INFINITY) for u in self.unknowns if z3.is_real(u))]

    def constant(self, value: float | complex | str, dtype: DType) -> Array:
        """A scalar as the number it stands for."""
        if dtype.is_float and isinstance(value, (int, float)):
            return TermArray(self, self.number(value), "real")
        return super().constant(value, dtype)

    def load(self, x: Array, dtype: DType) -> Array:
        """As it is."""
        return x if isinstance(x, TermArray) else super().load(x, dtype)

    def store(self, x: Array, dtype: DType) -> Array:
        """Reals for floats; integers and booleans as terms or as NumPy arrays."""
        if dtype.is_float:
            return self.lift(x, "real")
        return x if isinstance(x, TermArray) else np.asarray(x).astype(dtype.numpy, copy=False)

    def cast(self, x: Array, dtype: DType) -> Array:
        """Precision and width are not modelled; floats truncate to integers."""
        if dtype.is_complex or dtype.kind == "string":
            raise Inexact(f"{dtype} has no form here")
        if not isinstance(x, TermArray):
            return self.lift(x, "real") if dtype.is_float else super().cast(x, dtype)
        kind = "real" if dtype.is_float else ("bool" if dtype.kind == "bool" else "int")
        if kind == x.kind:
            return TermArray(self, x.terms, kind, None if dtype.is_float else dtype.numpy)
        return TermArray(self, each(_CASTS[x.kind, kind](self.functions))(x.terms), kind)

    def is_real(self, x: Array) -> bool:
        """Whether `x` is made of real numbers."""
        return isinstance(x, TermArray) and x.kind == "real"

    def holds(self, x: Array) -> bool:
        """Whether `x` is made of terms."""
        return isinstance(x, TermArray)

    # ---- movement --------------------------------------------------------------------------------

    def move(self, function: Callable[..., Any], *arrays: Array) -> Any:
        """Apply the movement to the arrays of terms."""
        symbolic = [a for a in arrays if isinstance(a, TermArray)]
        if not symbolic:
            return function(*arrays)
        kind = symbolic[0].kind
        moved = function(*(self.lift(a, kind).terms for a in arrays))
        if isinstance(moved, (list, tuple)):
            return [self._wrapped(a, symbolic[0]) for a in moved]
        return self._wrapped(moved, symbolic[0])

    def _wrapped(self, moved: Any, like: TermArray) -> TermArray:
        array = np.asarray(moved, dtype=object)
        filled = each(lambda v: v if isinstance(v, (Real, z3.ExprRef)) else self._filling(v, like.kind))(array)
        return TermArray(self, filled, like.kind, like.dtype)

    def _filling(self, value: Any, kind: str) -> Any:
        return self.lift(value, kind).terms.item()

    def where(self, condition: Array, x: Array, y: Array) -> Array:
        """A choice term by term."""
        if not any(isinstance(a, TermArray) for a in (condition, x, y)):
            return np.where(condition, x, y)
        kind = self._kind(x, y)
        a, b = self.lift(x, kind), self.lift(y, kind)
        chosen = condition.terms if isinstance(condition, TermArray) else np.asarray(condition).astype(object)
        return TermArray(self, np.frompyfunc(select, 3, 1)(chosen, a.terms, b.terms), kind)

    def _kind(self, *arrays: Any) -> str:
        known = [a.kind for a in arrays if isinstance(a, TermArray)]
        if known:
            return known[0]
        kinds = {np.asarray(a).dtype.kind for a in arrays}
        return "bool" if kinds == {"b"} else ("real" if "f" in kinds else "int")

    def pointwise(
        self, function: Callable[[Any, Any], Any], x: Array, y: Array, result: str | None = None
    ) -> TermArray:
        """A function of two elements on arrays that broadcast."""
        kind = self._kind(x, y)
        a, b = self.lift(x, kind), self.lift(y, kind)
        return TermArray(self, pairs(function)(a.terms, b.terms), result or kind)

    # ---- functions ----------------------------------------------------------------------------------

    def _of_reals(self, function: Callable[..., Real], *arrays: Array) -> TermArray:
        terms = [self.lift(a, "real").terms for a in arrays]
        return TermArray(self, np.frompyfunc(function, len(terms), 1)(*terms), "real")

    def exp(self, x: Array) -> Array:
        """Sums to products."""
        return self._of_reals(self.functions.exp, x)

    def log(self, x: Array) -> Array:
        """The inverse of exp."""
        return self._of_reals(self.functions.log, x)

    def sqrt(self, x: Array) -> Array:
        """Its square is x."""
        return self._of_reals(self.functions.sqrt, x)

    def power(self, x: Array, y: Array) -> Array:
        """Products for small whole exponents."""
        if not (isinstance(x, TermArray) or isinstance(y, TermArray)):
            return super().power(x, y)
        if self._kind(x, y) == "real":
            return self._of_reals(self.functions.power, x, y)
        if isinstance(y, TermArray) or np.any(np.asarray(y) < 0):
            raise Inexact("unknown or negative powers of integers")
        exponents = np.asarray(y).astype(object)
        return TermArray(self, pairs(lambda a, k: math.prod([a] * k, start=z3.IntVal(1)))(x.terms, exponents), "int")

    def special(self, name: str, x: Array) -> Array:
        """Some through exp, log, erf and sin, some through order; the rest uninterpreted."""
        if not isinstance(x, TermArray):
            return super().special(name, x)
        if name in ("isnan", "isinf"):
            return np.zeros(x.shape, np.bool_)
        if name in DERIVED:
            return DERIVED[name](self, x)
        if name == "sign":
            return self.where(
                x > 0, self.lift(1, x.kind), self.where(x < 0, self.lift(-1, x.kind), self.lift(0, x.kind))
            )
        if x.kind != "real":
            raise Inexact(f"{name} of unknown integers")
        if name in _WHOLE:
            return self._of_reals(lambda a: _WHOLE[name](self.functions, a), x)
        return self._of_reals(lambda a: self.functions.unary(name, a), x)

    def special2(self, name: str, x: Array, y: Array) -> Array:
        """Uninterpreted."""
        if not (isinstance(x, TermArray) or isinstance(y, TermArray)):
            return super().special2(name, x, y)
        if self._kind(x, y) != "real":
            raise Inexact(f"{name} of unknown integers")
        return self._of_reals(lambda a, b: self.functions.binary(name, a, b), x, y)

    def maximum(self, x: Array, y: Array) -> Array:
        """A choice by comparison."""
        if not (isinstance(x, TermArray) or isinstance(y, TermArray)):
            return np.maximum(x, y)
        return self.pointwise(larger, x, y)

    def minimum(self, x: Array, y: Array) -> Array:
        """A choice by comparison."""
        if not (isinstance(x, TermArray) or isinstance(y, TermArray)):
            return np.minimum(x, y)
        return self.pointwise(smaller, x, y)

    def absolute(self, x: Array) -> Array:
        """x or −x."""
        if self.is_real(x):
            return self._of_reals(self.functions.absolute, x)
        return self.where(x >= 0, x, -x) if isinstance(x, TermArray) else np.abs(x)

    def divide(self, x: Array, y: Array) -> Array:
        """The quotient; of integers, truncated."""
        if not (isinstance(x, TermArray) or isinstance(y, TermArray)):
            return super().divide(x, y)
        if self._kind(x, y) == "real":
            return self._of_reals(lambda a, b: a / b, x, y)
        return self.pointwise(_truncated, x, y)

    # ---- reductions and products -----------------------------------------------------------------------

    def fold(
        self, function: Callable[[Any, Any], Any], x: TermArray, axes: Axes, keepdims: bool, empty: Any
    ) -> TermArray:
        """All elements over some axes put together, two at a time; `empty` is what none give."""
        given = range(x.ndim) if axes is None else (axes if isinstance(axes, Sequence) else (axes,))
        reduced = sorted(a % x.ndim for a in given) if x.ndim else []
        if not reduced:
            return x
        kept = [a for a in range(x.ndim) if a not in reduced]
        merged = [x.shape[a] for a in kept] + [math.prod(x.shape[a] for a in reduced)]
        rows = x.terms.transpose([*kept, *reduced]).reshape(merged)
        result = np.empty(rows.shape[:-1], dtype=object)
        for place in np.ndindex(*result.shape):
            row = list(rows[place])
            if not row and empty is None:
                raise Inexact("an extreme of nothing")
            result[place] = functools.reduce(function, row) if row else self._filling(empty, x.kind)
        shape = [1 if a in reduced else x.shape[a] for a in range(x.ndim) if keepdims or a not in reduced]
        return TermArray(self, result.reshape(shape), x.kind, x.dtype)

    def sum(self, x: Array, axes: Axes = None, keepdims: bool = False) -> Array:
        """Sums of terms."""
        if not isinstance(x, TermArray):
            return super().sum(x, axes, keepdims)
        return self.fold(lambda a, b: a + b, x, axes, keepdims, 0)

    def prod(self, x: Array, axes: Axes = None, keepdims: bool = False) -> Array:
        """Products of terms."""
        if not isinstance(x, TermArray):
            return super().prod(x, axes, keepdims)
        return self.fold(lambda a, b: a * b, x, axes, keepdims, 1)

    def max(self, x: Array, axes: Axes = None, keepdims: bool = False) -> Array:
        """The largest."""
        if not isinstance(x, TermArray):
            return super().max(x, axes, keepdims)
        return self.fold(larger, x, axes, keepdims, None)

    def min(self, x: Array, axes: Axes = None, keepdims: bool = False) -> Array:
        """The smallest."""
        if not isinstance(x, TermArray):
            return super().min(x, axes, keepdims)
        return self.fold(smaller, x, axes, keepdims, None)

    def cumsum(self, x: Array, axis: int) -> Array:
        """Running sums."""
        return self._running(lambda a, b: a + b, x, axis) if isinstance(x, TermArray) else super().cumsum(x, axis)

    def cumprod(self, x: Array, axis: int) -> Array:
        """Running products."""
        return self._running(lambda a, b: a * b, x, axis) if isinstance(x, TermArray) else super().cumprod(x, axis)

    def _running(self, function: Callable[[Any, Any], Any], x: TermArray, axis: int) -> TermArray:
        rows = np.moveaxis(x.terms, axis, 0)
        totals: list[Any] = []
        for row in rows:
            totals.append(pairs(function)(totals[-1], row) if totals else row)
        result = np.stack(totals) if totals else rows
        return TermArray(self, np.moveaxis(result, 0, axis), x.kind, x.dtype)

    def argsort(self, x: Array, axis: int, descending: bool = False) -> Array:
        """Only of what is known."""
        if isinstance(x, TermArray):
            raise Inexact("the order of unknown numbers")
        return super().argsort(x, axis, descending)

    def matmul(self, x: Array, y: Array) -> Array:
        """NumPy's, on terms."""
        return self._contracted(np.matmul, x, y)

    def einsum(self, equation: str, *arrays: Array) -> Array:
        """NumPy's, on terms."""
        return self._contracted(lambda *a: np.einsum(equation, *a), *arrays)

    def _contracted(self, function: Callable[..., Any], *arrays: Array) -> Array:
        if not any(isinstance(a, TermArray) for a in arrays):
            return function(*arrays)
        kind = self._kind(*arrays)
        return self._wrapped(function(*(self.lift(a, kind).terms for a in arrays)), TermArray(self, [], kind))

    def scatter(self, x: Array, index: tuple[Any, ...], updates: Array, reduction: str) -> Array:
        """Updates one after the other."""
        if not (isinstance(x, TermArray) or isinstance(updates, TermArray)):
            return super().scatter(x, index, updates, reduction)
        kind = self._kind(x, updates)
        result = np.array(self.lift(x, kind).terms)
        places = np.arange(result.size).reshape(result.shape)[index]
        given = np.broadcast_to(self.lift(updates, kind).terms, places.shape)
        function = {"none": lambda _, b: b, "add": lambda a, b: a + b, "mul": lambda a, b: a * b, "max": larger,
                    "min": smaller}[reduction]  # fmt: skip
        flat = result.reshape(-1)
        for place, update in zip(np.ravel(places), given.reshape(-1), strict=True):
            flat[place] = function(flat[place], update)
        return TermArray(self, flat.reshape(result.shape), kind)


def _magnitude(x: Any) -> Any:
    return z3.If(x >= 0, x, -x)


def _truncated(x: Any, y: Any) -> Any:
    quotient = _magnitude(x) / _magnitude(y)
    return z3.If(y == 0, z3.IntVal(0), z3.If((x >= 0) == (y >= 0), quotient, -quotient))


def _floor(f: Functions, x: Real) -> Real:
    return Real(z3.ToReal(f.floor(x)))


def _trunc(f: Functions, x: Real) -> Real:
    return choose(x.compared(Real(Fraction(0)), lambda a, b: a >= b), _floor(f, x), -_floor(f, -x))


_WHOLE: dict[str, Callable[[Functions, Real], Real]] = {
    "floor": _floor,
    "ceil": lambda f, x: -_floor(f, -x),
    "trunc": _trunc,
}


def _to_integer(f: Functions) -> Callable[[Real], Any]:
    return lambda x: z3.If(x.compared(Real(Fraction(0)), lambda a, b: a >= b), f.floor(x), -f.floor(-x))


_CASTS: dict[tuple[str, str], Callable[[Functions], Callable[[Any], Any]]] = {
    ("real", "int"): _to_integer,
    ("real", "bool"): lambda f: lambda x: x.compared(Real(Fraction(0)), lambda a, b: a != b),
    ("int", "real"): lambda f: lambda x: Real(z3.ToReal(x)),
    ("int", "bool"): lambda f: lambda x: x != 0,
    ("bool", "real"): lambda f: lambda x: choose(x, Real(Fraction(1)), Real(Fraction(0))),
    ("bool", "int"): lambda f: lambda x: z3.If(x, z3.IntVal(1), z3.IntVal(0)),
}
