"""Comparing with what a report remembers: right results pass, wrong ones of every kind do not."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dragoman.ir.builder import Builder
from dragoman.ir.cases import Case, Style
from dragoman.ir.equivalence import Comparison, GraphRunner, Verdict, compare
from dragoman.ir.graph import Graph
from dragoman.ir.recall import compare_with_memory
from dragoman.ir.roles import input_roles
from dragoman.ir.types import parse_type


def model() -> Graph:
    graph = Graph()
    b = Builder(graph)
    x = graph.add_input(parse_type("f32[batch,12]"), "x")
    graph.set_outputs([b.log(b.abs(x)), b.softmax(x, axis=1), b.argmax(x, axis=1)], ["log", "weights", "best"])
    return graph


GRAPH = model()
PLAN = [Case({"batch": 3}, s, arrays=()) for s in (Style.TYPICAL, Style.FAINT, Style.ZEROS)]


def recorded() -> Comparison:
    report = compare(GRAPH, GraphRunner(GRAPH), GraphRunner(GRAPH), cases=PLAN)
    assert report.verdict is Verdict.VERIFIED
    return report


class Changed:
    name = "candidate"

    def __init__(self, change: Callable[[list[Any]], list[Any]]) -> None:
        self._change = change

    def run(self, inputs: Sequence[Any], double: bool = False) -> list[Any]:
        return self._change(GraphRunner(GRAPH).run(inputs, double))


def recall(change: Callable[[list[Any]], list[Any]], report: Comparison | None = None, **options: Any) -> Comparison:
    return compare_with_memory(report or recorded(), input_roles(GRAPH), Changed(change), "from memory", **options)


def on(index: int, change: Callable[[Any], Any]) -> Callable[[list[Any]], list[Any]]:
    return lambda outputs: [change(x) if i == index else x for i, x in enumerate(outputs)]


def test_the_same_results_are_verified_and_the_report_says_from_what() -> None:
    report = recall(lambda outputs: outputs)
    assert report.verdict is Verdict.VERIFIED
    assert report.reason == "3 cases give what was recorded"
    assert report.notes == ("from memory",)
    assert report.oracle.startswith("what was recorded of")
    assert report.skipped == ()


def _one_more(n: Any) -> Any:
    return (n + 1) % 12


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (on(1, lambda x: x * np.float32(1.001)), "its norm is"),
        (on(1, lambda x: x[:, ::-1]), "from what was recorded"),
        (on(2, _one_more), "its elements are not those"),
        (on(0, np.nan_to_num), "NaN, \\+Inf, -Inf occur"),
        (on(1, lambda x: x.astype(np.float64)), r"it is f64\[3,12\], not f32\[3,12\]"),
        (on(1, lambda x: x[:2]), r"it is f32\[2,12\], not f32\[3,12\]"),
        (lambda outputs: outputs[:2], "2 outputs, not 3"),
    ],
)
def test_wrong_results_are_different(change: Callable[[list[Any]], list[Any]], reason: str) -> None:
    report = recall(change)
    assert report.verdict is Verdict.DIFFERENT
    assert re.search(reason, report.reason), report.reason


def test_a_program_that_fails_is_different() -> None:
    def fails(outputs: list[Any]) -> list[Any]:
        raise ValueError("no such kernel")

    assert "ValueError: no such kernel" in recall(fails).reason


def test_inputs_that_come_out_otherwise_are_skipped_not_judged() -> None:
    report = recorded()
    other = replace(report, cases=tuple(replace(c, inputs="0" * 64) for c in report.cases))
    again = recall(lambda outputs: outputs, other)
    assert again.verdict is Verdict.INCONCLUSIVE
    assert again.reason == "no recorded case could be run again"
    assert {s.reason for s in again.skipped} == {"its inputs come out otherwise with this version of NumPy"}


def test_given_inputs_and_a_spent_budget_are_skipped() -> None:
    report = recorded()
    given = replace(report, cases=(replace(report.cases[0], style="given"), *report.cases[1:]))
    assert recall(lambda outputs: outputs, given).skipped[0].reason == "its inputs were given and are not kept"
    assert len(recall(lambda outputs: outputs, budget=-1.0).skipped) == 3


def test_a_recorded_doubt_stays() -> None:
    doubtful = replace(recorded(), verdict=Verdict.INCONCLUSIVE, reason="ill-conditioned")
    assert recall(lambda outputs: outputs, doubtful).verdict is Verdict.INCONCLUSIVE
