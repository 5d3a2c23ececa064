"""Comparing a skeleton with a graph, from its last node upwards.

Both orders of commutative operands are tried. Where the skeleton moves an operand (a transposed key, a scale reshaped
to broadcast), any value of the moved type will do: the operand is that value moved back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dragoman.ir.builder import Builder
from dragoman.ir.dims import same
from dragoman.ir.graph import Node, Value
from dragoman.ir.op import Op
from dragoman.ir.ops.constant import Constant
from dragoman.ir.types import TensorType, same_shape, same_type
from dragoman.passes.pattern import NearMiss, described, rounded_equal, scalar_of
from dragoman.passes.recognition.skeleton import Skeleton

_SMALL = 1 << 16  # elements of constants that are compared one by one


@dataclass(frozen=True)
class Moved:
    """An operand that was found: a value of the graph, and the shape or permutation that brings it to the operand."""

    value: Value
    perm: tuple[int, ...] | None = None
    shape: tuple[Any, ...] | None = None

    def build(self, b: Builder) -> Value:
        """The operand."""
        if self.perm is not None:
            return b.transpose(self.value, perm=self.perm)
        return self.value if self.shape is None else b.reshape(self.value, shape=self.shape)


@dataclass(frozen=True)
class Found:
    """A skeleton that was found: its operands, the attributes that were free, and the nodes it covers, root first."""

    operands: Mapping[Value, Moved]
    attributes: Mapping[str, float]
    nodes: tuple[Node, ...]
    inner: frozenset[Node]  # those that the op will compute, without its last and what depends on no operand
    constants: Mapping[Constant, Constant]  # of the graph, to those of the op: the same numbers of their dtype


@dataclass(slots=True)
class _State:
    values: Mapping[Value, Value] = field(default_factory=dict)
    leaves: Mapping[Value, Moved] = field(default_factory=dict)
    attributes: Mapping[str, float] = field(default_factory=dict)
    nodes: Mapping[Node, Node] = field(default_factory=dict)  # of the skeleton, to those of the graph
    constants: Mapping[Constant, Constant] = field(default_factory=dict)

    def node(self, wanted: Node, actual: Node) -> _State:
        return _State(self.values, self.leaves, self.attributes, {**self.nodes, wanted: actual}, self.constants)

    def value(self, wanted: Value, actual: Value) -> _State:
        return _State({**self.values, wanted: actual}, self.leaves, self.attributes, self.nodes, self.constants)

    def leaf(self, wanted: Value, moved: Moved) -> _State:
        return _State(self.values, {**self.leaves, wanted: moved}, self.attributes, self.nodes, self.constants)

    def attribute(self, name: str, number: float) -> _State:
        return _State(self.values, self.leaves, {**self.attributes, name: number}, self.nodes, self.constants)

    def constant(self, actual: Constant, wanted: Constant) -> _State:
        return _State(self.values, self.leaves, self.attributes, self.nodes, {**self.constants, actual: wanted})


_Pair = tuple[Value, Value, Node]


class Unifier:
    """Compares one skeleton with what ends at one node. `miss` is the nearest miss of the last failure."""

    def __init__(self, skeleton: Skeleton) -> None:
        self._skeleton = skeleton
        self._size = sum(node.op.name != "constant" for node in skeleton.graph)
        self.miss = NearMiss(-1, None, "", self._size)

    def unify(self, root: Node) -> Found | None:
        """The first way in which the skeleton ends at this node, or None."""
        self.miss = NearMiss(-1, root, "", self._size)
        wanted, actual = self._skeleton.graph.outputs[0], root.results[0]
        if not same_type(wanted.type, actual.type):
            return self._fail(_State(), root, f"the result is {actual.type} where {wanted.type} is needed")
        found = next(self._all([(wanted, actual, root)], _State()), None)
        if found is None:
            return None
        covered = tuple(dict.fromkeys(found.nodes.values()))
        inner = frozenset(n for w, n in found.nodes.items() if w not in self._skeleton.fixed) - {root}
        return Found(found.leaves, found.attributes, covered, inner, found.constants)

    def _fail(
        self, state: _State, node: Node | None, reason: str, wanted: type[Op] | None = None, found: Sequence[Value] = ()
    ) -> None:
        if len(state.nodes) > self.miss.depth:
            told = f"{reason}, found {' and '.join(map(described, found))}" if found else reason
            self.miss = NearMiss(len(state.nodes), node, told, self._size, wanted)

    def _all(self, todo: Sequence[_Pair], state: _State) -> Iterator[_State]:
        if not todo:
            yield state
            return
        (wanted, actual, user), rest = todo[0], todo[1:]
        if wanted in state.values:
            if state.values[wanted] is actual:
                yield from self._all(rest, state)
            else:
                self._fail(state, user, "one value is needed twice", found=[state.values[wanted], actual])
            return
        for more, extended in self._ways(wanted, actual, user, state):
            yield from self._all([*more, *rest], extended.value(wanted, actual))

    def _ways(self, wanted: Value, actual: Value, user: Node, state: _State) -> Iterator[tuple[list[_Pair], _State]]:
        node = wanted.producer
        if node is None:
            yield from self._leaf(wanted, actual, user, state)
        elif isinstance(node.op, Constant):
            yield from self._constant(wanted, node, actual, user, state)
        else:
            yield from self._application(wanted, node, actual, user, state)
            yield from self._absorbed(wanted, node, actual, state)

    # ---- operands -------------------------------------------------------------------------------------

    def _leaf(self, wanted: Value, actual: Value, user: Node, state: _State) -> Iterator[tuple[list[_Pair], _State]]:
        if wanted.weight is not None:
            if _equal_weights(wanted, actual):
                yield [], state
            else:
                self._fail(state, user, f"a constant {wanted.type} of other values is needed")
        elif same_type(wanted.type, actual.type):
            yield [], state.leaf(wanted, Moved(actual))
        elif _differ_by_ones(wanted.type, actual.type):
            yield [], state.leaf(wanted, Moved(actual, shape=wanted.type.shape))
        else:
            self._fail(state, user, f"an operand {wanted.type} is needed", found=[actual])

    def _absorbed(
        self, wanted: Value, node: Node, actual: Value, state: _State
    ) -> Iterator[tuple[list[_Pair], _State]]:
        """A moved operand: any value of that type, moved back."""
        leaf = node.operands[0] if node.operands else None
        if leaf is None or leaf not in self._skeleton.leaves or leaf in state.leaves or len(leaf.uses) != 1:
            return
        if node.op.name == "transpose" and same_type(wanted.type, actual.type):
            perm = node.op.perm  # type: ignore[attr-defined]
            inverse = tuple(int(i) for i in np.argsort(perm))
            yield [], state.leaf(leaf, Moved(actual, perm=inverse))
        elif node.op.name == "reshape" and (
            same_type(wanted.type, actual.type) or _differ_by_ones(wanted.type, actual.type)
        ):
            yield [], state.leaf(leaf, Moved(actual, shape=leaf.type.shape))

    # ---- constants ------------------------------------------------------------------------------------

    def _constant(
        self, wanted: Value, node: Node, actual: Value, user: Node, state: _State
    ) -> Iterator[tuple[list[_Pair], _State]]:
        number = _number(actual)
        if number is None or isinstance(number, str):
            return self._fail(state, user, "a scalar constant is needed", found=[actual])
        if actual.type.dtype != wanted.type.dtype:
            return self._fail(state, user, f"a constant is {actual.type.dtype} where {wanted.type.dtype} is needed")
        origin = self._skeleton.free.get((node, "value"))
        if origin is None:
            needed = node.op.value  # type: ignore[attr-defined]
            if not rounded_equal(needed, number, actual):
                return self._fail(state, user, f"the constant is {number} where {needed} is needed")
            if needed != number and isinstance(actual.op, Constant) and isinstance(node.op, Constant):
                state = state.constant(actual.op, node.op)
        elif origin.inverse is not None and not isinstance(number, complex):
            return (yield from self._bind(origin.name, origin.inverse, number, user, state))
        yield [], state
        return None

    def _bind(
        self, name: str, inverse: Any, number: float, user: Node, state: _State
    ) -> Iterator[tuple[list[_Pair], _State]]:
        try:
            bound = float(inverse(number))
        except (ArithmeticError, ValueError):
            return self._fail(state, user, f"no {name} gives the constant {number}")
        known = state.attributes.get(name)
        if known is not None and not np.isclose(known, bound, rtol=1e-6, atol=0.0):
            return self._fail(state, user, f"{name} would be {bound} here and is {known} elsewhere")
        yield [], (state if known is not None else state.attribute(name, bound))
        return None

    # ---- applications ---------------------------------------------------------------------------------

    def _application(
        self, wanted: Value, node: Node, actual: Value, user: Node, state: _State
    ) -> Iterator[tuple[list[_Pair], _State]]:
        found = actual.producer
        if found is None:
            return self._fail(state, user, f"{node.op.name} is needed", found=[actual])
        if _reshapes(node) and _reshapes(found):
            if same_type(wanted.type, actual.type) and node.operands[0] is not None and found.operands[0] is not None:
                yield [(node.operands[0], found.operands[0], found)], state.node(node, found)
            return None
        if type(found.op) is not type(node.op):
            return self._fail(state, found, f"{node.op.name} is needed, found {found.op.name}", type(node.op))
        if wanted.index != actual.index:
            return self._fail(state, found, f"result {wanted.index} is needed, found result {actual.index}")
        if node in state.nodes and state.nodes[node] is not found:
            return self._fail(state, found, "two nodes where the decomposition has one")
        if not (same_type(wanted.type, actual.type) or _differ_by_ones(wanted.type, actual.type)):
            if len(state.nodes) > self.miss.depth:
                self._fail(state, *_first_difference(wanted, actual, found))
            return None
        extended = self._attributes(node, found, state)
        if extended is None:
            return None
        for order in _orders(found):
            pairs = self._pairs(node, order, found, extended)
            if pairs is not None:
                yield pairs, extended.node(node, found)
        return None

    def _attributes(self, node: Node, found: Node, state: _State) -> _State | None:
        for name in node.op.attribute_names():
            needed, given = getattr(node.op, name), getattr(found.op, name)
            origin = self._skeleton.free.get((node, name))
            if origin is not None:
                ways = () if origin.inverse is None else self._bind(origin.name, origin.inverse, given, found, state)
                state = next((s for _, s in ways), state)
            elif not _same_attribute(name, needed, given, node, found):
                self._fail(state, found, f"{name}={given} where {needed} is needed")
                return None
        return state

    def _pairs(self, node: Node, operands: Sequence[Value | None], found: Node, state: _State) -> list[_Pair] | None:
        if len(operands) != len(node.operands) or any(
            (w is None) != (a is None) for w, a in zip(node.operands, operands, strict=True)
        ):
            self._fail(state, found, f"{found.op.name} has other operands than are needed")
            return None
        pairs = [(w, a, found) for w, a in zip(node.operands, operands, strict=True) if w is not None and a is not None]
        # A constant first, then what is computed: it tells more than what is given, and a wrong turn is seen early.
        return sorted(pairs, key=lambda pair: -isinstance(pair[0].op, Constant) or pair[0].producer is None)


def _first_difference(wanted: Value, actual: Value, found: Node) -> tuple[Node, str]:
    """Where a type begins to be another one: upwards through the same ops, to the attribute or operand that differs."""
    reason = f"{found.op.name} gives {actual.type} where {wanted.type} is needed"
    while wanted.producer is not None and type(wanted.producer.op) is type(found.op):
        needed, pairs = wanted.producer, list(zip(wanted.producer.operands, found.operands, strict=False))
        for name in found.op.attribute_names():
            if not _same_attribute(name, getattr(needed.op, name), getattr(found.op, name), needed, found):
                return found, f"{name}={getattr(found.op, name)} where {getattr(needed.op, name)} is needed: {reason}"
        turned = [(w, a) for w, a in pairs if w is not None and a is not None and not same_type(w.type, a.type)]
        if not turned:
            break
        wanted, actual = turned[-1]
        if actual.producer is None or wanted.producer is None:
            return found, f"an operand {wanted.type} is needed, found {described(actual)}"
        found = actual.producer
        reason = f"{found.op.name} gives {actual.type} where {wanted.type} is needed"
    return found, reason


def _reshapes(node: Node) -> bool:
    """Whether it only writes the shape anew: three ops, one meaning where the result types are equal."""
    return node.op.name in ("reshape", "squeeze", "unsqueeze")


def _orders(node: Node) -> Iterator[Sequence[Value | None]]:
    yield node.operands
    if node.op.commutative and len(node.operands) >= 2 and node.operands[0] is not node.operands[1]:
        yield [node.operands[1], node.operands[0], *node.operands[2:]]


def _same_attribute(name: str, needed: Any, given: Any, node: Node, found: Node) -> bool:
    if name in ("axis", "axes") and needed is not None and given is not None:
        ranks = [t.rank for t in (*found.operand_types, *(r.type for r in found.results)) if t is not None]
        rank = max(ranks) or 1
        any_order = hasattr(found.op, "keepdims")  # of a reduction
        return _counted(needed, rank, any_order) == _counted(given, rank, any_order)
    if isinstance(needed, tuple) and isinstance(given, tuple):
        return len(needed) == len(given) and all(map(_same_item, needed, given))
    return _same_item(needed, given)


def _counted(axes: Any, rank: int, any_order: bool) -> Any:
    if isinstance(axes, int):
        return axes % rank
    counted = [a % rank for a in axes]
    return sorted(counted) if any_order else counted


def _same_item(needed: Any, given: Any) -> bool:
    if type(needed) is bool or type(given) is bool:
        return needed is given
    if needed == given:
        return True
    try:
        return bool(same(needed, given))
    except (TypeError, AttributeError):
        return False


def _number(value: Value) -> float | complex | str | None:
    number = scalar_of(value)
    if number is None and value.weight is not None and value.weight.shape and set(value.weight.shape) == {1}:
        item = value.weight.array().reshape(())[()]
        return float(item) if value.type.dtype.is_float else None
    return number


def _equal_weights(wanted: Value, actual: Value) -> bool:
    if actual.weight is None or wanted.weight is None or not same_type(wanted.type, actual.type):
        return False
    size = wanted.type.size
    if not isinstance(size, int) or size > _SMALL:
        return False
    return bool(np.array_equal(np.asarray(wanted.weight.array()), np.asarray(actual.weight.array())))


def _differ_by_ones(wanted: TensorType, actual: TensorType) -> bool:
    """Whether one type has leading extents of 1 that the other lacks."""
    if wanted.dtype != actual.dtype or wanted.rank == actual.rank:
        return False
    short, long = sorted((wanted.shape, actual.shape), key=len)
    extra = len(long) - len(short)
    return all(d == 1 for d in long[:extra]) and same_shape(short, long[extra:])
