"""Proof C and the verdict: what passes, what differs, what stays open, and what the report says of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from dragoman.ir.builder import Builder
from dragoman.ir.cases import Case, Style
from dragoman.ir.dims import Symbol
from dragoman.ir.equivalence import Comparison, GraphRunner, Verdict, compare, tally
from dragoman.ir.errors import UsageError
from dragoman.ir.findings import RuleProofs, Status
from dragoman.ir.graph import Graph
from dragoman.ir.types import BF16, F16, I64, parse_type
from dragoman.ir.weights import ArrayWeight

RNG = np.random.default_rng(4)
WEIGHT = RNG.standard_normal((16, 16)).astype(np.float32)
KNOWN = {"batch": Symbol("batch", 1, 64)}


def graph_of(body: Callable[..., Any], *types: str) -> Graph:
    graph = Graph()
    inputs = [graph.add_input(parse_type(t, KNOWN), f"x{i}") for i, t in enumerate(types)]
    results = body(Builder(graph), graph, *inputs)
    graph.set_outputs(list(results) if isinstance(results, tuple) else [results])
    return graph


def layer(b: Any, g: Graph, x: Any) -> Any:
    h = b.matmul(x, g.add_weight("w", ArrayWeight(WEIGHT)))
    return b.tanh(h), b.argmax(h, axis=1)


def model() -> Graph:
    return graph_of(layer, "f32[batch,16]")


@dataclass
class Changed:
    """A runner whose results are those of a graph, changed."""

    graph: Graph
    change: Callable[[list[Any]], list[Any]]
    double: bool = True
    name: str = "candidate"

    def run(self, inputs: Sequence[Any], double: bool = False) -> list[Any]:
        if double and not self.double:
            raise TypeError("there is no double precision here")
        return self.change(GraphRunner(self.graph).run(inputs, double))


class Plain:
    """A runner that tells nothing of itself but its outputs."""

    def __init__(self, graph: Graph, name: str = "plain") -> None:
        self._runner = GraphRunner(graph)
        self.name = name

    def run(self, inputs: Sequence[Any], double: bool = False) -> list[Any]:
        return self._runner.run(inputs, double)


def against(change: Callable[[list[Any]], list[Any]], **options: Any) -> Comparison:
    return compare(model(), Plain(model(), "source"), Changed(model(), change), **options)


def same(outputs: list[Any]) -> list[Any]:
    return outputs


# ---- verdicts -----------------------------------------------------------------------------------------


def test_the_same_model_is_verified_at_every_shape() -> None:
    report = against(same)
    assert report.verdict is Verdict.VERIFIED
    assert report.verdict.holds
    assert {c.symbols["batch"] for c in report.cases} == {1, 2, 3, 64}
    assert report.skipped == ()
    assert all(c.status is Status.OK for c in report.cases)
    assert report.oracle == "source in float64"


@dataclass(frozen=True)
class Fired:
    rule: str
    exact: str
    accepted: bool = True
    on_run: bool = False

    @property
    def proven(self) -> bool:
        return self.exact == "equal"


def test_it_is_proven_if_every_rewrite_was_proved_exactly() -> None:
    rules = tally([Fired("Fold", "equal"), Fired("Fold", "equal"), Fired("Wrong", "different", accepted=False)])
    assert rules == (RuleProofs("Fold", 2, 2, 0),)
    report = against(same, rules=rules)
    assert report.verdict is Verdict.PROVEN
    assert "each of 2 rewrites exactly" in report.reason


def test_a_rewrite_with_only_a_local_proof_makes_it_verified() -> None:
    rules = tally([Fired("Fold", "equal"), Fired("Erf", "undecided: rounds"), Fired("Erf", "undecided: rounds")])
    assert rules[0] == RuleProofs("Erf", 2, 0, 2, ("undecided: rounds",))
    report = against(same, rules=rules)
    assert report.verdict is Verdict.VERIFIED
    assert "Erf 2×: 2 checked locally" in str(report)
    assert "undecided: rounds" in str(report)


def test_how_many_rewrites_were_judged_on_the_values_of_a_run_is_told() -> None:
    rules = tally([Fired("Fold", "equal", on_run=True), Fired("Fold", "equal")])
    assert rules == (RuleProofs("Fold", 2, 2, 0, (), 1),)
    assert "Fold 2×: 2 proven exactly, 1 on values of a run too" in str(against(same, rules=rules))


def test_a_rewrite_that_nothing_looked_at_leaves_it_open() -> None:
    report = against(same, rules=tally([Fired("Fold", "equal")], {"Fold": 3}))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.reason == "3 rewrites were not checked, of Fold"


def test_a_wrong_number_is_different_and_the_rest_is_not_run() -> None:
    def off(outputs: list[Any]) -> list[Any]:
        outputs[0] = outputs[0] * np.float32(1.001)
        return outputs

    report = against(off)
    assert report.verdict is Verdict.DIFFERENT
    assert not report.verdict.holds
    assert len(report.cases) == 1
    assert report.skipped[0].reason == "not needed: a difference was found"
    found = report.outputs()[0]
    assert (found.name, found.status) == ("output0", Status.WRONG)
    assert found.norm_candidate == pytest.approx(1e-3, rel=0.01)


def test_a_difference_at_one_shape_only_is_found() -> None:
    def off_at_one(outputs: list[Any]) -> list[Any]:
        return [outputs[0] * np.float32(0.5 if len(outputs[0]) == 1 else 1.0), outputs[1]]

    report = against(off_at_one)
    assert report.verdict is Verdict.DIFFERENT
    assert "batch=1" in report.reason


def test_a_candidate_that_fails_where_the_source_runs_is_different() -> None:
    def fails(outputs: list[Any]) -> list[Any]:
        raise RuntimeError("no kernel for this\nand more")

    report = against(fails)
    assert report.verdict is Verdict.DIFFERENT
    assert report.cases[0].failure == "RuntimeError: no kernel for this"
    assert "the candidate fails where the source runs" in report.reason


def test_a_case_that_the_source_cannot_run_shows_nothing() -> None:
    class Fussy(Plain):
        def run(self, inputs: Sequence[Any], double: bool = False) -> list[Any]:
            if len(inputs[0]) == 1:
                raise ValueError("expects a batch")
            return super().run(inputs, double)

    report = compare(model(), Fussy(model()), Plain(model()))
    assert report.verdict is Verdict.VERIFIED
    assert {s.reason for s in report.skipped} == {"the source does not run: ValueError: expects a batch"}
    assert all(s.name.startswith("batch=1, ") for s in report.skipped)
    assert {c.symbols["batch"] for c in report.cases} == {2, 3, 64}


def test_nothing_run_is_inconclusive() -> None:
    class Broken(Plain):
        def run(self, inputs: Sequence[Any], double: bool = False) -> list[Any]:
            raise MemoryError

    report = compare(model(), Broken(model()), Plain(model()))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.reason == "no case could be run: the source does not fit into memory"


def test_a_candidate_that_does_not_fit_into_memory_is_not_called_different() -> None:
    def too_large(outputs: list[Any]) -> list[Any]:
        raise MemoryError

    assert against(too_large).verdict is Verdict.INCONCLUSIVE


def test_names_and_their_order_must_be_the_graphs() -> None:
    other = model()
    other.set_outputs(other.outputs, ["best", "output1"])
    report = compare(model(), Plain(model()), GraphRunner(other))
    assert report.verdict is Verdict.DIFFERENT
    assert report.reason == "its outputs are best, output1, not output0, output1"
    assert report.cases == ()


def test_a_runner_that_works_in_place_or_reuses_its_buffers_does_no_harm() -> None:
    class Reusing(Plain):
        buffers: list[Any] | None = None

        def run(self, inputs: Sequence[Any], double: bool = False) -> list[Any]:
            results = super().run(inputs, double)
            for x in inputs:
                x *= 0
            if self.buffers is None or [b.dtype for b in self.buffers] != [r.dtype for r in results]:
                self.buffers = [np.empty(r.shape, r.dtype) for r in results]
            for buffer, value in zip(self.buffers, results, strict=True):
                buffer.resize(value.shape, refcheck=False)
                buffer[...] = value
            return self.buffers

    assert compare(model(), Reusing(model()), Reusing(model())).verdict is Verdict.VERIFIED


def test_a_difference_that_cannot_be_looked_into_is_still_a_difference() -> None:
    graph = model()

    class Blind(GraphRunner):
        def run(self, inputs: Sequence[Any], double: bool = False) -> list[Any]:
            return [x * np.float32(1.001) if x.dtype.kind == "f" else x for x in super().run(inputs, double)]

        def probe(self, inputs: Sequence[Any], values: Sequence[Any], double: bool = False) -> Any:
            raise RuntimeError("this runtime shows nothing")

    report = compare(graph, Plain(graph), Blind(graph, "candidate"))
    assert report.verdict is Verdict.DIFFERENT
    assert report.notes == ("the difference could not be looked into: RuntimeError: this runtime shows nothing",)
    assert "the error is" in report.reason


# ---- ties and ill-conditioned models ------------------------------------------------------------------


def test_a_tie_within_rounding_is_inconclusive_and_a_clear_maximum_different() -> None:
    def winner(gap: float) -> Comparison:
        x = np.array([[0.3, 0.7, 0.7 + gap]], np.float32)
        graph = graph_of(lambda b, g, x: b.argmax(b.mul(x, 0.3), axis=1), "f32[1,3]")
        flipped = Changed(graph, lambda outputs: [np.full_like(outputs[0], 1)])
        return compare(graph, Plain(graph), flipped, cases=[Case({}, Style.GIVEN, arrays=(x,))])

    tied = winner(6e-8)
    assert tied.verdict is Verdict.INCONCLUSIVE
    assert "a tie within rounding" in tied.reason
    assert winner(1e-3).verdict is Verdict.DIFFERENT


def test_a_model_that_magnifies_rounding_is_inconclusive_and_names_the_node() -> None:
    def body(b: Any, g: Graph, x: Any) -> Any:
        h = b.sub(b.tanh(x), b.tanh(b.add(x, 1e-6)))
        return b.reduce_sum(b.div(h, 1e-6), axes=(1,))

    graph = graph_of(body, "f32[2,40]")

    def noisy(outputs: list[Any]) -> list[Any]:
        return [(x + 0.1 * np.random.default_rng(1).standard_normal(x.shape)).astype(np.float32) for x in outputs]

    class Lucky(Plain):
        def run(self, inputs: Sequence[Any], double: bool = False) -> list[Any]:
            results = super().run(inputs, double=True)
            return results if double else [r.astype(np.float32) for r in results]

    report = compare(graph, Lucky(graph), Changed(graph, noisy), cases=[Case({})])
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "ill-conditioned" in report.reason
    assert "magnified most by sub" in report.conditioning
    assert report.cases[0].status is Status.UNSTABLE

    def far_off(outputs: list[Any]) -> list[Any]:
        return [x + np.float32(50) for x in outputs]

    assert compare(graph, Lucky(graph), Changed(graph, far_off), cases=[Case({})]).verdict is Verdict.DIFFERENT


def test_the_luck_of_a_small_output_is_settled_by_more_draws() -> None:
    graph = graph_of(lambda b, g, x: b.reduce_mean(b.exp(b.mul(x, 1.3)), axes=(0, 1)), "f32[batch,64]")

    def worse(level: float, seed: int) -> Callable[[list[Any]], list[Any]]:
        rng = np.random.default_rng(seed)
        return lambda outputs: [
            (x * (1 + level * rng.standard_normal())).astype(x.dtype) if x.dtype == np.float32 else x for x in outputs
        ]

    source = Changed(graph, worse(2e-6, 1), name="source")
    fair = compare(graph, source, Changed(graph, worse(2e-6, 2)))
    assert fair.verdict is Verdict.VERIFIED, str(fair)
    assert any(o.draws > 1 for c in fair.cases for o in c.outputs)
    unfair = compare(graph, source, Changed(graph, worse(4e-5, 2)))
    assert unfair.verdict is Verdict.DIFFERENT


# ---- the oracle ---------------------------------------------------------------------------------------


def test_without_double_precision_the_imported_graph_is_the_oracle_and_the_report_says_so() -> None:
    source = Changed(model(), same, double=False, name="source")
    report = compare(model(), source, Plain(model()))
    assert report.verdict is Verdict.VERIFIED
    assert report.oracle == "the imported graph in float64"
    assert report.notes == ("source has no double precision here: TypeError: there is no double precision here",)


def test_a_source_that_stays_in_f32_when_asked_for_double_is_not_taken_for_an_oracle() -> None:
    source = Changed(model(), lambda outputs: [x.astype(np.float32) if x.dtype.kind == "f" else x for x in outputs])
    report = compare(model(), source, Plain(model()))
    assert report.oracle == "the imported graph in float64"
    assert "asked for double precision it gave float32" in report.notes[0]


def test_a_wrong_import_is_found_even_where_the_import_is_the_oracle() -> None:
    def off(outputs: list[Any]) -> list[Any]:
        return [outputs[0] * np.float32(1.0005), outputs[1]]

    report = compare(model(), Changed(model(), off, double=False, name="source"), Plain(model()))
    assert report.verdict is Verdict.DIFFERENT
    assert "the imported graph is not the source" in str(report)


# ---- budget and what the user gives -------------------------------------------------------------------


def test_the_first_case_runs_whatever_the_budget_and_the_rest_is_listed() -> None:
    report = against(same, budget=0.0, least=1)
    assert report.verdict is Verdict.VERIFIED
    assert len(report.cases) == 1
    assert all("of the budget are left" in s.reason for s in report.skipped)
    assert "(budget 0 s)" in str(report)


def test_three_cases_run_whatever_the_budget_unless_fewer_are_asked_for() -> None:
    report = against(same, budget=0.0)
    assert [c.symbols["batch"] for c in report.cases] == [3, 1, 2]


def test_far_from_usual_inputs_a_source_without_digits_shows_nothing() -> None:
    def body(b: Any, g: Graph, x: Any) -> Any:
        return b.sin(b.mul(b.mul(x, x), 1e4))

    graph = graph_of(body, "f32[batch,64]")

    class Wobbling(Plain):
        level = 1e-3

        def run(self, inputs: Sequence[Any], double: bool = False) -> list[Any]:
            (y,) = super().run(inputs, double=True)
            noise = np.random.default_rng(3).standard_normal(y.shape)
            return [y] if double else [(y + self.level * noise).astype(np.float32)]

    class More(Wobbling):
        level = 0.1

    def run(style: Style) -> Comparison:
        return compare(graph, Wobbling(graph), More(graph), cases=[Case({"batch": 3}, style)])

    assert run(Style.TYPICAL).verdict is Verdict.DIFFERENT
    report = run(Style.LARGE)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.cases == ()
    assert "it shows nothing: the model magnifies rounding there" in report.skipped[0].reason


def test_where_the_source_has_few_digits_the_report_says_that_equality_says_little() -> None:
    graph = graph_of(lambda b, g, x: b.sin(b.mul(x, 1e7)), "f32[batch,64]")
    report = compare(graph, Plain(graph), Plain(graph), cases=[Case({"batch": 3})])
    assert report.verdict is Verdict.VERIFIED
    assert report.notes[0].startswith("in the case batch=3, typical the source's own error in 'output0' is ")


def test_a_case_beyond_all_means_is_skipped_with_its_size() -> None:
    report = compare(model(), Plain(model()), Plain(model()), cases=[Case({"batch": 3}), Case({"batch": 2**30})])
    assert len(report.cases) == 1
    assert "2.1e+09 are affordable" in report.skipped[0].reason


def test_given_inputs_run_first_and_must_fit() -> None:
    x = RNG.standard_normal((4, 16)).astype(np.float32)
    report = against(same, given=[[x]])
    assert report.cases[0].style == "given"
    assert report.cases[0].shapes == {"x0": (4, 16)}
    with pytest.raises(UsageError, match="takes 1 inputs, got 2"):
        against(same, given=[[x, x]])
    with pytest.raises(UsageError, match=r"'x0' is f32\[batch,16\], got float64"):
        against(same, given=[[x.astype(np.float64)]])


def test_an_integer_model_is_compared_exactly() -> None:
    graph = graph_of(lambda b, g, n: b.cumsum(b.mul(n, b.const(3, I64)), axis=1), "i64[batch,9]")
    assert compare(graph, Plain(graph), Plain(graph)).verdict is Verdict.VERIFIED
    off = Changed(graph, lambda outputs: [outputs[0] + (outputs[0] > 20)])
    report = compare(graph, Plain(graph), off)
    assert report.verdict is Verdict.DIFFERENT
    assert "elements differ" in report.reason


def test_the_page_for_people_tells_the_rule_the_errors_and_the_cases() -> None:
    page = str(against(same))
    assert page.startswith("VERIFIED: all outputs end to end\n")
    assert "error at most 2 × the source's own" in page
    assert "batch=64, typical, batch at its maximum" in page
    assert "output1: identical" in page
    assert "source's own" in page


def test_half_precision_models_are_judged_by_three_times_the_error() -> None:
    graph = graph_of(lambda b, g, x: b.softmax(b.mul(x, x), axis=1), "f16[batch,16]")
    report = compare(graph, Plain(graph), Plain(graph))
    assert report.verdict is Verdict.VERIFIED, str(report)
    assert {o.factor for c in report.cases for o in c.outputs} == {3.0}


# ---- in a lower precision ------------------------------------------------------------------------------


@dataclass
class Lower:
    """A source in f16: its outputs are off by `unit` of themselves; in double it is the original."""

    original: Any
    unit: float = 2.0**-11
    name: str = "source in f16"

    def run(self, inputs: Sequence[Any], double: bool = False) -> list[Any]:
        outputs = self.original.run(inputs, double)
        return outputs if double else [(x * (1 + self.unit)).astype(x.dtype) for x in outputs]


def product() -> Graph:
    return graph_of(lambda b, g, x: b.matmul(x, g.add_weight("w", ArrayWeight(WEIGHT))), "f32[batch,16]")


@pytest.mark.parametrize(("off", "verdict"), [(2.5, Verdict.VERIFIED), (40.0, Verdict.DIFFERENT)])
def test_in_a_lower_precision_the_source_in_that_precision_is_the_standard(off: float, verdict: Verdict) -> None:
    source = Lower(Plain(product(), "source"), unit=5 * 2.0**-11)
    candidate = Changed(product(), lambda outputs: [x * np.float32(1 + off * 2.0**-11) for x in outputs])
    report = compare(product(), source, candidate, precision=F16, rules=[])
    assert report.verdict is verdict
    assert report.oracle == "source in float64"
    assert "in f16: the error may be 3 × that of the source itself in f16" in report.notes
    assert compare(product(), source.original, candidate).verdict is Verdict.DIFFERENT


def test_inputs_on_which_the_model_leaves_the_range_of_the_precision_show_nothing() -> None:
    def overflowing(outputs: list[Any]) -> list[Any]:
        return [np.where(np.abs(x) > 65504, np.inf, x).astype(x.dtype) for x in outputs]

    graph = graph_of(lambda b, g, x: b.mul(x, 1000.0), "f32[batch,16]")
    source = Lower(Plain(graph, "source"))
    report = compare(graph, source, Changed(graph, overflowing), precision=F16)
    assert report.verdict is Verdict.VERIFIED
    (skipped,) = [s for s in report.skipped if "large" in s.name]
    assert "beyond f16" in skipped.reason
    wider = compare(graph, source, Changed(graph, overflowing), precision=BF16)
    assert wider.verdict is Verdict.DIFFERENT


def test_faint_inputs_below_the_precision_show_nothing() -> None:
    def flushing(outputs: list[Any]) -> list[Any]:
        return [np.where(np.abs(x) < 1e-6, 0, x).astype(x.dtype) for x in outputs]

    graph = graph_of(lambda b, g, x: b.mul(x, 1.0), "f32[2,2048]")  # a row is more than a tile
    source = Lower(Plain(graph, "source"))
    faint, typical = [Case({}, Style.FAINT)], [Case({})]
    for precision, below in ((F16, True), (BF16, False)):
        report = compare(graph, source, Changed(graph, flushing), precision=precision, cases=faint)
        assert report.verdict is Verdict.INCONCLUSIVE
        assert ("below what" in report.skipped[0].reason) is below
    assert compare(graph, source, Changed(graph, flushing), precision=F16, cases=typical).verdict is Verdict.VERIFIED
