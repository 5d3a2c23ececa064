"""Importing the face and asking it for help costs no framework: checked by what got loaded, never by the clock."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.packaging.test_arrows import FRAMEWORKS

HEAVY = FRAMEWORKS | {"jinja2", "ml_dtypes", "numpy", "safetensors", "scipy", "sympy"}
HELP = """
from dragoman.cli import main
sys.argv = ["dragoman", *{arguments}]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
"""


def loaded_by(statement: str) -> tuple[set[str], str]:
    """The top-level modules a fresh interpreter holds after a statement, and what it printed."""
    script = f"import sys\n{statement}\nimport json\nprint()\nprint(json.dumps([*sys.modules]))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    printed, _, modules = done.stdout.strip().rpartition("\n")
    return {name.partition(".")[0] for name in json.loads(modules)}, printed.strip()


@pytest.mark.parametrize("module", ["dragoman", "dragoman.cli"])
def test_importing_the_face_loads_nothing_heavy(module: str) -> None:
    loaded, _ = loaded_by(f"import {module}")
    assert "dragoman" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("module", ["dragoman.ir", "dragoman.passes", "dragoman.frontends", "dragoman.backends"])
def test_importing_a_package_loads_no_framework(module: str) -> None:
    loaded, _ = loaded_by(f"import {module}")
    assert not loaded & FRAMEWORKS


@pytest.mark.parametrize("arguments", [["--help"], ["convert", "--help"]])
def test_help_is_answered_without_loading_anything_heavy(arguments: list[str]) -> None:
    loaded, printed = loaded_by(HELP.format(arguments=arguments))
    assert "convert" in printed
    assert not loaded & HEAVY


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    script = "import dragoman\ntry:\n    dragoman.convrt\nexcept AttributeError as error:\n    print(error)"
    _, printed = loaded_by(script)
    assert printed == "module 'dragoman' has no attribute 'convrt'"


def test_every_public_name_is_there() -> None:
    _, printed = loaded_by(
        "import dragoman\nprint(*(type(getattr(dragoman, name)).__name__ for name in dragoman.__all__))"
    )
    assert printed == "type type EnumType str _Callable function function function function"
