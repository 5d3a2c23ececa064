"""Gives tests the modules of the benchmarks' folder, which are scripts and no package."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from tests.packaging.sources import ROOT

FOLDER = ROOT / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """A module of the folder by name; the folder leaves the import path after the test."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module
    for name in [name for name in sys.modules if (FOLDER / f"{name}.py").exists()]:
        del sys.modules[name]
