"""What each torch operator means in the IR, one module per family of operators.

Owns the entries only; how a graph is walked is the walker's matter. An operator without an entry is decomposed by
torch, or refused.
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
