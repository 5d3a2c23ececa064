"""Reads the project's own sources without importing them: which modules there are, and what each imports where."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS: dict[str, Path] = {
    name: ROOT / folder for name, folder in PROJECT["tool"]["setuptools"]["package-dir"].items()
}


@dataclass(frozen=True)
class Import:
    """One name that a module imports: `importer` is ours, `target` may be anybody's."""

    importer: str
    target: str
    path: Path
    line: int
    at_import: bool
    """Carried out when the importer is itself imported: not in a function, not for type checkers alone."""

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.importer} imports {self.target}"


def module_files(folders: dict[str, Path] = FOLDERS) -> Iterator[tuple[str, Path]]:
    """Every module under the package folders, by the name it is imported by."""
    for package, folder in folders.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join((package, *(parts[:-1] if parts[-1] == "__init__" else parts))), path


def imports_of(module: str, path: Path) -> Iterator[Import]:
    """Every import in a file, `importlib.import_module("name")` included."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    pending: list[tuple[ast.AST, bool]] = [(ast.parse(path.read_text(encoding="utf-8")), True)]
    while pending:
        node, at_import = pending.pop()
        for target in _targets(node, package):
            yield Import(module, target, path, node.lineno, at_import)  # type: ignore[attr-defined]
        pending.extend((child, at_import and _runs_at_import(node, child)) for child in ast.iter_child_nodes(node))


def _runs_at_import(node: ast.AST, child: ast.AST) -> bool:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return False
    for_checkers = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
    return not (for_checkers and child in node.body)  # type: ignore[attr-defined]


def _targets(node: ast.AST, package: str) -> list[str]:
    match node:
        case ast.Import():
            return [alias.name for alias in node.names]
        case ast.ImportFrom():
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            return [f"{source}.{alias.name}" for alias in node.names]
        case ast.Call(args=[ast.Constant(value=str(name)), *_]) if ast.unparse(node.func).endswith("import_module"):
            return [name]
        case _:
            return []
