"""The `dragoman` process: its streams, its signals, and what an exception means to a user.

Imports the commands when it has everything in place to tell of what goes wrong in that, too.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from dragoman.interruption import INTERRUPTED, TERMINATED, Interrupted, Terminated, install_handlers

INTERNAL = 1
OVER_BUDGET = 7


def main() -> NoReturn:
    """Run the command line; ends the process with the exit code of DESIGN §8."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  (open until the end)
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a character ends no conversion
    install_handlers()
    sys.exit(status(sys.argv[1:]))


def status(arguments: list[str]) -> int:
    """Run the command line on arguments; returns the exit code."""
    try:
        from dragoman.commands import app

        result: Any = app(arguments, standalone_mode=False, prog_name="dragoman")
        code = int(result) if isinstance(result, int) else 0
    except (KeyboardInterrupt, Interrupted) as interruption:
        return _complain(str(interruption) or "interrupted", INTERRUPTED)
    except Terminated:
        return _complain("terminated", TERMINATED)
    except Exception as error:
        return _explain(error, debug="--debug" in arguments)
    return code if code != INTERRUPTED else _complain("interrupted", INTERRUPTED)


def _explain(error: Exception, *, debug: bool) -> int:
    """Print what an exception means to the user; returns the exit code."""
    show = getattr(error, "show", None)  # the option parser's own errors know how to show themselves
    if callable(show):
        show()
        return int(getattr(error, "exit_code", 2))
    if type(error).__name__ == "Abort":  # how older option parsers tell of Ctrl-C
        return _complain("interrupted", INTERRUPTED)
    if debug:
        import traceback

        traceback.print_exception(error)
    from dragoman.ir.errors import DragomanError

    if isinstance(error, DragomanError):
        return _complain(f"{type(error).__name__}: {error}", error.exit_code)
    if isinstance(error, MemoryError):
        return _complain("out of memory; nothing was written", OVER_BUDGET)
    return _complain(
        f"internal error: {type(error).__name__}: {error}\n"
        "This is a defect of dragoman. --debug shows where it happened.",
        INTERNAL,
    )


def _complain(message: str, code: int) -> int:
    from dragoman.ir.errors import printable

    print("\n".join(printable(line) for line in message.split("\n")), file=sys.stderr)
    return code
