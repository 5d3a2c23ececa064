"""Minimum cuts: which of two sides each variable takes so that the edges between the sides cost least.

A maximum flow by layers (Dinic 1970) on integers: SciPy's, where the problem is large enough to be worth the import of
SciPy. Of the minimum cuts, the one that keeps what variables prefer: if the preferences of all variables together are a
minimum cut, that one is found.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SOURCE, SINK = 0, 1
_FEW = 20_000  # edges: about what Python does in the 0.1 s that importing SciPy takes
_LARGEST = 1 << 30  # the sum of all costs: SciPy counts flow in 32 bits


@dataclass
class MinimumCut:
    """A cut problem. Its vertices are SOURCE, SINK and those of `variable`; `edge` says what it costs to part two."""

    _tails: list[int] = field(default_factory=list[int])
    _heads: list[int] = field(default_factory=list[int])
    _costs: list[int] = field(default_factory=list[int])  # -1: not to be cut
    _count: int = 2

    def variable(self) -> int:
        """A new vertex."""
        self._count += 1
        return self._count - 1

    def edge(self, tail: int, head: int, cost: int | None) -> None:
        """`cost` is paid if `tail` is on the source's side and `head` is not; None is more than all costs together."""
        if tail != head and cost != 0 and tail != SINK and head != SOURCE:
            self._tails.append(tail)
            self._heads.append(head)
            self._costs.append(-1 if cost is None else cost)

    def cut(self, prefers_source: Sequence[int]) -> Any:
        """For each vertex, whether it is on the side of the source, as a boolean array.

        `prefers_source` are vertices that go to the source where both sides cost the same.
        """
        left = self._left_by_layers() if len(self._costs) <= _FEW else self._left_by_scipy()
        edges = [(tail, head) for tail, more in enumerate(left) for head, capacity in more.items() if capacity]
        towards_sink = _reached(self._count, [(head, tail) for tail, head in edges], [SINK])
        return _reached(self._count, edges, [SOURCE, *(v for v in prefers_source if not towards_sink[v])])

    def _left_by_layers(self) -> Residual:
        """What a maximum flow leaves of the capacities, from each vertex to the next ones."""
        uncut = sum(c for c in self._costs if c > 0) + 1
        left: Residual = [{} for _ in range(self._count)]
        for tail, head, cost in zip(self._tails, self._heads, self._costs, strict=True):
            left[tail][head] = left[tail].get(head, 0) + (uncut if cost < 0 else cost)
            left[head].setdefault(tail, 0)
        while (depths := _depths(left))[SINK] >= 0:
            _fill(left, depths)
        return left

    def _left_by_scipy(self) -> Residual:
        """The same."""
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import maximum_flow

        shape = (self._count, self._count)
        capacities = csr_array((self._capacities(), (self._tails, self._heads)), shape=shape)
        capacities.sum_duplicates()
        np.minimum(capacities.data, 2 * _LARGEST - 1, out=capacities.data)
        capacities = capacities.astype(np.int32)
        remaining = (capacities - maximum_flow(capacities, SOURCE, SINK).flow).tocoo()
        left: Residual = [{} for _ in range(self._count)]
        for tail, head, capacity in zip(
            remaining.row.tolist(), remaining.col.tolist(), remaining.data.tolist(), strict=True
        ):
            left[tail][head] = max(capacity, 0)
        return left

    def _capacities(self) -> Any:
        """Costs scaled so that their sum fits, none to nothing; what is not to be cut costs more than all together."""
        costs = np.array(self._costs, np.float64)
        finite = costs > 0
        total = costs[finite].sum()
        if total > _LARGEST // 2:
            costs = np.maximum(np.rint(costs * (_LARGEST // 2 / total)), 1)
        return np.where(finite, costs, _LARGEST).astype(np.int64)


Residual = list[dict[int, int]]


def _depths(left: Residual) -> list[int]:
    """How many edges each vertex is from the source, -1 where it is not reached."""
    depths = [-1] * len(left)
    depths[SOURCE] = 0
    layer = [SOURCE]
    while layer and depths[SINK] < 0:
        following: list[int] = []
        for tail in layer:
            for head, capacity in left[tail].items():
                if capacity and depths[head] < 0:
                    depths[head] = depths[tail] + 1
                    following.append(head)
        layer = following
    return depths


def _fill(left: Residual, depths: Sequence[int]) -> None:
    """Send flow along shortest paths until there are none; no edge is tried again once it leads nowhere."""
    open_ways = [[h for h in more if depths[h] == depths[t] + 1] for t, more in enumerate(left)]
    path = [SOURCE]
    while path:
        at = path[-1]
        ways = open_ways[at]
        while ways and not left[at][ways[-1]]:
            ways.pop()
        if at == SINK:
            path = _sent(left, path)
        elif ways:
            path.append(ways[-1])
        else:
            path.pop()
            if path:
                open_ways[path[-1]].pop()


def _sent(left: Residual, path: list[int]) -> list[int]:
    """Send what the path carries; returns the path up to the first edge that is full."""
    edges = list(itertools.pairwise(path))
    flow = min(left[tail][head] for tail, head in edges)
    for tail, head in edges:
        left[tail][head] -= flow
        left[head][tail] += flow
    full = next(i for i, (tail, head) in enumerate(edges) if not left[tail][head])
    return path[: full + 1]


def _reached(count: int, edges: Sequence[tuple[int, int]], starts: Sequence[int]) -> Any:
    """What can be reached from the starts, they included, as a boolean array."""
    following: list[list[int]] = [[] for _ in range(count)]
    for tail, head in edges:
        following[tail].append(head)
    found = np.zeros(count, np.bool_)
    found[list(starts)] = True
    work = list(starts)
    while work:
        for head in following[work.pop()]:
            if not found[head]:
                found[head] = True
                work.append(head)
    return found
