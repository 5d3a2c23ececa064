"""The folder that is written: it needs torch and Triton alone, checks what it is given, and keeps its results apart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dragoman
from dragoman.backends.triton import FolderRunner, save
from dragoman.backends.triton.memory import lay_out
from dragoman.backends.triton.runner import worker
from dragoman.face import replay
from dragoman.ir.builder import trace
from dragoman.ir.errors import EmitRefused, NotEquivalent, OutputError, UsageError
from dragoman.ir.graph import Graph
from dragoman.ir.interpreter import run
from dragoman.ir.types import parse_type

# Refuses every import but the standard library, torch, Triton and what those two need.
ALONE = """
import sys
class Only:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in {"dragoman", "onnx", "onnxruntime", "onnx_ir", "ml_dtypes", "safetensors", "scipy", "jax", "transformers"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Only())
from build import model
import numpy, torch
x = torch.linspace(-2, 2, 24).reshape(6, 4).T   # not contiguous
y = model(x)
assert torch.equal(y, model(x.numpy())) and torch.equal(y, model(x.contiguous()))
print(y.flatten().tolist())
"""


@pytest.fixture
def small() -> tuple[torch.nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.GELU(), torch.nn.LayerNorm(8), torch.nn.Linear(8, 3))
    return model.eval(), torch.linspace(-2, 2, 24).reshape(6, 4).T


def graph_of(function: Any, *types: str) -> Graph:
    return trace(function, *(parse_type(t) for t in types))


def runs(graph: Graph, folder: Path, *inputs: Any) -> list[Any]:
    save(graph, folder)
    return worker().run(folder, inputs)


def test_a_folder_runs_with_torch_and_triton_alone(small: Any, tmp_path: Path) -> None:
    model, x = small
    dragoman.convert(model, tmp_path / "build", to="triton", args=(x,), verify=False)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"TRITON_INTERPRET": "1"}
    script = tmp_path / "alone.py"
    script.write_text(ALONE)
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert np.allclose(json.loads(done.stdout), model(x).flatten().tolist(), atol=1e-6)


def test_generated_code_holds_no_name_of_the_model(tmp_path: Path) -> None:
    graph = graph_of(lambda b, x: b.relu(x), "f32[3]")
    graph.inputs[0].name = 'x"); import os #'
    save(graph, tmp_path / "build")
    assert all("import os" not in p.read_text() for p in (tmp_path / "build").rglob("*.py") if "support" not in p.name)
    assert FolderRunner(tmp_path / "build").input_names == ('x"); import os #',)


def test_a_size_or_dtype_that_the_model_was_not_made_for_is_refused(tmp_path: Path) -> None:
    graph = graph_of(lambda b, x, y: b.add(x, y), "f32[n,2*n,3]", "f32[3]")
    save(graph, tmp_path / "build")
    runner = FolderRunner(tmp_path / "build")
    right = [np.ones((2, 4, 3), np.float32), np.ones(3, np.float32)]
    assert (runner.run(right)[0] == 2).all()
    for wrong, said in (
        ([np.ones((2, 5, 3), np.float32), right[1]], "should be"),
        ([np.ones((2, 4, 1), np.float32), right[1]], "should be"),
        ([right[0].astype(np.float64), right[1]], "float64"),
        ([right[0], np.ones((1, 3), np.float32)], "rank 2"),
        (right[:1], "takes 2 inputs"),
        ([np.ones((0, 0, 3), np.float32), right[1]], "outside its range"),
    ):
        with pytest.raises(UsageError, match=said):
            runner.run(wrong)


def test_sizes_of_one_and_nothing_are_sizes_like_others(tmp_path: Path) -> None:
    graph = graph_of(lambda b, x: b.softmax(b.concat(b.mul(x, x), x, axis=1), axis=1), "f32[3,4]")
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    assert np.allclose(runs(graph, tmp_path / "a", x)[0], run(graph, x)[0], atol=1e-6)
    one = graph_of(lambda b, x: b.reduce_mean(b.exp(x), axes=(0, 1)), "f32[1,1]")
    assert runs(one, tmp_path / "b", np.zeros((1, 1), np.float32))[0] == 1
    none = graph_of(lambda b, x: (b.reduce_sum(x, axes=(0,)), b.matmul(b.transpose(x, perm=(1, 0)), x)), "f32[0,3]")
    sums, product = runs(none, tmp_path / "c", np.zeros((0, 3), np.float32))
    assert sums.tolist() == [0, 0, 0]
    assert product.shape == (3, 3)
    assert not product.any()


def test_nan_and_infinities_reach_the_results(tmp_path: Path) -> None:
    def model(b: Any, x: Any, w: Any) -> Any:
        y = b.relu(b.matmul(x, w))
        peak = b.reduce_max(y, axes=(1,), keepdims=True)
        return b.maximum(y, b.sub(peak, 1.0)), b.clip(x, low=-1.0, high=1.0), b.softmax(x, axis=0), b.tanh(x)

    graph = graph_of(model, "f32[4,3]", "f32[3,5]")
    x = np.array([[1, np.nan, 2], [np.inf, 1, 0], [-np.inf, -1, 1], [0.5, -2, 3]], np.float32)
    w = np.ones((3, 5), np.float32)
    with np.errstate(invalid="ignore"):
        expected = run(graph, x, w)
    for ours, exact in zip(runs(graph, tmp_path / "build", x, w), expected, strict=True):
        assert np.array_equal(np.isnan(ours), np.isnan(exact))
        assert np.allclose(ours, exact, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize(("positive", "negative"), [(True, True), (True, False), (False, True), (False, False)])
def test_infinities_are_told_by_the_signs_asked_for(positive: bool, negative: bool, tmp_path: Path) -> None:
    graph = graph_of(lambda b, x: b.isinf(x, positive=positive, negative=negative), "f32[4]")
    x = np.array([np.inf, -np.inf, np.nan, 1], np.float32)
    assert runs(graph, tmp_path / "build", x)[0].tolist() == [positive, negative, False, False]


def test_results_are_not_overwritten_by_the_next_run_nor_share_memory_with_inputs(tmp_path: Path) -> None:
    script = """
import sys; sys.path.insert(0, {path!r})
import torch
from build import model
x, y = torch.ones(5), torch.full((5,), 3.0)
first = model(x)
kept = [t.clone() for t in first]
model(y)
assert all(torch.equal(a, b) for a, b in zip(first, kept))
first[1].fill_(9); assert (x == 1).all()
arena, _ = next(iter(model._plans.values()))
arena.fill_(255)   # poison: nothing may be left over from a run before
assert all(torch.equal(a, b) for a, b in zip(model(x), kept))
"""
    graph = graph_of(lambda b, x: (b.reduce_sum(b.softmax(x, axis=0), axes=(0,)), x), "f32[5]")
    save(graph, tmp_path / "build")
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    command = [sys.executable, "-c", script.format(path=str(tmp_path))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_wrong_kernel_is_found_out_and_nothing_is_written(
    small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dragoman.backends.triton import expressions

    model, x = small
    monkeypatch.setitem(expressions.FLOAT, "erf", "tl.erf({0}) * 1.00001")
    with pytest.raises(NotEquivalent):
        dragoman.convert(model, tmp_path / "build", to="triton", args=(x,))
    assert not list(tmp_path.iterdir())


def test_a_certificate_in_the_folder_is_replayed_and_tells_a_changed_file(small: Any, tmp_path: Path) -> None:
    model, x = small
    report = dragoman.convert(model, tmp_path / "build", to="triton", args=(x,), budget=1)
    assert report.certificate is not None
    assert replay(report.certificate).verdict.holds
    fused = tmp_path / "build" / "fused.py"
    fused.write_text(fused.read_text() + "# changed\n")
    assert not replay(report.certificate).verdict.holds


def test_what_stands_there_is_kept_unless_it_is_ours_and_may_go(small: Any, tmp_path: Path) -> None:
    graph = graph_of(lambda b, x: b.relu(x), "f32[3]")
    (tmp_path / "other").mkdir()
    for overwrite in (False, True):
        with pytest.raises(OutputError):
            save(graph, tmp_path / "other", overwrite=overwrite)
    save(graph, tmp_path / "ours")
    with pytest.raises(OutputError):
        save(graph, tmp_path / "ours")
    save(graph, tmp_path / "ours", overwrite=True)


def test_pure_kernels_refuse_what_torch_would_do_and_say_so(tmp_path: Path) -> None:
    graph = graph_of(lambda b, x: b.topk(x, k=2, axis=0), "f32[5]")
    with pytest.raises(EmitRefused, match="leave out --pure-triton"):
        save(graph, tmp_path / "pure", pure=True)
    save(graph, tmp_path / "mixed")
    assert json.loads((tmp_path / "mixed" / "manifest.json").read_text())["library"] == ["topk"]


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 9), st.none() | st.integers(0, 9)), max_size=12))
def test_values_that_live_together_never_share_bytes(wanted: list[tuple[int, int, int | None]]) -> None:
    wanted = [(size, born, None if dies is None else max(born, dies)) for size, born, dies in wanted]
    offsets, peak = lay_out(wanted)
    placed = [(at, size, born, dies) for at, (size, born, dies) in zip(offsets, wanted, strict=True) if at is not None]
    for number, (at, size, born, dies) in enumerate(placed):
        assert at % 256 == 0
        assert at + size <= peak
        for other, length, first, last in placed[:number]:
            together = born <= (last or 0) and first <= (dies or 0)
            assert not together or at + size <= other or other + length <= at or not size or not length
