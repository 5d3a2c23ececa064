"""Walks the functions of an artefact in order and writes IR. Calls are inlined, sizes are followed as symbols.

Integers that are computed from sizes of the inputs are known as dims beside the values that they are, so that a shape
that is computed is a symbolic one. Every result is compared with the element type, the rank and the fixed extents that
the artefact declares. Regions become programs that the translations of the primitives take, with what they take from
outside as operands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from dragoman.frontends.jax.context import Context
from dragoman.frontends.jax.dims import Dims
from dragoman.frontends.jax.provenance import is_models_file, module_of, user_line
from dragoman.frontends.jax.stablehlo import operations, programs, table
from dragoman.frontends.jax.stablehlo.constants import array_of, is_splat, type_of
from dragoman.frontends.jax.table.registry import translation_of
from dragoman.frontends.refusals import Refusals
from dragoman.ir.builder import Builder
from dragoman.ir.dims import Dim, same
from dragoman.ir.errors import Malformed, TypeRuleError, Unsupported
from dragoman.ir.graph import Graph, Value
from dragoman.ir.provenance import Provenance, Source
from dragoman.ir.types import TensorType
from dragoman.ir.weights import ArrayWeight

_PLACE = re.compile(r'"([^"]+\.py)":(\d+)')
_SIZES = frozenset({"add", "subtract", "multiply", "reshape", "concatenate", "convert", "constant", "broadcast_in_dim"})
# On scalars they do nothing, and so they do nothing where a program on scalars is applied to all elements.
_OF_SHAPE = frozenset({"broadcast_in_dim", "reshape"})


@dataclass(frozen=True)
class Program:
    """The region of an operation, as translations take nested programs."""

    block: Any


class Reader:
    """Translates the functions of one artefact into one graph."""

    def __init__(
        self, functions: Mapping[str, Any], graph: Graph, dims: Dims, refusals: Refusals | None = None
    ) -> None:
        self._functions = functions
        self.graph = graph
        self._dims = dims
        self.builder = Builder(graph)
        self.context = Context(self.builder, dims)
        self.context.inline = self.inline
        self.context.lifted = self.lifted
        self.context.regions = self.regions
        self._refusals = Refusals("jax") if refusals is None else refusals
        self._values: dict[Any, Value] = {}  # of the function that is being read, by value of the artefact
        self.sizes: dict[Any, tuple[Dim, ...]] = {}  # of integers that are sizes, by value of the artefact
        self._arrays: dict[Any, Value] = {}  # constants with axes, by value of the artefact
        self._lifted = False

    def read(self, name: str, args: Sequence[Value]) -> list[Value]:
        """The results of a function. Raises ImportRefused with all that has no translation."""
        try:
            results = self.function(name, args, [None] * len(args))[0]
        except Exception:
            self._refusals.raise_if_any()
            raise
        self._refusals.raise_if_any()
        return results

    def function(
        self, name: str, args: Sequence[Value], sizes: Sequence[tuple[Dim, ...] | None]
    ) -> tuple[list[Value], list[tuple[Dim, ...] | None]]:
        """The results of a function for arguments, and the sizes that they are. Its operations are written here."""
        block = self._functions[name].regions[0].blocks[0]
        known = {a: s for a, s in zip(block.arguments, sizes, strict=True) if s is not None}
        before, self.sizes, self._values = (self.sizes, self._values), known, {}
        try:
            results = self._block(block, args)
            return results, [self.sizes.get(r) for r in programs.operations_of(block)[-1].operands]
        finally:
            self.sizes, self._values = before

    def _block(self, block: Any, args: Sequence[Value]) -> list[Value]:
        self._values.update(zip(block.arguments, args, strict=True))
        *body, last = programs.operations_of(block)
        for operation in body:
            self._operation(operation)
        if last.name not in ("func.return", "stablehlo.return"):
            raise Malformed(f"a block ends with {last.name}, not with its results")
        return [self._values[r] for r in last.operands]

    def _operation(self, operation: Any) -> None:
        source = _source_of(operation)
        self.builder.provenance = Provenance((source,))
        types = tuple(type_of(r.type) for r in operation.results)
        try:
            results = self._translated(operation, [self._values[v] for v in operation.operands], types)
            if not self._lifted:
                _check(operation, results, types)
        except (Unsupported, TypeRuleError) as refusal:
            self._refusals.add(source, str(refusal) if str(refusal) != source.operator else "")
            results = [Value(t) for t in types]
        self._values.update(zip(operation.results, results, strict=True))

    def _translated(self, operation: Any, args: list[Value], types: tuple[TensorType, ...]) -> list[Value]:
        name = operation.name.removeprefix("stablehlo.")
        if self._lifted and name in _OF_SHAPE:
            return args[:1]
        self._note_sizes(name, operation, args)
        special = operations.SPECIAL.get(name)
        if special is not None:
            return special(self, operation, args, types)
        if name in table.PLAIN:
            return self.primitive(table.PLAIN[name], args, types, {})
        reader = table.READERS.get(name)
        if reader is None:
            raise Unsupported(operation.name)
        primitive, params = reader(operation)
        return self.primitive(primitive, args, types, params)

    def value(self, value: Any) -> Value:
        """A value of the artefact as it is in the graph."""
        return self._values[value]

    def constant(self, operation: Any, type: TensorType) -> Value:
        """A scalar, a scalar for all elements, or a weight; in a region an operand of it."""
        (result,) = operation.results
        found = self._arrays.get(result)
        if found is not None:
            return found
        array = array_of(operation)
        if type.rank == 0 or is_splat(operation):
            return self.context.full(array.reshape(-1)[0].item(), type) if array.size else self._weight(array, type)
        found = self._arrays[result] = self._weight(array, type)
        return found

    def _weight(self, array: Any, type: TensorType) -> Value:
        name = f"constant{len(self.graph.weights)}"
        return self.graph.add_weight(name, ArrayWeight(array.astype(type.dtype.numpy, copy=False)))

    # ---- programs ----------------------------------------------------------------------------------------

    def inline(self, program: Program, args: Sequence[Value]) -> list[Value]:
        """The results of a region, its operations written here."""
        origin = self.builder.provenance
        try:
            return self._block(program.block, args)
        finally:
            self.builder.provenance = origin

    def lifted(self, program: Program, args: Sequence[Value]) -> list[Value]:
        """The results of a region on scalars, applied to all elements of arrays of one shape."""
        before, self._lifted = self._lifted, True
        try:
            return self.inline(program, args)
        finally:
            self._lifted = before

    def regions(
        self, given: Sequence[Any], inputs: Sequence[Sequence[TensorType]], within: Sequence[Any] = ()
    ) -> tuple[list[Graph], list[Value]]:
        """Programs as regions of the IR, and what they take from outside: operands of each, after its own.

        A program is a Program, or a function of a context and values; the ones that such a function writes are in
        `within`.
        """
        blocks = [p.block for p in (*given, *within) if isinstance(p, Program)]
        taken = {v: self._values[v] for v in programs.free_values(blocks)}
        arrays = {
            o.results[0]: self.constant(o, type_of(o.results[0].type))
            for o in programs.constants_of(blocks, self._functions)
            if not is_splat(o)
        }
        graphs = [self._region(p, types, taken, arrays) for p, types in zip(given, inputs, strict=True)]
        return graphs, [*taken.values(), *arrays.values()]

    def _region(
        self, program: Any, types: Sequence[TensorType], taken: Mapping[Any, Value], arrays: Mapping[Any, Value]
    ) -> Graph:
        graph = Graph()
        given = [graph.add_input(type, f"x{number}") for number, type in enumerate(types)]
        inner = Reader(self._functions, graph, self._dims, self._refusals)
        inner.sizes = self.sizes
        inner.builder.provenance = self.builder.provenance
        for known, values in ((inner._values, taken), (inner._arrays, arrays)):
            for key, value in values.items():
                known[key] = graph.add_input(value.type, f"c{len(graph.inputs)}")
        if isinstance(program, Program):
            graph.set_outputs(inner.inline(program, given))
        else:
            graph.set_outputs(list(program(inner.context, *given)))
        return graph

    def primitive(
        self, name: str, args: Sequence[Value], types: tuple[TensorType, ...], params: table.Params
    ) -> list[Value]:
        """The results of a primitive of JAX. Raises Unsupported for one without translation."""
        translation = translation_of(name)
        if translation is None:
            raise Unsupported(name)
        self.context.types = types
        self.context.equation = SimpleNamespace(primitive=SimpleNamespace(name=name))
        result = translation(self.context, *args, **params)
        return [result] if isinstance(result, Value) else list(result)

    # ---- sizes -----------------------------------------------------------------------------------------

    def _note_sizes(self, name: str, operation: Any, args: Sequence[Value]) -> None:
        """What the integers of a result are as dims, where they are computed from dims alone."""
        if name == "get_dimension_size":
            self.sizes[operation.results[0]] = (args[0].type.shape[table.number(operation, "dimension")],)
            return
        if name not in _SIZES or not len(operation.results):
            return
        type = type_of(operation.results[0].type)
        if type.dtype.kind not in ("int", "uint") or type.rank > 1:
            return
        if name == "constant":
            array = array_of(operation)
            if array.size <= 64:
                self.sizes[operation.results[0]] = tuple(int(n) for n in array.ravel())
            return
        given = [self.sizes.get(v) for v in operation.operands]
        if all(g is not None for g in given):
            found = _computed(name, [g for g in given if g is not None])
            if found is not None:
                self.sizes[operation.results[0]] = found

    def shape(self, value: Any) -> tuple[Dim, ...]:
        """A shape that is computed. Raises Unsupported for one that depends on the values of arrays."""
        found = self.sizes.get(value)
        if found is None:
            raise Unsupported("a size is computed from values of arrays, or by more than sums and products of sizes")
        return found


def _computed(name: str, given: Sequence[tuple[Dim, ...]]) -> tuple[Dim, ...] | None:
    if name == "concatenate":
        return tuple(d for g in given for d in g)
    if name in ("reshape", "convert", "broadcast_in_dim"):
        return given[0]
    if len(given) != 2 or len(given[0]) != len(given[1]):
        return None
    pairs = list(zip(*given, strict=True))
    if name == "add":
        return tuple(a + b for a, b in pairs)
    return tuple(a - b for a, b in pairs) if name == "subtract" else tuple(a * b for a, b in pairs)


def _check(operation: Any, results: Sequence[Value], types: Sequence[TensorType]) -> None:
    """Whether the results are what the artefact declares."""
    for result, value, type in zip(operation.results, results, types, strict=True):
        open_axes = [d == "?" for d in re.findall(r"(\d+|\?)x", str(result.type))]
        fits = value.type.dtype == type.dtype and value.type.rank == type.rank
        pairs = zip(value.type.shape, type.shape, open_axes, strict=False)
        if not fits or not all(is_open or same(a, b) for a, b, is_open in pairs):
            raise Malformed(f"{operation.name} gives {value.type}, the artefact declares {result.type}")


def _source_of(operation: Any) -> Source:
    """What JAX wrote down about where an operation comes from."""
    text = str(operation.location)
    named = re.match(r'loc\("([^"]*)"', text)
    scope = named[1].rpartition("/")[0] if named and ".py" not in named[1] else ""
    places = [(path, int(line)) for path, line in _PLACE.findall(text)]
    line = next((user_line(path, line) for path, line in places if is_models_file(path)), "")
    return Source(operation.name, module_of(scope), line)
