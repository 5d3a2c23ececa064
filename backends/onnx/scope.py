"""A scope of names in the emitted model: the main graph, or a sub-graph that also sees the scopes around it."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from dragoman.ir.dims import Dim


class Scope:
    """A graph being written, and what is known in it: where dims can be read, and those already computed."""

    def __init__(self, graph: onnx.GraphProto, parent: Scope | None) -> None:
        self.graph = graph
        self.parent = parent
        self.depth: int = parent.depth + 1 if parent else 0
        self.places: dict[Dim, tuple[str, int]] = {}  # a value and its axis that has this extent
        self.vectors: dict[Dim, str] = {}  # i64[1]
        self.scalars: dict[Dim, str] = {}  # i64[]
        self.shapes: dict[tuple[Dim, ...], str] = {}  # i64[n]
        self.produced: set[str] = set()  # results of nodes, in sub-graphs only

    def outwards(self) -> Iterator[Scope]:
        """This scope and those around it, inner ones first."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent
