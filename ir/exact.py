"""Proof A: two regions are the same function of the real numbers, shown in a finite field by bit equality.

Both are evaluated on the same random residues (`dragoman.ir.field`), on small extents where the types allow them.
Equality over the reals follows with high probability; rounding is not judged. A rule that needs an identity the field
does not have (log(ab) = log a + log b, say) shows up as different: such rules declare it and are judged by proof B
alone.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dragoman.ir.arithmetic import Inexact
from dragoman.ir.dims import Dim, DimExpr, Symbol
from dragoman.ir.errors import DragomanError, TypeRuleError
from dragoman.ir.field import FIELD, PRIMES, FieldArray
from dragoman.ir.graph import Graph
from dragoman.ir.interpreter import Interpreter
from dragoman.ir.op import Op
from dragoman.ir.roles import InputRole, Kind, index_range, input_roles
from dragoman.ir.types import TensorType, same_type

_SHRINK_ABOVE = 8  # static extents above this are tried smaller
_SMALLER = (3, 4, 5, 7, 6)  # what they are shrunk to, the first that types allow
_MAX_ELEMENTS = 3_000_000  # the largest value that a proof evaluates; about a second of work


class Outcome(enum.Enum):
    """What proof A found."""

    EQUAL = "equal"
    DIFFERENT = "different"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class ExactResult:
    """The outcome of proof A, with the reason when it is not EQUAL and the extents it was evaluated at."""

    outcome: Outcome
    reason: str = ""
    shapes: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Instance:
    """Input types with numbers for extents, and the sizes of symbols that they stand for."""

    types: tuple[TensorType, ...]
    sizes: Mapping[str, int]

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The extents alone."""
        return tuple(tuple(int(d) for d in t.shape) for t in self.types)


def prove_exact(before: Graph, after: Graph, *, fixed: Mapping[int, Any] | None = None, seed: int = 0) -> ExactResult:
    """Compare two graphs with the same inputs and outputs over a finite field.

    Inputs are random residues (indices: any that the tables they index have; other integers: small; booleans:
    random), but `fixed` gives the values of some by position. Shapes are small: symbols get 2 to 5, and static
    extents above 8 are shrunk where both graphs still type-check; they are as declared where shrunk ones show no
    equality. What the field cannot evaluate is UNDECIDED, with the reason.
    """
    if len(before.inputs) != len(after.inputs) or len(before.outputs) != len(after.outputs):
        return ExactResult(Outcome.DIFFERENT, "the two have different numbers of inputs or outputs")
    fixed = fixed or {}
    result = ExactResult(Outcome.UNDECIDED, "the smallest instance is too large to evaluate exactly")
    for least in LEAST_EXTENTS:
        for instance in small_instances(before, after, frozenset(fixed), least):
            try:
                result = _compared(before, after, instance, fixed, seed)
            except Inexact as error:  # an op has no meaning over the field, at no extents
                return ExactResult(Outcome.UNDECIDED, str(error), instance.shapes)
            if result.outcome is Outcome.EQUAL:
                return result
        if result.outcome is Outcome.DIFFERENT or not before.symbols():
            break
    return result


def _compared(before: Graph, after: Graph, instance: Instance, fixed: Mapping[int, Any], seed: int) -> ExactResult:
    left, right = (with_input_types(g, instance.types, instance.sizes) for g in (before, after))
    if left is None or right is None:
        return ExactResult(Outcome.UNDECIDED, "the region does not type-check at the extents chosen", instance.shapes)
    try:
        inputs = _inputs(left, right, fixed, np.random.default_rng(seed))
        pairs = list(zip(Interpreter(left, FIELD).run(inputs), Interpreter(right, FIELD).run(inputs), strict=True))
    except Inexact:
        raise
    except Exception as error:  # an op may have no meaning on these integers
        return ExactResult(Outcome.UNDECIDED, f"{type(error).__name__}: {error}", instance.shapes)
    for name, (x, y) in zip(before.output_names, pairs, strict=True):
        difference = _difference(x, y)
        if difference:
            where = f"{name}: " if len(pairs) > 1 else ""
            return ExactResult(Outcome.DIFFERENT, where + difference, instance.shapes)
    return ExactResult(Outcome.EQUAL, "", instance.shapes)


def _inputs(left: Graph, right: Graph, fixed: Mapping[int, Any], rng: np.random.Generator) -> list[Any]:
    """Random inputs that suit what both graphs do with them, or those that are given."""
    inputs: list[Any] = []
    for index, (a, b) in enumerate(zip(input_roles(left), input_roles(right), strict=True)):
        if index in fixed:
            inputs.append(fixed[index])
            continue
        role = replace(a, kind=Kind.INDEX if Kind.INDEX in (a.kind, b.kind) else a.kind, high=a.high + b.high)
        inputs.append(_random(rng, left.inputs[index].type, role))
    return inputs


def _difference(x: Any, y: Any) -> str:
    if tuple(x.shape) != tuple(y.shape):
        return f"shape {list(x.shape)} against {list(y.shape)}"
    if isinstance(x, FieldArray) != isinstance(y, FieldArray):
        return "a real number against an integer"
    unequal = (x.levels[0] != y.levels[0]) if isinstance(x, FieldArray) else np.not_equal(x, y)
    count = int(np.count_nonzero(unequal))
    return f"{count} of {unequal.size} elements differ over the field" if count else ""


def _random(rng: np.random.Generator, type: TensorType, role: InputRole) -> Any:
    shape = tuple(int(d) for d in type.shape)
    if type.dtype.is_float:
        # Residues modulo different primes are independent: each is a random point of its own field.
        return FieldArray(tuple(rng.integers(1, p, shape, np.int64) for p in PRIMES))
    if type.dtype.kind == "bool":
        return rng.integers(0, 2, shape).astype(np.bool_)
    if type.dtype.is_integer:
        low, high = index_range(role, int) if role.kind is Kind.INDEX else (-4 * (type.dtype.kind == "int"), 7)
        numbers = rng.integers(low, high + 1, shape)
        numbers.reshape(-1)[:2] = [high, low][: numbers.size]  # both ends, however few there are
        return numbers.astype(type.dtype.numpy)
    raise Inexact(f"{type.dtype} has no exact form here")


def with_input_types(graph: Graph, types: Sequence[TensorType], sizes: Mapping[str, Dim] | None = None) -> Graph | None:
    """A copy of a graph with other input types, all else inferred again; None if it does not type-check.

    Symbols in attributes are replaced by what the new input types make of them, or by `sizes`.
    """
    copied = Graph(graph.name)
    mapping = {v: copied.add_input(t, v.name) for v, t in zip(graph.inputs, types, strict=True)}
    symbols = {**(sizes or {}), **_symbol_values(graph, types)}
    try:
        for name, value in graph.weights.items():
            assert value.weight is not None
            mapping[value] = copied.add_weight(name, value.weight)
        for node in graph:
            operands = [mapping[v] if v is not None else None for v in node.operands]
            inserted = copied.insert(_op_at(node.op, symbols), operands)
            mapping.update(zip(node.results, inserted.results, strict=True))
    except DragomanError:
        return None
    copied.set_outputs([mapping[v] for v in graph.outputs], graph.output_names)
    return copied


def _op_at(op: Op, symbols: Mapping[str, Dim]) -> Op:
    """An op with symbols replaced, in the types within its regions too. Raises TypeRuleError."""
    op = op.substitute(symbols)
    if not op.regions:
        return op
    return op.with_attributes(**{name: _regions_at(value, symbols) for name, value in op.attributes()})


def _regions_at(value: Any, symbols: Mapping[str, Dim]) -> Any:
    if isinstance(value, tuple):
        return tuple(_regions_at(item, symbols) for item in value)
    if not isinstance(value, Graph):
        return value
    if not set(symbols) & set(value.symbols()):
        return value
    region = with_input_types(value, [v.type.substitute(symbols) for v in value.inputs], symbols)
    if region is None:
        raise TypeRuleError("a region does not type-check at these sizes")
    return region


def _symbol_values(graph: Graph, types: Sequence[TensorType]) -> dict[str, Dim]:
    values: dict[str, Dim] = {}
    for value, type in zip(graph.inputs, types, strict=True):
        for old, new in zip(value.type.shape, type.shape, strict=True):
            if isinstance(old, DimExpr) and len(old.terms) == 1 and old.terms[0][1] == 1:
                monomial = old.terms[0][0]
                if len(monomial) == 1 and isinstance(monomial[0][0], Symbol) and monomial[0][1] == 1:
                    values[monomial[0][0].name] = new
    return values


def _symbols_of(graphs: Sequence[Graph]) -> dict[str, Symbol]:
    return {n: s for graph in graphs for n, s in graph.symbols().items()}


LEAST_EXTENTS = (2, 8)
"""What symbols are at least: first, and where the original has no meaning for that, as the fifth of so many."""


def small_instances(
    before: Graph, after: Graph, keep: frozenset[int] = frozenset(), least: int = LEAST_EXTENTS[0]
) -> Iterator[Instance]:
    """Instances that both graphs accept, small enough to be evaluated: shrunk as far as types allow, then as declared.

    What holds of the declared extents alone (a sum divided by 768 is a mean over 768) shows in the second only. Inputs
    in `keep` are not shrunk. Symbols get `least` to `least + 3`, or 1 where that is too large.
    """
    symbols = sorted(_symbols_of((before, after)).items())
    sizes = {n: small_extent(s, least + i % 4) for i, (n, s) in enumerate(symbols)}
    ones = {n: small_extent(s, 1) for n, s in symbols}
    for chosen in (sizes, ones):
        found = [i for i in _at(before, after, chosen, keep) if instance_size(before, after, i) <= _MAX_ELEMENTS]
        if found:
            yield from found
            return


def _at(before: Graph, after: Graph, sizes: Mapping[str, int], keep: frozenset[int]) -> Iterator[Instance]:
    try:
        declared = [v.type.substitute(sizes) for v in before.inputs]
    except TypeRuleError:  # n − 3 of 2
        return
    if not all(t.is_static for t in declared):
        return
    shrunk = _shrunk(before, after, declared, sizes, keep)
    yield from (Instance(tuple(types), sizes) for types in ([declared] if shrunk == declared else [shrunk, declared]))


def _shrunk(
    before: Graph, after: Graph, types: list[TensorType], sizes: Mapping[str, int], keep: frozenset[int]
) -> list[TensorType]:
    extents = {
        d for i, t in enumerate(types) if i not in keep for d in t.shape if isinstance(d, int) and d > _SHRINK_ABOVE
    }
    written = _numbers_in((before, after))
    for extent in sorted(extents, reverse=True):
        for smaller in _SMALLER:
            if any(math.isclose(smaller, number, rel_tol=1e-3) for number in written):
                continue  # what is divided by 3 would look like a mean over 3
            trial = [t if i in keep else _replace_extent(t, extent, smaller) for i, t in enumerate(types)]
            if _accepted(before, after, trial, sizes):
                types = trial
                break
    return types


def _numbers_in(graphs: Sequence[Graph]) -> set[float]:
    """The constants of graphs, their reciprocals and squares: what may stand for an extent."""
    constants = (getattr(node.op, "value", None) for graph in graphs for node in graph if node.op.name == "constant")
    sizes = {abs(float(c)) for c in constants if isinstance(c, (int, float)) and c and math.isfinite(c)}
    return {form for c in sizes if 1e-9 < c < 1e9 for form in (c, 1 / c, c * c, 1 / (c * c))}


def instance_size(before: Graph, after: Graph, instance: Instance) -> float:
    """The elements of the largest value of either graph."""
    return max(_largest(g, instance) for g in (before, after))


def small_extent(symbol: Symbol, wanted: int = 3) -> int:
    """A small extent in a symbol's range."""
    return min(max(wanted, symbol.low), symbol.high)


def _replace_extent(type: TensorType, extent: int, smaller: int) -> TensorType:
    return type.with_shape(smaller if d == extent else d for d in type.shape)


def _accepted(before: Graph, after: Graph, types: Sequence[TensorType], sizes: Mapping[str, int]) -> bool:
    left, right = with_input_types(before, types, sizes), with_input_types(after, types, sizes)
    if left is None or right is None:
        return False
    return all(same_type(x.type, y.type) for x, y in zip(left.outputs, right.outputs, strict=True))


def _largest(graph: Graph, instance: Instance) -> float:
    retyped = with_input_types(graph, instance.types, instance.sizes)
    if retyped is None:
        return 0.0  # it does not type-check: said where it is evaluated
    values = [*retyped.inputs, *(r for node in retyped for r in node.results)]
    return max((s for v in values if isinstance(s := v.type.size, int)), default=1)
