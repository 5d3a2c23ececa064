"""The one standard of equivalence: proof C, end to end, and the verdict that it makes with proofs A and B of the
rewrites.

    report = compare(graph, source, candidate)        # graph: as imported; source, candidate: `Runner`s
    report.verdict.holds, print(report)

The oracle is the source in double precision, or the imported graph in float64 where the source has none (and then the
source must be explained by it). Per output the candidate's error may be at most K times the source's own
(`dragoman.ir.judge`). A failure is looked into before it is called one: a marginal one over more draws; any other by
bisection to the first node that is wrong on its own inputs, and by what rounding alone does to the model. Only then
is it DIFFERENT or INCONCLUSIVE; it never passes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ml_dtypes
import numpy as np

from dragoman.ir.bisect import find_divergence, first_difference
from dragoman.ir.cases import Case, Style, digest, elements, plan_cases
from dragoman.ir.findings import (
    CaseFinding,
    Comparison,
    Divergence,
    OutputFinding,
    RuleProofs,
    Skipped,
    Status,
    Verdict,
    tally,
)
from dragoman.ir.graph import Graph
from dragoman.ir.judge import Output, judge, judge_draws, outputs_of, wide
from dragoman.ir.local import rounding_unit, tolerance_factor
from dragoman.ir.noise import faintest_row, largest_number, most_amplifying, noisy_outputs, profile, spread
from dragoman.ir.roles import InputRole, input_roles
from dragoman.ir.runner import GraphRunner, Named, Probing, Reduced, Runner, check_inputs
from dragoman.ir.types import DType, dtype_of

__all__ = ["Case", "Comparison", "GraphRunner", "Named", "Probing", "Runner", "Style", "Verdict", "compare", "tally"]

# Inputs far from any that the model is for: where they only show that it magnifies rounding, they show nothing, and the
# report says so. On typical inputs the same leaves the verdict open.
_STRESS = frozenset({Style.LARGE, Style.ZEROS, Style.FAINT})
_MARGINAL = 8.0  # an excess below this may be the luck of few elements: look at more draws
_DRAWS = 8
_NOISE_DRAWS = 4
_MAX_ELEMENTS = 1 << 31  # of all values of a run: beyond it a case is not affordable
"""The largest case that runs."""


def compare(
    graph: Graph,
    source: Runner,
    candidate: Runner,
    *,
    cases: Sequence[Case] | None = None,
    given: Sequence[Sequence[Any]] = (),
    seeds: Sequence[int] = (0, 1),
    budget: float | None = None,
    least: int = 3,
    rules: Sequence[RuleProofs] | None = None,
    command: str = "",
    precision: DType | None = None,
) -> Comparison:
    """Compare a candidate with its source and give the verdict.

    graph      the imported graph: names, types, dynamic dims, roles of inputs; the oracle if the source has no double
    cases      what to run instead of the planned cases
    given      input arrays of the user's, run before the planned cases
    budget     seconds, but the first `least` cases always run; what is left out is listed
    rules      the rewrites between graph and candidate (`tally`): with None no more than VERIFIED can be said
    command    reproduces this comparison from a shell, for the report
    precision  what both compute in where the graph has wider floats: then `source` runs in that precision, and inputs
               on which the model leaves its range show nothing
    """
    for arrays in given:
        check_inputs(graph, arrays)
    session = _Session(graph, source, candidate, budget, least, command, precision)
    names = session.names_differ()
    if names:
        return session.report(Verdict.DIFFERENT, names, rules)
    for case in cases if cases is not None else plan_cases(graph, seeds=seeds, given=given):
        session.take(case)
    verdict, reason = _judgement(session, rules)
    return session.report(verdict, reason, rules)


def _judgement(session: _Session, rules: Sequence[RuleProofs] | None) -> tuple[Verdict, str]:
    if session.different:
        return Verdict.DIFFERENT, session.different
    if not session.found:
        return Verdict.INCONCLUSIVE, "no case could be run" + (
            f": {session.skipped[0].reason}" if session.skipped else ""
        )
    if session.unstable:
        return Verdict.INCONCLUSIVE, session.unstable
    unchecked = [r for r in rules or () if r.unchecked]
    if unchecked:
        missed = sum(r.unchecked for r in unchecked)
        return Verdict.INCONCLUSIVE, f"{missed} rewrites were not checked, of {', '.join(r.rule for r in unchecked)}"
    fired = sum(r.fired for r in rules or ())
    if rules is not None and session.precision is None and all(r.proven == r.fired for r in rules):
        rewrites = f"each of {fired} rewrites exactly and locally, and " if fired else ""
        return Verdict.PROVEN, f"{rewrites}all outputs end to end"
    return Verdict.VERIFIED, "all outputs end to end" + (f", and each of {fired} rewrites locally" if fired else "")


@dataclass
class _Session:
    """One comparison under way."""

    graph: Graph
    source: Runner
    candidate: Runner
    budget: float | None
    least: int
    command: str
    precision: DType | None = None
    found: list[CaseFinding] = field(default_factory=list[CaseFinding])
    skipped: list[Skipped] = field(default_factory=list[Skipped])
    notes: list[str] = field(default_factory=list[str])
    different: str = ""
    unstable: str = ""
    conditioning: str = ""
    divergence: Divergence | None = None
    oracle: str = ""
    first: tuple[Sequence[Any], Sequence[Any], Sequence[Any]] | None = None  # inputs, oracle, source of the first case
    calibration: list[float] | None = None
    beyond: str = ""  # how the last stress case leaves the range of the precision

    def __post_init__(self) -> None:
        self.started = time.perf_counter()
        self.roles: tuple[InputRole, ...] = input_roles(self.graph)
        self.outputs: list[Output] = [self._in_precision(o) for o in outputs_of(self.graph)]
        self.interpreter = GraphRunner(self.graph)
        self.per_element = 0.0  # seconds, in the largest case so far
        self.largest = 0

    def _in_precision(self, output: Output) -> Output:
        if self.precision is None or not output.precision.is_inexact:
            return output
        return replace(output, precision=max(output.precision, self.precision, key=rounding_unit))

    # ---- cases ---------------------------------------------------------------------------------------

    def take(self, case: Case) -> None:
        """Run a case unless something speaks against it."""
        reason = self._against(case)
        if reason:
            self.skipped.append(Skipped(str(case), reason))
            return
        started = time.perf_counter()
        inputs = case.inputs(self.roles)
        try:
            truth, own = self._truth(inputs)
        except MemoryError:
            self.skipped.append(Skipped(str(case), "the source does not fit into memory"))
            return
        except Exception as error:  # whatever a framework raises: the case shows nothing
            self.skipped.append(Skipped(str(case), f"the source does not run: {_first_line(error)}"))
            return
        finding = self._finding(case, inputs)
        self.first = self.first or (inputs, truth, own)
        try:
            got = _copied(self.candidate.run(_copied(inputs)))
        except MemoryError:
            self.skipped.append(Skipped(str(case), "the candidate does not fit into memory"))
            return
        except Exception as error:
            finding = replace(finding, failure=_first_line(error))
            self._differs(case, f"the candidate fails where the source runs: {finding.failure}")
        else:
            self._learn_speed(case, time.perf_counter() - started)
            finding = replace(finding, outputs=self._judged(case, inputs, truth, own, got))
        nothing = self._shows_nothing(case, finding)
        if nothing:
            self.skipped.append(Skipped(str(case), nothing))
            return
        self._note_weak(case, finding)
        if finding.status is Status.UNSTABLE:
            self._ill_conditioned(case, inputs, next(o for o in finding.outputs if o.status is Status.UNSTABLE))
        self.found.append(replace(finding, seconds=time.perf_counter() - started))

    def _note_weak(self, case: Case, finding: CaseFinding) -> None:
        """Say where the source itself has lost half of its digits: a candidate that is as good as that is not good."""
        for output, unit in zip(finding.outputs, map(self._unit, range(len(self.outputs))), strict=False):
            if output.norm_source > math.sqrt(unit):
                self.notes.append(
                    f"in the case {case} the source's own error in {output.name!r} is {output.norm_source:.1e}: "
                    "being no worse says little there"
                )

    def _shows_nothing(self, case: Case, finding: CaseFinding) -> str:
        """Why a case far from usual inputs says nothing of the candidate: rounding alone moves its outputs as far."""
        if case.style not in _STRESS or finding.status is not Status.UNSTABLE:
            return ""
        if self.beyond:
            return f"it shows nothing: {self.beyond}"
        moved = next(o for o in finding.outputs if o.status is Status.UNSTABLE)
        kind = "the model magnifies rounding" if moved.factor else "numbers tie within rounding"
        return f"it shows nothing: {kind} there, and {moved.name!r} moves as far by rounding alone"

    def _against(self, case: Case) -> str:
        if self.different:
            return "not needed: a difference was found"
        if case.style is Style.GIVEN:
            return ""
        size = elements(self.graph, case.symbols)
        if size > _MAX_ELEMENTS:
            return f"its values have {size:.2g} elements, {_MAX_ELEMENTS:.2g} are affordable"
        if self.budget is None or len(self.found) < max(self.least, 1):
            return ""
        left = self.budget - (time.perf_counter() - self.started)
        expected = size * self.per_element
        return (
            f"would take about {expected:.1f} s, {max(left, 0):.1f} s of the budget are left" if expected > left else ""
        )

    def _learn_speed(self, case: Case, seconds: float) -> None:
        size = 0 if case.style is Style.GIVEN else elements(self.graph, case.symbols)
        if size > self.largest:
            self.largest = size
            self.per_element = seconds / max(size, 100_000)  # below that it is the fixed cost of a run

    def _finding(self, case: Case, inputs: Sequence[Any]) -> CaseFinding:
        shapes = {r.name: tuple(map(int, x.shape)) for r, x in zip(self.roles, inputs, strict=True)}
        return CaseFinding(str(case), dict(case.symbols), case.style.value, case.seed, shapes, digest(inputs))

    # ---- oracle --------------------------------------------------------------------------------------

    def _truth(self, inputs: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """The oracle's outputs and the source's own."""
        own = _copied(self.source.run(_copied(inputs)))
        if self.oracle != self._interpreter_oracle:
            try:
                truth = _copied(self.source.run(_copied(inputs), double=True))
                narrow = [x.dtype for x in truth if dtype_of(x).is_inexact and x.dtype.itemsize < 8]
                if narrow:
                    raise TypeError(f"asked for double precision it gave {narrow[0]}")
            except Exception as error:
                self.notes.append(f"{self.source.name} has no double precision here: {_first_line(error)}")
            else:
                self.oracle = f"{self._original.name} in float64"
                return truth, own
        self.oracle = self._interpreter_oracle
        return self.interpreter.run(inputs, double=True), own

    @property
    def _original(self) -> Runner:
        """What the source is in double precision, and can be looked into as."""
        return self.source.original if isinstance(self.source, Reduced) else self.source

    @property
    def _interpreter_oracle(self) -> str:
        return "the imported graph in float64"

    # ---- judging -------------------------------------------------------------------------------------

    def _judged(
        self, case: Case, inputs: Sequence[Any], truth: Sequence[Any], own: Sequence[Any], got: Sequence[Any]
    ) -> tuple[OutputFinding, ...]:
        if len(got) != len(own) or len(own) != len(self.outputs):
            reason = f"{len(got)} outputs, the source has {len(own)} and the graph {len(self.outputs)}"
            self._differs(case, reason)
            return ()
        results = [judge(o, t, s, c) for o, t, s, c in zip(self.outputs, truth, own, got, strict=True)]
        if self.oracle == self._interpreter_oracle and self._wrong_import(case, inputs, truth, own, results):
            return tuple(results)
        self.beyond = ""
        if any(r.status is Status.WRONG for r in results) and case.style in _STRESS:
            self.beyond = self._beyond_range(inputs)
            if self.beyond and all(
                self._could_be_rounding(r) or "Inf" in r.reason or "NaN" in r.reason for r in results
            ):
                return tuple(replace(r, status=Status.UNSTABLE) if r.status is Status.WRONG else r for r in results)
        if any(r.status is Status.WRONG for r in results):
            try:
                results = self._second_look(case, inputs, results, (truth, own, got))
                results = self._diagnosed(case, inputs, truth, got, results)
            except Exception as error:  # no memory for a float64 run, a value that a runtime cannot show, …
                self.notes.append(f"the difference could not be looked into: {_first_line(error)}")
                self._differs(case, next(f"{r.name!r}: {r.reason}" for r in results if r.status is Status.WRONG))
        return tuple(results)

    def _beyond_range(self, inputs: Sequence[Any]) -> str:
        """How the model leaves the range of the precision on these inputs in float64; empty if it does not."""
        if self.precision is None:
            return ""
        limits = ml_dtypes.finfo(self.precision.numpy)
        faint = faintest_row(inputs)
        if faint < float(limits.smallest_normal):
            return f"a row of the inputs is at most {faint:.2g}, below what {self.precision} holds well"
        peak = largest_number(self.graph, inputs)
        return f"numbers reach {peak:.2g}, beyond {self.precision}" if peak > float(limits.max) else ""

    def _wrong_import(
        self,
        case: Case,
        inputs: Sequence[Any],
        truth: Sequence[Any],
        own: Sequence[Any],
        results: list[OutputFinding],
    ) -> bool:
        """With our graph as the oracle, the source itself must be within rounding of it, or the import is wrong."""
        suspects = [i for i, r in enumerate(results) if r.factor and r.worst_source > 64 * self._unit(i)]
        allowed = self._spread(inputs) if suspects else []
        for i in suspects:
            distance = np.abs(wide(own[i]) - wide(truth[i]))
            if np.any(np.isfinite(distance) & (distance > 4 * allowed[i].max(initial=0.0))):
                reason = f"the imported graph is not the source: they differ by {results[i].worst_source:.3g}"
                results[i] = replace(results[i], status=Status.WRONG, reason=reason, excess=np.inf)
                self.divergence = first_difference(self._original, inputs, reason, self.command)
                self._differs(case, f"{results[i].name!r}: {reason}")
                return True
        return False

    def _second_look(
        self, case: Case, inputs: Sequence[Any], results: list[OutputFinding], first: tuple[Sequence[Any], ...]
    ) -> list[OutputFinding]:
        """A marginal excess over more draws of the same case, and over the source's error redrawn by simulation.

        Few independent errors decide little: those of a small output, or of a picture that is constant.
        """
        marginal = [i for i, r in enumerate(results) if r.status is Status.WRONG and r.factor and r.excess <= _MARGINAL]
        if not marginal or len(marginal) < sum(r.status is Status.WRONG for r in results):
            return results
        estimates = [k * moved for k, moved in zip(self._calibration(), self._rounding(inputs), strict=True)]
        draws = [tuple(zip(*first, strict=True))]
        for seed in range(_DRAWS if case.style is not Style.GIVEN else 1):
            if seed:
                other = replace(case, seed=case.seed + 1000 * seed).inputs(self.roles)
                truth, own = self._truth(other)
                draws.append(tuple(zip(truth, own, _copied(self.candidate.run(_copied(other))), strict=True)))
            if seed in (0, _DRAWS - 1):
                pooled = {i: judge_draws(self.outputs[i], [d[i] for d in draws], estimates[i]) for i in marginal}
                results = [pooled.get(i, r) for i, r in enumerate(results)]
            if all(r.status is Status.OK for r in results):
                break
        return results

    def _rounding(self, inputs: Sequence[Any], draws: int = _NOISE_DRAWS) -> list[Any]:
        """What rounding does to each element of each output, root mean square, by simulation."""
        exact = self.interpreter.run(inputs, double=True)
        unit = max((self._unit(i) for i in range(len(self.outputs))), default=0.0)
        return profile(exact, noisy_outputs(self.graph, inputs, unit, draws))

    def _calibration(self) -> list[float]:
        """For each output, how the source's error in the first case compares with the simulated one."""
        if self.calibration is None:
            assert self.first is not None
            inputs, truth, own = self.first
            self.calibration = [
                float(_norm(wide(s) - wide(t)) / (_norm(r) or np.inf)) if dtype_of(s).is_inexact else 0.0
                for t, s, r in zip(truth, own, self._rounding(inputs, 1), strict=True)
            ]
        return self.calibration

    def _diagnosed(
        self, case: Case, inputs: Sequence[Any], truth: Sequence[Any], got: Sequence[Any], results: list[OutputFinding]
    ) -> list[OutputFinding]:
        """Why outputs are wrong: a node that is wrong on its own inputs, or rounding that the model magnifies."""
        if all(r.status is not Status.WRONG for r in results):
            return results
        divergence = find_divergence(self.graph, self._original, self.candidate, inputs, truth, self.command)
        if divergence is not None:
            self.divergence = divergence
            self._differs(case, f"{divergence.node}: {divergence.reason}")
            return results
        wrong = [i for i, r in enumerate(results) if r.status is Status.WRONG]
        if any(not self._could_be_rounding(results[i]) for i in wrong):
            self._differs(case, next(f"{r.name!r}: {r.reason}" for r in results if not self._could_be_rounding(r)))
            return results
        allowed = self._spread(inputs)
        for i in wrong:
            if not _within(self.outputs[i], truth[i], got[i], allowed[i]):
                self._differs(case, f"{results[i].name!r}: {results[i].reason}, more than rounding explains")
                return results
            results[i] = replace(results[i], status=Status.UNSTABLE)
        return results

    @staticmethod
    def _could_be_rounding(finding: OutputFinding) -> bool:
        """Errors, or exact elements that may hang on a comparison of nearly equal numbers; never the form."""
        return finding.status is not Status.WRONG or bool(finding.factor) or bool(finding.oracle.digest)

    def _unit(self, output: int) -> float:
        return rounding_unit(self.outputs[output].precision)

    def _spread(self, inputs: Sequence[Any]) -> list[Any]:
        unit = max((self._unit(i) for i in range(len(self.outputs))), default=0.0)
        exact = self.interpreter.run(inputs, double=True)
        return spread(exact, noisy_outputs(self.graph, inputs, unit, _NOISE_DRAWS, plain_sums=True))

    def _ill_conditioned(self, case: Case, inputs: Sequence[Any], finding: OutputFinding) -> None:
        worst = most_amplifying(self.graph, inputs, self._unit(0))
        where = (
            "no node" if worst is None else f"{worst.node.op.name} at {worst.node.provenance} (× {worst.factor:.3g})"
        )
        kind = "ill-conditioned" if finding.factor else "a tie within rounding"
        self.unstable = self.unstable or f"{finding.name!r} in the case {case}: {finding.reason}; {kind}"
        self.conditioning = f"rounding alone moves {finding.name!r} as far; it is magnified most by {where}"

    def _differs(self, case: Case, reason: str) -> None:
        self.different = self.different or f"in the case {case}: {reason}"

    # ---- names and report ----------------------------------------------------------------------------

    def names_differ(self) -> str:
        """How the candidate's names or their order differ from the graph's; empty for not at all, or not known."""
        if not isinstance(self.candidate, Named):
            return ""
        pairs = (
            ("inputs", [v.name for v in self.graph.inputs], list(self.candidate.input_names)),
            ("outputs", list(self.graph.output_names), list(self.candidate.output_names)),
        )
        for what, ours, theirs in pairs:
            if ours != theirs:
                return f"its {what} are {', '.join(theirs)}, not {', '.join(ours)}"
        return ""

    def _standard_note(self) -> list[str]:
        if self.precision is None:
            return []
        k = tolerance_factor(self.precision)
        return [f"in {self.precision}: the error may be {k:g} × that of the source itself in {self.precision}"]

    def report(self, verdict: Verdict, reason: str, rules: Sequence[RuleProofs] | None) -> Comparison:
        """The report so far."""
        return Comparison(
            verdict=verdict,
            reason=reason,
            source=self.source.name,
            candidate=self.candidate.name,
            oracle=self.oracle or "none was needed",
            cases=tuple(self.found),
            skipped=tuple(self.skipped),
            rules=None if rules is None else tuple(rules),
            divergence=self.divergence,
            conditioning=self.conditioning,
            notes=tuple(dict.fromkeys([*self._standard_note(), *self.notes])),
            seconds=time.perf_counter() - self.started,
            budget=self.budget,
        )


def _within(output: Output, truth: Any, got: Any, allowed: Any) -> bool:
    """Whether the candidate is no further off than K times what rounding does to the output: largest element to
    largest.

    Elements of an exact dtype must each be ones that rounding changes.
    """
    if not dtype_of(got).is_inexact:
        return bool(np.all((np.asarray(truth) == np.asarray(got)) | (allowed > 0)))
    distance = np.abs(wide(got) - wide(truth))
    finite = np.isfinite(distance)
    limit = tolerance_factor(output.precision) * allowed.max(initial=0.0)
    return float(distance[finite].max(initial=0.0)) <= limit


def _norm(x: Any) -> float:
    """Euclidean, over the finite elements."""
    x = np.abs(np.ravel(x))
    return float(np.linalg.norm(x[np.isfinite(x)]))


def _copied(arrays: Sequence[Any]) -> list[Any]:
    """Copies: a runner may work in place on what it is given, and may use its buffers again for the next run."""
    return [np.array(x) for x in arrays]


def _first_line(error: BaseException) -> str:
    """What an error says first, and where it happened if that was noted on it."""
    said = [line for line in str(error).strip().splitlines()[:1] if line]
    said += [note.splitlines()[0] for note in getattr(error, "__notes__", [])[:1]]
    return f"{type(error).__name__}: {', '.join(said)}"[:400]
