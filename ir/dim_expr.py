"""Integer expressions over named unknown extents, kept in one canonical form by arithmetic alone.

A `Dim` is an `int` or a `DimExpr`. A `DimExpr` is a polynomial with integer coefficients over atoms; an atom is a
`Symbol` with a known range or a `Call` of `floordiv`, `max` or `min` that could not be simplified away. Equal
polynomials are equal objects (`batch*12*64 == 768*batch`); one that loses its last symbol becomes an `int` again.
Expressions are bounded in size, so that no text or file can make one that takes for ever.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import gcd, lcm
from typing import Any

from dragoman.ir.errors import OverBudget, TypeRuleError, UsageError

UNBOUNDED = 2**31 - 1  # the largest extent we reason about; an upper bound at or above it prints as open
_MAX_TERMS = 256  # the shape arithmetic of real models stays below 20
_MAX_DEGREE = 64
_MAX_DEPTH = 32  # of calls within calls
_MAX_SIZE = 1024  # terms within one call, counted through


@dataclass(frozen=True)
class Symbol:
    """A named unknown extent with an inclusive range; one graph gives one range to a name."""

    name: str
    low: int = 1
    high: int = UNBOUNDED

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", self.name):
            raise UsageError(
                f"{self.name[:120]!r} is no name for a dynamic dimension: use up to 100 letters, digits and '_'"
            )
        if not 0 <= self.low <= self.high:
            raise UsageError(
                f"the range {self.low}..{self.high} of dynamic dimension {self.name!r} is empty or negative"
            )

    def __str__(self) -> str:
        return self.name

    @property
    def dim(self) -> DimExpr:
        """This symbol as a dimension: one object, so that comparing shapes is mostly comparing identities."""
        return _symbol_dim(self)


@dataclass(frozen=True)
class Call:
    """`floordiv(a, b)`, `max(a, b)` or `min(a, b)` that could not be simplified away."""

    function: str
    arguments: tuple[Dim, ...]
    depth: int = field(compare=False, repr=False, default=1)
    size: int = field(compare=False, repr=False, default=1)

    def __str__(self) -> str:
        return f"{self.function}({', '.join(map(str, self.arguments))})"


Atom = Symbol | Call
Monomial = tuple[tuple[Atom, int], ...]  # atoms with their powers, sorted by their text
Terms = tuple[tuple[Monomial, int], ...]


class DimExpr:
    """A canonical polynomial over atoms. Build it by arithmetic on `Symbol(...).dim`, never from terms."""

    __slots__ = ("_hash", "_terms", "_text")
    __array_ufunc__ = None  # NumPy's integers must leave mixed arithmetic to this class

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._hash: int | None = None
        self._text: str | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return DimExpr, (self._terms,)  # a cached hash is of no use to another process

    @property
    def terms(self) -> Terms:
        """Pairs of monomial and coefficient; the constant term has the empty monomial."""
        return self._terms

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, DimExpr) and self._terms == other._terms)

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(self._terms)
        return self._hash

    def __add__(self, other: Dim) -> Dim:
        return _sum(self._terms, terms_of(other))

    __radd__ = __add__

    def __neg__(self) -> Dim:
        return _build({m: -c for m, c in self._terms})

    def __sub__(self, other: Dim) -> Dim:
        return self + -other

    def __rsub__(self, other: Dim) -> Dim:
        return -self + other

    def __mul__(self, other: Dim) -> Dim:
        return _product(self._terms, terms_of(other))

    __rmul__ = __mul__

    def __floordiv__(self, other: Dim) -> Dim:
        return floordiv(self, other)

    def __rfloordiv__(self, other: int) -> Dim:
        return floordiv(other, self)

    def __mod__(self, other: Dim) -> Dim:
        return mod(self, other)

    def __rmod__(self, other: int) -> Dim:
        return mod(other, self)

    def __str__(self) -> str:
        if self._text is None:
            self._text = _text(self._terms)
        return self._text

    def __repr__(self) -> str:
        return f"DimExpr({self})"

    def __index__(self) -> int:
        raise TypeRuleError(f"the dimension {self} is symbolic where a number is needed")

    def __bool__(self) -> bool:
        raise TypeRuleError(f"the dimension {self} is symbolic: ask bounds() about it")


Dim = int | DimExpr


@lru_cache(maxsize=4096)
def _symbol_dim(symbol: Symbol) -> DimExpr:
    return DimExpr(((((symbol, 1),), 1),))


def terms_of(dim: Dim) -> Terms:
    """The polynomial of any dim, an integer being its constant term."""
    if isinstance(dim, DimExpr):
        return dim.terms
    return (((), int(dim)),) if dim else ()


def _monomial_key(item: tuple[Monomial, int]) -> tuple[int, str]:
    return (-sum(p for _, p in item[0]), "*".join(f"{a}^{p}" for a, p in item[0]))


def _build(terms: Mapping[Monomial, int]) -> Dim:
    kept = [(m, c) for m, c in terms.items() if c]
    if not kept:
        return 0
    if len(kept) == 1:
        if not kept[0][0]:
            return kept[0][1]
    else:
        if len(kept) > _MAX_TERMS:
            raise OverBudget(f"a dimension expression has {len(kept)} terms; at most {_MAX_TERMS} are handled")
        kept.sort(key=_monomial_key)
    return DimExpr(tuple(kept))


def _sum(a: Terms, b: Terms) -> Dim:
    total = dict(a)
    for m, c in b:
        total[m] = total.get(m, 0) + c
    return _build(total)


def _product(a: Terms, b: Terms) -> Dim:
    total: dict[Monomial, int] = {}
    for (ma, ca), (mb, cb) in itertools.product(a, b):
        m = _times(ma, mb)
        total[m] = total.get(m, 0) + ca * cb
    return _build(total)


def _times(a: Monomial, b: Monomial) -> Monomial:
    if not a or not b:
        return a or b
    powers = dict(a)
    for atom, power in b:
        powers[atom] = powers.get(atom, 0) + power
    if sum(powers.values()) > _MAX_DEGREE:
        raise OverBudget(f"a dimension expression is of a degree above {_MAX_DEGREE}")
    return tuple(sorted(powers.items(), key=lambda item: str(item[0])))


def _text(terms: Terms) -> str:
    parts: list[str] = []
    for monomial, coefficient in terms:
        factors = [str(atom) for atom, power in monomial for _ in range(power)]
        if abs(coefficient) != 1 or not factors:
            factors.insert(0, str(abs(coefficient)))
        sign = "-" if coefficient < 0 else "+"
        parts.append(f"{sign} {'*'.join(factors)}" if parts else ("-" if coefficient < 0 else "") + "*".join(factors))
    return " ".join(parts)


def call(function: str, *arguments: Dim) -> DimExpr:
    """An unsimplified `function(arguments)` as a dim. Raises OverBudget where it would nest or grow too far."""
    depth, size = 1, 1
    for argument in arguments:
        for monomial, _ in terms_of(argument):
            size += 1
            for atom, _power in monomial:
                if isinstance(atom, Call):
                    depth, size = max(depth, atom.depth + 1), size + atom.size
    if depth > _MAX_DEPTH or size > _MAX_SIZE:
        limits = f"at most {_MAX_DEPTH} and {_MAX_SIZE} are handled"
        raise OverBudget(f"a dimension expression nests {depth} deep with {size} terms; {limits}")
    return DimExpr(((((Call(function, arguments, depth, size), 1),), 1),))


# ---- division ---------------------------------------------------------------------------------------


def floordiv(a: Dim, b: Dim) -> Dim:
    """⌊a / b⌋ for b > 0, with what is divisible taken out: ⌊(4h+3)/2⌋ = 2h + 1."""
    if isinstance(b, int):
        return _floordiv_by_int(a, b)
    if isinstance(a, int) and a == 0:
        return 0
    exact = _exact_quotient(a, b)
    if exact is not None:
        return exact
    a, divisor = _cancelled(a, b)
    if isinstance(divisor, int):
        return _floordiv_by_int(a, divisor)
    whole, rest = _split_by_monomial(a, divisor)
    return whole + _undivided(rest, divisor)


def _undivided(a: Dim, b: Dim) -> Dim:
    """⌊a / b⌋ with nothing left to take out: a number if the ranges decide it, else a call."""
    (low, high), (smallest, largest) = bounds(a), bounds(b)
    if smallest > 0:
        quotients = {n // d for n in (low, high) for d in (smallest, largest)}
        if len(quotients) == 1:
            return quotients.pop()
    return call("floordiv", a, b)


def _floordiv_by_int(a: Dim, b: int) -> Dim:
    if b <= 0:
        raise TypeRuleError(f"division of the dimension {a} by {b}: the divisor must be positive")
    low, high = bounds(a)
    if isinstance(a, int) or low // b == high // b:
        return low // b
    whole: dict[Monomial, int] = {}
    rest: dict[Monomial, int] = {}
    for monomial, coefficient in a.terms:
        whole[monomial], rest[monomial] = divmod(coefficient, b)
    outside, inside = _build(whole), _build(rest)
    if isinstance(inside, DimExpr):
        inside, b = _reduced_fraction(inside, b)
    return outside + _nested_floordiv(inside, b)


def _reduced_fraction(a: DimExpr, b: int) -> tuple[Dim, int]:
    # floor((g·p + c)/(g·q)) = floor((p + floor(c/g))/q): the constant's remainder can never carry.
    common = gcd(b, *(coefficient for monomial, coefficient in a.terms if monomial))
    return (a, b) if common <= 1 else (_build({m: c // common for m, c in a.terms}), b // common)


def _nested_floordiv(a: Dim, b: int) -> Dim:
    if b == 1:
        return a
    # floor((floor(x/n) + c)/b) = floor((x + c·n)/(n·b))
    constant = sum(c for m, c in terms_of(a) if not m)
    floor = _lone_floor(a - constant)
    return _undivided(a, b) if floor is None else _floordiv_by_int(floor[0] + constant * floor[1], b * floor[1])


def _lone_floor(a: Dim) -> tuple[Dim, int] | None:
    """(x, n) where `a` is ⌊x/n⌋ and nothing else."""
    if len(terms := terms_of(a)) != 1 or terms[0][1] != 1 or len(terms[0][0]) != 1:
        return None
    atom, power = terms[0][0][0]
    if power != 1 or not isinstance(atom, Call) or atom.function != "floordiv":
        return None
    x, n = atom.arguments
    return (x, n) if isinstance(n, int) else None


def _exact_quotient(a: Dim, b: DimExpr) -> Dim | None:
    """a / b as a polynomial, by long division on the leading terms; None where that leaves a remainder."""
    lead, coefficient = b.terms[0]
    quotient: Dim = 0
    for _ in range(16):
        if isinstance(a, int):
            return quotient if a == 0 else None
        monomial = _monomial_quotient(a.terms[0][0], lead)
        if monomial is None or a.terms[0][1] % coefficient:
            return None
        step = _build({monomial: a.terms[0][1] // coefficient})
        quotient, a = quotient + step, a - step * b
    return None


def _monomial_quotient(a: Monomial, b: Monomial) -> Monomial | None:
    powers = dict(a)
    for atom, power in b:
        left = powers.get(atom, 0) - power
        if left < 0:
            return None
        powers[atom] = left
    return tuple((atom, power) for atom, power in powers.items() if power)


def _cancelled(a: Dim, b: DimExpr) -> tuple[Dim, Dim]:
    """Numerator and divisor without the atoms and the number that all their terms share."""
    terms = (*terms_of(a), *b.terms)
    number = gcd(*(c for _, c in terms))
    powers = dict(terms[0][0])
    for monomial, _ in terms[1:]:
        other = dict(monomial)
        powers = {atom: min(power, other.get(atom, 0)) for atom, power in powers.items()}
    shared: Monomial = tuple((atom, power) for atom, power in powers.items() if power)
    if number == 1 and not shared:
        return a, b

    def smaller(terms: Terms) -> Dim:
        return _build({_monomial_quotient(m, shared) or (): c // number for m, c in terms})

    return smaller(terms_of(a)), smaller(b.terms)


def _split_by_monomial(a: Dim, b: DimExpr) -> tuple[Dim, Dim]:
    """(q, r) with a = q·b + r, where b is one term and q takes all that it divides: (s·k + 1)/s = k + 1/s."""
    if len(b.terms) != 1:
        return 0, a
    monomial, divisor = b.terms[0]
    whole: dict[Monomial, int] = {}
    rest: dict[Monomial, int] = {}
    for m, c in terms_of(a):
        left = _monomial_quotient(m, monomial)
        if left is None or divisor < 0:
            rest[m] = c
        else:
            whole[left], rest[m] = divmod(c, divisor)
    return _build(whole), _build(rest)


def ceildiv(a: Dim, b: Dim) -> Dim:
    """⌈a / b⌉ for b > 0."""
    return floordiv(a + b - 1, b)


def mod(a: Dim, b: Dim) -> Dim:
    """a − b·⌊a/b⌋ for b > 0, written through `floordiv` so that both have one canonical form."""
    return a - b * floordiv(a, b)


# ---- extrema and ranges -------------------------------------------------------------------------------


def maximum(a: Dim, b: Dim) -> Dim:
    """The larger dim, decided from the ranges where they allow it."""
    return _extremum("max", a, b)


def minimum(a: Dim, b: Dim) -> Dim:
    """The smaller dim, decided from the ranges where they allow it."""
    return _extremum("min", a, b)


def _extremum(name: str, a: Dim, b: Dim) -> Dim:
    low, high = bounds(a - b)
    if low >= 0:
        return a if name == "max" else b
    if high <= 0:
        return b if name == "max" else a
    first, second = sorted((a, b), key=str)
    return call(name, first, second)


@lru_cache(maxsize=65536)
def bounds(dim: Dim) -> tuple[int, int]:
    """Inclusive bounds of `dim` over its symbols' ranges; conservative, not always tight."""
    if isinstance(dim, int):
        return dim, dim
    low, high = _interval(dim)
    tighter = _without_rounding(dim)
    return (low, high) if tighter is None else (max(low, tighter[0]), min(high, tighter[1]))


def _interval(dim: DimExpr) -> tuple[int, int]:
    low = high = 0
    for monomial, coefficient in dim.terms:
        term = (coefficient, coefficient)
        for atom, power in monomial:
            for _ in range(power):
                term = _interval_product(term, _atom_bounds(atom))
        low, high = low + term[0], high + term[1]
    return low, high


def _interval_product(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    corners = [x * y for x in a for y in b]
    return min(corners), max(corners)


def _atom_bounds(atom: Atom) -> tuple[int, int]:
    if isinstance(atom, Symbol):
        return atom.low, atom.high
    ranges = [bounds(a) for a in atom.arguments]
    if atom.function == "max":
        return max(r[0] for r in ranges), max(r[1] for r in ranges)
    if atom.function == "min":
        return min(r[0] for r in ranges), min(r[1] for r in ranges)
    (low, high), (divisor_low, divisor_high) = ranges
    divisors = (max(divisor_low, 1), max(divisor_high, 1))
    quotients = [n // d for n in (low, high) for d in divisors]
    return min(quotients), max(quotients)


def _without_rounding(dim: DimExpr) -> tuple[int, int] | None:
    """Bounds that see how floors hang together with the rest: h − 2·⌊h/2⌋ is 0 or 1.

    With n·⌊a/n⌋ = a − r and 0 ≤ r < n, a multiple of `dim` is a polynomial without floors, less bounded remainders.
    """
    floors = [
        (coefficient, *atom.arguments)
        for monomial, coefficient in dim.terms
        for atom, power in monomial
        if isinstance(atom, Call) and atom.function == "floordiv" and power == 1 == len(monomial)
    ]
    by_number = [(c, a, n) for c, a, n in floors if isinstance(n, int)]
    if not by_number:
        return None
    scale = lcm(*(n for _, _, n in by_number))
    smooth: Dim = dim * scale
    slack_low = slack_high = 0
    for c, a, n in by_number:
        smooth = smooth + (a - call("floordiv", a, n) * n) * (c * scale // n)
        remainder = -c * scale // n * (n - 1)
        slack_low, slack_high = slack_low + min(0, remainder), slack_high + max(0, remainder)
    low, high = bounds(smooth)
    return -((-low - slack_low) // scale), (high + slack_high) // scale


FUNCTIONS: dict[str, Callable[[Dim, Dim], Dim]] = {
    "floordiv": floordiv,
    "ceildiv": ceildiv,
    "mod": mod,
    "max": maximum,
    "min": minimum,
}
"""The functions that dimension expressions may call, by the names they are written with."""
