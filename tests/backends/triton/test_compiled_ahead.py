"""What is generated compiles for a device: Triton's interpreter accepts more than its compiler."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import dragoman
from dragoman.backends.triton import save
from tests.backends.triton.models import FACTORIES, made
from tests.backends.triton.test_ops import OPS, joined

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "compile_folder.py"


def check(folder: Path, *targets: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, str(SCRIPT), str(folder), *targets]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert found
    assert [f["build"] for f in found if f["spills"] > 0] == []


def write(name: str, folder: Path) -> None:
    model, arguments, dynamic = made(name)
    dragoman.convert(model, folder, to="triton", args=arguments, dynamic=dynamic, verify=False)


def test_the_kernels_of_a_model_compile_for_a_device_without_spilling(tmp_path: Path) -> None:
    write("decode", tmp_path / "model")
    check(tmp_path / "model", "sm_90")


@pytest.mark.slow
@pytest.mark.parametrize("name", FACTORIES)
def test_the_kernels_of_each_model_compile_for_every_target(name: str, tmp_path: Path) -> None:
    write(name, tmp_path / "model")
    check(tmp_path / "model")


@pytest.mark.slow
@pytest.mark.parametrize("name", OPS)
def test_the_kernels_of_each_op_compile(name: str, tmp_path: Path) -> None:
    whole, parts = joined(name)
    if parts:
        save(whole, tmp_path / "model")
        check(tmp_path / "model", "sm_90")
