"""Faults in recognition: the right place found, and the wrong op put there. Each must be refused, rule and place named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dragoman.ir.builder import Builder
from dragoman.ir.graph import Graph, Node
from dragoman.ir.provenance import Provenance, Source
from dragoman.passes.check import RewriteChecker
from dragoman.passes.recognition.recogniser import Recogniser, recognisers
from dragoman.passes.rewrite import Replacement, apply_rules
from tests.faults.mutants import Outcome

_MODULE, _LINE = "encoder.block", "model.py:7"


@dataclass(frozen=True)
class RecognitionFault:
    """The op that is recognised, and what is wrong with it: attributes, or the order or absence of operands."""

    name: str
    op: str
    attributes: Mapping[str, Any] | Callable[[Any], Mapping[str, Any]] = field(default_factory=dict[str, Any])
    operands: Sequence[int | None] | None = None


RECOGNITION_FAULTS = [
    RecognitionFault("gelu by tanh for gelu by erf", "gelu", lambda op: {"approximate": _other(op.approximate)}),
    RecognitionFault("the epsilon of a layer norm", "layer_norm", lambda op: {"epsilon": op.epsilon * 1.001}),
    RecognitionFault("the epsilon of an rms norm", "rms_norm", lambda op: {"epsilon": op.epsilon * 1.001}),
    RecognitionFault("the epsilon of a group norm", "group_norm", lambda op: {"epsilon": op.epsilon * 1.001}),
    RecognitionFault("the epsilon of an instance norm", "instance_norm", lambda op: {"epsilon": op.epsilon * 1.001}),
    RecognitionFault("the epsilon of a batch norm", "batch_norm", lambda op: {"epsilon": op.epsilon * 1.001}),
    RecognitionFault("scale and bias of a batch norm exchanged", "batch_norm", {}, (0, 2, 1, 3, 4)),
    RecognitionFault("mean and bias of a batch norm exchanged", "batch_norm", {}, (0, 1, 3, 2, 4)),
    RecognitionFault("the axis of a softmax", "softmax", lambda op: {"axis": 1 - op.axis % 2}),
    RecognitionFault("the axis of a log-softmax", "log_softmax", lambda op: {"axis": 1 - op.axis % 2}),
    RecognitionFault("the scale of attention", "attention", lambda op: {"scale": 0.51}),
    RecognitionFault("the soft cap of attention", "attention", lambda op: {"softcap": 2.5}),
    RecognitionFault("attention made causal", "attention", lambda op: {"causal": not op.causal}),
    RecognitionFault("cosine and sine of a rotary embedding exchanged", "rotary_embedding", {}, (0, 2, 1)),
    RecognitionFault("the pairing of a rotary embedding", "rotary_embedding", lambda op: {"interleaved": _not(op)}),
    RecognitionFault("the bias of a linear layer lost", "linear", {}, (0, 1, None)),
    RecognitionFault("the groups of a group norm", "group_norm", lambda op: {"groups": 1 if op.groups > 1 else 2}),
    RecognitionFault("the order of blocks", "depth_to_space", lambda op: {"mode": _mode(op)}),
    RecognitionFault("the order of blocks, backwards", "space_to_depth", lambda op: {"mode": _mode(op)}),
    RecognitionFault("the epsilon of an l2 norm", "l2_normalize", lambda op: {"epsilon": max(op.epsilon, 1.0) * 4}),
    RecognitionFault("the slope of a quick gelu", "quick_gelu", lambda op: {"alpha": op.alpha * 1.001}),
    RecognitionFault("the slope of a leaky relu", "leaky_relu", lambda op: {"alpha": -op.alpha}),
    RecognitionFault("the slope of an elu", "elu", lambda op: {"alpha": op.alpha * 1.001}),
    RecognitionFault("the bound of a clip", "clip", lambda op: {"low": -0.75, "high": 0.8}),
    RecognitionFault("the slope of a hard sigmoid", "hard_sigmoid", lambda op: {"alpha": 0.25}),
    RecognitionFault("the bounds of a shrink", "soft_shrink", lambda op: {"alpha": op.alpha * 1.01}),
    RecognitionFault(
        "a sample's variance for a population's", "variance", lambda op: {"correction": 1 - op.correction}
    ),
    RecognitionFault("the beta of a softplus", "softplus", lambda op: {"beta": op.beta * 1.01}),
]


def _other(approximate: str) -> str:
    return "tanh" if approximate == "none" else "none"


def _not(op: Any) -> bool:
    return not op.interleaved


def _mode(op: Any) -> str:
    return "crd" if op.mode == "dcr" else "dcr"


@dataclass
class Distorted(Recogniser):
    """A recogniser that puts something else in the place of what it found."""

    fault: RecognitionFault = field(default_factory=lambda: RECOGNITION_FAULTS[0])

    def apply(self, builder: Builder, node: Node) -> Replacement | str:
        right = super().apply(builder, node)
        if isinstance(right, str):
            return right
        made = right.values[0].producer
        assert made is not None
        changes = self.fault.attributes(made.op) if callable(self.fault.attributes) else self.fault.attributes
        order = self.fault.operands or range(len(made.operands))
        operands = [None if i is None else made.operands[i] for i in order]
        wrong = builder.one(made.op.with_attributes(**changes), *operands)
        return Replacement((wrong,), right.matched, right.constants)


def recognition_trials() -> Iterator[tuple[str, Callable[[], Outcome]]]:
    """Each fault with what runs it."""
    for fault in RECOGNITION_FAULTS:
        yield f"recognise: {fault.name}", lambda fault=fault: _trial(fault)


def _trial(fault: RecognitionFault) -> Outcome:
    right = next(r for r in recognisers() if r.op.name == fault.op)
    wrong = Distorted(right.op, right.lower, fault=fault)
    graph = _host(right, fault)
    checker = RewriteChecker()
    apply_rules(graph, [wrong], checker, backwards=True)
    refused = checker.refused
    # A part of the match may be recognised instead, rightly: a product whose bias is added afterwards.
    killed = bool(refused) and all(f.proven for f in checker.firings if f.accepted)
    blamed = killed and all((f.rule, f.module, f.line) == (right.name, _MODULE, _LINE) for f in refused)
    return Outcome(fault.name, killed, blamed, "\n".join(map(str, checker.firings)) or "it did not fire")


def _host(right: Recogniser, fault: RecognitionFault) -> Graph:
    """The sample with most operands, of those the one with most axes."""
    graphs = [g for g in right.sample_graphs() if fault.operands is None or _operands(g) == len(fault.operands)]
    graph = max(graphs, key=lambda g: (_operands(g), g.outputs[0].type.rank, len(g)))
    for node in graph:
        node.provenance = Provenance((Source(fault.op, _MODULE, _LINE),))
    return graph


def _operands(graph: Graph) -> int:
    return len(graph.inputs) + len(graph.weights)
