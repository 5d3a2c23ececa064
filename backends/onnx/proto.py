"""A whole model in memory, for small graphs and tests; files are written by `write`, which needs no such copy."""

from __future__ import annotations

import onnx

from dragoman.backends.onnx import types, wire
from dragoman.backends.onnx.emitter import emit
from dragoman.ir.errors import OverBudget
from dragoman.ir.graph import Graph


def to_model_proto(
    graph: Graph,
    *,
    opset: int | None = None,
    value_info: bool | None = None,
    provenance: bool = True,
    contrib: bool = False,
) -> onnx.ModelProto:
    """The model with its weights inside. Raises OverBudget where protobuf cannot hold it; `save` can."""
    emission = emit(graph, opset=opset, value_info=value_info, provenance=provenance, contrib=contrib)
    size = wire.embedded_size(emission)
    if size > wire.LIMIT:
        raise OverBudget(f"the model takes {size:,} bytes, more than a ModelProto holds: save it to a file instead")
    model = emission.skeleton
    for name, weight in emission.weights.items():
        model.graph.initializer.append(types.tensor(name, weight.array(), weight.dtype))
    return model
