"""Symbolic integer dimensions: `batch`, `2*seq + 1`, `floor(h/2)`, in one canonical form.

A `Dim` is an `int` or a `DimExpr`. A `DimExpr` is a polynomial with integer coefficients over atoms; an atom is
a `Symbol` with a known range or a `Call` of `floordiv`, `mod`, `max` or `min`. Arithmetic keeps the canonical form, so
equal polynomials are equal objects (`batch*12*64 == 768*batch`) and an expression that loses its last symbol becomes
an `int` again. Nothing here evaluates text: `parse_dim` is a small reader of its own.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import gcd

from dragoman.ir.errors import Malformed, TypeRuleError, UsageError

UNBOUNDED = 2**31 - 1  # the largest extent we reason about; an upper bound at or above it prints as open


@dataclass(frozen=True)
class Symbol:
    """A named unknown extent with an inclusive range; one graph gives one range to a name."""

    name: str
    low: int = 1
    high: int = UNBOUNDED

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z_]\w*", self.name):
            raise UsageError(f"{self.name!r} is no name for a dynamic dimension: use letters, digits and '_'")
        if not 0 <= self.low <= self.high:
            raise UsageError(
                f"the range {self.low}..{self.high} of dynamic dimension {self.name!r} is empty or negative"
            )

    def __str__(self) -> str:
        return self.name

    @property
    def dim(self) -> DimExpr:
        """This symbol as a dimension."""
        return DimExpr(((((self, 1),), 1),))


@dataclass(frozen=True)
class Call:
    """`floordiv(a, b)`, `mod(a, b)`, `max(a, b)` or `min(a, b)` that could not be simplified away."""

    function: str
    arguments: tuple[Dim, ...]

    @cached_property
    def _hash(self) -> int:
        return hash((self.function, self.arguments))

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        return f"{self.function}({', '.join(map(str, self.arguments))})"


Atom = Symbol | Call
Monomial = tuple[tuple[Atom, int], ...]  # atoms with their powers, sorted by their text


class DimExpr:
    """A canonical polynomial over atoms. Build it by arithmetic on `Symbol(...).dim`, never from terms."""

    __slots__ = ("_hash", "_terms", "_text")

    def __init__(self, terms: tuple[tuple[Monomial, int], ...]) -> None:
        self._terms = terms
        self._hash: int | None = None
        self._text: str | None = None

    @property
    def terms(self) -> tuple[tuple[Monomial, int], ...]:
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
        raise TypeRuleError(f"the dimension {self} is symbolic: ask is_zero() or bounds() about it")


Dim = int | DimExpr


def terms_of(dim: Dim) -> tuple[tuple[Monomial, int], ...]:
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
    if len(kept) == 1 and kept[0][0] == ():
        return kept[0][1]
    if len(kept) > 1:
        kept.sort(key=_monomial_key)
    return DimExpr(tuple(kept))


def _sum(a: Iterable[tuple[Monomial, int]], b: Iterable[tuple[Monomial, int]]) -> Dim:
    total = dict(a)
    for m, c in b:
        total[m] = total.get(m, 0) + c
    return _build(total)


def _product(a: Iterable[tuple[Monomial, int]], b: tuple[tuple[Monomial, int], ...]) -> Dim:
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
    return tuple(sorted(powers.items(), key=lambda item: str(item[0])))


def _text(terms: tuple[tuple[Monomial, int], ...]) -> str:
    parts: list[str] = []
    for monomial, coefficient in terms:
        factors = [str(atom) for atom, power in monomial for _ in range(power)]
        if abs(coefficient) != 1 or not factors:
            factors.insert(0, str(abs(coefficient)))
        sign = "-" if coefficient < 0 else "+"
        parts.append(f"{sign} {'*'.join(factors)}" if parts else ("-" if coefficient < 0 else "") + "*".join(factors))
    return " ".join(parts)


def call(function: str, *arguments: Dim) -> Dim:
    """An unsimplified `function(arguments)` as a dim."""
    return DimExpr(((((Call(function, arguments), 1),), 1),))


def floordiv(a: Dim, b: Dim) -> Dim:
    """⌊a / b⌋ for b > 0, with what is divisible taken out: ⌊(4h+3)/2⌋ = 2h + 1."""
    if isinstance(b, int):
        return _floordiv_by_int(a, b)
    if a == b:
        return 1
    exact = _exact_quotient(a, b)
    if exact is not None:
        return exact
    return call("floordiv", a, b)


def _floordiv_by_int(a: Dim, b: int) -> Dim:
    if b <= 0:
        raise TypeRuleError(f"division of the dimension {a} by {b}: the divisor must be positive")
    if isinstance(a, int):
        return a // b
    whole: dict[Monomial, int] = {}
    rest: dict[Monomial, int] = {}
    for monomial, coefficient in a.terms:
        quotient, remainder = divmod(coefficient, b)
        whole[monomial], rest[monomial] = quotient, remainder
    outside, inside = _build(whole), _build(rest)
    if isinstance(inside, int):
        return outside + inside // b
    inside, b = _reduce_fraction(inside, b)
    if b == 1:
        return outside + inside
    return outside + _nested_floordiv(inside, b)


def _reduce_fraction(a: DimExpr, b: int) -> tuple[DimExpr, int]:
    # floor((g·p + c)/(g·q)) = floor((p + floor(c/g))/q): the constant's remainder can never carry.
    common = b
    for monomial, coefficient in a.terms:
        if monomial:
            common = gcd(common, coefficient)
    if common <= 1:
        return a, b
    reduced = _build({m: c // common for m, c in a.terms})
    assert isinstance(reduced, DimExpr)
    return reduced, b // common


def _nested_floordiv(a: DimExpr, b: int) -> Dim:
    # floor((floor(x/n) + c)/b) = floor((x + c·n)/(n·b))
    calls = [(m, c) for m, c in a.terms if m]
    if len(calls) == 1 and calls[0][1] == 1 and len(calls[0][0]) == 1:
        atom, power = calls[0][0][0]
        if power == 1 and isinstance(atom, Call) and atom.function == "floordiv" and isinstance(atom.arguments[1], int):
            inner, n = atom.arguments
            constant = next((c for m, c in a.terms if not m), 0)
            return _floordiv_by_int(inner + constant * n, b * n)
    return call("floordiv", a, b)


def _exact_quotient(a: Dim, b: DimExpr) -> Dim | None:
    """a / b as a polynomial when b is a single term that divides each term of a, or a multiple of b."""
    if len(b.terms) != 1:
        first_a, first_b = terms_of(a)[:1], b.terms[0]
        if first_a and first_a[0][0] == first_b[0] and first_a[0][1] % first_b[1] == 0:
            factor = first_a[0][1] // first_b[1]
            return factor if b * factor == a else None
        return None
    monomial, coefficient = b.terms[0]
    result: dict[Monomial, int] = {}
    for m, c in terms_of(a):
        left = _monomial_quotient(m, monomial)
        if left is None or c % coefficient:
            return None
        result[left] = c // coefficient
    return _build(result)


def _monomial_quotient(a: Monomial, b: Monomial) -> Monomial | None:
    powers = dict(a)
    for atom, power in b:
        left = powers.get(atom, 0) - power
        if left < 0:
            return None
        powers[atom] = left
    return tuple((atom, power) for atom, power in powers.items() if power)


def ceildiv(a: Dim, b: Dim) -> Dim:
    """⌈a / b⌉ for b > 0."""
    return floordiv(a + b - 1, b)


def mod(a: Dim, b: Dim) -> Dim:
    """a − b·⌊a/b⌋ for b > 0, written through `floordiv` so that both have one canonical form."""
    return a - b * floordiv(a, b)


def maximum(a: Dim, b: Dim) -> Dim:
    """The larger dim, decided from the ranges where they allow it."""
    return _extremum("max", a, b, lambda low, high: low >= 0, lambda low, high: high <= 0)


def minimum(a: Dim, b: Dim) -> Dim:
    """The smaller dim, decided from the ranges where they allow it."""
    return _extremum("min", a, b, lambda low, high: high <= 0, lambda low, high: low >= 0)


def _extremum(
    name: str, a: Dim, b: Dim, takes_a: Callable[[int, int], bool], takes_b: Callable[[int, int], bool]
) -> Dim:
    if isinstance(a, int) and isinstance(b, int):
        return max(a, b) if name == "max" else min(a, b)
    low, high = bounds(a - b)
    if takes_a(low, high):
        return a
    if takes_b(low, high):
        return b
    return call(name, *sorted((a, b), key=str))


# ---- questions about dims -------------------------------------------------------------------------


def symbols(dim: Dim) -> dict[str, Symbol]:
    """The symbols that occur anywhere in `dim`, by name."""
    found: dict[str, Symbol] = {}
    stack: list[Dim] = [dim]
    while stack:
        for monomial, _ in terms_of(stack.pop()):
            for atom, _power in monomial:
                if isinstance(atom, Symbol):
                    found[atom.name] = atom
                else:
                    stack.extend(atom.arguments)
    return found


def evaluate(dim: Dim, values: Mapping[str, int]) -> int:
    """The number that `dim` is when each symbol has the value given. Raises UsageError for a missing symbol."""
    result = substitute(dim, values)
    if isinstance(result, int):
        return result
    missing = sorted(set(symbols(result)) - set(values))
    raise UsageError(f"the dimension {dim} needs a value for {', '.join(missing)}")


def substitute(dim: Dim, values: Mapping[str, Dim]) -> Dim:
    """`dim` with the symbols named in `values` replaced."""
    if isinstance(dim, int):
        return dim
    total: Dim = 0
    for monomial, coefficient in dim.terms:
        product: Dim = coefficient
        for atom, power in monomial:
            factor = _substitute_atom(atom, values)
            for _ in range(power):
                product = product * factor
        total = total + product
    return total


def _substitute_atom(atom: Atom, values: Mapping[str, Dim]) -> Dim:
    if isinstance(atom, Symbol):
        return values.get(atom.name, atom.dim)
    arguments = [substitute(a, values) for a in atom.arguments]
    return _FUNCTIONS[atom.function](*arguments)


_FUNCTIONS: dict[str, Callable[..., Dim]] = {
    "floordiv": floordiv,
    "ceildiv": ceildiv,
    "mod": mod,
    "max": maximum,
    "min": minimum,
}


@lru_cache(maxsize=65536)
def bounds(dim: Dim) -> tuple[int, int]:
    """Inclusive bounds of `dim` over its symbols' ranges; conservative, not always tight."""
    if isinstance(dim, int):
        return dim, dim
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


_PROBES = 24  # random points at which two forms that are not textually equal are compared


def same(a: Dim, b: Dim) -> bool:
    """Whether two dims are equal for every value of their symbols.

    Canonical forms decide almost always. Floor and max expressions that differ in form are compared at the corners of the
    ranges and at random points; agreement there is taken for equality (the interpreter checks real shapes again).
    """
    if a is b or a == b:
        return True
    if isinstance(a, int) and isinstance(b, int):
        return False
    difference = a - b
    if isinstance(difference, int):
        return difference == 0
    low, high = bounds(difference)
    if low > 0 or high < 0 or not _has_call(difference):
        return False
    return all(evaluate(difference, point) == 0 for point in _probe_points(tuple(symbols(difference).values())))


def _has_call(dim: DimExpr) -> bool:
    return any(isinstance(atom, Call) for monomial, _ in dim.terms for atom, _p in monomial)


@lru_cache(maxsize=1024)
def _probe_points(unknowns: tuple[Symbol, ...]) -> tuple[dict[str, int], ...]:
    points = [{s.name: min(s.low + offset, s.high) for s in unknowns} for offset in range(12)]
    state = 0x9E3779B9
    for index in range(_PROBES):
        point: dict[str, int] = {}
        for s in unknowns:
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            span = min(s.high - s.low, 50 if index % 2 else 5000) + 1
            point[s.name] = s.low + (state >> 33) % span
        points.append(point)
    return tuple(points)


def is_one(dim: Dim) -> bool:
    """Whether `dim` is the number 1 (a symbol that may be 1 is not)."""
    return isinstance(dim, int) and dim == 1


def product(dims: Iterable[Dim]) -> Dim:
    """The product of dims; 1 for none."""
    result: Dim = 1
    for d in dims:
        result = result * d
    return result


# ---- reading dims from text -------------------------------------------------------------------------

_TOKEN = re.compile(r"\s*(?:(\d+)|([A-Za-z_]\w*)|(//|[-+*(),]))")
_MAX_DIM_TEXT = 4096


class _Reader:
    """Recursive-descent reader of `2*seq + floordiv(h, 2)`; depth is bounded by the text length limit and `_depth`."""

    def __init__(self, text: str, known: Mapping[str, Symbol]) -> None:
        if len(text) > _MAX_DIM_TEXT:
            raise Malformed(f"a dimension expression of {len(text)} characters is longer than {_MAX_DIM_TEXT}")
        self._text, self._known, self._depth = text, known, 0
        self._tokens = list(self._scan(text))
        self._at = 0

    def _scan(self, text: str) -> Iterator[str]:
        position, end = 0, len(text.rstrip())
        while position < end:
            found = _TOKEN.match(text, position)
            if not found:
                raise Malformed(f"the dimension {text!r} has {text[position]!r} at column {position + 1}")
            position = found.end()
            yield found.group().strip()

    def read(self) -> Dim:
        result = self._sum()
        if self._at < len(self._tokens):
            raise Malformed(f"the dimension {self._text!r} goes on with {self._tokens[self._at]!r} where it should end")
        return result

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self, expected: str = "") -> str:
        token = self._peek()
        if not token or (expected and token != expected):
            raise Malformed(f"the dimension {self._text!r} lacks {expected or 'an operand'}")
        self._at += 1
        return token

    def _sum(self) -> Dim:
        negative = self._peek() == "-" and bool(self._take())
        total = self._term()
        total = -total if negative else total
        while self._peek() in ("+", "-"):
            total = total + self._term() if self._take() == "+" else total - self._term()
        return total

    def _term(self) -> Dim:
        total = self._factor()
        while self._peek() in ("*", "//"):
            total = total * self._factor() if self._take() == "*" else floordiv(total, self._factor())
        return total

    def _factor(self) -> Dim:
        self._depth += 1
        if self._depth > 64:
            raise Malformed(f"the dimension {self._text!r} is nested more than 64 deep")
        try:
            token = self._take()
            if token == "(":
                inner = self._sum()
                self._take(")")
                return inner
            if token.isdigit():
                return int(token)
            if token in _FUNCTIONS and self._peek() == "(":
                return self._call(token)
            if token.isidentifier():
                return (self._known.get(token) or Symbol(token)).dim
            raise Malformed(f"the dimension {self._text!r} has {token!r} where an operand should be")
        finally:
            self._depth -= 1

    def _call(self, name: str) -> Dim:
        self._take("(")
        first = self._sum()
        self._take(",")
        second = self._sum()
        self._take(")")
        return _FUNCTIONS[name](first, second)


def parse_dim(text: str, known: Mapping[str, Symbol] | None = None) -> Dim:
    """Read a dimension. Symbols found in `known` keep their ranges; others get the default one. Raises Malformed."""
    return _Reader(text, known or {}).read()
