"""Where a node of an exported graph comes from: the operator, the module path and the user's source line.

torch keeps both in `node.meta`. The line is the deepest frame outside torch's own files: in a Hugging Face or timm
model, the line of the modelling code that called the operator.
"""

from __future__ import annotations

import enum
import os
import re
import sysconfig
from functools import lru_cache
from types import FrameType
from typing import Any

import torch
from torch._ops import HigherOrderOperator, OpOverload
from torch.fx import Node

from dragoman.ir.provenance import Provenance, Source

_FRAME = re.compile(r'File "([^"\n]+)", line (\d+)(?:, in [^\n]+)?(?:\n\s+([^\n]+))?')
_TORCH = os.path.dirname(torch.__file__) + os.sep  # noqa: PTH120  (string prefixes are compared many thousand times)
_TORCH_NN = os.path.join(_TORCH, "nn") + os.sep  # noqa: PTH118
_OPERATORS = (os.path.join(_TORCH, "_ops.py"), os.path.join(_TORCH, "_subclasses") + os.sep)  # noqa: PTH118
_META = os.path.join(_TORCH, "_meta_registrations.py")  # noqa: PTH118
_INIT = os.path.join(_TORCH, "__init__.py")  # noqa: PTH118
_EXPORT = os.path.join(_TORCH, "export") + os.sep  # noqa: PTH118
_NOT_THE_MODEL = (_TORCH, "<", os.path.dirname(__file__) + os.sep)  # noqa: PTH120
_STANDARD = sysconfig.get_path("stdlib") + os.sep
_LONGEST_CODE = 120


@lru_cache(maxsize=4096)
def is_models_file(path: str) -> bool:
    """Whether a file belongs to the model rather than to torch, to Python, to us, or to generated code."""
    standard = path.startswith(_STANDARD) and "site-packages" not in path
    return not path.startswith(_NOT_THE_MODEL) and not standard


class Asker(enum.StrEnum):
    """Who asks something about a size: the model, or an operator of torch, which checks or chooses by it."""

    MODEL = "the model"
    CHECK = "a check of an operator"
    OPERATOR = "an operator"


def asking_frame(frame: FrameType | None) -> tuple[FrameType | None, Asker]:
    """The innermost frame of the model's own code, or of torch.nn where that is the model, from this one outwards.

    Also tells whether an operator of torch lies between: then it is the operator that asks, not the model.
    """
    inside_torch: FrameType | None = None
    in_operator = checks = False
    while frame is not None:
        path = frame.f_code.co_filename
        if is_models_file(path):
            break
        if inside_torch is None:
            in_operator = in_operator or path.startswith(_OPERATORS)
            checks = checks or path == _META or (path == _INIT and frame.f_code.co_name.startswith("_check"))
            if path.startswith(_TORCH_NN):
                inside_torch = frame
        frame = _outwards(frame, path)
    asker = Asker.MODEL if not in_operator else Asker.CHECK if checks else Asker.OPERATOR
    return frame or inside_torch, asker


def forward_of_the_model(frame: FrameType | None) -> FrameType | None:
    """The innermost `forward` of the model's own code, else its innermost frame, else the `forward` of torch.nn."""
    inside_torch: FrameType | None = None
    own: FrameType | None = None
    while frame is not None:
        path, name = frame.f_code.co_filename, frame.f_code.co_name
        if is_models_file(path):
            if name == "forward":
                return frame
            own = own or frame
        elif name == "forward" and inside_torch is None and path.startswith(_TORCH_NN):
            inside_torch = frame
        frame = _outwards(frame, path)
    return own or inside_torch


def _outwards(frame: FrameType, path: str) -> FrameType | None:
    """The next frame, up to torch.export: beyond it is whoever asked for the trace."""
    return None if path.startswith(_EXPORT) else frame.f_back


@lru_cache(maxsize=4096)
def line_of(stack: str) -> str:
    """`model.py:41  code` of the deepest user frame in a stack that torch recorded, else of torch.nn; or empty."""
    frames = _FRAME.findall(stack)
    for path, number, code in reversed(frames):
        if is_models_file(path):
            return user_line(path, int(number), code)
    path, number, code = frames[-1] if frames else ("", "0", "")
    return user_line(path, int(number), code) if path.startswith(_TORCH_NN) else ""


def user_line(path: str, number: int, code: str = "") -> str:
    """A source line as messages show it."""
    shown = f"{os.path.basename(path)}:{number}"  # noqa: PTH119
    return f"{shown}  {code[:_LONGEST_CODE].strip()}" if code else shown


def module_of(node: Node) -> str:
    """The path of the innermost module that was running, such as `encoder.layer.3.attn`."""
    stack: dict[str, Any] = node.meta.get("nn_module_stack") or {}
    path = ""
    for entry in stack.values():
        path = entry[0] if isinstance(entry, tuple) else str(entry)
    return path.partition("@")[0]  # a module called twice is told apart by a suffix


def operator_of(node: Node) -> str:
    """The operator's name as torch prints it: `aten.linear.default`."""
    target = node.target
    if isinstance(target, OpOverload):
        return str(target)
    if isinstance(target, HigherOrderOperator):
        return f"higher_order.{target.name()}"
    name = getattr(target, "__name__", str(target))
    return f"_operator.{name}" if getattr(target, "__module__", "") in ("_operator", "builtins") else name


def source_of(node: Node) -> Source:
    """The provenance entry of a node."""
    return Source(operator_of(node), module_of(node), line_of(node.meta.get("stack_trace") or ""))


def provenance_of(node: Node, outer: Provenance) -> Provenance:
    """A node's provenance. Nodes inside control flow have no user line of their own and take it from `outer`."""
    own = source_of(node)
    if outer.sources and not (own.line and own.module):
        last = outer.sources[-1]
        own = Source(own.operator, own.module or last.module, own.line or last.line)
    return Provenance((own,))
