"""Activations that ONNX has by name. Where it or ONNX Runtime lacks one for a dtype, it is decomposed."""

from __future__ import annotations

from typing import Any

from dragoman.backends.onnx.emitter import Emitter
from dragoman.backends.onnx.table import direct, emits, refuses, requires
from dragoman.ir.graph import Node, Value
from dragoman.ir.op import normal_axis
from dragoman.ir.types import F64


def _alpha(op: Any) -> dict[str, Any]:
    return {"alpha": float(op.alpha)}


direct("relu", "Relu", widen=False)
direct("selu", "Selu", widen=False)
direct("softsign", "Softsign", widen=False)
direct("hard_swish", "HardSwish", widen=False)
direct("mish", "Mish", 18, widen=False)
direct("leaky_relu", "LeakyRelu", widen=False, attributes=_alpha)
direct("elu", "Elu", widen=False, attributes=_alpha)
direct("celu", "Celu", widen=False, attributes=_alpha)
direct("thresholded_relu", "ThresholdedRelu", widen=False, attributes=_alpha)
direct("prelu", "PRelu", widen=False)
direct(
    "hard_sigmoid",
    "HardSigmoid",
    widen=False,
    attributes=lambda op: {"alpha": float(op.alpha), "beta": float(op.beta)},
)
direct("gelu", "Gelu", 20, widen=False, attributes=lambda op: {"approximate": op.approximate})
# ONNX's Shrink gives 0 for NaN, which both shrinks let through: they are decomposed.
refuses("hard_shrink", "ONNX's Shrink loses NaN")
refuses("soft_shrink", "ONNX's Shrink loses NaN")


def _is_plain_softplus(node: Node, opset: int) -> str | None:
    op: Any = node.op
    if op.beta != 1:
        return "ONNX's Softplus has no factor"
    # Beyond 20 log(1 + e^x) is x to within 2e-9: nothing in f32, where it would show in f64.
    exact = op.threshold is None or (op.threshold >= 20 and node.result.type.dtype != F64)
    return None if exact else "ONNX's Softplus has no threshold"


direct("softplus", "Softplus", widen=False, where=_is_plain_softplus)


def _softmax(name: str, op_type: str) -> None:
    @emits(name, where=requires(op_type))
    def emit(e: Emitter, node: Node, x: Value) -> str:
        op: Any = node.op
        return e.op(op_type, x, axis=normal_axis(op.axis, x.type.rank))


_softmax("softmax", "Softmax")
_softmax("log_softmax", "LogSoftmax")
