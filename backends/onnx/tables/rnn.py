"""Recurrent layers in ONNX: LSTM, GRU and RNN. Their gates come in another order; constant weights are reordered when
written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dragoman.backends.onnx import types
from dragoman.backends.onnx.emitter import Emitter
from dragoman.backends.onnx.table import Where, all_of, emits
from dragoman.ir.dims import bounds
from dragoman.ir.graph import Node, Value
from dragoman.ir.types import F64, I32
from dragoman.ir.weights import Array


def _takes(op_type: str) -> Where:
    def where(node: Node, opset: int) -> str | None:
        x, w, r, *_ = node.operands
        assert x is not None
        assert w is not None
        assert r is not None
        if bounds(x.type.shape[0])[0] <= 0:
            return "ONNX Runtime leaves the states undefined where there is no step"
        if x.type.dtype == F64:
            return f"ONNX Runtime has no {op_type} on f64"
        if not all(isinstance(d, int) for d in (*w.type.shape, *r.type.shape)):
            return "the extents of the weights must be known"
        return types.objection(op_type, opset, (x.type.dtype,))

    return where


def _keeps_faint_states(node: Node, opset: int) -> str | None:
    op: Any = node.op
    bias = node.operands[3] if len(node.operands) > 3 else None
    if op.activation != "tanh" or (bias is not None and (bias.weight is None or np.any(bias.weight.array()))):
        return None
    return "ONNX Runtime's RNN rounds tanh to 1e-7 however small its operand: without a bias all states may be faint"


def _rows(order: Sequence[int]) -> Callable[[Array], Array]:
    """A function that puts the blocks of axis 1 in another order."""

    def reorder(a: Array) -> Array:
        blocks = np.split(a, len(order), axis=1)
        return np.concatenate([blocks[i] for i in order], axis=1)

    return reorder


def _reordered(e: Emitter, value: Value, order: Sequence[int], label: str) -> Value | str:
    if list(order) == sorted(order):
        return value
    if e.weight(value) is not None:
        return e.derived([value], label, tuple(int(d) for d in value.type.shape), _rows(order))
    size = int(value.type.shape[1]) // len(order)
    blocks = e.ops("Split", [value, e.i64([size] * len(order))], len(order), axis=1)
    return e.op("Concat", *(blocks[i] for i in order), axis=1)


def _biases(
    e: Emitter, w: Value, order: Sequence[int], label: str, first: Value | None, second: Value | None
) -> Value | str | None:
    """ONNX's B [d, 2·gates·h]: the biases of the input and of the state, zeros for one that is missing."""
    given = [v for v in (first, second) if v is not None]
    if not given:
        return None
    count, rows = (int(d) for d in w.type.shape[:2])
    if all(e.weight(v) is not None for v in given):

        def joined(*arrays: Array) -> Array:
            parts = [_rows(order)(a) for a in arrays]
            zeros = np.zeros((count, rows), parts[0].dtype)
            return np.concatenate(parts if len(parts) == 2 else [parts[0], zeros][:: 1 if first else -1], axis=1)

        return e.derived(given, f"{label}2", (count, 2 * rows), joined)
    zeros = e.constant(np.zeros((count, rows)).astype(w.type.dtype.numpy), w.type.dtype)
    halves = [zeros if v is None else _reordered(e, v, order, label) for v in (first, second)]
    return e.op("Concat", *halves, axis=1)


def _layer(
    e: Emitter,
    op_type: str,
    node: Node,
    order: Sequence[int],
    label: str,
    operands: Sequence[Value | str | None],
    lengths: Value | None,
    states: int,
    **attributes: Any,
) -> list[str | Value]:
    op: Any = node.op
    x, w, r, bias, *initial = operands
    assert isinstance(w, Value)
    assert isinstance(r, Value)
    count, hidden = int(w.type.shape[0]), int(r.type.shape[2])
    sizes = None if lengths is None else e.cast(lengths, I32)
    given = [x, _reordered(e, w, order, label), _reordered(e, r, order, label), bias, sizes, *initial]
    y, *last = e.ops(op_type, given, 1 + states, hidden_size=hidden, direction=op.direction, **attributes)
    # [t, d, b, h] to [t, b, d·h]
    if count == 1:
        return [e.op("Squeeze", y, e.i64([1])), *last]
    together = e.op("Transpose", y, perm=[0, 2, 1, 3])
    return [e.op("Reshape", together, e.i64([0, 0, count * hidden])), *last]


@emits("lstm", where=_takes("LSTM"))
def lstm(e: Emitter, node: Node, x: Value, w: Value, r: Value, *rest: Value | None) -> list[str | Value]:
    """LSTM; i, f, g, o become i, o, f, c."""
    bias, h0, c0, lengths = (*rest, *[None] * 4)[:4]
    order = (0, 3, 1, 2)
    both = _biases(e, w, order, "iofc", bias, None)
    return _layer(e, "LSTM", node, order, "iofc", (x, w, r, both, h0, c0), lengths, 2)


@emits("gru", where=_takes("GRU"))
def gru(e: Emitter, node: Node, x: Value, w: Value, r: Value, *rest: Value | None) -> list[str | Value]:
    """GRU; r, z, n become z, r, h."""
    op: Any = node.op
    bias_w, bias_r, h0, lengths = (*rest, *[None] * 4)[:4]
    order = (1, 0, 2)
    both = _biases(e, w, order, "zrh", bias_w, bias_r)
    flag = int(op.reset_after)
    return _layer(e, "GRU", node, order, "zrh", (x, w, r, both, h0), lengths, 1, linear_before_reset=flag)


@emits("rnn", where=all_of(_takes("RNN"), _keeps_faint_states))
def rnn(e: Emitter, node: Node, x: Value, w: Value, r: Value, *rest: Value | None) -> list[str | Value]:
    """RNN."""
    op: Any = node.op
    bias, h0, lengths = (*rest, *[None] * 3)[:3]
    both = _biases(e, w, (0,), "b", bias, None)
    names = [op.activation.capitalize()] * int(w.type.shape[0])
    return _layer(e, "RNN", node, (0,), "b", (x, w, r, both, h0), lengths, 1, activations=names)
