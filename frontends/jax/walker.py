"""Walks a jaxpr in order and writes IR. Nested programs (jit, custom derivatives, remat) are inlined.

Every result is compared with the type that JAX recorded for it; a difference is an internal error naming the equation.
Equations whose results nothing uses are left out before they are looked at. What has no translation is collected and
refused at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, DropVar, Jaxpr, Literal, Var

from dragoman.frontends.jax.context import Context, type_of
from dragoman.frontends.jax.dims import Dims
from dragoman.frontends.jax.dtypes import from_jax, is_key
from dragoman.frontends.jax.keys import with_words
from dragoman.frontends.jax.provenance import is_models_function, provenance_of
from dragoman.frontends.jax.table.registry import translation_of
from dragoman.frontends.jax.weights import weight_of
from dragoman.frontends.refusals import Refusals
from dragoman.ir.builder import Builder
from dragoman.ir.errors import TypeRuleError, Unsupported
from dragoman.ir.graph import Graph, Value
from dragoman.ir.provenance import Provenance, Source
from dragoman.ir.types import F32, TensorType, same_type

# On scalars they do nothing, and so they do nothing where a program on scalars is applied to all elements.
_OF_SHAPE = frozenset({"broadcast_in_dim", "reshape", "squeeze"})


class InternalError(AssertionError):
    """The importer contradicts JAX or the IR about an equation: a bug of ours, never of the model."""


@dataclass
class Job:
    """What all graphs of one import share. `names` are those of arrays that the model closes over, by identity."""

    dims: Dims
    names: dict[int, str] = field(default_factory=dict[int, str])
    refusals: Refusals = field(default_factory=lambda: Refusals("jax"))


@dataclass(frozen=True)
class _Frame:
    """One program being walked: what its variables are, and whom its equations come from."""

    values: dict[Var, Value]
    outer: Source | None
    own_lines: bool


class Walker:
    """Translates jaxprs into one graph. `arrays` are those known from outside, of a region, by identity."""

    def __init__(self, job: Job, graph: Graph, arrays: dict[int, Value] | None = None) -> None:
        self._job = job
        self._graph = graph
        self._region = arrays is not None
        self._arrays: dict[int, Value] = {} if arrays is None else arrays
        self._kept: list[Any] = []  # arrays are known by identity, so they must live
        self._builder = Builder(graph)
        self._context = Context(self._builder, job.dims)
        self._context.inline = self.inline
        self._context.lifted = self.lifted
        self._context.regions = self.regions
        self._frame = _Frame({}, None, True)
        self._lifted = False

    # ---- the walk --------------------------------------------------------------------------------------

    def run(
        self, jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Value], outer: Source | None = None
    ) -> list[Value]:
        """Translate every equation whose results are wanted; returns the outputs."""
        values: dict[Var, Value] = dict(zip(jaxpr.invars, args, strict=True))
        before, self._frame = self._frame, _Frame(values, outer, outer is None or is_models_function(jaxpr))
        try:
            for variable, const in zip(jaxpr.constvars, consts, strict=True):
                values[variable] = const if isinstance(const, Value) else self.array(const)
            for equation in wanted_equations(jaxpr):
                self._equation(equation)
            return [self._read(v) for v in jaxpr.outvars]
        finally:
            self._frame = before

    def inline(self, program: Any, args: Sequence[Value]) -> list[Value]:
        """The outputs of a nested program, its equations written here."""
        jaxpr, consts = parts_of(program)
        sources = self._builder.provenance.sources
        return self.run(jaxpr, consts, args, sources[0] if sources else None)

    def lifted(self, program: Any, args: Sequence[Value]) -> list[Value]:
        """The outputs of a nested program on scalars, applied to all elements of arrays of one shape."""
        before, self._lifted = self._lifted, True
        try:
            return self.inline(program, args)
        finally:
            self._lifted = before

    def _read(self, atom: Any) -> Value:
        if not isinstance(atom, Literal):
            return self._frame.values[atom]
        aval: Any = atom.aval
        return self.array(atom.val, from_jax(aval.dtype))

    def array(self, array: Any, dtype: Any = None) -> Value:
        """An array of the program: a constant if it is a scalar, else a weight; the same array is one weight."""
        if getattr(array, "ndim", 0) == 0 and not is_key(getattr(array, "dtype", None) or np.float64):
            plain = np.asarray(array)
            return self._builder.const(plain.item(), dtype or from_jax(plain.dtype))
        found = self._arrays.get(id(array))
        if found is None:
            if self._region:
                raise InternalError("an array in a region was not passed to it")
            name = self._job.names.get(id(array), f"constant{len(self._graph.weights)}")
            found = self._arrays[id(array)] = self._graph.add_weight(name, weight_of(array))
            self._kept.append(array)
        return found

    def _equation(self, equation: Any) -> None:
        frame = self._frame
        self._builder.provenance = provenance_of(equation, frame.outer, frame.own_lines)
        origin = self._builder.provenance
        try:
            types = tuple([type_of(v.aval, self._job.dims) for v in equation.outvars])
            results = self._translated(equation, types)
        except (Unsupported, TypeRuleError) as refusal:
            name = equation.primitive.name
            self._job.refusals.add(origin.sources[0], str(refusal) if str(refusal) != name else "")
            results = [_made_up(v.aval, self._job.dims) for v in equation.outvars]
        self._builder.provenance = origin
        for variable, value in zip(equation.outvars, results, strict=True):
            if not isinstance(variable, DropVar):
                frame.values[variable] = value

    def _translated(self, equation: Any, types: tuple[TensorType, ...]) -> list[Value]:
        name = equation.primitive.name
        translation = translation_of(name)
        if translation is None:
            raise Unsupported(name)
        args = [self._read(v) for v in equation.invars]
        c = self._context
        c.equation, c.types = equation, types
        if self._lifted and name in _OF_SHAPE:
            return [args[0]]
        result = translation(c, *args, **with_words(equation))
        results = [result] if isinstance(result, Value) else list(result)
        if len(results) != len(types):
            raise InternalError(f"{name} was translated to {len(results)} results, JAX has {len(types)}")
        for number, (value, type) in enumerate(zip(results, types, strict=True)):
            same = value.type.dtype == type.dtype if self._lifted else same_type(value.type, type)
            if not same:
                raise InternalError(f"{name}: result {number} is {value.type}, JAX has {type}\n  {equation}")
        return results

    # ---- control flow ----------------------------------------------------------------------------------

    def regions(
        self, programs: Sequence[Any], inputs: Sequence[Sequence[TensorType]], within: Sequence[Any] = ()
    ) -> tuple[list[Graph], list[Value]]:
        """Programs as regions, and the arrays of theirs that become operands: inputs of each, after its own.

        A program is a jaxpr, or a function of a context and values that writes the region; the jaxprs that such a
        function is going to write are listed in `within`.
        """
        arrays: dict[int, Any] = {}
        for program in (*programs, *within):
            for array in arrays_of(program):
                arrays.setdefault(id(array), array)
        operands = {key: self.array(array) for key, array in arrays.items()}
        outer = self._builder.provenance.sources[0]
        graphs = [self._one_region(p, types, operands, outer) for p, types in zip(programs, inputs, strict=True)]
        return graphs, list(operands.values())

    def _one_region(
        self, program: Any, types: Sequence[TensorType], operands: dict[int, Value], outer: Source
    ) -> Graph:
        graph = Graph()
        given = [graph.add_input(type, f"x{number}") for number, type in enumerate(types)]
        arrays = {key: graph.add_input(v.type, f"c{number}") for number, (key, v) in enumerate(operands.items())}
        walker = Walker(self._job, graph, arrays)
        walker._builder.provenance = Provenance((outer,))
        if not isinstance(program, (ClosedJaxpr, Jaxpr)):
            graph.set_outputs(list(program(walker._context, *given)))
            return graph
        jaxpr, consts = parts_of(program)
        graph.set_outputs(walker.run(jaxpr, consts, given, outer))
        return graph


def _made_up(aval: Any, dims: Dims) -> Value:
    """A value that stands for the result of a primitive without translation, so that the walk can go on."""
    try:
        return Value(type_of(aval, dims))
    except Unsupported:
        return Value(TensorType(F32, ()))


def parts_of(program: Any) -> tuple[Jaxpr, Sequence[Any]]:
    """A program and its constants, closed or not."""
    if isinstance(program, ClosedJaxpr):
        return program.jaxpr, program.consts
    return program, ()


def wanted_equations(jaxpr: Jaxpr) -> list[Any]:
    """The equations that the outputs depend on, or that have effects, in order."""
    needed = {v for v in jaxpr.outvars if not isinstance(v, Literal)}
    kept: list[Any] = []
    for equation in reversed(jaxpr.eqns):
        if equation.effects or any(v in needed for v in equation.outvars):
            kept.append(equation)
            needed.update(v for v in equation.invars if not isinstance(v, Literal))
    kept.reverse()
    return kept


def nested(equation: Any) -> list[Any]:
    """The programs among the parameters of an equation."""
    found: list[Any] = []
    for value in equation.params.values():
        listed = value if isinstance(value, (tuple, list)) else [value]
        found.extend(v for v in listed if isinstance(v, (ClosedJaxpr, Jaxpr)))
    return found


def arrays_of(program: Any) -> list[Any]:
    """The arrays with axes that a program and those inside it hold as constants or write down."""
    found: list[Any] = []
    stack = [program] if isinstance(program, (ClosedJaxpr, Jaxpr)) else []
    seen: set[int] = set()
    while stack:
        jaxpr, consts = parts_of(stack.pop())
        if id(jaxpr) in seen:
            continue
        seen.add(id(jaxpr))
        found.extend(consts)
        for equation in jaxpr.eqns:
            found.extend(v.val for v in equation.invars if isinstance(v, Literal))
            stack.extend(nested(equation))
    return [x for x in found if getattr(x, "ndim", 0) > 0 or is_key(getattr(x, "dtype", np.float64))]
