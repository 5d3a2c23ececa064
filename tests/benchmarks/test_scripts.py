"""Each script runs, at a tiny size, in a process of its own as a user starts it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.benchmarks.conftest import FOLDER

MIB = 1 << 20
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def run(tmp_path: Path, name: str, *arguments: str) -> dict[str, Any]:
    """What a script wrote as JSON. Status 1 is a demand not met, which a busy machine may bring about."""
    path, page = tmp_path / "out.json", tmp_path / "pages" / "page.md"
    command = [sys.executable, str(FOLDER / f"{name}.py"), *arguments, "--json", str(path), "--markdown", str(page)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path)
    assert ended.returncode in (0, 1), ended.stderr
    found = json.loads(path.read_text(encoding="utf-8"))
    assert [s["failure"] for s in found["samples"] if "failure" in s] == []
    assert page.read_text(encoding="utf-8").startswith(f"## {found['title']}")
    return found


@linux
@pytest.mark.slow
def test_convert_measures_both_tools_and_both_files_compute_what_the_module_does(tmp_path: Path) -> None:
    found = run(tmp_path, "convert", "--models", "unet_nearest", "--forms", "external", "--repeats", "1")
    ours, theirs = sorted(found["samples"], key=lambda s: s["tool"])
    assert (ours["tool"], theirs["tool"]) == ("dragoman", "torch.onnx")
    assert ours["weight_bytes"] == theirs["weight_bytes"] > 300_000
    for sample in (ours, theirs):
        assert sample["late_imports"] == [] or all(not n.startswith("dragoman") for n in sample["late_imports"])
        assert sample["exact"] is True
        assert sample["difference"] < 1e-4
        assert sample["file_bytes"] >= sample["weight_bytes"]
        assert sample["nodes"] > 10


@linux
def test_scale_takes_a_graph_through_every_stage(tmp_path: Path) -> None:
    found = run(tmp_path, "scale", "--nodes", "200,400", "--repeats", "1")
    small, large = found["samples"]
    assert 200 <= small["nodes"] < 250
    assert large["optimised"] < large["nodes"]  # there was something to fold
    assert list(small["stages"]) == ["build", "verify", "print", "parse", "optimise", "emit"]
    assert small["difference"] < 1e-4
    assert large["difference"] is None
    assert large["written"] > 200


@linux
def test_optimise_takes_a_model_twice_and_a_graph_through_each_pass(tmp_path: Path) -> None:
    found = run(tmp_path, "optimise", "--models", "gru", "--nodes", "300", "--repeats", "1")
    plain, proved, generated = found["samples"]
    assert (plain["model"], plain["proofs"], proved["proofs"], generated["size"]) == ("gru", False, True, 300)
    assert all(0.0 < s["again"] < 60.0 and s["seconds"] > 0.0 for s in (plain, proved))
    assert [n for n in plain["late_imports"] if n.startswith("dragoman")] == []
    assert proved["refused"] == proved["unchecked"] == 0
    assert 300 <= generated["nodes"] < 350
    assert generated["optimised"] < generated["nodes"]
    assert {p["name"] for p in generated["passes"]} >= {"recognise", "choose_layout", "canonicalise"}
    assert sum(p["seconds"] for p in generated["passes"]) <= generated["seconds"]


@linux
def test_big_model_brings_every_tensor_to_the_output(tmp_path: Path) -> None:
    found = run(tmp_path, "big_model", "--gib", "0.25", "--ways", "ir", "--folder", str(tmp_path))
    (sample,) = found["samples"]
    assert sample["complete"] is True
    assert sample["file_bytes"] > 200 * MIB
    assert sample["resident"] < sample["file_bytes"]  # it was streamed
    assert list(tmp_path.glob("dragoman-bench-*")) == []


@linux
@pytest.mark.slow
@pytest.mark.parametrize("way", ["safetensors", "torch.load"])
def test_a_mapped_module_is_converted_without_becoming_resident(tmp_path: Path, way: str) -> None:
    found = run(tmp_path, "big_model", "--gib", "0.4", "--ways", way, "--folder", str(tmp_path))
    (sample,) = found["samples"]
    assert sample["complete"] is True
    assert sample["resident"] < sample["largest"] + 200 * MIB


@linux
def test_the_meter_sees_memory_that_was_held_and_freed_within(script: Callable[[str], ModuleType]) -> None:
    with script("meter").Meter() as meter:
        held = np.ones(64 * MIB, np.uint8)
        total = int(held.sum())
        del held
    assert total == 64 * MIB
    assert meter.reading.exact
    assert 63 * MIB < meter.reading.resident < 80 * MIB
    assert meter.reading.seconds > 0.0


@linux
def test_the_meter_tells_pages_of_files_from_the_processs_own(
    script: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    path = tmp_path / "mapped"
    path.write_bytes(b"\1" * (64 * MIB))
    with script("meter").Meter(sampled=True) as meter:
        mapped = np.memmap(path, np.uint8, "r")
        assert int(mapped.sum()) == 64 * MIB
        time.sleep(0.05)  # several samples while the pages are there
    assert meter.reading.mapped > 60 * MIB
    assert meter.reading.anonymous < 20 * MIB
    assert meter.reading.resident > 60 * MIB


def test_a_process_that_dies_is_a_result_that_says_how(
    script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh_process = script("fresh_process")
    monkeypatch.setattr(fresh_process, "HERE", tmp_path)
    (tmp_path / "dies.py").write_text("raise SystemExit('no disk left')", encoding="utf-8")
    found = fresh_process.run_fresh("dies.py", {})
    assert found["failure"] == "the process ended with status 1: no disk left"
    (tmp_path / "hangs.py").write_text("import time; time.sleep(60)", encoding="utf-8")
    assert fresh_process.run_fresh("hangs.py", {}, timeout=0.3)["failure"] == "nothing after 0 s"
