"""Attributes of ONNX nodes from Python values, without the costly checks of `onnx.helper`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx

_A = onnx.AttributeProto


def set_attribute(target: onnx.AttributeProto, value: Any) -> None:
    """Fill an attribute: int, float, str, tensor, graph, or a sequence of ints, floats or strings.

    An empty sequence is one of ints. Raises TypeError for anything else.
    """
    if isinstance(value, (bool, int)):
        target.type, target.i = _A.INT, int(value)
    elif isinstance(value, float):
        target.type, target.f = _A.FLOAT, value
    elif isinstance(value, str):
        target.type, target.s = _A.STRING, value.encode()
    elif isinstance(value, onnx.GraphProto):
        target.type = _A.GRAPH
        target.g.CopyFrom(value)
    elif isinstance(value, onnx.TensorProto):
        target.type = _A.TENSOR
        target.t.CopyFrom(value)
    elif isinstance(value, Sequence):
        _set_sequence(target, list(value))
    else:
        raise TypeError(f"an ONNX attribute cannot be {value!r}")


def _set_sequence(target: onnx.AttributeProto, values: list[Any]) -> None:
    if all(isinstance(v, str) for v in values) and values:
        target.type = _A.STRINGS
        target.strings.extend(v.encode() for v in values)
    elif any(isinstance(v, float) for v in values):
        target.type = _A.FLOATS
        target.floats.extend(values)
    else:
        target.type = _A.INTS
        target.ints.extend(int(v) for v in values)
