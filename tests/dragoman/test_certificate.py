"""Certificates: written, read back, refused when they are nonsense, and replayed against file and source."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dragoman
from dragoman.certificate import (
    Certificate,
    certificate_path,
    certify,
    file_hash,
    graph_hash,
    read,
    replay,
    write,
)
from dragoman.ir.builder import Builder
from dragoman.ir.equivalence import GraphRunner, Verdict, compare
from dragoman.ir.errors import Malformed, OutputError, UsageError
from dragoman.ir.findings import RuleProofs
from dragoman.ir.graph import Graph
from dragoman.ir.types import parse_type
from dragoman.ir.weights import ArrayWeight


def model(scale: float = 1.0) -> Graph:
    graph = Graph("m")
    b = Builder(graph)
    x = graph.add_input(parse_type("f32[batch,8]"), "x")
    w = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32) * np.float32(scale)
    graph.set_outputs([b.tanh(b.matmul(x, graph.add_weight("w", ArrayWeight(w))))], ["y"])
    return graph


GRAPH = model()


@pytest.fixture
def certified(tmp_path: Path) -> Path:
    """A certificate beside an output of two files."""
    output, data = tmp_path / "model.onnx", tmp_path / "model.onnx.data"
    output.write_bytes(b"the model")
    data.write_bytes(b"the weights" * 1000)
    report = compare(
        GRAPH, GraphRunner(GRAPH, "source"), GraphRunner(GRAPH, "candidate"), rules=(RuleProofs("R", 2, 1, 1),)
    )
    path = certificate_path(output)
    write(certify("pkg.models:make", GRAPH, [output, data], report, {"opset": "20"}), path)
    return path


def rebuilt(graph: Graph) -> Any:
    return lambda certificate, trust: (graph, GraphRunner(graph, "source"), ())


def cannot(reason: str) -> Any:
    return lambda certificate, trust: reason


def opened(graph: Graph) -> Any:
    return lambda path: GraphRunner(graph, "candidate")


def test_a_certificate_says_what_was_verified_and_how(certified: Path) -> None:
    assert certified.name == "model.onnx.dragoman.json"
    found = read(certified)
    assert isinstance(found, Certificate)
    assert found.output == "model.onnx"
    assert found.files[0].sha256 == hashlib.sha256(b"the model").hexdigest()
    assert [f.size for f in found.files] == [9, 11000]
    assert found.dragoman == dragoman.__version__
    assert {"python", "machine", "numpy"} <= set(found.versions)
    assert (found.source, found.options) == ("pkg.models:make", {"opset": "20"})
    assert found.model == graph_hash(GRAPH)
    assert found.comparison.verdict is Verdict.VERIFIED
    assert {c.seed for c in found.comparison.cases} == {0, 1}
    assert {c.shapes["x"] for c in found.comparison.cases} == {(1, 8), (2, 8), (3, 8)}
    assert found.comparison.rules == (RuleProofs("R", 2, 1, 1),)
    (y,) = found.comparison.outputs()
    assert 0 < y.norm_candidate < 1e-6
    assert 0 < y.norm_source < 1e-6
    assert found.comparison.skipped == ()


def test_the_hash_of_a_model_changes_with_its_weights_and_with_its_graph() -> None:
    assert graph_hash(model()) == graph_hash(GRAPH)
    assert graph_hash(model(1.0001)) != graph_hash(GRAPH)
    other = model()
    other.set_outputs(other.outputs, ["z"])
    assert graph_hash(other) != graph_hash(GRAPH)


def test_replaying_with_the_source_at_hand_compares_with_it(certified: Path) -> None:
    report = replay(certified, rebuild=rebuilt(model()), open_output=opened(model()))
    assert report.verdict is Verdict.VERIFIED
    assert report.oracle == "source in float64"
    assert report.notes == ("rewrites were not proved again: their proofs are the recorded ones",)
    assert len(report.cases) == len(read(certified).comparison.cases)


def test_replaying_without_the_source_compares_with_what_is_remembered_and_says_so(certified: Path) -> None:
    report = replay(certified, rebuild=cannot("it is gone"), open_output=opened(model()))
    assert report.verdict is Verdict.VERIFIED
    assert report.notes == ("the source was not run again (it is gone): compared with what the certificate remembers",)
    wrong = replay(certified, rebuild=cannot("it is gone"), open_output=opened(model(1.01)))
    assert wrong.verdict is Verdict.DIFFERENT


def test_a_runtime_that_computes_something_else_is_different(certified: Path) -> None:
    report = replay(certified, rebuild=rebuilt(model()), open_output=opened(model(1.001)))
    assert report.verdict is Verdict.DIFFERENT


def test_a_source_that_has_changed_is_noted(certified: Path) -> None:
    report = replay(certified, rebuild=rebuilt(model(1.001)), open_output=opened(model(1.001)))
    assert report.notes[0].startswith("the source is not the one that was certified")


def test_an_output_that_has_changed_is_different_without_being_opened(certified: Path) -> None:
    (certified.parent / "model.onnx.data").write_bytes(b"other weights")

    def never(path: Path) -> Any:
        raise AssertionError("opened")

    report = replay(certified, rebuild=rebuilt(model()), open_output=never)
    assert report.verdict is Verdict.DIFFERENT
    assert report.reason.startswith("model.onnx.data is not the file that was certified: its SHA-256 is ")
    assert report.cases == ()
    assert {s.reason for s in report.skipped} == {"the file has changed"}


def test_an_output_that_is_gone_is_a_usage_error(certified: Path) -> None:
    (certified.parent / "model.onnx").unlink()
    with pytest.raises(UsageError, match="no such file"):
        replay(certified, rebuild=rebuilt(model()))


def test_a_factory_named_by_a_certificate_is_not_called_without_trust(
    certified: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "hostile_factory.py").write_text("raise SystemExit('executed')")
    monkeypatch.syspath_prepend(str(tmp_path))
    data = json.loads(certified.read_text())
    data["source"] = "hostile_factory:make"
    certified.write_text(json.dumps(data))
    report = replay(certified, open_output=opened(model()))
    assert report.verdict is Verdict.VERIFIED
    assert "--trust allows it" in report.notes[0]


def test_the_budget_of_a_replay_holds(certified: Path) -> None:
    report = replay(certified, budget=0.0, rebuild=rebuilt(model()), open_output=opened(model()))
    assert len(report.cases) == 3
    assert len(report.skipped) == len(read(certified).comparison.cases) - 3


class Recording:
    """Counts how often it is run."""

    name = "candidate"
    runs = 0

    def run(self, inputs: Sequence[Any], double: bool = False) -> list[Any]:
        self.runs += 1
        return GraphRunner(GRAPH).run(inputs, double)


def test_the_same_inputs_are_run_again(certified: Path) -> None:
    runner = Recording()
    report = replay(certified, rebuild=cannot("it is gone"), open_output=lambda path: runner)
    recorded = read(certified).comparison
    assert runner.runs == len(recorded.cases) == len(report.cases)
    assert [c.inputs for c in report.cases] == [c.inputs for c in recorded.cases]


# ---- nonsense -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '{"format": 99}', '{"format": 1}', "\x00", "[" * 100_000])
def test_nonsense_is_malformed(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.json"
    path.write_text(text)
    with pytest.raises(Malformed):
        read(path)


def test_bytes_that_are_no_text_are_malformed(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Malformed):
        read(path)


def test_a_missing_certificate_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read(tmp_path / "none.json")


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", "a//b", "a\\b", "c:/x", "", "."])
def test_a_certificate_cannot_reach_outside_its_folder(certified: Path, name: str) -> None:
    data = json.loads(certified.read_text())
    data["files"][0]["name"] = name
    certified.write_text(json.dumps(data))
    with pytest.raises(Malformed, match="not the name of a file beside"):
        read(certified)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("comparison", "verdict"), "fine", "'fine' is none of"),
        (("comparison", "cases", 0, "seed"), "x", r"comparison.cases\[0\].seed: a whole number"),
        (("comparison", "cases", 0, "style"), "odd", "there is no style of cases 'odd'"),
        (("files",), [], "files is empty"),
        (("inputs", 0, "kind"), "magic", "none of index"),
        (("inputs", 0, "type"), "f99[2]", "not an element type"),
    ],
)
def test_a_field_that_does_not_fit_is_named(certified: Path, path: tuple[Any, ...], value: Any, message: str) -> None:
    data = json.loads(certified.read_text())
    at = data
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    certified.write_text(json.dumps(data))
    with pytest.raises(Malformed, match=message):
        replay(
            certified, rebuild=rebuilt(model()) if path[0] != "inputs" else cannot("no"), open_output=opened(model())
        )


def test_a_certificate_that_cannot_be_written_leaves_nothing(certified: Path, tmp_path: Path) -> None:
    found = read(certified)
    with pytest.raises(OutputError, match="could not be written"):
        write(found, tmp_path / "missing" / "c.json")
    before = certified.read_bytes()
    write(found, certified)
    assert certified.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data", "model.onnx.dragoman.json"]


def test_a_folder_has_no_hash(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        file_hash(tmp_path)
