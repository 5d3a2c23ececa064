"""Running an emitted model and judging its numbers.

The rule is that of proof B (`dragoman.ir.local`): an output may be off from float64 by twice (half precision: three
times) what our own node-by-node run in the declared precision is off, by 8 units of rounding of the largest element,
or by what shaking every operand and result by 8 units does, whichever is more. Everything else must be equal. Ops that
compute places to read at do so in the declared precision too: there, 8 units for each element of the longest axis.
Where ONNX Runtime has no kernel, ONNX's reference runs instead, whose f64 is f32 in places: the unit is that of f32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from dragoman.backends.onnx import Session
from dragoman.ir.arithmetic import NATIVE
from dragoman.ir.errors import UsageError
from dragoman.ir.graph import Graph
from dragoman.ir.interpreter import Interpreter, run
from dragoman.ir.local import finite_error, rounding_unit, special_values_differ, tolerance_factor
from dragoman.ir.noise import noisy_outputs, spread
from dragoman.ir.types import BF16, F32, F64, DType, dtype_of

ONNX_VERSION = tuple(int(part) for part in onnx.__version__.split(".")[:2])
SLACK = 8  # units of rounding
NO_KERNEL = "Could not find an implementation"


def disagreement(graph: Graph, inputs: Sequence[Any], outputs: Sequence[Any], *, coarse: bool = False) -> str:
    """What is wrong with the outputs of a model emitted from the graph; empty if nothing is. `coarse`: f64 is f32."""
    exact = [np.asarray(x) for x in run(graph, *inputs)]
    moved: dict[float, list[Any]] = {}
    slack = SLACK * (1 + max((max(x.shape, default=0) for x in inputs), default=0) if _computes_places(graph) else 1)
    for index, (value, x, y) in enumerate(zip(graph.outputs, exact, outputs, strict=True)):
        dtype = value.type.dtype
        if x.shape != y.shape or dtype_of(y) != dtype:
            return f"output {index} is {dtype_of(y)}{list(y.shape)}, not {dtype}{list(x.shape)}"
        if not dtype.is_inexact:
            if not np.array_equal(x, y):
                return f"output {index} is {y}, not {x}"
            continue
        unit = slack * (max(rounding_unit(F32), rounding_unit(dtype)) if coarse else rounding_unit(dtype))
        if unit not in moved:
            draws = [[np.asarray(r) for r in draw] for draw in noisy_outputs(graph, inputs, unit)]
            moved[unit] = spread(exact, draws)
        reason = _too_far(x, y, _native(graph, inputs, index), dtype, unit, moved[unit][index])
        if reason:
            return f"output {index}: {reason}"
    return ""


def _computes_places(graph: Graph) -> bool:
    return any(node.op.name in ("resize", "grid_sample", "deform_conv") for node in graph)


def _native(graph: Graph, inputs: Sequence[Any], index: int) -> Any:
    return np.asarray(Interpreter(graph, NATIVE).run(inputs)[index]).astype(np.float64)


def _too_far(exact: Any, y: Any, native: Any, dtype: DType, unit: float, moved: Any) -> str:
    wide = y.astype(np.float64)
    reason = special_values_differ(exact, wide)
    if reason or not exact.size:
        return reason
    error = float(finite_error(exact, wide).max())
    own = float(finite_error(exact, native).max())
    size = float(np.where(np.isfinite(exact), np.abs(exact), 0).max())
    allowed = max(tolerance_factor(dtype) * own, unit * size, float(np.max(moved)))
    return f"off by {error:.3g} where {allowed:.3g} is allowed; {y} instead of {exact}" if error > allowed else ""


def evaluate(model: onnx.ModelProto, inputs: Sequence[Any], *, optimise: bool = False) -> tuple[list[Any], bool]:
    """The outputs, and whether ONNX Runtime gave them; ONNX's reference does where that has no kernel."""
    try:
        session = Session(model, optimise=optimise, threads=1)
    except UsageError as error:
        if NO_KERNEL not in str(error):
            raise
        names = [i.name for i in model.graph.input]
        results = ReferenceEvaluator(model).run(None, dict(zip(names, inputs, strict=True)))
        return [np.asarray(r) for r in results], False
    return session.run(inputs), True


FLOATS_ONLY_IN_F32 = frozenset(
    {"atan2", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "erf", "gelu"}
    | {"conv", "conv_transpose", "avg_pool", "resize", "grid_sample", "deform_conv"}
)


def without_kernel(graph: Graph, opset: int) -> str:
    """Why ONNX Runtime on CPU cannot run the one op of a graph that is valid ONNX; empty if it should."""
    op = next(iter(graph)).op.name
    dtypes = {v.type.dtype for v in (*graph.inputs, *graph.outputs)}
    if BF16 in dtypes:
        return "next to no operator has a kernel for bf16"
    if F64 in dtypes and op in FLOATS_ONLY_IN_F32:
        return "the operator, or one it is made of, has a kernel for f32 only"
    if F64 in dtypes and op == "float_from_bits":
        return "it has no Where over u64"
    if opset >= 22 and op == "roi_align":
        return "it has no kernel of opset 22 for this"
    if opset >= 28 and op in ("quantize", "dequantize"):
        return "it has no kernels of opset 28 for these yet"
    return ""


def unwitnessed(graph: Graph, opset: int) -> str:
    """Why nobody can tell the value of a sample for which ONNX Runtime has no kernel; empty if somebody can."""
    op: Any = next(iter(graph)).op
    if graph.inputs and graph.inputs[0].type.dtype == F64:
        if op.name == "conv_transpose" and op.groups > 1:
            return "ONNX's reference fails on groups: it reshapes as if there were one"
        if (op.name == "grid_sample" and opset < 20) or (op.name == "deform_conv" and opset < 19):
            return "ONNX's reference does not know the modes by their names before opset 20"
    if op.name == "linear" and graph.inputs[0].type.dtype == BF16 and ONNX_VERSION < (1, 23):
        return "the reference of older onnx gives f32 for a product of bf16, and refuses that itself"
    if op.name == "resize" and op.coordinates == "half_pixel_symmetric" and not graph.inputs[0].type.is_static:
        return "a place lies exactly between two elements, and ONNX Runtime computes it in f32"
    return ""
