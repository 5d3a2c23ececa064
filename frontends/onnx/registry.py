"""The table from ONNX operators to functions that write IR, with versions, and the decorators that add to it.

    @translates("Gelu", since=20)
    def gelu(c: Context, n: Call) -> Value:
        return c.b.gelu(n[0], approximate=n.text("approximate", "none"))

The function for the newest `since` at or below the operator's own version is used. A function gets the context and the
call, and returns a value, a tensor, a sequence, an optional, or a list of those, one for each output. `knows` adds a
function that computes the outputs element by element where all inputs are known so: shape arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Translation = Callable[..., Any]
ONNX, ML, MICROSOFT, PREVIEW = "", "ai.onnx.ml", "com.microsoft", "ai.onnx.preview"

_TABLE: dict[tuple[str, str], dict[int, Translation]] = {}
_KNOWN: dict[str, Translation] = {}
_REFUSED: dict[tuple[str, str], str] = {}


def translates(*operators: str, since: int = 1, domain: str = ONNX) -> Callable[[Translation], Translation]:
    """Register a translation of operators of a domain from a version on; of two for one version the last is used."""

    def register(function: Translation) -> Translation:
        for operator in operators:
            _TABLE.setdefault((domain, operator), {})[since] = function
        return function

    return register


def knows(*operators: str) -> Callable[[Translation], Translation]:
    """Register how an operator of `ai.onnx` computes with known elements. It may raise Undecided, or return None."""

    def register(function: Translation) -> Translation:
        for operator in operators:
            _KNOWN[operator] = function
        return function

    return register


def refuses(reason: str, *operators: str, domain: str = ONNX) -> None:
    """Declare that operators have no translation, and why."""
    for operator in operators:
        _REFUSED[domain, operator] = reason


def translation_of(domain: str, operator: str, version: int) -> Translation | None:
    """The translation of an operator at an opset version of its domain."""
    versions = _TABLE.get((domain, operator))
    if versions is None:
        return None
    fitting = [since for since in versions if since <= version]
    return versions[max(fitting)] if fitting else None


def known_of(operator: str) -> Translation | None:
    """How an operator of `ai.onnx` computes with known elements."""
    return _KNOWN.get(operator)


def refusal_of(domain: str, operator: str) -> str | None:
    """Why an operator has no translation, where there is a reason to tell."""
    return _REFUSED.get((domain, operator))


def translated_operators() -> tuple[tuple[str, str], ...]:
    """Domain and name of every operator in the table, sorted."""
    return tuple(sorted(_TABLE))
