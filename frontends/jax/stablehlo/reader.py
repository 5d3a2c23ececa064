"""Walks the functions of an artefact in order and writes IR. Calls are inlined, sizes are followed as symbols.

Integers that are computed from sizes of the inputs are known as dims beside the values that they are, so that a shape
that is computed is a symbolic one. Every result is compared with the element type, the rank and the fixed extents that
the artefact declares. Custom calls are taken by an allow-list: only those that compute nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from dragoman.frontends.jax.context import Context
from dragoman.frontends.jax.dims import Dims
from dragoman.frontends.jax.provenance import is_models_file, module_of, user_line
from dragoman.frontends.jax.stablehlo import table
from dragoman.frontends.jax.table.registry import translation_of
from dragoman.frontends.refusals import Refusals
from dragoman.ir.builder import Builder
from dragoman.ir.dims import Dim, same
from dragoman.ir.errors import Malformed, TypeRuleError, Unsupported
from dragoman.ir.graph import Graph, Value
from dragoman.ir.provenance import Provenance, Source
from dragoman.ir.types import TensorType, dtype_of
from dragoman.ir.weights import ArrayWeight

_DTYPES: Mapping[str, Any] = {
    "i1": np.bool_,
    **{f"{letter}i{n}" if letter else f"i{n}": f"{letter}int{n}" for letter in ("", "u") for n in (8, 16, 32, 64)},
    "f16": np.float16,
    "f32": np.float32,
    "f64": np.float64,
    "bf16": ml_dtypes.bfloat16,
    "i4": ml_dtypes.int4,
    "ui4": ml_dtypes.uint4,
    "f8E4M3FN": ml_dtypes.float8_e4m3fn,
    "f8E5M2": ml_dtypes.float8_e5m2,
    "complex<f32>": np.complex64,
    "complex<f64>": np.complex128,
}
# Custom calls that compute nothing where there is one device: their operands come back, or nothing does.
_ALLOWED = {"Sharding": True, "SPMDFullToShardShape": True, "SPMDShardToFullShape": True, "shape_assertion": False}
_PLACE = re.compile(r'"([^"]+\.py)":(\d+)')
_Translation = Callable[[Any, list[Value], tuple[TensorType, ...]], list[Value]]
_SIZES = frozenset({"add", "subtract", "multiply", "reshape", "concatenate", "convert", "constant", "broadcast_in_dim"})


class Reader:
    """Translates the functions of one artefact into one graph."""

    def __init__(self, functions: Mapping[str, Any], graph: Graph, dims: Dims) -> None:
        self._functions = functions
        self._graph = graph
        self._builder = Builder(graph)
        self._context = Context(self._builder, dims)
        self._refusals = Refusals("jax")
        self._sizes: dict[Any, tuple[Dim, ...]] = {}  # of integers that are sizes, by value of the artefact
        self._special: Mapping[str, _Translation] = {
            "constant": self._constant,
            "get_dimension_size": self._size,
            "func.call": self._call,
            "custom_call": self._custom_call,
            "broadcast_in_dim": self._broadcast,
            "dynamic_broadcast_in_dim": self._broadcast,
            "reshape": self._reshape,
            "dynamic_reshape": self._reshape,
            "iota": self._iota,
            "dynamic_iota": self._iota,
            "real_dynamic_slice": self._slice,
            "gather": self._gather,
            "dynamic_gather": self._gather,
            "convert": self._convert,
            "select": self._select,
            "reduce": self._reduce,
            "reduce_window": self._reduce_window,
            "optimization_barrier": lambda operation, args, types: args,
        }

    def read(self, name: str, args: Sequence[Value]) -> list[Value]:
        """The results of a function. Raises ImportRefused with all that has no translation."""
        try:
            results = self._function(name, args, [None] * len(args))[0]
        except Exception:
            self._refusals.raise_if_any()
            raise
        self._refusals.raise_if_any()
        return results

    def _function(
        self, name: str, args: Sequence[Value], sizes: Sequence[tuple[Dim, ...] | None]
    ) -> tuple[list[Value], list[tuple[Dim, ...] | None]]:
        block = self._functions[name].regions[0].blocks[0]
        values: dict[Any, Value] = dict(zip(block.arguments, args, strict=True))
        known = {a: s for a, s in zip(block.arguments, sizes, strict=True) if s is not None}
        before, self._sizes = self._sizes, known
        try:
            for op in block.operations:
                operation = op.operation
                if operation.name == "func.return":
                    results = list(operation.operands)
                    return [values[r] for r in results], [self._sizes.get(r) for r in results]
                self._operation(operation, values)
        finally:
            self._sizes = before
        raise Malformed(f"the function {name} does not return")

    def _operation(self, operation: Any, values: dict[Any, Value]) -> None:
        source = _source_of(operation)
        self._builder.provenance = Provenance((source,))
        types = tuple(_type_of(r.type) for r in operation.results)
        try:
            results = self._translated(operation, [values[v] for v in operation.operands], types)
            _check(operation, results, types)
        except (Unsupported, TypeRuleError) as refusal:
            self._refusals.add(source, str(refusal) if str(refusal) != source.operator else "")
            results = [Value(t) for t in types]
        values.update(zip(operation.results, results, strict=True))

    def _translated(self, operation: Any, args: list[Value], types: tuple[TensorType, ...]) -> list[Value]:
        name = operation.name.removeprefix("stablehlo.")
        self._note_sizes(name, operation, args)
        special = self._special.get(name)
        if special is not None:
            return special(operation, args, types)
        if name in table.PLAIN:
            return self._primitive(table.PLAIN[name], args, types, {})
        reader = table.READERS.get(name)
        if reader is None:
            raise Unsupported(operation.name)
        primitive, params = reader(operation)
        return self._primitive(primitive, args, types, params)

    def _primitive(
        self, name: str, args: Sequence[Value], types: tuple[TensorType, ...], params: table.Params
    ) -> list[Value]:
        translation = translation_of(name)
        if translation is None:
            raise Unsupported(name)
        self._context.types = types
        result = translation(self._context, *args, **params)
        return [result] if isinstance(result, Value) else list(result)

    # ---- sizes -----------------------------------------------------------------------------------------

    def _note_sizes(self, name: str, operation: Any, args: Sequence[Value]) -> None:
        """What the integers of a result are as dims, where they are computed from dims alone."""
        if name == "get_dimension_size":
            self._sizes[operation.results[0]] = (args[0].type.shape[table.number(operation, "dimension")],)
            return
        if name not in _SIZES or not len(operation.results):
            return
        type = _type_of(operation.results[0].type)
        if type.dtype.kind not in ("int", "uint") or type.rank > 1:
            return
        if name == "constant":
            array = _array(operation)
            if array.size <= 64:
                self._sizes[operation.results[0]] = tuple(int(n) for n in array.ravel())
            return
        given = [self._sizes.get(v) for v in operation.operands]
        if all(g is not None for g in given):
            found = _computed(name, [g for g in given if g is not None])
            if found is not None:
                self._sizes[operation.results[0]] = found

    def _shape(self, value: Any) -> tuple[Dim, ...]:
        """A shape that is computed. Raises Unsupported for one that depends on the values of arrays."""
        found = self._sizes.get(value)
        if found is None:
            raise Unsupported("a size is computed from values of arrays, or by more than sums and products of sizes")
        return found

    # ---- operations with a form of their own -------------------------------------------------------------

    def _constant(self, operation: Any, args: list[Value], types: tuple[TensorType, ...]) -> list[Value]:
        (type,) = types
        array = _array(operation)
        if type.rank == 0:
            return [self._builder.const(array.reshape(()).item(), type.dtype)]
        name = f"constant{len(self._graph.weights)}"
        return [self._graph.add_weight(name, ArrayWeight(array.astype(type.dtype.numpy, copy=False)))]

    def _size(self, operation: Any, args: list[Value], types: tuple[TensorType, ...]) -> list[Value]:
        (dim,) = self._sizes[operation.results[0]]
        return [self._builder.extent(dim, types[0].dtype)]

    def _call(self, operation: Any, args: list[Value], types: tuple[TensorType, ...]) -> list[Value]:
        sizes = [self._sizes.get(v) for v in operation.operands]
        callee = str(operation.attributes["callee"]).removeprefix("@").strip('"')
        results, known = self._function(callee, args, sizes)
        self._sizes.update({r: s for r, s in zip(operation.results, known, strict=True) if s is not None})
        return results

    def _custom_call(self, operation: Any, args: list[Value], types: tuple[TensorType, ...]) -> list[Value]:
        target = str(operation.attributes["call_target_name"]).strip('"')
        if target not in _ALLOWED:
            allowed = ", ".join(sorted(_ALLOWED))
            raise Unsupported(f"the custom call {target!r} runs code that is not in the file; allowed are {allowed}")
        return args[: len(types)] if _ALLOWED[target] else []

    def _broadcast(self, operation: Any, args: list[Value], types: tuple[TensorType, ...]) -> list[Value]:
        shape = self._shape(operation.operands[1]) if len(args) > 1 else types[0].shape
        places = table.numbers(operation, "broadcast_dimensions")
        params = {"shape": shape, "broadcast_dimensions": places}
        return self._primitive("broadcast_in_dim", args[:1], types, params)

    def _reshape(self, operation: Any, args: list[Value], types: tuple[TensorType, ...]) -> list[Value]:
        shape = self._shape(operation.operands[1]) if len(args) > 1 else types[0].shape
        return self._primitive("reshape", args[:1], types, {"new_sizes": shape})

    def _iota(self, operation: Any, args: list[Value], types: tuple[TensorType, ...]) -> list[Value]:
        shape = self._shape(operation.operands[0]) if args else types[0].shape
        types = (types[0].with_shape(shape),)
        return self._primitive("iota", (), types, {"dimension": table.number(operation, "iota_dimension")})

    def _slice(self, operation: Any, args: list[Value], types: tuple[TensorType, ...]) -> list[Value]:
        names = ("start_indices", "limit_indices", "strides")
        shapes = [self._shape(v) for v in list(operation.operands)[1:]]
        return self._primitive("slice", args[:1], types, dict(zip(names, shapes, strict=True)))

    def _gather(self, operation: Any, args: list[Value], types: tuple[TensorType, ...]) -> list[Value]:
        dynamic = len(args) > 2
        sizes = self._shape(operation.operands[2]) if dynamic else table.numbers(operation, "slice_sizes")
        return self._primitive("gather", args[:2], types, table.gather_params(operation, sizes))

    def _convert(self, operation: Any, args: list[Value], types: tuple[TensorType, ...]) -> list[Value]:
        return self._primitive("convert_element_type", args, types, {"new_dtype": types[0].dtype.numpy})

    def _select(self, operation: Any, args: list[Value], types: tuple[TensorType, ...]) -> list[Value]:
        which, then, otherwise = args
        return self._primitive("select_n", [which, otherwise, then], types, {})

    def _reduce(self, operation: Any, args: list[Value], types: tuple[TensorType, ...]) -> list[Value]:
        """Along axes by one operation, then with the initial value."""
        primitive = table.REDUCTIONS.get(_only_operation(operation))
        if primitive is None or len(args) != 2:
            raise Unsupported(f"{operation.name} by more than one sum, product, maximum, minimum, and, or")
        params = {"axes": table.numbers(operation, "dimensions")}
        found = self._primitive(primitive, args[:1], types, params)
        return self._with_initial(_only_operation(operation), found, args[1], types)

    def _reduce_window(self, operation: Any, args: list[Value], types: tuple[TensorType, ...]) -> list[Value]:
        primitive = table.WINDOWS.get(_only_operation(operation))
        if primitive is None or len(args) != 2:
            raise Unsupported(f"{operation.name} by more than one sum, maximum or minimum")
        found = self._primitive(primitive, args[:1], types, table.window_params(operation))
        return self._with_initial(_only_operation(operation), found, args[1], types)

    def _with_initial(
        self, name: str, found: list[Value], initial: Value, types: tuple[TensorType, ...]
    ) -> list[Value]:
        """Combined with the initial value; the rules drop one that changes nothing."""
        combine = table.PLAIN[name.removeprefix("stablehlo.")]
        return self._primitive(combine, [found[0], initial], types, {})


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


def _type_of(type: Any) -> TensorType:
    """A tensor type of the artefact; extents that it leaves open are 1 here. Raises Unsupported."""
    text = re.fullmatch(r"tensor<(?P<dims>(?:(?:\d+|\?)x)*)(?P<dtype>[^,]+?)(?:, .*)?>", str(type))
    if text is None or text["dtype"] not in _DTYPES:
        raise Unsupported(f"a value is {type}")
    dims = [d for d in text["dims"].split("x") if d]
    return TensorType(dtype_of(np.dtype(_DTYPES[text["dtype"]])), tuple(1 if d == "?" else int(d) for d in dims))


def _check(operation: Any, results: Sequence[Value], types: Sequence[TensorType]) -> None:
    """Whether the results are what the artefact declares."""
    for result, value, type in zip(operation.results, results, types, strict=True):
        open_axes = [d == "?" for d in re.findall(r"(\d+|\?)x", str(result.type))]
        fits = value.type.dtype == type.dtype and value.type.rank == type.rank
        pairs = zip(value.type.shape, type.shape, open_axes, strict=False)
        if not fits or not all(is_open or same(a, b) for a, b, is_open in pairs):
            raise Malformed(f"{operation.name} gives {value.type}, the artefact declares {result.type}")


def _only_operation(operation: Any) -> str:
    """The operation that a region applies to its two arguments; empty if it does more."""
    inner = [o.operation for o in operation.regions[0].blocks[0].operations]
    arguments = list(operation.regions[0].blocks[0].arguments)
    plain = len(inner) == 2 and len(arguments) == 2 and set(inner[0].operands) == set(arguments)
    return inner[0].name if plain else ""


def _array(operation: Any) -> Any:
    """The elements of a constant."""
    attribute = operation.attributes["value"]
    type = _type_of(attribute.type)
    dtype = type.dtype.numpy
    shape = tuple(int(d) for d in type.shape if isinstance(d, int))
    if attribute.is_splat:
        return np.full(shape, attribute.get_splat_value().value).astype(dtype)
    if type.dtype.kind != "bool":
        try:
            return np.array(attribute, copy=True).reshape(shape)
        except (TypeError, ValueError, RuntimeError, BufferError):  # element types that the buffer protocol lacks
            pass
    return np.array(list(attribute)).astype(dtype).reshape(shape)


def _source_of(operation: Any) -> Source:
    """What JAX wrote down about where an operation comes from."""
    text = str(operation.location)
    named = re.match(r'loc\("([^"]*)"', text)
    scope = named[1].rpartition("/")[0] if named and ".py" not in named[1] else ""
    places = [(path, int(line)) for path, line in _PLACE.findall(text)]
    line = next((user_line(path, line) for path, line in places if is_models_file(path)), "")
    return Source(operation.name, module_of(scope), line)
