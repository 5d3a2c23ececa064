"""Graphs like a given one: other extents, ranks, axes and constants, in each of which a rule fires.

Which extents belong together is found by trial: a change is kept if the types still hold and the rule still fires. So a
free axis is told from one that has to agree with a weight, a channel count from groups times another, and the target of
a reshape from what it is reshaped from. Numbers of the program that a rule leaves free are found in the same way.
"""

from __future__ import annotations

import inspect
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from dragoman.ir.errors import DragomanError
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.op import Op
from dragoman.ir.region import clone
from dragoman.ir.weights import ArrayWeight
from dragoman.passes.rewrite import Rule, apply_rules

Shapes = dict[int, tuple[int, ...]]  # of inputs, then weights, by position
Ops = dict[int, Op]  # by position of the node
Place = tuple[Any, ...]  # ("shape", source, axis) or ("op", node, attribute, index, …)
_DIMS = ("Dim", "Shape")
_MOST_TRIALS = 160  # per extent: how many sets of places are tried that may have to change with it
_MOST_TOGETHER = 6


# What a rule may raise where it meets a graph that it does not expect.
TRIPPED = (DragomanError, ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)


@dataclass(frozen=True)
class Variable:
    """An extent that can be chosen: the value it has, and the places that are multiples of it."""

    value: int
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Instance:
    """A graph in which the rule fires, and the numbers in it that stand for any number."""

    graph: Graph
    free: tuple[float, ...] = ()


def fires(rule: Rule, graph: Graph | None) -> bool:
    """Whether the rule fires in a graph, or trips over it, which is for the proof to tell. The graph stays as it is."""
    if graph is None:
        return False
    asked: list[Node] = []

    def refuse(_: Rule, node: Node, *__: Any) -> bool:
        asked.append(node)
        return False

    try:
        apply_rules(clone(graph), [rule], refuse)
    except TRIPPED:
        return True
    return bool(asked)


def rebuilt(graph: Graph, shapes: Mapping[int, tuple[int, ...]], ops: Mapping[int, Op]) -> Graph | None:
    """A copy with some shapes of inputs and weights and some ops changed; None where the types do not hold."""
    copied = Graph(graph.name)
    mapping: dict[Value, Value] = {}
    try:
        for i, value in enumerate(_sources(graph)):
            shape = shapes.get(i, tuple(int(d) for d in value.type.shape))
            if value.weight is None:
                mapping[value] = copied.add_input(value.type.with_shape(shape), value.name)
            else:
                mapping[value] = copied.add_weight(value.name, ArrayWeight(np.resize(value.weight.array(), shape)))
        for i, node in enumerate(graph):
            operands = [mapping[v] if v is not None else None for v in node.operands]
            made = copied.insert(ops.get(i, node.op), operands)
            mapping.update(zip(node.results, made.results, strict=True))
        copied.set_outputs([mapping[v] for v in graph.outputs], graph.output_names)
    except (DragomanError, ArithmeticError, LookupError, TypeError, ValueError):
        return None
    return copied


def _sources(graph: Graph) -> list[Value]:
    return [*graph.inputs, *graph.weights.values()]


# ---- extents --------------------------------------------------------------------------------------------


@dataclass
class Extents:
    """The extents of a graph that can be chosen while a rule keeps firing, as far as they are found by the deadline."""

    rule: Rule
    graph: Graph
    deadline: float = math.inf
    variables: tuple[Variable, ...] = ()

    def __post_init__(self) -> None:
        self._values = dict(_places(self.graph))
        found: list[Variable] = []
        taken: set[Place] = set()
        for place, value in sorted(self._values.items(), key=lambda item: (item[1], str(item[0]))):
            if place in taken or value < 1:
                continue
            variable = self._variable(place, value, taken)
            if variable is not None:
                found.append(variable)
                taken.update(p for p in variable.places if self._values[p] == value)
        self.variables = tuple(found)

    def _variable(self, place: Place, value: int, taken: set[Place]) -> Variable | None:
        """The smallest set of places that can change together with this one."""
        others = [p for p, v in self._values.items() if p != place and v >= value and v % value == 0]
        others.sort(key=lambda p: (self._values[p] != value, p in taken))
        trials = 0
        for count in range(min(len(others), _MOST_TOGETHER) + 1):
            for chosen in itertools.combinations(others, count):
                variable = Variable(value, (place, *chosen))
                trials += 1
                if trials > _MOST_TRIALS or time.perf_counter() > self.deadline:
                    return None
                # An extent of 1 that only broadcasts is told from one that must stay by two other values.
                if any(fires(self.rule, self.at({variable: v})) for v in (value + 1, value + 2)):
                    return variable
        return None

    def at(self, extents: Mapping[Variable, int], ops: Mapping[int, Op] | None = None) -> Graph | None:
        """The graph with these extents; None where there is none."""
        values = {p: Fraction(v) for p, v in self._values.items()}
        for variable, extent in extents.items():
            for place in variable.places:
                values[place] *= Fraction(extent, variable.value)
        if any(v.denominator != 1 for v in values.values()):
            return None
        changed = {p: int(v) for p, v in values.items() if v != self._values[p]}
        return _with_values(self.graph, changed, ops or {})

    def all(self, most: int, count: int) -> tuple[str, list[dict[Variable, int]]]:
        """Every choice of extents from 1 to as many as `count` choices allow but at most `most`, and what that is."""
        variables = self.variables
        if not variables:
            return "its own shape", [{}]
        highest = next((n for n in range(most, 1, -1) if n ** len(variables) <= count), 0)
        if highest:
            choices = itertools.product(range(1, highest + 1), repeat=len(variables))
            return f"extents 1..{highest}", [dict(zip(variables, c, strict=True)) for c in choices]
        chosen: list[dict[Variable, int]] = []
        together = next((k for k in range(len(variables), 0, -1) if _subsets(len(variables), k) <= count), 1)
        for size in range(together + 1):
            for above in itertools.combinations(variables, size):
                chosen.append({v: 2 if v in above else 1 for v in variables})
        return f"extents 1..2, at most {together} of them 2", chosen


def _subsets(count: int, most: int) -> int:
    return sum(math.comb(count, k) for k in range(most + 1))


def _places(graph: Graph) -> Iterator[tuple[Place, int]]:
    """Every extent in the types of inputs and weights and in the attributes that are dims."""
    for i, value in enumerate(_sources(graph)):
        for axis, dim in enumerate(value.type.shape):
            yield ("shape", i, axis), int(dim)
    for i, node in enumerate(graph):
        for name, value in node.op.attributes():
            if any(kind in _annotation(node.op, name) for kind in _DIMS):
                yield from ((("op", i, name, *path), v) for path, v in _leaves(value))


def _annotation(op: Op, name: str) -> str:
    declared = (inspect.get_annotations(base).get(name) for base in type(op).__mro__)
    return next((str(found) for found in declared if found is not None), "")


def _leaves(value: Any, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], int]]:
    if isinstance(value, tuple):
        for i, item in enumerate(value):
            yield from _leaves(item, (*path, i))
    elif isinstance(value, int) and not isinstance(value, bool):
        yield path, value


def _replaced(value: Any, path: Sequence[int], new: Any) -> Any:
    if not path:
        return new
    return tuple(_replaced(v, path[1:], new) if i == path[0] else v for i, v in enumerate(value))


def _with_values(graph: Graph, changed: Mapping[Place, int], ops: Mapping[int, Op]) -> Graph | None:
    shapes: Shapes = {}
    made: Ops = dict(ops)
    sources, nodes = _sources(graph), list(graph)
    try:
        for place, value in changed.items():
            if place[0] == "shape":
                _, i, axis = place
                shape = shapes.get(i, tuple(int(d) for d in sources[i].type.shape))
                shapes[i] = (*shape[:axis], value, *shape[axis + 1 :])
            else:
                _, i, name, *path = place
                op = made[i] if i in made else nodes[i].op
                made[i] = op.with_attributes(**{name: _replaced(getattr(op, name), path, value)})
    except (DragomanError, ValueError, TypeError):
        return None
    return rebuilt(graph, shapes, made)


# ---- axes, flags and ranks --------------------------------------------------------------------------------


def attribute_choices(rule: Rule, graph: Graph, most: int) -> Iterator[Ops]:
    """Other permutations, axes and flags with which the rule fires; attributes that were equal also change as one."""
    slots: dict[tuple[str, Any], list[int]] = {}
    nodes = list(graph)
    for i, node in enumerate(nodes):
        for name in node.op.attribute_names():
            value = getattr(node.op, name)
            slots.setdefault((name, value) if _hashable(value) else (name, i), []).append(i)
    rank = max((r.type.rank for n in nodes for r in n.results), default=0)
    options: list[list[Ops]] = []
    for (name, _), users in slots.items():
        for together in dict.fromkeys([tuple(users), *((u,) for u in users)]):
            value = getattr(nodes[together[0]].op, name)
            changes = [_change(nodes, together, name, v) for v in _alternatives(name, value, rank)]
            options.append([{}, *(c for c in changes if c is not None)])
    for combination in itertools.islice(itertools.product(*options), 8 * most):
        ops: Ops = {}
        for change in combination:
            ops.update(change)
        if ops and fires(rule, rebuilt(graph, {}, ops)):
            yield ops


def _hashable(value: Any) -> bool:
    return isinstance(value, (int, float, str, tuple))


def _change(nodes: Sequence[Node], users: Sequence[int], name: str, value: Any) -> Ops | None:
    try:
        return {i: nodes[i].op.with_attributes(**{name: value}) for i in users}
    except (DragomanError, ValueError, TypeError):
        return None


def _alternatives(name: str, value: Any, rank: int) -> list[Any]:
    """Other values of an attribute that names axes or is a flag."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int) and name.endswith("axis"):
        return [v for v in range(-rank, rank) if v != value]
    if not isinstance(value, tuple) or not all(type(v) is int for v in value):
        return []
    if name == "perm":
        return [p for p in itertools.permutations(range(len(value))) if p != value] if len(value) < 4 else []
    if name == "axes":
        return [c for c in itertools.combinations(range(rank), len(value)) if c != value][:8]
    return []


def with_another_axis(graph: Graph) -> Iterator[Graph]:
    """The graph with one more axis at the end or at the front of every operand, or of those of the highest rank."""
    sources = _sources(graph)
    ranks = [v.type.rank for v in sources]
    highest = [i for i, r in enumerate(ranks) if r == max(ranks, default=0)]
    for extended in ([*range(len(sources))], highest):
        for front in (False, True):
            shapes = {i: _extended(tuple(int(d) for d in sources[i].type.shape), 2, front) for i in extended}
            ops = {i: op for i, node in enumerate(graph) if (op := _with_axis(node.op, front)) is not None}
            made = rebuilt(graph, shapes, ops)
            if made is not None:
                yield made


def with_an_axis_less(graph: Graph) -> Iterator[Graph]:
    """The graph without the first axis of every operand; its attributes stay."""
    sources = _sources(graph)
    if sources and all(v.type.rank for v in sources):
        made = rebuilt(graph, {i: tuple(int(d) for d in v.type.shape[1:]) for i, v in enumerate(sources)}, {})
        if made is not None:
            yield made


def _extended(values: tuple[Any, ...], value: Any, front: bool) -> tuple[Any, ...]:
    return (value, *values) if front else (*values, value)


def _with_axis(op: Op, front: bool) -> Op | None:
    changes: dict[str, Any] = {}
    for name in op.attribute_names():
        value = getattr(op, name)
        dims = any(kind in _annotation(op, name) for kind in _DIMS)
        if name == "shape" and isinstance(value, tuple):
            changes[name] = _extended(value, 2, front)
        elif name == "perm":
            changes[name] = (0, *(p + 1 for p in value)) if front else (*value, len(value))
        elif name == "padding" and dims:
            changes[name] = _extended(value, (0, 0), front)
        elif name.endswith("axis") and front and isinstance(value, int) and value >= 0:
            changes[name] = value + 1
        elif name == "axes" and front and isinstance(value, tuple):
            changes[name] = tuple(a + 1 if a >= 0 else a for a in value)
    try:
        return op.with_attributes(**changes) if changes else None
    except (DragomanError, ValueError, TypeError):
        return None


# ---- constants --------------------------------------------------------------------------------------------


def freed(rule: Rule, graph: Graph) -> Instance:
    """The graph with numbers in place of those that the rule does not look at: odd ones, met nowhere else by chance."""
    rng = np.random.default_rng(0)
    free: list[float] = []
    by_value: dict[float, list[tuple[int, str]]] = {}
    for i, node in enumerate(graph):
        for name in node.op.attribute_names():
            value = getattr(node.op, name)
            if type(value) is float and math.isfinite(value):
                by_value.setdefault(value, []).append((i, name))
    for value, users in by_value.items():
        for together in dict.fromkeys([tuple(users), *((u,) for u in users)]):
            number = abs(value or 0.5) * float(rng.uniform(0.7, 1.4))
            trial = rebuilt(graph, {}, _with_number(graph, together, number if value >= 0 else -number))
            if trial is not None and fires(rule, trial):
                graph = trial
                free.append(number)
                if together == tuple(users):
                    break
    return Instance(graph, tuple(free))


def _with_number(graph: Graph, users: Sequence[tuple[int, str]], number: float) -> Ops:
    nodes = list(graph)
    changed: Ops = {}
    for i, name in users:
        changed[i] = changed.get(i, nodes[i].op).with_attributes(**{name: number})
    return changed


Change = Callable[[Graph], Iterator[Graph]]
RANKS: tuple[Change, ...] = (with_another_axis, with_an_axis_less)
