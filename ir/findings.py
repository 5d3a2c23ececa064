"""What verification found, as records that people read (`str`) and programs keep (`dragoman.ir.records`).

`Comparison` is the report that every conversion and every `verify` gives. Numbers only: nothing here decides anything.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dragoman.ir.text import printable


class Verdict(enum.Enum):
    """The outcome of a verification."""

    PROVEN = "proven"  # each rewrite exactly (A) and locally (B), and the whole end to end (C)
    VERIFIED = "verified"  # B and C
    INCONCLUSIVE = "inconclusive"  # neither shown equal nor shown different; the report says why and where
    DIFFERENT = "different"

    def __str__(self) -> str:
        return self.name

    @property
    def holds(self) -> bool:
        """Whether the candidate may be handed over: PROVEN or VERIFIED."""
        return self in (Verdict.PROVEN, Verdict.VERIFIED)


class Status(enum.Enum):
    """How one output of one case fared."""

    OK = "ok"
    UNSTABLE = "unstable"  # it differs, but so does the oracle when its numbers move by a rounding
    WRONG = "wrong"


@dataclass(frozen=True)
class Summary:
    """What is remembered of an oracle's output: enough to judge a later run without the source at hand."""

    norm: float = 0.0  # Euclidean, over the finite elements …
    norm_bound: float = 0.0  # … and how far a candidate may be in norm
    special: tuple[int, ...] = ()  # how many NaN, +Inf and −Inf
    places: tuple[int, ...] = ()  # positions in row-major order of a few elements …
    values: tuple[str, ...] = ()  # … and those, written exactly
    bounds: tuple[float, ...] = ()  # … and how far a candidate may be from each
    digest: str = ""  # SHA-256 of the elements that were accepted where they must match exactly


@dataclass(frozen=True)
class OutputFinding:
    """One output of one case. Errors are distances from the float64 oracle, relative to the oracle's own size.

    `norm_*` are Euclidean over the whole output, `worst_*` the largest of one element over the largest magnitude.
    `excess` is the largest ratio of the candidate's error to what is allowed: at most 1 when all is well.
    """

    name: str
    type: str
    status: Status = Status.OK
    reason: str = ""
    factor: float = 0.0  # K; 0 where equality is demanded
    norm_source: float = 0.0
    norm_candidate: float = 0.0
    worst_source: float = 0.0
    worst_candidate: float = 0.0
    excess: float = 0.0
    place: tuple[int, ...] = ()
    expected: str = ""
    got: str = ""
    draws: int = 1  # how many random draws the judgement is over
    oracle: Summary = field(default_factory=Summary)

    def __str__(self) -> str:
        if self.status is Status.OK and not self.factor:
            return f"{printable(self.name)}: identical"
        text = f"{printable(self.name)}: error {self.norm_candidate:.2e}, source's own {self.norm_source:.2e}"
        text += f" (largest {self.worst_candidate:.2e} and {self.worst_source:.2e})"
        if self.status is Status.OK:
            return text
        at = f" at {list(self.place)}: expected {self.expected}, got {self.got}" if self.expected else ""
        return f"{text}\n    {self.reason}{at}" if self.factor else f"{printable(self.name)}: {self.reason}{at}"


@dataclass(frozen=True)
class CaseFinding:
    """One case: which inputs, how long it took, and each output. `failure` says why the candidate did not run."""

    name: str
    symbols: Mapping[str, int]
    style: str
    seed: int
    shapes: Mapping[str, tuple[int, ...]]
    inputs: str  # SHA-256 over the input arrays
    seconds: float = 0.0
    outputs: tuple[OutputFinding, ...] = ()
    failure: str = ""

    @property
    def status(self) -> Status:
        """The worst of its outputs."""
        if self.failure or any(o.status is Status.WRONG for o in self.outputs):
            return Status.WRONG
        return Status.UNSTABLE if any(o.status is Status.UNSTABLE for o in self.outputs) else Status.OK


@dataclass(frozen=True)
class Skipped:
    """A case that did not run, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class RuleProofs:
    """How often a rewrite rule fired and how its firings were proved."""

    rule: str
    fired: int
    proven: int  # by A and B
    local: int  # by B alone
    reasons: tuple[str, ...] = ()  # why A did not decide, each once
    on_run: int = 0  # where B also held on the values that a run of the model has at that place

    @property
    def unchecked(self) -> int:
        """Firings that no proof looked at."""
        return self.fired - self.proven - self.local


class FiringLike(Protocol):
    """One checked firing of a rule, as the rewriting driver records it."""

    @property
    def rule(self) -> str:
        """The rule's name."""
        ...

    @property
    def exact(self) -> str:
        """What proof A said."""
        ...

    @property
    def proven(self) -> bool:
        """Whether proof A showed equality."""
        ...

    @property
    def accepted(self) -> bool:
        """Whether the firing took effect."""
        ...

    @property
    def on_run(self) -> bool:
        """Whether proof B was done on the values of a run."""
        ...


def tally(firings: Iterable[FiringLike], unchecked: Mapping[str, int] | None = None) -> tuple[RuleProofs, ...]:
    """Firings that took effect, counted by rule; `unchecked` counts those that nothing looked at."""
    missed = dict(unchecked or {})
    by_rule: dict[str, list[FiringLike]] = {rule: [] for rule in missed}
    for firing in firings:
        if firing.accepted:
            by_rule.setdefault(firing.rule, []).append(firing)
    return tuple(_proofs(rule, by_rule[rule], missed.get(rule, 0)) for rule in sorted(by_rule))


def _proofs(rule: str, firings: Sequence[FiringLike], missed: int) -> RuleProofs:
    local = [f for f in firings if not f.proven]
    reasons = tuple(dict.fromkeys(f.exact for f in local))
    on_run = sum(f.on_run for f in firings)
    return RuleProofs(rule, len(firings) + missed, len(firings) - len(local), len(local), reasons, on_run)


@dataclass(frozen=True)
class Divergence:
    """Where two programs first part: the node, where it comes from, and the numbers there."""

    stage: str  # "import" (the graph is not the source), "rewriting", "emission" (the candidate is not the graph)
    node: str
    op: str
    module: str
    line: str
    reason: str
    place: tuple[int, ...] = ()
    expected: str = ""
    got: str = ""
    error: float = 0.0
    allowed: float = 0.0
    region: str = ""  # IR text of the smallest sub-graph that fails
    command: str = ""  # reproduces it

    def __str__(self) -> str:
        where = "  ".join(part for part in (self.module, self.line) if part)
        lines = [f"first divergence ({self.stage}): {self.node}"]
        lines += [f"  from      {printable(where)}"] if where else []
        lines += [f"  because   {self.reason}"]
        if self.expected:
            lines.append(f"  element   {list(self.place)}: expected {self.expected}, got {self.got}")
        if self.region:
            lines += ["  smallest failing graph:", *(f"    {row}" for row in self.region.splitlines())]
        lines += [f"  reproduce {self.command}"] if self.command else []
        return "\n".join(lines)


@dataclass(frozen=True)
class Comparison:
    """The report of a verification."""

    verdict: Verdict
    reason: str  # one sentence
    source: str
    candidate: str
    oracle: str  # what was taken for the truth
    cases: tuple[CaseFinding, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    rules: tuple[RuleProofs, ...] | None = None  # None: no rewriting is known of
    divergence: Divergence | None = None
    conditioning: str = ""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    budget: float | None = None

    def __str__(self) -> str:
        return "\n".join(_page(self))

    def outputs(self) -> tuple[OutputFinding, ...]:
        """The finding of each output in the case where it came closest to its bound, or went furthest beyond."""
        worst: dict[str, OutputFinding] = {}
        order = (Status.OK, Status.UNSTABLE, Status.WRONG)
        for case in self.cases:
            for found in case.outputs:
                held = worst.get(found.name)
                if held is None or (order.index(found.status), found.excess) > (order.index(held.status), held.excess):
                    worst[found.name] = found
        return tuple(worst.values())


def _page(report: Comparison) -> Iterable[str]:
    yield f"{report.verdict}: {report.reason}"
    yield f"  {report.candidate} against {report.source}; oracle: {report.oracle}"
    factors = sorted({o.factor for c in report.cases for o in c.outputs if o.factor})
    if factors:
        listed = " or ".join(f"{k:g}" for k in factors)
        yield f"  rule: error at most {listed} × the source's own, per output, norm-wise and over tiles of elements"
    ran = f"{len(report.cases)} case{'s' * (len(report.cases) != 1)} in {report.seconds:.1f} s"
    yield f"  {ran}" + (f" (budget {report.budget:g} s)" if report.budget is not None else "")
    yield from (f"    {_case_line(case)}" for case in report.cases)
    if report.cases:
        yield "  outputs, each in the case where it came closest to its bound"
        yield from (f"    {line}" for found in report.outputs() for line in str(found).splitlines())
    if report.skipped:
        yield "  skipped"
        yield from (f"    {printable(s.name)}: {s.reason}" for s in report.skipped)
    yield from _rule_lines(report.rules)
    yield from (f"  {line}" for line in (report.conditioning, *report.notes) if line)
    if report.divergence is not None:
        yield from (f"  {line}" for line in str(report.divergence).splitlines())


def _case_line(case: CaseFinding) -> str:
    worst = max((o.excess for o in case.outputs), default=0.0)
    note = f"candidate failed: {case.failure}" if case.failure else f"{case.status.value}, {worst:.2f} of the bound"
    return f"{printable(case.name):<44} {case.seconds:6.2f} s  {note}"


def _rule_lines(rules: tuple[RuleProofs, ...] | None) -> Iterable[str]:
    if not rules:
        return
    yield "  rewrites"
    for rule in rules:
        parts = [(rule.proven, "proven exactly"), (rule.local, "checked locally"), (rule.unchecked, "not checked")]
        parts += [(rule.on_run, "on values of a run too")]
        yield f"    {rule.rule} {rule.fired}×: " + ", ".join(f"{n} {what}" for n, what in parts if n)
        yield from (f"      {reason}" for reason in rule.reasons)


def describe_number(value: Any) -> str:
    """One element as a report shows it."""
    return repr(value.item() if hasattr(value, "item") else value)
