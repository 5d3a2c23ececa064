"""Questions about dims: which symbols they hold, what they are for given values, and whether two are always equal."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from functools import lru_cache
from math import gcd

from dragoman.ir.dim_expr import FUNCTIONS, Atom, Call, Dim, DimExpr, Symbol, bounds, terms_of
from dragoman.ir.errors import TypeRuleError, UsageError

Point = dict[str, int]


def symbols(dim: Dim) -> dict[str, Symbol]:
    """The symbols that occur anywhere in `dim`, by name."""
    return {atom.name: atom for atom in atoms(dim) if isinstance(atom, Symbol)}


def atoms(dim: Dim) -> Iterator[Atom]:
    """Every symbol and call in `dim`, those within calls included."""
    stack: list[Dim] = [dim]
    while stack:
        for monomial, _ in terms_of(stack.pop()):
            for atom, _power in monomial:
                yield atom
                if isinstance(atom, Call):
                    stack.extend(atom.arguments)


def evaluate(dim: Dim, values: Mapping[str, int]) -> int:
    """The number that `dim` is when each symbol has the value given. Raises UsageError for a missing symbol."""
    if isinstance(dim, int):
        return dim
    total = 0
    for monomial, coefficient in dim.terms:
        term = coefficient
        for atom, power in monomial:
            term *= _evaluate_atom(atom, values) ** power
        total += term
    return total


def _evaluate_atom(atom: Atom, values: Mapping[str, int]) -> int:
    if isinstance(atom, Symbol):
        value = values.get(atom.name)
        if value is None:
            raise UsageError(f"a dimension needs a value for {atom.name}")
        return value
    a, b = (evaluate(x, values) for x in atom.arguments)
    if atom.function == "floordiv":
        if b <= 0:
            raise TypeRuleError(f"the dimension {atom} divides {a} by {b}: the divisor must be positive")
        return a // b
    return max(a, b) if atom.function == "max" else min(a, b)


def substitute(dim: Dim, values: Mapping[str, Dim]) -> Dim:
    """`dim` with the symbols named in `values` replaced."""
    if isinstance(dim, int):
        return dim
    total: Dim = 0
    for monomial, coefficient in dim.terms:
        term: Dim = coefficient
        for atom, power in monomial:
            factor = _substitute_atom(atom, values)
            for _ in range(power):
                term = term * factor
        total = total + term
    return total


def _substitute_atom(atom: Atom, values: Mapping[str, Dim]) -> Dim:
    if isinstance(atom, Symbol):
        return values.get(atom.name, atom.dim)
    a, b = (substitute(x, values) for x in atom.arguments)
    return FUNCTIONS[atom.function](a, b)


def same(a: Dim, b: Dim) -> bool:
    """Whether two dims are equal for every value of their symbols.

    Canonical forms and ranges decide almost always. Floor, max and min expressions that differ in form are compared at
    the corners of the ranges, at random points, and where their floors and extrema change over; agreement at all of
    these is taken for equality (the interpreter checks real shapes again).
    """
    if a is b or a == b:
        return True
    if isinstance(a, int) and isinstance(b, int):
        return False
    return _vanishes(a - b)


@lru_cache(maxsize=16384)
def _vanishes(difference: Dim) -> bool:
    if isinstance(difference, int):
        return difference == 0
    low, high = bounds(difference)
    if low > 0 or high < 0 or not any(isinstance(atom, Call) for atom in atoms(difference)):
        return False
    met = False
    for point in _probe_points(difference):
        try:
            if evaluate(difference, point) != 0:
                return False
        except TypeRuleError:  # a division that is not defined there
            continue
        met = True
    return met


def _probe_points(difference: DimExpr) -> Iterator[Point]:
    unknowns = tuple(symbols(difference).values())
    random = list(_random_points(unknowns))
    yield from _corner_points(unknowns)
    yield from random
    for atom in dict.fromkeys(a for a in atoms(difference) if isinstance(a, Call)):
        for point, other in itertools.pairwise(random[:8]):
            yield from _critical_points(atom, unknowns, point, other)


def _corner_points(unknowns: tuple[Symbol, ...]) -> Iterator[Point]:
    for offset in range(12):
        yield {s.name: min(s.low + offset, s.high) for s in unknowns}
        yield {s.name: max(s.high - offset, s.low) for s in unknowns}
    for choice in itertools.product((0, 1), repeat=min(len(unknowns), 4)):
        yield {
            s.name: s.high if high else s.low
            for s, high in zip(unknowns, itertools.cycle(choice or (0,)), strict=False)
        }


@lru_cache(maxsize=1024)
def _random_points(unknowns: tuple[Symbol, ...]) -> tuple[Point, ...]:
    """Points of every magnitude, the same in each run."""
    points: list[Point] = []
    state = 0x9E3779B9
    for index in range(24):
        point: Point = {}
        for s in unknowns:
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            span = min(s.high - s.low, (50, 5000, 2 ** (2 + index))[index % 3]) + 1
            point[s.name] = s.low + (state >> 33) % span
        points.append(point)
    return tuple(points)


def _critical_points(atom: Call, unknowns: tuple[Symbol, ...], point: Point, other: Point) -> Iterator[Point]:
    """Points near `point` where the value of a call changes over: a floor at its multiples, an extremum at its tie."""
    a, b = atom.arguments
    for s in unknowns:
        found = _multiple(a, b, s, point) if atom.function == "floordiv" else _tie(a - b, s, point, other[s.name])
        if found is None:
            continue
        for value in range(found - 2, found + 3):
            if s.low <= value <= s.high:
                yield point | {s.name: value}


def _multiple(a: Dim, b: Dim, s: Symbol, point: Point) -> int | None:
    """The value of `s`, from that in `point` on, at which b next divides a, if a grows evenly with s."""
    try:
        start, following = (evaluate(a, point | {s.name: point[s.name] + step}) for step in (0, 1))
        divisor = evaluate(b, point)
    except TypeRuleError:
        return None
    growth = following - start
    common = gcd(growth, divisor)
    if divisor <= 0 or growth % divisor == 0 or start % common:
        return None
    steps = (-start // common) * pow(growth // common, -1, divisor // common) % (divisor // common)
    return point[s.name] + steps


def _tie(difference: Dim, s: Symbol, point: Point, other: int) -> int | None:
    """A value of `s` between two at which the sign of `difference` changes, by bisection."""

    def above(value: int) -> bool:
        return evaluate(difference, point | {s.name: value}) >= 0

    try:
        for low, high in ((s.low, other), (other, s.high), (s.low, s.high)):
            if low > high or above(low) == above(high):
                continue
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if above(middle) == above(low) else (low, middle)
            return high
    except TypeRuleError:
        pass
    return None
