"""The verifier: structure, types inferred again, symbols, and which ops are legal at a level.

Runs after every pass. An error shows the op it happened in, where that comes from, and its surroundings.
"""

from __future__ import annotations

from collections.abc import Callable

from dragoman.ir.dims import Symbol
from dragoman.ir.errors import DragomanError, VerifyError
from dragoman.ir.graph import Graph, Node, Return, Value
from dragoman.ir.op import Op
from dragoman.ir.parser import MAX_DEPTH
from dragoman.ir.text import excerpt
from dragoman.ir.types import TensorType, same_type
from dragoman.ir.weights import weight_type

Level = Callable[[type[Op]], str | None]
"""A level of the IR: the reason why an op class is not legal in it, or None."""


def anything(op: type[Op]) -> str | None:
    """The level of a graph just imported: every op."""
    return None


def primitives(op: type[Op]) -> str | None:
    """The level at which only primitives are left."""
    return "it is composite: legalise it" if op.is_composite() else None


def verify(graph: Graph, level: Level = anything) -> None:
    """Raise VerifyError unless the graph is sound at a level. Linear in nodes; sub-graphs are verified as well."""
    stack: list[tuple[Graph, tuple[Graph, ...], str, dict[str, Symbol]]] = [(graph, (), "", {})]
    while stack:
        current, outer, where, symbols = stack.pop()
        check = _Check(current, level, where, symbols)
        if current in outer:
            raise VerifyError(f"{where}a sub-graph contains itself")
        if len(outer) >= MAX_DEPTH:
            raise VerifyError(f"{where}sub-graphs are nested more than {MAX_DEPTH} deep")
        check.run()
        for node, known in check.with_regions:
            for index, region in enumerate(node.op.regions):
                stack.append((region, (*outer, current), f"{where}{node.op.name}#{index}: ", known))


class _Check:
    """One graph, without its sub-graphs."""

    def __init__(self, graph: Graph, level: Level, where: str, symbols: dict[str, Symbol]) -> None:
        self.graph = graph
        self.level = level
        self.where = where
        self.symbols = dict(symbols)  # bound so far: by the outer graph, by inputs, by data-dependent results
        self.defined: set[Value] = set()
        self.sound_types: set[TensorType] = set()  # those whose symbols have been looked at
        self.with_regions: list[tuple[Node, dict[str, Symbol]]] = []  # and what is bound where they stand

    def run(self) -> None:
        """Raise VerifyError for the first thing wrong."""
        self._inputs_and_weights()
        previous: Node | None = None
        count = 0
        for node in self.graph:
            if node.previous is not previous or node.graph is not self.graph:
                raise self._error(f"the node list is broken at {node}")
            previous, count = node, count + 1
            self._node(node)
        if self.graph.terminator.previous is not previous or count != len(self.graph):
            raise self._error(f"the node list is broken at its end: {count} of {len(self.graph)} nodes were met")
        self._outputs()
        self._uses()

    def _error(self, message: str, node: Node | None = None) -> VerifyError:
        if node is None:
            return VerifyError(f"{self.where}{message}")
        origin = f"\n  from {node.provenance}" if str(node.provenance) else ""
        return VerifyError(f"{self.where}{message}{origin}\n{excerpt(self.graph, node)}")

    def _inputs_and_weights(self) -> None:
        names: set[str] = set()
        for value in self.graph.inputs:
            if value.name in names:
                raise self._error(f"two inputs are named {value.name!r}")
            if value.producer is not None or value.weight is not None:
                raise self._error(f"the input {value.name!r} is {value}")
            names.add(value.name)
            self._bind(value.type, f"the input {value.name!r}", None)
        if self.where and self.graph.weights:
            named = next(iter(self.graph.weights))
            raise self._error(f"a sub-graph has weights of its own; pass them as operands: {named!r}")
        for name, value in self.graph.weights.items():
            if value.weight is None or value.producer is not None:
                raise self._error(f"the weight {name!r} is {value}")
            if value.name != name:
                raise self._error(f"the weight {value.name!r} is listed as {name!r}")
            if not same_type(value.type, weight_type(value.weight)):
                raise self._error(f"the weight {name!r} is {value.type}, its elements are {weight_type(value.weight)}")
        self.defined = {*self.graph.inputs, *self.graph.weights.values()}

    def _node(self, node: Node) -> None:
        self._operands(node)
        illegal = self.level(type(node.op))
        if illegal:
            raise self._error(f"{node.op.name} is not legal here: {illegal}", node)
        if isinstance(node.op, Return):
            raise self._error("return stands before the end", node)
        try:
            types = node.op.result_types(node.operand_types)
        except DragomanError as error:
            raise self._error(str(error), node) from None
        if len(types) != len(node.results):
            raise self._error(f"{node.op.name} has {len(node.results)} results, its type rule {len(types)}", node)
        for index, (result, inferred) in enumerate(zip(node.results, types, strict=True)):
            if result.producer is not node or result.index != index or result.weight is not None:
                raise self._error(f"result {index} of {node.op.name} does not know its producer", node)
            if not same_type(result.type, inferred):
                raise self._error(f"{node.op.name} gives {inferred}, the graph says {result.type}", node)
        self._symbols(node)
        self.defined.update(node.results)
        if node.op.regions:
            self.with_regions.append((node, dict(self.symbols)))

    def _operands(self, node: Node) -> None:
        for index, value in enumerate(node.operands):
            if value is None:
                continue
            if value not in self.defined:
                raise self._error(f"operand {index} of {node.op.name} {self._why_undefined(value)}", node)
            if (node, index) not in value.uses:
                raise self._error(f"operand {index} of {node.op.name}, {value}, does not list this use", node)

    def _why_undefined(self, value: Value) -> str:
        if value.producer is None:
            return f"is {value}, which does not belong to this graph"
        if value.producer.graph is self.graph:
            return f"is used before it is defined, by {value.producer}"
        return "is the result of a node that was erased or is in another graph"

    def _symbols(self, node: Node) -> None:
        if node.op.is_symbolic and not node.op.data_dependent:
            unknown = sorted(node.op.symbols() - self.symbols.keys())
            if unknown:
                raise self._error(f"{node.op.name} needs the size {unknown[0]}, which nothing before it tells", node)
        for result in node.results:
            if not result.type.is_static:
                self._bind(result.type, f"a result of {node.op.name}", node)

    def _bind(self, type: TensorType, what: str, node: Node | None) -> None:
        """Learn the symbols of an input or of a data-dependent result; each name has one range."""
        if type in self.sound_types:
            return
        for name, symbol in type.symbols().items():
            known = self.symbols.get(name)
            if known is None and (node is None or node.op.data_dependent or node.op.regions):
                self.symbols[name] = symbol
            elif known is None:
                raise self._error(f"{what} is {type}, but nothing before it tells the size {name}", node)
            elif known != symbol:
                ranges = f"{symbol.low}..{symbol.high} and {known.low}..{known.high}"
                raise self._error(f"{what} is {type}, where {name} has two ranges: {ranges}", node)
        self.sound_types.add(type)

    def _outputs(self) -> None:
        terminator = self.graph.terminator
        if not isinstance(terminator.op, Return) or terminator.graph is not self.graph or terminator.next is not None:
            raise self._error("the graph does not end in a return of its own")
        self._operands(terminator)
        if len(self.graph.output_names) != len(terminator.operands) or None in terminator.operands:
            raise self._error(
                f"{len(terminator.operands)} outputs have {len(self.graph.output_names)} names", terminator
            )
        if len(set(self.graph.output_names)) != len(terminator.operands):
            raise self._error(f"two outputs have one name: {', '.join(self.graph.output_names)}", terminator)

    def _uses(self) -> None:
        for value in self.defined:
            for node, index in value.uses:
                if node.graph is not self.graph:
                    raise self._error(f"{value} lists a use by {node}, which was erased or is in another graph")
                if index >= len(node.operands) or node.operands[index] is not value:
                    raise self._error(f"{value} lists a use as operand {index} of {node}, which does not use it there")
