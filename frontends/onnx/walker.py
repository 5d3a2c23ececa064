"""Walks ONNX graphs in order, functions written out, sub-graphs as regions, and binds names to what they stand for."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import onnx

from dragoman.frontends.onnx import known as k
from dragoman.frontends.onnx.bodies import function_body
from dragoman.frontends.onnx.call import Call
from dragoman.frontends.onnx.context import Context
from dragoman.frontends.onnx.operands import Operand, Scope, Tensor, Unknown
from dragoman.frontends.onnx.origin import origin_of
from dragoman.frontends.onnx.registry import known_of, refusal_of, translation_of
from dragoman.frontends.onnx.structure import MOST_NODES, FunctionKey, called, key_of, ordered
from dragoman.frontends.onnx.tensors import sparse_array, weight_of
from dragoman.frontends.refusals import Refusals
from dragoman.ir.errors import Malformed, OverBudget, TypeRuleError, Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.provenance import Provenance
from dragoman.ir.types import TensorType
from dragoman.ir.weights import ArrayWeight, Weight

Attributes = Mapping[str, onnx.AttributeProto]


class Names(Collection[str]):
    """The names that a graph sees: its own and those of the graphs around it."""

    def __init__(self, parent: Names | None = None) -> None:
        self.own: dict[str, Operand] = {}
        self.parent = parent

    def find(self, name: str) -> Operand | None:
        """What a name stands for, or None."""
        names: Names | None = self
        while names is not None:
            found = names.own.get(name)
            if found is not None:
                return found
            names = names.parent
        return None

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.find(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.own)

    def __len__(self) -> int:
        return len(self.own)


class Walker:
    """One walk over a model."""

    def __init__(
        self,
        context: Context,
        functions: Mapping[FunctionKey, onnx.FunctionProto],
        opsets: Mapping[str, int],
        refusals: Refusals,
    ) -> None:
        self.c = context
        self.refusals = refusals
        self._functions = functions
        self._opsets = opsets
        self._names = Names()
        self._attributes: Attributes = {}  # of the function call that is being written out
        self._module = ""
        self._walked = 0
        self._orders: dict[int, tuple[onnx.GraphProto, list[onnx.NodeProto]]] = {}
        context.region, context.inline = self.region, self.inline_graph
        context.opsets = opsets

    # ---- graphs --------------------------------------------------------------------------------------

    def main(self, graph: onnx.GraphProto, inputs: Mapping[str, Operand]) -> list[Operand]:
        """Walk the model's own graph."""
        return self._graph(graph, inputs, Names(), "the graph")

    def inline_graph(self, graph: onnx.GraphProto, operands: Sequence[Operand]) -> list[Operand]:
        """Write a sub-graph into the current scope."""
        inputs = self._bound(graph, operands)
        return self._graph(graph, inputs, Names(self._names), f"the sub-graph {graph.name!r}")

    def region(
        self, graph: onnx.GraphProto, types: Sequence[TensorType | Operand]
    ) -> tuple[Scope, list[Value], list[Operand]]:
        """Write a sub-graph as a region. A type becomes an input of it, an operand is what its name stands for.

        Returns the scope, the inputs and what its outputs stand for there.
        """
        outer = self.c.scope
        scope = Scope(outer.graph.__class__(graph.name), outer)
        scope.builder.provenance = outer.builder.provenance
        given: list[Value] = []
        operands: list[Operand] = []
        for type, declared in zip(types, graph.input, strict=True):
            if isinstance(type, TensorType):
                value = scope.add_input(type, declared.name)
                given.append(value)
                operands.append(Tensor.of(value))
            else:
                operands.append(type)
        self.c.scope = scope
        try:
            return scope, given, self.inline_graph(graph, operands)
        finally:
            self.c.scope = outer

    def _bound(self, graph: onnx.GraphProto, operands: Sequence[Operand]) -> dict[str, Operand]:
        if len(graph.input) != len(operands):
            raise Malformed(
                f"the sub-graph {graph.name!r} takes {len(graph.input)} inputs, it would be given {len(operands)}"
            )
        return dict(zip((v.name for v in graph.input), operands, strict=True))

    def _graph(self, graph: onnx.GraphProto, inputs: Mapping[str, Operand], names: Names, what: str) -> list[Operand]:
        outer, self._names = self._names, names
        try:
            for name in inputs:
                if names.parent is not None and name in names.parent:
                    raise Malformed(f"{what} has the input {name!r}, a name of the graph around it")
            names.own.update(inputs)
            self._initializers(graph, names, what)
            around: Collection[str] = names.parent if names.parent is not None else ()
            self._nodes(self._ordered(graph, names.own, around, what))
            return [self._output(v.name, what) for v in graph.output]
        finally:
            self._names = outer

    def _ordered(
        self, graph: onnx.GraphProto, given: Collection[str], around: Collection[str], what: str
    ) -> list[onnx.NodeProto]:
        found = self._orders.get(id(graph))
        if found is None:
            # Kept beside its order: protobuf makes objects when asked, and another might come to have the same id.
            found = self._orders[id(graph)] = graph, ordered(graph.node, given, around, what)
        return found[1]

    def _output(self, name: str, what: str) -> Operand:
        found = self._names.find(name)
        if found is None:
            raise Malformed(f"{what} gives the output {name!r}, which nothing defines")
        return found

    def _initializers(self, graph: onnx.GraphProto, names: Names, what: str) -> None:
        seen: set[str] = set()
        for tensor in graph.initializer:
            self._define(tensor.name, names, seen, what)
            if tensor.name not in names.own:
                names.own[tensor.name] = self._weight(tensor.name, weight_of(tensor, self.c.external))
        for sparse in graph.sparse_initializer:
            self._define(sparse.values.name, names, seen, what)
            dense = ArrayWeight(sparse_array(sparse, self.c.external))
            names.own[sparse.values.name] = self._weight(sparse.values.name, dense)

    def _weight(self, name: str, weight: Weight) -> Tensor:
        """A weight belongs to the model, whatever region names it, so that its elements stay known there."""
        return Tensor.of(self.c.scope.root.graph.add_weight(name, weight))

    @staticmethod
    def _define(name: str, names: Names, seen: set[str], what: str) -> None:
        if not name or name in seen:
            raise Malformed(f"{what} has two initializers named {name!r}" if name else f"{what} has a nameless weight")
        if names.parent is not None and name in names.parent:
            raise Malformed(f"{what} has the initializer {name!r}, a name of the graph around it")
        seen.add(name)

    # ---- nodes ---------------------------------------------------------------------------------------

    def _nodes(self, nodes: Sequence[onnx.NodeProto]) -> None:
        self._walked += len(nodes)
        if self._walked > MOST_NODES:
            raise OverBudget(f"more than {MOST_NODES:,} nodes, with functions and loops written out")
        for node in nodes:
            origin = origin_of(node, self._module)
            builder = self.c.b
            before, builder.provenance = builder.provenance, origin
            try:
                results = self._node(node)
            except Unsupported as error:
                self.refusals.add(origin.sources[0], str(error))
                results = [Unknown() for _ in node.output]
            except TypeRuleError as error:
                raise Malformed(f"{_place(node, origin)}: {error}") from error
            finally:
                builder.provenance = before
            self._bind(node, results)

    def _bind(self, node: onnx.NodeProto, results: Sequence[Operand | None]) -> None:
        if len(results) < len([n for n in node.output if n]):
            raise Malformed(f"{called(node)} has {len(node.output)} outputs, the operator gives {len(results)}")
        for name, result in zip(node.output, results, strict=False):
            if not name:
                continue
            if result is None:
                raise Malformed(f"{called(node)} gives no {name!r}")
            if isinstance(result, Tensor) and not result.name:
                result.name = name
            self._names.own[name] = result

    def _node(self, node: onnx.NodeProto) -> list[Operand | None]:
        inputs = [self._names.find(name) if name else None for name in node.input]
        while inputs and inputs[-1] is None:
            inputs.pop()
        if any(isinstance(x, Unknown) for x in inputs):
            return [Unknown() for _ in node.output]
        attributes = self._resolved(node)
        key = key_of(node)
        function = self._functions.get(key)
        if function is not None:
            return list(self._call(function, inputs, attributes, node))
        domain, operator, _ = key
        version = self._version(domain, node)
        call = Call(self.c, node, inputs, attributes, version)
        known = self._known(call) if domain == "" else None
        if known is not None:
            return known
        translation = translation_of(domain, operator, version)
        refused = refusal_of(domain, operator)
        if translation is not None:
            return self._operands(translation(self.c, call))
        if refused is not None:
            raise Unsupported(refused)
        body = function_body(call)
        if body is None:
            raise Unsupported(_unknown(domain, operator, version))
        return list(self._call(body, inputs, attributes, node))

    def _version(self, domain: str, node: onnx.NodeProto) -> int:
        found = self._opsets.get(domain)
        if found is None:
            if domain in ("", "ai.onnx.ml"):
                raise Malformed(f"{called(node)} is of a domain that the model does not import")
            return 1
        return found

    def _known(self, call: Call) -> list[Operand | None] | None:
        function = known_of(call.op)
        if function is None:
            return None
        for operand in call.inputs:
            missing = operand is not None and (not isinstance(operand, Tensor) or operand.known is None)
            if missing and call.op not in ("Shape", "Size"):
                return None
        try:
            found = function(call)
        except (k.Undecided, ArithmeticError):
            return None
        if found is None:
            return None
        listed = found if isinstance(found, list) else [found]
        return [self.c.of_known(array, dtype) for dtype, array in listed]

    def _operands(self, results: Any) -> list[Operand | None]:
        listed: list[Any] = list(results) if isinstance(results, (tuple, list)) else [results]
        return [Tensor.of(r) if isinstance(r, Value) else r for r in listed]

    def _resolved(self, node: onnx.NodeProto) -> dict[str, onnx.AttributeProto]:
        """The attributes of a node, those that name one of the function's own replaced by what the call gave."""
        found: dict[str, onnx.AttributeProto] = {}
        for attribute in node.attribute:
            if attribute.name in found:
                raise Malformed(f"{called(node)} has the attribute {attribute.name!r} twice")
            if attribute.ref_attr_name:
                given = self._attributes.get(attribute.ref_attr_name)
                if given is None:
                    continue
                found[attribute.name] = given
            else:
                found[attribute.name] = attribute
        return found

    # ---- functions -----------------------------------------------------------------------------------

    def _call(
        self,
        function: onnx.FunctionProto,
        inputs: Sequence[Operand | None],
        attributes: Attributes,
        node: onnx.NodeProto,
    ) -> list[Operand | None]:
        if len(inputs) > len(function.input):
            raise Malformed(f"{called(node)} has {len(inputs)} inputs, its function takes {len(function.input)}")
        given = {**{a.name: a for a in function.attribute_proto}, **attributes}
        names = Names()
        absent = list(function.input)
        for name, operand in zip(function.input, inputs, strict=False):
            if operand is not None:
                names.own[name] = operand
                absent.remove(name)
        opsets = {**self._opsets, **{_domain(o.domain): o.version for o in function.opset_import}}
        before = self._names, self._attributes, self._opsets, self._module
        module = origin_of(node, self._module).module
        self._names, self._attributes, self._opsets = names, given, opsets
        self._module = module
        try:
            order = ordered(function.node, {*names.own, *absent}, (), f"the function {function.name!r}")
            self._nodes(order)
            return [names.own.get(name) for name in function.output]
        finally:
            self._names, self._attributes, self._opsets, self._module = before


def _domain(text: str) -> str:
    return "" if text == "ai.onnx" else text


def _place(node: onnx.NodeProto, origin: Provenance) -> str:
    where = str(origin)
    return f"{called(node)} ({where})" if where and where not in called(node) else called(node)


def _unknown(domain: str, operator: str, version: int) -> str:
    if domain == "":
        try:
            onnx.defs.get_schema(operator, version, "")
        except onnx.defs.SchemaError:
            return f"ONNX opset {version} has no such operator"
    return ""
