"""The rules of the house that a linter does not know: short files, files named for what they hold, no bare to-dos."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.sources import FOLDERS, ROOT

LONGEST = 500
NAMES_FOR_ANYTHING = {"common.py", "core.py", "helper.py", "helpers.py", "misc.py", "util.py", "utils.py"}
MARKS = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b(?!\(\S)")


def sources() -> list[Path]:
    folders = [*FOLDERS.values(), *(ROOT / name for name in ("tests", "benchmarks", "scripts", "docs"))]
    return [path for folder in folders for path in sorted(folder.rglob("*.py"))]


def bare_marks(source: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and MARKS.search(token.string):
            yield token.start[0], token.string


def test_no_file_is_longer_than_the_limit() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


def test_no_file_is_named_for_anything() -> None:
    assert [str(path.relative_to(ROOT)) for path in sources() if path.name in NAMES_FOR_ANYTHING] == []


def test_no_comment_is_a_bare_to_do() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {comment}"
        for path in sources()
        for line, comment in bare_marks(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "lines"),
    [("x = 1  # TODO tidy", [1]), ("# FIXME\n", [1]), ("\n# TODO(#12): pads", []), ("x = 'TODO'", []), ("# TODOS", [])],
)
def test_only_bare_to_dos_in_comments_count(source: str, lines: list[int]) -> None:
    assert [line for line, _ in bare_marks(source)] == lines
