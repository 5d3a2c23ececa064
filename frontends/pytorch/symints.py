"""torch's symbolic sizes as dims of the IR.

torch writes a size as a sympy expression over symbols of its own (`s77`). Here each symbol stands for a dim in the
user's names; expressions are rebuilt from those. Only the expression's structure is read, never its text. Refuses
sizes that go through floating-point numbers unless the result is provably the floor or ceiling of a simple ratio.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import reduce
from typing import Any

import sympy
import torch
from torch.utils._sympy import functions as theirs

from dragoman.ir.dims import UNBOUNDED, Dim, DimExpr, Symbol, bounds, ceildiv, floordiv, maximum, minimum, mod
from dragoman.ir.dims import symbols as symbols_of
from dragoman.ir.errors import Unsupported

Ranges = Callable[[sympy.Symbol], tuple[int, int]]
_PROBED = 4096  # sizes at which a rounded ratio is compared with what floating-point arithmetic gives


class Symbols:
    """The dims that torch's symbols stand for. Symbols met for the first time are data-dependent sizes and get a
    fresh name.
    """

    def __init__(self, taken: frozenset[str] = frozenset(), ranges: Ranges | None = None) -> None:
        self._known: dict[sympy.Symbol, Dim] = {}
        self._cache: dict[Any, Dim] = {}
        self._forbidden: dict[sympy.Symbol, str] = {}
        self._taken = set(taken)
        self._ranges = ranges

    def bind(self, symbol: sympy.Symbol, dim: Dim) -> None:
        """Let torch's symbol stand for `dim`."""
        self._known[symbol] = dim
        self._cache.clear()

    def forbid(self, expression: Any, line: str) -> None:
        """Refuse the symbols of an expression as sizes: they are values read from tensors in that source line."""
        for symbol in expression.free_symbols:
            if symbol not in self._known:
                self._forbidden[symbol] = line

    def bound(self, symbol: sympy.Symbol) -> Dim | None:
        """What a symbol stands for, if anything yet."""
        return self._known.get(symbol)

    def knows(self, expression: Any) -> bool:
        """Whether every symbol of an expression stands for something."""
        return all(s in self._known for s in expression.free_symbols)

    def dim(self, size: Any) -> Dim:
        """A size as torch holds it (int, SymInt or sympy expression) as a dim."""
        if isinstance(size, torch.SymInt):
            size = size.node._expr
        if isinstance(size, int):
            return int(size)
        known = self._cache.get(size)
        if known is None:
            known = self._cache[size] = self._convert(size)
        return known

    def _convert(self, expression: Any) -> Dim:
        if isinstance(expression, sympy.Symbol):
            return self._symbol(expression)
        if expression.is_Integer:
            return int(expression)
        if isinstance(expression, _WHOLE):
            return _round(type(expression), self._ratio(expression.args[0]))
        build = _BUILDERS.get(type(expression))
        if build is None:
            raise Unsupported(
                f"the size {expression} uses {type(expression).__name__}, which a dimension cannot express"
            )
        if isinstance(expression, sympy.Pow) and not (expression.args[1].is_Integer and expression.args[1] >= 0):
            raise Unsupported(f"the size {expression} has an exponent that is no natural number")
        return build(*(self.dim(a) for a in expression.args))

    def _symbol(self, symbol: sympy.Symbol) -> Dim:
        found = self._known.get(symbol)
        if symbol in self._forbidden:  # refused once; the walk goes on to find what else is refused
            line = self._forbidden.pop(symbol)
            raise Unsupported(f"a size is taken from the values of a tensor ({line})")
        if found is None:
            low, high = self._ranges(symbol) if self._ranges else (0, UNBOUNDED)
            found = self._known[symbol] = Symbol(self._fresh(), max(low, 0), min(high, UNBOUNDED)).dim
        return found

    def _fresh(self) -> str:
        number = 0
        while f"n{number}" in self._taken:
            number += 1
        self._taken.add(f"n{number}")
        return f"n{number}"

    def _ratio(self, expression: Any) -> tuple[Dim, Fraction, bool]:
        """A real expression as dim·factor, and whether floating-point numbers took part."""
        if expression.is_Float:
            return 1, Fraction(float(expression)), True
        if isinstance(expression, theirs.ToFloat):
            return self.dim(expression.args[0]), Fraction(1), True
        if isinstance(expression, (theirs.IntTrueDiv, theirs.FloatTrueDiv)):
            (top, a, f), (bottom, b, g) = (self._ratio(x) for x in expression.args)
            if isinstance(bottom, int) and bottom * b:
                return top, a / (bottom * b), f or g
        elif isinstance(expression, sympy.Mul):
            parts = [self._ratio(x) for x in expression.args]
            symbolic = reduce(lambda x, y: x * y, (p[0] for p in parts), 1)
            return symbolic, reduce(lambda x, y: x * y, (p[1] for p in parts)), any(p[2] for p in parts)
        elif expression.is_integer or expression.is_Integer:
            return self.dim(expression), Fraction(1), False
        raise Unsupported(f"the size {expression} goes through floating-point numbers")


_WHOLE = (theirs.FloorToInt, theirs.CeilToInt, theirs.TruncToInt)
_ROUNDED: Mapping[Any, Callable[[Dim, Dim], Dim]] = {
    theirs.FloorToInt: floordiv,
    theirs.TruncToInt: floordiv,
    theirs.CeilToInt: ceildiv,
}


def _round(kind: Any, ratio: tuple[Dim, Fraction, bool]) -> Dim:
    dim, factor, inexact = ratio
    if bounds(dim)[0] < 0 or factor < 0:
        raise Unsupported(f"the size is a rounded multiple of {dim}, which may be negative")
    simple = factor.limit_denominator(1 << 16) if inexact else factor
    rounded = _ROUNDED[kind]
    if inexact:
        # Floating-point rounding may move a value across an integer; a ratio that differs anywhere near is refused.
        exact: Callable[[int], int] = lambda n: int(rounded(n * simple.numerator, simple.denominator))  # noqa: E731
        for n in range(_PROBED):
            product = n * float(factor)
            seen = -int(-product // 1) if kind is theirs.CeilToInt else int(product // 1)
            if exact(n) != seen:
                raise Unsupported(f"the size is {dim}·{float(factor)} rounded, which has no exact form in integers")
    return rounded(dim * simple.numerator, simple.denominator)


def _floordiv(a: Dim, b: Dim) -> Dim:
    if isinstance(b, int) and b < 0:
        return floordiv(-a, -b)
    return floordiv(a, b)


def _power(base: Dim, exponent: Dim) -> Dim:
    assert isinstance(exponent, int)
    return reduce(lambda x, y: x * y, [base] * exponent, 1)


_BUILDERS: dict[Any, Callable[..., Dim]] = {
    sympy.Add: lambda *xs: reduce(lambda x, y: x + y, xs),
    sympy.Mul: lambda *xs: reduce(lambda x, y: x * y, xs),
    sympy.Pow: _power,
    theirs.PowByNatural: _power,
    theirs.FloorDiv: _floordiv,
    theirs.CleanDiv: _floordiv,
    theirs.CeilDiv: ceildiv,
    theirs.Mod: mod,
    theirs.PythonMod: mod,
    theirs.ModularIndexing: lambda a, b, c: mod(floordiv(a, b), c),
    theirs.Max: lambda *xs: reduce(maximum, xs),
    theirs.Min: lambda *xs: reduce(minimum, xs),
    sympy.Max: lambda *xs: reduce(maximum, xs),
    sympy.Min: lambda *xs: reduce(minimum, xs),
    theirs.Identity: lambda x: x,
}


def only_symbol(dim: Dim) -> Symbol | None:
    """The one symbol that a dim depends on, if it is one."""
    found = symbols_of(dim) if isinstance(dim, DimExpr) else {}
    return next(iter(found.values())) if len(found) == 1 else None
