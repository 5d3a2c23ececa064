"""Where an equation of a jaxpr comes from: the primitive, the path of scopes it was traced in, the user's source line.

JAX keeps both: `named_scope` (flax opens one for each module) and the traceback. The line is the innermost one outside
of JAX, of the libraries of layers built on it, and of Python's own library.
"""

from __future__ import annotations

import linecache
import re
import sysconfig
from functools import lru_cache
from pathlib import Path
from typing import Any

from dragoman.ir.provenance import Provenance, Source

_LIBRARIES = ("jax", "jaxlib", "flax", "haiku", "equinox", "optax", "jaxtyping", "einops")
_TRANSFORMED = re.compile(r"\b\w+\(((?:[^()]|\([^()]*\))*)\)")
_LONGEST_CODE = 120


def _places() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    installed = [str(Path(paths[kind]) / name) + "/" for kind in ("purelib", "platlib") for name in _LIBRARIES]
    return (*installed, str(Path(__file__).parent) + "/", "<")


_NOT_THE_MODEL = _places()
_STANDARD = sysconfig.get_path("stdlib") + "/"


@lru_cache(maxsize=4096)
def is_models_file(path: str) -> bool:
    """Whether a file belongs to the model rather than to JAX, to a library of layers, to Python or to us."""
    standard = path.startswith(_STANDARD) and "-packages" not in path
    return not path.startswith(_NOT_THE_MODEL) and not standard


def line_of(traceback: Any) -> str:
    """`model.py:41  code` of the innermost frame that is the model's own; empty where there is none."""
    for frame in getattr(traceback, "frames", None) or ():
        if is_models_file(frame.file_name):
            return user_line(frame.file_name, frame.line_num)
    return ""


@lru_cache(maxsize=8192)
def user_line(path: str, number: int) -> str:
    """A source line as messages show it."""
    code = linecache.getline(path, number).strip()[:_LONGEST_CODE]
    shown = f"{Path(path).name}:{number}"
    return f"{shown}  {code}" if code else shown


@lru_cache(maxsize=8192)
def module_of(stack: str) -> str:
    """A stack of names as a path: `jvp(Net)/encoder/dense` is `Net.encoder.dense`."""
    while (plain := _TRANSFORMED.sub(r"\1", stack)) != stack:
        stack = plain
    return ".".join(part for part in stack.split("/") if part)


def is_models_function(jaxpr: Any) -> bool:
    """Whether a nested program was traced from a function of the model, rather than from one of JAX's own."""
    told = getattr(getattr(jaxpr, "debug_info", None), "func_src_info", None) or ""
    path, _, number = told.partition(" at ")[2].rpartition(":")
    return number.isdigit() and is_models_file(path)


def provenance_of(equation: Any, outer: Source | None, own_line: bool = True) -> Provenance:
    """The provenance of an equation; one inside a nested program continues the path of what calls it.

    Without `own_line` the line is the caller's: JAX traces a function of its own once and keeps the lines of that call.
    """
    info = equation.source_info
    module, line = module_of(str(info.name_stack)), line_of(info.traceback) if own_line else ""
    if outer is not None:
        module = ".".join(part for part in (outer.module, module) if part)
        line = line or outer.line
    return Provenance((Source(equation.primitive.name, module, line),))
