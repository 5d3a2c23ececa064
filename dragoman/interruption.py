"""Ctrl-C and SIGTERM: one message, an exit code, and nothing half-written.

Owns the handlers and the words. What is half-written is removed by those who wrote it, as the exception passes them.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

INTERRUPTED = 130
TERMINATED = 143
_SOON = 0.05  # seconds


class Interrupted(Exception):
    """Ctrl-C, with what it means for the output."""


class Terminated(BaseException):
    """SIGTERM, which no library on the way takes for an error of its own."""


def install_handlers() -> None:
    """Let SIGTERM clean up, and let no Ctrl-C be lost."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.unraisablehook = _resend


def _terminate(number: int, frame: object) -> NoReturn:
    raise Terminated  # unlike the signal itself, this removes what is half-written


def _resend(what: Any) -> None:
    """Python drops what is raised in a callback: a Ctrl-C that came in one is sent again, anything else is reported."""
    if issubclass(what.exc_type, KeyboardInterrupt):
        import _thread
        import threading

        threading.Timer(_SOON, _thread.interrupt_main).start()
    else:
        sys.__unraisablehook__(what)


@contextmanager
def explained(output: Path | None) -> Generator[None]:
    """Raise Interrupted on Ctrl-C, saying what became of an output."""
    before = _stamp(output)
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(_message(output, before)) from None


def _message(output: Path | None, before: tuple[int, int] | None) -> str:
    if output is None:
        return "interrupted"
    if _stamp(output) != before:
        return f"interrupted after {output} had been written"
    return f"interrupted; {output} was {'left as it was' if before else 'not written'}"


def _stamp(path: Path | None) -> tuple[int, int] | None:
    """What tells a file from the one that replaces it; None where there is none."""
    try:
        found = os.lstat(path) if path is not None else None
    except OSError:
        return None
    return (found.st_ino, found.st_mtime_ns) if found is not None else None
