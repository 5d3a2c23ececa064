"""A rule for each op that gives guesses: where its decomposition, or another spelling, is found, the op itself.

Ops are found in the order of `levels`: what appears in the spelled-out form of another comes first, and that form is
brought to the same shape as graphs are, so that it names what will have been found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from dragoman.ir.builder import Builder, make
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.guess import Guess
from dragoman.ir.op import REGISTRY, Op, Sample
from dragoman.ir.samples import operand_types, random_operands
from dragoman.ir.weights import ArrayWeight
from dragoman.passes.deduplicate import deduplicate
from dragoman.passes.eliminate_dead import eliminate_dead
from dragoman.passes.fold_constants import fold_scalars
from dragoman.passes.manager import Context
from dragoman.passes.pattern import NearMiss
from dragoman.passes.recognition.skeleton import Skeleton, build
from dragoman.passes.recognition.unify import Found, Unifier
from dragoman.passes.rewrite import Replacement, Rule, rules_in
from dragoman.passes.rules import arithmetic, movement

_MOST_SKELETONS = 4096  # kept per op
_STEPS = 3  # back from where an op may end, to see whether what it needs is there
_HOPS = 16  # through what moves, in one of those steps
_ROUNDS = 3  # of tidying: what one pass leaves, another may take
_SHARED = 3  # of so many nodes one may have other users, and be computed twice
_CANONICAL = rules_in(movement, arithmetic)
Match = tuple[Skeleton, Found]
Signature = tuple[type[Op], frozenset[type[Op]]]


def spellings_of(op: type[Op]) -> tuple[Callable[..., Any], ...]:
    """The decomposition and the other forms: functions of the op, a builder and operands."""
    return (op.decompose, *op.spellings)


def spelled(op: type[Op], spelling: Callable[..., Any], sample: Sample) -> Graph:
    """One spelling of the op on the operands of a sample."""
    types = operand_types(sample)
    made = make(op, dict(sample.attributes))

    graph = Graph(op.name)
    arrays = random_operands(sample)
    values = [
        None
        if given is None or type is None
        else graph.add_weight(f"x{i}", ArrayWeight(array))
        if given.weight
        else graph.add_input(type, f"x{i}")
        for i, (given, type, array) in enumerate(zip(sample.operands, types, arrays, strict=True))
    ]
    results = spelling(made, Builder(graph), *values)
    graph.set_outputs([results] if isinstance(results, Value) else list(results))
    return graph


@dataclass
class Recogniser:
    """Finds one op. `lower` are the recognisers that have run before it."""

    op: type[Op]
    lower: Sequence[Recogniser] = ()
    name: str = field(init=False)
    diagram: str = field(init=False)
    exact: bool = field(init=False)
    why_inexact: str = field(init=False)
    _skeletons: dict[tuple[int, Guess], Skeleton | None] = field(default_factory=dict)
    _signatures: tuple[Signature, ...] | None = None
    _common: dict[type[Op], frozenset[type[Op]]] = field(default_factory=dict)  # of all forms with one end

    def __post_init__(self) -> None:
        self.name = f"recognise_{self.op.name}"
        self.diagram = f"{self.op.name}, spelled out  ->  {self.op.name}"
        self.exact = self.op.exact_field
        self.why_inexact = "" if self.exact else f"{self.op.name} has no meaning in the finite field"

    @property
    def roots(self) -> tuple[type[Op], ...]:
        """What its spellings end in."""
        return tuple(dict.fromkeys(root for root, _ in self.signatures))

    @property
    def signatures(self) -> tuple[Signature, ...]:
        """What its spellings end in, with the ops right before that; of the op's samples."""
        if self._signatures is None:
            found: dict[Signature, None] = {}
            for graph in self._spelled_samples(_telling(self.op)):
                root = graph.outputs[0].producer
                if root is not None and root.op.name != self.op.name:
                    found[type(root.op), _before(root, 1)] = None
                    around = _before(root, _STEPS)
                    self._common[type(root.op)] = self._common.get(type(root.op), around) & around
            self._signatures = tuple(_least(list(found)))
        return self._signatures

    def apply(self, builder: Builder, node: Node) -> Replacement | str:
        """The op in place of what ends at this node, or why not."""
        match, miss = self._search(node)
        if match is None:
            return miss.reason or f"no {self.op.name} ends here"
        skeleton, found = match
        operands = [None if v is None else found.operands[v].build(builder) for v in skeleton.leaves]
        result = builder.one(make(self.op, skeleton.attributes(found.attributes)), *operands)
        return Replacement((result,), found.nodes, found.constants)

    def near_miss(self, node: Node, *, thorough: bool = False) -> NearMiss | None:
        """The deepest point that any spelling reached at this node; None where one is found.

        `thorough` compares also where a look at the neighbours shows that it cannot be.
        """
        match, miss = self._search(node, thorough=thorough)
        return None if match else miss

    def sample_graphs(self) -> Iterable[Graph]:
        """Spelled-out samples in which it fires."""
        return [
            g
            for g in self._spelled_samples(self.op.samples())
            if (root := g.outputs[0].producer) and self._search(root)[0]
        ]

    # ---- searching ------------------------------------------------------------------------------------

    def _search(self, node: Node, *, thorough: bool = False) -> tuple[Match | None, NearMiss]:
        nearest = NearMiss(-1, node, "")
        if len(node.results) != 1 or not (thorough or self._may_end(node)):
            return None, nearest
        for guess in self.op.guesses(node):
            for index in range(len(spellings_of(self.op))):
                skeleton = self._skeleton(index, guess)
                if skeleton is None or type(skeleton.root.op) is not type(node.op):
                    continue
                match, miss = self._found(skeleton, node)
                if match is not None:
                    return match, miss
                if miss.depth > nearest.depth:
                    nearest = miss
        return None, nearest

    def _may_end(self, node: Node) -> bool:
        """Whether the neighbours leave it possible: a quick look, since nearly all nodes end nothing."""
        before = _before(node, 1)
        if not any(root is type(node.op) and needed <= before for root, needed in self.signatures):
            return False
        common = self._common[type(node.op)]
        return common <= before or common <= _before(node, _STEPS)

    def _found(self, skeleton: Skeleton, node: Node) -> tuple[Match | None, NearMiss]:
        """A match with every free attribute bound, and nothing inside it needed elsewhere."""
        unifier = Unifier(skeleton)
        found = unifier.unify(node)
        if found is None:
            return None, unifier.miss
        if any(origin.inverse is None for origin in skeleton.free.values()):
            return self._again(skeleton, found, node)
        lacking = [n for n in skeleton.unbound if n not in found.attributes]
        if lacking:
            return None, NearMiss(len(found.nodes), node, f"nothing tells what {lacking[0]} is", len(found.nodes))
        outside = _used_outside(found)
        if outside is not None:
            return None, NearMiss(len(found.nodes), node, outside, len(found.nodes))
        return (skeleton, found), unifier.miss

    def _again(self, skeleton: Skeleton, found: Found, node: Node) -> tuple[Match | None, NearMiss]:
        """With the attributes that were bound, so that what depends on them in other ways is compared too."""
        given = skeleton.attributes(found.attributes)
        guess = Guess(skeleton.guess.operands, tuple(given.items()))
        for spelling in spellings_of(self.op):
            exact = build(self.op, spelling, guess, self._prepare)
            if exact is not None and not exact.unbound and type(exact.root.op) is type(node.op):
                again, miss = self._found(exact, node)
                if again is not None:
                    return again, miss
        return None, NearMiss(
            len(found.nodes), node, "a constant does not agree with the attributes found elsewhere", len(found.nodes)
        )

    def _skeleton(self, index: int, guess: Guess) -> Skeleton | None:
        key = index, guess
        if key not in self._skeletons:
            if len(self._skeletons) >= _MOST_SKELETONS:
                self._skeletons.clear()
            self._skeletons[key] = build(self.op, spellings_of(self.op)[index], guess, self._prepare)
        return self._skeletons[key]

    def _prepare(self, graph: Graph) -> None:
        """The form that graphs have when this op is looked for."""
        tidy(graph)
        recognise_with(graph, Context(), self.lower)

    def _spelled_samples(self, samples: Iterable[Sample]) -> Iterable[Graph]:
        for sample in samples:
            for spelling in spellings_of(self.op):
                graph = spelled(self.op, spelling, sample)
                self._prepare(graph)
                if len(graph.outputs) == 1:
                    yield graph


def _telling(op: type[Op]) -> list[Sample]:
    """One of the samples that are spelled out alike: those that differ in extents, axes or numbers only."""
    found: dict[Any, Sample] = {}
    for sample in op.samples():
        operands = tuple(None if t is None else (t.dtype.kind, t.dtype.bits < 32) for t in operand_types(sample))
        told = {n: _kind(n, v) for n, v in sample.attributes.items()}
        found.setdefault((operands, tuple(o is not None and o.weight for o in sample.operands), repr(told)), sample)
    return list(found.values())


def _kind(name: str, value: Any) -> Any:
    if name in ("axis", "axes"):
        return value == ()
    return "some number" if isinstance(value, float) else value


def tidy(graph: Graph) -> None:
    """Fold, share and canonicalise, unchecked."""
    context = Context()
    for _ in range(_ROUNDS):
        changes = fold_scalars(graph, context) + deduplicate(graph, context)
        if not changes + context.rewrite(graph, _CANONICAL):
            break
    eliminate_dead(graph, context)


def recognise_with(graph: Graph, context: Context, chosen: Sequence[Recogniser]) -> int:
    """Apply recognisers level by level, each from the end of the graph backwards; returns how often they fired."""
    return sum(context.rewrite(graph, level, backwards=True) for level in by_level(chosen))


def _before(node: Node, steps: int) -> frozenset[type[Op]]:
    """The ops that a node is computed from, so many steps back; what moves is no step, constants are left out."""
    found: set[type[Op]] = set()
    layer = [node]
    for _ in range(steps):
        layer = [p for n in layer for p in _computed_from(n)]
        found.update(type(p.op) for p in layer)
    return frozenset(found)


def _computed_from(node: Node) -> Iterator[Node]:
    work = [v.producer for v in node.operands if v is not None]
    for _ in range(_HOPS):
        if not work:
            return
        producer = work.pop()
        if producer is None or producer.op.name == "constant":
            continue
        if producer.op.movement:
            work.extend(v.producer for v in producer.operands if v is not None)
        else:
            yield producer


def _least(signatures: list[Signature]) -> list[Signature]:
    """Without those that another one covers."""
    return [s for s in signatures if not any(t[0] is s[0] and t[1] < s[1] for t in signatures)]


def _used_outside(found: Found) -> str | None:
    """Why too much of what was found would be computed twice, as others use it; a third of the nodes may be."""
    covered = set(found.nodes)
    staying: dict[Node, Node] = {}  # to the user outside
    for inner in found.inner:
        outside = next((user for r in inner.results for user, _ in r.uses if user not in covered), None)
        if outside is not None:
            staying[inner] = outside
    shared = list(staying)
    for node in shared:
        for value in node.operands:
            if value is not None and value.producer in found.inner and value.producer not in staying:
                staying[value.producer] = staying[node]
                shared.append(value.producer)
    if len(staying) * _SHARED <= len(found.inner):
        return None
    return f"the result of {shared[0].op.name} inside it is also used by {staying[shared[0]].op.name}"


# ---- order ---------------------------------------------------------------------------------------------


def by_level(recognisers: Sequence[Recogniser]) -> list[list[Rule]]:
    """Recognisers grouped: each needs only those of earlier groups to have run."""
    groups: dict[int, list[Rule]] = {}
    for each in recognisers:
        groups.setdefault(levels()[each.op], []).append(each)
    return [groups[key] for key in sorted(groups)]


@cache
def levels() -> Mapping[type[Op], int]:
    """When each op is looked for: after all that its spelled-out form names, and last if no other form names it.

    What comes last is found together, from the end of a graph, so that of two that would do the larger wins: a layer
    norm with its scale, rather than an instance norm inside it.
    """
    names = {op: _names(op) for op in REGISTRY.values() if is_recognised(op)}
    found: dict[type[Op], int] = {}
    for op in names:
        _climb(op, names, found, frozenset())
    named = set[type[Op]]().union(*names.values())
    return {op: level if op in named else max(found.values()) for op, level in found.items()}


def _names(op: type[Op]) -> set[type[Op]]:
    """The ops that can be recognised in the spellings of this one."""
    graphs = (spelled(op, spelling, sample) for sample in _telling(op) for spelling in spellings_of(op))
    return {type(node.op) for graph in graphs for node in graph if is_recognised(type(node.op))} - {op}


def _climb(
    op: type[Op], names: Mapping[type[Op], set[type[Op]]], found: dict[type[Op], int], above: frozenset[type[Op]]
) -> int:
    if op not in found:
        inner = [_climb(o, names, found, above | {op}) for o in names[op] if o not in above]
        found[op] = 1 + max(inner, default=0)
    return found[op]


def is_recognised(op: type[Op]) -> bool:
    """Whether an op has a decomposition and says what to try."""
    return op.is_composite() and op.guesses.__func__ is not Op.guesses.__func__  # type: ignore[attr-defined]


@cache
def recognisers() -> tuple[Recogniser, ...]:
    """One for each op that can be recognised, lower levels first."""
    made: list[Recogniser] = []
    for op in sorted(levels(), key=lambda op: levels()[op]):
        made.append(Recogniser(op, tuple(r for r in made if levels()[r.op] < levels()[op])))
    return tuple(made)
