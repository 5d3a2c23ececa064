"""The gates of a recurrent cell in the body of a loop, as affine functions of what the loop sees and of its state.

Owns the taking apart (`Gates.affine`) and the putting together of weights outside of the loop (`Gates.layer`). Shapes:
t time steps, b sequences, i inputs, h hidden units, g gates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dragoman.ir.builder import Builder
from dragoman.ir.dims import Dim, same
from dragoman.ir.graph import Node, Value
from dragoman.ir.op import normal_axis
from dragoman.ir.ops.control import Scan
from dragoman.passes.pattern import scalar_of


class NoCell(Exception):
    """Why a loop's body is not the cell that was looked for."""


@dataclass
class Affine:
    """Σ source·weightᵀ + Σ bias; weights [h, n] by source, biases [h], all of them values outside of the loop.

    `products` are terms that are products of two values that vary.
    """

    weights: dict[Value, list[Value]] = field(default_factory=dict)
    biases: list[Value] = field(default_factory=list)
    products: list[Value] = field(default_factory=list)
    sign: float = 1.0

    def negated(self) -> Affine:
        """Its negative."""
        return Affine(self.weights, self.biases, self.products, -self.sign)

    def joined(self, other: Affine) -> Affine:
        """With the weights of another, without its biases."""
        return Affine({**self.weights, **other.weights}, self.biases, [], self.sign)


@dataclass(frozen=True)
class Layer:
    """Operands of a recurrent layer: x [t, b, i], w [1, g·h, i], r [1, g·h, h], bias [1, g·h]."""

    x: Value
    w: Value
    r: Value
    bias: Value | None


class Gates:
    """The body of one loop. What it makes goes before the loop."""

    def __init__(self, b: Builder, node: Node) -> None:
        assert isinstance(node.op, Scan)
        op = node.op
        self.b = b
        self.node = node
        self.reverse = op.reverse
        self.results = op.body.outputs
        self.carries = op.body.inputs[: op.carries]
        end = len(op.body.inputs) - op.invariants
        operands = [v for v in node.operands if v is not None]
        self._sequences = dict(zip(op.body.inputs[op.carries : end], operands[op.carries : end], strict=True))
        self._known: dict[Value, Value | None] = dict(zip(op.body.inputs[end:], operands[end:], strict=True))
        self._known.update(dict.fromkeys([*self.carries, *self._sequences]))
        self._starts = operands[: op.carries]
        self.absorbed: list[Node] = []  # nodes before the loop that the layer computes

    # ---- taking apart -------------------------------------------------------------------------------

    def affine(self, value: Value, *, products: bool = False) -> Affine:
        """A value of the body as an affine function. Raises NoCell."""
        found = Affine()
        self._collect(value, 0, value.type.shape[-1], found)
        if found.products and not (products and len(found.products) == 1):
            raise NoCell("a gate is no affine function of the input and the state")
        return found

    def _collect(self, value: Value, start: Dim, size: Dim, into: Affine) -> None:
        """Add columns of a value [b, n]."""
        constant = self.outside(value)
        if constant is not None:
            into.biases.append(self._bias(constant, start, size))
            return
        node = value.producer
        if node is None:
            if value not in self._sequences:
                raise NoCell("the state is added to a gate as it is")
            self._collect_projected(self._sequences[value], start, size, into)
            return
        op: Any = node.op
        operands = [v for v in node.operands if v is not None]
        if op.name == "add":
            for operand in operands:
                stretched = operand.type.rank and not same(operand.type.shape[-1], value.type.shape[-1])
                if stretched and self.outside(operand) is None:
                    raise NoCell("a gate is stretched")
                self._collect(operand, start, size, into)
        elif op.name in ("slice", "split"):
            self._collect(operands[0], _offset(node, value) + start, size, into)
        elif op.name in ("linear", "matmul"):
            self._collect_product(node, operands, start, size, into, None)
        elif op.name == "mul" and start == 0 and same(size, value.type.shape[-1]):
            into.products.append(value)
        else:
            raise NoCell(f"a gate has {op.name} in it")

    def _collect_projected(self, sequence: Value, start: Dim, size: Dim, into: Affine) -> None:
        """Columns of a sequence [t, b, n] that was multiplied before the loop."""
        node = sequence.producer
        if node is None:
            raise NoCell("the input is added to a gate as it is")
        operands = [v for v in node.operands if v is not None]
        if node.op.name == "add":
            self._absorb(node)
            for operand in operands:
                if self._is_bias(operand):
                    into.biases.append(self._bias(operand, start, size))
                else:
                    self._collect_projected(operand, start, size, into)
        elif node.op.name in ("linear", "matmul") and operands[1].type.rank == 2:
            self._absorb(node)
            self._collect_product(node, operands, start, size, into, operands[0])
        else:
            raise NoCell(f"what is added to a gate comes from {node.op.name}, not from a product")

    def _collect_product(
        self, node: Node, operands: Sequence[Value], start: Dim, size: Dim, into: Affine, source: Value | None
    ) -> None:
        given, weight = operands[:2]
        matrix = weight if source is not None else self.outside(weight)
        if matrix is None or matrix.type.rank != 2:
            raise NoCell("a gate is multiplied with what changes from turn to turn")
        rows = self._columns(matrix, 0 if node.op.name == "linear" else 1, start, size)
        rows = rows if node.op.name == "linear" else self.b.transpose(rows, perm=(1, 0))
        if len(operands) > 2:
            bias = operands[2] if source is not None else self.outside(operands[2])
            if bias is None:
                raise NoCell("a bias changes from turn to turn")
            into.biases.append(self._bias(bias, start, size))
        self._multiply(given, rows, into, source)

    def _multiply(self, given: Value, rows: Value, into: Affine, source: Value | None) -> None:
        node = given.producer
        if source is None and node is not None and node.op.name == "concat":
            at: Dim = 0
            if normal_axis(node.op.axis, given.type.rank) != given.type.rank - 1:  # type: ignore[attr-defined]
                raise NoCell("input and state are joined along another axis")
            for part in node.operands:
                assert part is not None
                width = part.type.shape[-1]
                self._multiply(part, self._columns(rows, 1, at, width), into, None)
                at = at + width
            return
        key = self._sequences.get(given, given)
        into.weights.setdefault(key, []).append(rows)

    def _absorb(self, node: Node) -> None:
        if node not in self.absorbed:
            self.absorbed.append(node)

    # ---- outside of the loop ------------------------------------------------------------------------

    def outside(self, value: Value) -> Value | None:
        """A value of the body that is the same in each turn, computed before the loop; None where it changes."""
        if value in self._known:
            return self._known[value]
        node, found = value.producer, None
        if value.weight is not None:
            found = self.node.graph.add_weight(value.name, value.weight)  # type: ignore[union-attr]
        elif node is not None and not node.op.regions:
            operands = [None if v is None else self.outside(v) for v in node.operands]
            if all(new is not None or v is None for new, v in zip(operands, node.operands, strict=True)):
                found = self.b.apply(node.op, *operands)[value.index]
        self._known[value] = found
        return found

    def is_one(self, value: Value | None) -> bool:
        """Whether a value is the number 1, or that number many times."""
        while value is not None and value.producer is not None and value.producer.op.name == "broadcast_to":
            value = value.producer.operands[0]
        return value is not None and scalar_of(value) == 1

    @staticmethod
    def _is_bias(value: Value) -> bool:
        return all(isinstance(d, int) and d == 1 for d in value.type.shape[:-1])

    def _bias(self, value: Value, start: Dim, size: Dim) -> Value:
        """Columns of what is added to each row: [h]."""
        if not self._is_bias(value):
            raise NoCell(f"a bias {value.type} differs between sequences")
        if not value.type.rank or (same(value.type.shape[-1], 1) and not same(size, 1)):
            flat = value if not value.type.rank else self.b.reshape(value, shape=())
            return self.b.broadcast_to(flat, shape=(size,))
        flat = value if value.type.rank == 1 else self.b.reshape(value, shape=value.type.shape[-1:])
        return self._columns(flat, 0, start, size)

    def _columns(self, value: Value, axis: int, start: Dim, size: Dim) -> Value:
        if same(value.type.shape[axis], size):
            return value
        return self.b.slice(value, axes=(axis,), starts=(start,), stops=(start + size,), steps=(1,))

    # ---- putting together ---------------------------------------------------------------------------

    def layer(self, b: Builder, gates: Sequence[Affine], hidden: int) -> Layer:
        """The operands of a layer with these gates, its hidden state in that carry. Raises NoCell."""
        state = self.carries[hidden]
        inputs = list(dict.fromkeys(s for gate in gates for s in gate.weights if s is not state))
        if len(inputs) != 1 or inputs[0].type.rank != 3 or inputs[0] in self._known:
            raise NoCell("the gates do not see one input and one state")
        (x,) = inputs
        size, dtype = state.type.shape[-1], state.type.dtype
        rows = [self._summed(b, gate.weights.get(s), gate.sign) for s in (x, state) for gate in gates]
        if any(r is None for r in rows):
            raise NoCell("a gate does not see both the input and the state")
        biases = [self._summed(b, gate.biases, gate.sign) for gate in gates]
        bias = None
        if any(v is not None for v in biases):
            zeros = b.broadcast_to(b.const(0.0, dtype), shape=(size,))
            bias = _stacked(b, [zeros if v is None else v for v in biases])
        count = len(gates)
        return Layer(x, _stacked(b, rows[:count]), _stacked(b, rows[count:]), bias)

    def last_bias(self, b: Builder, gate: Affine, count: int) -> Value | None:
        """The bias of a gate as that of the last of so many."""
        bias = self._summed(b, gate.biases, gate.sign)
        if bias is None:
            return None
        zeros = b.broadcast_to(b.const(0.0, bias.type.dtype), shape=bias.type.shape)
        return _stacked(b, [*[zeros] * (count - 1), bias])

    @staticmethod
    def _summed(b: Builder, values: Sequence[Value] | None, sign: float) -> Value | None:
        total: Value | None = None
        for value in values or ():
            total = value if total is None else b.add(total, value)
        return b.neg(total) if total is not None and sign < 0 else total

    def start(self, b: Builder, carry: int) -> Value | None:
        """An initial state as a layer has it: [1, b, h]; None for zeros."""
        value = self._starts[carry]
        if value.producer is not None and value.producer.op.name == "broadcast_to":
            (filled,) = value.producer.operands
            if filled is not None and scalar_of(filled) == 0:
                self._absorb(value.producer)
                return None
        return b.reshape(value, shape=(1, *value.type.shape))

    def replaced(self, b: Builder, results: Sequence[Value], hidden: int) -> tuple[Value, ...]:
        """The results of the loop from those of a layer (outputs, last states). Raises NoCell."""
        outputs, *states = results
        ordered = states if hidden == 0 else states[::-1]
        count = len(self.carries)
        if any(v is not self.results[hidden] for v in self.results[count:]):
            raise NoCell("the loop gives out more than its hidden state")
        last = [b.reshape(s, shape=s.type.shape[1:]) for s in ordered]
        return (*last, *([outputs] * (len(self.results) - count)))


def _offset(node: Node, value: Value) -> Dim:
    """Where a slice, or a part of a split, of the last axis begins. Raises NoCell."""
    op: Any = node.op
    rank = value.type.rank
    axes = op.axes if node.op.name == "slice" else (op.axis,)
    if tuple(a % rank for a in axes) != (rank - 1,) or (node.op.name == "slice" and op.steps != (1,)):
        raise NoCell("gates are not cut out along the last axis")
    if node.op.name == "slice":
        return op.starts[0]
    at: Dim = 0
    for size in op.sizes[: value.index]:
        at = at + size
    return at


def _stacked(b: Builder, rows: Sequence[Value | None]) -> Value:
    """Blocks one below the other, with a leading axis for the one direction."""
    given = [r for r in rows if r is not None]
    joined = given[0] if len(given) == 1 else b.concat(*given, axis=0)
    return b.reshape(joined, shape=(1, *joined.type.shape))
