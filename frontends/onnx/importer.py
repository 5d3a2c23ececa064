"""From a ModelProto to a graph: inputs with their symbols, weights by name, functions and sub-graphs, outputs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx

from dragoman.frontends.imported import Imported, Limit
from dragoman.frontends.onnx import table
from dragoman.frontends.onnx.context import Context, Refined
from dragoman.frontends.onnx.dtypes import dtype_of_code
from dragoman.frontends.onnx.external import ExternalData
from dragoman.frontends.onnx.interface import InputDims
from dragoman.frontends.onnx.operands import Operand, OptionalTensor, Scope, Tensor, TensorSequence, tensor
from dragoman.frontends.onnx.structure import FunctionKey, check_size, require_text
from dragoman.frontends.onnx.walker import Walker
from dragoman.frontends.refusals import Refusals
from dragoman.ir.errors import Malformed, OverBudget, Unsupported, UsageError
from dragoman.ir.graph import Graph, Value
from dragoman.ir.types import TensorType
from dragoman.ir.weights import Array, ArrayWeight

Held = TensorType | Sequence[TensorType] | Array | None
_MOST_LIMITS = 64
NEWEST = onnx.defs.onnx_opset_version()


def translate(
    model: onnx.ModelProto,
    *,
    folder: Path | None = None,
    types: Mapping[str, TensorType] | None = None,
    dynamic: Mapping[str, Mapping[int, object]] | None = None,
    held: Mapping[str, Held] | None = None,
) -> Imported:
    """Translate a model. `types` are declared by the caller, for inputs that declare less; `dynamic` names dims. `held`
    says what inputs hold that are sequences or optionals: each tensor becomes an input of its own, and so do outputs.
    Given an array for a tensor, the model is made for that value, and the input is gone.

    Raises ImportRefused listing every operator without translation, Malformed, UnsafeInput, OverBudget.
    """
    started = time.perf_counter()
    table.load()
    dims = InputDims(types or {}, dynamic or {})
    while True:  # each turn narrows a symbol that was wider before
        try:
            graph = _Reader(model, folder, dims, held or {}).read()
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

    def __init__(self, model: onnx.ModelProto, folder: Path | None, dims: InputDims, held: Mapping[str, Held]) -> None:
        self._model = model
        self._held = held
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
        given = self._held.get(declared.name)
        if kind == "tensor_type" and given is not None:
            return self._fixed(self._dims.type_of(declared), declared.name, given)
        if kind != "tensor_type":
            return self._holding(declared, (kind or "value without a type").removesuffix("_type"))
        return Tensor.of(self._graph.add_input(self._dims.type_of(declared), declared.name))

    def _fixed(self, type: TensorType, name: str, given: Held) -> Operand:
        """An input that the caller gives a value to: a weight of the model."""
        if not isinstance(given, np.ndarray):
            raise UsageError(f"the input {name!r} is a tensor: an array says what it is")
        fits = len(given.shape) == type.rank and all(
            d == e for d, e in zip(type.shape, given.shape, strict=True) if isinstance(d, int)
        )
        if given.dtype != type.dtype.numpy or not fits:
            raise UsageError(f"the input {name!r} is {type}, not {given.dtype}{list(given.shape)}")
        return Tensor.of(self._graph.add_weight(name, ArrayWeight(given)))

    def _holding(self, declared: onnx.ValueInfoProto, kind: str) -> Operand:
        """A sequence or an optional, of what the caller says that it holds."""
        name = declared.name
        if name not in self._held or kind not in ("sequence", "optional"):
            raise Unsupported(
                f"the input {name!r} is a {kind}, and those of the IR are tensors: how many tensors it holds is known"
                " only when the model runs (`held` says it for the model that is made)"
            )
        inner = declared.type.optional_type.elem_type if kind == "optional" else declared.type
        given = self._held[name]
        if isinstance(given, np.ndarray):
            raise UsageError(f"the input {name!r} is a {kind}: say the types of what it holds")
        found = None if given is None else self._made(name, inner, given)
        if kind == "optional":
            if not isinstance(found, Tensor | TensorSequence | None):
                raise UsageError(f"the input {name!r} is an optional: it holds a tensor, a sequence or nothing")
            return OptionalTensor(found)
        if not isinstance(found, TensorSequence):
            raise UsageError(f"the input {name!r} is a sequence: say the types of its tensors")
        return found

    def _made(self, name: str, proto: onnx.TypeProto, given: TensorType | Sequence[TensorType]) -> Operand:
        is_sequence = proto.WhichOneof("value") == "sequence_type"
        if isinstance(given, TensorType) == is_sequence:
            raise UsageError(f"the input {name!r} holds {'a sequence' if is_sequence else 'one tensor'}")
        listed = [given] if isinstance(given, TensorType) else list(given)
        code = (proto.sequence_type.elem_type if is_sequence else proto).tensor_type.elem_type
        dtype = dtype_of_code(code)
        if any(t.dtype != dtype for t in listed):
            raise UsageError(f"the input {name!r} holds tensors of {dtype}, not {', '.join(map(str, listed))}")
        names = [f"{name}.{i}" for i in range(len(listed))] if is_sequence else [name]
        made = [Tensor.of(self._graph.add_input(t, n)) for t, n in zip(listed, names, strict=True)]
        return TensorSequence(made, dtype) if is_sequence else made[0]

    def _finish(self, outputs: Sequence[Operand]) -> None:
        names = [v.name for v in self._model.graph.output]
        if len(set(names)) != len(names):
            raise Malformed(f"two outputs are named {next(n for n in names if names.count(n) > 1)!r}")
        values: list[Value] = []
        called: list[str] = []
        for declared, output in zip(self._model.graph.output, outputs, strict=True):
            for name, found in self._parts(declared.name, output):
                _check_output(declared, found.type)
                values.append(found.settle(self._context.scope))
                called.append(name)
        self._graph.set_outputs(values, called)

    def _parts(self, name: str, output: Operand) -> list[tuple[str, Tensor]]:
        """What an output holds, each tensor under a name; more than one only where the caller spoke of sequences."""
        if self._held and isinstance(output, OptionalTensor):
            if output.held is None:
                return []
            output = output.held
        if self._held and isinstance(output, TensorSequence):
            return [(f"{name}.{i}", item) for i, item in enumerate(output.items)]
        return [(name, tensor(output, f"the output {name!r}"))]


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
