"""Walks an exported graph in order and writes IR: values, sizes as dims, writes in place as new values.

Every node's result is compared with the type that torch recorded for it; a difference is an internal error naming the
node. An operator outside the table is decomposed by torch on its own; what remains is collected and refused at the
end.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch._ops import HigherOrderOperator, OpOverload
from torch.fx import GraphModule, Node

from dragoman.frontends.pytorch import views
from dragoman.frontends.pytorch.aliases import (
    Aliases,
    Place,
    argument_at,
    functional_form,
    schema_of,
    written_arguments,
)
from dragoman.frontends.pytorch.context import Context, Number
from dragoman.frontends.pytorch.decompose import Expansions
from dragoman.frontends.pytorch.dtypes import from_torch
from dragoman.frontends.pytorch.provenance import operator_of, provenance_of
from dragoman.frontends.pytorch.scalars import Scalars
from dragoman.frontends.pytorch.symints import Symbols
from dragoman.frontends.pytorch.table.registry import Translation, translation_of
from dragoman.frontends.pytorch.weights import weight_of
from dragoman.frontends.refusals import Refusals
from dragoman.ir.builder import Builder
from dragoman.ir.dims import DimExpr
from dragoman.ir.errors import TypeRuleError, Unsupported
from dragoman.ir.graph import Graph, Value
from dragoman.ir.provenance import NOWHERE, Provenance, Source
from dragoman.ir.types import DType, TensorType, same_type

# Where a tensor lives and how it is laid out has no meaning in the IR.
_DROPPED = frozenset({"device", "layout", "pin_memory", "memory_format", "non_blocking", "generator"})
# Checks that torch wrote into the graph while tracing; sizes are checked by the IR's own types.
_CHECKS = frozenset(
    {
        "aten._assert_tensor_metadata.default",
        "aten._assert_scalar.default",
        "aten._assert_async.default",
        "aten._assert_async.msg",
        "aten.sym_constrain_range.default",
        "aten.sym_constrain_range_for_size.default",
        "aten._functional_assert_async.msg",
    }
)
_READS = frozenset({"aten.item.default", "aten._local_scalar_dense.default"})
_NAMES: dict[Any, str] = {}


def name_of(target: Any) -> str:
    """The name of an operator overload, as torch prints it."""
    name = _NAMES.get(target)
    if name is None:
        name = _NAMES[target] = str(target)
    return name


class InternalError(AssertionError):
    """The importer contradicts torch or the IR about a node: a bug of ours, never of the model."""


@dataclass
class Job:
    """What all graphs of one import share."""

    dims: Symbols
    default: DType
    refusals: Refusals = field(default_factory=lambda: Refusals("pytorch"))
    expansions: Expansions = field(default_factory=Expansions)


class Walker:
    """Translates one graph module into one IR graph. `bind` its placeholders, then `run`."""

    def __init__(self, job: Job, graph: Graph, module: GraphModule, outer: Provenance = NOWHERE) -> None:
        self._job = job
        self._graph = graph
        self._module = module
        self._outer = outer
        self._builder = Builder(graph)
        self._scalars = Scalars(self._builder, job.dims)
        self._values: dict[Node, Any] = {}
        self._same: dict[Node, Node] = {}
        self._autocast = 0
        self._context = Context(self._builder, job.dims, job.default)
        self._context.number = self._scalars.value
        self._context.region = self.region
        self._context.inline = self.inline
        self._context.expanded = self.expanded
        self.aliases = Aliases(module, self._same, self._replay, self._write_back)

    # ---- reading and binding ---------------------------------------------------------------------------

    def bind(self, node: Node, value: Any) -> None:
        """Give a node its value: an IR value, a dim, a number or a tuple of these."""
        self._values[node] = value
        if isinstance(value, Value) and self.aliases.follows(node):
            self.aliases.add(node, value)

    def known(self, node: Node) -> Any:
        """What a node was bound to when it was met, whatever was written to it later; None for nothing."""
        return self._values.get(node)

    def read(self, node: Node) -> Any:
        """The value of a node now."""
        node = self._same.get(node, node)
        value = self._values[node]
        if isinstance(value, Value) and self.aliases.follows(node):
            return self.aliases.read(node)
        return value

    def constant(self, tensor: torch.Tensor, user: Node | None = None) -> Value:
        """A tensor of rank 0 that is known now; it comes from where it is used."""
        if user is not None:
            self._builder.provenance = provenance_of(user, self._outer)
        return self._builder.const(tensor.item(), from_torch(tensor.dtype))

    def scalar(self, x: Any, dtype: DType | None = None) -> Value:
        """A number or size as a value of a dtype, or of the one that torch gives it."""
        return self._context.scalar(x, dtype or self._context.result_dtype(x))

    def _argument(self, x: Any) -> Any:
        """An argument as translations take it: values, dims, dtypes of the IR, lists of these."""
        if isinstance(x, Node):
            return self.read(x)
        if isinstance(x, (list, tuple)):
            return [self._argument(each) for each in x]
        if isinstance(x, torch.dtype):
            return from_torch(x)
        return x

    # ---- the walk --------------------------------------------------------------------------------------

    def run(self) -> list[Any]:
        """Translate every node; returns what the output node lists."""
        return self._walk(self._module)

    def _walk(self, module: GraphModule) -> list[Any]:
        for node in module.graph.nodes:
            if node.op == "call_function":
                self._call(module, node)
            elif node.op == "get_attr":
                self.bind(node, self._attribute(module, node))
            elif node.op == "output":
                listed = node.args[0] if isinstance(node.args[0], (list, tuple)) else [node.args[0]]
                return [self._argument(x) for x in listed]
        return []

    def _attribute(self, module: GraphModule, node: Node) -> Any:
        found: Any = module
        for part in str(node.target).split("."):
            found = getattr(found, part)
        if not isinstance(found, torch.Tensor):
            return found
        if found.dim() == 0:
            return self.constant(found)
        return self._graph.add_weight(str(node.target), weight_of(str(node.target), found))

    def _call(self, module: GraphModule, node: Node) -> None:
        self._builder.provenance = provenance_of(node, self._outer)
        if node.target is operator.getitem:
            self._pick(node)
            return
        name = operator_of(node) if not isinstance(node.target, OpOverload) else name_of(node.target)
        if name in _CHECKS:
            return
        if isinstance(node.meta.get("val"), (bool, int, float, torch.SymInt, torch.SymFloat, torch.SymBool)):
            self.bind(node, self._number(node, name))
            return
        if not node.users and not written_arguments(node) and not isinstance(node.target, HigherOrderOperator):
            return
        result = self._translated(node, name)
        self._check(node, result)
        self._finish(node, result)

    def _pick(self, node: Node) -> None:
        whole, index = node.args
        assert isinstance(whole, Node)
        assert isinstance(index, int)
        parts = self.read(whole)
        if isinstance(parts, _Inlined):
            inner = parts.outputs[index]
            if isinstance(inner, Node):
                self._same[node] = self._same.get(inner, inner)
                return
            parts = parts.outputs
        part = parts[index]
        if part is None and node.users and isinstance(node.meta.get("val"), torch.Tensor):
            source = self._builder.provenance.sources[0]
            self._job.refusals.add(
                Source(operator_of(whole), source.module, source.line), f"its result {index} is used"
            )
            part = self._made_up(node)
        self.bind(node, part)

    def _number(self, node: Node, name: str) -> Any:
        value = node.meta["val"]
        if isinstance(value, (bool, int, float)):
            return value
        expression = value.node._expr
        if name in _READS:
            tensor = node.args[0]
            assert isinstance(tensor, Node)
            self._scalars.read[expression] = self._builder.reshape(self.read(tensor), shape=())
            self._job.dims.forbid(expression, f"{provenance_of(node, self._outer).line}")
        if isinstance(value, torch.SymInt) and self._scalars.is_dim(expression):
            try:
                return self._job.dims.dim(expression)
            except Unsupported:
                return Number(expression, "int")
        kind = "int" if isinstance(value, torch.SymInt) else "float" if isinstance(value, torch.SymFloat) else "bool"
        return Number(expression, kind)

    # ---- one operator ----------------------------------------------------------------------------------

    def _translated(self, node: Node, name: str) -> Any:
        """What the node's translation returns; values of the right types made up where there is none."""
        self._context.written = {}
        try:
            translation, place = self._find(node, name)
            if translation is None:
                return self._expanded(node, name)
            result = self._apply(translation, node)
            return result if place is None else self._fitted(result, self.read(self._argument_node(node, place)).type)
        except (Unsupported, TypeRuleError) as refusal:
            self._job.refusals.add(self._builder.provenance.sources[0], str(refusal) if str(refusal) != name else "")
            return self._made_up(node)

    def _made_up(self, node: Node) -> Any:
        """Values that stand for the results of an operator without translation, so that the walk can go on."""
        value = node.meta.get("val")
        if not isinstance(value, (tuple, list)):
            return Value(self.type_of(value)) if isinstance(value, torch.Tensor) else None
        return tuple(Value(self.type_of(v)) if isinstance(v, torch.Tensor) else v for v in value)

    def _find(self, node: Node, name: str) -> tuple[Translation | None, Place | None]:
        """The translation of an operator; or that of its form which writes nothing, and where its result goes."""
        found = translation_of(name)
        if found is not None or not isinstance(node.target, OpOverload) or not schema_of(node.target).is_mutable:
            return found, None
        written = written_arguments(node)
        functional = functional_form(node.target)
        if len(written) > 1 or functional is None:
            return None, None
        return translation_of(functional), written[0] if written else None

    def _apply(self, translation: Translation, node: Node) -> Any:
        args = [self._argument(a) for a in node.args]
        written = written_arguments(node)
        kwargs = {k: self._argument(v) for k, v in node.kwargs.items() if k not in _DROPPED and k not in written}
        types = self._types(node)
        if self._autocast:
            args = self._autocasted(args, types)
        # Reading arguments may compute views again, so the context is set only now.
        c = self._context
        c.node, c.types, c.written = node, types, {}
        return translation(c, *args, **kwargs)

    def _autocasted(self, args: list[Any], types: tuple[TensorType, ...]) -> list[Any]:
        """Operands cast as autocast does: to the dtype of the result, where that is a float."""
        if not types or not types[0].dtype.is_float:
            return args
        dtype = types[0].dtype

        def fit(x: Any) -> Any:
            if isinstance(x, list):
                return [fit(each) for each in x]
            return self._context.cast(x, dtype) if isinstance(x, Value) and x.type.dtype.is_float else x

        return [fit(a) for a in args]

    def _fitted(self, result: Any, type: TensorType) -> Value:
        """The result of an operator as it is stored in place: in the dtype and shape of what it is stored to."""
        return self._context.broadcast(self._context.cast(result, type.dtype), type.shape)

    def _expanded(self, node: Node, name: str) -> Any:
        module = None if written_arguments(node) else self._job.expansions.of(node)
        if module is None:
            raise Unsupported(name)
        outputs = self.expanded(module, [self._argument(a) for a in self._job.expansions.operands(node)])
        value = node.meta.get("val")
        many = isinstance(value, (tuple, list))
        for given, tensor in zip(outputs, value if many else [value], strict=True):
            self._bind_sizes(given, tensor)
        return outputs if many else outputs[0]

    def _bind_sizes(self, given: Any, tensor: Any) -> None:
        """Data-dependent sizes of a result as those that its decomposition found."""
        if isinstance(given, Value) and isinstance(tensor, torch.Tensor):
            for dim, size in zip(given.type.shape, tensor.shape, strict=True):
                expression = size.node._expr if isinstance(size, torch.SymInt) else None
                if expression is not None and expression.is_Symbol and self._job.dims.bound(expression) is None:
                    self._job.dims.bind(expression, dim)

    def _finish(self, node: Node, result: Any) -> None:
        """Keep a node's result, and let what it has written reach its arguments."""
        self._values[node] = tuple(result) if isinstance(result, list) else result
        written = written_arguments(node)
        changes: dict[Place, Value] = {**self._context.written}
        alone = len(written) == 1 and isinstance(result, Value)  # its argument is also its result
        if alone and not changes and isinstance(result, Value):
            changes[written[0]] = result
        for place, value in changes.items():
            try:
                self.aliases.write(self._argument_node(node, place), value)
            except Unsupported as refusal:
                self._job.refusals.add(self._builder.provenance.sources[0], str(refusal))
        if isinstance(result, Value) and self.aliases.follows(node):
            if alone:
                self.aliases.share(node, self._argument_node(node, written[0]))
            else:
                self.aliases.add(node, result)

    def _argument_node(self, node: Node, place: Place) -> Node:
        found = argument_at(node, place)
        if not isinstance(found, Node):
            raise Unsupported("it writes to several tensors at once")
        return self._same.get(found, found)

    # ---- views -----------------------------------------------------------------------------------------

    def _replay(self, node: Node) -> Value:
        """A view computed again from what it is a view of."""
        if node.target is operator.getitem:
            whole, index = node.args
            assert isinstance(whole, Node)
            return self._translated(whole, name_of(whole.target))[index]
        return self._translated(node, name_of(node.target))

    def _write_back(self, view: Node, base: Value, value: Value) -> Value:
        """The tensor that a view was made of, after the view has become `value`."""
        try:
            picked = view.target is operator.getitem
            source = view.args[0] if picked else view
            assert isinstance(source, Node)
            args = [self._argument(a) for a in source.args[1:]]
            part = int(str(view.args[1])) if picked else None
            shapes = [t.shape for t in self._types(source)]
            return views.written_back(self._context, name_of(source.target), base, value, args, part, shapes)
        except Unsupported as refusal:
            self._job.refusals.add(self._builder.provenance.sources[0], str(refusal))
            return base

    # ---- types -----------------------------------------------------------------------------------------

    def _types(self, node: Node) -> tuple[TensorType, ...]:
        value = node.meta.get("val")
        listed = value if isinstance(value, (tuple, list)) else (value,)
        return tuple(self.type_of(v) for v in listed if isinstance(v, torch.Tensor))

    def type_of(self, tensor: torch.Tensor) -> TensorType:
        """The type of a tensor as torch recorded it, its sizes in the caller's symbols."""
        dim = self._job.dims.dim
        return TensorType(from_torch(tensor.dtype), tuple(dim(s) for s in tensor.shape))

    def _check(self, node: Node, result: Any) -> None:
        if isinstance(result, _Inlined):
            return
        value = node.meta.get("val")
        many = isinstance(value, (tuple, list))
        tensors: Sequence[Any] = value if many else (value,)
        results: Sequence[Any] = result if many else (result,)
        if not isinstance(results, (tuple, list)) or len(results) != len(tensors):
            raise InternalError(f"{self._place(node)}: the translation gives {results}, torch {len(tensors)} results")
        for index, (given, tensor) in enumerate(zip(results, tensors, strict=True)):
            if isinstance(tensor, torch.Tensor) and given is not None:
                expected = self.type_of(tensor)
                if not isinstance(given, Value) or (given.type != expected and not same_type(given.type, expected)):
                    shown = given.type if isinstance(given, Value) else repr(given)
                    raise InternalError(f"{self._place(node)}: result {index} is {shown}, torch says {expected}")

    def _place(self, node: Node) -> str:
        return f"internal error at node {node.name} ({operator_of(node)}) from {self._builder.provenance}"

    # ---- other graphs ----------------------------------------------------------------------------------

    def inline(self, module: GraphModule, autocast: bool = False) -> Any:
        """Walk a region that only wraps (no_grad, autocast) as if it stood here; tensors keep their identity."""
        node = self._context.node
        assert node is not None
        placeholders = [n for n in module.graph.nodes if n.op == "placeholder"]
        given = node.args[len(node.args) - len(placeholders) :]  # they come last
        for placeholder, argument in zip(placeholders, given, strict=True):
            if isinstance(argument, Node):
                self._same[placeholder] = self._same.get(argument, argument)
            else:
                self._values[placeholder] = self._argument(argument)
        self._autocast += autocast
        self._walk(module)
        self._autocast -= autocast
        output = next(n for n in reversed(module.graph.nodes) if n.op == "output").args[0]
        return _Inlined(list(output) if isinstance(output, (list, tuple)) else [output])

    def expanded(self, module: GraphModule, operands: Sequence[Any]) -> list[Any]:
        """Walk another graph on values at hand; returns the list that it returns."""
        inner = Walker(self._job, self._graph, module, self._builder.provenance)
        inner._scalars.read.update(self._scalars.read)
        inner._context.in_region = self._context.in_region
        return inner._run_on(operands)

    def region(self, module: GraphModule, operands: Sequence[Any]) -> Graph:
        """A sub-graph of control flow; operands that are values become its inputs, dims and numbers stay what they
        are.
        """
        graph = Graph()
        inner = Walker(self._job, graph, module, self._builder.provenance)
        inner._context.in_region = True
        given = [graph.add_input(x.type) if isinstance(x, Value) else x for x in operands]
        outputs = inner._run_on(given)
        graph.set_outputs([self._as_value(inner, x) for x in outputs])
        return graph

    def _as_value(self, inner: Walker, x: Any) -> Value:
        if isinstance(x, Value):
            return x
        if isinstance(x, (bool, int, float, Number, DimExpr)):
            return inner.scalar(x)
        raise Unsupported(f"a region of control flow gives {x!r}, which is no tensor")

    def _run_on(self, operands: Sequence[Any]) -> list[Any]:
        placeholders = [n for n in self._module.graph.nodes if n.op == "placeholder"]
        for node, value in zip(placeholders, operands, strict=True):
            self.bind(node, value)
        self._builder.provenance = self._outer
        return self.run()


@dataclass
class _Inlined:
    """The outputs of an inlined region, as nodes of it."""

    outputs: list[Any]
