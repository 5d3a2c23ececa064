"""The error of a whole graph in half precision, and which nodes to put back into f32 when it is beyond its bound.

Held against the source in half precision by the rule of proof C. The share of single nodes in the error is measured by
groups: a run in which only a group is in half shows what its rounding does to the outputs. Errors of groups add up as
independent ones, in squares; the group with the most is split until it is small and then put back. So the number of
runs grows with the logarithm of the number of nodes.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from dragoman.ir.arithmetic import NATIVE, Array
from dragoman.ir.cases import Case
from dragoman.ir.findings import OutputFinding, Status
from dragoman.ir.graph import Graph, Node
from dragoman.ir.interpreter import Interpreter
from dragoman.ir.judge import judge, judge_draws, outputs_of, wide
from dragoman.ir.local import rounding_unit
from dragoman.ir.noise import noisy_outputs, profile
from dragoman.ir.roles import input_roles
from dragoman.ir.types import DType, dtype_of
from dragoman.passes.precision.standard import InHalf

_MARGINAL = 8.0  # as in proof C: an excess below may be the luck of few elements
MOST = 1e6  # times what is allowed; what is more, infinite for exact results, counts as this
_GROUPS, _PARTS, _LEAVES = 16, 4, 128
Write = Callable[[Collection[Node]], Graph]
"""The graph with these nodes in f32, as the target runs it."""


@dataclass
class _Held:
    """One case: its inputs, the truth, what the standard gives, and once needed what rounding alone does."""

    inputs: list[Array]
    truth: list[Array]
    own: list[Array]
    expected: list[Array] | None = None


class Whole:
    """Judges candidates for one graph on some cases."""

    def __init__(self, graph: Graph, standard: InHalf, half: DType) -> None:
        self.cases: list[Case] = []
        self._graph, self._standard = graph, standard
        self._unit = rounding_unit(half)
        self._outputs = [
            replace(o, precision=max(o.precision, half, key=rounding_unit)) if v.type.dtype.is_inexact else o
            for o, v in zip(outputs_of(graph), graph.outputs, strict=True)
        ]
        self._held: list[_Held] = []

    def add(self, case: Case) -> None:
        """Run a case for its truth and for the standard. Raises what the source raises."""
        inputs = case.inputs(input_roles(self._graph))
        own = [np.array(x) for x in self._standard.run(inputs)]
        truth = [np.array(x) for x in self._standard.truth(inputs)]
        self._held.append(_Held(inputs, truth, own))
        self.cases.append(case)

    def excess(self, candidate: Graph) -> float:
        """The largest ratio of the candidate's error to what it may be: at most 1 when all is well."""
        return max((self._judged(candidate, held, marginal=True) for held in self._held), default=0.0)

    def share(self, candidate: Graph) -> float:
        """The same on the first case, without a second look at small excesses."""
        return self._judged(candidate, self._held[0], marginal=False) if self._held else 0.0

    def _judged(self, candidate: Graph, held: _Held, *, marginal: bool) -> float:
        got = Interpreter(candidate, NATIVE).run(held.inputs)
        worst = 0.0
        for index, output in enumerate(self._outputs):
            found = judge(output, held.truth[index], held.own[index], np.asarray(got[index]))
            if marginal and found.status is Status.WRONG and found.factor and found.excess <= _MARGINAL:
                found = self._looked_again(held, index, np.asarray(got[index]))
            worst = max(worst, found.excess if math.isfinite(found.excess) else math.inf)
        return worst

    def _looked_again(self, held: _Held, index: int, got: Array) -> OutputFinding:
        """With the standard's error redrawn by simulation, at the size that it has in this case."""
        if held.expected is None:
            exact = Interpreter(self._graph).run(held.inputs)
            moved = profile(exact, noisy_outputs(self._graph, held.inputs, self._unit, 4))
            held.expected = [
                m * (_norm(wide(o) - wide(t)) / (_norm(m) or math.inf)) if dtype_of(o).is_inexact else m
                for m, o, t in zip(moved, held.own, held.truth, strict=True)
            ]
        draws = [(held.truth[index], held.own[index], got)]
        return judge_draws(self._outputs[index], draws, held.expected[index])


def _norm(x: Array) -> float:
    x = np.abs(np.ravel(x))
    return float(np.linalg.norm(x[np.isfinite(x)]))


@dataclass(order=True)
class _Group:
    """Nodes in order, and the error that they alone make, in terms of what is allowed."""

    rank: float
    nodes: list[Node] = field(compare=False)
    error: float = field(compare=False)


def put_back(
    whole: Whole, write: Write, nodes: Sequence[Node], wide: set[Node], ready: Callable[[], bool]
) -> tuple[dict[Node, float], float]:
    """Nodes of `nodes` (in order, all in half) to compute in f32, for the whole to hold its bound, each with the error
    that its group alone makes; and the excess that is left. `wide` are in f32 already. Stops splitting groups when
    `ready` says that time is up.
    """
    leaf = max(1, len(nodes) // _LEAVES)
    chosen: dict[Node, float] = {}
    groups: list[_Group] = []

    def measured(parts: Sequence[Sequence[Node]]) -> None:
        for part in parts:
            others = wide | (set(nodes) - set(part))
            error = min(whole.share(write(others)), MOST)
            heapq.heappush(groups, _Group(-error * error / len(part), list(part), error))

    measured(_parts(nodes, _GROUPS))
    excess, scale = whole.excess(write(wide)), 1.0
    while excess > 1.0 and groups:
        group = heapq.heappop(groups)
        if len(group.nodes) > leaf and not ready():
            measured(_parts(group.nodes, _PARTS))
            continue
        chosen.update(dict.fromkeys(group.nodes, group.error))
        predicted = scale * math.sqrt(sum(g.error**2 for g in groups))
        if predicted <= 1.0 or not groups:
            excess = whole.excess(write(wide | set(chosen)))
            # What was predicted is known better now; an excess that is left must not be predicted away.
            scale *= max(excess / predicted, 1.0) if predicted and math.isfinite(excess) else 1.0
    return chosen, excess


def _parts(nodes: Sequence[Node], count: int) -> list[Sequence[Node]]:
    size = max(1, math.ceil(len(nodes) / count))
    return [nodes[i : i + size] for i in range(0, len(nodes), size)]
