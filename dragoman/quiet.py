"""What a person at the terminal is spared: warnings that libraries address to those who program against them."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import TextIO

from dragoman.factory import libraries
from dragoman.ir.errors import printable


@contextmanager
def without_warnings_of_libraries() -> Generator[None]:
    """Show warnings about the user's own files on one line each, and none about files of installed libraries."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if not filename.startswith(libraries()):
            print(printable(f"{filename}:{lineno}: {category.__name__}: {message}"), file=file or sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
