"""The source in half precision: what a candidate in half precision is held against.

It is the source framework's own model cast to half where that runs, else the imported graph with every node in half.
Where that has lost half of its digits or the range of half, being K times worse would allow anything: there the
standard is a float64 run whose every number is off by a rounding unit of half, if that is better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from dragoman.ir.arithmetic import Array
from dragoman.ir.cases import digest
from dragoman.ir.graph import Graph
from dragoman.ir.interpreter import run
from dragoman.ir.local import rounding_unit
from dragoman.ir.noise import Noisy
from dragoman.ir.runner import GraphRunner, Runner
from dragoman.ir.types import DType
from dragoman.passes.precision.narrow import Forms, narrowed

_ROOM = 256 << 20  # bytes of outputs that are kept


@runtime_checkable
class Castable(Protocol):
    """A runner whose model can be cast to another precision."""

    def cast(self, dtype: DType) -> Runner:
        """The model with its f32 weights and inputs as `dtype`, run in that; outputs as it gives them."""
        ...


class InHalf:
    """A `Runner` for the source of a graph in half precision; outputs have the graph's dtypes. Doubled, the source."""

    def __init__(self, graph: Graph, source: Runner | None, half: DType) -> None:
        self.original: Runner = source or GraphRunner(graph)
        self._failed: list[str] = []
        self._lost: dict[str, str] = {}  # by output
        self._graph, self._half = graph, half
        self._own: Runner | None = source.cast(half) if isinstance(source, Castable) else None
        self._every: Runner | None = None
        self._known: dict[tuple[str, bool], list[Array]] = {}  # outputs by digest of inputs, and whether doubled
        self._room = _ROOM

    @property
    def name(self) -> str:
        """The source's name with the precision, or what stands in for it."""
        if self._own is None:
            return f"the imported graph in {self._half}, node by node"
        return f"{self.original.name} in {self._half}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know: where the source does not run in half, or is no standard."""
        return (*self._failed, *self._lost.values())

    def run(self, inputs: Sequence[Array], double: bool = False) -> list[Array]:
        """The outputs in half precision, in the declared types; with `double`, the source's. Kept while they are few:
        what is verified twice runs its source once.
        """
        key = (digest(inputs), double)
        found = self._known.get(key)
        if found is None:
            found = [np.array(x) for x in self.original.run(inputs, double=True)] if double else self._halved(inputs)
            self._room -= sum(x.nbytes for x in found)
            if self._room >= 0:
                self._known[key] = found
        return found

    def _halved(self, inputs: Sequence[Array]) -> list[Array]:
        outputs = [
            np.asarray(x).astype(v.type.dtype.numpy) if v.type.dtype.is_float else np.array(x)
            for x, v in zip(self._computed(inputs), self._graph.outputs, strict=True)
        ]
        truth = self.truth(inputs)
        lost = [i for i, (x, t) in enumerate(zip(outputs, truth, strict=True)) if self._is_lost(x, t)]
        return self._replaced(inputs, outputs, truth, lost) if lost else outputs

    def truth(self, inputs: Sequence[Array]) -> list[Array]:
        """What the outputs are in float64."""
        try:
            return self.run(inputs, double=True)
        except MemoryError:
            raise
        except Exception as error:  # the source has no double precision: the graph has
            said = (str(error).strip().splitlines() or [""])[0][:200]
            self._failed.append(f"{self.original.name} has no double precision here: {said}")
            return run(self._graph, *inputs)

    def _computed(self, inputs: Sequence[Array]) -> list[Array]:
        if self._own is not None:
            try:
                return self._own.run(inputs)
            except MemoryError:
                raise
            except Exception as error:  # a framework may lack an operator in half precision, and says so in any way
                said = (str(error).strip().splitlines() or [""])[0][:200]
                self._failed.append(f"{self.original.name} does not run in {self._half}: {said}")
                self._own = None
        if self._every is None:
            self._every = GraphRunner(narrowed(self._graph, Forms(self._half), ()))
        return self._every.run(inputs)

    # ---- where it is no standard ---------------------------------------------------------------------

    def _is_lost(self, x: Array, truth: Array) -> bool:
        """Whether half of the digits are gone, or numbers are infinite that are not."""
        if x.dtype.kind != "f" or x.shape != truth.shape:
            return False
        finite = np.isfinite(truth)
        return bool(np.any(finite & ~np.isfinite(x))) or _error(x, truth) > math.sqrt(rounding_unit(self._half))

    def _replaced(
        self, inputs: Sequence[Array], outputs: list[Array], truth: Sequence[Array], lost: Sequence[int]
    ) -> list[Array]:
        shaken = Noisy(self._graph, rounding_unit(self._half)).run(inputs)
        for i in lost:
            moved = np.asarray(shaken[i])
            if moved.shape == outputs[i].shape and _error(moved, truth[i]) < _error(outputs[i], truth[i]):
                self._lost.setdefault(
                    self._graph.output_names[i],
                    f"{self.name} loses {self._graph.output_names[i]!r} (error {_error(outputs[i], truth[i]):.1e}):"
                    " there the standard is what rounding alone does",
                )
                outputs[i] = moved.astype(outputs[i].dtype)
        return outputs


def _error(x: Array, truth: Array) -> float:
    """Norm-wise and relative, over the elements that are finite in truth; infinite where x is not finite there."""
    finite = np.isfinite(truth)
    with np.errstate(all="ignore"):
        off, size = np.linalg.norm(x[finite].astype(np.float64) - truth[finite]), np.linalg.norm(truth[finite])
    return float(off / size) if np.isfinite(off) and size else (0.0 if off == 0 else math.inf)
