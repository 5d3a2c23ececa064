"""From a ModelProto to a graph: inputs with their symbols, weights by name, functions and sub-graphs, outputs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx

from dragoman.frontends.imported import Imported, Limit
from dragoman.frontends.onnx import table
from dragoman.frontends.onnx.context import Context, Refined
from dragoman.frontends.onnx.dtypes import dtype_of_code
from dragoman.frontends.onnx.external import ExternalData
from dragoman.frontends.onnx.interface import InputDims
from dragoman.frontends.onnx.operands import Operand, Scope, Tensor, Unknown, tensor
from dragoman.frontends.onnx.structure import FunctionKey, check_size, require_text
from dragoman.frontends.onnx.walker import Walker
from dragoman.frontends.refusals import Refusals
from dragoman.ir.errors import Malformed, OverBudget, Unsupported
from dragoman.ir.graph import Graph, Value
from dragoman.ir.types import TensorType

_MOST_LIMITS = 64
NEWEST = onnx.defs.onnx_opset_version()


def translate(
    model: onnx.ModelProto,
    *,
    folder: Path | None = None,
    types: Mapping[str, TensorType] | None = None,
    dynamic: Mapping[str, Mapping[int, object]] | None = None,
) -> Imported:
    """Translate a model. `types` are declared by the caller, for inputs that declare less; `dynamic` names dims.

    Raises ImportRefused listing every operator without translation, Malformed, UnsafeInput, OverBudget.
    """
    started = time.perf_counter()
    table.load()
    dims = InputDims(types or {}, dynamic or {})
    while True:  # each turn narrows a symbol that was wider before
        try:
            graph = _Reader(model, folder, dims).read()
            break
        except Refined as refined:
            dims = dims.again()
            dims.limits[refined.name] = (refined.high, refined.where)
            if len(dims.limits) > _MOST_LIMITS:
                raise OverBudget(f"more than {_MOST_LIMITS} dynamic dimensions have limits within the model") from None
    limits = tuple(Limit(dims.symbols[name], where) for name, (_, where) in dims.limits.items())
    return Imported(graph, seconds={"translate": time.perf_counter() - started}, limits=limits)


class _Reader:
    """One translation: declares inputs and weights, walks, names the outputs."""

    def __init__(self, model: onnx.ModelProto, folder: Path | None, dims: InputDims) -> None:
        self._model = model
        self._dims = dims
        self._graph = Graph(model.graph.name)
        self._opsets = _opsets(model)
        self._functions = _functions(model)
        self._context = Context(Scope(self._graph), ExternalData(folder), dims.symbols)
        self._refusals = Refusals("onnx")

    def read(self) -> Graph:
        """Walk the model."""
        check_size(self._model, self._functions)
        proto = self._model.graph
        require_text(proto.name, *(v.name for v in (*proto.input, *proto.output)), *(t.name for t in proto.initializer))
        require_text(*(d.dim_param for v in proto.input for d in v.type.tensor_type.shape.dim))
        weights = {t.name for t in proto.initializer} | {t.values.name for t in proto.sparse_initializer}
        inputs: dict[str, Operand] = {}
        self._dims.check_names([v.name for v in proto.input if v.name not in weights])
        self._dims.meet({d.dim_param for v in proto.input for d in v.type.tensor_type.shape.dim})
        for declared in proto.input:
            if declared.name in inputs:
                raise Malformed(f"two inputs are named {declared.name!r}")
            if declared.name not in weights:  # an initializer that is listed as an input is its default value
                inputs[declared.name] = self._input(declared)
        walker = Walker(self._context, self._functions, self._opsets, self._refusals)
        outputs = walker.main(proto, inputs)
        self._refusals.raise_if_any()
        self._finish(outputs)
        producer = f"{self._model.producer_name} {self._model.producer_version}".strip()
        self._graph.metadata["framework"] = f"ONNX opset {self._opsets.get('', 0)}" + (
            f", written by {producer}" if producer else ""
        )
        return self._graph

    def _input(self, declared: onnx.ValueInfoProto) -> Operand:
        kind = declared.type.WhichOneof("value")
        if kind != "tensor_type":
            raise Unsupported(
                f"the input {declared.name!r} is a {(kind or 'value without a type').removesuffix('_type')}, and those"
                " of the IR are tensors: how many tensors it holds is known only when the model runs"
            )
        return Tensor.of(self._graph.add_input(self._dims.type_of(declared), declared.name))

    def _finish(self, outputs: Sequence[Operand]) -> None:
        names = [v.name for v in self._model.graph.output]
        if len(set(names)) != len(names):
            raise Malformed(f"two outputs are named {next(n for n in names if names.count(n) > 1)!r}")
        values: list[Value] = []
        for declared, output in zip(self._model.graph.output, outputs, strict=True):
            assert not isinstance(output, Unknown)
            found = tensor(output, f"the output {declared.name!r}")
            _check_output(declared, found.type)
            values.append(found.settle(self._context.scope))
        self._graph.set_outputs(values, names)


def _check_output(declared: onnx.ValueInfoProto, type: TensorType) -> None:
    """Raise Malformed where an output is not what the model says of it."""
    if declared.type.WhichOneof("value") != "tensor_type":
        return
    tensor_type = declared.type.tensor_type
    if tensor_type.elem_type and dtype_of_code(tensor_type.elem_type) != type.dtype:
        said = dtype_of_code(tensor_type.elem_type)
        raise Malformed(f"the output {declared.name!r} is declared as {said}, its node gives {type}")


def _opsets(model: onnx.ModelProto) -> dict[str, int]:
    found: dict[str, int] = {}
    for opset in model.opset_import:
        domain = "" if opset.domain == "ai.onnx" else opset.domain
        found[domain] = max(found.get(domain, 0), int(opset.version))
    version = found.get("", 0)
    if version > NEWEST:
        raise Unsupported(
            f"the model is of ONNX opset {version}; the installed onnx {onnx.__version__} knows those up to {NEWEST}:"
            " pip install --upgrade onnx"
        )
    if "" in found and version < 1:
        raise Malformed(f"the model says that its ONNX opset is {version}")
    return found


def _functions(model: onnx.ModelProto) -> dict[FunctionKey, onnx.FunctionProto]:
    found: dict[FunctionKey, onnx.FunctionProto] = {}
    for function in model.functions:
        key = ("" if function.domain == "ai.onnx" else function.domain, function.name, function.overload)
        if key in found:
            raise Malformed(f"the function {function.name!r} is defined twice")
        found[key] = function
    return found
