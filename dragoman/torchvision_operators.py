"""Lets timm and transformers import where torchvision's compiled operators do not load.

Owns one declaration: the two operator schemas that torchvision's Python files register fake kernels for.
Refuses to touch a torchvision whose own library loads, and implements neither operator: no model shown calls them.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[Any] = []


def declare_missing_operators() -> None:
    """Declare `torchvision::nms` and `::qnms` once, if torchvision is installed and its library is unusable."""
    if _declared or _is_usable():
        return
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for schema in _SCHEMAS:
        library.define(schema)
    _declared.append(library)  # the operators live only as long as this object


def _is_usable() -> bool:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True
    import torch

    for library in Path(spec.origin).parent.glob("_C*"):
        try:
            torch.ops.load_library(str(library))
        except OSError:
            continue
        return True
    return False
