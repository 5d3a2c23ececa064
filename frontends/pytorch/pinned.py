"""From torch's own symbols to the caller's: which dims stayed dynamic, which the model pinned, and by which line.

After a trace each dynamic dim of an input is a number (pinned), a symbol of torch's, or an expression in one. This
module binds those symbols to the caller's dims, judges what torch took for granted, and raises DimensionPinned where
a dim cannot be what was asked.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy

from dragoman.frontends.dynamic import Spec
from dragoman.frontends.imported import Assumption, Limit
from dragoman.frontends.pytorch.conditions import Allowed, Condition, allowed, conjuncts, counterexample
from dragoman.frontends.pytorch.provenance import Asker, user_line
from dragoman.frontends.pytorch.symints import Symbols
from dragoman.ir.dims import UNBOUNDED, Dim, DimExpr, Symbol, floordiv, same, substitute, symbols
from dragoman.ir.errors import DimensionPinned

_ADVICE = (
    "Sizes stay dynamic in arithmetic and as arguments of torch functions; int(), float(), math.sqrt() of a size, a "
    "comparison with a fixed size, or a tensor of fixed size pin them. A model that needs multiples of 16 takes '16*n'."
)


@dataclass(frozen=True)
class Placed:
    """One dynamic dim of an input: where, what the caller calls it, torch's symbol for it and what became of that."""

    input: str
    axis: int
    wanted: DimExpr
    symbol: Any
    traced: Any

    def __str__(self) -> str:
        return f"axis {self.axis} of {self.input!r}"


@dataclass(frozen=True)
class Judged:
    """The dims of a trace, the caller's symbols with their final ranges, what was assumed, what limits the ranges."""

    dims: Symbols
    symbols: Mapping[str, Symbol]
    assumptions: tuple[Assumption, ...]
    limits: tuple[Limit, ...] = ()


def judge(placed: Sequence[Placed], spec: Spec, sizes: Mapping[str, int], environment: Any) -> Judged:
    """Bind, judge, and bind again with the ranges that came out. Raises DimensionPinned."""
    _check_all_dynamic(placed, environment)
    dims = _bound(placed, spec.symbols, environment)
    ranges, assumptions, limits = _narrowed(dims, spec, placed, sizes, environment)
    return Judged(_bound(placed, ranges, environment), ranges, assumptions, limits)


def _check_all_dynamic(placed: Sequence[Placed], environment: Any) -> None:
    for place in placed:
        if isinstance(place.traced, int):
            line = _line_of(environment, place.symbol)
            raise DimensionPinned(
                f"the dynamic dimension '{place.wanted}' ({place}) is fixed to {place.traced} by the model\n"
                f"  {line}\n{_ADVICE}"
            )


def _bound(placed: Sequence[Placed], ranges: Mapping[str, Symbol], environment: Any) -> Symbols:
    """torch's symbols bound to the caller's dims, which carry these ranges."""
    dims = Symbols(frozenset(ranges), _unbacked_range(environment))
    known = {n: s.dim for n, s in ranges.items()}
    for place in sorted(placed, key=lambda p: not isinstance(p.traced, sympy.Symbol)):
        wanted = substitute(place.wanted, known)
        if not dims.knows(place.traced):
            _solve(dims, place, wanted, environment)
        found = dims.dim(place.traced)
        if not same(found, wanted):
            others = (p for p in placed if p is not place and p.traced == place.traced)
            first = next((f" ({p})" for p in others), "")
            raise DimensionPinned(
                f"the dynamic dimension '{wanted}' ({place}) must equal '{found}'{first} for the model\n"
                f"  {_line_of(environment, place.symbol)}\n"
                f"Give both the same name, or write one as an expression of the other."
            )
    return dims


def _solve(dims: Symbols, place: Placed, wanted: Dim, environment: Any) -> None:
    """Bind the one unknown symbol of `coefficient·symbol + constant = wanted`."""
    unknown = [s for s in place.traced.free_symbols if dims.bound(s) is None]
    polynomial = sympy.Poly(place.traced, unknown[0]) if len(unknown) == 1 and place.traced.is_polynomial() else None
    if polynomial is None or polynomial.degree() != 1:
        raise DimensionPinned(
            f"the dynamic dimension '{wanted}' ({place}) must have the form {place.traced} for the model\n"
            f"  {_line_of(environment, place.symbol)}"
        )
    coefficient, constant = (dims.dim(sympy.sympify(k)) for k in polynomial.all_coeffs())
    solution = floordiv(wanted - constant, coefficient)
    if not same(solution * coefficient + constant, wanted):
        form = f"{coefficient}*{wanted}" + (f"+{constant}" if constant != 0 else "")
        raise DimensionPinned(
            f"the dynamic dimension '{wanted}' ({place}) must be a multiple of {coefficient}"
            + (f" plus {constant}" if constant != 0 else "")
            + f" for the model\n  {_line_of(environment, place.symbol)}\nWrite it as '{form}' in dynamic."
        )
    dims.bind(unknown[0], solution)


# ---- ranges ----------------------------------------------------------------------------------------------------


def _narrowed(
    dims: Symbols, spec: Spec, placed: Sequence[Placed], sizes: Mapping[str, int], environment: Any
) -> tuple[dict[str, Symbol], tuple[Assumption, ...], tuple[Limit, ...]]:
    ranges = dict(spec.symbols)
    assumptions: dict[str, Assumption] = {}
    limits: list[Limit] = []
    for condition in sorted(_conditions(dims, environment), key=lambda c: len(c.symbols)):
        if condition.proven():
            continue
        failing = counterexample(condition, ranges, sizes)
        if failing is None:
            continue
        larger = {n: Symbol(n, min(max(s.low, 2), s.high), s.high) for n, s in ranges.items()}
        beyond = counterexample(condition, larger, sizes)
        if condition.is_operators_choice or (condition.asker is Asker.OPERATOR and beyond is None):
            # An operator is translated whole, and its type holds for every size: how it chose a memory layout, or
            # treats a size of 1, is no matter of the model's.
            continue
        name = next(iter(condition.symbols)) if len(condition.symbols) == 1 else ""
        if name in ranges and (beyond is not None or condition.asker is Asker.CHECK):
            ranges[name] = _narrow(condition, ranges[name], sizes[name], name in spec.ranged, placed)
            limits.append(Limit(ranges[name], condition.line))
        elif beyond is None:
            assumptions.setdefault(str(condition), Assumption(str(condition), condition.line, failing))
        else:
            raise _unrelated(condition, beyond, placed)
    return ranges, tuple(assumptions.values()), tuple(limits)


def _conditions(dims: Symbols, environment: Any) -> Iterable[Condition]:
    """What torch took for granted about symbols of inputs, each once."""
    seen: set[Any] = set()
    for guard in environment.guards:
        for part in conjuncts(guard.expr):
            condition = part if dims.knows(part) else environment.replace(part)
            if condition in seen or not dims.knows(condition) or condition in (sympy.true, sympy.false):
                continue
            seen.add(condition)
            yield Condition(condition, dims, line_of_guard(guard.sloc), _asker(guard.sloc))


def _narrow(condition: Condition, symbol: Symbol, middle: int, fixed: bool, placed: Sequence[Placed]) -> Symbol:
    found = allowed(condition, symbol, middle)
    place = next((p for p in placed if symbol.name in symbols(p.wanted)), None)
    where = f"'{symbol.name}'" + (f" ({place})" if place else "")
    if found.step > 1:
        raise DimensionPinned(_multiple(found, symbol, where, condition, place))
    if found.low == found.high:
        raise DimensionPinned(
            f"the dynamic dimension {where} is fixed to {found.low} by the model\n  {condition.line}\n{_ADVICE}"
        )
    if fixed:
        raise DimensionPinned(
            f"the dynamic dimension {where} may be {symbol.low}..{symbol.high}, but the model needs "
            f"{_range(found)}: it asks whether {condition}\n  {condition.line}\n"
            f"Declare that range, for instance Symbol({symbol.name!r}, {found.low}, {found.high})."
        )
    return Symbol(symbol.name, found.low, found.high)


def _range(found: Allowed) -> str:
    return f"{found.low} or more" if found.high >= UNBOUNDED else f"{found.low}..{found.high}"


def _multiple(found: Allowed, symbol: Symbol, where: str, condition: Condition, place: Placed | None) -> str:
    plus = f" plus {found.offset}" if found.offset else ""
    form = f"{found.step}*{symbol.name}" + (f"+{found.offset}" if found.offset else "")
    written = f"dynamic={{{place.input!r}: {{{place.axis}: '{form}'}}}}" if place else f"'{form}'"
    return (
        f"the dynamic dimension {where} must be a multiple of {found.step}{plus} for the model\n"
        f"  {condition.line}\nWrite {written}."
    )


def _unrelated(condition: Condition, failing: Mapping[str, int], placed: Sequence[Placed]) -> DimensionPinned:
    sizes = ", ".join(f"{n} = {v}" for n, v in failing.items())
    places = {n: next((f" ({p})" for p in placed if n in symbols(p.wanted)), "") for n in condition.symbols}
    names = " and ".join(f"'{n}'{place}" for n, place in sorted(places.items()))
    equal = condition.sides is not None and all(isinstance(s, DimExpr) for s in condition.sides)
    advice = (
        "Give both the same name, or write one as an expression of the other."
        if equal
        else ("Declare ranges in which it always holds.")
    )
    return DimensionPinned(
        f"the dynamic dimensions {names} are tied by the model: it needs {condition}, which fails for {sizes}\n"
        f"  {condition.line}\n{advice}"
    )


def _unbacked_range(environment: Any) -> Any:
    def range_of(symbol: Any) -> tuple[int, int]:
        found = environment.var_to_range.get(symbol) if environment is not None else None
        if found is None:
            return 0, UNBOUNDED
        low = int(found.lower) if found.lower.is_Integer else 0
        return low, int(found.upper) if found.upper.is_Integer else UNBOUNDED

    return range_of


# ---- lines -----------------------------------------------------------------------------------------------------


def _asker(place: Any) -> Asker:
    name = getattr(getattr(place, "framework_loc", None), "name", None)
    return name if isinstance(name, Asker) else Asker.MODEL


def line_of_guard(place: Any) -> str:
    """The source line of a guard, as messages show it."""
    frame = getattr(place, "framework_loc", None)
    if isinstance(frame, traceback.FrameSummary):
        return user_line(frame.filename, frame.lineno or 0, frame.line or "")
    return str(place)


def _line_of(environment: Any, symbol: Any) -> str:
    """The line that tied a symbol of torch's to a number or another symbol."""
    places = [g.sloc for g in environment.guards if isinstance(g.expr, sympy.Eq) and symbol in g.expr.free_symbols]
    replaced = environment.replacements_slocs.get(symbol)
    lines = [line_of_guard(p) for p in ([*places, replaced] if replaced is not None else places)]
    return lines[0] if lines else "(torch kept no line for it)"
