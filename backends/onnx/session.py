"""Running an ONNX model in ONNX Runtime with NumPy arrays in and out, every element type included.

Telemetry is off. Without the optimiser for correctness, with it for speed. Refuses double precision: an ONNX model
computes in the types it declares.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from dragoman.backends.onnx import types
from dragoman.backends.onnx.emitter import Emission, emit
from dragoman.backends.onnx.wire import Placement, head
from dragoman.ir.errors import Malformed, UsageError
from dragoman.ir.graph import Graph, Value
from dragoman.ir.types import (
    BF16,
    F4E2M1,
    F8E4M3FN,
    F8E4M3FNUZ,
    F8E5M2,
    F8E5M2FNUZ,
    F8E8M0,
    I2,
    I4,
    U2,
    U4,
    DType,
)
from dragoman.ir.weights import Array, Weight, pack_small, unpack_small

_STRINGS = "tensor(string)"
# Element types that NumPy gives no name to travel as bytes; ONNX Runtime's names for them, and ours.
_AS_BYTES: dict[str, DType] = {
    "tensor(bfloat16)": BF16,
    "tensor(float8e4m3fn)": F8E4M3FN,
    "tensor(float8e5m2)": F8E5M2,
    "tensor(float8e4m3fnuz)": F8E4M3FNUZ,
    "tensor(float8e5m2fnuz)": F8E5M2FNUZ,
    "tensor(float8e8m0)": F8E8M0,
    "tensor(float4e2m1)": F4E2M1,
    "tensor(uint2)": U2,
    "tensor(int2)": I2,
} | {"tensor(uint4)": U4, "tensor(int4)": I4}


def runtime() -> Any:
    """The onnxruntime module, imported with its telemetry off."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    return onnxruntime


class Session:
    """A model in ONNX Runtime on the CPU: a file, a ModelProto, or an emission, whose weights need no file.

    `graph` is the graph that was emitted: with it, the values inside the model can be probed.
    """

    def __init__(
        self,
        model: str | Path | onnx.ModelProto | Emission,
        *,
        optimise: bool = True,
        threads: int | None = None,
        graph: Graph | None = None,
    ) -> None:
        ort = runtime()
        self._model = Path(model) if isinstance(model, str) else model
        self._optimise, self._threads = optimise, threads
        self._graph = graph
        self._lent: list[Any] = []  # memory of weights that the runtime may look at
        self._probes: dict[tuple[str, ...], Any] = {}
        self._session = self._opened(self._source())
        self._inputs = self._session.get_inputs()
        self.name = f"ONNX Runtime {ort.__version__}, optimiser {'on' if optimise else 'off'}"
        self.input_names: tuple[str, ...] = tuple(i.name for i in self._inputs)
        self.output_names: tuple[str, ...] = tuple(o.name for o in self._session.get_outputs())

    def run(self, inputs: Sequence[Array], double: bool = False) -> list[Array]:
        """The outputs for inputs in order. Raises UsageError for `double`, a wrong number of inputs, a failed run."""
        return self._run(self._session, inputs, double)

    # ---- values inside ---------------------------------------------------------------------------------------

    @property
    def graph(self) -> Graph:
        """The graph whose values can be probed. Raises UsageError if none was given."""
        if self._graph is None:
            raise UsageError("this session was not told which graph its model was emitted from")
        return self._graph

    def probe(self, inputs: Sequence[Array], values: Sequence[Value], double: bool = False) -> Mapping[Value, Array]:
        """What these values of the graph are in a run; those without a place of their own in the model are left out."""
        proto = self._source()
        proto = onnx.load(str(proto), load_external_data=False) if isinstance(proto, Path) else proto
        names = emit(self.graph, opset=proto.opset_import[0].version, contrib=len(proto.opset_import) > 1).names
        produced = {name for node in proto.graph.node for name in node.output}
        told = {v: names[v] for v in values if names.get(v) in produced}
        wanted = tuple(dict.fromkeys(told.values()))
        session = self._probes.get(wanted)
        if session is None:
            extended = onnx.ModelProto()
            extended.CopyFrom(proto)
            present = {o.name for o in extended.graph.output}
            for name in wanted:
                if name not in present:
                    extended.graph.output.add(name=name)
            session = self._probes[wanted] = self._opened(extended)
        order = [o.name for o in session.get_outputs()]
        found = dict(zip(order, self._run(session, inputs, double), strict=True))
        return {value: found[name] for value, name in told.items()}

    # ---- how -------------------------------------------------------------------------------------------------

    def _source(self) -> Path | onnx.ModelProto:
        """The model as a file or as a proto; the weights of an emission are named in it, and lent by `_opened`."""
        if not isinstance(self._model, Emission):
            return self._model
        proto = onnx.ModelProto()
        proto.CopyFrom(self._model.skeleton)
        for name, weight in self._model.weights.items():
            if _is_lent(weight):
                place = Placement("lent", 0, weight.nbytes)
                proto.graph.initializer.append(onnx.TensorProto.FromString(head(name, weight, place)))
            else:
                proto.graph.initializer.append(types.tensor(name, weight.array(), weight.dtype))
        return proto

    def _opened(self, model: Path | onnx.ModelProto) -> Any:
        ort = runtime()
        options = ort.SessionOptions()
        level = ort.GraphOptimizationLevel
        options.graph_optimization_level = level.ORT_ENABLE_ALL if self._optimise else level.ORT_DISABLE_ALL
        options.log_severity_level = 4
        if self._threads is not None:
            options.intra_op_num_threads = self._threads
        if isinstance(self._model, Emission):
            self._lend(options, self._model)
        elif isinstance(self._model, Path):
            options.add_session_config_entry(
                "session.model_external_initializers_file_folder_path", str(self._model.parent.absolute())
            )
        given = str(model) if isinstance(model, Path) else model.SerializeToString()
        try:
            return ort.InferenceSession(given, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            if isinstance(model, Path) and type(error).__name__ in _BROKEN:
                raise Malformed(f"{model} is no valid ONNX model; write or fetch it again: {error}") from error
            raise UsageError(f"ONNX Runtime does not take the model: {error}") from error

    def _lend(self, options: Any, emission: Emission) -> None:
        lent = {n: w for n, w in emission.weights.items() if _is_lent(w)}
        if not self._lent:
            self._lent = [_ort_value(np.asarray(w.array(), order="C"), w.dtype) for w in lent.values()]
        if lent:
            options.add_external_initializers(list(lent), self._lent)

    def _run(self, session: Any, inputs: Sequence[Array], double: bool) -> list[Array]:
        if double:
            raise UsageError("an ONNX model computes in the types it declares, not in double precision")
        if len(inputs) != len(self._inputs):
            names = ", ".join(self.input_names)
            raise UsageError(f"the model takes {len(self._inputs)} inputs ({names}), got {len(inputs)}")
        given = {i.name: (i.type, np.asarray(x, order="C")) for i, x in zip(self._inputs, inputs, strict=True)}
        try:
            if any(kind == _STRINGS for kind, _ in given.values()):
                return session.run(None, {name: x for name, (_, x) in given.items()})
            feeds = {name: _ort_value(x, _AS_BYTES.get(kind)) for name, (kind, x) in given.items()}
            results = session.run_with_ort_values(None, feeds)
        except Exception as error:
            raise UsageError(f"ONNX Runtime failed: {error}") from error
        return [_array(r) for r in results]


_BROKEN = ("InvalidProtobuf", "InvalidGraph", "InvalidArgument")  # errors of ONNX Runtime that a damaged file gives


def _is_lent(weight: Weight) -> bool:
    # Memory that the runtime can look at as it is, and worth it.
    return weight.dtype.bits >= 8 and weight.nbytes >= 1024


def _ort_value(values: Array, dtype: DType | None) -> Any:
    ort = runtime()
    if dtype is None or dtype not in _AS_BYTES.values():
        return ort.OrtValue.ortvalue_from_numpy(values)
    if dtype.bits < 8:
        value = ort.OrtValue.ortvalue_from_shape_and_type(list(values.shape), types.code(dtype))
        packed = pack_small(values)
        ctypes.memmove(value.data_ptr(), packed.ctypes.data, packed.nbytes)
        return value
    raw = values.view(np.uint16 if dtype.bits == 16 else np.uint8)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(raw, types.code(dtype))


def _array(value: Any) -> Array:
    dtype = _AS_BYTES.get(value.data_type())
    if dtype is None:
        return value.numpy()
    shape = tuple(value.shape())
    count = math.prod(shape)
    size = dtype.nbytes(count)
    raw = np.frombuffer(ctypes.string_at(value.data_ptr(), size), np.uint8)
    if dtype.bits < 8:
        return unpack_small(raw, count, dtype).reshape(shape)
    return raw.view(dtype.numpy).reshape(shape)
