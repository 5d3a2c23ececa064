"""Triton and TensorFlow in one process: Triton must be the first of the two to be imported."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

_BOTH = """
import sys
import dragoman.frontends.tensorflow
names = list(sys.modules)
assert names.index("triton") < names.index("tensorflow")
import triton.language
print("both")
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed")
def test_tensorflow_is_imported_after_triton_so_that_both_live_in_one_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _BOTH]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().endswith("both")
