"""An ONNX model with its bf16 numbers in f32: what lets a runtime without bf16 kernels run a written file.

Structure, names and weights are the file's; a bf16 weight is the same number in f32, and nothing is rounded between
nodes, as ONNX Runtime's CPU provider does with f16 as well. Interfaces in bf16 would change and are refused.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper

from dragoman.backends.onnx import types
from dragoman.backends.onnx.emitter import Emission
from dragoman.ir.errors import UsageError
from dragoman.ir.types import BF16, F32
from dragoman.ir.weights import ArrayWeight, Weight

_NARROW, _WIDE = types.code(BF16), types.code(F32)
_DTYPE_ATTRIBUTES = ("to", "dtype", "output_dtype")  # attributes of ONNX operators that hold an element type


def widened(path: Path) -> Emission:
    """The model in a file with bf16 as f32. Holds all of its weights. Raises UsageError for an interface in bf16."""
    proto = onnx.load(str(path), load_external_data=False)
    interface = (*proto.graph.input, *proto.graph.output)
    if any(v.type.tensor_type.elem_type == _NARROW for v in interface):
        raise UsageError(f"{path} has inputs or outputs in bf16, which are not widened")
    weights: dict[str, Weight] = {}
    for tensor in proto.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor, str(path.parent))
        weights[tensor.name] = ArrayWeight(values.astype(np.float32) if tensor.data_type == _NARROW else values)
    del proto.graph.initializer[:]
    stack = [proto.graph]
    while stack:
        graph = stack.pop()
        for value in graph.value_info:
            if value.type.tensor_type.elem_type == _NARROW:
                value.type.tensor_type.elem_type = _WIDE
        for tensor in graph.initializer:
            _widen(tensor)
        stack.extend(_widen_attributes(graph))
    return Emission(proto, weights)


def _widen_attributes(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    """Widen what attributes of the nodes hold; returns the graphs among them, with their outputs widened."""
    graphs: list[onnx.GraphProto] = []
    for attribute in (a for node in graph.node for a in node.attribute):
        if attribute.name in _DTYPE_ATTRIBUTES and attribute.i == _NARROW:
            attribute.i = _WIDE
        if attribute.HasField("t"):
            _widen(attribute.t)
        graphs.extend(attribute.graphs)
        if attribute.HasField("g"):
            graphs.append(attribute.g)
    for inner in graphs:
        for value in (*inner.input, *inner.output):
            if value.type.tensor_type.elem_type == _NARROW:
                value.type.tensor_type.elem_type = _WIDE
    return graphs


def _widen(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == _NARROW:
        values = onnx.numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
