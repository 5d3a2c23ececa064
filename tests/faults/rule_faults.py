"""Faults in rewrite rules: each is nearly right, fires, and must be refused where it fires, its rule and node named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from dragoman.ir.graph import Graph
from dragoman.passes.check import RewriteChecker
from dragoman.passes.pattern import trace_pattern
from dragoman.passes.rewrite import PatternRule, apply_rules
from tests.faults import hosts
from tests.faults.mutants import Outcome


@dataclass(frozen=True)
class RuleFault:
    """A wrong rule: where it fires, and at which op."""

    name: str
    host: Callable[[], Graph]
    op: str
    before: Callable[..., Any]
    after: Callable[..., Any]


def _multiplied_and_summed(b: Any, x: Any, y: Any, *, first: Any, second: Any, axes: Any) -> Any:
    return b.reduce_sum(b.mul(b.unsqueeze(x, axes=first), b.unsqueeze(y, axes=second)), axes=axes)


RULE_FAULTS = [
    RuleFault(
        "gelu approximated",
        hosts.normed,
        "gelu",
        lambda b, x: b.gelu(x),
        lambda b, x: b.gelu(x, approximate="tanh"),
    ),
    RuleFault(
        "an epsilon lost",
        hosts.normed,
        "rms_norm",
        lambda b, x, w, *, axis, epsilon: b.rms_norm(x, w, axis=axis, epsilon=epsilon),
        lambda b, x, w, *, axis, epsilon: b.rms_norm(x, w, axis=axis, epsilon=epsilon * 1.001),
    ),
    RuleFault(
        "a softmax shifted by a constant that is not one",
        hosts.spelled_attention,
        "softmax",
        lambda b, x, *, axis: b.softmax(x, axis=axis),
        lambda b, x, *, axis: b.softmax(b.mul(x, 1.0001), axis=axis),
    ),
    RuleFault(
        "a transpose inverted",
        hosts.turned,
        "transpose",
        lambda b, x, *, perm: b.transpose(b.neg(x), perm=perm),
        lambda b, x, *, perm: b.neg(b.reshape(x, shape=tuple(x.type.shape[p] for p in perm))),
    ),
    RuleFault(
        "an activation dropped where it is nearly linear",
        hosts.convolved,
        "hard_swish",
        lambda b, x: b.hard_swish(x),
        lambda b, x: b.mul(x, b.clip(b.add(b.mul(x, 0.1667), 0.5), low=0.0, high=1.0)),
    ),
    RuleFault(
        "a mean for a median",
        hosts.reduced,
        "reduce_mean",
        lambda b, x, *, axes, keepdims: b.reduce_mean(x, axes=axes, keepdims=keepdims),
        lambda b, x, *, axes, keepdims: b.mul(
            b.add(b.reduce_max(x, axes=axes, keepdims=keepdims), b.reduce_min(x, axes=axes, keepdims=keepdims)), 0.5
        ),
    ),
    RuleFault(
        "variance by the difference of squares",
        hosts.reduced,
        "variance",
        lambda b, x, *, axes, keepdims, correction: b.variance(x, axes=axes, keepdims=keepdims, correction=correction),
        lambda b, x, *, axes, keepdims, correction: b.sub(
            b.reduce_mean(b.mul(x, x), axes=axes, keepdims=keepdims),
            b.square(b.reduce_mean(x, axes=axes, keepdims=keepdims)),
        ),
    ),
    RuleFault(
        "the factors of a contraction exchanged",
        hosts.multiplied,
        "reduce_sum",
        _multiplied_and_summed,
        lambda b, x, y, **_: b.matmul(y, x),
    ),
    RuleFault(
        "a contraction over the other axis of a square factor",
        hosts.multiplied,
        "reduce_sum",
        _multiplied_and_summed,
        lambda b, x, y, **_: b.matmul(b.transpose(x, perm=(0, 2, 1)), y),
    ),
    RuleFault(
        "a bias taken out of a scale that goes over both",
        hosts.multiplied,
        "softmax",
        lambda b, p, bias, *, scale, axis: b.softmax(b.mul(b.add(p, bias), scale), axis=axis),
        lambda b, p, bias, *, scale, axis: b.softmax(b.add(b.mul(p, scale), bias), axis=axis),
    ),
]


def rule_trials() -> Iterator[tuple[str, Callable[[], Outcome]]]:
    """Each fault with what runs it."""
    for fault in RULE_FAULTS:
        yield f"rewrite: {fault.name}", lambda fault=fault: _trial(fault)


def _trial(fault: RuleFault) -> Outcome:
    graph = fault.host()
    before = str(graph)
    rule = PatternRule(
        name="Wrong",
        diagram="before  ->  after",
        traced=trace_pattern(fault.before),
        before=fault.before,
        after=fault.after,
        where=None,
        samples=(),
        single_use=False,
    )
    places = {node.provenance.module for node in graph if node.op.name == fault.op}
    checker = RewriteChecker()
    apply_rules(graph, [rule], checker)
    refused = checker.refused
    killed = bool(refused) and len(refused) == len(checker.firings) and str(graph) == before
    blamed = killed and all(f.rule == "Wrong" and f.module in places for f in refused)
    return Outcome(fault.name, killed, blamed, "\n".join(map(str, checker.firings)) or "it did not fire")
