"""Calls `package.module:factory`: the user's own function that returns a model, alone or with example arguments.

Owns the import, the call, and the words for what goes wrong in them, which is always told with the user's line.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import sysconfig
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from dragoman.ir.errors import DragomanError, UsageError

_FORM = "package.module:factory"
_LISTED = 12  # names of functions that a message lists


def is_factory(text: str) -> bool:
    """Whether a text has the form of a factory's name, rather than of a path."""
    module, colon, _ = text.partition(":")
    return bool(colon) and bool(module) and all(part.isidentifier() for part in module.split("."))


def made_by(spec: str) -> Any:
    """What the factory of that name returns; a module of that name as it is. Raises UsageError."""
    module, _, attribute = spec.partition(":")
    if not attribute or not all(part.isidentifier() for part in attribute.split(".")):
        raise UsageError(f"{spec}: after the colon comes the name of a function, as in {_FORM}")
    found: Any = _imported(module, spec)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UsageError(f"{spec}: {module} has no {part!r}; {_offered(found, part)}")
        found = getattr(found, part)
    if _is_module(found):
        return found
    if not callable(found):
        raise UsageError(f"{spec} is a {type(found).__name__}: it should be a function that returns the model")
    return _called(found, spec)


def _is_module(candidate: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(candidate, torch.nn.Module)


def _offered(owner: Any, wanted: str) -> str:
    """What a user may have meant: names that are close, else the functions that are defined there."""
    own = [
        name
        for name, value in getattr(owner, "__dict__", {}).items()
        if not name.startswith("_")
        and callable(value)
        and getattr(value, "__module__", None) == getattr(owner, "__name__", "")
    ]
    close = get_close_matches(wanted, own, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    listed = sorted(own, key=lambda name: (not name.islower(), name))[:_LISTED]
    return f"it defines {', '.join(listed)}" if listed else "it defines no functions"


def _imported(module: str, spec: str) -> Any:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # last, so that a folder here never shadows an installed package
    if module.endswith(".py"):
        name = spec.replace(".py:", ":", 1)
        raise UsageError(f"{spec}: a module is named without its .py, and from the folder that it lies in: {name}")
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        if module == missing or module.startswith(missing + "."):
            raise UsageError(f"{spec}: there is no module {missing!r} here or among the installed packages") from None
        raise UsageError(f"{spec}: importing {module} needs {missing!r}, which is not installed") from error
    except (Exception, SystemExit) as error:
        raise UsageError(f"{spec}: importing {module} failed: {_said(error)}") from error


def _called(factory: Any, spec: str) -> Any:
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise UsageError(
            f"{spec} is called without arguments, but: {error}. Write a function that gives them"
        ) from None
    except ValueError:  # a builtin without a signature
        pass
    try:
        return factory()
    except DragomanError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"{spec} raised {_said(error)}") from error


def _said(error: BaseException) -> str:
    text = str(error).strip() or "(without a message)"
    if isinstance(error, SystemExit):
        text = f"it ended the process with {error.code!r}"
    line = "" if isinstance(error, SyntaxError) else users_line(error.__traceback__)
    return f"{type(error).__name__}: {text}" + (f"\n  {line}" if line else "")


def users_line(trace: TracebackType | None) -> str:
    """`model.py:41` of the deepest frame of a traceback that lies in no installed library; empty if there is none."""
    found = ""
    for path, number in _frames(trace):
        if not path.startswith(libraries()):
            found = f"{Path(path).name}:{number}"
    return found


def _frames(trace: TracebackType | None) -> Iterator[tuple[str, int]]:
    while trace is not None:
        yield trace.tb_frame.f_code.co_filename, trace.tb_lineno
        trace = trace.tb_next


@cache
def libraries() -> tuple[str, ...]:
    """Beginnings of the paths of files that are not the user's: the standard library, installed packages, this one."""
    paths = sysconfig.get_paths()
    own = str(Path(__file__).parent)
    return (own, "<", *(paths[kind] for kind in ("stdlib", "platstdlib", "purelib", "platlib")))
