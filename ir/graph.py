"""Mutable SSA: values know producer and uses, nodes are a linked list, a graph owns inputs, weights, nodes and outputs.

Every edit costs what it touches: inserting, erasing and replacing all uses never walk the graph. The outputs are the
operands of a `return` terminator, so replacing a value reaches them too. Sub-graphs of control flow are graphs of their
own and capture nothing: what they need is passed as operands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from dragoman.ir.dims import Symbol
from dragoman.ir.errors import VerifyError
from dragoman.ir.op import Op
from dragoman.ir.provenance import NOWHERE, Provenance
from dragoman.ir.types import TensorType
from dragoman.ir.weights import Weight, weight_type


class Value:
    """A tensor of the program: an input, a weight or the result of a node."""

    __slots__ = ("index", "name", "producer", "type", "uses", "weight")

    def __init__(
        self,
        type: TensorType,
        producer: Node | None = None,
        index: int = 0,
        name: str = "",
        weight: Weight | None = None,
    ) -> None:
        self.type = type
        self.producer = producer
        self.index = index  # which result of the producer
        self.name = name  # of an input or weight; for results a hint
        self.weight = weight
        self.uses: dict[tuple[Node, int], None] = {}

    @property
    def users(self) -> list[Node]:
        """Nodes that have this value as an operand, each once, the terminator among them."""
        return list(dict.fromkeys(node for node, _ in self.uses))

    @property
    def op(self) -> Op | None:
        """The op that produces this value; None for inputs and weights."""
        return self.producer.op if self.producer else None

    def replace_all_uses(self, new: Value) -> None:
        """Make everything that used this value use `new`."""
        for node, operand in list(self.uses):
            node.set_operand(operand, new)

    def __repr__(self) -> str:
        origin = self.producer.op.name if self.producer else ("weight" if self.weight is not None else "input")
        return f"<{origin} {self.name or '%'}: {self.type}>"


class Node:
    """One application of an op. Operands may be None where the op has optional ones."""

    __slots__ = ("graph", "next", "op", "operands", "previous", "provenance", "results")

    def __init__(self, op: Op, operands: Sequence[Value | None], provenance: Provenance = NOWHERE) -> None:
        self.op = op
        self.operands = list(operands)
        self.results: tuple[Value, ...] = ()
        self.provenance = provenance
        self.graph: Graph | None = None
        self.previous: Node | None = None
        self.next: Node | None = None
        self._use_operands()

    @property
    def result(self) -> Value:
        """The only result. Raises VerifyError for nodes with several."""
        if len(self.results) != 1:
            raise VerifyError(f"{self.op.name} has {len(self.results)} results where one was expected")
        return self.results[0]

    @property
    def operand_types(self) -> tuple[TensorType | None, ...]:
        """Types of the operands."""
        return tuple([v.type if v is not None else None for v in self.operands])

    def set_operand(self, index: int, value: Value | None) -> None:
        """Replace one operand and keep the use lists true."""
        old = self.operands[index]
        if old is not None:
            del old.uses[(self, index)]
        self.operands[index] = value
        if value is not None:
            value.uses[(self, index)] = None

    def set_operands(self, values: Sequence[Value | None]) -> None:
        """Replace all operands and keep the use lists true."""
        for index, old in enumerate(self.operands):
            if old is not None:
                del old.uses[(self, index)]
        self.operands = list(values)
        self._use_operands()

    def _use_operands(self) -> None:
        for index, value in enumerate(self.operands):
            if value is not None:
                value.uses[self, index] = None

    @property
    def is_used(self) -> bool:
        """Whether any result has a use."""
        return any(r.uses for r in self.results)

    def __repr__(self) -> str:
        return f"<{self.op.describe(self.operand_types)} -> {', '.join(str(r.type) for r in self.results)}>"


class Return(Op):
    """The terminator: its operands are the graph's outputs, `names` their names. No op of the registry."""

    name: ClassVar[str] = "return"
    names: tuple[str, ...] = ()

    def infer(self, *outputs: TensorType) -> tuple[TensorType, ...]:
        """No results."""
        return ()


class Graph:
    """Inputs, weights, nodes in order, outputs. `name` is for people."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.inputs: list[Value] = []
        self.weights: dict[str, Value] = {}
        self.metadata: dict[str, str] = {}
        self.terminator = Node(Return(), ())
        self.terminator.graph = self
        self._first: Node = self.terminator
        self._count = 0
        self._input_names: set[str] = set()

    # ---- inputs, weights, outputs --------------------------------------------------------------------

    def add_input(self, type: TensorType, name: str = "") -> Value:
        """Append an input. Names of inputs are unique; an empty one is filled in."""
        if len(self._input_names) != len(self.inputs):
            self._input_names = {v.name for v in self.inputs}  # somebody edited the list
        name = self._fresh(name or f"input{len(self.inputs)}", self._input_names)
        self._input_names.add(name)
        value = Value(type, name=name)
        self.inputs.append(value)
        return value

    def add_weight(self, name: str, weight: Weight) -> Value:
        """A value for a weight. A name already taken gets a suffix."""
        name = self._fresh(name or f"weight{len(self.weights)}", self.weights)
        value = Value(weight_type(weight), name=name, weight=weight)
        self.weights[name] = value
        return value

    def remove_weight(self, name: str) -> None:
        """Forget a weight. Raises VerifyError while it is used, or if there is none of that name."""
        if name not in self.weights:
            raise VerifyError(f"there is no weight {name!r} to remove")
        if self.weights[name].uses:
            raise VerifyError(f"the weight {name!r} is still used by {self.weights[name].users[0]}")
        del self.weights[name]

    @staticmethod
    def _fresh(name: str, taken: set[str] | dict[str, Value]) -> str:
        if name not in taken:
            return name
        number = len(taken)
        while f"{name}_{number}" in taken:
            number += 1
        return f"{name}_{number}"

    @property
    def outputs(self) -> list[Value]:
        """The output values in order."""
        return [v for v in self.terminator.operands if v is not None]

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of the outputs, as many as there are outputs."""
        op = self.terminator.op
        assert isinstance(op, Return)
        return op.names

    def set_outputs(self, values: Sequence[Value], names: Sequence[str] | None = None) -> None:
        """Set the outputs; names default to those they had, else `output0`, `output1`, …"""
        if names is None:
            names = self.output_names if len(self.output_names) == len(values) else ()
        names = tuple(names) or tuple(f"output{i}" for i in range(len(values)))
        if len(names) != len(values) or len(set(names)) != len(names):
            raise VerifyError(f"{len(values)} outputs need as many different names, got {names}")
        self.terminator.set_operands(values)
        self.terminator.op = Return(names=names)

    # ---- nodes ---------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Node]:
        """Nodes in order without the terminator.

        Safe while nodes are erased or inserted, or the node just yielded is moved; what comes to stand between it and
        the node that followed it is not visited. To move others, iterate over `nodes`.
        """
        node = self._first
        while node is not self.terminator:
            following = node.next
            assert following is not None
            yield node
            while following.graph is not self:  # erased meanwhile; the links of an erased node lead on
                assert following.next is not None
                following = following.next
            node = following

    @property
    def nodes(self) -> list[Node]:
        """A snapshot of the nodes in order, without the terminator."""
        return list(self)

    def reversed(self) -> Iterator[Node]:
        """Nodes from last to first. Safe while nodes are erased or inserted, or the node just yielded is moved."""
        node = self.terminator.previous
        while node is not None:
            before = node.previous
            yield node
            while before is not None and before.graph is not self:
                before = before.previous
            node = before

    def insert(
        self, op: Op, operands: Sequence[Value | None], before: Node | None = None, provenance: Provenance = NOWHERE
    ) -> Node:
        """Add a node before another (default: at the end). Types are inferred; raises TypeRuleError."""
        before = before or self.terminator
        self._require_own(before)
        operands = list(operands)
        while operands and operands[-1] is None:
            operands.pop()
        types = op.result_types(tuple([v.type if v is not None else None for v in operands]))
        node = Node(op, operands, provenance)
        node.results = tuple([Value(t, node, i) for i, t in enumerate(types)])
        self._link(node, before)
        return node

    def _require_own(self, node: Node) -> None:
        if node.graph is not self:
            where = "was erased" if node.graph is None else "belongs to another graph"
            raise VerifyError(f"{node} {where}")

    def _link(self, node: Node, before: Node) -> None:
        node.graph, node.next, node.previous = self, before, before.previous
        if before.previous is None:
            self._first = node
        else:
            before.previous.next = node
        before.previous = node
        self._count += 1

    def move_before(self, node: Node, before: Node) -> None:
        """Move a node to another place in the order. Raises VerifyError for a node that is not in this graph."""
        self._require_own(before)
        if node is not before:
            self._unlink(node)
            self._link(node, before)

    def _unlink(self, node: Node) -> None:
        self._require_own(node)
        if node.next is None:
            raise VerifyError("the terminator can be neither erased nor moved")
        if node.previous is None:
            self._first = node.next
        else:
            node.previous.next = node.next
        node.next.previous = node.previous
        node.graph = None
        self._count -= 1

    def erase(self, node: Node) -> None:
        """Remove a node whose results are unused. Raises VerifyError otherwise."""
        if node.is_used:
            user = next(user for result in node.results for user in result.users)
            raise VerifyError(f"{node} is erased while it is used by {user}")
        self._unlink(node)
        node.set_operands(())

    def erase_dead(self, roots: Sequence[Value]) -> int:
        """Erase producers of unused values, and what only they used. Returns how many nodes went."""
        stack = [v.producer for v in roots if v.producer is not None]
        erased = 0
        while stack:
            node = stack.pop()
            if node.graph is not self or node.is_used or node is self.terminator or node.op.data_dependent:
                continue  # what tells a size may be needed by the types of others: eliminating it is for a pass
            stack.extend(v.producer for v in node.operands if v is not None and v.producer is not None)
            self.erase(node)
            erased += 1
        return erased

    def symbols(self) -> dict[str, Symbol]:
        """The symbols of inputs and of results (data-dependent sizes), by name."""
        found: dict[str, Symbol] = {}
        for value in self.inputs:
            found.update(value.type.symbols())
        for node in self:
            for result in node.results:
                if not result.type.is_static:
                    found.update(result.type.symbols())
        return found

    def __str__(self) -> str:
        from dragoman.ir.text import show

        return show(self)
