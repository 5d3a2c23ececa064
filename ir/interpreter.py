"""Running a graph node by node in any arithmetic. Subclass and override `run_node` to fold, trace or measure.

Iterative over nodes (sub-graphs of control flow nest as deep as the model nests them). A value is dropped after its
last use. Symbols are bound from the extents of the inputs; a data-dependent size is bound when its node has run.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import ml_dtypes
import numpy as np

from dragoman.ir.arithmetic import FLOAT64, Arithmetic, Array
from dragoman.ir.dims import Dim, DimExpr, Symbol, evaluate, substitute, symbols, terms_of
from dragoman.ir.errors import UsageError, VerifyError, printable
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.types import DType, TensorType, dtype_of
from dragoman.ir.weights import exact_values

_Plan = list[tuple[Node, tuple[Value, ...]]]  # nodes in order, each with the values that are not needed after it


class Interpreter:
    """Evaluates a graph, any number of times.

    `keep` is asked for each value whether to hold it after its last use (`values`). `symbols` may be given sizes that
    the inputs do not tell before `run`; what a run learns is forgotten when the next one begins. An input may come back
    as an output without a copy.
    """

    def __init__(
        self, graph: Graph, arithmetic: Arithmetic = FLOAT64, keep: Callable[[Value], bool] | None = None
    ) -> None:
        self.graph = graph
        self.m = arithmetic
        self.values: dict[Value, Array] = {}
        self.symbols: dict[str, int] = {}
        self._keep = keep
        self._learnt: set[str] = set()
        self._shapes: dict[TensorType, tuple[int, ...]] = {}  # of symbolic types, in this run
        self._plans: dict[Graph, _Plan] = {}  # of this run's graph and regions
        self._is_region = False

    def run(self, inputs: Sequence[Any]) -> list[Array]:
        """The outputs for inputs given in order, as arrays of the arithmetic. Raises UsageError for a wrong input."""
        self._forget()
        with np.errstate(all="ignore"):
            self._bind_inputs(inputs)
            for node, dead in self._plan():
                self._step(node)
                for value in dead:
                    self.values.pop(value, None)
            outputs = [self._get(v) for v in self.graph.outputs]
        if self._keep is None:
            self.values.clear()
        return outputs

    def run_node(self, node: Node, operands: Sequence[Array | None]) -> tuple[Array, ...]:
        """The results of one node; operands are in the arithmetic's form."""
        op = node.op.substitute(self.symbols) if node.op.is_symbolic else node.op
        loaded = [
            self.m.load(x, v.type.dtype) if v is not None else None
            for x, v in zip(operands, node.operands, strict=True)
        ]
        extra = {"run": self.run_region} if op.regions else {}
        results = op.reference(self.m, *loaded, **extra)
        listed = tuple(results) if isinstance(results, (tuple, list)) else (results,)
        if len(listed) != len(node.results):
            raise VerifyError(f"{op.name} computed {len(listed)} results, its type rule says {len(node.results)}")
        return tuple([self.m.store(r, v.type.dtype) for r, v in zip(listed, node.results, strict=True)])

    def run_region(self, region: Graph, operands: Sequence[Array]) -> list[Array]:
        """Run a sub-graph on arrays of the arithmetic, in an interpreter of this one's class."""
        return self.within(region).run(operands)

    def within(self, region: Graph) -> Self:
        """A copy of this interpreter for a sub-graph: all but the values of its run is shared."""
        inner = copy.copy(self)
        inner.graph, inner._is_region, inner._keep = region, True, None
        inner.values, inner.symbols, inner._learnt, inner._shapes = {}, dict(self.symbols), set(), {}
        return inner

    def _forget(self) -> None:
        for name in self._learnt:
            self.symbols.pop(name, None)
        self._learnt.clear()
        self._shapes.clear()
        self.values.clear()
        if not self._is_region:
            self._plans.clear()  # the graph may have been edited since

    def _bind_inputs(self, inputs: Sequence[Any]) -> None:
        declared = self.graph.inputs
        if len(inputs) != len(declared):
            names = ", ".join(v.name for v in declared)
            raise UsageError(f"the graph takes {len(declared)} inputs ({names}), got {len(inputs)}")
        given = [_checked(x, v, self.m) for x, v in zip(inputs, declared, strict=True)]
        shapes = [(v.type, tuple(x.shape), v.name) for x, v in zip(given, declared, strict=True)]
        self._learn(bind_shapes(shapes, self.symbols))
        self.values.update((v, self.m.embed(x, v.type.dtype)) for x, v in zip(given, declared, strict=True))

    def _learn(self, bound: Mapping[str, int]) -> None:
        self._learnt.update(bound.keys() - self.symbols.keys())
        self.symbols.update(bound)

    def _step(self, node: Node) -> None:
        try:
            operands = [self._get(v) if v is not None else None for v in node.operands]
            results = self.run_node(node, operands)
            for value, result in zip(node.results, results, strict=True):
                self._check_shape(value, result)
                self.values[value] = result
        except Exception as error:
            origin = f" from {node.provenance}" if str(node.provenance) else ""
            error.add_note(printable(f"while running {node}{origin}"))
            raise

    def _check_shape(self, value: Value, result: Array) -> None:
        shape = tuple(result.shape)
        type = value.type
        expected = type.shape if type.is_static else self._shapes.get(type)
        if expected is None:
            name = value.producer.op.name if value.producer else value.name
            self._learn(bind_shapes([(type, shape, name)], self.symbols))
            self._shapes[type] = shape
        elif shape != expected:
            raise VerifyError(f"the shape computed is {list(shape)}, that of its type {type} is {list(expected)}")

    def _get(self, value: Value) -> Array:
        found = self.values.get(value)
        if found is None and value.weight is not None:
            values = value.weight.array() if self.m.rounds else exact_values(value.weight)
            return self.m.embed(values, value.type.dtype)
        if found is None:
            raise UsageError(f"{value} has no value yet")
        return found

    def _plan(self) -> _Plan:
        found = self._plans.get(self.graph)
        if found is None:
            found = self._plans[self.graph] = list(_with_last_uses(self.graph, self._keep))
        return found


def _with_last_uses(graph: Graph, keep: Callable[[Value], bool] | None) -> Iterable[tuple[Node, tuple[Value, ...]]]:
    last: dict[Value, Node] = {}
    for node in graph:
        last.update((result, node) for result in node.results)
        last.update((value, node) for value in node.operands if value is not None and value.weight is None)
    kept = set(graph.outputs)
    dead: dict[Node, list[Value]] = {}
    for value, node in last.items():
        if value not in kept and not (keep and keep(value)):
            dead.setdefault(node, []).append(value)
    return [(node, tuple(dead.get(node, ()))) for node in graph]


# ---- inputs and their shapes -----------------------------------------------------------------------------

_REAL = {"bool", "int", "uint", "float"}
# The kinds of numbers that may be given for a declared kind: all that it holds without loss of meaning.
_ACCEPTED: dict[str, set[str]] = {
    "bool": {"bool", "int", "uint"},
    "int": {"bool", "int", "uint"},
    "uint": {"bool", "int", "uint"},
    "float": _REAL,
    "complex": _REAL | {"complex"},
    "string": {"string"},
}


def _checked(given: Any, value: Value, m: Arithmetic) -> Any:
    """An input as an array that its declared type can take."""
    if not isinstance(given, np.ndarray) and hasattr(given, "shape") and m.holds(given):
        return given  # already in the arithmetic's form
    array = np.asarray(given)
    declared, found = value.type.dtype, dtype_of(array)
    if found.kind not in _ACCEPTED[declared.kind]:
        raise UsageError(f"{value.name!r} should be {value.type}, got {found}{list(array.shape)}")
    if declared.is_integer and found != declared and not _in_range(array, declared):
        raise UsageError(f"{value.name!r} should be {value.type}; some of the {found} given are out of its range")
    return array


def _in_range(array: Any, dtype: DType) -> bool:
    limits = ml_dtypes.iinfo(dtype.numpy)
    return not array.size or int(limits.min) <= int(array.min()) <= int(array.max()) <= int(limits.max)


def bind_shape(type: TensorType, shape: Sequence[int], known: Mapping[str, int], name: str) -> dict[str, int]:
    """Values of the symbols in a type, read off a real shape. Raises UsageError where the shape does not fit."""
    return bind_shapes([(type, shape, name)], known)


def bind_shapes(given: Iterable[tuple[TensorType, Sequence[int], str]], known: Mapping[str, int]) -> dict[str, int]:
    """Values of the symbols in some types, read off real shapes together: each may tell what another needs.

    Raises UsageError where a shape does not fit its type, a size cannot be told, or a symbol is out of its range.
    """
    given = list(given)
    for type, shape, name in given:
        if len(shape) != type.rank:
            raise UsageError(f"{name!r} should be {type}, got rank {len(shape)}: {list(shape)}")
    bound = dict(known)
    unsolved = [(d, e) for t, shape, _ in given for d, e in zip(t.shape, shape, strict=True) if isinstance(d, DimExpr)]
    while unsolved:
        before = len(bound)
        for dim, extent in unsolved:
            bound.update(_solve(dim, extent, bound))
        if len(bound) == before:
            break
    for type, shape, name in given:
        for axis, (dim, extent) in enumerate(zip(type.shape, shape, strict=True)):
            _check_extent(type, shape, name, axis, dim, extent, bound)
        for symbol in type.symbols().values():
            _check_range(symbol, bound[symbol.name], name)
    return bound


def _check_extent(
    type: TensorType, shape: Sequence[int], name: str, axis: int, dim: Dim, extent: int, bound: Mapping[str, int]
) -> None:
    expected = substitute(dim, bound)
    if isinstance(expected, DimExpr):
        why = "it is no value of that" if len(symbols(expected)) == 1 else "too few sizes are known"
        raise UsageError(
            f"{name!r} should be {type}, got {list(shape)}: axis {axis}, {extent}, does not tell {dim}: {why}"
        )
    if expected != extent:
        told = f"{dim} = {expected}" if isinstance(dim, DimExpr) else str(dim)
        raise UsageError(f"{name!r} should be {type}, got {list(shape)}: axis {axis} is {extent}, not {told}")


def _solve(dim: DimExpr, extent: int, bound: Mapping[str, int]) -> dict[str, int]:
    """The value of the one unknown symbol of `c·s + k = extent`; empty if there is none or it has another form."""
    open_form: Dim = substitute(dim, bound)
    unknown = symbols(open_form)
    if len(unknown) != 1:
        return {}
    (symbol,) = unknown.values()
    coefficient = dict(terms_of(open_form)).get(((symbol, 1),), 0)
    constant = open_form - symbol.dim * coefficient
    if not coefficient or not isinstance(constant, int) or (extent - constant) % coefficient:
        return {}
    return {symbol.name: (extent - constant) // coefficient}


def _check_range(symbol: Symbol, extent: int, name: str) -> None:
    if not symbol.low <= extent <= symbol.high:
        raise UsageError(f"{name!r}: {symbol.name} = {extent} is outside its range {symbol.low}..{symbol.high}")


def run(graph: Graph, *inputs: Any, arithmetic: Arithmetic = FLOAT64) -> list[Any]:
    """The outputs of a graph for these inputs in one call, as NumPy arrays (float64 for the default arithmetic)."""
    outputs = Interpreter(graph, arithmetic).run(inputs)
    return [arithmetic.extract(x, v.type.dtype) for x, v in zip(outputs, graph.outputs, strict=True)]


def evaluate_type(type: TensorType, values: Mapping[str, int]) -> tuple[int, ...]:
    """The shape that a type has when its symbols have these values."""
    return tuple(evaluate(d, values) for d in type.shape)
