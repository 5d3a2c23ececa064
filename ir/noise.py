"""What rounding alone does to a graph: a float64 run in which every number read and written is off by a random unit.

Any evaluation in a precision with rounding unit u, in any order of summation, is the float64 one with each operand
and result changed by a few u (backward error). The spread of such runs is the error that a correct program may have:
the measure of conditioning (Parker 1997, Monte Carlo arithmetic). Numbers with at most 8 fractional bits are taken
for exact (masks, indices, halves) and stay, so that comparisons with them do not flip.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dragoman.ir.accumulation import plain_sum_error, summation_units, summed
from dragoman.ir.arithmetic import FLOAT64, Array
from dragoman.ir.builder import Builder, trace
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.interpreter import Interpreter

_EXACT_STEP = 256.0
_LARGE = 1 << 16  # elements of a weight that is expensive to shake


def shaken(x: Array, unit: float, rng: np.random.Generator) -> Array:
    """Each element of a real or complex array off by ±unit of itself, at random; exact-looking ones as they are."""
    x = np.asarray(x)
    if x.dtype.kind not in "fc" or not x.size:
        return x
    signs = rng.integers(0, 2, x.shape, np.int8) * np.int8(2) - np.int8(1)
    with np.errstate(all="ignore"):
        moved = x * (1.0 + unit * signs)
        scaled = x * _EXACT_STEP
        exact = (scaled == np.round(scaled)) | ~np.isfinite(x)
    return np.where(exact, x, moved)


class Noisy(Interpreter):
    """A float64 run with operands and results shaken by `slack` units. The insides of regions are run as they are.

    With `plain_sums` an op that adds up many numbers is shaken by what a plain summation may be off, if that is more;
    a composite one in each step of its decomposition, as runtimes compute it: the mean of a group that hardly varies is
    off by units of the mean, which the standard deviation then divides.
    """

    def __init__(
        self, graph: Graph, unit: float, seed: int = 0, *, slack: float = 1.0, plain_sums: bool = False
    ) -> None:
        super().__init__(graph, FLOAT64)
        self._unit, self._slack, self._plain_sums = unit, slack, plain_sums
        self._rng = np.random.default_rng(seed)

    def run_node(self, node: Node, operands: Sequence[Array | None]) -> tuple[Array, ...]:
        """Shake, run, shake."""
        if node.op.movement:
            return super().run_node(node, operands)  # computes nothing, rounds nothing
        slack = self._slack
        if self._plain_sums:
            shapes = [() if x is None else tuple(x.shape) for x in operands]
            steps = _steps(node, shapes, self.symbols) if summed(node, shapes) > 1 else None
            if steps is not None:
                inner = self.within(steps)
                inner._slack = 1.0  # each rounding is there: none stands for others
                return tuple(inner.run([x for x in operands if x is not None]))
            slack = max(slack, summation_units(node, shapes))
        size = self._unit * slack
        left = _left_alone(node, operands)
        each = size * math.sqrt(2.0) if left else size
        moved = [x if x is None or i in left else shaken(x, each, self._rng) for i, x in enumerate(operands)]
        results = tuple(shaken(r, size, self._rng) for r in super().run_node(node, moved))
        if self._plain_sums and node.op.name == "reduce_sum" and operands[0] is not None:
            return (self._summed_plainly(node.op, operands[0], results[0]),)
        return results

    def _summed_plainly(self, op: Any, x: Array, total: Array) -> Array:
        if x.dtype.kind != "f" or not x.size:
            return total
        off = plain_sum_error(x, op.axes).reshape(total.shape)
        return total + off * self._rng.choice((-1.0, 1.0), off.shape)

    def run_region(self, region: Graph, operands: Sequence[Array]) -> list[Array]:
        """Without noise: a loop would shake its state at each turn, and its trip count with it."""
        inner = Interpreter(region, self.m)
        inner.symbols.update(self.symbols)
        return inner.run(operands)


def _left_alone(node: Node, operands: Sequence[Array | None]) -> set[int]:
    """Large weights beside other numbers: the rounding of a product is put on its other factor, all of it."""
    large = {
        i
        for i, (v, x) in enumerate(zip(node.operands, operands, strict=True))
        if v is not None and v.weight is not None and x is not None and x.size > _LARGE
    }
    others = any(x is not None and i not in large and x.dtype.kind in "fc" for i, x in enumerate(operands))
    return large if others else set()


def _steps(node: Node, shapes: Sequence[tuple[int, ...]], symbols: Mapping[str, int]) -> Graph | None:
    """The decomposition of a composite op at these shapes; None for a primitive, and for one that loops."""
    op = node.op.substitute(symbols) if node.op.is_symbolic else node.op
    if not op.is_composite():
        return None
    present = [v is not None for v in node.operands]

    def spelled(b: Builder, *given: Value) -> Any:
        rest = iter(given)
        return op.decompose(b, *[next(rest) if known else None for known in present])

    types = [v.type.with_shape(s) for v, s in zip(node.operands, shapes, strict=True) if v is not None]
    steps = trace(spelled, *types)
    return None if any(inner.op.regions for inner in steps) else steps


def noisy_outputs(
    graph: Graph, inputs: Sequence[Any], unit: float, draws: int = 2, *, plain_sums: bool = False
) -> list[list[Array]]:
    """The outputs of some noisy runs."""
    return [Noisy(graph, unit, seed, plain_sums=plain_sums).run(inputs) for seed in range(draws)]


@dataclass(frozen=True)
class Amplification:
    """The node that magnifies relative errors most, and by how much."""

    node: Node
    factor: float


class _Tracing(Noisy):
    """Runs beside an exact run and notes how much each node magnifies the relative error of its operands."""

    def __init__(self, graph: Graph, unit: float, seed: int) -> None:
        super().__init__(graph, unit, seed)
        self.worst: Amplification | None = None
        self._exact: dict[Value, Array] = {}
        self._error: dict[Value, float] = {}
        self._left: dict[Value, int] = {}

    def run(self, inputs: Sequence[Any]) -> list[Array]:
        for value, given in zip(self.graph.inputs, inputs, strict=True):
            self._exact[value] = self.m.embed(given, value.type.dtype)
        return super().run(inputs)

    def run_node(self, node: Node, operands: Sequence[Array | None]) -> tuple[Array, ...]:
        results = super().run_node(node, operands)
        known = [None if v is None else self._truth(v, x) for v, x in zip(node.operands, operands, strict=True)]
        truth = Interpreter.run_node(self, node, known)
        before = max((self._error.get(v, 0.0) for v in node.operands if v is not None), default=0.0)
        for value, result, exact in zip(node.results, results, truth, strict=True):
            self._exact[value] = exact
            after = self._error[value] = relative_distance(result, exact)
            factor = after / max(before, self._unit)
            if self.worst is None or factor > self.worst.factor:
                self.worst = Amplification(node, factor)
        self._release(node)
        return results

    def _truth(self, value: Value, noisy: Array) -> Array:
        return self._exact.get(value, noisy)  # a weight is the same in both

    def _release(self, node: Node) -> None:
        for value in {v for v in node.operands if v is not None and v in self._exact}:
            left = self._left.setdefault(value, len(value.users)) - 1
            self._left[value] = left
            if left == 0:
                del self._exact[value]


def most_amplifying(graph: Graph, inputs: Sequence[Any], unit: float, seed: int = 0) -> Amplification | None:
    """Where a graph is most sensitive on these inputs; None for a graph without nodes."""
    tracing = _Tracing(graph, unit, seed)
    tracing.run(inputs)
    return tracing.worst


class _Peak(Interpreter):
    """A float64 run that notes the largest finite number it computes."""

    peak = 0.0

    def run_node(self, node: Node, operands: Sequence[Array | None]) -> tuple[Array, ...]:
        results = super().run_node(node, operands)
        for value, result in zip(node.results, results, strict=True):
            if value.type.dtype.is_float:
                size = np.abs(result)
                self.peak = max(self.peak, float(size.max(initial=0.0, where=np.isfinite(size))))
        return results


def largest_number(graph: Graph, inputs: Sequence[Any]) -> float:
    """The largest finite magnitude among inputs and results of a run in float64, regions counted by their results."""
    run = _Peak(graph, FLOAT64)
    run.run(inputs)
    given = (np.abs(np.asarray(x, np.float64)) for x in inputs if np.asarray(x).dtype.kind in "fV")
    return max([run.peak, *(float(x.max(initial=0.0, where=np.isfinite(x))) for x in given)])


def faintest_row(inputs: Sequence[Any]) -> float:
    """The least over rows (along the first axis) of float inputs of the largest magnitude in a row that is not zero."""
    least = math.inf
    for x in map(np.asarray, inputs):
        if x.dtype.kind in "fV" and x.ndim and x.size:
            peaks = np.abs(x.astype(np.float64)).reshape(x.shape[0], -1).max(axis=1)
            least = min(least, float(peaks.min(initial=math.inf, where=peaks > 0)))
    return least


def relative_distance(x: Array, exact: Array) -> float:
    """The Euclidean distance over the norm, where both are finite; 1 for equal-sized integers that differ anywhere."""
    if exact.dtype.kind not in "fc":
        return float(not np.array_equal(x, exact))
    if x.shape != exact.shape:
        return 1.0
    finite = np.isfinite(x) & np.isfinite(exact)
    norm = float(np.linalg.norm(np.abs(exact[finite])))
    return float(np.linalg.norm(np.abs(x[finite] - exact[finite]))) / norm if norm else 0.0


def spread(exact: Sequence[Array], noisy: Sequence[Sequence[Array]]) -> list[Any]:
    """For each output, element by element, the largest distance of a noisy run from the exact one.

    Integers and booleans: whether any run differs. An output whose shape depends on the noise counts as infinitely
    spread.
    """
    return [_spread_one(e, [run[i] for run in noisy]) for i, e in enumerate(exact)]


def profile(exact: Sequence[Array], noisy: Sequence[Sequence[Array]]) -> list[Any]:
    """For each output, element by element, the root mean square distance of the noisy runs; infinite ones are 0."""
    found: list[Any] = []
    for index, truth in enumerate(exact):
        if np.asarray(truth).dtype.kind not in "fc" or any(run[index].shape != truth.shape for run in noisy):
            found.append(np.zeros(np.shape(truth)))
            continue
        with np.errstate(all="ignore"):
            distances = [np.abs(run[index] - truth) for run in noisy]
        squares = [np.where(np.isfinite(d), d, 0.0) ** 2 for d in distances]
        found.append(np.sqrt(np.mean(squares, axis=0)))
    return found


def _spread_one(exact: Array, runs: Sequence[Array]) -> Any:
    exact = np.asarray(exact)
    total = np.zeros(exact.shape)
    for run in runs:
        if run.shape != exact.shape:
            return np.full(exact.shape, np.inf)
        if exact.dtype.kind in "fc":
            with np.errstate(all="ignore"):
                distance = np.abs(run - exact)
            total = np.maximum(total, np.where(np.isfinite(distance), distance, 0.0))
            total = np.where(np.isfinite(run) == np.isfinite(exact), total, np.inf)
        else:
            total = np.maximum(total, (run != exact).astype(np.float64))
    return total
