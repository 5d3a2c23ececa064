"""What a reader of a conversion should know besides its verdict: what the model takes for granted, what was fixed.

A note about sizes at which the model behaves differently falls silent where verification ran at such sizes and passed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dragoman.ir.findings import Comparison, Status


@dataclass(frozen=True)
class Note:
    """One remark. `fails_at` are sizes at which it matters, empty for a remark that always does."""

    text: str
    fails_at: Mapping[str, int] = field(default_factory=dict[str, int])

    def __str__(self) -> str:
        return self.text

    def is_settled(self, comparison: Comparison | None) -> bool:
        """Whether a case that passed had these sizes."""
        if comparison is None or not self.fails_at:
            return False
        return any(
            case.status is Status.OK and self.fails_at.items() <= case.symbols.items() for case in comparison.cases
        )


def pending(notes: Iterable[Note], comparison: Comparison | None) -> list[Note]:
    """The notes that verification leaves open."""
    return [note for note in notes if not note.is_settled(comparison)]
