"""The declared packages are the folders on disk, each file ships, and the root stays off `sys.path`."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import dragoman
from tests.packaging.sources import FOLDERS, PROJECT, ROOT, module_files

SETTINGS = PROJECT["tool"]["setuptools"]


def packages_on_disk() -> set[str]:
    return {
        ".".join((package, *marker.parent.relative_to(folder).parts))
        for package, folder in FOLDERS.items()
        for marker in folder.rglob("__init__.py")
    }


def test_the_declared_packages_are_the_folders_on_disk() -> None:
    declared = set(SETTINGS["packages"])
    forgotten, gone = sorted(packages_on_disk() - declared), sorted(declared - packages_on_disk())
    assert not forgotten, f"add to tool.setuptools.packages in pyproject.toml: {forgotten}"
    assert not gone, f"remove from tool.setuptools.packages in pyproject.toml: {gone}"
    assert SETTINGS["packages"] == sorted(declared), "keep tool.setuptools.packages sorted, each name once"


def test_every_module_lies_in_a_package() -> None:
    strays = [str(path.relative_to(ROOT)) for _, path in module_files() if not (path.parent / "__init__.py").exists()]
    assert not strays, f"these folders lack an __init__.py, so a wheel leaves them out: {strays}"


def test_every_data_file_matches_a_declared_pattern() -> None:
    patterns = [pattern for listed in SETTINGS["package-data"].values() for pattern in listed]
    strays = [
        str(path.relative_to(ROOT))
        for folder in FOLDERS.values()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
        if not any(fnmatch(path.name, pattern) for pattern in patterns)
    ]
    assert not strays, f"no pattern in tool.setuptools.package-data ships these: {strays}"


def test_root_folders_are_imported_under_the_projects_name() -> None:
    for package, folder in FOLDERS.items():
        module = importlib.import_module(package)
        assert Path(str(module.__file__)) == folder / "__init__.py"


def test_the_root_is_not_on_the_import_path() -> None:
    assert str(ROOT) not in [str(Path(entry or ".").resolve()) for entry in sys.path]
    bare = subprocess.run(
        [sys.executable, "-c", "import ir"], cwd="/", capture_output=True, text=True, timeout=60, check=False
    )
    assert "No module named 'ir'" in bare.stderr


def test_the_version_is_the_installed_one() -> None:
    assert dragoman.__version__ == importlib.metadata.version("dragoman")
