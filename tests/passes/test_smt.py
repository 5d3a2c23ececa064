"""SMT proofs of rules: every rule of the project, wrong rules that must be refuted, and what a proof ranges over."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from dragoman.ir.builder import Builder, make, trace
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.op import REGISTRY, sample
from dragoman.ir.types import I64, parse_type
from dragoman.passes.pipelines import all_rules
from dragoman.passes.rewrite import RULES, Replacement, Rule, rewrite, rewrite_node
from tests.packaging.sources import ROOT

pytest.importorskip("z3")

from dragoman.passes.smt.instances import Extents, freed
from dragoman.passes.smt.prove import RuleProof, prove_rule, share
from dragoman.passes.smt.solve import Answer, prove

EVERY = {rule.name: rule for rule in all_rules()}


@cache
def proof_of(name: str) -> RuleProof:
    """A proof within a small bound: `make prove` takes a larger one."""
    return prove_rule(EVERY[name], most=2, count=6, seconds=0.2, timeout=2.0)


@pytest.mark.parametrize("name", EVERY)
def test_a_rule_is_proved_or_the_reason_is_told(name: str) -> None:
    proof = proof_of(name)
    assert proof.answer is not Answer.REFUTED, proof.reason
    if proof.answer is Answer.PROVED:
        assert proof.instances >= 1
    else:
        assert proof.reason


def test_two_rules_in_three_are_proved() -> None:
    assert share(proof_of(name) for name in EVERY) >= 0.66


@pytest.mark.slow
def test_no_rule_is_refuted_within_the_bound_of_make_prove() -> None:
    proofs = [prove_rule(rule) for rule in all_rules()]
    assert [(p.rule, p.reason) for p in proofs if p.answer is Answer.REFUTED] == []
    assert share(proofs) >= 0.66


# ---- wrong rules -------------------------------------------------------------------------------------------


def pattern(before: Any, after: Any, *operands: Any, where: Any = None, **attributes: Any) -> Rule:
    """A rule that is not left in the registry."""
    namespace = {"before": before, "after": after, "__doc__": "before  ->  after"}
    if where is not None:
        namespace["where"] = where
    made = rewrite(samples=[sample(*operands, **attributes)], single_use=False)(type("Wrong", (), namespace))
    del RULES["Wrong"]
    return made


def on_node(apply: Any, root: str, graph: Callable[[], Graph]) -> Rule:
    """A rule over nodes that is not left in the registry."""
    namespace = {"apply": apply, "__doc__": "before  ->  after"}
    made = rewrite_node(roots=[REGISTRY[root]], samples=[graph])(type("Wrong", (), namespace))
    del RULES["Wrong"]
    return made


def _norm(b: Any, x: Any, epsilon: Any) -> Any:
    return b.div(x, b.sqrt(b.add(b.reduce_mean(b.mul(x, x), axes=(1,), keepdims=True), epsilon)))


def _swapped_operands(b: Builder, node: Node) -> Replacement | str:
    x, y = node.operands
    return Replacement((b.one(node.op, y, x),), (node,))


def _concat_without_last(b: Builder, node: Node) -> Replacement | str:
    if len(node.operands) != 2 or node.operands[0] is node.operands[1]:
        return "two operands are needed"
    x = node.operands[0]
    assert x is not None
    return Replacement((b.concat(x, x, axis=0),), (node,))


def _batch_norm(b: Any, x: Any, s: Any, t: Any, m: Any, v: Any, *, epsilon: Any) -> Any:
    return b.batch_norm(x, s, t, m, v, epsilon=epsilon, axis=1)


def _affine(sign: Callable[..., Any], epsilon_of: Callable[[float], float]) -> Any:
    def after(b: Builder, x: Value, s: Value, t: Value, m: Value, v: Value, *, epsilon: float) -> Value:
        factor = b.div(s, b.sqrt(b.add(v, epsilon_of(epsilon))))
        return b.add(b.mul(x, factor), sign(b, t, b.mul(m, factor)))

    return after


VECTORS = ("f32[3]",) * 4
F = ("f32[2,3]",)
WRONG: dict[str, Rule] = {
    "another epsilon": pattern(
        lambda b, x, *, e: _norm(b, x, e), lambda b, x, *, e: b.rms_norm(x, axis=1, epsilon=2 * e), *F, e=1e-5
    ),
    "a fixed epsilon": pattern(
        lambda b, x, *, e: _norm(b, x, e), lambda b, x, *, e: b.rms_norm(x, axis=1, epsilon=1e-5), *F, e=1e-5
    ),
    "epsilon a tenth too large": pattern(
        _batch_norm, _affine(lambda b, t, u: b.sub(t, u), lambda e: 1.1 * e), *F, *VECTORS, epsilon=1e-5
    ),
    "the wrong sign of a shift": pattern(
        _batch_norm, _affine(lambda b, t, u: b.add(t, u), lambda e: e), *F, *VECTORS, epsilon=1e-5
    ),
    "a dropped term": pattern(
        _batch_norm, _affine(lambda b, t, u: t, lambda e: e), *F, *VECTORS, epsilon=1e-5
    ),
    "swapped operands": on_node(
        _swapped_operands, "sub", lambda: trace(lambda b, x, y: b.sub(x, y), parse_type("f32[3]"), parse_type("f32[3]"))
    ),
    "swapped operands of a matmul": on_node(
        _swapped_operands, "matmul",
        lambda: trace(lambda b, x, y: b.matmul(x, y), parse_type("f32[2,2]"), parse_type("f32[2,2]")),
    ),
    "one operand twice": on_node(
        _concat_without_last, "concat",
        lambda: trace(lambda b, x, y: b.concat(x, y, axis=0), parse_type("f32[2]"), parse_type("f32[2]")),
    ),
    "a permutation composed the wrong way": pattern(
        lambda b, x, *, p, q: b.transpose(b.transpose(x, perm=p), perm=q),
        lambda b, x, *, p, q: b.transpose(x, perm=tuple(q[i] for i in p)),
        "f32[2,2,2]", p=(1, 2, 0), q=(1, 0, 2),
    ),
    "a slice off by one": pattern(
        lambda b, x, *, lo, hi: b.slice(b.slice(x, axes=(0,), starts=(1,), stops=(5,), steps=(1,)), axes=(0,), starts=lo, stops=hi, steps=(1,)),
        lambda b, x, *, lo, hi: b.slice(x, axes=(0,), starts=lo, stops=hi),
        "f32[6]", lo=(1,), hi=(3,),
    ),
    "minimum for maximum": pattern(
        lambda b, x, y: b.maximum(x, y), lambda b, x, y: b.minimum(x, y), *F, *F
    ),
    "a comparison that counts equality": pattern(lambda b, x: b.less(x, 0), lambda b, x: b.less_equal(x, 0), *F),
    "de Morgan forgotten": pattern(
        lambda b, x, y: b.logical_not(b.logical_and(x, y)),
        lambda b, x, y: b.logical_and(b.logical_not(x), b.logical_not(y)),
        "bool[2]", "bool[2]",
    ),
    "exp of a sum as a sum": pattern(
        lambda b, x, y: b.exp(b.add(x, y)), lambda b, x, y: b.add(b.exp(x), b.exp(y)), *F, *F
    ),
    "tanh's gelu for the exact one": pattern(
        lambda b, x: b.gelu(x), lambda b, x: b.gelu(x, approximate="tanh"), *F
    ),
    "softmax along another axis": pattern(
        lambda b, x: b.softmax(x, axis=1), lambda b, x: b.softmax(x, axis=0), "f32[2,2]"
    ),
}  # fmt: skip


@pytest.mark.parametrize("rule", WRONG.values(), ids=list(WRONG))
def test_a_wrong_rule_is_refuted_with_a_counterexample(rule: Rule) -> None:
    proof = prove_rule(rule, most=2, count=8)
    assert proof.answer is Answer.REFUTED
    assert " before and " in proof.reason
    assert " for x0=" in proof.reason


def test_a_rule_that_only_holds_at_the_extents_of_its_sample_is_refuted() -> None:
    flipped = pattern(lambda b, x: b.flip(x, axes=(0,)), lambda b, x: x, "f32[1,3]")
    assert prove_rule(flipped).answer is Answer.REFUTED


def test_a_rule_that_only_holds_for_the_constant_of_its_sample_is_refuted() -> None:
    dropped = pattern(lambda b, x, *, s: b.mul(x, s), lambda b, x, *, s: x, "f32[2]", s=1.0)
    assert prove_rule(dropped).answer is Answer.REFUTED


def test_a_rule_that_only_holds_for_the_axis_of_its_sample_is_refuted() -> None:
    last = pattern(
        lambda b, x, *, axis: b.softmax(x, axis=axis), lambda b, x, *, axis: b.softmax(x, axis=-1), "f32[2,3]", axis=1
    )
    assert prove_rule(last).answer is Answer.REFUTED


def test_a_rule_that_only_holds_at_the_rank_of_its_sample_is_refuted() -> None:
    moved = pattern(lambda b, x: b.concat(x, x, axis=-1), lambda b, x: b.concat(x, x, axis=0), "f32[2]")
    assert prove_rule(moved).answer is Answer.REFUTED


def test_the_shape_of_a_replacement_is_part_of_the_proof() -> None:
    grown = pattern(lambda b, x: b.neg(x), lambda b, x: b.unsqueeze(b.neg(x), axes=(0,)), "f32[2]")
    proof = prove_rule(grown)
    assert proof.answer is Answer.REFUTED
    assert "replaces f32[2] by f32[1,2]" in proof.reason


# ---- what is expressible ---------------------------------------------------------------------------------


def decomposed(name: str, types: tuple[str, ...], form: int, **attributes: Any) -> tuple[Graph, Graph]:
    """An op and one of its spellings as graphs."""
    cls = REGISTRY[name]
    op = make(cls, attributes)
    spelled = [cls.decompose, *cls.spellings][form]
    kept = [parse_type(t) for t in types]
    return trace(lambda b, *x: b.one(op, *x), *kept), trace(lambda b, *x: spelled(op, b, *x), *kept)


SPELLED = [
    ("softmax", ("f32[2,3]",), {"axis": 1}),
    ("log_softmax", ("f32[2,3]",), {"axis": 1}),
    ("reduce_logsumexp", ("f32[2,3]",), {"axes": (1,)}),
    ("layer_norm", ("f32[2,3]", "f32[3]", "f32[3]"), {"axis": 1, "epsilon": 1e-5}),
    ("rms_norm", ("f32[2,3]", "f32[3]"), {"axis": 1, "epsilon": 1e-5}),
    ("group_norm", ("f32[1,4,2]", "f32[4]", "f32[4]"), {"groups": 2, "epsilon": 1e-5}),
    ("batch_norm", ("f32[2,3]", *VECTORS), {"epsilon": 1e-5, "axis": 1}),
    ("reduce_l2", ("f32[2,3]",), {"axes": (1,)}),
    ("variance", ("f32[2,3]",), {"axes": (1,), "correction": 1.0}),
    ("gelu", ("f32[2]",), {}),
    ("silu", ("f32[2]",), {}),
    ("prelu", ("f32[2,3]", "f32[3]"), {}),
    ("mish", ("f32[2]",), {}),
    ("attention", ("f32[1,2,2]",) * 3, {"causal": True}),
    ("attention", ("f32[1,1,2]", "f32[1,2,2]", "f32[1,2,2]", "bool[1,2]"), {}),
    ("linear", ("f32[2,3]", "f32[4,3]", "f32[4]"), {}),
    ("conv_transpose", ("f32[1,2,3]", "f32[2,2,2]"), {"strides": (2,), "padding": ((0, 0),), "dilations": (1,), "output_padding": (0,)}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "types", "attributes"), SPELLED, ids=[n for n, _, _ in SPELLED])
def test_an_op_is_proved_equal_to_all_its_spellings(name: str, types: tuple[str, ...], attributes: Any) -> None:
    for form in range(1 + len(REGISTRY[name].spellings)):
        verdict = prove(*decomposed(name, types, form, **attributes))
        assert verdict.answer is Answer.PROVED, (form, verdict.reason)


def equal(before: Any, after: Any, *types: str) -> Answer:
    """The answer for two functions of the builder."""
    kept = [parse_type(t) for t in types]
    return prove(trace(before, *kept), trace(after, *kept)).answer


def test_roots_exponentials_and_logarithms_keep_their_laws() -> None:
    x, y = "f32[2]", "f32[2]"
    assert equal(lambda b, x: b.square(b.sqrt(x)), lambda b, x: x, x) is Answer.PROVED
    assert equal(lambda b, x: b.sqrt(b.mul(x, x)), lambda b, x: b.abs(x), x) is Answer.PROVED
    assert equal(lambda b, x: b.div(x, np.sqrt(2.0)), lambda b, x: b.mul(x, np.sqrt(0.5)), x) is Answer.PROVED
    assert equal(lambda b, x, y: b.exp(b.add(x, y)), lambda b, x, y: b.mul(b.exp(x), b.exp(y)), x, y) is Answer.PROVED
    assert equal(lambda b, x: b.log(b.exp(x)), lambda b, x: x, x) is Answer.PROVED
    assert equal(lambda b, x: b.erf(b.neg(x)), lambda b, x: b.neg(b.erf(x)), x) is Answer.PROVED


def test_order_is_decided_by_search() -> None:
    def clipped(b: Any, x: Any) -> Any:
        return b.minimum(b.maximum(x, 0.0), 6.0)

    x, y, z = "f32[2]", "f32[2]", "f32[2]"
    assert equal(clipped, lambda b, x: b.maximum(b.minimum(x, 6.0), 0.0), x) is Answer.PROVED
    left, right = (lambda b, x, y, z: b.maximum(b.maximum(x, y), z)), (lambda b, x, y, z: b.maximum(x, b.maximum(z, y)))
    assert equal(left, right, x, y, z) is Answer.PROVED
    assert equal(clipped, lambda b, x: b.maximum(b.minimum(x, 5.0), 0.0), x) is Answer.REFUTED


def test_what_has_no_form_is_told_and_is_no_proof() -> None:
    complex_ones = trace(lambda b, x: b.neg(x), parse_type("c64[2]"))
    shifted = trace(lambda b, x: b.shift_left(x, x), parse_type("i32[2]"))
    placed = trace(lambda b, x, i: b.take(x, b.cast(i, dtype=I64), axis=0), parse_type("f32[3]"), parse_type("f32[2]"))
    for graph, why in ((complex_ones, "c64"), (shifted, "no meaning over terms"), (placed, "needs the values")):
        verdict = prove(graph, graph)
        assert verdict.answer is Answer.UNKNOWN
        assert why in verdict.reason
    proof = prove_rule(pattern(lambda b, x: b.neg(b.neg(x)), lambda b, x: x, "c64[2]"))
    assert proof.answer is Answer.UNKNOWN
    assert proof.reason == "inexpressible: c64 has no form here"


def test_infinite_constants_lie_beyond_every_unknown() -> None:
    def lowest(b: Any, x: Any) -> Any:
        return b.const(-np.inf, x.type.dtype)

    assert equal(lambda b, x: b.maximum(x, lowest(b, x)), lambda b, x: x, "f32[2]") is Answer.PROVED
    assert equal(lambda b, x: b.minimum(x, lowest(b, x)), lambda b, x: x, "f32[2]") is not Answer.PROVED
    assert equal(lambda b, x: b.exp(b.add(x, lowest(b, x))), lambda b, x: b.mul(x, 0.0), "f32[2]") is Answer.PROVED


# ---- what a proof ranges over -------------------------------------------------------------------------------


def extents_of(name: str, index: int = 0) -> list[int]:
    """The extents of a rule's sample that can be chosen, each by the value it has there."""
    rule = RULES[name]
    return [v.value for v in Extents(rule, list(rule.sample_graphs())[index]).variables]


def test_extents_that_belong_together_change_together() -> None:
    # Batch, channels in and out, two spatial and two kernel extents.
    assert sorted(extents_of("FoldBatchNormIntoConv")) == [2, 2, 3, 3, 4, 5, 6]
    # [2,3,4] to (6,4) to (3,8): three extents, of which the products follow.
    assert sorted(extents_of("MergeReshapes")) == [2, 3, 4]


def test_a_constant_that_a_rule_does_not_look_at_is_free_and_others_are_not() -> None:
    rule = RULES["FoldBatchNormIntoLinear"]
    assert len(freed(rule, next(iter(rule.sample_graphs()))).free) == 1
    zero = RULES["DropAddZero"]
    assert freed(zero, next(iter(zero.sample_graphs()))).free == ()


def test_a_proof_ranges_over_permutations_extents_and_ranks() -> None:
    proof = prove_rule(RULES["MergeTransposes"], most=2, count=16)
    assert proof.answer is Answer.PROVED
    assert proof.ranks >= {2, 3, 4}
    assert proof.instances > 40


# ---- the command ---------------------------------------------------------------------------------------------


def run_command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["prove_rules.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "scripts" / "prove_rules.py"), run_name="__main__")
    return int(ended.value.code or 0)


def test_the_command_prints_the_share_and_fails_on_a_refuted_rule(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(monkeypatch, "DropAddZero", "DropDoubleNot") == 0
    assert "2 of 2 rules proved: 100%" in capsys.readouterr().out
    monkeypatch.setitem(RULES, "Wrong", WRONG["minimum for maximum"])
    assert run_command(monkeypatch, "DropAddZero", "Wrong") == 1
    assert "1 of 2 rules proved: 50%" in capsys.readouterr().out
