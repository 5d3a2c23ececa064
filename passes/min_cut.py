"""Minimum cuts: which of two sides each variable takes so that the edges between the sides cost least.

SciPy's maximum flow (Dinic 1970) on integers. Of the minimum cuts, the one that keeps what variables prefer: if the
preferences of all variables together are a minimum cut, that one is found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SOURCE, SINK = 0, 1
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
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import maximum_flow

        shape = (self._count, self._count)
        capacities = csr_array((self._capacities(), (self._tails, self._heads)), shape=shape)
        capacities.sum_duplicates()
        np.minimum(capacities.data, 2 * _LARGEST - 1, out=capacities.data)
        capacities = capacities.astype(np.int32)
        flow = maximum_flow(capacities, SOURCE, SINK).flow
        left = capacities - flow
        left.data[left.data < 0] = 0
        left.eliminate_zeros()
        towards_sink = _reached(left.T.tocsr(), [SINK])
        return _reached(left, [SOURCE, *(v for v in prefers_source if not towards_sink[v])])

    def _capacities(self) -> Any:
        """Costs scaled so that their sum fits, none to nothing; what is not to be cut costs more than all together."""
        costs = np.array(self._costs, np.float64)
        finite = costs > 0
        total = costs[finite].sum()
        if total > _LARGEST // 2:
            costs = np.maximum(np.rint(costs * (_LARGEST // 2 / total)), 1)
        return np.where(finite, costs, _LARGEST).astype(np.int64)


def _reached(edges: Any, starts: Sequence[int]) -> Any:
    """What can be reached from the starts, they included."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order

    count = edges.shape[0]
    indices = np.concatenate([edges.indices, np.array(sorted(set(starts)), edges.indices.dtype)])
    pointers = np.append(edges.indptr, len(indices))  # one more vertex, joined to all starts
    joined = csr_array((np.ones(len(indices), np.int8), indices, pointers), shape=(count + 1, count + 1))
    order = breadth_first_order(joined, count, return_predecessors=False)
    found = np.zeros(count + 1, np.bool_)
    found[order] = True
    return found[:count]
