"""What it means when torch.export fails, said with the model's own source line.

Tells apart a model that cannot run on the example at all, one that decides by the values of tensors, and one that
torch cannot trace.
"""

from __future__ import annotations

import linecache
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import torch
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from dragoman.frontends.pytorch.provenance import is_models_file, user_line
from dragoman.ir.errors import DragomanError, Unsupported, UsageError


class ModelFails(UsageError):
    """The model raises on the example arguments, without any tracing: `reason` and the model's own `line`."""

    def __init__(self, reason: str, line: str = "") -> None:
        self.reason, self.line = reason, line
        super().__init__(f"the model does not run on the example arguments: {reason}" + (f"\n  {line}" if line else ""))

    def __reduce__(self) -> tuple[Any, ...]:
        return ModelFails, (self.reason, self.line)


def explained(
    error: Exception, module: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> DragomanError:
    """The refusal for a failure of torch.export."""
    if isinstance(error, DragomanError):
        return error
    line = users_line(error.__traceback__)
    if isinstance(error, GuardOnDataDependentSymNode):
        return _data_dependent(error, line)
    text = _first_lines(error)
    if type(error).__name__ in ("DataDependentOutputException", "DynamicOutputShapeException"):
        return Unsupported(
            f"the model needs the values of tensors while it is traced ({text})\n  {line}\n"
            "Compute it from tensors only, or pass it in as an argument."
        )
    if "is not a known type" in text or "Unsupported input type" in text:
        return Unsupported(
            f"the model takes or returns an object that torch cannot look into\n  {text}\n"
            "Return tensors, tuples, lists or dicts, or register the class with"
            " torch.utils._pytree.register_pytree_node."
        )
    own = failure_of(module, args, kwargs)
    if own is not None:
        return own
    place = f"\n  {line}" if line else ""
    return Unsupported(f"torch.export cannot trace the model: {type(error).__name__}: {text}{place}")


def _data_dependent(error: Exception, line: str) -> Unsupported:
    if "specialized integer" in str(error) or "extract" in str(error).partition("\n")[0]:
        return Unsupported(
            f"a size is taken from the values of a tensor\n  {line}\n"
            "Pass the size in as an argument, or compute it from the shapes of inputs."
        )
    return Unsupported(
        f"the model decides by the values of a tensor\n  {line}\n"
        "A trace follows one path only: write it with torch.cond(predicate, true_function, false_function, operands)"
        " so that both are kept, or choose with torch.where."
    )


def failure_of(module: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> ModelFails | None:
    """What the module raises when it is called without any tracing, None if it runs."""
    try:
        with torch.no_grad():
            module(*args, **kwargs)
    except Exception as error:  # the model's own code may raise anything
        return ModelFails(f"{type(error).__name__}: {_first_lines(error)}", users_line(error.__traceback__))
    return None


def _first_lines(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    kept = [part for part in text.splitlines() if part.strip()]
    return kept[0][:300] if kept else text


def users_line(trace: TracebackType | None) -> str:
    """The deepest frame of a traceback that is the model's own code, as messages show it."""
    found = ""
    while trace is not None:
        code = trace.tb_frame.f_code
        if is_models_file(code.co_filename):
            text = linecache.getline(code.co_filename, trace.tb_lineno).strip()
            found = user_line(code.co_filename, trace.tb_lineno, text)
        trace = trace.tb_next
    return found
