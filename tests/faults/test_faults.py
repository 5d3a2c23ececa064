"""Verification is verified: every seeded fault must be killed, and blamed on the right node."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from dragoman.ir.equivalence import GraphRunner, Verdict, compare
from dragoman.ir.graph import Graph
from tests.faults import hosts
from tests.faults.emitter_faults import emitted, emitter_trials
from tests.faults.form_faults import form_trials
from tests.faults.graph_faults import all_graph_faults
from tests.faults.importer_faults import L, R, V, importer_trials, verified
from tests.faults.loop_faults import loop_trials
from tests.faults.mutants import Outcome, trial
from tests.faults.recognition_faults import recognition_trials
from tests.faults.rule_faults import rule_trials

Trial = Callable[[], Outcome]


def _trials() -> Iterator[tuple[str, Trial]]:
    for fault in all_graph_faults():
        yield fault.name, lambda fault=fault: trial(fault)
    yield from form_trials()
    yield from rule_trials()
    yield from recognition_trials()
    yield from loop_trials()
    yield from emitter_trials()
    yield from importer_trials()


TRIALS = dict(_trials())


@pytest.fixture(scope="module")
def outcomes() -> Iterator[list[Outcome]]:
    """What became of each fault; the totals are printed in the end."""
    found: list[Outcome] = []
    yield found
    killed, blamed = sum(o.killed for o in found), sum(o.blamed for o in found)
    print(f"\nfaults: killed {killed}/{len(found)}, blamed {blamed}/{len(found)}")


@pytest.mark.parametrize("name", TRIALS)
def test_a_seeded_fault_is_killed_and_blamed_on_its_node(name: str, outcomes: list[Outcome]) -> None:
    outcome = TRIALS[name]()
    outcomes.append(outcome)
    assert outcome.killed, outcome.report
    assert outcome.blamed, outcome.report


HOSTS = [f for f in vars(hosts).values() if getattr(f, "__qualname__", "").endswith(".build")]


@pytest.mark.parametrize("build", HOSTS, ids=lambda f: f.__name__)
def test_a_model_without_a_fault_is_verified(build: Callable[[], Graph]) -> None:
    graph = build()
    report = compare(graph, GraphRunner(graph, "one"), GraphRunner(build(), "the other"))
    assert report.verdict is Verdict.VERIFIED, str(report)
    assert report.skipped == ()


@pytest.mark.parametrize("build", HOSTS, ids=lambda f: f.__name__)
def test_a_model_emitted_without_a_fault_is_verified(build: Callable[[], Graph]) -> None:
    report = emitted(build())
    assert report.verdict is Verdict.VERIFIED, str(report)


@pytest.mark.parametrize("model", [V, L, R], ids=lambda f: f.__name__)
def test_a_model_imported_without_a_fault_is_verified(model: Callable[[], object]) -> None:
    report = verified(model)
    assert report.verdict is Verdict.VERIFIED, str(report)


def test_there_are_as_many_faults_as_promised() -> None:
    assert len(TRIALS) >= 200
