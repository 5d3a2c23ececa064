"""Checking a rewrite where it fires: exactly over a finite field (A) and in float64 on the values that reach it (B).

The region before and after are cut out with a common frontier. Equal regions are checked once: the key is their text.
A rewrite that fails is recorded with the rule, the node, its module path and source line, and is not applied.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dragoman.ir.errors import DragomanError, VerifyError
from dragoman.ir.exact import ExactResult, Outcome, prove_exact, small_instance, with_input_types
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.local import LocalResult, check_local
from dragoman.ir.ops.constant import Constant
from dragoman.ir.region import extract, free_values, producers
from dragoman.ir.types import TensorType
from dragoman.passes.reference import Reference
from dragoman.passes.rewrite import Replacement, Rule

_MAX_FIXED = 65536  # bytes of a weight whose values take part in proof A when it fails for arbitrary ones


@dataclass(frozen=True)
class Firing:
    """One firing of a rule and what its proofs found. `reused` tells that an equal region had been proved before."""

    rule: str
    node: str
    module: str
    line: str
    exact: str  # "equal", "different", "undecided: why" or "not applicable: why"
    local: str  # "ok", "skipped: why" or what differed
    accepted: bool
    error_before: float = 0.0
    error_after: float = 0.0
    reused: bool = False

    @property
    def proven(self) -> bool:
        """Whether proof A showed equality over the reals."""
        return self.exact == "equal"

    def __str__(self) -> str:
        where = " ".join(part for part in (self.module, self.line) if part)
        return f"{self.rule} at {self.node} ({where or 'no origin'}): A {self.exact}, B {self.local}"


class _TooLarge(Exception):
    """No instance of a region is small enough to be evaluated."""


@dataclass
class RewriteChecker:
    """A `Checker` for `apply_rules`. `reference` has the values of a run of the graph; without it they are random.

    `seconds` bounds the time spent. Firings beyond it, and those on values too large to evaluate, are accepted and
    counted in `unchecked`: no verdict of PROVEN or VERIFIED then.
    """

    reference: Reference | None = None
    seconds: float = float("inf")
    seed: int = 0
    firings: list[Firing] = field(default_factory=list)
    unchecked: dict[str, int] = field(default_factory=dict)
    spent: float = 0.0
    _known: dict[tuple[str, str, str], tuple[ExactResult | None, LocalResult]] = field(default_factory=dict)

    def __call__(self, rule: Rule, node: Node, replacement: Replacement, made: Sequence[Node]) -> bool:
        """Check one firing; False refuses it."""
        if self.spent >= self.seconds:
            self.unchecked[rule.name] = self.unchecked.get(rule.name, 0) + 1
            return True
        started = time.perf_counter()
        try:
            firing = self._check(rule, node, replacement, made)
        except _TooLarge:
            self.unchecked[rule.name] = self.unchecked.get(rule.name, 0) + 1
            return True
        finally:
            self.spent += time.perf_counter() - started
        self.firings.append(firing)
        if firing.accepted and self.reference is not None:
            self.reference.follow(node, replacement, made)
        return firing.accepted

    @property
    def refused(self) -> list[Firing]:
        """Firings that a proof refused: defects of rules."""
        return [f for f in self.firings if not f.accepted]

    def _check(self, rule: Rule, node: Node, replacement: Replacement, made: Sequence[Node]) -> Firing:
        before, after, frontier = regions(node, replacement, made)
        key = (rule.name, str(before), str(after))
        known = self._known.get(key)
        if known is None:
            exact = self._exact(before, after, frontier) if rule.exact else None
            local = self._local(before, after, frontier)
            known = self._known[key] = (exact, local)
            reused = False
        else:
            reused = True
        exact, local = known
        verdict = f"not applicable: {rule.why_inexact}" if exact is None else exact.outcome.value
        if exact is not None and exact.reason:
            verdict += f": {exact.reason}"
        accepted = local.ok and (exact is None or exact.outcome is not Outcome.DIFFERENT)
        return Firing(
            rule.name,
            node.op.name,
            node.provenance.module,
            node.provenance.line,
            verdict,
            "ok" if local.ok else local.reason,
            accepted,
            local.error_before,
            local.error_after,
            reused,
        )

    def _exact(self, before: Graph, after: Graph, frontier: Sequence[Value]) -> ExactResult:
        """Proof A for arbitrary weights; if that fails, for the values of small weights, which a rule may rely on."""
        general = prove_exact(before, after, seed=self.seed)
        if general.outcome is not Outcome.DIFFERENT:
            return general
        fixed = {i: w for i, v in enumerate(frontier) if (w := _small_weight(v)) is not None}
        return prove_exact(before, after, fixed=fixed, seed=self.seed) if fixed else general

    def _local(self, before: Graph, after: Graph, frontier: Sequence[Value]) -> LocalResult:
        """Proof B on a corner of the values that reach the region: its extents are shrunk where the types allow it."""
        instance = small_instance(before, after, frozenset())
        if instance is None:
            raise _TooLarge
        left, right = (with_input_types(g, instance.types, instance.sizes) for g in (before, after))
        if left is None or right is None:
            return LocalResult(False, f"one of the regions does not type-check at {dict(instance.sizes)}")
        values = [self._value(v, t, i) for i, (v, t) in enumerate(zip(frontier, instance.types, strict=True))]
        return check_local(left, right, values)

    def _value(self, value: Value, type: TensorType, index: int) -> Any:
        known = value.weight.array() if value.weight is not None else None
        if known is None and self.reference is not None:
            known = self.reference(value)
        shape = tuple(int(d) for d in type.shape)
        if known is not None and all(have >= want for have, want in zip(np.shape(known), shape, strict=True)):
            corner = known[tuple(slice(0, extent) for extent in shape)]
            return np.asarray(corner).astype(value.type.dtype.numpy)
        return random_values(type, np.random.default_rng((self.seed, index)))


def _small_weight(value: Value) -> Any | None:
    if value.weight is None or value.weight.nbytes > _MAX_FIXED:
        return None
    return value.weight.array()


def regions(node: Node, replacement: Replacement, made: Sequence[Node]) -> tuple[Graph, Graph, list[Value]]:
    """The region before, the region after, and the values that both start from. Constants are part of a region."""
    old_nodes = producers(node.results, (), within=frozenset(replacement.matched))
    old_nodes = [*_constants(free_values(old_nodes, node.results)), *old_nodes]
    new_nodes = [*_constants(free_values(made, replacement.values)), *made]
    free = dict.fromkeys([*free_values(old_nodes, node.results), *free_values(new_nodes, replacement.values)])
    # The replacement may use results from inside the match: those are computed in its region as well.
    inside = {r for n in old_nodes for r in n.results}
    frontier = [v for v in free if v not in inside]
    kept = producers([v for v in free if v in inside], frontier, within=frozenset(old_nodes))
    before = extract(old_nodes, frontier, node.results)
    _respell(before, replacement.constants)
    after = extract([*kept, *(n for n in new_nodes if n not in kept)], frontier, replacement.values)
    return before, after, frontier


def _respell(graph: Graph, constants: Mapping[Constant, Constant]) -> None:
    """Write constants as the rule reads them. Raises VerifyError where that is another number of the dtype."""
    for written, read in constants.items():
        numpy = written.dtype.numpy
        if written.dtype != read.dtype or numpy.type(written.value) != numpy.type(read.value):
            raise VerifyError(f"{written.value} and {read.value} are two numbers of {written.dtype}")
    for node in graph:
        if isinstance(node.op, Constant) and node.op in constants:
            node.op = constants[node.op]


def _constants(values: Sequence[Value]) -> list[Node]:
    return list(dict.fromkeys(v.producer for v in values if v.producer is not None and not v.producer.operands))


def random_values(type: TensorType, rng: np.random.Generator) -> Any:
    """Standard normal numbers, 0 or 1 for integers, random booleans, of a static type."""
    shape = [int(d) for d in type.shape if isinstance(d, int)]
    if len(shape) != type.rank:
        raise DragomanError(f"the type {type} has no sample extents")
    if type.dtype.kind == "bool":
        return rng.integers(0, 2, shape).astype(np.bool_)
    if type.dtype.is_integer:
        return rng.integers(0, 2, shape).astype(type.dtype.numpy)
    numbers = rng.standard_normal(shape)
    return (numbers + 1j * rng.standard_normal(shape) if type.dtype.is_complex else numbers).astype(type.dtype.numpy)
