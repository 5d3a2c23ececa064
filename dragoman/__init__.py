"""Dragoman reads a model written in any framework and hands it over in another form, with proof that nothing was lost.

This module owns the names a user types after `import dragoman`. It refuses to import anything heavy: each name
is fetched from `dragoman.face` at its first use, so that `import dragoman` costs a few milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dragoman.face import Model, Report, Verdict, bench, convert, explain, load, verify

__version__ = "0.1.0"

__all__ = ["Model", "Report", "Verdict", "__version__", "bench", "convert", "explain", "load", "verify"]


def __getattr__(name: str) -> object:
    """Fetch a public name from `dragoman.face` the first time it is used, and keep it."""
    if name not in __all__:
        raise AttributeError(f"module 'dragoman' has no attribute {name!r}")
    from importlib import import_module

    if name == "bench":  # a package that is called like a function
        return import_module("dragoman.bench")
    value: object = getattr(import_module("dragoman.face"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
