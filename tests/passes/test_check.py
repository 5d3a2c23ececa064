"""Proof B on the values of a run: which values those are, where they are missing, and what only they can show."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import dragoman
from dragoman.certificate import read
from dragoman.ir.builder import Builder, trace
from dragoman.ir.graph import Graph, Value
from dragoman.ir.types import parse_type
from dragoman.ir.weights import ArrayWeight
from dragoman.passes.check import RewriteChecker
from dragoman.passes.pattern import trace_pattern
from dragoman.passes.recognition.recogniser import recognisers
from dragoman.passes.reference import Reference, reference_of
from dragoman.passes.rewrite import PatternRule, apply_rules


def rule(before: Any, after: Any, where: Any = None, inexact: str = "") -> PatternRule:
    return PatternRule(
        "Temporary", "before  ->  after", trace_pattern(before), before, after, where, (), False, not inexact, inexact
    )


def _checked(graph: Graph, *rules: PatternRule, examples: Any = ()) -> RewriteChecker:
    checker = RewriteChecker()
    checker.run_on(graph, examples)
    apply_rules(graph, rules, checker)
    return checker


def test_a_run_keeps_what_each_place_holds_in_its_declared_dtype() -> None:
    graph = trace(lambda b, x: b.exp(b.neg(x)), parse_type("f32[2,3]"))
    reference = Reference(graph, [np.arange(6, dtype=np.float32).reshape(2, 3)])
    negative, raised = (reference(node.results[0]) for node in graph)
    np.testing.assert_array_equal(negative, -np.arange(6).reshape(2, 3))
    assert raised.dtype == np.float32
    np.testing.assert_array_equal(raised, np.exp(-np.arange(6.0).reshape(2, 3)).astype(np.float32))


def test_of_large_values_a_corner_is_kept() -> None:
    graph = trace(lambda b, x: b.neg(x), parse_type("f32[3,2000,500]"))
    given = np.arange(3_000_000, dtype=np.float32).reshape(3, 2000, 500)
    kept = Reference(graph, [given])(graph.nodes[0].results[0])
    assert 1 << 14 < kept.size <= 1 << 16
    np.testing.assert_array_equal(kept, -given[tuple(slice(0, n) for n in kept.shape)])


def test_what_is_kept_of_a_deep_graph_stays_below_a_fixed_size() -> None:
    def deep(b: Builder, x: Value) -> Value:
        for _ in range(3000):
            x = b.neg(x)
        return x

    graph = trace(deep, parse_type("f32[50000]"))
    reference = Reference(graph, [np.ones(50000, np.float32)])
    assert sum(reference(node.results[0]).nbytes for node in graph) <= 256 << 20


def test_examples_are_cut_to_small_sizes_of_dynamic_dims_only() -> None:
    graph = trace(lambda b, x: b.neg(x), parse_type("f32[batch,seq,6]"))
    given = np.random.default_rng(0).standard_normal((64, 2, 6)).astype(np.float32)
    reference = reference_of(graph, [given])
    assert isinstance(reference, Reference)
    assert reference.sizes == {"batch": 5, "seq": 2}
    np.testing.assert_array_equal(reference(graph.inputs[0]), given[:5])


def test_a_run_that_costs_too_much_is_not_done_and_the_reason_is_given() -> None:
    graph = trace(lambda b, x: b.neg(x), parse_type("f32[70000,70000]"))
    assert reference_of(graph) == "a run has 4900000000 elements"


def test_a_run_whose_time_is_up_knows_what_it_reached() -> None:
    graph = trace(lambda b, x: b.neg(x), parse_type("f32[2]"))
    reference = Reference(graph, [np.ones(2, np.float32)], seconds=-1.0)
    assert reference.stopped.startswith("its time was up")
    assert reference(graph.inputs[0]) is not None
    assert reference(graph.nodes[0].results[0]) is None


ALMOST = rule(
    lambda b, x: b.exp(x),
    lambda b, x: b.exp2(b.mul(b.minimum(x, 9.0), 1 / math.log(2))),
    inexact="it compares",
)


def _far() -> Graph:
    return trace(lambda b, x: b.exp(b.add(x, 10.0)), parse_type("f32[n,4]"))


def test_a_rewrite_that_is_wrong_only_where_the_model_goes_is_refused_there() -> None:
    """exp is wrong above 9, where random numbers never come."""
    alone = RewriteChecker()
    apply_rules(_far(), [ALMOST], alone)
    assert alone.firings[0].accepted
    assert not alone.firings[0].on_run
    (firing,) = _checked(_far(), ALMOST).firings
    assert firing.on_run
    assert not firing.accepted
    assert "float64 results differ" in firing.local


def test_equal_regions_at_two_places_are_judged_on_the_values_of_each() -> None:
    def twice(b: Builder, x: Value) -> tuple[Value, Value]:
        return b.exp(x), b.exp(b.add(x, 10.0))

    once = rule(
        lambda b, x: b.exp(x),
        lambda b, x: b.minimum(b.exp(x), b.const(5000.0, x.type.dtype)),
        where=lambda x: "done" if any(u.op.name == "minimum" for n in x.users for u in n.results[0].users) else None,
        inexact="it compares",
    )
    checker = _checked(trace(twice, parse_type("f32[2,3]")), once)
    assert [f.reused for f in checker.firings][:2] == [False, True]
    assert [f.accepted for f in checker.firings][:2] == [True, False]


def test_later_rules_find_values_at_what_earlier_ones_made() -> None:
    square = rule(lambda b, x: b.mul(x, x), lambda b, x: b.neg(b.neg(b.square(x))))
    plain = rule(lambda b, x: b.neg(b.neg(x)), lambda b, x: x)
    checker = _checked(trace(lambda b, x: b.exp(b.mul(x, x)), parse_type("f32[2,3]")), square, plain)
    assert [f.on_run for f in checker.firings] == [True, True]


def test_indices_are_kept_within_tables_that_a_proof_shrinks() -> None:
    graph = Graph()
    table = graph.add_input(parse_type("f32[5000,4096]"), "table")
    places = graph.add_weight("places", ArrayWeight(np.array([4999, 17, -1])))
    b = Builder(graph)
    graph.set_outputs([b.neg(b.take(table, places, axis=0))])
    swap = rule(
        lambda b, x, i, *, axis: b.neg(b.take(x, i, axis=axis)), lambda b, x, i, *, axis: b.take(b.neg(x), i, axis=axis)
    )
    (firing,) = _checked(graph, swap).firings
    assert firing.accepted
    assert firing.on_run
    assert firing.proven


def test_a_proof_that_relies_on_one_weight_is_not_used_for_another() -> None:
    """x·w -> x + x is right where w is 2. The rule asks only for one element, so the second weight is not."""
    graph = Graph()
    x = graph.add_input(parse_type("f32[2,3]"), "x")
    b = Builder(graph)
    weights = ([2.0, 2.0, 2.0], [2.0, 3.0, 3.0])
    held = [graph.add_weight(f"w{i}", ArrayWeight(np.array(w, np.float32))) for i, w in enumerate(weights)]
    graph.set_outputs([b.mul(x, w) for w in held])
    double = rule(
        lambda b, x, w: b.mul(x, w),
        lambda b, x, w: b.add(x, x),
        where=lambda x, w: None if w.weight is not None and w.weight.array()[0] == 2 else "not two",
    )
    checker = RewriteChecker()
    assert apply_rules(graph, [double], checker).total == 1
    assert [f.accepted for f in checker.firings] == [True, False]
    assert checker.firings[1].exact.startswith("different")


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.weight = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Parameter(torch.rand(6))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        return y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


def test_report_and_certificate_tell_on_which_values_rewrites_were_judged(tmp_path: Path) -> None:
    path = tmp_path / "block.onnx"
    report = dragoman.convert(
        Block().eval(), path, args=(torch.rand(7, 3, 8, 8),), dynamic={"x": {0: "batch"}}, overwrite=True
    )
    comparison = report.comparison
    assert comparison is not None
    assert comparison.rules
    assert all(
        r.unchecked == 0 and r.on_run == r.fired for r in comparison.rules if "Fold" in r.rule or "rms" in r.rule
    )
    told = "rewrites were judged on random values and on those of a run in float64 at batch=5"
    assert told in comparison.notes
    assert "on values of a run too" in str(comparison)
    kept = read(tmp_path / "block.onnx.dragoman.json").comparison
    assert kept.rules == comparison.rules
    assert told in kept.notes


@pytest.mark.parametrize("checked", [True, False])
def test_rewrites_of_an_import_are_proved_if_that_is_asked_for(checked: bool) -> None:
    class Doubly(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x.transpose(0, 1).transpose(0, 1) + 0).exp()

    model = dragoman.load(Doubly(), (torch.rand(2, 3),), check=5.0 if checked else None)
    assert [n.op.name for n in model.graph] == ["exp"]
    assert (model.checker is not None and len(model.checker.firings) > 0) is checked
    if checked:
        found = model.optimise(check=5.0).checker
        assert found is not None
        assert found.firings
        assert all(f.proven for f in found.firings)


@pytest.mark.parametrize(("divisor", "right"), [(768.0, True), (767.0, False), (3.0, False)])
def test_what_holds_of_the_declared_extent_alone_is_judged_there(divisor: float, right: bool) -> None:
    """A sum over 768 divided by 768 is a mean; at an extent that a proof shrinks to it is not."""
    mean = rule(
        lambda b, x, *, axes, keepdims, n: b.div(b.reduce_sum(x, axes=axes, keepdims=keepdims), n),
        lambda b, x, *, axes, keepdims, n: b.reduce_mean(x, axes=axes, keepdims=keepdims),
    )
    graph = trace(lambda b, x: b.div(b.reduce_sum(x, axes=(-1,), keepdims=False), divisor), parse_type("f32[n,5,768]"))
    (firing,) = _checked(graph, mean).firings
    assert firing.accepted is right
    assert (firing.exact == "equal" and firing.local == "ok") is right


def test_equality_in_the_field_counts_even_for_an_op_that_is_not_exact_there() -> None:
    def attend(b: Builder, q: Value, k: Value, v: Value) -> Value:
        return b.matmul(b.softmax(b.mul(b.matmul(q, b.transpose(k, perm=(0, 1, 3, 2))), 0.5), axis=3), v)

    found = next(r for r in recognisers() if r.op.name == "attention")
    assert not found.exact
    checker = RewriteChecker()
    apply_rules(trace(attend, *[parse_type("f32[2,3,5,4]")] * 3), [found], checker)
    assert [f.proven for f in checker.firings] == [True]
