"""Writing a graph in half precision: nodes in half or f32 as told, casts where the two meet, weights rounded on use.

Inputs and outputs keep their types. A weight becomes one that is rounded when it is asked for, and references still
compute with what it was. An op goes to half if its own type rule takes it there: nothing is listed by name.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from dragoman.ir.builder import Builder
from dragoman.ir.errors import EmitRefused, TypeRuleError
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.op import Op
from dragoman.ir.ops.constant import Constant
from dragoman.ir.provenance import Provenance
from dragoman.ir.types import F32, DType, TensorType, same_type
from dragoman.ir.weights import Array, ComputedWeight, Weight, exact_values
from dragoman.passes.legalize import Supports, legalize


def computes_in_f32(node: Node) -> bool:
    """Whether a node has an f32 operand or result. A constant has not: it is a number, in whatever type is needed."""
    if isinstance(node.op, Constant):
        return False
    values = (*node.operands, *node.results)
    return any(v is not None and v.type.dtype == F32 for v in values)


def halved(type: TensorType, half: DType) -> TensorType:
    """An f32 type in half precision; any other as it is."""
    return type.with_dtype(half) if type.dtype == F32 else type


def rounded(values: Array, half: DType) -> Array:
    """Numbers in half precision; beyond its range they are infinite."""
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(half.numpy)


@dataclass
class Forms:
    """The form of each op in half precision, worked out once for equal ops on equal types.

    `supports` is asked as `legalize` does: what the target can neither express nor decompose there stays in f32.
    """

    half: DType
    supports: Supports | None = None
    _known: dict[tuple[Op, tuple[TensorType | None, ...]], Op | str] = field(default_factory=dict)
    _programs: dict[tuple[Op, tuple[TensorType | None, ...]], Graph] = field(default_factory=dict)

    def of(self, node: Node) -> Op | str:
        """The op on half-precision operands, or why there is none."""
        key = (node.op, node.operand_types)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._form(node)
        return found

    def program(self, node: Node) -> Graph:
        """The node alone in half precision, as a graph from its operands (absent ones left out), in the steps that the
        target makes of it. For nodes that have a form only.
        """
        return self._programs[node.op, node.operand_types]

    def _form(self, node: Node) -> Op | str:
        reason = "nothing in it is a floating-point number"
        for op in self._spellings(node.op):
            try:
                program = self._alone(op, node)
            except TypeRuleError as error:
                reason = str(error)
                continue
            wanted = [halved(r.type, self.half) for r in node.results]
            given = [v.type for v in program.outputs]
            if not all(same_type(a, b) for a, b in zip(wanted, given, strict=True)):
                reason = f"its result would be {', '.join(map(str, given))}"
                continue
            try:
                if self.supports is not None:
                    legalize(program, self.supports)
            except EmitRefused as error:
                return str(error).splitlines()[-1].strip()
            self._programs[node.op, node.operand_types] = program
            return op
        return reason

    def _spellings(self, op: Op) -> list[Op]:
        """The op with its dtypes and regions in half precision, and as it is."""
        changes: dict[str, object] = {}
        for name in op.attribute_names():
            value = getattr(op, name)
            if isinstance(value, DType) and value == F32:
                changes[name] = self.half
            elif isinstance(value, Graph):
                changes[name] = narrowed(value, self, (), interface=self.half)
        if not changes:
            return [op]
        return [op.with_attributes(**changes), *([] if op.regions else [op])]

    def _alone(self, op: Op, node: Node) -> Graph:
        program = Graph()
        operands = [None if v is None else program.add_input(halved(v.type, self.half)) for v in node.operands]
        program.set_outputs(program.insert(op, operands, provenance=node.provenance).results)
        return program


def narrowed(graph: Graph, forms: Forms, wide: Collection[Node], *, interface: DType = F32) -> Graph:
    """A copy with f32 nodes in half precision, but for those in `wide` and those without a form there.

    Its f32 inputs and outputs become `interface`. Weights are shared or computed, never copied.
    """
    writer = _Writer(graph, forms, frozenset(wide), interface)
    return writer.write()


class _Writer:
    def __init__(self, graph: Graph, forms: Forms, wide: frozenset[Node], interface: DType) -> None:
        self._source, self._forms, self._wide, self._interface = graph, forms, wide, interface
        self._into = Graph(graph.name)
        self._into.metadata.update(graph.metadata)
        self._held: dict[tuple[Value | int, DType], Value] = {}  # values as they are in a type; weights by identity

    def write(self) -> Graph:
        for value in self._source.inputs:
            dtype = self._interface if value.type.dtype == F32 else value.type.dtype
            self._held[value, dtype] = self._into.add_input(value.type.with_dtype(dtype), value.name)
        for node in self._source:
            if not isinstance(node.op, Constant) or node.op.dtype != F32:
                self._node(node)
        outputs = [
            self._as(v, self._interface, v.producer.provenance if v.producer else Provenance())
            for v in self._source.outputs
        ]
        self._into.set_outputs(outputs, self._source.output_names)
        return self._into

    def _node(self, node: Node) -> None:
        form: Op | str = node.op
        dtype = F32
        if computes_in_f32(node) and node not in self._wide:
            form = self._forms.of(node)
            dtype = F32 if isinstance(form, str) else self._forms.half
        op = node.op if isinstance(form, str) else form
        operands = [None if v is None else self._as(v, dtype, node.provenance) for v in node.operands]
        made = self._into.insert(op, operands, provenance=node.provenance)
        for old, new in zip(node.results, made.results, strict=True):
            new.name = old.name
            self._held[old, new.type.dtype] = new

    def _as(self, value: Value, dtype: DType, origin: Provenance) -> Value:
        """A value as the new graph has it; an f32 one in `dtype`."""
        dtype = dtype if value.type.dtype == F32 else value.type.dtype
        key = (id(value.weight) if value.weight is not None else value, dtype)
        found = self._held.get(key)
        if found is None:
            found = self._held[key] = self._made(value, dtype, origin)
        return found

    def _made(self, value: Value, dtype: DType, origin: Provenance) -> Value:
        builder = Builder(self._into, provenance=origin)
        if value.weight is not None:
            name = value.name if value.name not in self._into.weights else f"{value.name}.{dtype}"
            weight = value.weight if dtype == value.type.dtype else rounded_weight(value.weight, dtype)
            return self._into.add_weight(name, weight)
        if isinstance(value.op, Constant):
            return builder.const(value.op.value, dtype)
        other = F32 if dtype != F32 else self._forms.half
        return builder.cast(self._held[value, other], dtype=dtype)


def rounded_weight(weight: Weight, half: DType) -> ComputedWeight:
    """A weight rounded whenever it is asked for; the numbers it was stay known to references."""
    return ComputedWeight(half, weight.shape, lambda: rounded(weight.array(), half), lambda: exact_values(weight))
