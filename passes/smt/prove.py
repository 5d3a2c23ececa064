"""SMT proof of a rule: on each of its samples and on every small graph like them, before = after for all values.

The rule fires in each instance as it does in a conversion; the region before and the one after are compared by z3. A
proof is bounded: it holds for the ranks, axes and extents that the result names, for all values of operands and of the
constants that the rule leaves free. It is one over the real numbers and the integers without bound: rounding, NaN and
infinities, and integers that wrap are outside of it, as they are outside of proof A.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.region import clone
from dragoman.passes.check import regions
from dragoman.passes.rewrite import Replacement, Rule, apply_rules
from dragoman.passes.smt.instances import RANKS, TRIPPED, Extents, Instance, Variable, attribute_choices, fires, freed
from dragoman.passes.smt.solve import INEXPRESSIBLE, NO_ANSWER, Answer, Verdict, prove

_LARGEST_WEIGHT = 4096  # bytes of a weight whose values take part if a rule does not hold for arbitrary ones
_LARGE = 64  # elements of all operands, above which a sample comes after its smaller likes
_PATIENCE = 3  # instances on which z3 gave no answer, after which only small ones are tried


@dataclass
class RuleProof:
    """What is known of one rule: the answer, the reason for it, and the bound within which it was proved."""

    rule: str
    answer: Answer = Answer.UNKNOWN
    reason: str = ""
    instances: int = 0
    searched: int = 0  # of them, how many needed z3's solver beyond its simplifier
    ranks: set[int] = field(default_factory=set[int])
    extents: list[str] = field(default_factory=list[str])
    constants: int = 0  # how many numbers of the program stand for any number
    undecided: int = 0  # instances with an extent above 2 on which z3 gave no answer in time
    outside: dict[str, int] = field(default_factory=dict[str, int])  # instances that have no form here, by reason
    seconds: float = 0.0

    @property
    def bound(self) -> str:
        """The graphs on which it was proved, in words."""
        if not self.instances:
            return "-"
        low, high = min(self.ranks, default=0), max(self.ranks, default=0)
        parts = [
            f"{self.instances} graph{'s' * (self.instances > 1)}",
            f"rank {low}" if low == high else f"ranks {low}..{high}",
            *dict.fromkeys(self.extents),
        ]
        if self.constants:
            parts.append(f"{self.constants} free constant{'s' * (self.constants > 1)}")
        if self.undecided:
            parts.append(f"{self.undecided} undecided")
        if self.outside:
            parts.append(f"{sum(self.outside.values())} outside ({next(iter(self.outside))})")
        return ", ".join(parts)


def share(proofs: Iterable[RuleProof]) -> float:
    """The part of the rules that are proved."""
    answers = [p.answer for p in proofs]
    return answers.count(Answer.PROVED) / len(answers) if answers else 0.0


def prove_rule(rule: Rule, *, most: int = 4, count: int = 64, seconds: float = 30.0, timeout: float = 5.0) -> RuleProof:
    """Prove a rule on its samples and on graphs like them.

    Extents range over 1..`most` as far as that makes no more than `count` choices for a sample. `seconds` bounds the
    time for the rule, `timeout` z3's search in one instance; what is left then is not claimed.
    """
    started = time.perf_counter()
    proof = RuleProof(rule.name)
    graphs = sorted(rule.sample_graphs(), key=_elements)
    for i, graph in enumerate(graphs):
        if i and time.perf_counter() > started + seconds:
            proof.extents.append(f"{i} of {len(graphs)} samples")
            break
        deadline = started + seconds * (i + 1) / len(graphs)
        run = _Run(rule, proof, most, count, deadline, timeout)
        run.sample(freed(rule, graph), graph)
    if proof.answer is Answer.UNKNOWN and not proof.reason:
        proof.answer = Answer.PROVED if proof.instances else Answer.UNKNOWN
        proof.reason = "" if proof.instances else next(iter(proof.outside), "it fires in none of its samples")
    if proof.answer is not Answer.PROVED and rule.why_inexact:
        proof.answer, proof.reason = Answer.UNKNOWN, f"not equal over the reals: {rule.why_inexact}"
    proof.seconds = time.perf_counter() - started
    return proof


@dataclass
class _Run:
    """The proof of one sample, added to the proof of its rule."""

    rule: Rule
    proof: RuleProof
    most: int
    count: int
    deadline: float
    timeout: float
    _known: set[str] = field(default_factory=set[str])

    def sample(self, instance: Instance, original: Graph) -> None:
        """The graph and those like it; with the constants of the sample where free ones have no proof."""
        failed = self._all(instance)
        if failed is not None and failed.answer is Answer.UNKNOWN and instance.free:
            instance = Instance(original)
            failed = self._all(instance)
        self.proof.constants = max(self.proof.constants, len(instance.free))
        if failed is not None and self.proof.answer is not Answer.REFUTED:
            self.proof.answer, self.proof.reason = failed.answer, failed.reason

    def _all(self, instance: Instance) -> Verdict | None:
        """The first instance without proof that matters, if there is one: small ones must all have one."""
        for graph in self._graphs(instance.graph):
            if graph is None or (self.proof.undecided >= _PATIENCE and not _is_small(graph)):
                continue
            for verdict in self._firings(graph, instance.free):
                if verdict.answer is Answer.PROVED:
                    self.proof.instances += 1
                    self.proof.searched += verdict.searched
                elif verdict.answer is Answer.UNKNOWN and verdict.reason.startswith(INEXPRESSIBLE):
                    self.proof.outside[verdict.reason] = self.proof.outside.get(verdict.reason, 0) + 1
                elif verdict.answer is Answer.UNKNOWN and verdict.reason.startswith(NO_ANSWER) and not _is_small(graph):
                    self.proof.undecided += 1
                else:
                    return verdict
            if time.perf_counter() > self.deadline:
                self.proof.extents[-1] += " in part, out of time" * (not self.proof.extents[-1].endswith("time"))
                return None
        return None

    def _graphs(self, graph: Graph) -> Iterator[Graph | None]:
        """The sample, first if it is small, its extents, its axes and flags, and its neighbours in rank."""
        extents = Extents(self.rule, graph, self.deadline)
        told, choices = extents.all(self.most, self.count)
        self.proof.extents.append(told)
        large = _elements(graph) > _LARGE
        if not large:
            yield graph
        yield from (extents.at(choice) for choice in choices)
        if large:
            yield graph
        for ops in attribute_choices(self.rule, graph, self.count // 4):
            yield from (extents.at(choice, ops) for choice in _distinct(extents))
        for change in RANKS:
            for other in change(graph):
                if fires(self.rule, other):
                    around = Extents(self.rule, other, self.deadline)
                    yield from (around.at(choice) for choice in around.all(2, self.count // 4)[1])

    def _firings(self, graph: Graph, free: Sequence[float]) -> list[Verdict]:
        verdicts: list[Verdict] = []

        def check(rule: Rule, node: Node, replacement: Replacement, made: Sequence[Node]) -> bool:
            cut = regions(node, replacement, made)
            before, after, frontier = cut.before, cut.after, cut.frontier
            key = f"{before}\n{after}\n{free}"
            if key not in self._known:
                self._known.add(key)
                verdicts.append(self._ask(before, after, frontier, free))
                self.proof.ranks.update(v.type.rank for v in before.inputs)
            return not verdicts or verdicts[-1].answer is not Answer.REFUTED

        try:
            apply_rules(clone(graph), [self.rule], check)
        except (*TRIPPED, RuntimeError) as error:
            verdicts.append(Verdict(Answer.REFUTED, f"{type(error).__name__}: {error}"))
        return verdicts

    def _ask(self, before: Graph, after: Graph, frontier: Sequence[Value], free: Sequence[float]) -> Verdict:
        """For arbitrary weights; if that fails, for the values of small ones, which a rule may rely on."""
        verdict = prove(before, after, free=free, timeout=self.timeout)
        weights = [(i, v.weight) for i, v in enumerate(frontier) if v.weight is not None]
        fixed = {i: w.array() for i, w in weights if w.nbytes <= _LARGEST_WEIGHT}
        if verdict.answer is Answer.PROVED or not fixed:
            return verdict
        return prove(before, after, free=free, fixed=fixed, timeout=self.timeout)


def _shapes(graph: Graph) -> list[tuple[int, ...]]:
    return [tuple(int(d) for d in v.type.shape) for v in (*graph.inputs, *graph.weights.values())]


def _is_small(graph: Graph) -> bool:
    return all(extent <= 2 for shape in _shapes(graph) for extent in shape)


def _elements(graph: Graph) -> int:
    return sum(math.prod(shape) for shape in _shapes(graph))


def _distinct(extents: Extents) -> list[dict[Variable, int]]:
    """The sample's own extents, and extents that differ from each other."""
    variables = extents.variables
    return [{}, {v: 1 + i % 3 for i, v in enumerate(variables)}, {v: 3 - i % 3 for i, v in enumerate(variables)}]
