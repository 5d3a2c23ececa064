"""Rules and the worklist that applies them.

    @rewrite(samples=[sample("f32[2,3,4]", p=(1, 0, 2), q=(2, 1, 0))])
    class MergeTransposes:
        \"\"\"transpose(transpose(x, p), q)  ->  transpose(x, p∘q)\"\"\"
        def before(b, x, *, p, q): return b.transpose(b.transpose(x, perm=p), perm=q)
        def after(b, x, *, p, q): return b.transpose(x, perm=tuple(p[i] for i in q))
        def where(x, *, p, q): ...   # optional: a reason to decline, or None

`before` is traced once into a pattern (`dragoman.passes.pattern`); `after` runs with the real builder on what was
bound. A rule over a family of ops that no fixed pattern covers is written with `@rewrite_node`: `apply(b, node)`
returns the replacement or a reason, and its samples are graphs in which it must fire. No rule exists without samples:
one generic test proves each rule on them. Every firing can be checked where it happens (`dragoman.passes.check`) before
it takes effect, and is undone if it fails.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import ModuleType
from typing import Any, Protocol

from dragoman.ir.builder import Builder
from dragoman.ir.errors import TypeRuleError
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.op import REGISTRY, Op, Sample
from dragoman.ir.ops.constant import Constant
from dragoman.ir.provenance import union
from dragoman.ir.samples import operand_types, random_operands
from dragoman.ir.types import same_type
from dragoman.ir.weights import ArrayWeight
from dragoman.passes.pattern import Match, Matcher, NearMiss, Traced, shared_inside, trace_pattern, user_outside


@dataclass(frozen=True)
class Replacement:
    """What a rule puts in place of a node's results, and the nodes it looked at, root first.

    `constants` are those of the graph that the rule took for another spelling of the same number of their dtype
    (0.79788456 in f32 for √(2/π)), with that spelling: they are compared as numbers of the dtype, not as written.
    `why_inexact` tells why proof A cannot apply to this one, where it does to others of the rule.
    """

    values: tuple[Value, ...]
    matched: tuple[Node, ...]
    constants: Mapping[Constant, Constant] = field(default_factory=dict)
    why_inexact: str = ""


class Rule(Protocol):
    """One rewrite: what it is called, the diagram, the op classes it can start from, and how to apply it."""

    name: str
    diagram: str
    exact: bool  # proof A applies; otherwise `why_inexact` says why only B does
    why_inexact: str

    @property
    def roots(self) -> tuple[type[Op], ...]:
        """The op classes that it can start from."""
        ...

    def apply(self, builder: Builder, node: Node) -> Replacement | str:
        """The replacement built before the node, or the reason why there is none."""
        ...

    def sample_graphs(self) -> Iterable[Graph]:
        """Graphs in which the rule fires at least once."""
        ...


@dataclass(eq=False)
class PatternRule:
    """A rule given as `before` and `after`."""

    name: str
    diagram: str
    traced: Traced
    before: Callable[..., Any]
    after: Callable[..., Any]
    where: Callable[..., str | None] | None
    samples: Sequence[Sample]
    single_use: bool
    exact: bool = True
    why_inexact: str = ""
    roots: tuple[type[Op], ...] = ()
    _matcher: Matcher = field(init=False)

    def __post_init__(self) -> None:
        self._matcher = Matcher(self.traced.root)
        self.roots = (self.traced.root.op,)

    def apply(self, builder: Builder, node: Node) -> Replacement | str:
        """Match, ask `where`, build `after`."""
        if not self._matcher.could_match(node):
            return "what makes the operands is none of the ops needed"
        found = self._matcher.match(node)
        if found is None:
            return self._matcher.miss.reason
        declined = self._declines(found)
        if declined is not None:
            return declined.reason
        built = self.after(builder, *self._operands(found), **found.attributes)
        if built is None:
            return "its replacement does not apply here"
        if isinstance(built, str):
            return built
        values = (built,) if isinstance(built, Value) else tuple(built)
        return Replacement(values, tuple(found.nodes))

    def near_miss(self, node: Node) -> NearMiss | None:
        """Where and why the pattern does not match at this node, or what `where` says; None if it fires."""
        found = self._matcher.match(node)
        return self._matcher.miss if found is None else self._declines(found)

    def _declines(self, found: Match) -> NearMiss | None:
        """Why a match is not taken: a user outside, or what `where` says."""
        depth, root = len(found.nodes), found.nodes[0]
        shared = user_outside(found.nodes[1:], found.nodes) if self.single_use else None
        if shared is not None:
            return shared_inside(shared, root, depth, depth)
        reason = self.where(*self._operands(found), **found.attributes) if self.where else None
        return NearMiss(depth, root, reason, depth) if reason else None

    def _operands(self, found: Match) -> list[Any]:
        values = [found.values[n] for n in self.traced.operands]
        return values + list(found.values[self.traced.rest]) if self.traced.rest else values

    def sample_graphs(self) -> Iterable[Graph]:
        """`before` on each sample's operands: weights where the sample says so, inputs otherwise."""
        return [self._sample_graph(s) for s in self.samples]

    def _sample_graph(self, sample: Sample) -> Graph:
        graph = Graph(self.name)
        values: list[Value] = []
        for given, type, array in zip(sample.operands, operand_types(sample), random_operands(sample), strict=True):
            if given is None or type is None:
                continue
            name = f"x{len(values)}"
            values.append(graph.add_weight(name, ArrayWeight(array)) if given.weight else graph.add_input(type, name))
        results = self.before(Builder(graph), *values, **sample.attributes)
        graph.set_outputs([results] if isinstance(results, Value) else list(results))
        return graph


@dataclass(eq=False)
class NodeRule:
    """A rule over a family of ops, given as a function of the root node."""

    name: str
    diagram: str
    function: Callable[[Builder, Node], Any]
    samples: Sequence[Callable[[], Graph]]
    roots: tuple[type[Op], ...]
    exact: bool = True
    why_inexact: str = ""

    def apply(self, builder: Builder, node: Node) -> Replacement | str:
        """Ask the function."""
        built = self.function(builder, node)
        if isinstance(built, (str, Replacement)):
            return built
        values = (built,) if isinstance(built, Value) else tuple(built)
        return Replacement(values, (node,))

    def sample_graphs(self) -> Iterable[Graph]:
        """The graphs given."""
        return [make() for make in self.samples]


RULES: dict[str, Rule] = {}
"""Every rule by name."""


def rewrite(*, samples: Sequence[Sample], single_use: bool = True, inexact: str = "") -> Callable[[type], PatternRule]:
    """Make a rule of a class with `before`, `after` and perhaps `where`.

    `samples` give operand types and attributes on which `before` is built. `single_use` declines when an inner result
    has users outside the pattern, so that nothing is computed twice. `inexact` tells why proof A cannot apply.
    """

    def register(cls: type) -> PatternRule:
        traced = trace_pattern(cls.before)  # type: ignore[attr-defined]
        rule = PatternRule(
            name=cls.__name__,
            diagram=_diagram(cls),
            traced=traced,
            before=cls.before,  # type: ignore[attr-defined]
            after=cls.after,  # type: ignore[attr-defined]
            where=getattr(cls, "where", None),
            samples=samples,
            single_use=single_use,
            exact=not inexact,
            why_inexact=inexact,
        )
        _add(rule, samples)
        return rule

    return register


def rewrite_node(
    *, roots: Iterable[type[Op]] | Callable[[type[Op]], bool], samples: Sequence[Callable[[], Graph]], inexact: str = ""
) -> Callable[[type], NodeRule]:
    """Make a rule of a class with `apply(b, node)`. `roots` are op classes, or a predicate over all of them."""

    def register(cls: type) -> NodeRule:
        chosen = tuple(op for op in REGISTRY.values() if roots(op)) if callable(roots) else tuple(roots)
        rule = NodeRule(cls.__name__, _diagram(cls), cls.apply, samples, chosen, not inexact, inexact)  # type: ignore[attr-defined]
        _add(rule, samples)
        return rule

    return register


def _diagram(cls: type) -> str:
    return inspect.cleandoc(cls.__doc__ or "").split("\n", maxsplit=1)[0]


def _add(rule: Rule, samples: Sequence[Any]) -> None:
    if not samples:
        raise TypeError(f"the rule {rule.name} has no samples: nothing would test it")
    if "->" not in rule.diagram:
        raise TypeError(f"the docstring of {rule.name} does not begin with a diagram `before  ->  after`")
    if rule.name in RULES:
        raise TypeError(f"two rules are named {rule.name}")
    RULES[rule.name] = rule


def rules_in(*modules: ModuleType) -> tuple[Rule, ...]:
    """The rules that modules define, in the order written."""
    return tuple(v for module in modules for v in vars(module).values() if isinstance(v, (PatternRule, NodeRule)))


# ---- application --------------------------------------------------------------------------------------

# Of one value, within one match. Where a value has more users, none of them can have become the last.
_MOST_USES = 32

Checker = Callable[[Rule, Node, Replacement, Sequence[Node]], bool]
"""Asked before a firing takes effect, with the nodes made for it: whether to go on. It records its verdict itself."""


@dataclass
class Applied:
    """How often each rule fired, and how often a check refused one."""

    fired: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Firings that took effect."""
        return sum(self.fired.values())


def apply_rules(
    graph: Graph, rules: Sequence[Rule], check: Checker | None = None, *, backwards: bool = False
) -> Applied:
    """Apply rules until none fires: a worklist over nodes, then over what each firing touched, no rescan.

    It begins at the first node, or `backwards` at the last, where the largest matches end.

    A rule's replacement is built before the root it replaces; `check` may refuse it, and what was made is then erased.
    """
    by_root = _index(tuple(rules)) if all(isinstance(r, (PatternRule, NodeRule)) for r in rules) else _by_root(rules)
    applied = Applied()
    work = deque(graph.reversed() if backwards else graph.nodes)
    queued = set(work)
    budget = _Budget(graph)
    while work:
        node = work.popleft()
        queued.discard(node)
        if node.graph is not graph:
            continue
        touched = _try_node(graph, node, by_root.get(type(node.op), ()), check, applied)
        budget.spend(len(touched))
        for again in touched:
            if again not in queued and again.graph is graph and again is not graph.terminator:
                queued.add(again)
                work.append(again)
    return applied


def _by_root(rules: Sequence[Rule]) -> dict[type[Op], list[Rule]]:
    found: dict[type[Op], list[Rule]] = {}
    for rule in rules:
        for root in rule.roots:
            found.setdefault(root, []).append(rule)
    return found


_index = lru_cache(maxsize=64)(_by_root)  # of lists that never change, as those of a pipeline


class _Budget:
    """Catches rules that undo each other: no terminating rule set comes near this many steps."""

    def __init__(self, graph: Graph) -> None:
        self.left = 200 * (len(graph) + 100)

    def spend(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise RuntimeError("the rules do not terminate: two of them undo each other")


def _try_node(graph: Graph, node: Node, rules: Sequence[Rule], check: Checker | None, applied: Applied) -> list[Node]:
    for rule in rules:
        made, replacement = _attempt(graph, rule, node)
        if replacement is None:
            continue
        if check is not None and not check(rule, node, replacement, made):
            applied.refused[rule.name] = applied.refused.get(rule.name, 0) + 1
            graph.erase_dead([r for n in reversed(made) for r in n.results])
            continue
        applied.fired[rule.name] = applied.fired.get(rule.name, 0) + 1
        return commit(graph, node, replacement, made)
    return []


def _attempt(graph: Graph, rule: Rule, node: Node) -> tuple[list[Node], Replacement | None]:
    """Build a rule's replacement before the node. Returns the nodes made, and None if the rule declined."""
    builder = Builder(graph, before=node, provenance=node.provenance)
    previous = node.previous
    try:
        replacement = rule.apply(builder, node)
    except TypeRuleError as error:
        raise TypeRuleError(f"the rule {rule.name} built an ill-typed replacement at {node}: {error}") from error
    if isinstance(replacement, str) and node.previous is previous:
        return [], None
    made = nodes_between(graph, previous, node)
    if isinstance(replacement, str):
        graph.erase_dead([r for n in reversed(made) for r in n.results])
        return [], None
    for old, new in zip(node.results, replacement.values, strict=True):
        if not same_type(old.type, new.type):
            raise TypeRuleError(f"the rule {rule.name} replaces {old.type} by {new.type} at {node}")
    return made, replacement


def nodes_between(graph: Graph, previous: Node | None, node: Node) -> list[Node]:
    """The nodes that were put before `node`, after the one that stood there, in order."""
    made: list[Node] = []
    current = node.previous
    while current is not previous and current is not None:
        made.append(current)
        current = current.previous
    return made[::-1]


def commit(graph: Graph, node: Node, replacement: Replacement, made: Sequence[Node]) -> list[Node]:
    """Let the replacement take over, keep provenance, erase what died; returns the nodes to look at again."""
    origin = union(n.provenance for n in reversed(replacement.matched))
    for new in made:
        new.provenance = origin
    touched = list(made)
    operands = [v for n in replacement.matched for v in n.operands if v is not None]
    for old, new_value in zip(node.results, replacement.values, strict=True):
        touched.extend(old.users)
        if not new_value.name:
            new_value.name = old.name
        old.replace_all_uses(new_value)
        if new_value.producer is not None:
            touched.append(new_value.producer)
    graph.erase_dead(list(node.results))
    for value in operands:  # what lost a user may now match rules that need a single use
        if value.producer is not None and value.producer.graph is graph:
            touched.append(value.producer)
            if len(value.uses) <= _MOST_USES:
                touched.extend(value.users)
    return touched
