"""Every exception Dragoman raises on purpose, with the exit code the command line gives it.

A message says what happened, where (module path, source line) and what to do about it. Anything that is
not a `DragomanError` is a bug of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


def printable(text: str) -> str:
    """Text from a model made safe for a terminal: control characters, direction marks and surrogates are escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class DragomanError(Exception):
    """Base of the tree. `exit_code` is the process status of `dragoman …` when this ends it."""

    exit_code = 1

    def __str__(self) -> str:
        # Messages quote names from models: what reaches a terminal must not steer it.
        return "\n".join(printable(line) for line in super().__str__().split("\n"))


class UsageError(DragomanError):
    """The call itself is wrong: a missing file, an input that the model does not have, a bad option."""

    exit_code = 2


class Unsupported(DragomanError):
    """The model asks for something that Dragoman cannot express or a backend cannot emit."""

    exit_code = 3


@dataclass(frozen=True)
class Occurrence:
    """One kind of operator that has no translation: how often it appears and where first."""

    operator: str
    count: int
    module: str = ""
    line: str = ""
    reason: str = ""

    def __str__(self) -> str:
        operator, module, line = (printable(text) for text in (self.operator, self.module, self.line))
        row = f"  {operator:<32} {self.count:>4}×   {module or '(top level)':<36} {line}"
        return row.rstrip() + (f"\n      {self.reason}" if self.reason else "")


class _Listed(Unsupported):
    """A refusal that lists every operator in its way."""

    def __init__(self, head: str, occurrences: Sequence[Occurrence], advice: str) -> None:
        self.occurrences = tuple(occurrences)
        super().__init__("\n".join([head, *map(str, self.occurrences), *([advice] if advice else [])]))


class ImportRefused(_Listed):
    """A frontend met operators that it cannot translate; `occurrences` lists every one of them."""

    def __init__(self, occurrences: Sequence[Occurrence], advice: str = "") -> None:
        self.advice = advice
        super().__init__(f"{_operators(len(occurrences), 'has', 'have')} no translation yet", occurrences, advice)

    def __reduce__(self) -> tuple[Any, ...]:
        return ImportRefused, (self.occurrences, self.advice)


class EmitRefused(_Listed):
    """A backend met operators that it cannot emit for the chosen target; `occurrences` lists them all."""

    def __init__(self, target: str, occurrences: Sequence[Occurrence], advice: str = "") -> None:
        self.target, self.advice = target, advice
        head = f"{_operators(len(occurrences), 'cannot', 'cannot')} be expressed in {target}"
        super().__init__(head, occurrences, advice)

    def __reduce__(self) -> tuple[Any, ...]:
        return EmitRefused, (self.target, self.occurrences, self.advice)


def _operators(count: int, one: str, many: str) -> str:
    return f"1 operator {one}" if count == 1 else f"{count} operators {many}"


class DimensionPinned(Unsupported):
    """A dimension that was asked to be dynamic is fixed by the model; the message names the line that fixed it."""


class NotEquivalent(DragomanError):
    """Verification found that the result differs from the source."""

    exit_code = 4


class UnsafeInput(DragomanError):
    """Reading the model would execute code or open files that it has no business with."""

    exit_code = 5


class Malformed(DragomanError):
    """The file or graph contradicts itself."""

    exit_code = 6


class OverBudget(DragomanError):
    """Going on would take more memory, time or nodes than allowed."""

    exit_code = 7


class TypeRuleError(Malformed):
    """An op was given operands or attributes that its type rule forbids."""


class VerifyError(Malformed):
    """A graph breaks an invariant: structure, types or the ops that are legal at a level."""


class ParseError(Malformed):
    """IR text that does not follow the grammar; the message names line and column."""


class OutputError(DragomanError):
    """The result could not be written: the folder is missing, not writable, or the disk is full."""

    exit_code = 2


class Inexact(DragomanError):
    """An exact arithmetic met something that it cannot express, such as rounding: the proof must go another way."""
