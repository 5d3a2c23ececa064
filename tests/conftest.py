"""What every test runs under: no telemetry, no network, few threads, and golden files refreshed by one flag."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
THREADS = str(max(1, (os.cpu_count() or 1) // WORKERS))

# Each library reads these once, when it is first imported; a conftest is loaded before any test module.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, THREADS)

# Triton reads this once as well: without a device its kernels run in its interpreter.
if not any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/kfd")):
    os.environ.setdefault("TRITON_INTERPRET", "1")

# A shared machine makes deadlines flaky; in CI the same examples every time, so that a failure is the change's own.
settings.register_profile("dragoman", deadline=None, print_blob=True, derandomize="CI" in os.environ)
settings.load_profile("dragoman")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write golden files instead of comparing with them")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--update-golden") and "CI" in os.environ:
        raise pytest.UsageError("--update-golden would make every golden test pass: not in CI")


def golden_path(test_file: Path, test_name: str) -> Path:
    """The golden file of a test, from the test's own place and name."""
    return test_file.parent / "golden" / test_file.stem / (re.sub(r"[^\w.-]+", "_", test_name).strip("_") + ".txt")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Compares a text with the test's golden file, or writes the file under --update-golden."""
    path = golden_path(request.path, request.node.name)

    def compare(text: str) -> None:
        text = text.rstrip("\n") + "\n"
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return
        if not path.exists():
            pytest.fail(f"{path} does not exist: run pytest with --update-golden once, and read what it writes")
        assert text == path.read_text(encoding="utf-8"), f"differs from {path}; --update-golden if the change is meant"

    return compare


@pytest.fixture(autouse=True)
def import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test adds to the import path, as naming a factory on the command line does, goes with the test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
