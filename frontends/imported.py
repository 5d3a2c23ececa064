"""What every reader hands over: a graph, what the model changes, what it takes for granted, and how long it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dragoman.ir.dims import UNBOUNDED, Symbol
from dragoman.ir.graph import Graph
from dragoman.ir.runner import Runner
from dragoman.ir.weights import Weight


@dataclass(frozen=True)
class Assumption:
    """Something the model asks about its sizes that fails at `fails_at` (sizes of 0 or 1): the import follows the
    other path.
    """

    condition: str
    line: str
    fails_at: Mapping[str, int]

    def __str__(self) -> str:
        sizes = ", ".join(f"{n} = {v}" for n, v in self.fails_at.items())
        return f"the model asks whether {self.condition} ({self.line}); it was traced where this holds, not at {sizes}"


@dataclass(frozen=True)
class Limit:
    """The range that the model leaves to a symbol for which the caller gave none, and the line that limits it."""

    symbol: Symbol
    line: str

    def __str__(self) -> str:
        low, high = self.symbol.low, self.symbol.high
        values = f"{low} or more" if high >= UNBOUNDED else f"{low}..{high}"
        return f"'{self.symbol.name}' may only be {values} ({self.line})"


@dataclass(frozen=True)
class State:
    """Something the model changes: the input that has its value before, the output that has it after, and the value
    it begins with.
    """

    input: str
    output: str
    initial: Weight | None = None


@dataclass(frozen=True)
class Imported:
    """A model as a graph, and what is known about it besides.

    states       what the model changes
    assumptions  what it asks about its sizes that does not hold at sizes of 0 or 1
    seconds      how long tracing and translating took
    limits       ranges that it leaves to symbols for which the caller gave none
    """

    graph: Graph
    states: tuple[State, ...] = ()
    assumptions: tuple[Assumption, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict[str, float])
    limits: tuple[Limit, ...] = ()


class ExampleRunner(Runner, Protocol):
    """What runs a source model, and knows the inputs that it was read with."""

    def examples(self) -> Sequence[Any]:
        """Arrays in the order of the graph's inputs."""
        ...


@dataclass(frozen=True)
class Source:
    """A model that was read: what was imported, and the model itself to compare with."""

    imported: Imported
    runner: ExampleRunner
