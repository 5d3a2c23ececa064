"""Reads models of JAX from their jaxprs: functions with example arguments, models of flax, equinox and haiku, exported
artefacts.

Owns the translation of jaxprs, their dynamic dims and their state. Refuses what no table entry translates, naming the
scope and the source line of each occurrence.
"""

from __future__ import annotations

from dragoman.frontends.jax.load import import_function, settings
from dragoman.frontends.jax.runner import SourceRunner
from dragoman.frontends.jax.table.registry import translates

__all__ = ["SourceRunner", "import_function", "settings", "translates"]
