"""Whether two graphs with the same inputs are one function of all real numbers, integers and truths: asked of z3.

The question is "is there an input on which an output differs?", for one set of extents. A sum-of-monomials normal form
by z3's simplifier answers most; the rest goes to its solver with the axioms of the functions met. A counterexample
counts only if the float64 interpreter computes different results from it; z3's own alone may rest on a function that
is left uninterpreted.
"""

from __future__ import annotations

import enum
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import z3

from dragoman.ir.errors import Inexact
from dragoman.ir.graph import Graph
from dragoman.ir.interpreter import Interpreter, run
from dragoman.ir.roles import Kind, index_range, input_roles
from dragoman.ir.types import TensorType
from dragoman.passes.smt.arithmetic import Symbolic, TermArray
from dragoman.passes.smt.terms import Real

INEXPRESSIBLE = "inexpressible"
NO_ANSWER = "z3 gives no answer"
"""How the reasons begin for what has no form in z3, and for what it does not decide in time."""

_VISIBLE = 1e-9  # a relative difference in float64 above this is no rounding, on the few numbers of an instance
_MOST_ELEMENTS = 4096


class Answer(enum.Enum):
    """What was found for one pair of graphs."""

    PROVED = "proved"
    REFUTED = "refuted"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Verdict:
    """An answer, the reason or the counterexample, and whether z3's solver was needed beyond its simplifier."""

    answer: Answer
    reason: str = ""
    searched: bool = False


class _ShapesDiffer(Exception):
    """Two results cannot be compared element by element."""


def prove(
    before: Graph,
    after: Graph,
    *,
    free: Sequence[float] = (),
    fixed: Mapping[int, Any] | None = None,
    timeout: float = 10.0,
    seed: int = 0,
) -> Verdict:
    """Ask z3 for an input that tells two graphs of static shapes apart; `timeout` in seconds bounds its search.

    `free` are numbers in the graphs that stand for any number; `fixed` gives some inputs by position. Indices into
    tables take known values, drawn by `seed`.
    """
    fixed = fixed or {}
    m = Symbolic({value: Real(z3.Real(f"c{i}")) for i, value in enumerate(free)})
    try:
        inputs = _inputs(m, before, after, fixed, seed)
        left, right = Interpreter(before, m).run(inputs), Interpreter(after, m).run(inputs)
        different = [d for x, y in zip(left, right, strict=True) for d in _differences(m, x, y)]
    except Inexact as error:
        return Verdict(Answer.UNKNOWN, f"{INEXPRESSIBLE}: {error}")
    except _ShapesDiffer as error:
        return Verdict(Answer.REFUTED, str(error))
    except (ArithmeticError, LookupError, TypeError, ValueError, z3.Z3Exception) as error:
        return Verdict(Answer.UNKNOWN, f"{INEXPRESSIBLE}: {type(error).__name__}: {error}")
    return _decide(m, different, before, after, inputs, timeout)


def _inputs(m: Symbolic, before: Graph, after: Graph, fixed: Mapping[int, Any], seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    inputs: list[Any] = []
    for i, (value, a, b) in enumerate(zip(before.inputs, input_roles(before), input_roles(after), strict=True)):
        shape = tuple(int(d) for d in value.type.shape)
        if i in fixed:
            inputs.append(np.asarray(fixed[i]))
        elif value.type.dtype.is_integer and Kind.INDEX in (a.kind, b.kind):
            low, high = index_range(a if a.kind is Kind.INDEX else b, int)
            inputs.append(rng.integers(low, high + 1, shape).astype(value.type.dtype.numpy))
        elif math.prod(shape) > _MOST_ELEMENTS:
            raise Inexact(f"{value.type} has too many elements")
        else:
            inputs.append(m.unknown(value.name or f"x{i}", shape, value.type.dtype))
    return inputs


def _differences(m: Symbolic, x: Any, y: Any) -> Iterator[Any]:
    """For each element, the formula "the two differ". Raises _ShapesDiffer."""
    if tuple(x.shape) != tuple(y.shape):
        raise _ShapesDiffer(f"shape {list(x.shape)} against {list(y.shape)}")
    if not (isinstance(x, TermArray) or isinstance(y, TermArray)):
        yield from (z3.BoolVal(bool(d)) for d in np.ravel(np.not_equal(x, y)))
        return
    if m.is_real(x):
        yield from (_distinct(a, b) for a, b in np.broadcast(x.terms, y.terms))
    else:
        yield from (x != y).terms.reshape(-1)


def _distinct(x: Real, y: Real) -> Any:
    apart = x - y
    return z3.And(apart.term != 0, *(f.term != 0 for f in apart.factors))


def _decide(
    m: Symbolic, different: Sequence[Any], before: Graph, after: Graph, inputs: Sequence[Any], timeout: float
) -> Verdict:
    claim = z3.simplify(z3.Or([*different, z3.BoolVal(False)]), som=True)
    if z3.is_false(claim):
        return Verdict(Answer.PROVED)
    found = _counterexample(before, after, inputs, {})
    if found:
        return Verdict(Answer.REFUTED, found, True)
    claims = claim.children() if z3.is_or(claim) else [claim]
    axioms = [*m.functions.axioms, *m.functions.congruence(), *m.bounds()]
    deadline = time.perf_counter() + timeout
    for one in claims:
        answer, told = _search([*axioms, one], deadline)
        if answer == z3.sat:
            found = _counterexample(before, after, inputs, told)
            if found:
                return Verdict(Answer.REFUTED, found, True)
            return Verdict(Answer.UNKNOWN, "z3 tells them apart by a function that it does not know", True)
        if answer == z3.unknown:
            return Verdict(Answer.UNKNOWN, f"{NO_ANSWER}: {told}", True)
    return Verdict(Answer.PROVED, "", True)


def _search(formulas: Sequence[Any], deadline: float) -> tuple[Any, Any]:
    """z3's answer with its model or the reason for none; first by its general solver, then by that of polynomials."""
    why = "out of time"
    for solver, share in ((z3.Solver(), 0.5), (z3.SolverFor("QF_NRA"), 1.0)):
        left = deadline - time.perf_counter()
        if left <= 0:
            break
        solver.set("timeout", max(1, int(left * share * 1000)))
        solver.add(*formulas)
        answer = solver.check()
        if answer == z3.sat:
            return answer, _values(solver.model())
        if answer == z3.unsat:
            return answer, ""
        why = solver.reason_unknown()
    return z3.unknown, why


def _values(model: Any) -> dict[str, Fraction | bool]:
    values: dict[str, Fraction | bool] = {}
    for declaration in model.decls():
        value = model[declaration]
        if z3.is_algebraic_value(value):
            value = value.approx(20)
        if z3.is_int_value(value) or z3.is_rational_value(value):
            values[declaration.name()] = value.as_fraction() if z3.is_real(value) else Fraction(value.as_long())
        elif z3.is_true(value) or z3.is_false(value):
            values[declaration.name()] = z3.is_true(value)
    return values


def _counterexample(before: Graph, after: Graph, inputs: Sequence[Any], model: Mapping[str, Fraction | bool]) -> str:
    """The inputs of z3's model, or of a few random draws, on which float64 shows a difference; empty if none does."""
    for attempt in range(1 if model else 4):
        rng = np.random.default_rng(attempt)
        with np.errstate(over="ignore"):  # z3's number may be beyond a narrow type
            arrays = [_concrete(x, v.type, model, rng, attempt) for x, v in zip(inputs, before.inputs, strict=True)]
        try:
            left, right = run(before, *arrays), run(after, *arrays)
        except (ArithmeticError, ValueError, IndexError):
            continue
        for name, x, y in zip(before.output_names, left, right, strict=True):
            shown = _shown(x, y)
            if shown:
                given = ", ".join(
                    f"{v.name}={np.array2string(np.asarray(a), precision=4, separator=',', threshold=12)}"
                    for v, a in zip(before.inputs, arrays, strict=True)
                )
                return f"{name}{shown} for {given}".replace("\n", "")
    return ""


def _concrete(
    x: Any, type: TensorType, model: Mapping[str, Fraction | bool], rng: np.random.Generator, attempt: int
) -> Any:
    if not isinstance(x, TermArray):
        return x
    array = np.empty(x.shape, type.dtype.numpy)
    for place in np.ndindex(*x.shape):
        term = x.terms[place]
        name = str(term.term if isinstance(term, Real) else term)
        array[place] = model[name] if name in model else _draw(type, rng, attempt)
    return array


def _draw(type: TensorType, rng: np.random.Generator, attempt: int) -> Any:
    if type.dtype.kind == "bool":
        return bool(rng.integers(0, 2))
    if type.dtype.is_integer:
        return int(rng.integers(-9 if type.dtype.kind == "int" else 0, 10))
    # Positive numbers first, which roots and logarithms take; 1/8 steps, which every float type holds.
    return float(rng.integers(2, 17)) / 8 if attempt % 2 == 0 else float(rng.integers(-24, 25)) / 8


def _shown(x: Any, y: Any) -> str:
    """Where and how two results differ by more than rounding; empty if they do not."""
    x, y = np.asarray(x), np.asarray(y)
    if x.dtype.kind in "biu":
        unequal = x != y
    else:
        finite = np.isfinite(x) & np.isfinite(y)
        size = np.maximum(np.maximum(np.abs(x), np.abs(y)), 1e-6)
        with np.errstate(all="ignore"):
            unequal = finite & (np.abs(x - y) > _VISIBLE * size)
    places = np.argwhere(unequal)
    if not len(places):
        return ""
    place = tuple(int(i) for i in places[0])
    return f"[{','.join(map(str, place))}] is {x[place]} before and {y[place]} after"
