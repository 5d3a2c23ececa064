"""Every model of the zoo, carried to ONNX and verified there: the promise, kept on real architectures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dragoman
from dragoman.backends.onnx import Session, check
from dragoman.certificate import read
from dragoman.ir.cases import plan_cases
from dragoman.ir.equivalence import compare
from dragoman.ir.roles import input_roles

from . import ENTRIES, Entry

STACKS = {"llama_stack_16", "llama_stack_64"}  # the same layers as llama_stack_4, for benchmarks
SLOW = {"efficientnet_b0", "mobilenetv3_large_100", "llama_stack_4", "unet_nearest", "whisper_tiny_encoder"}
CASES = [
    pytest.param(e, id=e.name, marks=[pytest.mark.slow] if e.heavy or e.name in SLOW else [])
    for e in ENTRIES
    if e.name not in STACKS
]


@pytest.mark.parametrize("target", ["portable", "ort"])
@pytest.mark.parametrize("entry", CASES)
def test_a_model_reaches_onnx_verified_at_several_sizes_and_runs_optimised_too(
    entry: Entry, target: str, tmp_path: Path
) -> None:
    args, kwargs = entry.arguments(entry.example)
    module = entry.factory()
    path = tmp_path / "model.onnx"
    report = dragoman.convert(module, path, args=args, kwargs=kwargs, dynamic=entry.dynamic, target=target, budget=300)

    assert report.verdict is not None
    assert report.verdict.holds, str(report.comparison)
    assert report.comparison is not None
    sizes = {tuple(sorted(case.shapes.items())) for case in report.comparison.cases}
    assert len(sizes) >= 3 or not entry.dynamic
    check(path)
    certificate = read(path.with_name(path.name + ".dragoman.json"))
    assert certificate.comparison.verdict is report.verdict
    _check_interface(entry, path)
    _check_optimised(entry, module, path)


def _check_interface(entry: Entry, path: Path) -> None:
    session = Session(path, optimise=False)
    assert set(session.input_names) == set(entry.inputs(entry.example))


def _check_optimised(entry: Entry, module: object, path: Path) -> None:
    """With ONNX Runtime's optimiser on, results are within the same bound at the first two cases."""
    args, kwargs = entry.arguments(entry.example)
    model = dragoman.load(module, args, kwargs, dynamic=entry.dynamic)
    assert model.source is not None
    cases = plan_cases(model.graph)[:2]
    comparison = compare(model.graph, model.source, Session(path, optimise=True), cases=cases)
    assert comparison.verdict.holds, str(comparison)
    for case in cases:
        for array in Session(path, optimise=True).run(case.inputs(input_roles(model.graph))):
            assert np.asarray(array).size > 0
