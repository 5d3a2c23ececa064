"""Small ONNX models in a few words, and what runs them beside us: the reference evaluator of onnx."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from onnx.reference import ReferenceEvaluator

from dragoman.frontends.onnx import import_model
from dragoman.ir.arithmetic import NATIVE
from dragoman.ir.graph import Graph
from dragoman.ir.interpreter import run
from dragoman.ir.verify import verify
from dragoman.passes.manager import run_passes
from dragoman.passes.pipelines import IMPORTED

Type = tuple[Any, Sequence[int | str | None]]
DTYPES = {"f32": 1, "u8": 2, "i8": 3, "i32": 6, "i64": 7, "string": 8, "bool": 9, "f16": 10, "f64": 11}


def info(name: str, text: str) -> onnx.ValueInfoProto:
    """`x`, `f32[batch,3]`."""
    dtype, _, dims = text.rstrip("]").partition("[")
    shape = [int(d) if d.isdigit() else d or None for d in dims.split(",")] if dims else []
    return onnx.helper.make_tensor_value_info(name, DTYPES[dtype], shape)


def node(text: str, **attributes: Any) -> onnx.NodeProto:
    """`y, z = Split(x, sizes)`; an input of `_` is left out."""
    left, _, right = text.partition(" = ")
    operator, _, rest = right.rstrip(")").partition("(")
    domain, _, name = operator.rpartition(".")
    names = ["" if n.strip() == "_" else n.strip() for n in rest.split(",")] if rest else []
    outputs = ["" if n.strip() == "_" else n.strip() for n in left.split(",")]
    return onnx.helper.make_node(name, names, outputs, domain=domain, **attributes)


def graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    weights: Mapping[str, Any] | None = None,
) -> onnx.GraphProto:
    """A graph of nodes; weights are arrays."""
    tensors = [onnx.numpy_helper.from_array(np.asarray(v), n) for n, v in (weights or {}).items()]
    listed = [[info(n, t) for n, t in side.items()] for side in (inputs, outputs)]
    return onnx.helper.make_graph(list(nodes), "g", *listed, tensors)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    weights: Mapping[str, Any] | None = None,
    *,
    opset: int = 21,
    **domains: int,
) -> onnx.ModelProto:
    """A model of a graph."""
    opsets = [onnx.helper.make_opsetid(d.replace("_", "."), v) for d, v in domains.items()]
    made = onnx.helper.make_model(
        graph(nodes, inputs, outputs, weights), opset_imports=[onnx.helper.make_opsetid("", opset), *opsets]
    )
    made.ir_version = 10
    return made


def imported(proto: onnx.ModelProto, **settings: Any) -> Graph:
    """The graph of a model after what every import goes through, as the verifier accepts it."""
    found = import_model(proto, **settings).graph
    verify(found)
    run_passes(found, IMPORTED)
    verify(found)
    return found


def check(proto: onnx.ModelProto, *arrays: Any, rtol: float = 1e-5, expected: Sequence[Any] | None = None) -> Graph:
    """Ours against the reference evaluator on the same inputs; returns the graph."""
    found = imported(proto)
    names = [v.name for v in proto.graph.input]
    wanted = expected or ReferenceEvaluator(proto).run(None, dict(zip(names, arrays, strict=True)))
    got = run(found, *arrays, arithmetic=NATIVE)
    for name, a, b in zip(found.output_names, wanted, got, strict=True):
        assert np.asarray(a).dtype == b.dtype, name
        if np.asarray(a).dtype.kind in "OU":
            assert np.asarray(a).tolist() == b.tolist(), name
        else:
            np.testing.assert_allclose(b, a, rtol=rtol, atol=rtol, err_msg=name)
    return found


def names_of(found: Graph) -> list[str]:
    """The ops of a graph, in order."""
    return [n.op.name for n in found]
