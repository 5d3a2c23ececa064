"""Sizes as Python text: the same expression on the host and, as an argument, in a kernel."""

from __future__ import annotations

from collections.abc import Mapping

from dragoman.ir.dim_expr import Call, Symbol
from dragoman.ir.dims import Dim, DimExpr, terms_of

_CALLS = {"floordiv": "({} // {})", "max": "max({}, {})", "min": "min({}, {})"}


def spelled(dim: Dim, names: Mapping[str, str]) -> str:
    """A dimension as Python text, its symbols under the names given."""
    if not isinstance(dim, DimExpr):
        return str(int(dim))
    return " + ".join(_term(monomial, c, names) for monomial, c in terms_of(dim)) or "0"


def _term(monomial: tuple[tuple[Symbol | Call, int], ...], coefficient: int, names: Mapping[str, str]) -> str:
    factors = [_atom(atom, names) for atom, power in monomial for _ in range(power)]
    if coefficient != 1 or not factors:
        factors.insert(0, str(coefficient) if coefficient >= 0 else f"({coefficient})")
    return " * ".join(factors)


def _atom(atom: Symbol | Call, names: Mapping[str, str]) -> str:
    if isinstance(atom, Symbol):
        return names[atom.name]
    first, *rest = (f"({spelled(d, names)})" for d in atom.arguments)
    for each in rest:  # max and min may have more than two arguments
        first = _CALLS[atom.function].format(first, each)
    return first


def shape_text(shape: tuple[Dim, ...], names: Mapping[str, str]) -> str:
    """A shape as the text of a tuple."""
    return "(" + "".join(f"{spelled(d, names)}, " for d in shape).rstrip() + ")"
