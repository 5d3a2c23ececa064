"""What each primitive of JAX means in the IR, one module per family.

Owns the entries only; how a jaxpr is walked is the walker's matter, and what XLA's general forms mean is in
`frontends.jax.xla`. A primitive without an entry is refused.
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
