"""Which rules fired where, and what stopped those that nearly did.

A near miss is the node at which the comparison of a rule with the graph stopped after most of it had matched. Misses
that read alike are counted together.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dragoman.ir.errors import UsageError
from dragoman.ir.graph import Graph, Node
from dragoman.ir.provenance import Provenance
from dragoman.passes.manager import Context, graphs_within, run_passes
from dragoman.passes.pattern import NearMiss
from dragoman.passes.pipelines import MASKS, OPTIMISE, all_rules, recognise
from dragoman.passes.recognition.recogniser import Recogniser, by_level, recognise_with, recognisers
from dragoman.passes.rewrite import PatternRule, Replacement, Rule

_NEAR = 0.5  # of the nodes of a rule that match before it counts as a near miss
_LEAST = 2
_PREFIX = "recognise_"


@dataclass(frozen=True)
class Place:
    """A place in the source: the module path and the line, as far as they are known."""

    module: str
    line: str

    def __str__(self) -> str:
        return "  ".join(part for part in (self.module, self.line) if part) or "no place in the source is known"


@dataclass
class Miss:
    """Why a rule stopped, wherever it did for the same reason."""

    op: str  # the op it stopped at
    reason: str
    depth: int
    of: int
    right_op: bool = True  # it stopped at the op that was needed, for an attribute or a type of it
    places: list[Place] = field(default_factory=list)

    @property
    def nearness(self) -> float:
        """How much of the rule was found; the right op counts as half found."""
        return (self.depth + self.right_op / 2) / max(self.of, 1)


@dataclass
class RuleStory:
    """One rule: its diagram, where it fired, and its near misses, nearest first."""

    name: str
    diagram: str
    fired: list[Place] = field(default_factory=list)
    misses: list[Miss] = field(default_factory=list)


def explain(graph: Graph, rule: str | None = None) -> list[RuleStory]:
    """Optimise the graph in place, and tell what each rule did; only `rule` if one is named.

    A named rule gets its nearest misses however far they are. Raises UsageError for a name that no rule has.
    """
    chosen = _chosen(rule)
    stories = {r.name: RuleStory(r.name, r.diagram) for r in chosen}

    def note(rule: Rule, node: Node, replacement: Replacement, made: Sequence[Node]) -> bool:
        if rule.name in stories:
            stories[rule.name].fired.append(_place(node.provenance))
        return True

    context = Context(check=note)
    found = [r for r in chosen if isinstance(r, Recogniser)]
    for each in OPTIMISE:
        if each is recognise and rule and found:
            _recognise(graph, context, found, stories)
        else:
            run_passes(graph, (each,), context)
            if each is recognise:
                _note_misses(graph, found, stories, rule)
    _note_misses(graph, [r for r in chosen if isinstance(r, PatternRule)], stories, rule)
    return [s for s in stories.values() if rule or s.fired or s.misses]


def _recognise(graph: Graph, context: Context, asked: Sequence[Recogniser], stories: dict[str, RuleStory]) -> None:
    """The pass `recognise`, with a look at the graph when its turn comes: later another op may have taken its place."""
    for level in by_level(recognisers()):
        for each in asked:
            if each in level:
                _note_misses(graph, [each], stories, each.name)
        recognise_with(graph, context, level, beside=MASKS)


def known_rule(name: str) -> str:
    """The full name of the rule that is meant: its own, or that of the op it finds. Raises UsageError."""
    return _chosen(name)[0].name


def _chosen(name: str | None) -> list[Rule]:
    rules = {r.name: r for r in all_rules()}
    if name is None:
        return list(rules.values())
    for candidate in (name, _PREFIX + name, _PREFIX + name.removeprefix("fuse_")):
        if candidate in rules:
            return [rules[candidate]]
    near = difflib.get_close_matches(name, [*rules, *(r.removeprefix(_PREFIX) for r in rules)], 3, 0.5)
    raise UsageError(
        f"no rule is named {name!r}; " + (f"did you mean {' or '.join(near)}?" if near else "see docs/rules.md")
    )


def _note_misses(graph: Graph, rules: Iterable[Rule], stories: dict[str, RuleStory], named: str | None) -> None:
    by_root: dict[Any, list[Rule]] = {}
    for rule in rules:
        for root in rule.roots:
            by_root.setdefault(root, []).append(rule)
    found: dict[tuple[str, str, str], Miss] = {}
    for each in graphs_within(graph):
        for node in each:
            for rule in by_root.get(type(node.op), ()):
                miss = _miss(rule, node, thorough=named is not None)
                if miss is not None and miss.reason and (named or _is_near(miss)):
                    _add(found, rule, miss, node)
    compared = {name for (name, _, _), miss in found.items() if miss.depth}
    for (name, _, _), miss in found.items():
        if miss.depth or name not in compared:  # where nothing could be compared is told only if that is so everywhere
            stories[name].misses.append(miss)
    for story in stories.values():
        story.misses.sort(key=lambda m: (-m.nearness, -m.depth))


def _miss(rule: Rule, node: Node, *, thorough: bool) -> NearMiss | None:
    if isinstance(rule, Recogniser):
        miss = rule.near_miss(node, thorough=thorough)
        return _traced(miss) if miss is not None and thorough else miss
    return rule.near_miss(node) if isinstance(rule, PatternRule) else None


def _traced(miss: NearMiss) -> NearMiss:
    """A miss for want of an op that is itself recognised is a miss of that op, if it comes near."""
    inner = next((r for r in recognisers() if r.op is miss.wanted), None)
    if inner is None or miss.node is None:
        return miss
    nearer = inner.near_miss(miss.node)
    if nearer is None or not nearer.reason or not _is_near(nearer):
        return miss
    return replace(miss, node=nearer.node, reason=f"{miss.reason}, which is no {inner.op.name}: {nearer.reason}")


def _is_near(miss: NearMiss) -> bool:
    return miss.depth >= _LEAST and miss.depth >= _NEAR * miss.of


def _add(found: dict[tuple[str, str, str], Miss], rule: Rule, miss: NearMiss, root: Node) -> None:
    node = miss.node or root
    key = rule.name, node.op.name, miss.reason
    if key not in found:
        found[key] = Miss(node.op.name, miss.reason, max(miss.depth, 0), miss.of, miss.wanted is None)
    place = _place(node.provenance if str(node.provenance) else root.provenance)
    if place not in found[key].places:
        found[key].places.append(place)


def _place(provenance: Provenance) -> Place:
    return Place(provenance.module, provenance.line)
