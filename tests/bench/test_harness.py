"""`dragoman bench` from end to end on a model of two nodes, with targets that fail in every way."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import dragoman
from dragoman.bench.process import Process, TargetFailed
from dragoman.bench.table import WIDTH
from dragoman.cli import status
from dragoman.ir.errors import OutputError, UsageError

from .conftest import written


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution whose entry points are the fake targets, for this process and those it starts."""
    info = tmp_path / "plugins" / "fakes-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fakes\nVersion: 1.0\n")
    code = Path(__file__).with_name("fakes.py").read_text(encoding="utf-8")
    (info.parent / "dragoman_fakes.py").write_text(code, encoding="utf-8")
    points = "fake = dragoman_fakes:Fake\nlacking = dragoman_fakes:Lacking\n"
    (info / "entry_points.txt").write_text(f"[dragoman.bench_targets]\n{points}")
    monkeypatch.syspath_prepend(info.parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(info.parent), os.environ.get("PYTHONPATH", "")]))


@pytest.mark.usefixtures("fakes")
def test_what_fails_in_one_target_is_told_in_its_row_and_the_others_report(model: Path, tmp_path: Path) -> None:
    named = ["given", "fake", "fake:refuses", "fake:dies", "fake:wrong", "lacking", "torch"]
    found = dragoman.bench(str(model), targets=named, batch=[3], seconds=0.2, clients=2, json=tmp_path / "out.json")
    (group,) = found.groups
    rows = {row.name: row for row in group.rows}
    assert list(rows) == named
    assert "no kernel for Relu" in rows["fake:refuses"].failure
    assert "ended with status 9" in rows["fake:dies"].failure
    assert rows["lacking"].failure == "needs no_such_library: pip install no-such-library"
    assert "of kind onnx" in rows["torch"].failure
    assert group.shapes == {"x": "float32[3, 64]"}
    assert group.operations == 2 * 3 * 64 * 64 + 3 * 64
    assert group.bytes == 4 * (3 * 64 + 64 * 64 + 3 * 64)
    for name in ("given", "fake"):
        assert rows[name].rounds
        assert rows[name].error is not None
        assert rows[name].error < 1e-6
        assert rows[name].throughput
        assert rows[name].peak_bytes
    assert rows["fake:wrong"].error == float("inf")
    assert rows["given"].file_bytes == model.stat().st_size
    assert group.ratio(rows["fake"]) is not None
    text = str(found)
    assert "WRONG" in text
    assert max(map(len, text.splitlines())) <= WIDTH
    kept = json.loads((tmp_path / "out.json").read_text())
    assert kept["groups"][0]["rows"][1]["median_s"]["value"] > 0


def test_two_files_are_compared_on_the_same_inputs(model: Path, tmp_path: Path) -> None:
    other = written(tmp_path / "other.onnx", scale=1.01)
    found = dragoman.bench(str(model), str(other), compare=True, seconds=0.1)
    (group,) = found.groups
    first, second = group.rows
    assert (first.name, second.name, group.base) == ("model.onnx", "other.onnx", "model.onnx")
    assert second.errors == pytest.approx([0.01], rel=1e-3)  # against the truth of the first
    assert first.rounds


def test_a_slower_target_is_called_slower_and_an_equal_one_is_not(model: Path) -> None:
    found = dragoman.bench(str(model), targets=["given", "slowed:0", "slowed:0.5"], batch=[256], threads=1, seconds=1.5)
    (group,) = found.groups
    ratios = {row.name: group.ratio(row) for row in group.rows[1:]}
    assert ratios["slowed:0.5"].low > 1.2
    assert ratios["slowed:0"].value == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"targets": ["nonesuch"]}, "there is no target 'nonesuch'; there is "),
        ({"precision": ["f8"]}, "there is no precision 'f8'"),
        ({"batch": [0]}, "a batch size is 1 or more"),
    ],
)
def test_what_there_is_not_is_refused_before_anything_is_read(options: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        dragoman.bench("nowhere.onnx", **options)


def test_an_output_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    for path in (tmp_path / "none" / "out.json", tmp_path):
        with pytest.raises(OutputError, match="folder"):
            dragoman.bench("nowhere.onnx", json=path)


def test_a_source_that_is_not_there_is_told_and_ends_with_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert status(["bench", "nowhere.onnx", "--targets", "onnxruntime"]) == 3
    shown = capsys.readouterr()
    assert "nowhere.onnx" in shown.out
    assert "Traceback" not in shown.out + shown.err


def test_an_object_that_cannot_be_sent_to_a_process_is_refused() -> None:
    with pytest.raises(UsageError, match="name a factory"):
        dragoman.bench((i for i in ()), targets=["onnxruntime"])


def test_a_process_that_is_killed_says_by_what(tmp_path: Path) -> None:
    with Process("one", tmp_path, 1) as process:
        os.kill(process.pid, 9)
        with pytest.raises(TargetFailed, match="killed by signal 9"):
            process.ask("memory")


def test_inputs_at_another_batch_follow_what_the_model_takes(model: Path) -> None:
    from dragoman.bench.reading import inputs_at

    loaded = dragoman.load(str(model))
    assert [x.shape for x in inputs_at(loaded, 5)] == [(5, 64)]
    assert [x.shape for x in inputs_at(loaded, None)] == [(1, 64)]
