"""Who may import whom: the arrows of the architecture, read from the sources without running them."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.packaging.sources import PROJECT, Import, imports_of, module_files


@dataclass(frozen=True)
class Reach:
    """What the modules under a name may import: of ours, and of the frameworks at import and when called."""

    ours: tuple[str, ...]
    at_import: frozenset[str] = frozenset()
    when_called: frozenset[str] = frozenset()


FRAMEWORKS = frozenset(
    {
        "equinox",
        "flax",
        "haiku",
        "jax",
        "jaxlib",
        "keras",
        "onnx",
        "onnx_ir",
        "onnxruntime",
        "onnxscript",
        "openvino",
        "tensorflow",
    }
    | {
        "sympy",
        "tf2onnx",
        "timm",
        "torch",
        "torchvision",
        "transformers",
        "triton",
        "z3",
    }  # sympy: torch.export's sizes
)
IR, FRONTENDS = ("dragoman.ir",), ("dragoman.frontends", "dragoman.ir")
BACKENDS = ("dragoman.backends", "dragoman.ir", "dragoman.passes.legalize", "dragoman.kernels")

# The longest name that fits a module holds. A new frontend or backend adds its line, with its own framework only.
REACHES: dict[str, Reach] = {
    "dragoman": Reach(("dragoman",), when_called=FRAMEWORKS),
    "dragoman.bench.chains": Reach(("dragoman",), frozenset({"torch"}), FRAMEWORKS),
    "dragoman.bench.gpu": Reach(("dragoman",), frozenset({"torch"}), FRAMEWORKS),
    "dragoman.ir": Reach(IR),
    "dragoman.passes": Reach(("dragoman.passes", "dragoman.ir")),
    "dragoman.passes.smt": Reach(("dragoman.passes", "dragoman.ir"), frozenset({"z3"})),
    "dragoman.kernels": Reach(("dragoman.kernels",), frozenset({"torch", "triton"})),
    "dragoman.frontends": Reach(FRONTENDS),
    "dragoman.frontends.jax": Reach(FRONTENDS, frozenset({"jax", "jaxlib"})),
    "dragoman.frontends.pytorch": Reach(
        FRONTENDS, frozenset({"sympy", "torch"}), frozenset({"torchvision", "transformers"})
    ),
    "dragoman.frontends.tensorflow": Reach(FRONTENDS, frozenset({"tensorflow"})),
    "dragoman.frontends.tensorflow_import": Reach(FRONTENDS, when_called=frozenset({"tensorflow", "triton"})),
    "dragoman.frontends.keras": Reach(FRONTENDS, frozenset({"keras", "tensorflow"})),
    "dragoman.frontends.onnx": Reach(FRONTENDS, frozenset({"onnx"})),
    "dragoman.backends": Reach(BACKENDS),
    "dragoman.backends.triton": Reach(BACKENDS),
    "dragoman.backends.triton.support": Reach(BACKENDS, frozenset({"torch", "triton"})),
    "dragoman.backends.triton.worker": Reach(BACKENDS, when_called=frozenset({"torch"})),
    "dragoman.backends.onnx": Reach(BACKENDS, frozenset({"onnx", "onnx_ir"}), frozenset({"onnxruntime"})),
}


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def reach_of(module: str) -> Reach:
    return REACHES[max((name for name in REACHES if within(module, name)), key=len)]


def objection(found: Import) -> str | None:
    """Why an import is not allowed, or None."""
    reach, root = reach_of(found.importer), found.target.partition(".")[0]
    if root == "dragoman":
        allowed = any(within(found.target, package) for package in reach.ours)
        return None if allowed else f"{found}; it may import {', '.join(reach.ours)}"
    if root not in FRAMEWORKS or root in reach.at_import:
        return None
    if root not in reach.when_called:
        return f"{found}; this package may not use {root}"
    return f"{found} when it is itself imported; do it where it is used" if found.at_import else None


@pytest.fixture(scope="module")
def imports() -> list[Import]:
    return [found for module, path in module_files() for found in imports_of(module, path)]


def test_every_import_follows_the_arrows(imports: list[Import]) -> None:
    assert len(imports) > 20
    assert not [reason for found in imports if (reason := objection(found))]


def test_every_library_imported_is_a_declared_dependency(imports: list[Import]) -> None:
    project, owners = PROJECT["project"], importlib.metadata.packages_distributions()
    core = set(distributions(project["dependencies"]))
    extras = {name for extra, listed in project["optional-dependencies"].items() for name in distributions(listed)}
    undeclared = []
    for found in imports:
        root = found.target.partition(".")[0]
        if root == "dragoman" or root in sys.stdlib_module_names:
            continue
        declared = core | extras if root in FRAMEWORKS else core
        if not declared & {root, *(normal(owner) for owner in owners.get(root, ()))}:
            undeclared.append(str(found))
    assert not undeclared


def distributions(requirements: list[str]) -> Iterator[str]:
    for requirement in requirements:
        yield normal(re.split(r"[^\w.-]", requirement, maxsplit=1)[0])


def normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


@pytest.mark.parametrize(
    ("importer", "source", "complaint"),
    [
        ("dragoman.ir.graph", "import torch", "may not use torch"),
        ("dragoman.ir.graph", "def f():\n    import onnx.helper", "may not use onnx"),
        ("dragoman.ir.graph", "from dragoman.passes import fold", "dragoman.passes.fold"),
        ("dragoman.ir.graph", "from ..backends import onnx", "dragoman.backends.onnx"),
        ("dragoman.ir.graph", "from dragoman import __version__", "dragoman.__version__"),
        ("dragoman.kernels.matmul", "from dragoman.ir import types", "dragoman.ir.types"),
        ("dragoman.frontends.pytorch.walk", "from dragoman.frontends.pytorch import table\nimport onnx", "use onnx"),
        ("dragoman.frontends.pytorch.walk", "import transformers", "where it is used"),
        ("dragoman.frontends.pytorch.walk", "import dragoman.kernels", "dragoman.kernels"),
        ("dragoman.backends.onnx.emit", "from dragoman.passes import pipelines", "dragoman.passes.pipelines"),
        ("dragoman.cli", "try:\n    from torch import nn\nexcept ImportError:\n    pass", "where it is used"),
        ("dragoman.cli", "class C:\n    import onnxruntime", "where it is used"),
        ("dragoman.ir.text", "import importlib\nm = importlib.import_module('jax.numpy')", "may not use jax"),
        ("dragoman.passes.fold", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch", "use torch"),
    ],
)
def test_a_forbidden_import_is_named(tmp_path: Path, importer: str, source: str, complaint: str) -> None:
    reasons = objections(tmp_path, importer, source)
    assert len(reasons) == 1
    assert complaint in reasons[0]


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("dragoman.cli", "def main():\n    import torch\n    from dragoman.passes import pipelines"),
        ("dragoman.cli", "import typing\nif typing.TYPE_CHECKING:\n    import torch"),
        ("dragoman.backends.onnx.emit", "import onnx_ir\nfrom dragoman.passes.legalize import legalize"),
        ("dragoman.backends.onnx.emit", "from dragoman.passes import legalize\nfrom . import table"),
        ("dragoman.frontends.pytorch.walk", "import torch\nfrom ...ir import graph\nfrom .. import pytorch"),
        ("dragoman.kernels.matmul", "import triton\nfrom . import tiles"),
        ("dragoman.ir.graph", "from torchlike import nn\nimport numpy\nfrom .ops import norm"),
    ],
)
def test_an_allowed_import_passes(tmp_path: Path, importer: str, source: str) -> None:
    assert objections(tmp_path, importer, source) == []


def objections(folder: Path, importer: str, source: str) -> list[str]:
    path = folder / "module.py"
    path.write_text(source, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.packaging.sources.ROOT", folder)
        return [reason for found in imports_of(importer, path) if (reason := objection(found))]
