"""Where a node comes from: the framework's operator, the module path and the user's source line.

Every pass keeps it; a node that replaces several carries the union. Nothing here is read back to decide semantics.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_MAX_SOURCES = 16  # a fused node names at most this many origins; a block of a model has fewer


@dataclass(frozen=True, slots=True)
class Source:
    """One operator as the framework had it. `line` reads `file.py:41` and may be followed by the code."""

    operator: str = ""
    module: str = ""
    line: str = ""

    def __str__(self) -> str:
        return "  ".join(part for part in (self.module, self.operator, self.line) if part)


@dataclass(frozen=True, slots=True)
class Provenance:
    """The origins of one node, in the order met."""

    sources: tuple[Source, ...] = ()

    @property
    def module(self) -> str:
        """The module path that all origins share, such as `encoder.layer.3`; empty for none."""
        paths = [s.module.split(".") for s in self.sources if s.module]
        if not paths:
            return ""
        shared = paths[0]
        for path in paths[1:]:
            same = 0
            while same < min(len(shared), len(path)) and shared[same] == path[same]:
                same += 1
            shared = shared[:same]
        return ".".join(shared)

    @property
    def line(self) -> str:
        """The source line of the last origin that has one: the one that produced the result."""
        return next((s.line for s in reversed(self.sources) if s.line), "")

    @property
    def operators(self) -> tuple[str, ...]:
        """The frameworks' operators, each once."""
        return tuple(dict.fromkeys(s.operator for s in self.sources if s.operator))

    def __str__(self) -> str:
        where = f" ({self.line})" if self.line else ""
        return f"{self.module or ', '.join(self.operators)}{where}"


NOWHERE = Provenance()


def union(origins: Iterable[Provenance]) -> Provenance:
    """All origins of several nodes, each once."""
    merged = tuple(dict.fromkeys(source for p in origins for source in p.sources))
    return Provenance(merged[:_MAX_SOURCES]) if merged else NOWHERE
