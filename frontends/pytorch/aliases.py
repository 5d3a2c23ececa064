"""Tensors that share memory, in an exported graph that still writes in place.

The IR has values, not memory. A tensor that the graph writes to, or a view of one, is kept here as *root value plus
view*: reading a view after a write computes it again from the root, and writing to a view writes it back into the
root, view by view. Which tensors share memory is read from torch's fake tensors, so that `reshape` or `contiguous`
count as views exactly where they were.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch._ops import OpOverload
from torch.fx import GraphModule, Interpreter, Node

from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value

# Operators that change arguments without saying so in their schema: which ones, and the argument that turns it on.
_SECRET_WRITES: dict[str, tuple[int, tuple[int, ...]]] = {
    "aten.batch_norm.default": (5, (3, 4)),
    "aten.instance_norm.default": (5, (3, 4)),
    "aten.native_batch_norm.default": (5, (3, 4)),
}


# Operators in place that change what a tensor looks like, not what is in memory: they give a view.
_RESHAPING = frozenset(
    f"aten.{name}_.{overload}"
    for name in ("detach", "t", "transpose", "squeeze", "unsqueeze", "swapaxes", "swapdims", "requires_grad")
    for overload in ("default", "int", "dim", "dims")
)
# Operators that hand on their argument itself where they do nothing, though traces show a copy.
_PASSING = frozenset(
    f"aten.{name}.default" for name in ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
)
# Operators that copy what their fake tensors pretend to share.
_COPIES = frozenset({"aten.lift_fresh_copy.default", "aten.clone.default"})


@dataclass(slots=True, eq=False)
class _Tensor:
    """A tensor of written memory: the view it is, its value and the write after which that was computed.

    `storage` is what torch knows the memory by, `memory` what we do: a copy has the storage of its original in a trace.
    """

    view: Node
    storage: int
    memory: int
    parent: _Tensor | None
    value: Value
    version: int


Place = int | str  # an argument by position or by keyword


def written_arguments(node: Node) -> tuple[Place, ...]:
    """The tensor arguments that a node changes, or lists of them."""
    switch, written = _writes(node.target)
    if not written:
        return ()
    if switch is not None:
        on = node.args[switch] if len(node.args) > switch else node.kwargs.get("training", False)
        if not on:
            return ()
    places = ((i if i < len(node.args) else name) for i, name in written)
    return tuple(p for p in places if isinstance(argument_at(node, p), (Node, list, tuple)))


def argument_at(node: Node, place: Place) -> Any:
    """An argument by position or keyword, None if it is not given."""
    return node.args[place] if isinstance(place, int) else node.kwargs.get(place)


@cache
def _writes(target: Any) -> tuple[int | None, tuple[tuple[int, str], ...]]:
    """The argument that says whether an operator writes at all, if one does, and those that it writes to."""
    if not isinstance(target, OpOverload):
        return None, ()
    name = str(target)
    schema = schema_of(target)
    if name in _SECRET_WRITES:
        switch, positions = _SECRET_WRITES[name]
        return switch, tuple((i, schema.arguments[i].name) for i in positions)
    if not schema.is_mutable or name in _RESHAPING:
        return None, ()
    infos = ((i, a.name, a.alias_info) for i, a in enumerate(schema.arguments))
    return None, tuple((i, n) for i, n, alias in infos if alias is not None and alias.is_write)


def schema_of(target: Any) -> Any:
    """What an operator's arguments and results are, and which of them it writes to."""
    return target._schema


@cache
def functional_form(target: Any) -> str | None:
    """The name of the form of an operator that writes nothing: `add.Tensor` for `add_.Tensor` and `add.out`."""
    schema, name = schema_of(target), str(target)
    namespace, base, overload = name.split(".", 2)
    if base.endswith("_") and not base.endswith("__"):
        return f"{namespace}.{base[:-1]}.{overload}"
    wanted = [(a.name, str(a.type)) for a in schema.arguments if not a.is_out]
    for other in target.overloadpacket.overloads():
        found = schema_of(getattr(target.overloadpacket, other))
        if not found.is_mutable and [(a.name, str(a.type)) for a in found.arguments] == wanted:
            return f"{namespace}.{base}.{other}"
    return None


@cache
def _passes(target: Any) -> bool:
    return str(target) in _PASSING


class Aliases:
    """Follows the memory that a graph writes to. `replay` computes a view node again; `write_back` undoes a view."""

    def __init__(
        self,
        module: GraphModule,
        same: Mapping[Node, Node],
        replay: Callable[[Node], Value],
        write_back: Callable[[Node, Value, Value], Value],
    ) -> None:
        self._same = same  # nodes that stand for others
        self._replay = replay
        self._write_back = write_back
        self._memory = _Memory(module)
        self._written = {self._memory.of(a) for m in _inlined(module) for n in m.graph.nodes for a in _written_nodes(n)}
        self._tensors: dict[Node, _Tensor] = {}
        self._versions: dict[int, int] = {}
        self._roots: dict[int, int] = {}  # how many tensors of a storage are no view of another

    def follows(self, node: Node) -> bool:
        """Whether a node's tensor lies in memory that the graph writes to."""
        return bool(self._written) and self._memory.of(node) in self._written

    def add(self, node: Node, value: Value) -> None:
        """A node has been translated: remember its tensor with the one it is a view of."""
        storage = self._memory.of(node)
        sources = (self._tensors.get(self._same.get(a, a)) for a in _sources(node))
        parent = next((t for t in sources if t is not None and t.storage == storage), None)
        if str(node.target) in _COPIES:
            parent = None
        elif parent is None:
            self._roots[storage] = self._roots.get(storage, 0) + 1
        memory = len(self._versions) if parent is None else parent.memory
        version = self._versions.setdefault(memory, 0)
        self._tensors[node] = _Tensor(node, storage, memory, parent, value, version)

    def share(self, node: Node, other: Node) -> None:
        """A node's tensor is the very tensor of another node: the result of an operator in place."""
        if other in self._tensors:
            self._tensors[node] = self._tensors[other]

    def read(self, node: Node) -> Value:
        """The value of a followed tensor now."""
        return self._current(self._tensors[node])

    def write(self, node: Node, value: Value) -> None:
        """A node's tensor has become `value`: so has the part of the memory that it is a view of."""
        chain = [self._tensors[node]]
        if self._roots.get(chain[0].storage, 0) > 1:
            raise Unsupported("it writes to memory that several inputs of the model share")
        while (parent := chain[-1].parent) is not None:
            chain.append(parent)
        before = [self._current(tensor) for tensor in chain]
        self._versions[chain[0].memory] += 1
        for index, tensor in enumerate(chain):
            self._set(tensor, value)
            if tensor.parent is not None:
                value = self._write_back(tensor.view, before[index + 1], value)

    def was_written(self, node: Node) -> bool:
        """Whether the memory that a node's tensor lies in has been written to."""
        tensor = self._tensors.get(node)
        return tensor is not None and self._versions[tensor.memory] > 0

    def _current(self, tensor: _Tensor) -> Value:
        stale: list[_Tensor] = []
        while tensor.version < self._versions[tensor.memory]:
            stale.append(tensor)
            assert tensor.parent is not None, "the root of a memory is always current"
            tensor = tensor.parent
        value = tensor.value
        for view in reversed(stale):
            value = self._replay(view.view)
            self._set(view, value)
        return value

    def _set(self, tensor: _Tensor, value: Value) -> None:
        tensor.value, tensor.version = value, self._versions[tensor.memory]


def _inlined(module: GraphModule) -> Iterator[GraphModule]:
    """A module and those that its regions (no_grad, autocast) were moved to."""
    yield module
    for child in module.children():
        if isinstance(child, GraphModule):
            yield from _inlined(child)


def _written_nodes(node: Node) -> Iterator[Node]:
    for place in written_arguments(node):
        argument = argument_at(node, place)
        yield from (a for a in (argument if isinstance(argument, (list, tuple)) else [argument]) if isinstance(a, Node))


def _sources(node: Node) -> Sequence[Node]:
    """The tensors that a node may be a view of: its arguments, or those of the operator whose result it picks."""
    if node.op == "call_function" and node.target is _GETITEM and isinstance(node.args[0], Node):
        return node.args[0].all_input_nodes
    return node.all_input_nodes


_GETITEM: Any = operator.getitem


class _Memory:
    """Which memory each node's tensor lies in: the storage of its fake tensor."""

    def __init__(self, module: GraphModule) -> None:
        self._found: dict[Node, int] = {}
        if any(self._is_torn(n) for n in module.graph.nodes):
            _Restored(module, self._found).run_again()

    def of(self, node: Node) -> int:
        """An identity of the memory; 0 for what is no tensor."""
        while _passes(node.target) and isinstance(node.args[0], Node):
            node = node.args[0]
        found = self._found.get(node)
        if found is None:
            found = self._found[node] = _storage(node.meta.get("val"))
        return found

    def _is_torn(self, node: Node) -> bool:
        # A program read from a file has fresh fake tensors, so that not even `x.add_(1)` shares memory with x.
        written = list(_written_nodes(node))
        value = node.meta.get("val")
        returns_first = isinstance(value, torch.Tensor) and written and written[0] is node.args[0]
        return bool(returns_first and _storage(value) != _storage(written[0].meta.get("val")))


def _storage(value: Any) -> int:
    storage: Any = value.untyped_storage() if isinstance(value, torch.Tensor) else None
    return 0 if storage is None else int(storage._cdata)


class _Restored(Interpreter):
    """Runs a graph again on its fake inputs to see which tensors share memory."""

    def __init__(self, module: GraphModule, found: dict[Node, int]) -> None:
        super().__init__(module, garbage_collect_values=False)
        self._found = found
        self._kept: list[Any] = []

    def run_again(self) -> None:
        """Fill the table."""
        from torch._guards import detect_fake_mode

        inputs = [n.meta.get("val") for n in self.module.graph.nodes if n.op == "placeholder"]  # type: ignore[union-attr]
        mode = detect_fake_mode(inputs)
        if mode is not None:
            with mode, torch.no_grad():
                self.run(*inputs, enable_io_processing=False)

    def run_node(self, n: Node) -> Any:
        """The node's result; its storage is noted and kept alive, so that its identity is not given away."""
        result = super().run_node(n)
        self._kept.append(result)
        self._found[n] = _storage(result)
        return result
