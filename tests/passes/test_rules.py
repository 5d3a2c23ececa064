"""Every rule of the project, proved on its own samples: a rule cannot exist untested."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dragoman.ir.graph import Graph
from dragoman.ir.verify import verify
from dragoman.passes import pipelines
from dragoman.passes.check import RewriteChecker
from dragoman.passes.pipelines import all_rules
from dragoman.passes.rewrite import RULES, PatternRule, Rule, apply_rules

CASES = [(rule, index) for rule in all_rules() for index, _ in enumerate(rule.sample_graphs())]


def _sample(rule: Rule, index: int) -> Graph:
    return list(rule.sample_graphs())[index]


@pytest.mark.parametrize(("rule", "index"), CASES, ids=[f"{r.name}-{i}" for r, i in CASES])
def test_a_rule_fires_on_each_sample_and_both_proofs_hold(rule: Rule, index: int) -> None:
    graph = _sample(rule, index)
    checker = RewriteChecker()
    applied = apply_rules(graph, [rule], checker)
    verify(graph)
    assert applied.fired.get(rule.name, 0) >= 1
    assert not checker.refused
    assert all(firing.local == "ok" for firing in checker.firings)


@pytest.mark.parametrize("rule", all_rules(), ids=[r.name for r in all_rules()])
def test_a_rule_is_proved_exactly_on_at_least_one_sample_or_says_why_not(rule: Rule) -> None:
    checker = RewriteChecker()
    for graph in rule.sample_graphs():
        apply_rules(graph, [rule], checker)
    if not rule.exact:
        assert rule.why_inexact
        return
    assert any(firing.proven for firing in checker.firings), [str(f) for f in checker.firings]


@pytest.mark.parametrize("rule", [r for r in RULES.values() if isinstance(r, PatternRule)], ids=lambda r: r.name)
def test_the_diagram_names_the_op_that_a_rule_starts_from(rule: PatternRule) -> None:
    before, _, after = rule.diagram.partition("->")
    assert before.strip()
    assert after.strip()


TOGETHER = {
    "canonicalise": pipelines.CANONICAL,
    "simplify_masks": (*pipelines.POSITIONS, *pipelines.CANONICAL),
    "contract": pipelines.PRODUCTS,
    "recognise_loops": pipelines.LOOPS,
    "fold_batch_norm": pipelines.AFFINE,
    "flatten_rows": (*pipelines.ROWS, *pipelines.CANONICAL),
    "split projections": (*pipelines.PROJECTIONS, *pipelines.CANONICAL),
    "fuse_heads": pipelines.HEADS,
}


@pytest.mark.parametrize("name", TOGETHER)
def test_rules_that_run_together_reach_a_fixed_point_on_every_sample(name: str) -> None:
    rules = list(TOGETHER[name])
    for rule in RULES.values():
        for graph in rule.sample_graphs():
            apply_rules(graph, rules)
            again = apply_rules(graph, rules)
            assert again.total == 0, f"{rule.name}: {again.fired}"


def test_the_page_of_rules_says_what_the_rules_are() -> None:
    script = Path(__file__).resolve().parents[2] / "scripts" / "write_rules_page.py"
    # Apart from the rules that tests define.
    checked = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
