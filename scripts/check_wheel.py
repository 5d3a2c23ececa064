"""Builds the sdist, the wheel from it, and proves the wheel whole: the files of the sources, and all of it imports.

The wheel goes into an environment of its own, which borrows its dependencies from the one this runs in. An editable
install hides a forgotten sub-package; this does not. Run it with `make wheel-check`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
OPTIONAL = ("equinox", "flax", "jax", "keras", "tensorflow", "tf2onnx", "triton", "z3")
"""Frameworks that the environment may lack; a module that needs one then counts as left out."""

IMPORT_ALL = """
import importlib, pkgutil, sys
import dragoman
prefix, optional = sys.argv[1], sys.argv[2].split(",")
left_out, modules = [], ["dragoman"]
for found in pkgutil.walk_packages(dragoman.__path__, "dragoman."):
    modules.append(found.name)
for name in modules:
    if name.endswith(".__main__"):
        continue
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in optional:
            raise
        left_out.append(f"{name} (needs {error.name})")
        continue
    assert module.__file__.startswith(prefix), f"{name} came from {module.__file__}, not from the wheel"
print(f"{len(modules) - len(left_out)} modules import from the wheel")
print(*(f"  left out: {name}" for name in left_out), sep="\\n", end="")
"""


def run(*command: str | Path, cwd: Path, quiet: bool = False) -> None:
    """Run a command, and stop if it fails; a quiet one shows what it printed only then."""
    arguments = [str(part) for part in command]
    output = (subprocess.PIPE, subprocess.STDOUT) if quiet else (None, None)
    done = subprocess.run(arguments, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output[0], stderr=output[1], check=False)
    if done.returncode:
        sys.exit(f"{(done.stdout or b'').decode()}failed with {done.returncode}: {' '.join(arguments)}")


def source_files() -> set[str]:
    """What a wheel must hold, by the names that git knows (all files on disk where there is no git)."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split("\0")
    expected = set()
    for package, folder in PROJECT["tool"]["setuptools"]["package-dir"].items():
        inside = [Path(name).relative_to(folder) for name in listed if name.startswith(f"{folder}/")]
        if not listed[0]:
            inside = [path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*.py")]
        expected |= {str(Path(*package.split("."), path)) for path in inside}
    return expected


def check_files(wheel: Path) -> None:
    """Compare what the wheel holds with the sources."""
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if ".dist-info/" not in name}
    missing, surplus = sorted(source_files() - shipped), sorted(shipped - source_files())
    if missing or surplus:
        sys.exit(f"{wheel.name} lacks {missing} and has {surplus} that are not in the sources: see tool.setuptools")
    print(f"{wheel.name} holds the {len(shipped)} files of the sources")


def main() -> None:
    """Build, compare, install, import and ask for help."""
    with tempfile.TemporaryDirectory(prefix="dragoman-wheel-") as name:
        folder = Path(name).resolve()
        # Without isolation: the build's requirement, setuptools, is here already and pinned.
        build = (sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", ROOT)
        run(*build, cwd=folder, quiet=True)
        shutil.rmtree(ROOT / "dragoman.egg-info", ignore_errors=True)
        (wheel,) = (folder / "dist").glob("*.whl")
        check_files(wheel)

        venv.create(folder / "venv", with_pip=False, symlinks=True)
        python = folder / "venv" / "bin" / "python"
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python, "install")
        run(*pip, "--no-deps", "--no-index", wheel, cwd=folder, quiet=True)
        (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
        # The path alone: the .pth files in it, and with them the editable install, are not read.
        (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")

        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        run(python, "-c", IMPORT_ALL, site, ",".join(OPTIONAL), cwd=folder)
        run(folder / "venv" / "bin" / "dragoman", "--help", cwd=folder)


if __name__ == "__main__":
    main()
