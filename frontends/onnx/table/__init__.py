"""What each ONNX operator means in the IR, one module per family of operators.

An operator without an entry is written out as ONNX's own function body, where its schema has one, or refused.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache


@cache
def load() -> None:
    """Import every family, which fills the table."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
