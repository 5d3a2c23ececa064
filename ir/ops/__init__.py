"""The ops, one file per family. Each is defined once, here, by the rules of `dragoman.ir.op`."""

from __future__ import annotations

import importlib
import pkgutil


def load_all() -> None:
    """Import every family, which fills the registry."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
