"""What an ONNX model holds as it stands, before anything of it is translated: for `inspect`, and where that refuses."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import onnx

_NAMES = {number: name for name, number in onnx.TensorProto.DataType.items()}


@dataclass(frozen=True)
class Contents:
    """Opsets by domain, operators by count with those of sub-graphs and function bodies, interfaces and weights.

    `elements` counts those of initializers as their dims say; nothing of them is read.
    """

    producer: str
    opsets: dict[str, int]
    operators: dict[str, int]
    functions: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dynamic: tuple[str, ...]
    weights: int
    elements: int
    external: tuple[str, ...]


def contents(model: onnx.ModelProto) -> Contents:
    """Read off the protos, iteratively: depth is no matter."""
    graph = model.graph
    counted: Counter[str] = Counter()
    tensors: list[onnx.TensorProto] = []
    stack: list[onnx.GraphProto | onnx.FunctionProto] = [graph, *model.functions]
    while stack:
        current = stack.pop()
        if isinstance(current, onnx.GraphProto):
            tensors += [*current.initializer, *(s.values for s in current.sparse_initializer)]
        for node in current.node:
            counted[node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"] += 1
            for attribute in node.attribute:
                stack += [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]
    held = {t.name for t in graph.initializer}
    inputs = [v for v in graph.input if v.name not in held]
    places = {e.value for t in tensors if t.data_location == t.EXTERNAL for e in t.external_data if e.key == "location"}
    return Contents(
        f"{model.producer_name} {model.producer_version}".strip(),
        {o.domain or "ai.onnx": int(o.version) for o in model.opset_import},
        dict(counted.most_common()),
        len(model.functions),
        tuple(_declared(v) for v in inputs),
        tuple(_declared(v) for v in graph.output),
        tuple(_symbols(inputs)),
        len(tensors),
        sum(max(math.prod(t.dims), 0) for t in tensors),
        tuple(sorted(places)),
    )


def _declared(value: onnx.ValueInfoProto) -> str:
    """`x: FLOAT[n,3]`, or the kind of what is no tensor."""
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return f"{value.name}: {(kind or 'untyped').removesuffix('_type')}"
    tensor = value.type.tensor_type
    name = _NAMES.get(tensor.elem_type, str(tensor.elem_type))
    if not tensor.HasField("shape"):
        return f"{value.name}: {name}, of any shape"
    return f"{value.name}: {name}[{','.join(_dim(d) for d in tensor.shape.dim)}]"


def _dim(dim: onnx.TensorShapeProto.Dimension) -> str:
    return str(dim.dim_value) if dim.HasField("dim_value") else dim.dim_param or "?"


def _symbols(values: list[onnx.ValueInfoProto]) -> dict[str, None]:
    """Dims of the inputs that are no numbers, each once."""
    dims = [(v.name, axis, d) for v in values for axis, d in enumerate(v.type.tensor_type.shape.dim)]
    return {d.dim_param or f"axis {axis} of {name}": None for name, axis, d in dims if not d.HasField("dim_value")}
