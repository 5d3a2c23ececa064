"""The rewriting mechanism: matching, declining, checking, undoing, blame."""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import pytest

from dragoman.ir.builder import Builder, trace
from dragoman.ir.errors import TypeRuleError
from dragoman.ir.graph import Graph, Value
from dragoman.ir.interpreter import run
from dragoman.ir.op import sample
from dragoman.ir.provenance import Provenance, Source
from dragoman.ir.types import parse_type
from dragoman.ir.verify import verify
from dragoman.passes.check import RewriteChecker
from dragoman.passes.pattern import Matcher, trace_pattern
from dragoman.passes.rewrite import RULES, PatternRule, apply_rules, rewrite

F = parse_type("f32[2,3]")


def rule(before: Any, after: Any, *, where: Any = None, single_use: bool = True, attributes: Any = None) -> PatternRule:
    """A rule that is not left in the registry."""
    namespace = {"before": before, "after": after, "__doc__": "before  ->  after"}
    if where is not None:
        namespace["where"] = where
    made = rewrite(samples=[sample("f32[2,3]", **(attributes or {}))], single_use=single_use)(
        type("Temporary", (), namespace)
    )
    del RULES["Temporary"]
    return made


def test_a_rule_without_samples_cannot_be_registered() -> None:
    with pytest.raises(TypeError, match="has no samples"):
        rewrite(samples=[])(
            type("Untested", (), {"before": lambda b, x: b.neg(x), "after": lambda b, x: x, "__doc__": "a -> b"})
        )


def test_a_rule_without_a_diagram_cannot_be_registered() -> None:
    with pytest.raises(TypeError, match="diagram"):
        rewrite(samples=[sample("f32[2]")])(
            type("Bare", (), {"before": lambda b, x: b.neg(x), "after": lambda b, x: x})
        )


def test_commutative_operands_match_in_either_order() -> None:
    silu = rule(lambda b, x: b.mul(x, b.sigmoid(x)), lambda b, x: b.sigmoid(x))
    for make in (lambda b, x: b.mul(x, b.sigmoid(x)), lambda b, x: b.mul(b.sigmoid(x), x)):
        assert apply_rules(trace(make, F), [silu]).total == 1


def test_a_placeholder_used_twice_must_bind_one_value() -> None:
    silu = rule(lambda b, x: b.mul(x, b.sigmoid(x)), lambda b, x: b.sigmoid(x))
    graph = trace(lambda b, x, y: b.mul(x, b.sigmoid(y)), F, F)
    assert apply_rules(graph, [silu]).total == 0


def test_an_attribute_placeholder_used_twice_must_bind_one_value() -> None:
    pattern = trace_pattern(lambda b, x, *, a: b.flip(b.flip(x, axes=a), axes=a))
    same = trace(lambda b, x: b.flip(b.flip(x, axes=(1,)), axes=(1,)), F)
    other = trace(lambda b, x: b.flip(b.flip(x, axes=(0,)), axes=(1,)), F)
    assert Matcher(pattern.root).match(same.nodes[-1]) is not None
    matcher = Matcher(pattern.root)
    assert matcher.match(other.nodes[-1]) is None
    assert "axes=(0,) where a is already (1,)" in matcher.miss.reason


def test_the_nearest_miss_names_the_node_and_the_reason() -> None:
    pattern = trace_pattern(lambda b, x: b.exp(b.neg(b.sqrt(x))))
    graph = trace(lambda b, x: b.exp(b.neg(b.abs(x))), F)
    matcher = Matcher(pattern.root)
    assert matcher.match(graph.nodes[-1]) is None
    assert matcher.miss.depth == 2
    assert matcher.miss.node is graph.nodes[0]
    assert matcher.miss.reason == "sqrt is needed, found abs"


def test_where_declines_with_its_reason() -> None:
    picky = rule(lambda b, x: b.neg(x), lambda b, x: b.abs(x), where=lambda x: "not today")
    graph = trace(lambda b, x: b.neg(x), F)
    assert apply_rules(graph, [picky]).total == 0
    miss = picky.near_miss(graph.nodes[0])
    assert miss is not None
    assert miss.reason == "not today"


def test_an_inner_result_with_other_users_declines_unless_the_rule_allows_it() -> None:
    def shared(b: Builder, x: Value) -> tuple[Value, Value]:
        inner = b.neg(x)
        return b.neg(inner), b.exp(inner)

    strict = rule(lambda b, x: b.neg(b.neg(x)), lambda b, x: x)
    lenient = rule(lambda b, x: b.neg(b.neg(x)), lambda b, x: x, single_use=False)
    assert apply_rules(trace(shared, F), [strict]).total == 0
    assert apply_rules(trace(shared, F), [lenient]).total == 1


def test_a_wrong_rewrite_is_refused_undone_and_blamed_on_its_line() -> None:
    wrong = rule(lambda b, x: b.neg(x), lambda b, x: b.abs(x))
    graph = Graph()
    x = graph.add_input(F, "x")
    origin = Provenance((Source("aten.neg", "encoder.layer.3", "model.py:41"),))
    graph.set_outputs([Builder(graph, provenance=origin).neg(x)])
    before = str(graph)
    checker = RewriteChecker()
    applied = apply_rules(graph, [wrong], checker)
    assert applied.total == 0
    assert applied.refused == {"Temporary": 1}
    assert str(graph) == before
    (firing,) = checker.refused
    assert (firing.rule, firing.node, firing.module, firing.line) == (
        "Temporary",
        "neg",
        "encoder.layer.3",
        "model.py:41",
    )
    assert firing.exact.startswith("different")


@pytest.mark.parametrize("factor", [1.01, 1 + 1e-9])
def test_a_constant_that_is_slightly_off_is_refused(factor: float) -> None:
    off = rule(lambda b, x: b.neg(x), lambda b, x: b.mul(x, -factor))
    graph = trace(lambda b, x: b.neg(x), parse_type("f64[2,3]"))
    checker = RewriteChecker()
    assert apply_rules(graph, [off], checker).total == 0
    assert checker.refused


def test_a_rewrite_that_needs_the_value_of_a_weight_is_proved_with_it() -> None:
    from dragoman.ir.weights import ArrayWeight

    graph = Graph()
    x = graph.add_input(F, "x")
    two = graph.add_weight("two", ArrayWeight(np.full(3, 2.0, np.float32)))
    graph.set_outputs([Builder(graph).mul(x, two)])
    double = rule(
        lambda b, x, w: b.mul(x, w),
        lambda b, x, w: b.add(x, x),
        where=lambda x, w: None if w.weight is not None and np.all(w.weight.array() == 2) else "not two",
    )
    checker = RewriteChecker()
    assert apply_rules(graph, [double], checker).total == 1
    assert checker.firings[0].proven


def test_equal_regions_are_proved_once() -> None:
    square = rule(lambda b, x: b.mul(x, x), lambda b, x: b.square(x))

    def chain(b: Builder, x: Value) -> Value:
        for _ in range(5):
            x = b.mul(x, x)
        return x

    checker = RewriteChecker()
    assert apply_rules(trace(chain, F), [square], checker).total == 5
    assert [f.reused for f in checker.firings] == [False, True, True, True, True]


def test_the_replacement_carries_the_union_of_origins() -> None:
    graph = Graph()
    x = graph.add_input(F, "x")
    first = Builder(graph, provenance=Provenance((Source("a", "m.one", "f.py:1"),))).neg(x)
    second = Builder(graph, provenance=Provenance((Source("b", "m.two", "f.py:2"),))).exp(first)
    graph.set_outputs([second])
    merged = rule(lambda b, x: b.exp(b.neg(x)), lambda b, x: b.reciprocal(b.exp(x)))
    apply_rules(graph, [merged])
    for node in graph:
        assert node.provenance.operators == ("a", "b")
        assert node.provenance.module == "m"


def test_a_replacement_of_another_type_is_an_error_of_the_rule() -> None:
    bad = rule(lambda b, x: b.neg(x), lambda b, x: b.reshape(x, shape=(6,)))
    with pytest.raises(TypeRuleError, match=r"replaces f32\[2,3\] by f32\[6\]"):
        apply_rules(trace(lambda b, x: b.neg(x), F), [bad])


def test_rules_that_undo_each_other_are_found_out() -> None:
    there = rule(lambda b, x: b.neg(x), lambda b, x: b.mul(x, -1.0))
    back = rule(lambda b, x: b.mul(x, -1.0), lambda b, x: b.neg(x))
    with pytest.raises(RuntimeError, match="do not terminate"):
        apply_rules(trace(lambda b, x: b.neg(x), F), [there, back])


def test_rules_apply_inside_sub_graphs() -> None:
    from dragoman.passes.manager import Context

    double_neg = rule(lambda b, x: b.neg(b.neg(x)), lambda b, x: x)

    def branch(b: Builder, x: Value) -> Value:
        return b.neg(b.neg(x))

    then, orelse = trace(branch, F), trace(lambda b, x: b.exp(x), F)
    graph = trace(lambda b, p, x: b.cond(p, x, then=then, orelse=orelse), parse_type("bool[]"), F)
    context = Context()
    assert context.rewrite(graph, [double_neg]) == 1
    verify(graph)
    values = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(run(graph, np.array(True), values)[0], values)


def test_a_multi_result_op_can_be_the_root_and_inside() -> None:
    pattern = trace_pattern(lambda b, x, *, a, s: b.concat(*[b.split(x, axis=a, sizes=s)[i] for i in (0, 1)], axis=a))
    graph = trace(lambda b, x: b.concat(*b.split(x, axis=1, sizes=(1, 2)), axis=1), F)
    found = Matcher(pattern.root).match(graph.nodes[-1])
    assert found is not None
    assert found.attributes == {"a": 1, "s": (1, 2)}
    swapped = trace(lambda b, x: b.concat(*reversed(b.split(x, axis=1, sizes=(1, 2))), axis=1), F)
    assert Matcher(pattern.root).match(swapped.nodes[-1]) is None


def test_symbolic_regions_are_checked_at_small_extents() -> None:
    square = rule(lambda b, x: b.mul(x, x), lambda b, x: b.square(x))
    checker = RewriteChecker()
    apply_rules(trace(lambda b, x: b.mul(x, x), parse_type("f32[batch,2*seq + 1,4096]")), [square], checker)
    assert checker.firings[0].proven
    assert checker.firings[0].local == "ok"


def test_the_module_of_rules_lists_them_in_order() -> None:
    from dragoman.passes.rewrite import rules_in
    from dragoman.passes.rules import movement

    names = [r.name for r in rules_in(movement)]
    assert names[:2] == ["MergeTransposes", "DropIdentityTranspose"]
    assert isinstance(movement, types.ModuleType)
