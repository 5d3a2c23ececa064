"""The table from operators of TensorFlow to functions that write IR, and the decorators that add to it.

A translation is called with the context and the call, and returns a value, an operand, or a list of those, one per
result. `knows` adds a function that computes results element by element where all inputs are known: shape arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Translation = Callable[..., Any]

_TABLE: dict[str, Translation] = {}
_KNOWN: dict[str, Translation] = {}


def translates(*operators: str) -> Callable[[Translation], Translation]:
    """Register a translation of operators by name, as a NodeDef has them: `translates("Conv2D")`."""

    def register(function: Translation) -> Translation:
        _TABLE.update(dict.fromkeys(operators, function))
        return function

    return register


def knows(*operators: str) -> Callable[[Translation], Translation]:
    """Register how operators compute with known elements. The function may raise Undecided, or return None."""

    def register(function: Translation) -> Translation:
        _KNOWN.update(dict.fromkeys(operators, function))
        return function

    return register


def translation_of(operator: str) -> Translation | None:
    """The translation of an operator, if there is one."""
    return _TABLE.get(operator)


def known_of(operator: str) -> Translation | None:
    """How an operator computes with known elements."""
    return _KNOWN.get(operator)


def translated_operators() -> tuple[str, ...]:
    """The names of all operators in the table, sorted."""
    return tuple(sorted(_TABLE))
