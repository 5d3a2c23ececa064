"""Normalisations that ONNX has whole. Where ONNX demands a scale or bias that is missing, ones or zeros stand in."""

from __future__ import annotations

from typing import Any

import numpy as np

from dragoman.backends.onnx.emitter import Emitter
from dragoman.backends.onnx.table import Where, all_of, emits, requires
from dragoman.backends.onnx.tables.reduce import reduced
from dragoman.backends.onnx.tables.shape import reshaped
from dragoman.ir.dims import Dim, product
from dragoman.ir.graph import Node, Value
from dragoman.ir.op import normal_axis
from dragoman.ir.types import F16, F32, DType


def _operand(node: Node, index: int) -> Value | None:
    return node.operands[index] if index < len(node.operands) else None


def _input(node: Node) -> Value:
    x = node.operands[0]
    assert x is not None
    return x


def filled(e: Emitter, number: float, shape: tuple[Dim, ...], dtype: DType) -> str:
    """A constant tensor of one number; the extents are known."""
    return e.constant(np.full([int(d) for d in shape], number).astype(dtype.numpy), dtype)


def _channels_second(node: Node, opset: int) -> str | None:
    op: Any = node.op
    return None if normal_axis(op.axis, _input(node).type.rank) == 1 else "ONNX wants the channels at axis 1"


def _known(what: str, axis: int, until: int | None) -> Where:
    """Accept a node whose `what` operands, where they are left out, have extents that are numbers."""

    def where(node: Node, opset: int) -> str | None:
        op: Any = node.op
        x = _input(node).type
        given = all(_operand(node, i) is not None for i in range(1, 1 + (2 if until else 1)))
        wanted = x.shape[axis:until] if until else x.shape[normal_axis(op.axis, x.rank) :]
        return None if given or all(isinstance(d, int) for d in wanted) else f"{what} of a dynamic extent"

    return where


def _single_precision(node: Node, opset: int) -> str | None:
    # ONNX keeps epsilon in f32, and LayerNormalization its statistics too (stash_type): f64 would lose half its digits.
    dtype = _input(node).type.dtype
    return None if dtype.bits <= F32.bits else "ONNX keeps epsilon in f32"


@emits("batch_norm", where=all_of(_channels_second, _single_precision, requires("BatchNormalization")))
def batch_norm(e: Emitter, node: Node, *operands: Value) -> str:
    """BatchNormalization for inference."""
    op: Any = node.op
    return e.op("BatchNormalization", *operands, epsilon=float(op.epsilon))


def _layer_norm(node: Node, opset: int) -> str | None:
    return _single_precision(node, opset) or requires("LayerNormalization")(node, opset)


@emits("layer_norm", where=all_of(_layer_norm, _known("a scale", 0, None)))
def layer_norm(e: Emitter, node: Node, x: Value, scale: Value | None = None, bias: Value | None = None) -> str:
    """LayerNormalization."""
    op: Any = node.op
    axis = normal_axis(op.axis, x.type.rank)
    ones: Value | str = scale if scale is not None else filled(e, 1.0, x.type.shape[axis:], x.type.dtype)
    return e.op("LayerNormalization", x, ones, bias, axis=axis, epsilon=float(op.epsilon))


def _rms_norm(node: Node, opset: int) -> str | None:
    return _single_precision(node, opset) or requires("RMSNormalization")(node, opset)


@emits("rms_norm", since=23, where=all_of(_rms_norm, _known("a scale", 0, None)))
def rms_norm(e: Emitter, node: Node, x: Value, scale: Value | None = None) -> str:
    """RMSNormalization."""
    op: Any = node.op
    axis = normal_axis(op.axis, x.type.rank)
    ones: Value | str = scale if scale is not None else filled(e, 1.0, x.type.shape[axis:], x.type.dtype)
    return e.op("RMSNormalization", x, ones, axis=axis, epsilon=float(op.epsilon))


def _plain_scale(node: Node, opset: int) -> str | None:
    op: Any = node.op
    x, scale = _input(node), _operand(node, 1)
    if scale is None or normal_axis(op.axis, x.type.rank) != x.type.rank - 1:
        return "ONNX Runtime fuses an RMS norm over the last axis, with a scale"
    return None if x.type.dtype == F32 else "its square is computed in f32"


@emits("rms_norm", where=_plain_scale)
def spelled_rms_norm(e: Emitter, node: Node, x: Value, scale: Value) -> str:
    """In the one spelling that ONNX Runtime makes a single kernel of: a power of 2, a quotient, the scale last."""
    op: Any = node.op
    dtype = x.type.dtype
    mean = reduced(e, "ReduceMean", e.op("Pow", x, e.scalar(2.0, dtype)), (x.type.rank - 1,), True)
    root = e.op("Sqrt", e.op("Add", mean, e.scalar(float(op.epsilon), dtype)))
    return e.op("Mul", e.op("Div", x, root), scale)


def _per_channel(e: Emitter, x: Value, scale: Value | None, bias: Value | None) -> tuple[Value | str, Value | str]:
    channels = (x.type.shape[1],)
    ones: Value | str = scale if scale is not None else filled(e, 1.0, channels, x.type.dtype)
    zeros: Value | str = bias if bias is not None else filled(e, 0.0, channels, x.type.dtype)
    return ones, zeros


def _is_image(node: Node, opset: int) -> str | None:
    return None if _input(node).type.rank >= 3 else "ONNX wants spatial axes"


def _half_or_single(node: Node, opset: int) -> str | None:
    dtype = _input(node).type.dtype
    return None if dtype in (F16, F32) else f"ONNX Runtime has no InstanceNormalization on {dtype}"


@emits(
    "instance_norm",
    where=all_of(
        _channels_second, _is_image, _known("scale and bias", 1, 2), _half_or_single, requires("InstanceNormalization")
    ),
)
def instance_norm(e: Emitter, node: Node, x: Value, scale: Value | None = None, bias: Value | None = None) -> str:
    """InstanceNormalization."""
    op: Any = node.op
    return e.op("InstanceNormalization", x, *_per_channel(e, x, scale, bias), epsilon=float(op.epsilon))


@emits("group_norm", where=all_of(_channels_second, _half_or_single, requires("InstanceNormalization")))
def group_norm(e: Emitter, node: Node, x: Value, scale: Value | None = None, bias: Value | None = None) -> str | Value:
    """InstanceNormalization over the groups, then scale and bias per channel.

    GroupNormalization exists from opset 21 on, but ONNX Runtime 1.32 expands it into 20 nodes: 0.44 ms where this takes
    0.21 ms and the plain decomposition 0.33 ms (2×128×32², 32 groups, one thread; 60, 24 and 29 ms at 2×320×64²).
    """
    op: Any = node.op
    batch, *rest = x.type.shape
    dtype, grouped = x.type.dtype, (batch, op.groups, product(rest) // op.groups)
    y: Value | str = reshaped(e, x, x.type.shape, grouped)
    ones, zeros = (filled(e, number, (op.groups,), dtype) for number in (1.0, 0.0))
    y = reshaped(e, e.op("InstanceNormalization", y, ones, zeros, epsilon=float(op.epsilon)), grouped, x.type.shape)
    for op_type, parameter in (("Mul", scale), ("Add", bias)):
        if parameter is not None:
            spread = e.op("Unsqueeze", parameter, e.i64(range(1, x.type.rank - 1))) if x.type.rank > 2 else parameter
            y = e.op(op_type, y, spread)
    return y
