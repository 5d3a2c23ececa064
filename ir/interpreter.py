"""Running a graph node by node in any arithmetic. Subclass and override `run_node` to fold, trace or measure.

Iterative over nodes (sub-graphs of control flow nest as deep as the model nests them). A value is dropped after its last use. Symbols are
bound from the extents of the inputs; a data-dependent size is bound when its node has run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dragoman.ir.arithmetic import FLOAT64, Arithmetic, Array
from dragoman.ir.dims import Dim, DimExpr, Symbol, evaluate, substitute, symbols, terms_of
from dragoman.ir.errors import DragomanError, UsageError
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.types import TensorType


class Interpreter:
    """Evaluates a graph. `keep` is asked for each value whether to hold it after its last use (`self.values`)."""

    def __init__(
        self, graph: Graph, arithmetic: Arithmetic = FLOAT64, keep: Callable[[Value], bool] | None = None
    ) -> None:
        self.graph = graph
        self.m = arithmetic
        self.values: dict[Value, Array] = {}
        self.symbols: dict[str, int] = {}
        self._keep = keep
        self._plain: dict[Any, bool] = {}

    def run(self, inputs: Sequence[Any]) -> list[Array]:
        """The outputs for inputs given in order, as arrays of the arithmetic. Raises UsageError for a wrong input."""
        graph = self.graph
        if len(inputs) != len(graph.inputs):
            names = ", ".join(v.name for v in graph.inputs)
            raise UsageError(f"the graph takes {len(graph.inputs)} inputs ({names}), got {len(inputs)}")
        for value, given in zip(graph.inputs, inputs, strict=True):
            self.symbols.update(bind_shape(value.type, tuple(np.shape(given)), self.symbols, value.name))
            self.values[value] = self.m.embed(given, value.type.dtype)
        last = self._last_uses()
        for node in graph:
            self._step(node)
            for value in last.get(node, ()):
                self.values.pop(value, None)
        outputs = [self._get(v) for v in graph.outputs]
        if self._keep is None:
            self.values.clear()
        return outputs

    def run_node(self, node: Node, operands: Sequence[Array | None]) -> tuple[Array, ...]:
        """The results of one node; operands are in the arithmetic's form."""
        op = node.op.substitute(self.symbols) if self._is_symbolic(node) else node.op
        loaded = [
            self.m.load(x, v.type.dtype) if v is not None else None
            for x, v in zip(operands, node.operands, strict=True)
        ]
        if op.regions:
            results = op.reference(self.m, *loaded, run=self.run_region)  # type: ignore[attr-defined]
        else:
            results = op.reference(self.m, *loaded)
        listed = tuple(results) if isinstance(results, (tuple, list)) else (results,)
        return tuple(self.m.store(r, v.type.dtype) for r, v in zip(listed, node.results, strict=True))

    def run_region(self, region: Graph, operands: Sequence[Array]) -> list[Array]:
        """Run a sub-graph on arrays of the arithmetic."""
        inner = type(self)(region, self.m)
        inner.symbols.update(self.symbols)
        return inner.run(operands)

    def _step(self, node: Node) -> None:
        operands = [self._get(v) if v is not None else None for v in node.operands]
        try:
            with np.errstate(all="ignore"):
                results = self.run_node(node, operands)
        except DragomanError:
            raise
        except Exception as error:
            error.add_note(f"while running {node} from {node.provenance}")
            raise
        for value, result in zip(node.results, results, strict=True):
            if not value.type.is_static:
                self.symbols.update(bind_shape(value.type, tuple(result.shape), self.symbols, node.op.name))
            self.values[value] = result

    def _get(self, value: Value) -> Array:
        found = self.values.get(value)
        if found is None and value.weight is not None:
            return self.m.embed(value.weight.array(), value.type.dtype)
        if found is None:
            raise UsageError(f"{value} has no value yet")
        return found

    def _is_symbolic(self, node: Node) -> bool:
        known = self._plain.get(node.op)
        if known is None:
            known = self._plain[node.op] = bool(node.op.symbols())
        return known

    def _last_uses(self) -> dict[Node, list[Value]]:
        last: dict[Value, Node] = {}
        for node in self.graph:
            for result in node.results:
                last[result] = node
            for value in node.operands:
                if value is not None and value.weight is None:
                    last[value] = node
        kept = set(self.graph.outputs)
        dropped: dict[Node, list[Value]] = {}
        for value, node in last.items():
            if value not in kept and not (self._keep and self._keep(value)):
                dropped.setdefault(node, []).append(value)
        return dropped


def bind_shape(type: TensorType, shape: Sequence[int], known: Mapping[str, int], name: str) -> dict[str, int]:
    """Values of the symbols in a type, read off a real shape. Raises UsageError where the shape does not fit."""
    if len(shape) != type.rank:
        raise UsageError(f"{name!r} should be {type}, got rank {len(shape)}: {list(shape)}")
    bound = dict(known)
    for dim, extent in zip(type.shape, shape, strict=True):  # bare symbols first: expressions may need them
        if isinstance(dim, DimExpr) and len(solution := _solve(dim, extent, bound)) == 1:
            bound.update(solution)
    for axis, (dim, extent) in enumerate(zip(type.shape, shape, strict=True)):
        expected = substitute(dim, bound)
        if isinstance(expected, DimExpr):
            raise UsageError(f"{name!r}: the dimension {dim} at axis {axis} cannot be solved from {list(shape)}")
        if expected != extent:
            raise UsageError(
                f"{name!r} should be {type}, got {list(shape)}: axis {axis} is {extent}, not {dim} = {expected}"
            )
    for symbol in type.symbols().values():
        _check_range(symbol, bound[symbol.name], name)
    return bound


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
    interpreter = Interpreter(graph, arithmetic)
    outputs = interpreter.run(inputs)
    return [arithmetic.extract(x, v.type.dtype) for x, v in zip(outputs, graph.outputs, strict=True)]


def evaluate_type(type: TensorType, values: Mapping[str, int]) -> tuple[int, ...]:
    """The shape that a type has when its symbols have these values."""
    return tuple(evaluate(d, values) for d in type.shape)
