"""A scope of names in the emitted model: the main graph, or a sub-graph that also sees the scopes around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from dragoman.ir.dims import Dim

Call = tuple[str, tuple[str, ...], int, str]
"""An operator, its inputs, how many results it has, and its attributes as text."""

_DRAWS = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")


def call_key(op_type: str, inputs: Sequence[str], count: int, attributes: Mapping[str, Any]) -> Call | None:
    """What two nodes share that compute the same; None for one that may not: it draws, or it has a body or an array."""
    values = attributes.values()
    if op_type in _DRAWS or any(isinstance(v, (onnx.GraphProto, onnx.TensorProto, np.ndarray)) for v in values):
        return None
    return op_type, tuple(inputs), count, repr(sorted(attributes.items())) if attributes else ""


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
        self._results: dict[Call, list[str]] = {}
        self._calls: dict[str, Call] = {}  # by each of their results

    def known(self, call: Call) -> list[str] | None:
        """The results of a node that computes the same, here or further out."""
        return next((scope._results[call] for scope in self.outwards() if call in scope._results), None)

    def remember(self, call: Call, results: list[str]) -> None:
        """Tell that a node of this scope computes something."""
        self._results[call] = results
        self._calls.update(dict.fromkeys(results, call))

    def renamed(self, old: str, new: str) -> None:
        """Tell that a result has another name."""
        call = self._calls.pop(old, None)
        if call is not None:
            self.remember(call, [new if name == old else name for name in self._results[call]])

    def outwards(self) -> Iterator[Scope]:
        """This scope and those around it, inner ones first."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent
