"""Extents that follow from others: the −1 of a reshape, the bounds of a Python slice. Symbols stay symbols.

Owns the questions that importers ask about sizes before they build a node; canonical arithmetic is in `dims.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dragoman.ir.dims import Dim, DimExpr, Monomial, bounds, floordiv, maximum, minimum, product, same, terms_of
from dragoman.ir.errors import TypeRuleError


def infer_dim(total: Dim, known: Iterable[Dim]) -> Dim:
    """The extent that makes `total` elements together with the known ones. Raises TypeRuleError where there is none.

    The quotient must be exact for every value of the symbols: `infer_dim(12*b*s, [b, 4])` is `3*s`.
    """
    divisor = product(known)
    if isinstance(divisor, int) and divisor == 0:
        raise TypeRuleError(f"an extent that makes {total} elements with one of 0 is not determined")
    quotient = exact_quotient(total, divisor)
    if quotient is not None:
        return quotient
    if bounds(divisor)[0] > 0:
        rounded = floordiv(total, divisor)
        if same(rounded * divisor, total):
            return rounded
    raise TypeRuleError(f"{total} elements are not a multiple of {divisor} for every value of their symbols")


def resolve_shape(total: Dim, wanted: Sequence[Dim]) -> tuple[Dim, ...]:
    """`wanted` with its one −1, if any, replaced so that it has `total` elements. Raises TypeRuleError."""
    unknown = [at for at, dim in enumerate(wanted) if isinstance(dim, int) and dim == -1]
    if not unknown:
        return tuple(wanted)
    if len(unknown) > 1:
        raise TypeRuleError(f"more than one extent of [{','.join(map(str, wanted))}] is left open")
    at = unknown[0]
    return (*wanted[:at], infer_dim(total, (*wanted[:at], *wanted[at + 1 :])), *wanted[at + 1 :])


def slice_bounds(start: Dim | None, stop: Dim | None, extent: Dim) -> tuple[Dim, Dim]:
    """The start and stop of Python's `x[start:stop]` as 0 ≤ start ≤ stop ≤ extent, for the op `slice`.

    A number below 0 counts from the end. A symbolic bound does so only where its range says that it is negative; one
    that may be either is taken as it is, since a length is meant.
    """
    first = 0 if start is None else _clamped(start, extent)
    last = extent if stop is None else _clamped(stop, extent)
    if first == 0 or last == extent:
        return first, last
    return first, maximum(first, last)


def _clamped(bound: Dim, extent: Dim) -> Dim:
    low, high = bounds(bound)
    if high < 0:
        return maximum(extent + bound, 0)
    return minimum(maximum(bound, 0) if low < 0 else bound, extent)


def exact_quotient(a: Dim, b: Dim) -> Dim | None:
    """a / b where b divides a as a polynomial with integer coefficients: (s·t + t) / (s + 1) = t. None otherwise."""
    divisor = sorted(terms_of(b), key=_order)
    if not divisor:
        return None
    (lead, coefficient), result, rest = divisor[-1], 0, a
    while remaining := terms_of(rest):
        monomial, c = max(remaining, key=_order)
        left = _without(monomial, lead)
        if left is None or c % coefficient:
            return None
        term = _term(left, c // coefficient)
        result = result + term
        rest = rest - term * b  # its leading term is gone, so this ends
    return result


def _order(term: tuple[Monomial, int]) -> _Lexicographic:
    return _Lexicographic(term[0])


class _Lexicographic:
    """Monomials compared by the power of the first atom in which they differ: an order that multiplication keeps."""

    def __init__(self, monomial: Monomial) -> None:
        self._powers = {str(atom): power for atom, power in monomial}

    def __lt__(self, other: _Lexicographic) -> bool:
        for atom in sorted(self._powers.keys() | other._powers.keys()):
            mine, theirs = self._powers.get(atom, 0), other._powers.get(atom, 0)
            if mine != theirs:
                return mine < theirs
        return False


def _without(a: Monomial, b: Monomial) -> Monomial | None:
    powers = dict(a)
    for atom, power in b:
        powers[atom] = powers.get(atom, 0) - power
        if powers[atom] < 0:
            return None
    return tuple((atom, power) for atom, power in powers.items() if power)


def _term(monomial: Monomial, coefficient: int) -> Dim:
    return DimExpr(((monomial, coefficient),)) if monomial else coefficient
