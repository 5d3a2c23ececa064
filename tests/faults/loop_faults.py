"""Faults in the recognition of recurrent layers: the right loop found, its gates or states put together wrongly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dragoman.ir.builder import Builder
from dragoman.ir.graph import Node, Value
from dragoman.ir.provenance import Provenance, Source
from dragoman.passes.check import RewriteChecker
from dragoman.passes.rewrite import NodeRule, Replacement, apply_rules
from dragoman.passes.rules.cells import LoopAsGruOfOtherUpdate, LoopAsRecurrentLayer
from tests.faults.mutants import Outcome

_MODULE, _LINE = "encoder.rnn", "model.py:9"


@dataclass(frozen=True)
class LoopFault:
    """The layer that is made, and what is wrong with it: its attributes, or the operand `at` that place."""

    name: str
    rule: NodeRule
    layer: str
    attributes: dict[str, Any]
    at: int = -1
    changed: Callable[[Builder, Value], Value] = lambda b, v: v


def _gates(order: Sequence[int]) -> Callable[[Builder, Value], Value]:
    """Blocks of rows in another order."""

    def exchanged(b: Builder, value: Value) -> Value:
        height = int(value.type.shape[1]) // len(order)  # type: ignore[arg-type]
        rows = [b.slice(value, axes=(1,), starts=(i * height,), stops=((i + 1) * height,), steps=(1,)) for i in order]
        return b.concat(*rows, axis=1)

    return exchanged


_LAYER, _OTHER = LoopAsRecurrentLayer, LoopAsGruOfOtherUpdate
LOOP_FAULTS = [
    LoopFault("gates in the order of the loop", _LAYER, "lstm", {}, 1, _gates((0, 2, 1, 3))),
    LoopFault("recurrent gates in the order of the loop", _LAYER, "lstm", {}, 2, _gates((0, 2, 1, 3))),
    LoopFault("the bias of the forget gate lost", _LAYER, "lstm", {}, 3, lambda b, v: b.mul(v, 0.5)),
    LoopFault("an initial state lost", _LAYER, "lstm", {}, 5, lambda b, v: b.mul(v, 0.0)),
    LoopFault("an lstm backwards", _LAYER, "lstm", {"direction": "reverse"}),
    LoopFault("update and reset exchanged", _LAYER, "gru", {}, 1, _gates((1, 0, 2))),
    LoopFault("the reset before the product", _LAYER, "gru", {"reset_after": False}),
    LoopFault("the inner bias of a gru lost", _LAYER, "gru", {}, 4, lambda b, v: b.mul(v, 0.0)),
    LoopFault("relu for tanh", _LAYER, "rnn", {"activation": "relu"}),
    LoopFault("the update gate the other way", _OTHER, "gru", {}, 1, lambda b, v: b.neg(v)),
]


def loop_trials() -> Iterator[tuple[str, Callable[[], Outcome]]]:
    """Each fault with what runs it."""
    for fault in LOOP_FAULTS:
        yield f"loop: {fault.name}", lambda fault=fault: _trial(fault)


def _trial(fault: LoopFault) -> Outcome:
    checker = RewriteChecker()
    for graph in fault.rule.sample_graphs():
        for node in graph:
            node.provenance = Provenance((Source("scan", _MODULE, _LINE),))
        apply_rules(graph, [replace(fault.rule, function=_distorting(fault))], checker)
    refused = checker.refused
    killed = len(refused) == 1 and len(checker.firings) == 1
    blamed = killed and all((f.rule, f.module, f.line) == (fault.rule.name, _MODULE, _LINE) for f in refused)
    return Outcome(fault.name, killed, blamed, "\n".join(map(str, checker.firings)) or "it did not fire")


def _distorting(fault: LoopFault) -> Callable[[Builder, Node], Replacement | str]:
    def apply(b: Builder, node: Node) -> Replacement | str:
        right = fault.rule.apply(b, node)
        if isinstance(right, str):
            return right
        layer = right.values[-1].producer
        assert layer is not None
        if layer.op.name != fault.layer:
            return "another layer"
        operands = [fault.changed(b, v) if i == fault.at and v is not None else v for i, v in enumerate(layer.operands)]
        wrong = b.apply(layer.op.with_attributes(**fault.attributes), *operands)
        last = [b.reshape(v, shape=v.type.shape[1:]) for v in wrong[1:]]
        return Replacement((*last, wrong[0]), right.matched)

    return apply
