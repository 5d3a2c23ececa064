"""Collects every operator that has no translation, so that a model is refused once, with the whole list."""

from __future__ import annotations

from dataclasses import dataclass, field

from dragoman.ir.errors import ImportRefused, Occurrence
from dragoman.ir.provenance import Source

_ADVICE = (
    'To continue: register a translation with @dragoman.frontends.onnx.translates("{operator}"), or export the model'
    " without it."
)


@dataclass
class Refusals:
    """Operators met so far without a translation: where first, how often, and why."""

    _found: dict[tuple[str, str], tuple[Source, int]] = field(default_factory=dict[tuple[str, str], tuple[Source, int]])

    def add(self, source: Source, reason: str = "") -> None:
        """Note one occurrence."""
        first, count = self._found.get((source.operator, reason), (source, 0))
        self._found[source.operator, reason] = (first, count + 1)

    def raise_if_any(self) -> None:
        """Raise ImportRefused with all of them."""
        if not self._found:
            return
        occurrences = [
            Occurrence(operator, count, source.module, source.line, reason)
            for (operator, reason), (source, count) in self._found.items()
        ]
        unknown = next((o.operator for o in occurrences if not o.reason), None)
        raise ImportRefused(occurrences, _ADVICE.format(operator=unknown) if unknown else "")
