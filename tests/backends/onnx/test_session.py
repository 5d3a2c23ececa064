"""The runner: every element type in and out, both optimiser settings, values inside, and no telemetry."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dragoman.backends.onnx import Session, emit, save, to_model_proto
from dragoman.ir.builder import Builder, trace
from dragoman.ir.errors import Malformed, UsageError
from dragoman.ir.graph import Graph
from dragoman.ir.runner import Named, Probing, Runner
from dragoman.ir.samples import random_array
from dragoman.ir.types import BF16, F8E4M3FN, F8E5M2, F16, F32, F64, I4, I8, U4, U8, DType, TensorType, parse_type
from dragoman.ir.weights import ArrayWeight


def small() -> Graph:
    graph = Graph()
    x = graph.add_input(parse_type("f32[b,s,4]"), "x")
    w = graph.add_weight("w", ArrayWeight(random_array(parse_type("f32[300,4]"))))
    graph.set_outputs([Builder(graph).gelu(Builder(graph).linear(x, w))], ["y"])
    return graph


@pytest.mark.parametrize("dtype", [F16, BF16, F64, F8E4M3FN, F8E5M2, I4, U4, I8, U8])
@pytest.mark.parametrize("shape", [(3,), (2, 5), (), (0, 2)])
def test_each_element_type_goes_in_and_comes_out(dtype: DType, shape: tuple[int, ...]) -> None:
    x = random_array(TensorType(F32, shape)).astype(np.float32).round(1)
    given = np.abs(x).astype(dtype.numpy)
    there = Session(to_model_proto(trace(lambda b, v: b.cast(v, dtype=F32), TensorType(dtype, shape)), opset=21))
    back = Session(to_model_proto(trace(lambda b, v: b.cast(v, dtype=dtype), TensorType(F32, shape)), opset=21))
    (wide,) = there.run([given])
    (narrow,) = back.run([wide])
    assert (wide.dtype, wide.shape, narrow.dtype, narrow.shape) == (np.float32, shape, dtype.numpy, shape)
    assert np.array_equal(wide, given.astype(np.float32))
    assert np.array_equal(narrow.astype(np.float32), given.astype(np.float32))


def test_strings_and_booleans_pass_through() -> None:
    graph = trace(
        lambda b, s, p: [b.concat(s, s, axis=0), b.logical_not(p)], parse_type("string[2]"), parse_type("bool[2]")
    )
    words, flags = Session(to_model_proto(graph)).run([np.array(["a", "ß"], np.object_), np.array([True, False])])
    assert (words.tolist(), flags.tolist()) == (["a", "ß", "a", "ß"], [False, True])


def test_it_is_a_runner_with_names_and_values_inside() -> None:
    session = Session(emit(small()), graph=small())
    assert isinstance(session, Runner)
    assert isinstance(session, Named)
    assert isinstance(session, Probing)
    assert (session.input_names, session.output_names) == (("x",), ("y",))
    assert session.name.endswith("optimiser on")
    assert Session(emit(small()), optimise=False).name.endswith("optimiser off")


@pytest.mark.parametrize("external", [False, True])
def test_values_inside_are_those_of_the_graph(tmp_path: Path, external: bool) -> None:
    graph = small()
    saved = save(graph, tmp_path / "m.onnx", external=external)
    linear, gelu = (node.result for node in graph)
    x = random_array(graph.inputs[0].type, extents={"b": 2, "s": 3})
    given: list[Any] = [Session(saved.path, graph=graph), Session(emit(graph), graph=graph)]
    for session in given:
        (y,) = session.run([x])
        inside = session.probe([x], [linear, gelu])
        assert np.allclose(inside[linear], x @ graph.weights["w"].weight.array().T, atol=1e-5)  # type: ignore[union-attr]
        assert np.allclose(inside[gelu], y, atol=1e-5)


def test_an_emission_runs_without_a_file() -> None:
    graph = small()
    x = random_array(graph.inputs[0].type, extents={"b": 2, "s": 3})
    for optimise in (False, True):
        (lent,) = Session(emit(graph), optimise=optimise).run([x])
        (whole,) = Session(to_model_proto(graph), optimise=optimise).run([x])
        assert np.array_equal(lent, whole)


def test_double_precision_and_wrong_inputs_are_refused() -> None:
    session = Session(emit(small()), graph=None)
    x = np.zeros((1, 2, 4), np.float32)
    with pytest.raises(UsageError, match="not in double precision"):
        session.run([x], double=True)
    with pytest.raises(UsageError, match=r"takes 1 inputs \(x\), got 2"):
        session.run([x, x])
    with pytest.raises(UsageError, match="ONNX Runtime failed"):
        session.run([np.zeros((1, 2, 5), np.float32)])
    with pytest.raises(UsageError, match="was not told which graph"):
        session.probe([x], [])


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"hello")
    with pytest.raises(Malformed, match="no valid ONNX model"):
        Session(tmp_path / "m.onnx")


def test_telemetry_is_off_before_the_runtime_is_imported() -> None:
    code = (
        "import sys, dragoman.backends.onnx as o; assert 'onnxruntime' not in sys.modules;"
        "from dragoman.backends.onnx.session import runtime; runtime();"
        "import os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
