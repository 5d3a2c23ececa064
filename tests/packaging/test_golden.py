"""The golden fixture fails on a missing or different file, and writes only when asked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"
TEST = """
import pytest

@pytest.mark.parametrize("case", ["a/b"])
def test_text(golden, case):
    golden({text!r})
"""


def outcome(folder: Path, text: str, *options: str, **variables: str) -> tuple[int, str]:
    (folder / "conftest.py").write_text(CONFTEST.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "test_it.py").write_text(TEST.format(text=text), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | variables
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), *options]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_a_golden_file_is_written_once_and_compared_afterwards(tmp_path: Path) -> None:
    code, output = outcome(tmp_path, "one\ntwo\n")
    assert (code, "--update-golden once" in output) == (pytest.ExitCode.TESTS_FAILED, True)

    assert outcome(tmp_path, "one\ntwo\n", "--update-golden")[0] == pytest.ExitCode.OK
    assert (tmp_path / "golden" / "test_it" / "test_text_a_b.txt").read_text(encoding="utf-8") == "one\ntwo\n"

    assert outcome(tmp_path, "one\ntwo")[0] == pytest.ExitCode.OK
    code, output = outcome(tmp_path, "one\nTWO")
    assert (code, "--update-golden if the change is meant" in output) == (pytest.ExitCode.TESTS_FAILED, True)


def test_golden_files_are_never_written_in_ci(tmp_path: Path) -> None:
    code, output = outcome(tmp_path, "one", "--update-golden", CI="true")
    assert (code, "not in CI" in output) == (pytest.ExitCode.USAGE_ERROR, True)
    assert not (tmp_path / "golden").exists()
