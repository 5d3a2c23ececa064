"""Real numbers as quotients of z3 terms, and the functions of one number.

A number is a numerator over a product of factors that are not zero, so that x/y·y and x/(y/z) need no axiom and the
equality of two numbers is that of two polynomials. Functions are atoms: one unknown for each function and argument,
whose normal form makes equal arguments one atom. sqrt comes with √x ≥ 0 and √x·√x = x, exp with e^x > 0,
e^(a+b) = e^a·e^b and log e^x = x, odd and even functions with their sign; the rest is uninterpreted. A divisor is not
zero, a radicand not negative: elsewhere the program has NaN or infinity, which real numbers do not.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from math import isqrt
from typing import Any

import z3

from dragoman.ir.errors import Inexact

Term = Any  # a z3 expression; the bindings have no types
INFINITY = z3.Real("∞")
"""Any number beyond the unknowns: what is equal for each of these is equal in the limit."""

_HIGHEST_POWER = 8
_MOST_PAIRS = 300
_ODD = frozenset({"erf", "erfinv", "sin", "arcsin", "arctan", "arcsinh", "arctanh", "cbrt", "rint"})
_EVEN = frozenset({"cos"})


class Factor:
    """A term that is not zero; `square` is its square where it is a root, `positive` tells that it is above zero."""

    __slots__ = ("id", "logarithm", "positive", "square", "term")

    def __init__(self, term: Term, positive: bool = False) -> None:
        self.term = term
        self.id: int = term.get_id()
        self.positive = positive
        self.square: Real | None = None
        self.logarithm: Real | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Factor) and self.id == other.id

    def __hash__(self) -> int:
        return self.id


Factors = tuple[Factor, ...]


@lru_cache(maxsize=4096)
def numeral(value: Fraction) -> Term:
    """A rational number as a z3 term."""
    return z3.RealVal(f"{value.numerator}/{value.denominator}")


def normal(term: Term) -> Term:
    """A term as a sum of monomials, inside of other terms too: equal polynomials become one term."""
    return z3.simplify(term, som=True)


class Real:
    """numerator / Π factors. Behaves as a number under + − × ÷.

    `factor` is set where it is one atom and no more, `positive` where it is known to be above zero.
    """

    __slots__ = ("factor", "factors", "numerator", "positive")

    def __init__(self, numerator: Fraction | Term, factors: Factors = (), factor: Factor | None = None) -> None:
        self.numerator = numerator
        self.factors = factors
        self.factor = factor
        self.positive = factor.positive if factor is not None else isinstance(numerator, Fraction) and numerator > 0
        self.positive = self.positive and all(f.positive for f in factors)

    def known(self, positive: bool) -> Real:
        """The same number, of which it may have become known that it is positive."""
        self.positive = self.positive or positive
        return self

    @property
    def constant(self) -> Fraction | None:
        """The rational number that this is, where it is one."""
        return self.numerator if isinstance(self.numerator, Fraction) and not self.factors else None

    @property
    def term(self) -> Term:
        """The numerator as a z3 term."""
        return numeral(self.numerator) if isinstance(self.numerator, Fraction) else self.numerator

    def __add__(self, other: Any) -> Real:
        other = real(other)
        if self.numerator == 0 and isinstance(self.numerator, Fraction):
            return other
        if isinstance(other.numerator, Fraction) and other.numerator == 0:
            return self
        left, right, factors = _common(self, other)
        return Real(_sum(left, right), factors).known(self.positive and other.positive)

    __radd__ = __add__

    def __neg__(self) -> Real:
        return self * Fraction(-1)

    def __sub__(self, other: Any) -> Real:
        return self + -real(other)

    def __rsub__(self, other: Any) -> Real:
        return real(other) - self

    def __mul__(self, other: Any) -> Real:
        other = real(other)
        return self._times(other).known(self.positive and other.positive)

    def _times(self, other: Real) -> Real:
        for a, b in ((self, other), (other, self)):
            if isinstance(a.numerator, Fraction) and not a.factors:
                if a.numerator in (0, 1):
                    return a if a.numerator == 0 else b
                return Real(_product(a.numerator, b.numerator), b.factors)
            if a.factor is not None and a.factor in b.factors:
                return Real(b.numerator, _without(b.factors, a.factor))
        if self.factor is not None and self.factor == other.factor and self.factor.square is not None:
            return self.factor.square
        return _over(Real(_product(self.numerator, other.numerator)), (*self.factors, *other.factors))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Real:
        other = real(other)
        return self._by(other).known(self.positive and other.positive)

    def _by(self, other: Real) -> Real:
        number = other.constant
        if number is not None:
            if number == 0:
                raise Inexact("a division by zero")
            return self * (1 / number)
        root = other.factor.square.constant if other.factor and other.factor.square else None
        if root is not None:
            return self * other * (1 / root)
        kept = list(self.factors)
        raised: list[Factor] = []
        for f in other.factors:
            if f in kept:
                kept.remove(f)
            else:
                raised.append(f)
        result = Real(self.numerator, tuple(kept), self.factor)
        for f in raised:
            result = result * atom(f)
        divisor = other.factor
        if divisor is None and isinstance(other.numerator, Fraction):
            return result * (1 / other.numerator)
        if divisor is None:
            divisor = Factor(normal(other.numerator), other.positive and all(f.positive for f in other.factors))
            if z3.is_rational_value(divisor.term):
                return result / Real(divisor.term.as_fraction())
        if result.factor == divisor and not result.factors:
            return Real(Fraction(1))
        return _over(result, (*result.factors, divisor))

    def __rtruediv__(self, other: Any) -> Real:
        return real(other) / self

    def compared(self, other: Real, relation: Callable[[Term, Term], Term]) -> Term:
        """Whether `relation` holds between two numbers: a z3 Bool."""
        for x, y, outcome in ((self, other, (1, 0)), (other, self, (0, 1))):
            if x.positive and y.constant == 0:
                return relation(*(numeral(Fraction(n)) for n in outcome))
        left, right, factors = _common(self, other)
        for f in factors:  # n/f has the sign of n·f
            if not f.positive:
                left, right = _product(left, f.term), _product(right, f.term)
        return relation(*(numeral(t) if isinstance(t, Fraction) else t for t in (left, right)))


def real(value: Any) -> Real:
    """A number as a Real: a fraction, an int, or one already."""
    if isinstance(value, Real):
        return value
    return Real(Fraction(value))


def atom(factor: Factor) -> Real:
    """The number that a factor is."""
    return Real(factor.term, (), factor)


def choose(condition: Term, x: Real, y: Real) -> Real:
    """`x` where a z3 Bool holds, `y` elsewhere."""
    if same(x, y):
        return x
    left, right, factors = _common(x, y)
    left, right = (numeral(t) if isinstance(t, Fraction) else t for t in (left, right))
    return Real(z3.If(condition, left, right), factors).known(x.positive and y.positive)


def same(x: Real, y: Real) -> bool:
    """Whether two numbers are written alike."""
    if x.factors != y.factors or isinstance(x.numerator, Fraction) != isinstance(y.numerator, Fraction):
        return False
    return x.numerator == y.numerator if isinstance(x.numerator, Fraction) else x.numerator.eq(y.numerator)


def _sum(a: Fraction | Term, b: Fraction | Term) -> Fraction | Term:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a + b
    return (numeral(a) if isinstance(a, Fraction) else a) + (numeral(b) if isinstance(b, Fraction) else b)


def _product(a: Fraction | Term, b: Fraction | Term) -> Fraction | Term:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a * b
    for x, y in ((a, b), (b, a)):
        if isinstance(x, Fraction):
            return y if x == 1 else (x if x == 0 else numeral(x) * y)
    return a * b


def _without(factors: Factors, factor: Factor) -> Factors:
    index = factors.index(factor)
    return factors[:index] + factors[index + 1 :]


def _over(x: Real, factors: Iterable[Factor]) -> Real:
    """The numerator of `x` over these factors; two equal roots become what they are the root of."""
    counts = Counter(factors)
    for f, count in list(counts.items()):
        if f.square is not None and count > 1:
            counts[f] = count % 2
            for _ in range(count // 2):
                x = Real(x.numerator) / f.square
                counts.update(x.factors)
    return Real(x.numerator, tuple(sorted(counts.elements(), key=lambda f: f.id)))


def _common(x: Real, y: Real) -> tuple[Any, Any, Factors]:
    """Two numerators over one denominator."""
    if x.factors == y.factors:
        return x.numerator, y.numerator, x.factors
    a, b = Counter(x.factors), Counter(y.factors)
    both = a | b
    left, right = x.numerator, y.numerator
    for f in (both - a).elements():
        left = _product(left, f.term)
    for f in (both - b).elements():
        right = _product(right, f.term)
    return left, right, tuple(sorted(both.elements(), key=lambda f: f.id))


# ---- functions ------------------------------------------------------------------------------------------


@dataclass
class Functions:
    """The atoms of one proof and what is known of them."""

    atoms: dict[tuple[Any, ...], Factor] = field(default_factory=dict[tuple[Any, ...], Factor])
    axioms: list[Term] = field(default_factory=list[Term])
    calls: dict[str, list[tuple[tuple[Real, ...], Factor]]] = field(
        default_factory=dict[str, list[tuple[tuple[Real, ...], Factor]]]
    )
    kept: list[Term] = field(default_factory=list[Term])  # a term's id is its own only while the term lives
    positive: dict[int, Factor] = field(default_factory=dict[int, Factor])

    def apply(self, name: str, *arguments: Real, positive: bool = False) -> Factor:
        """The atom of an uninterpreted function at these arguments."""
        normals = [Real(normal(a.term), a.factors) for a in arguments]
        key = (name, *((a.term.get_id(), a.factors) for a in normals))
        found = self.atoms.get(key)
        if found is None:
            found = self.atoms[key] = Factor(z3.Real(f"{name}#{len(self.atoms)}"), positive)
            self.kept.extend(a.term for a in normals)
            self.calls.setdefault(name, []).append((tuple(normals), found))
            if positive:
                self.axioms.append(found.term > 0)
                self.positive[found.id] = found
        return found

    def congruence(self) -> Iterable[Term]:
        """Equal arguments give equal results, for each pair of calls of a function that is called a few times."""
        for calls in self.calls.values():
            pairs = list(itertools.combinations(calls, 2))
            for (a, x), (b, y) in pairs if len(pairs) <= _MOST_PAIRS else []:
                equal = [p.compared(q, lambda s, t: s == t) for p, q in zip(a, b, strict=True)]
                yield z3.Implies(z3.And(*equal), x.term == y.term)

    def unary(self, name: str, x: Real) -> Real:
        """An uninterpreted function of one number, odd or even where the real one is."""
        if name in _ODD or name in _EVEN:
            x, negated = self._sign(x)
            value = atom(self.apply(name, x))
            return -value if negated and name in _ODD else value
        return atom(self.apply(name, x))

    def binary(self, name: str, x: Real, y: Real) -> Real:
        """An uninterpreted function of two numbers."""
        return atom(self.apply(name, x, y))

    def _sign(self, x: Real) -> tuple[Real, bool]:
        """x or −x, the same one for both, and whether it is −x."""
        plus, minus = normal(x.term), normal(-x.term)
        self.kept += [plus, minus]
        if plus.get_id() <= minus.get_id():
            return Real(plus, x.factors), False
        return Real(minus, x.factors), True

    def sqrt(self, x: Real) -> Real:
        """√x: of a rational number by its square-free part, else an atom."""
        number = x.constant
        if number is None:
            number = _rational(normal(x.term)) if not x.factors else None
        if number is not None:
            return self.root(number)
        found = self.apply("sqrt", x)
        if found.square is None:
            found.square = x
            product = found.term * found.term
            for f in x.factors:
                product = product * f.term
            self.axioms += [found.term >= 0, product == x.term]
        return atom(found)

    def root(self, number: Fraction) -> Real:
        """√ of a rational number, as r·√n with n square-free as far as small divisors tell."""
        if number < 0:
            raise Inexact(f"the root of {number}")
        whole = number.numerator * number.denominator
        outside, inside = _square_part(whole)
        scale = Fraction(outside, number.denominator)
        if inside == 1:
            return Real(scale)
        found = self.apply("sqrt", Real(Fraction(inside)), positive=True)
        if found.square is None:
            found.square = Real(Fraction(inside))
            self.axioms.append(found.term * found.term == numeral(Fraction(inside)))
        return atom(found) * scale

    def exp(self, x: Real) -> Real:
        """The product of e^m over the monomials m of x."""
        result = Real(Fraction(1))
        for coefficient, monomial in _monomials(normal(x.term)):
            if not x.factors and _is_mask(monomial):
                result = result * self._of_mask(coefficient, monomial)
                continue
            magnitude, times = abs(coefficient), 1
            if magnitude.denominator == 1 and magnitude <= _HIGHEST_POWER:
                magnitude, times = Fraction(1), int(magnitude)
            argument = Real(_product(magnitude, monomial), x.factors)
            found = self.apply("exp", argument, positive=True)
            found.logarithm = argument
            for _ in range(times):
                result = result * atom(found) if coefficient > 0 else result / atom(found)
        return result

    def _of_mask(self, coefficient: Fraction, term: Term) -> Real:
        """e^(c·t) of −∞, which is 0, or of a choice between that and a number."""
        if z3.is_app_of(term, z3.Z3_OP_ITE):
            condition, x, y = term.children()
            return choose(condition, *(self.exp(Real(_product(coefficient, t))) for t in (x, y)))
        if coefficient > 0:
            raise Inexact("e^∞")
        return Real(Fraction(0))

    def log(self, x: Real) -> Real:
        """log n − Σ log d where the denominator is positive; log e^a = a."""
        if x.factor is not None:
            return x.factor.logarithm or atom(self.apply("log", x))
        if x.constant == 1:
            return Real(Fraction(0))
        result = Real(Fraction(0))
        left: list[Term] = []
        for part in _product_of(normal(x.term)):
            f = self.positive.get(part.get_id())
            if f is None:
                left.append(part)
            else:
                result = result + self.log(atom(f))
        for f in x.factors:
            if f.positive:
                result = result - self.log(atom(f))
        rest = Real(z3.Product(left) if len(left) > 1 else (left or [numeral(Fraction(1))])[0])
        rest = Real(rest.numerator, tuple(f for f in x.factors if not f.positive))
        if not rest.factors and _rational(rest.term) == 1:
            return result
        return result + atom(self.apply("log", rest))

    def absolute(self, x: Real) -> Real:
        """x or −x, whose square is that of x."""
        if x.constant is not None:
            return Real(abs(x.constant))
        chosen = choose(x.compared(Real(Fraction(0)), lambda a, b: a >= b), x, -x)
        if chosen.factors:
            return chosen
        found = Factor(chosen.term)
        found.square = x * x
        return atom(found)

    def power(self, x: Real, y: Real) -> Real:
        """Exact for small whole exponents and ±½, else an atom."""
        number = y.constant
        if number is None or number.denominator > 2 or abs(number) > _HIGHEST_POWER:
            return atom(self.apply("power", x, y))
        if number.denominator == 2 and abs(number) != Fraction(1, 2):
            return atom(self.apply("power", x, y))
        result = Real(Fraction(1))
        base = self.sqrt(x) if number.denominator == 2 else x
        for _ in range(abs(number.numerator)):
            result = result * base
        return 1 / result if number < 0 else result

    def floor(self, x: Real) -> Term:
        """The largest integer not above x, as a z3 Int."""
        whole = x.term
        for f in x.factors:
            whole = whole / f.term
        return z3.ToInt(whole)


def _rational(term: Term) -> Fraction | None:
    return term.as_fraction() if z3.is_rational_value(term) else None


def _is_mask(term: Term) -> bool:
    """Whether a term is infinite, or a choice between an infinite one and a number."""
    if z3.is_app_of(term, z3.Z3_OP_ITE):
        _, x, y = term.children()
        parts = [_monomials(t) for t in (x, y)]
        return all(len(p) < 2 for p in parts) and any(m.eq(INFINITY) for p in parts for _, m in p)
    return term.eq(INFINITY)


def _square_part(whole: int) -> tuple[int, int]:
    """(a, b) with whole = a²·b."""
    outside, inside = 1, whole
    if isqrt(inside) ** 2 == inside:
        return isqrt(inside), 1
    for divisor in range(2, 1000):
        while inside % (divisor * divisor) == 0:
            inside //= divisor * divisor
            outside *= divisor
    return outside, inside


def _product_of(term: Term) -> Sequence[Term]:
    return term.children() if z3.is_mul(term) else [term]


def _monomials(term: Term) -> list[tuple[Fraction, Term]]:
    """The coefficients and monomials of a sum; the monomial of a constant is 1."""
    found: list[tuple[Fraction, Term]] = []
    for part in term.children() if z3.is_add(term) else [term]:
        number = _rational(part)
        if number is not None:
            found += [(number, numeral(Fraction(1)))] if number else []
            continue
        factors = _product_of(part)
        coefficient = _rational(factors[0])
        if coefficient is None:
            found.append((Fraction(1), part))
        else:
            found.append((coefficient, z3.simplify(z3.Product(factors[1:])) if len(factors) > 2 else factors[1]))
    return found
