"""The table from primitives of JAX to functions that write IR, and the decorator that adds to it.

A translation is called with the context, the operands as IR values and the parameters of the equation as keywords,
sizes among them as JAX has them (`c.dim`, `c.shape` read them). It returns one value, or a list of as many as the
primitive has results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Translation = Callable[..., Any]

_TABLE: dict[str, Translation] = {}


def translates(*primitives: str) -> Callable[[Translation], Translation]:
    """Register a translation of primitives by name, as a jaxpr prints them: `translates("dot_general")`."""

    def register(function: Translation) -> Translation:
        _TABLE.update(dict.fromkeys(primitives, function))
        return function

    return register


def translation_of(primitive: str) -> Translation | None:
    """The translation of a primitive, if there is one."""
    return _TABLE.get(primitive)


def translated_primitives() -> tuple[str, ...]:
    """The names of all primitives in the table, sorted."""
    return tuple(sorted(_TABLE))
