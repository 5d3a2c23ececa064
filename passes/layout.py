"""Layouts chosen for a whole graph at once, such that transposes move the fewest elements.

A *place* is what a value may look like: its home, the layout it is in, and the permutation to the other one of two.
Places spread from convolutions, pools and transposes through every op that works on permuted operands
(`dragoman.passes.permuted`); each such op may be computed in either layout, all else stays at home. Which is best is a
minimum cut: an edge between two ops of different layouts costs a transpose of what passes, once for all users of a
value. An op that is to move is rewritten alone, with transposes around it, and proved like any rule; those that meet
then cancel. So a wrong move is refused by itself and the rest holds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dragoman.ir.builder import Builder
from dragoman.ir.dims import Dim, Symbol, evaluate, symbols
from dragoman.ir.errors import DragomanError
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.op import Op, normal_axis
from dragoman.ir.ops.conv import CHANNELS_FIRST
from dragoman.ir.ops.norm import BatchNorm, PerChannel
from dragoman.ir.ops.shape import Stack, Transpose
from dragoman.ir.types import Shape
from dragoman.passes.manager import Context, TargetLayout, graphs_within
from dragoman.passes.min_cut import SINK, SOURCE, MinimumCut
from dragoman.passes.permuted import (
    Perm,
    Permuted,
    identity,
    inverse,
    is_reshape,
    operand_permutation,
    permuted,
    permuted_rank,
    permutes_all,
    to_channels_first,
    to_channels_last,
)
from dragoman.passes.rewrite import Replacement, Rule
from dragoman.passes.rules.movement import DropIdentityTranspose, MergeTransposes
from dragoman.passes.rules.ones import TransposeOnesAsReshape

_TRANSPOSE = 1 << 14  # elements that could be moved in the time that it takes to start a transpose
_RESHAPE = 16  # a transpose of axes of extent 1 moves nothing
_SPELLED_OUT = 64  # a norm with its channels elsewhere is several ops; where transposes are as many, it is better whole
_BATCH, _EXTENT = 4, 64  # stand in for dynamic extents where costs are compared

FIRST, LAST = SOURCE, SINK
"""The two layouts, as sides of the cut. Around transposes alone they are the layouts before and after."""


def choose_layout(graph: Graph, context: Context) -> int:
    """Channels first or last for each op, such that the transposes that are left move the fewest elements."""
    plan: dict[Node, Move] = {}
    for each in graphs_within(graph):
        plan.update(_Layouts(each, context.layout).plan())
    moved = context.rewrite(graph, [MoveAxes(plan)]) if plan else 0
    return moved + context.rewrite(graph, _TIDY)


_TIDY: tuple[Rule, ...] = (MergeTransposes, DropIdentityTranspose, TransposeOnesAsReshape)


# ---- what may move ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """The layout that a value is in, and the permutation to the other one."""

    home: int
    perm: Perm


@dataclass(frozen=True)
class Move:
    """An op in the other layout: for operands permuted by `perm`, giving results permuted by `back`."""

    home: int
    perm: Perm
    op: Op
    back: Perm


class _Layouts:
    """The places of the values of one graph, the moves of its nodes, and the choice among them."""

    def __init__(self, graph: Graph, target: TargetLayout) -> None:
        self.graph = graph
        self.target = target
        self.places: dict[Value, Place] = {}
        self.moves: dict[Node, Move] = {}
        self.sizes = _Sizes(graph)
        self._fixed: set[Node] = set()  # two places disagree about these
        self._queue: deque[Value] = deque()

    def plan(self) -> dict[Node, Move]:
        """The nodes that are to move."""
        nodes = self.graph.nodes
        for node in nodes:
            if "layout" in node.op.attribute_names():
                self._begin(node.operands[0], _place_of(node))
        for node in nodes:
            if isinstance(node.op, Transpose):
                perm = _perm_of(node.op)
                self._begin(node.operands[0], Place(FIRST, perm) if perm != identity(len(perm)) else None)
        return self._choose() if self.moves else {}

    def _begin(self, value: Value | None, place: Place | None) -> None:
        if value is None or place is None or value in self.places:
            return
        self._settle(value, place)
        while self._queue:
            at = self._queue.popleft()
            for node in ([at.producer] if at.producer is not None else []) + at.users:
                if node not in self.moves and node not in self._fixed and node is not self.graph.terminator:
                    self._reach(node, at)

    def _settle(self, value: Value, place: Place) -> None:
        self.places[value] = place
        self._queue.append(value)

    def _reach(self, node: Node, value: Value) -> None:
        """Make `node` movable as the place of `value` demands, and spread the place to its other values."""
        found = self._demanded(node, value)
        moved = found and permuted(node.op, found.perm, node.operand_types)
        if not found or not moved:
            return
        wanted = self._wanted(node, found, moved)
        if any(self.places.get(v, p) != p for v, p in wanted.items()):
            self._fixed.add(node)
            return
        self.moves[node] = Move(found.home, found.perm, *moved)
        for v, place in wanted.items():
            if v not in self.places:
                self._settle(v, place)

    def _demanded(self, node: Node, value: Value) -> Place | None:
        """The place of the operands of `node`, given that of one of its operands or results."""
        place = self.places[value]
        if value.producer is not node:
            carried = value is node.operands[0] or permutes_all(node.op)
            fits = carried and len(place.perm) == permuted_rank(node.op, node.operand_types)
            return place if fits and self._turns(node.op, place.perm) else None
        if isinstance(node.op, Transpose):
            perm = _perm_of(node.op)
            return Place(1 - place.home, perm) if place.perm == inverse(perm) else None
        perm = operand_permutation(node.op, place.perm, node.operand_types, value.type)
        return None if perm is None else Place(place.home, perm)

    @staticmethod
    def _turns(op: Op, perm: Perm) -> bool:
        """Of transposes, only those from one of the two layouts to the other take part: there is no third one."""
        return not isinstance(op, Transpose) or _perm_of(op) == perm

    def _wanted(self, node: Node, place: Place, moved: Permuted) -> dict[Value, Place]:
        """The places of all values that a movable node has, but for weights and what looks the same in both.

        What broadcasts along leading axes takes part where it is in no other place; else it is turned for this node.
        """
        wanted: dict[Value, Place] = {}
        for i, value in enumerate(node.operands):
            perm = carried(node, i, place.perm)
            if value is None or value.weight is not None or perm is None:
                continue
            its = Place(place.home, perm)
            if len(perm) == len(place.perm) or self.places.get(value, its) == its:
                wanted[value] = its
        turned = isinstance(node.op, Transpose)
        back = Place(1 - place.home, inverse(place.perm)) if turned else Place(place.home, moved[1])
        if back.perm != identity(len(back.perm)):
            wanted.update((r, back) for r in node.results)
        return wanted

    # ---- the cut --------------------------------------------------------------------------------------------

    def _choose(self) -> dict[Node, Move]:
        problem = MinimumCut()
        vertices = {node: self._vertex(problem, node) for node in self.moves}
        for node in self.moves:
            self._add_own_costs(problem, node, vertices[node])
        for value, place in self.places.items():
            self._add_transposes(problem, value, place, vertices)
        sides = problem.cut([v for n, v in vertices.items() if self.moves[n].home == FIRST])
        chosen = {n: FIRST if sides[v] else LAST for n, v in vertices.items()}
        return {n: m for n, m in self.moves.items() if chosen[n] != m.home and not isinstance(n.op, Transpose)}

    def _preferred(self) -> int:
        return FIRST if self.target.preferred == CHANNELS_FIRST else LAST

    def _vertex(self, problem: MinimumCut, node: Node) -> int:
        if "layout" in node.op.attribute_names() and self.target.strict(node):
            return self._preferred()
        return problem.variable()

    def _add_own_costs(self, problem: MinimumCut, node: Node, vertex: int) -> None:
        """What a node costs in one of the layouts, whatever its neighbours do."""
        move = self.moves[node]
        for value in node.operands:
            lower = value is not None and value.weight is None and 1 < value.type.rank < len(move.perm)
            if value is not None and lower and permutes_all(node.op) and not self._joins(node, value):
                shape = (1,) * (len(move.perm) - value.type.rank) + value.type.shape
                if not is_reshape(shape, move.perm):
                    _add_cost(problem, vertex, 1 - move.home, self.sizes.cost(shape, move.perm))
        x = node.operands[0]
        if isinstance(node.op, (BatchNorm, PerChannel)) and x is not None:
            wanted = 1 if self._preferred() == FIRST else x.type.rank - 1
            away = normal_axis(node.op.axis, x.type.rank) == wanted
            _add_cost(problem, vertex, 1 - move.home if away else move.home, _SPELLED_OUT)

    def _add_transposes(self, problem: MinimumCut, value: Value, place: Place, vertices: Mapping[Node, int]) -> None:
        """One transpose for all users that are not in the layout of the producer."""
        if value.weight is not None:
            return  # it is transposed before the model runs
        cost = self.sizes.cost(value.type.shape, place.perm)
        producer, users = place.home, set[int]()
        node = value.producer
        if node is not None and node in self.moves and self._moves_results(node):
            producer = vertices[node]
        for user, index in value.uses:
            joins = user in self.moves and carried(user, index, self.moves[user].perm) is not None
            users.add(vertices[user] if joins and self._joins(user, value) else place.home)
        _add_fan(problem, producer, users, cost)

    def _joins(self, node: Node, value: Value) -> bool:
        """Whether a movable node takes an operand as it lies in one of the two layouts, whichever the node is in."""
        place, move = self.places.get(value), self.moves[node]
        rank = value.type.rank
        perm = move.perm if rank == len(move.perm) else trailing(move.perm, rank)
        return place == Place(move.home, perm)

    def _moves_results(self, node: Node) -> bool:
        back = self.moves[node].back
        return isinstance(node.op, Transpose) or back != identity(len(back))


def _add_cost(problem: MinimumCut, vertex: int, side: int, cost: int) -> None:
    """`cost` is paid if the vertex is on `side`."""
    if side == FIRST:
        problem.edge(vertex, SINK, cost)
    else:
        problem.edge(SOURCE, vertex, cost)


def _add_fan(problem: MinimumCut, producer: int, users: set[int], cost: int) -> None:
    """`cost` is paid once if any user is on another side than the producer."""
    if len(users) == 1:
        (user,) = users
        problem.edge(producer, user, cost)
        problem.edge(user, producer, cost)
        return
    down, up = problem.variable(), problem.variable()
    problem.edge(producer, down, cost)
    problem.edge(up, producer, cost)
    for user in users:
        problem.edge(down, user, None)
        problem.edge(user, up, None)


def carried(node: Node, index: int, perm: Perm) -> Perm | None:
    """How a move of this node by `perm` permutes that operand; None where it looks the same in both layouts."""
    value = node.operands[index]
    if value is None or not permutes_all(node.op):
        return perm if index == 0 and value is not None else None
    rank = value.type.rank
    if rank == node.results[0].type.rank - isinstance(node.op, Stack):
        return perm
    order = trailing(perm, rank)
    return None if order == identity(rank) else order


def trailing(perm: Perm, rank: int) -> Perm:
    """What a permutation does to the order of the last axes among themselves."""
    lead = len(perm) - rank
    return tuple(p - lead for p in perm if p >= lead)


def _perm_of(op: Transpose) -> Perm:
    return tuple(p % len(op.perm) for p in op.perm)


def _place_of(node: Node) -> Place:
    """The place of the operand of a node that has a layout."""
    op: Any = node.op
    x: Any = node.operand_types[0]
    first = op.layout == CHANNELS_FIRST
    return Place(FIRST, to_channels_last(x.rank)) if first else Place(LAST, to_channels_first(x.rank))


class _Sizes:
    """What transposes cost; a dynamic extent counts as a usual one."""

    def __init__(self, graph: Graph) -> None:
        self._usual: dict[str, int] = {}
        for value in graph.inputs:
            for axis, dim in enumerate(value.type.shape):
                for name, symbol in symbols(dim).items():
                    self._usual.setdefault(name, _usual(symbol, _EXTENT if axis else _BATCH))
        self._known: dict[tuple[Shape, Perm], int] = {}

    def cost(self, shape: Shape, perm: Perm) -> int:
        """In elements, the start of a transpose included."""
        found = self._known.get((shape, perm))
        if found is None:
            found = self._known[shape, perm] = _RESHAPE if is_reshape(shape, perm) else _TRANSPOSE + self._size(shape)
        return found

    def _size(self, shape: Shape) -> int:
        size = 1
        for dim in shape:
            size *= max(self._extent(dim), 0)
        return size

    def _extent(self, dim: Dim) -> int:
        if isinstance(dim, int):
            return dim
        values = {name: self._usual.get(name, _usual(symbol, _EXTENT)) for name, symbol in symbols(dim).items()}
        try:
            return evaluate(dim, values)
        except DragomanError:  # a division by an extent that is zero at these values
            return _EXTENT


def _usual(symbol: Symbol, extent: int) -> int:
    return min(max(extent, symbol.low), symbol.high)


# ---- moving -------------------------------------------------------------------------------------------------


@dataclass
class MoveAxes:
    """op(x)  ->  transpose(op'(transpose(x, p)), p⁻¹)

    The rule of one run: it fires once at each node of the plan.
    """

    plan: dict[Node, Move]
    name: str = "MoveAxes"
    diagram: str = "op(x)  ->  transpose(op'(transpose(x, p)), p⁻¹)"
    exact: bool = True
    why_inexact: str = ""
    roots: tuple[type[Op], ...] = field(init=False)

    def __post_init__(self) -> None:
        self.plan = dict(self.plan)
        self.roots = tuple({type(node.op) for node in self.plan})

    def apply(self, builder: Builder, node: Node) -> Replacement | str:
        """The op in the other layout between transposes."""
        move = self.plan.pop(node, None)
        if move is None:
            return "it stays where it is"
        operands = node.operands if permutes_all(node.op) else node.operands[:1]
        turned = (v.producer for v in operands if v is not None and _source(v, move.perm) is not None)
        return Replacement(moved(builder, node, move), (node, *(n for n in turned if n is not None)))

    def sample_graphs(self) -> Iterable[Graph]:
        """None: what is proved on samples is `permuted`, op by op."""
        return ()


def moved(b: Builder, node: Node, move: Move) -> tuple[Value, ...]:
    """The results of a node, computed in the other layout."""
    operands = list(node.operands)
    for index, value in enumerate(operands if permutes_all(node.op) else operands[:1]):
        if value is not None:
            operands[index] = _source(value, move.perm) or _aligned(b, value, move.perm)
    results = b.apply(move.op, *operands)
    if move.back == identity(len(move.back)):
        return results
    return tuple(b.transpose(r, perm=inverse(move.back)) for r in results)


def _source(value: Value, perm: Perm) -> Value | None:
    """What `perm` makes of a transpose that it undoes, such as one left by a move before this one."""
    if not isinstance(value.op, Transpose) or value.producer is None:
        return None
    return value.producer.operands[0] if _perm_of(value.op) == inverse(perm) else None


def _aligned(b: Builder, value: Value, perm: Perm) -> Value:
    """`value`, which broadcasts to the rank of `perm`, such that it broadcasts to what is permuted by it."""
    lead, order = len(perm) - value.type.rank, trailing(perm, value.type.rank)
    if order != identity(len(order)):
        value = b.transpose(value, perm=order)
    places = [i for i, p in enumerate(perm) if p >= lead]
    if not places:
        return value
    absent = [i - places[0] for i in range(places[0], len(perm)) if i not in places]
    return b.unsqueeze(value, axes=tuple(absent)) if absent else value
