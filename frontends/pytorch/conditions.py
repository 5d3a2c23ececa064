"""Conditions on sizes that torch met while tracing, judged for every size that the caller allows.

torch follows one path and notes as *guards* what it took for granted. A guard that holds for all sizes is harmless;
one that fails only where a size is 0 or 1 is an assumption, which verification must sample; any other narrows a range
that the caller left open, or is a refusal naming the line that asked. A condition is proven by interval arithmetic,
or tried at many sizes.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy

from dragoman.frontends.pytorch.provenance import Asker
from dragoman.frontends.pytorch.symints import Symbols
from dragoman.ir.dims import Dim, DimExpr, Symbol, bounds, evaluate, same, symbols
from dragoman.ir.errors import Unsupported

_NEAR = 80  # sizes around the example that are tried one by one
_TRIES = 300  # random points for conditions on several symbols
_MODULI = 130  # the largest step of sizes that is looked for

_HOLDS: dict[Any, Callable[[int], bool]] = {
    sympy.Eq: lambda d: d == 0,
    sympy.Ne: lambda d: d != 0,
    sympy.Lt: lambda d: d < 0,
    sympy.Le: lambda d: d <= 0,
    sympy.Gt: lambda d: d > 0,
    sympy.Ge: lambda d: d >= 0,
}
_TURNED: dict[Any, Any] = {sympy.Lt: sympy.Gt, sympy.Le: sympy.Ge, sympy.Gt: sympy.Lt, sympy.Ge: sympy.Le}
_SIGNS = {sympy.Eq: "=", sympy.Ne: "≠", sympy.Lt: "<", sympy.Le: "≤", sympy.Gt: ">", sympy.Ge: "≥"}


class Condition:
    """One relation between sizes, in the caller's symbols. `line` is the source line that asked, or that called the
    operator of torch which did.
    """

    def __init__(self, expression: Any, dims: Symbols, line: str = "", asker: Asker = Asker.MODEL) -> None:
        self.line = line
        self.asker = asker
        self._expression = expression
        self._dims = dims
        self._relation: tuple[Any, Dim, Dim] | None = None
        self.symbols: dict[str, Symbol] = {}
        for symbol in expression.free_symbols:
            self.symbols.update(_symbols_of(dims.dim(symbol)))
        if type(expression) in _HOLDS:
            try:
                left, right = (dims.dim(side) for side in expression.args)
                self._relation = (type(expression), left, right)
                self.symbols = {**_symbols_of(left), **_symbols_of(right)}
            except Unsupported:  # a relation between real numbers is tried with sympy itself
                pass

    def __str__(self) -> str:
        if self._relation is None:
            names = {s: sympy.Symbol(str(self._dims.dim(s))) for s in self._expression.free_symbols}
            return str(self._expression.xreplace(names))
        kind, left, right = self._relation
        if isinstance(left, int):
            kind, left, right = _TURNED.get(kind, kind), right, left
        return f"{left} {_SIGNS[kind]} {right}"

    @property
    def sides(self) -> tuple[Dim, Dim] | None:
        """Both sides of an equality."""
        return self._relation[1:] if self._relation and self._relation[0] is sympy.Eq else None

    @property
    def is_operators_choice(self) -> bool:
        """Whether an operator asked whether two sizes differ: it serves both answers."""
        return self.asker is not Asker.MODEL and self._relation is not None and self._relation[0] is sympy.Ne

    def proven(self) -> bool:
        """Whether interval arithmetic shows that it always holds."""
        if self._relation is None:
            return self._expression is sympy.true
        kind, left, right = self._relation
        if kind is sympy.Eq:
            return same(left, right)
        difference = left - right
        low, high = bounds(difference)
        if kind is sympy.Ne:
            return low > 0 or high < 0
        return _HOLDS[kind](low) and _HOLDS[kind](high)

    def holds(self, values: Mapping[str, int]) -> bool:
        """Whether it holds at given sizes."""
        if self._relation is None:
            numbers = {s: sympy.Integer(evaluate(self._dims.dim(s), values)) for s in self._expression.free_symbols}
            return bool(self._expression.xreplace(numbers))
        kind, left, right = self._relation
        return _HOLDS[kind](evaluate(left, values) - evaluate(right, values))


def _symbols_of(dim: Dim) -> dict[str, Symbol]:
    return symbols(dim) if isinstance(dim, DimExpr) else {}


def conjuncts(expression: Any) -> Iterator[Any]:
    """The parts of a conjunction, each on its own."""
    if isinstance(expression, sympy.And):
        for part in expression.args:
            yield from conjuncts(part)
    elif isinstance(expression, sympy.Not) and isinstance(expression.args[0], sympy.Or):
        for part in expression.args[0].args:
            yield from conjuncts(sympy.Not(part))
    else:
        yield expression


# ---- trying ----------------------------------------------------------------------------------------------------


def counterexample(
    condition: Condition, ranges: Mapping[str, Symbol], example: Mapping[str, int]
) -> dict[str, int] | None:
    """Sizes within the ranges at which a condition fails, None if none was found."""
    used = [ranges[n] for n in condition.symbols if n in ranges]
    if not used:
        return None if condition.holds(example) else {}
    for point in _points(used, example):
        if not condition.holds(point):
            return point
    return None


def _points(used: Sequence[Symbol], example: Mapping[str, int]) -> Iterator[dict[str, int]]:
    if len(used) == 1:
        (symbol,) = used
        for value in _values(symbol, example.get(symbol.name, symbol.low)):
            yield {symbol.name: value}
        return
    corners = [sorted({s.low, min(s.low + 1, s.high), min(s.low + 2, s.high), s.high}) for s in used]
    for point in itertools.islice(itertools.product(*corners), 512):
        yield dict(zip((s.name for s in used), point, strict=True))
    source = random.Random(len(used))
    for index in range(_TRIES):
        widest = 50 if index % 2 else 5000
        yield {s.name: source.randint(s.low, min(s.high, s.low + widest)) for s in used}


def _values(symbol: Symbol, middle: int) -> list[int]:
    near = range(max(symbol.low, middle - _NEAR), min(symbol.high, middle + _NEAR) + 1)
    first = range(symbol.low, min(symbol.high, symbol.low + _NEAR) + 1)
    steps = (symbol.low + (1 << n) + k for n in range(32) for k in (-1, 0, 1, 7))
    wide = (v for v in steps if symbol.low <= v <= symbol.high)
    return sorted({*near, *first, *wide, symbol.high})


@dataclass(frozen=True)
class Allowed:
    """The sizes at which a condition on one symbol holds: low … high, in steps of `step` from `offset`."""

    low: int
    high: int
    step: int = 1
    offset: int = 0


def allowed(condition: Condition, symbol: Symbol, middle: int) -> Allowed:
    """The widest range around the example in which a condition on one symbol holds."""

    def holds(value: int) -> bool:
        return condition.holds({symbol.name: value})

    step = _step(holds, symbol, middle)
    if step > 1:
        return Allowed(symbol.low, symbol.high, step, middle % step)
    return Allowed(_edge(holds, middle, symbol.low), _edge(holds, middle, symbol.high))


def _edge(holds: Callable[[int], bool], inside: int, limit: int) -> int:
    """The last value from `inside` towards `limit` up to which a condition holds, by bisection."""
    direction = 1 if limit >= inside else -1
    stride = 1
    while inside != limit and holds(inside):
        ahead = inside + direction * min(stride, abs(limit - inside))
        if not holds(ahead):
            low, high = inside, ahead
            while abs(high - low) > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if holds(middle) else (low, middle)
            return low
        inside, stride = ahead, stride * 2
    return inside


def _step(holds: Callable[[int], bool], symbol: Symbol, middle: int) -> int:
    """The period of a condition that holds at every k-th size only; 1 for none."""
    window = [v for v in range(middle, middle + 2 * _MODULI) if symbol.low <= v <= symbol.high]
    pattern = [holds(v) for v in window]
    if all(pattern) or len(pattern) < 4 or sum(pattern) < 2:
        return 1
    step = next((i for i, good in enumerate(pattern) if i and good), 0)
    regular = step > 1 and all(good == (i % step == 0) for i, good in enumerate(pattern))
    return step if regular else 1
