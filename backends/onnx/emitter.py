"""From a graph to an ONNX model: nodes by the table, names, scopes of sub-graphs, constants, and weights left to be
streamed.

The graph is not changed: what the opset lacks is decomposed in scratch graphs on the way. What can be neither emitted
nor decomposed is collected, and refused once with all of it. Cost is linear in nodes; no weight is read here.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from dragoman.backends.onnx import types
from dragoman.backends.onnx.attributes import set_attribute
from dragoman.backends.onnx.dims import Dims
from dragoman.backends.onnx.names import Names, storable
from dragoman.backends.onnx.scope import Scope, call_key
from dragoman.backends.onnx.table import entry_for, load_tables
from dragoman.backends.onnx.widening import widened_form
from dragoman.ir.builder import Builder
from dragoman.ir.collector import calm_collector
from dragoman.ir.errors import EmitRefused, Occurrence, Unsupported, VerifyError
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.provenance import NOWHERE, Provenance
from dragoman.ir.types import I64, DType, TensorType
from dragoman.ir.weights import Array, ComputedWeight, Weight

PRODUCER = "dragoman"
_DOMAINS = {"ai.onnx.ml": 3}  # their versions, where those are not 1


@dataclass
class Emission:
    """An ONNX model without its weights: `skeleton` lacks the initializers that `weights` has, by name and in order."""

    skeleton: onnx.ModelProto
    weights: dict[str, Weight] = field(default_factory=dict[str, Weight])
    names: dict[Value, str] = field(default_factory=dict[Value, str])  # where the values of the graph are in the model
    widened: dict[str, int] = field(default_factory=dict[str, int])  # how many of each op compute in f32 between casts

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights, without reading any."""
        return sum(w.nbytes for w in self.weights.values())


def emit(
    graph: Graph,
    *,
    opset: int | None = None,
    value_info: bool | None = None,
    provenance: bool = True,
    contrib: bool = False,
) -> Emission:
    """The ONNX model of a graph at an opset (default 20), with operators of ONNX Runtime's own if `contrib`,
    and casts around what it has no kernels for.

    `value_info` adds the types of intermediate values, by default up to 20 000 of them. `provenance` writes each node's
    module, operator and source line into its metadata. Raises EmitRefused listing all that ONNX cannot express.
    """
    load_tables()
    emitter = Emitter(types.checked_opset(opset), value_info=value_info, provenance=provenance, contrib=contrib)
    with calm_collector():
        return emitter.model(graph)


_MOST_VALUE_INFO = 20_000  # they take 1 MB and 0.2 s; in a larger model nobody reads them


class Emitter:
    """What entries of the table write with: `op` adds a node, `constant` a constant, `dims` computes with extents."""

    def __init__(
        self, opset: int, *, value_info: bool | None = None, provenance: bool = True, contrib: bool = False
    ) -> None:
        self.opset, self._contrib = opset, contrib
        self.names = Names()
        self.skeleton = onnx.ModelProto(ir_version=types.ir_version(opset), producer_name=PRODUCER)
        self.skeleton.opset_import.add(domain="", version=opset)
        self.scope = self._main = Scope(self.skeleton.graph, None)
        self.dims = Dims(self)
        self.weights: dict[str, Weight] = {}
        self._value_info, self._provenance = value_info, provenance
        self._named: dict[Value, str] = {}
        self._alias: dict[Value, Value] = {}
        self._reserved: dict[Value, str] = {}  # names of weights, which become initializers when first used
        self._derived: dict[tuple[tuple[Value, ...], str], str] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._wanted: dict[Value, str] = {}  # values that are outputs, and the names those have
        self._output_names: list[str] = []
        self._origin: Provenance = NOWHERE
        self._origins: dict[Provenance, tuple[str, bytes]] = {NOWHERE: ("", b"")}
        self._refused: dict[tuple[str, str], tuple[Node, int]] = {}
        self.widened: dict[str, int] = {}  # ops that compute in f32 between casts, for want of kernels

    # ---- the model ---------------------------------------------------------------------------------

    def model(self, graph: Graph) -> Emission:
        """Emit a whole graph. An emitter is used once."""
        self._name_interface(graph)
        proto = self._main.graph
        proto.name = storable(graph.name) or "graph"
        for value in graph.inputs:
            types.fill_type(proto.input.add(name=self._named[value]).type, value.type)
            self.dims.offer(self._named[value], value.type)
        self.nodes(graph)
        self._outputs(graph)
        if self._refused:
            raise self._refusal()
        self._describe_values(graph)
        for key, text in sorted(graph.metadata.items()):
            self.skeleton.metadata_props.add(key=storable(key), value=storable(text))
        named = {v: n for node in graph for v in node.results if (n := self._named.get(self.source(v)))}
        return Emission(self.skeleton, self.weights, named, self.widened)

    def _name_interface(self, graph: Graph) -> None:
        for value in graph.inputs:
            self._named[value] = self.names.value(value.name)
        self._output_names = [
            self._named[v] if self._named.get(v) == name else self.names.value(name)
            for v, name in zip(graph.outputs, graph.output_names, strict=True)
        ]
        for value, name in zip(graph.outputs, self._output_names, strict=True):
            if value.producer is not None:
                self._wanted.setdefault(value, name)
        for name, value in graph.weights.items():
            if value.uses:
                self._reserved[value] = self.names.value(name)

    def _outputs(self, graph: Graph) -> None:
        self._origin = NOWHERE
        for value, name in zip(graph.outputs, self._output_names, strict=True):
            current = self.ref(value)
            if current != name:
                self._add("Identity", [current], [name])
            types.fill_type(self._main.graph.output.add(name=name).type, value.type)

    def _describe_values(self, graph: Graph) -> None:
        if self._value_info is False or (self._value_info is None and len(graph) > _MOST_VALUE_INFO):
            return
        proto = self._main.graph
        known = {v.name for v in proto.input} | {v.name for v in proto.output} | {v.name for v in proto.initializer}
        known |= set(self.weights)
        for node in graph:
            for result in node.results:
                name = self._named.get(self.source(result))
                if name is not None and name not in known:
                    known.add(name)
                    types.fill_type(proto.value_info.add(name=name).type, result.type)

    def _refusal(self) -> EmitRefused:
        rows = [
            Occurrence(name, count, node.provenance.module, node.provenance.line, reason)
            for (name, reason), (node, count) in self._refused.items()
        ]
        return EmitRefused(f"ONNX opset {self.opset}", rows, "To continue: choose another opset, or another target.")

    # ---- nodes of the IR ----------------------------------------------------------------------------

    def nodes(self, graph: Graph) -> None:
        """Emit the nodes of a graph into the current scope."""
        for node in graph:
            self.node(node)

    def node(self, node: Node) -> None:
        """Emit one node: by its entry, by its decomposition, or onto the list of what is refused."""
        start = len(self.scope.graph.node)
        if node.results and all(_is_empty(r.type) for r in node.results) and not node.op.data_dependent:
            self._bind(node, [self._nothing(r.type) for r in node.results], start)
            return
        wide = widened_form(node) if self._contrib else None
        if wide is not None:
            self.widened[node.op.name] = self.widened.get(node.op.name, 0) + 1
            self._expand(node, wide)
            return
        entry = entry_for(node, self.opset, self._contrib)
        if not isinstance(entry, str):
            self._origin = node.provenance
            try:
                emitted = entry.function(self, node, *node.operands)
            except Unsupported as error:
                self._refuse(node, str(error))
                return
            self._bind(node, [emitted] if isinstance(emitted, (str, Value)) else emitted, start)
        elif node.op.decompose is not None:
            try:
                self._expand(node, node.op.decompose)
            except Unsupported as error:
                self._refuse(node, str(error))
        else:
            self._refuse(node, entry)

    def _refuse(self, node: Node, reason: str) -> None:
        first, count = self._refused.get((node.op.name, reason), (node, 0))
        self._refused[node.op.name, reason] = (first, count + 1)
        self._bind(node, [self.names.value("refused") for _ in node.results], 0)

    def _bind(self, node: Node, emitted: Sequence[str | Value], start: int) -> None:
        if len(emitted) != len(node.results):
            raise VerifyError(f"the emitter of {node.op.name} gave {len(emitted)} results for {len(node.results)}")
        renamed: dict[str, str] = {}  # two results may be one and the same
        for result, got in zip(node.results, emitted, strict=True):
            if isinstance(got, Value):
                self._alias[result] = self.source(got)
                continue
            self._alias.pop(result, None)  # a region may be emitted more than once
            wanted = self._wanted.get(result)
            if got in renamed:
                got = renamed[got]
            elif wanted is not None and self._rename(got, wanted, start):
                renamed[got] = got = wanted
            self._named[result] = got
            if got and not result.type.is_static:
                self.dims.offer(got, result.type)

    def _rename(self, old: str, new: str, start: int) -> bool:
        """Give a result of the nodes from `start` on the name of an output; False if it is not one of theirs."""
        if self.scope is not self._main:
            return False
        nodes = self._main.graph.node
        fresh = [nodes[i] for i in range(start, len(nodes))]
        if not any(old in n.output for n in fresh):
            return False
        for n in fresh:
            for names in (n.input, n.output):
                for index, name in enumerate(names):
                    if name == old:
                        names[index] = new
        self._main.renamed(old, new)
        return True

    def _nothing(self, type: TensorType) -> str:
        """A value without elements: a constant. Runtimes stumble over extents of 0 more than over anything else."""
        if type.is_static:
            return self.constant(types.zeros(type), type.dtype)
        zero = self.constant(types.zeros(type.with_shape(())), type.dtype)
        return self.op("Expand", zero, self.dims.shape(type.shape))

    def _expand(self, node: Node, decompose: Callable[..., Any]) -> None:
        """Emit what a node is made of instead."""
        scratch = Graph()
        operands: list[Value | None] = []
        for v in node.operands:
            if v is not None:
                operand = scratch.add_input(v.type)
                self._alias[operand] = self.source(v)
                operands.append(operand)
            else:
                operands.append(None)
        got = decompose(Builder(scratch, provenance=node.provenance), *operands)
        results: Sequence[Value] = [got] if isinstance(got, Value) else list(got)
        for result, inner in zip(node.results, results, strict=True):
            if result in self._wanted and inner.producer is not None:
                self._wanted.setdefault(inner, self._wanted[result])
        scratch.set_outputs(results)
        self.nodes(scratch)
        for result, inner in zip(node.results, results, strict=True):
            self._alias[result] = self.source(inner)

    # ---- what entries use ------------------------------------------------------------------------------

    def source(self, value: Value) -> Value:
        """The value that this one stands for: an operand of a region or decomposition is what was passed for it."""
        while value in self._alias:
            value = self._alias[value]
        return value

    def is_output(self, value: Value) -> bool:
        """Whether a value is an output of the model."""
        return value in self._wanted

    def weight(self, value: Value) -> Weight | None:
        """The weight that a value is, seen through regions and decompositions; None if it is computed."""
        return self.source(value).weight

    def ref(self, operand: Value | str | None) -> str:
        """The ONNX name of an operand; empty for an absent one. A weight becomes an initializer when first named."""
        if operand is None:
            return ""
        if isinstance(operand, str):
            return operand
        value = self.source(operand)
        name = self._named.get(value)
        if name is None:
            if value.weight is None:
                raise VerifyError(f"{value} is used before it is defined")
            name = self._named[value] = self._reserved.get(value) or self.names.value(value.name)
            self.weights[name] = value.weight
        return name

    def op(self, op_type: str, *operands: Value | str | None, **attributes: Any) -> str:
        """Add a node with one result; returns the result's name. Attributes that are None are left out; `domain` and
        `domain_version` are the operator's.
        """
        return self.ops(op_type, operands, 1, **attributes)[0]

    def ops(self, op_type: str, operands: Sequence[Value | str | None], count: int, **attributes: Any) -> list[str]:
        """Add a node with `count` results; returns their names. What is there already is not computed again."""
        inputs = [self.ref(operand) for operand in operands]
        while inputs and not inputs[-1]:
            inputs.pop()
        attributes = {name: value for name, value in attributes.items() if value is not None}
        same = call_key(op_type, inputs, count, attributes)
        known = self.scope.known(same) if same is not None else None
        if known is not None:
            return list(known)
        results = self._add(op_type, inputs, count, attributes)
        if same is not None:
            self.scope.remember(same, results)
        return results

    def _add(
        self, op_type: str, inputs: list[str], outputs: int | list[str], attributes: Mapping[str, Any] | None = None
    ) -> list[str]:
        module, metadata = self._metadata(self._origin)
        name = self.names.node(module, op_type)
        results = self.names.results(name, outputs) if isinstance(outputs, int) else outputs
        proto = self.scope.graph.node.add(op_type=op_type, name=name, input=inputs, output=results)
        given = dict(attributes or {})
        if "domain" in given:
            proto.domain = given.pop("domain")
            self._import_domain(proto.domain, given.pop("domain_version", None))
        for key, value in given.items():
            set_attribute(proto.attribute.add(name=key), value)
        if metadata:
            proto.MergeFromString(metadata)
        if self.scope.depth:
            self.scope.produced.update(results)
        return results

    def _import_domain(self, domain: str, version: int | None) -> None:
        """Import a domain, at the version asked for or a newer one."""
        known = next((o for o in self.skeleton.opset_import if o.domain == domain), None)
        if known is None:
            known = self.skeleton.opset_import.add(domain=domain, version=_DOMAINS.get(domain, 1))
        known.version = max(known.version, version or 0)

    def _metadata(self, origin: Provenance) -> tuple[str, bytes]:
        """The module of an origin and its metadata in wire form: both are shared by many nodes."""
        known = self._origins.get(origin)
        if known is None:
            proto = onnx.NodeProto()
            if self._provenance:
                entries = {
                    "dragoman.module": origin.module,
                    "dragoman.operators": ", ".join(origin.operators),
                    "dragoman.line": origin.line,
                    "dragoman.sources": "\n".join(map(str, origin.sources)) if len(origin.sources) > 1 else "",
                }
                for key, text in entries.items():
                    if text:
                        proto.metadata_props.add(key=key, value=storable(text))
            known = self._origins[origin] = (storable(origin.module), proto.SerializeToString())
        return known

    def cast(self, value: Value, dtype: DType) -> Value | str:
        """A value as another dtype; itself where it already is."""
        return value if value.type.dtype == dtype else self.op("Cast", value, to=types.code(dtype))

    def cast_from(self, name: str, before: DType, dtype: DType) -> str:
        """A result of dtype `before` as another dtype."""
        return name if before == dtype else self.op("Cast", name, to=types.code(dtype))

    # ---- constants and weights -----------------------------------------------------------------------

    def constant(self, values: Array, dtype: DType) -> str:
        """A small constant tensor, each once in the model, as an initializer of the main graph."""
        raw = types.constant_key(values, dtype)
        key = (dtype.name, tuple(values.shape), raw)
        known = self._constants.get(key)
        if known is None:
            known = self._constants[key] = self.names.value("constant")
            self._main.graph.initializer.append(types.tensor(known, values, dtype))
        return known

    def scalar(self, value: float | complex | str, dtype: DType) -> str:
        """A constant of rank 0, rounded to its dtype."""
        return self.constant(types.array(value, dtype), dtype)

    def i64(self, values: int | Sequence[int]) -> str:
        """An i64 constant: of rank 0 for a number, of rank 1 for a sequence."""
        return self.constant(np.asarray(values, np.int64), I64)

    def derived(
        self, values: Sequence[Value], label: str, shape: tuple[int, ...], transform: Callable[..., Array]
    ) -> str:
        """A weight made from others, `name.label`, computed when it is written. The values must be weights."""
        origins = tuple(self.source(v) for v in values)
        known = self._derived.get((origins, label))
        if known is None:
            weights = [w for v in origins if (w := v.weight) is not None]
            if len(weights) != len(origins):
                raise VerifyError(f"{label} is made of values that are no weights: {values}")
            known = self.names.value(f"{self._reserved.get(origins[0]) or origins[0].name}.{label}")
            self._derived[origins, label] = known
            self.weights[known] = ComputedWeight(
                weights[0].dtype, shape, lambda: transform(*(w.array() for w in weights))
            )
        return known

    # ---- sub-graphs ------------------------------------------------------------------------------------

    @contextmanager
    def within(self, scope: Scope) -> Generator[None]:
        """Write into another scope for a while."""
        before, self.scope = self.scope, scope
        try:
            yield
        finally:
            self.scope = before

    def open(self, name: str) -> Scope:
        """A scope for a sub-graph of the current scope; write into it `within` it, then `close` it."""
        return Scope(onnx.GraphProto(name=self.names.node(self._metadata(self._origin)[0], name)), self.scope)

    def parameter(self, type: TensorType, name: str) -> str:
        """An input of the sub-graph that is being written."""
        given = self.names.value(name)
        types.fill_type(self.scope.graph.input.add(name=given).type, type)
        self.dims.offer(given, type)
        return given

    def yields(self, operand: Value | str, type: TensorType) -> None:
        """An output of the sub-graph that is being written. ONNX wants each to be the result of a node there."""
        name = self.ref(operand)
        if name not in self.scope.produced or any(v.name == name for v in self.scope.graph.output):
            name = self.op("Identity", name)
        types.fill_type(self.scope.graph.output.add(name=name).type, type)

    def inline(self, region: Graph, operands: Sequence[Value | str]) -> list[Value]:
        """Emit a region into the current scope on these operands; returns its outputs."""
        for parameter, operand in zip(region.inputs, operands, strict=True):
            if isinstance(operand, Value):
                self._alias[parameter] = self.source(operand)
            else:
                self._alias.pop(parameter, None)
                self._named[parameter] = operand
        origin = self._origin
        self.nodes(region)
        self._origin = origin
        return region.outputs


def _is_empty(type: TensorType) -> bool:
    # Of what is smaller than a byte ONNX Runtime cannot even pass a constant on.
    return any(isinstance(d, int) and d == 0 for d in type.shape) and not 0 < type.dtype.bits < 8
