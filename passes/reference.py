"""Values that reach each place of a graph, from one run of it in float64 at small sizes: what proof B is judged on.

Owns the run, bounded in time and memory, and what is kept of it: a corner of each value in its declared dtype, so that
all of them together stay below a fixed size. Rewrites are followed: what takes a place over has the values of that
place. What the run did not reach has none.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dragoman.ir.arithmetic import FLOAT64, Array
from dragoman.ir.cases import Case, elements, sizes_of
from dragoman.ir.dims import Symbol, evaluate
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.interpreter import Interpreter
from dragoman.ir.roles import input_roles

_KEPT_BYTES = 256 << 20  # of all values together
_MOST = 1 << 16  # elements of one value
_SIZES = (5, 2, 1)  # of a symbol, the first that is affordable
_EASY, _AFFORDABLE = 1 << 25, 1 << 28  # elements of all values of a run: a fraction of a second, some seconds
_WIDEST = 1 << 27  # elements of a weight: a GiB in float64, which a run holds one of at a time


class Reference:
    """Calls give the values known at a place, or None. `stopped` says why a run did not reach the end."""

    def __init__(self, graph: Graph, inputs: Sequence[Any], *, seconds: float = math.inf) -> None:
        self.stopped = ""
        self._values: dict[Value, Any] = {}
        places = len(graph.inputs) + sum(len(node.results) for node in graph)
        self._most = max(1, min(_MOST, _KEPT_BYTES // (8 * max(places, 1))))
        run = _Run(graph, self, time.perf_counter() + seconds)
        try:
            run.run(inputs)
        except Exception as error:  # whatever stops it, what was computed before is known
            self.stopped = str(error) or type(error).__name__
        self.sizes: Mapping[str, int] = dict(run.symbols)
        for value, array in zip(graph.inputs, inputs, strict=True):
            self.learn(value, array)

    def __str__(self) -> str:
        """In words, for a report."""
        sizes = ", ".join(f"{name}={extent}" for name, extent in sorted(self.sizes.items()))
        cut = f" that stopped: {self.stopped.splitlines()[0]}" if self.stopped else ""
        return f"a run in float64{' at ' if sizes else ''}{sizes}{cut}"

    def __call__(self, value: Value) -> Any | None:
        """A corner of the values at a place, in its declared dtype."""
        return self._values.get(value)

    def learn(self, value: Value, array: Any) -> None:
        """Keep a corner of what a place was seen to hold, unless it is known or no number."""
        dtype = value.type.dtype
        if value in self._values or dtype.kind == "string":
            return
        array = np.asarray(array)
        with np.errstate(all="ignore"):
            self._values[value] = array[_corner(array.shape, self._most)].astype(dtype.numpy)

    def hand_over(self, old: Sequence[Value], new: Sequence[Value]) -> None:
        """A rewrite took effect: the new values stand where the old ones did."""
        for before, after in zip(old, new, strict=True):
            known = self._values.get(before)
            if known is not None:
                self._values.setdefault(after, known)


class _Run(Interpreter):
    """Tells a reference what each node computes, until its time is up."""

    def __init__(self, graph: Graph, reference: Reference, deadline: float) -> None:
        super().__init__(graph, FLOAT64)
        self._reference = reference
        self._deadline = deadline

    def run_node(self, node: Node, operands: Sequence[Array | None]) -> tuple[Array, ...]:
        """As always, and told."""
        if time.perf_counter() > self._deadline:
            raise TimeoutError("its time was up")
        results = super().run_node(node, operands)
        for value, result in zip(node.results, results, strict=True):
            self._reference.learn(value, result)
        return results


def _corner(shape: Sequence[int], most: int) -> tuple[slice, ...]:
    """At most so many elements, the longest axes cut first."""
    extents = list(shape)
    while math.prod(extents) > most:
        longest = max(range(len(extents)), key=extents.__getitem__)
        extents[longest] = (extents[longest] + 1) // 2
    return tuple(slice(0, extent) for extent in extents)


def reference_of(graph: Graph, examples: Sequence[Any] = (), *, seconds: float = math.inf) -> Reference | str:
    """A reference run on the examples, or on made-up inputs where there are none, at small sizes of dynamic dims.

    The reason, where a run would cost too much.
    """
    widest = max((v.type.size for v in graph.weights.values() if isinstance(v.type.size, int)), default=0)
    if widest > _WIDEST:
        return f"a weight of {widest} elements is too large to be widened"
    given = sizes_of(graph, examples) if examples else None
    dynamic = {n: s for v in graph.inputs for n, s in v.type.symbols().items()}
    sizes: dict[str, int] = {}
    for wanted in _SIZES:
        sizes = {n: _small(s, wanted, None if given is None else given[n]) for n, s in dynamic.items()}
        if elements(graph, sizes) <= _EASY:
            break
    if elements(graph, sizes) > _AFFORDABLE:
        return f"a run has {elements(graph, sizes)} elements"
    return Reference(graph, _inputs(graph, examples if given is not None else (), sizes), seconds=seconds)


def _small(symbol: Symbol, wanted: int, given: int | None) -> int:
    high = symbol.high if given is None else given
    return min(max(wanted, symbol.low), high)


def _inputs(graph: Graph, examples: Sequence[Any], sizes: Mapping[str, int]) -> list[Any]:
    """The examples cut to these sizes where that can be done; made up otherwise."""
    if examples:
        cut = [
            np.asarray(array)[tuple(slice(0, max(evaluate(d, sizes), 0)) for d in value.type.shape)]
            for value, array in zip(graph.inputs, examples, strict=True)
        ]
        if sizes_of(graph, cut) == sizes:
            return cut
    return Case(dict(sizes)).inputs(input_roles(graph))
