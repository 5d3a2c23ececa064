"""A rule for each op that gives guesses: where its decomposition, or another spelling, is found, the op itself.

Ops are found in the order of `levels`: what appears in the spelled-out form of another comes first, and that form is
brought to the same shape as graphs are, so that it names what will have been found.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

from dragoman.ir.builder import Builder, make
from dragoman.ir.graph import Graph, Node
from dragoman.ir.guess import Guess
from dragoman.ir.op import Op
from dragoman.passes.deduplicate import deduplicate
from dragoman.passes.eliminate_dead import eliminate_dead
from dragoman.passes.fold_constants import fold_scalars
from dragoman.passes.manager import Context
from dragoman.passes.pattern import NearMiss, shared_inside, user_outside
from dragoman.passes.recognition.levels import CANONICAL, Classes, levels, present_in
from dragoman.passes.recognition.skeleton import Skeleton, build
from dragoman.passes.recognition.spelling import Form, forms, spelled, spellings_of
from dragoman.passes.recognition.unify import Found, Unifier
from dragoman.passes.rewrite import Replacement, Rule

_MOST_SKELETONS = 4096  # kept per op
_STEPS = 3  # back from where an op may end, to see whether what it needs is there
_HOPS = 16  # through what moves, in one of those steps
_ROUNDS = 3  # of tidying: what one pass leaves, another may take
_SHARED = 3  # of so many nodes one may have other users, and be computed twice
Match = tuple[Skeleton, Found]


@dataclass(eq=False)
class Recogniser:
    """Finds one op. `lower` are the recognisers that have run before it."""

    op: type[Op]
    lower: Sequence[Recogniser] = ()
    name: str = field(init=False)
    diagram: str = field(init=False)
    exact: bool = field(init=False)
    why_inexact: str = field(init=False)
    _skeletons: dict[tuple[int, Guess], Skeleton | None] = field(default_factory=dict)
    _endings: dict[Form, Ending | None] = field(default_factory=dict)
    _all: Endings | None = None

    def __post_init__(self) -> None:
        self.name = f"recognise_{self.op.name}"
        self.diagram = f"{self.op.name}, spelled out  ->  {self.op.name}"
        self.exact = self.op.exact_field
        self.why_inexact = "" if self.exact else f"{self.op.name} has no meaning in the finite field"

    @property
    def roots(self) -> tuple[type[Op], ...]:
        """What its spellings end in."""
        return self.endings.roots

    @property
    def endings(self) -> Endings:
        """How the op's samples end."""
        if self._all is None:
            self._all = self.endings_of(forms(self.op))
        return self._all

    def endings_of(self, chosen: Sequence[Form]) -> Endings:
        """How these forms end."""
        for form in chosen:
            if form not in self._endings:
                self._endings[form] = self._ending(form)
        return Endings([e for form in chosen if (e := self._endings[form]) is not None])

    def _ending(self, form: Form) -> Ending | None:
        root = self._prepared(form).outputs[0].producer
        if root is None or root.op.name == self.op.name:
            return None
        return Ending(type(root.op), _before(root, 1), _before(root, _STEPS))

    def apply(self, builder: Builder, node: Node) -> Replacement | str:
        """The op in place of what ends at this node, or why not."""
        return self.apply_where(self.endings, builder, node)

    def apply_where(self, endings: Endings, builder: Builder, node: Node) -> Replacement | str:
        """The same, where it could end as these."""
        match, miss = self._search(node, endings)
        if match is None:
            return miss.reason or f"no {self.op.name} ends here"
        skeleton, found = match
        operands = [None if v is None else found.operands[v].build(builder) for v in skeleton.leaves]
        result = builder.one(make(self.op, skeleton.attributes(found.attributes)), *operands)
        return Replacement((result,), found.nodes, found.constants, skeleton.why_inexact)

    def near_miss(self, node: Node, *, thorough: bool = False) -> NearMiss | None:
        """The deepest point that any spelling reached at this node; None where one is found.

        `thorough` compares also where a look at the neighbours shows that it cannot be.
        """
        match, miss = self._search(node, None if thorough else self.endings)
        if match:
            return None
        return self._nothing_tried(node) if thorough and miss.depth < 0 else miss

    def _nothing_tried(self, node: Node) -> NearMiss:
        """Why there was nothing to compare: what all forms have around their end is not here, or no guess fits."""
        if type(node.op) not in self.roots:
            return NearMiss(-1, node, "")
        lacking = self.endings.lacking(node)
        if lacking:
            return NearMiss(0, node, f"it is computed from no {' and no '.join(lacking)}", 0)
        searched = inspect.cleandoc(self.op.guesses.__doc__ or "").split("\n", maxsplit=1)[0]
        return NearMiss(0, node, f"no {self.op.name} fits what is around it: {searched[:1].lower()}{searched[1:]}", 0)

    def sample_graphs(self) -> Iterable[Graph]:
        """Spelled-out samples in which it fires."""
        for sample in self.op.samples():
            for spelling in spellings_of(self.op):
                graph = spelled(self.op, spelling, sample)
                self._prepare(graph)
                root = graph.outputs[0].producer if len(graph.outputs) == 1 else None
                if root is not None and self._search(root, self.endings)[0]:
                    yield graph

    # ---- searching ------------------------------------------------------------------------------------

    def _search(self, node: Node, endings: Endings | None) -> tuple[Match | None, NearMiss]:
        nearest = NearMiss(-1, node, "")
        if len(node.results) != 1 or (endings is not None and not endings.fit(node)):
            return None, nearest
        for guess in self.op.guesses(node):
            for index in range(len(spellings_of(self.op))):
                skeleton = self._skeleton(index, guess)
                if skeleton is None or type(skeleton.root.op) is not type(node.op):
                    continue
                match, miss = self._found(skeleton, node)
                if match is not None:
                    return match, miss
                # Of two that came as far, the one that met the right op says more.
                if (miss.depth, miss.wanted is None) > (nearest.depth, nearest.wanted is None):
                    nearest = miss
        return None, nearest

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
            return None, shared_inside(outside, node, len(found.nodes), len(found.nodes))
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

    def _prepared(self, form: Form) -> Graph:
        graph = form.graph()
        self._prepare(graph)
        return graph


@dataclass(frozen=True)
class Ending:
    """What a form ends in, with the ops right before that and those a few steps back."""

    root: type[Op]
    before: Classes
    around: Classes


class Endings:
    """A quick look at a node and its neighbours, whether one of these forms could end there: nearly all end none."""

    def __init__(self, endings: Sequence[Ending]) -> None:
        self._needed: dict[type[Op], list[Classes]] = {}
        self._common: dict[type[Op], Classes] = {}  # of all forms with one end
        for each in endings:
            self._needed.setdefault(each.root, []).append(each.before)
            self._common[each.root] = self._common.get(each.root, each.around) & each.around
        for root, needed in self._needed.items():
            distinct = dict.fromkeys(needed)
            self._needed[root] = [n for n in distinct if not any(m < n for m in distinct)]
        self.roots = tuple(self._needed)

    def fit(self, node: Node) -> bool:
        """Whether the neighbours leave it possible."""
        root = type(node.op)
        if root not in self._needed:
            return False
        before = _before(node, 1)
        if not any(needed <= before for needed in self._needed[root]):
            return False
        common = self._common[root]
        return common <= before or common <= _before(node, _STEPS)

    def lacking(self, node: Node) -> list[str]:
        """The ops that every form has near its end, and that are not near this node."""
        return sorted(op.name for op in self._common[type(node.op)] - _before(node, _STEPS))


@dataclass(eq=False)
class _Here:
    """A recogniser in a graph that can hold only some forms."""

    recogniser: Recogniser
    endings: Endings

    def __post_init__(self) -> None:
        self.name, self.diagram = self.recogniser.name, self.recogniser.diagram
        self.exact, self.why_inexact = self.recogniser.exact, self.recogniser.why_inexact
        self.roots = self.endings.roots

    def apply(self, builder: Builder, node: Node) -> Replacement | str:
        """As the recogniser does."""
        return self.recogniser.apply_where(self.endings, builder, node)

    def sample_graphs(self) -> Iterable[Graph]:
        """The recogniser's."""
        return self.recogniser.sample_graphs()


def tidy(graph: Graph) -> None:
    """Fold, share and canonicalise, unchecked."""
    context = Context()
    for _ in range(_ROUNDS):
        changes = fold_scalars(graph, context) + deduplicate(graph, context)
        if not changes + context.rewrite(graph, CANONICAL):
            break
    eliminate_dead(graph, context)


def recognise_with(graph: Graph, context: Context, chosen: Sequence[Recogniser], beside: Sequence[Rule] = ()) -> int:
    """Apply recognisers level by level, each from the end of the graph backwards; returns how often rules fired.

    Rules `beside` them run at every level. Only what the graph could hold is looked for.
    """
    fired = 0
    for level in by_level(chosen):
        left = list(level)
        while True:
            present = present_in(graph)
            here = [r for r in left if present.could_hold(r.op)]
            if not here:
                break
            looked = [_Here(r, r.endings_of(present.forms(r.op))) for r in here]
            fired += context.rewrite(graph, (*looked, *beside), backwards=True)
            left = [r for r in left if r not in here]
    return fired


def by_level(recognisers: Sequence[Recogniser]) -> list[list[Recogniser]]:
    """Recognisers grouped: each needs only those of earlier groups to have run."""
    groups: dict[int, list[Recogniser]] = {}
    for each in recognisers:
        groups.setdefault(levels()[each.op], []).append(each)
    return [groups[key] for key in sorted(groups)]


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


def _used_outside(found: Found) -> tuple[Node, Node] | None:
    """A node and its user outside, where too much of what was found would be computed twice: a third may be."""
    covered = set(found.nodes)
    staying: dict[Node, Node] = {}  # to the user outside
    for inner in found.inner:
        shared_by = user_outside([inner], covered)
        if shared_by is not None:
            staying[inner] = shared_by[1]
    shared = list(staying)
    for node in shared:
        for value in node.operands:
            if value is not None and value.producer in found.inner and value.producer not in staying:
                staying[value.producer] = staying[node]
                shared.append(value.producer)
    if len(staying) * _SHARED <= len(found.inner):
        return None
    return shared[0], staying[shared[0]]


@cache
def recognisers() -> tuple[Recogniser, ...]:
    """One for each op that can be recognised, lower levels first."""
    made: list[Recogniser] = []
    for op in sorted(levels(), key=lambda op: levels()[op]):
        made.append(Recogniser(op, tuple(r for r in made if levels()[r.op] < levels()[op])))
    return tuple(made)
