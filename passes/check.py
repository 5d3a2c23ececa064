"""Checking a rewrite where it fires: exactly over a finite field (A) and in float64 on the values that reach it (B).

The region before and after are cut out with a common frontier. Equal regions are proved once for arbitrary values
(proof A, and B on random ones): the key is their text. Proof B on the values of a reference run is repeated at every
place, since each has its own. A rewrite that fails is recorded with the rule, the node, its module path and source
line, and is not applied.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dragoman.ir.arithmetic import FLOAT64
from dragoman.ir.errors import DragomanError, VerifyError
from dragoman.ir.exact import (
    LEAST_EXTENTS,
    ExactResult,
    Instance,
    Outcome,
    instance_size,
    prove_exact,
    small_instances,
    with_input_types,
)
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.interpreter import Interpreter
from dragoman.ir.local import LocalResult, check_local
from dragoman.ir.ops.constant import Constant
from dragoman.ir.region import extract, free_values, producers
from dragoman.ir.roles import InputRole, Kind, index_range, input_roles
from dragoman.ir.types import TensorType
from dragoman.passes.reference import Reference, reference_of
from dragoman.passes.rewrite import Replacement, Rule

_MAX_FIXED = 65536  # bytes of a weight whose values take part in proof A when it fails for arbitrary ones
_QUICK = 1 << 17  # elements of the largest value of a region that proof B evaluates at its declared extents
_SHARE_FOR_RUN = 0.25  # of the time, for B on the values of a run at each place; then once for equal regions


@dataclass(frozen=True)
class Firing:
    """One firing of a rule and what its proofs found.

    `reused` tells that an equal region had been proved before for arbitrary values; `on_run` that proof B also held, or
    failed, on the values that a reference run has at this very place.
    """

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
    on_run: bool = False

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
class _Region:
    """A rewritten region before and after, at extents small enough to be evaluated, and what was found for it."""

    before: Graph
    after: Graph
    instance: Instance
    roles: Sequence[InputRole]
    exact: ExactResult
    local: LocalResult  # on random values
    relied_on: tuple[Value, ...] = ()  # weights that proof A holds for the values of, and perhaps no others
    on_run: bool = False  # whether proof B was done on the values of a run anywhere

    def __post_init__(self) -> None:
        """`is_settled`: B need not be repeated at each place, since A proves it and evaluating it takes long."""
        proved = self.exact.outcome is Outcome.EQUAL
        self.is_settled = proved and instance_size(self.before, self.after, self.instance) > _QUICK


@dataclass
class RewriteChecker:
    """A `Checker` for `apply_rules`. `reference` has the values of a run of the graph; without it all are random.

    `seconds` bounds the time spent. Firings beyond it, and those on values too large to evaluate, are accepted and
    counted in `unchecked`: no verdict of PROVEN or VERIFIED then.
    """

    reference: Reference | None = None
    seconds: float = float("inf")
    seed: int = 0
    firings: list[Firing] = field(default_factory=list)
    unchecked: dict[str, int] = field(default_factory=dict)
    spent: float = 0.0
    run: str = "no run"  # the run that there are values of, in words
    _to_run: Callable[[], Reference | str] | None = None
    _known: dict[tuple[str, str, str], _Region] = field(default_factory=dict)

    def __call__(self, rule: Rule, node: Node, replacement: Replacement, made: Sequence[Node]) -> bool:
        """Check one firing; False refuses it."""
        if self.spent >= self.seconds:
            self.unchecked[rule.name] = self.unchecked.get(rule.name, 0) + 1
            return True
        started = time.perf_counter()
        try:
            self._run()
            firing = self._check(rule, node, replacement, made)
        except _TooLarge:
            self.unchecked[rule.name] = self.unchecked.get(rule.name, 0) + 1
            return True
        finally:
            self.spent += time.perf_counter() - started
        self.firings.append(firing)
        if firing.accepted and self.reference is not None:
            self.reference.hand_over(node.results, replacement.values)
        return firing.accepted

    def run_on(self, graph: Graph, examples: Sequence[Any] = (), seconds: float = float("inf")) -> None:
        """Judge the rewrites to come also on the values of a run of the graph, on examples or made-up inputs.

        It runs when the first rule fires, for at most about so many seconds.
        """
        self._to_run = lambda: reference_of(graph, examples, seconds=seconds)

    def forget_run(self) -> None:
        """Let go of the values of the run: the places it knows are gone."""
        self.reference, self._to_run = None, None

    def _run(self) -> None:
        """The run that was asked for, if it was not yet done."""
        if self._to_run is None:
            return
        made = self._to_run()
        self._to_run = None
        self.reference = None if isinstance(made, str) else made
        self.run = f"no run: {made}" if isinstance(made, str) else str(made)

    @property
    def refused(self) -> list[Firing]:
        """Firings that a proof refused: defects of rules."""
        return [f for f in self.firings if not f.accepted]

    def _check(self, rule: Rule, node: Node, replacement: Replacement, made: Sequence[Node]) -> Firing:
        cut = regions(node, replacement, made)
        key = (rule.name, str(cut.before), str(cut.after))
        region = self._known.get(key)
        reused = region is not None and (not region.relied_on or region.relied_on == _small_weights(cut.frontier))
        if region is None or not reused:
            region = self._known[key] = self._region(cut)
        exact, local = region.exact, region.local
        found = self._on_run(region, cut, made) if local.ok else None
        local = found or local
        verdict = f"{exact.outcome.value}: {exact.reason}" if exact.reason else exact.outcome.value
        why_inexact = replacement.why_inexact or rule.why_inexact
        if why_inexact and exact.outcome is not Outcome.EQUAL:  # equality shows even where difference means nothing
            verdict = f"not applicable: {why_inexact}"
        return Firing(
            rule=rule.name,
            node=node.op.name,
            module=node.provenance.module,
            line=node.provenance.line,
            exact=verdict,
            local="ok" if local.ok else local.reason,
            accepted=local.ok and not (exact.outcome is Outcome.DIFFERENT and not why_inexact),
            error_before=local.error_before,
            error_after=local.error_after,
            reused=reused,
            on_run=found is not None,
        )

    # ---- once for equal regions -----------------------------------------------------------------------

    def _region(self, cut: Cut) -> _Region:
        """Proof A, and proof B on random values, at extents shrunk where the types allow it."""
        proof, relied_on = self._exact(cut)
        region: _Region | None = None
        for least in LEAST_EXTENTS:
            for instance in _instances(cut, least):
                region = self._at(cut, instance, proof, relied_on)
                if region.local.ok:
                    return region
            if region is not None and region.local.has_meaning:
                break
        if region is None:
            raise _TooLarge
        return region

    def _at(self, cut: Cut, instance: Instance, proof: ExactResult, relied_on: tuple[Value, ...]) -> _Region:
        left, right = (with_input_types(g, instance.types, instance.sizes) for g in (cut.before, cut.after))
        if left is None or right is None:
            reason = f"one of the regions does not type-check at {dict(instance.sizes)}"
            refusal = LocalResult(False, reason, has_meaning=left is not None)
            return _Region(cut.before, cut.after, instance, (), proof, refusal)
        roles = [_narrower(a, b) for a, b in zip(input_roles(left), input_roles(right), strict=True)]
        region = _Region(left, right, instance, roles, proof, LocalResult(True), relied_on)
        region.local = check_local(left, right, [self._random(region, i, v) for i, v in enumerate(cut.frontier)])
        return region

    def _exact(self, cut: Cut) -> tuple[ExactResult, tuple[Value, ...]]:
        """Proof A for arbitrary weights; if that fails, for the values of small weights, which a rule may rely on."""
        general = prove_exact(cut.before, cut.after, seed=self.seed)
        relied_on = _small_weights(cut.frontier)
        if general.outcome is not Outcome.DIFFERENT or not relied_on:
            return general, ()
        fixed = {i: v.weight.array() for i, v in enumerate(cut.frontier) if v in relied_on and v.weight is not None}
        return prove_exact(cut.before, cut.after, fixed=fixed, seed=self.seed), relied_on

    def _random(self, region: _Region, index: int, value: Value) -> Any:
        type = region.instance.types[index]
        if value.weight is not None:
            return _fitted(value.weight.array(), type, region.roles[index])
        return random_values(type, np.random.default_rng((self.seed, index)), region.roles[index])

    # ---- at each place --------------------------------------------------------------------------------

    def _on_run(self, region: _Region, cut: Cut, made: Sequence[Node]) -> LocalResult | None:
        """Proof B on the values of the reference run; None where they are not known, or time is short."""
        if self.reference is None or (region.on_run and self.spent > self.seconds * _SHARE_FOR_RUN):
            return None
        values: list[Any] = []
        for value, type, role in zip(cut.frontier, region.instance.types, region.roles, strict=True):
            known = value.weight.array() if value.weight is not None else self.reference(value)
            if known is None or (0 in np.shape(known) and 0 not in type.shape):
                return None
            values.append(_fitted(known, type, role))
        found = None if region.on_run and region.is_settled else check_local(region.before, region.after, values)
        region.on_run = True
        if (found is None or found.ok) and len(made) > 1:
            self._learn_inside(region, cut, values, self.reference)
        return found

    def _learn_inside(self, region: _Region, cut: Cut, values: Sequence[Any], reference: Reference) -> None:
        """What the nodes made for a replacement compute: rules that fire on them later want values too."""
        interpreter = Interpreter(region.after, FLOAT64, keep=lambda value: True)
        interpreter.run(values)
        for node, copied in zip(cut.nodes_after, region.after, strict=True):
            for original, result in zip(node.results, copied.results, strict=True):
                if result in interpreter.values:
                    reference.learn(original, interpreter.values[result])


def _instances(cut: Cut, least: int) -> list[Instance]:
    """Extents at which proof B is done, until it holds: the declared ones alone if that is quick, else shrunk first."""
    found = list(small_instances(cut.before, cut.after, least=least))
    quick = found and instance_size(cut.before, cut.after, found[-1]) <= _QUICK
    return found[-1:] if quick else found


def _narrower(a: InputRole, b: InputRole) -> InputRole:
    """What both regions demand of an input: an index is one of all the tables that it indexes."""
    return replace(a, kind=Kind.INDEX if Kind.INDEX in (a.kind, b.kind) else a.kind, high=a.high + b.high)


def _fitted(known: Any, type: TensorType, role: InputRole) -> Any:
    """A corner of known values as an array of this type, repeated where they are fewer than it has.

    What indexes tables that were shrunk with the type is brought within them.
    """
    array = np.asarray(known)
    for axis, (have, want) in enumerate(zip(array.shape, type.shape, strict=True)):
        assert isinstance(want, int)
        array = (
            array.take(np.arange(want) % have, axis)
            if have < want
            else array[(slice(None),) * axis + (slice(0, want),)]
        )
    array = np.asarray(array).astype(type.dtype.numpy)
    if role.kind is not Kind.INDEX or not type.dtype.is_integer:
        return array
    low, high = index_range(role, int)
    least = low if low else -(high + 1)  # counted from the end
    inside = (array >= least) & (array <= high)
    return array if inside.all() else np.where(inside, array, low + array % (high - low + 1)).astype(array.dtype)


def _small_weights(values: Sequence[Value]) -> tuple[Value, ...]:
    return tuple(v for v in values if v.weight is not None and v.weight.nbytes <= _MAX_FIXED)


@dataclass(frozen=True)
class Cut:
    """A region before and after a rewrite, the values that both start from, and the nodes that `after` copies."""

    before: Graph
    after: Graph
    frontier: list[Value]
    nodes_after: list[Node]


def regions(node: Node, replacement: Replacement, made: Sequence[Node]) -> Cut:
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
    nodes_after = [*kept, *(n for n in new_nodes if n not in kept)]
    return Cut(before, extract(nodes_after, frontier, replacement.values), frontier, nodes_after)


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


def random_values(type: TensorType, rng: np.random.Generator, role: InputRole | None = None) -> Any:
    """Standard normal numbers, random booleans, and integers: any that `role` allows as an index, else 0 or 1."""
    shape = [int(d) for d in type.shape if isinstance(d, int)]
    if len(shape) != type.rank:
        raise DragomanError(f"the type {type} has no sample extents")
    if type.dtype.kind == "bool":
        return rng.integers(0, 2, shape).astype(np.bool_)
    if type.dtype.is_integer:
        low, high = index_range(role, int) if role is not None and role.kind is Kind.INDEX else (0, 1)
        return rng.integers(low, high + 1, shape).astype(type.dtype.numpy)
    numbers = rng.standard_normal(shape)
    return (numbers + 1j * rng.standard_normal(shape) if type.dtype.is_complex else numbers).astype(type.dtype.numpy)
