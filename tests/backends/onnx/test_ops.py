"""Every op, at every sample and opset: valid ONNX, and the right numbers in ONNX Runtime without its optimiser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from dragoman.backends.onnx import DEFAULT_OPSET, check, newest_opset, to_model_proto
from dragoman.backends.onnx.table import REFUSED, load_tables
from dragoman.ir.errors import EmitRefused
from dragoman.ir.graph import Graph
from dragoman.ir.op import REGISTRY, Sample
from dragoman.ir.samples import given_operands, random_operands, sample_graph, sample_seed
from tests.backends.onnx.judging import disagreement, evaluate, unwitnessed, without_kernel

load_tables()
OPSETS = [opset for opset in (13, 16, 17, 18, 20, 21, 23) if opset < newest_opset()] + [newest_opset()]
OPS = [name for name, cls in REGISTRY.items() if any(True for _ in cls.samples())]

# Why a sample may be refused, by what the refusal says. Anything else that is refused is a gap.
REASONS = {
    r"on c(64|128)": "ONNX has next to no operators on complex numbers",
    r"no Cast from .* to c64": "nor casts to them",
    r"(i4|u4|f8e4m3fn|f8e5m2|f8e8m0) exists from opset \d+ on": "the dtype is newer than the opset",
    r"no Conv on i32": "ONNX convolves floats only, and sums of integers would round in a wider float",
    r"(String|Regex)\w+ begins at opset 20": "strings are newer",
    r"Resize (of some of the axes begins at|has antialias and one factor)": "so are axes of Resize",
    r"only where the system has the locale": "which is not certain here",
    r"ONNX keeps the tables in attributes": "and the operands of a sample are inputs",
    r"opset 1[345] has no GridSample": "so does sampling at places",
    r"bits before opset 26": "so are views of numbers as bits",
    r"RoiAlign has half-pixel coordinates from opset 16 on": "so are these coordinates",
    r"ONNX Runtime has no Det on f64": "determinants are for f32",
    r"AveragePool has dilations from opset 19 on": "so do these pools",
    r"Resize has (antialias|half_pixel_symmetric) from opset": "so do these ways to resize",
    r"GridSample takes other than two spatial axes from opset 20 on": "so does volumetric sampling",
    r"in f64 does not give every digit of f64": "nor a gamma function, whose series is for f32",
    **{re.escape(reason): "ONNX has no such function" for reason in REFUSED.values()},
}


def samples(name: str) -> Iterator[tuple[str, Graph, list[Any]]]:
    """The op's samples, and those in f64 once more in f32, for which ONNX Runtime has the most kernels."""
    cls = REGISTRY[name]
    for index, sample in enumerate(cls.samples()):
        for variant in (sample, narrowed(sample)):
            if variant is not None:
                graph = sample_graph(cls, variant)
                inputs = given_operands(random_operands(variant, sample_seed(name, index)))
                label = f"sample {index}, {next(iter(graph)).op.describe(tuple(v.type for v in graph.inputs))}"
                yield label, graph, inputs


def narrowed(sample: Sample) -> Sample | None:
    if not any(o is not None and o.type.startswith("f64") for o in sample.operands):
        return None
    operands = (None if o is None else replace(o, type=o.type.replace("f64", "f32")) for o in sample.operands)
    return Sample(tuple(operands), sample.attributes)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("name", OPS)
def test_every_sample_is_valid_onnx_and_computes_what_the_reference_does(name: str, opset: int) -> None:
    for label, graph, inputs in samples(name):
        try:
            model = to_model_proto(graph, opset=opset)
        except EmitRefused as refusal:
            if not any(re.search(reason, str(refusal)) for reason in REASONS):
                pytest.fail(f"{label}: {refusal}")
            continue
        check(model)
        if unwitnessed(graph, opset):
            continue
        outputs, by_runtime = evaluate(model, inputs)
        assert by_runtime or without_kernel(graph, opset), f"{label}: ONNX Runtime has no kernel"
        assert disagreement(graph, inputs, outputs, coarse=not by_runtime) == "", label


@pytest.mark.parametrize("name", OPS)
def test_the_optimiser_of_onnx_runtime_changes_nothing(name: str) -> None:
    for label, graph, inputs in samples(name):
        try:
            model = to_model_proto(graph)
        except EmitRefused:
            continue
        if unwitnessed(graph, DEFAULT_OPSET):
            continue
        outputs, by_runtime = evaluate(model, inputs, optimise=True)
        assert disagreement(graph, inputs, outputs, coarse=not by_runtime) == "", label
