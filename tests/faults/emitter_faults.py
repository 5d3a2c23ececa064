"""Faults in the emitter: one entry of its table writes an ONNX node wrongly; the model runs in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dragoman.backends.onnx import Session, check, to_model_proto
from dragoman.backends.onnx.table import TABLE, load_tables
from dragoman.ir.equivalence import Comparison, GraphRunner, compare
from dragoman.ir.errors import DragomanError
from dragoman.ir.graph import Graph
from tests.faults import hosts
from tests.faults.mutants import Outcome, judged, target

Operands = list[Any]
Attributes = dict[str, Any]
Change = Callable[[str, Operands, Attributes], tuple[str, Operands, Attributes]]


@dataclass(frozen=True)
class EmitterFault:
    """A defect of an entry: the op, the ONNX operator that the entry writes, and what is written instead."""

    name: str
    host: Callable[[], Graph]
    op: str
    writes: str
    change: Change
    nth: int = 0


def attribute(**changes: Any) -> Change:
    """Attributes with other values; None leaves one out, so that ONNX's default holds."""
    return lambda op_type, operands, attributes: (op_type, operands, {**attributes, **changes})


def altered(name: str, change: Callable[[Any], Any]) -> Change:
    """One attribute changed."""
    return lambda op_type, operands, attributes: (op_type, operands, {**attributes, name: change(attributes.get(name))})


def exchanged(first: int, second: int) -> Change:
    """Two inputs taken for each other."""

    def change(op_type: str, operands: Operands, attributes: Attributes) -> tuple[str, Operands, Attributes]:
        operands[first], operands[second] = operands[second], operands[first]
        return op_type, operands, attributes

    return change


def dropped(index: int) -> Change:
    """An input left out, and those after it."""
    return lambda op_type, operands, attributes: (op_type, operands[:index], attributes)


def another(op_type: str) -> Change:
    """Another operator."""
    return lambda _, operands, attributes: (op_type, operands, attributes)


class _Crooked:
    """An emitter that writes nodes of one operator wrongly."""

    def __init__(self, emitter: Any, writes: str, change: Change) -> None:
        self._emitter, self._writes, self._change = emitter, writes, change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._emitter, name)

    def op(self, op_type: str, *operands: Any, **attributes: Any) -> str:
        return self.ops(op_type, operands, 1, **attributes)[0]

    def ops(self, op_type: str, operands: Sequence[Any], count: int, **attributes: Any) -> list[str]:
        if op_type == self._writes:
            op_type, operands, attributes = self._change(op_type, list(operands), attributes)
        return self._emitter.ops(op_type, operands, count, **attributes)


@contextmanager
def patched(op: str, writes: str, change: Change) -> Iterator[None]:
    """The table with the entries of one op replaced."""
    load_tables()
    right = TABLE[op]

    def crooked(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda e, node, *values: function(_Crooked(e, writes, change), node, *values)

    TABLE[op] = [replace(entry, function=crooked(entry.function)) for entry in right]
    try:
        yield
    finally:
        TABLE[op] = right


def _ends_exchanged(pads: Any) -> Any:
    half = len(pads) // 2
    return [*pads[half:], *pads[:half]]


def _one_more(axis: Any) -> Any:
    return axis - 1


def _backwards(values: Any) -> Any:
    return list(values)[::-1]


def _inverse(perm: Any) -> Any:
    return [int(i) for i in np.argsort(perm)]


EMITTER_FAULTS = [
    EmitterFault("pads at the other ends", hosts.convolved, "conv", "Conv", altered("pads", _ends_exchanged)),
    EmitterFault("strides backwards", hosts.convolved, "conv", "Conv", altered("strides", _backwards)),
    EmitterFault("no bias", hosts.convolved, "conv", "Conv", dropped(2)),
    EmitterFault("one group", hosts.convolved, "conv", "Conv", attribute(group=1)),
    EmitterFault("scale and bias exchanged", hosts.convolved, "batch_norm", "BatchNormalization", exchanged(1, 2)),
    EmitterFault("mean and variance exchanged", hosts.convolved, "batch_norm", "BatchNormalization", exchanged(3, 4)),
    EmitterFault("the default epsilon", hosts.convolved, "batch_norm", "BatchNormalization", attribute(epsilon=None)),
    EmitterFault(
        "pool pads at the other ends", hosts.convolved, "avg_pool", "AveragePool", altered("pads", _ends_exchanged)
    ),
    EmitterFault("padding counted", hosts.convolved, "avg_pool", "AveragePool", attribute(count_include_pad=1)),
    EmitterFault("rounding up", hosts.convolved, "max_pool", "MaxPool", attribute(ceil_mode=1)),
    EmitterFault(
        "output padding left out", hosts.upsampled, "conv_transpose", "ConvTranspose", attribute(output_padding=None)
    ),
    EmitterFault(
        "no coordinates given",
        hosts.upsampled,
        "resize",
        "Resize",
        attribute(coordinate_transformation_mode="asymmetric"),
    ),
    EmitterFault("no cubic parameter given", hosts.upsampled, "resize", "Resize", attribute(cubic_coeff_a=-0.5)),
    EmitterFault("no rounding given", hosts.upsampled, "resize", "Resize", altered("nearest_mode", lambda m: "ceil")),
    EmitterFault("edges repeated", hosts.upsampled, "pad", "Pad", attribute(mode="edge")),
    EmitterFault("blocks in the other order", hosts.upsampled, "depth_to_space", "DepthToSpace", attribute(mode="DCR")),
    EmitterFault(
        "the default epsilon of layer norm × 10",
        hosts.normed,
        "layer_norm",
        "LayerNormalization",
        attribute(epsilon=1e-4),
    ),
    EmitterFault("layer norm without bias", hosts.normed, "layer_norm", "LayerNormalization", dropped(2)),
    EmitterFault("gelu by tanh", hosts.normed, "gelu", "Gelu", attribute(approximate="tanh")),
    EmitterFault("softmax over the axis before", hosts.normed, "softmax", "Softmax", altered("axis", _one_more)),
    EmitterFault("log softmax spelled softmax", hosts.embedded, "log_softmax", "LogSoftmax", another("Softmax")),
    EmitterFault("cumulative sum exclusive", hosts.embedded, "cumsum", "CumSum", attribute(exclusive=1)),
    EmitterFault("the last of equal maxima", hosts.embedded, "argmax", "ArgMax", another("ArgMin")),
    EmitterFault("the reduced axis kept", hosts.embedded, "reduce_sum", "ReduceSum", attribute(keepdims=1)),
    EmitterFault("permutation inverted", hosts.turned, "transpose", "Transpose", altered("perm", _inverse)),
    EmitterFault("concat backwards", hosts.shuffled, "concat", "Concat", exchanged(0, 1)),
    EmitterFault("the smallest", hosts.shuffled, "topk", "TopK", attribute(largest=0)),
    EmitterFault("lstm backwards", hosts.recurrent, "lstm", "LSTM", exchanged(5, 6)),
    EmitterFault("gru in the original form", hosts.recurrent, "gru", "GRU", attribute(linear_before_reset=0)),
    EmitterFault("a slope of ONNX's default", hosts.pointwise, "leaky_relu", "LeakyRelu", attribute(alpha=0.011)),
    EmitterFault("ONNX's hard sigmoid", hosts.pointwise, "hard_sigmoid", "HardSigmoid", attribute(alpha=None)),
    EmitterFault("the sides of where", hosts.pointwise, "where", "Where", exchanged(1, 2)),
    EmitterFault("greater read as less", hosts.pointwise, "greater", "Greater", another("Less")),
    EmitterFault("floor for round", hosts.rounded, "round", "Round", another("Floor")),
    EmitterFault("the divisor's sign", hosts.rounded, "fmod", "Mod", attribute(fmod=0)),
    EmitterFault("a mean spelled sum", hosts.reduced, "reduce_mean", "ReduceMean", another("ReduceSum")),
    EmitterFault("no zero point", hosts.quantised, "dequantize", "DequantizeLinear", dropped(2)),
    EmitterFault(
        "branches exchanged",
        hosts.looped,
        "cond",
        "If",
        lambda o, i, a: (o, i, {"then_branch": a["else_branch"], "else_branch": a["then_branch"]}),
    ),
]


def emitter_trials() -> Iterator[tuple[str, Callable[[], Outcome]]]:
    """Each fault with what runs it."""
    for fault in EMITTER_FAULTS:
        yield f"emit {fault.op}: {fault.name}", lambda fault=fault: _trial(fault)


def emitted(graph: Graph) -> Comparison:
    """A graph compared with what the table, as it is now, makes of it, once ONNX's own checker accepts that."""
    model = to_model_proto(graph)
    check(model)
    return compare(graph, GraphRunner(graph, "the graph"), Session(model, optimise=False, graph=graph))


def _trial(fault: EmitterFault) -> Outcome:
    graph = fault.host()
    places = [node.provenance.module for node in graph if node.op.name == fault.op]
    assert target(graph, fault.op) is not None
    with patched(fault.op, fault.writes, fault.change):
        try:
            report = emitted(graph)
        except DragomanError as refusal:
            return Outcome(fault.name, True, any(p in str(refusal) for p in places), str(refusal))
    return judged(fault.name, report, *places)
