"""Ensembles of decision trees: random forests, gradient boosting."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from dragoman.ir.arithmetic import numbers
from dragoman.ir.errors import UsageError
from dragoman.ir.op import Arithmetic, Array, Op, Sample, TensorType, operand, require, same_dtype, sample
from dragoman.ir.types import I64

LEAF = 6
_COMPARE: tuple[Any, ...] = (np.less_equal, np.less, np.greater_equal, np.greater, np.equal, np.not_equal)


class TreeEnsemble(Op, name="tree_ensemble", exact_field=False):
    """The sum over all trees of the weights of the leaf that each row falls into.

    x: [n, f]   roots: i64[t]   nodes: i64[k, 5]   splits: [k]   leaves: i64[l, 2]   weights: [l]   ->   [n, targets]
    A row of `nodes` is feature, mode, next node if true, if false, and whether NaN counts as true. The modes compare
    x's feature with the split: 0 ≤, 1 <, 2 ≥, 3 >, 4 =, 5 ≠; 6 is a leaf. A row of `leaves` is the node and the target
    its weight is added to. Breiman et al. 1984; the nodes as in ONNX's TreeEnsembleRegressor.
    """

    targets: int

    def infer(
        self,
        x: TensorType,
        roots: TensorType,
        nodes: TensorType,
        splits: TensorType,
        leaves: TensorType,
        weights: TensorType,
    ) -> TensorType:
        """One row of targets for each row."""
        same_dtype(x, splits, weights)
        require(x.dtype.is_float and x.rank == 2, f"the rows are {x}")
        require(self.targets > 0, f"targets={self.targets}")
        require(roots.dtype == I64 and roots.rank == 1, f"the roots are {roots}")
        for what, table, column, width in (("nodes", nodes, splits, 5), ("leaves", leaves, weights, 2)):
            fits = table.dtype == I64 and table.rank == 2 and column.shape == table.shape[:1]
            require(fits and table.shape[1] == width, f"{what} {table} with {column}")
        return x.with_shape((x.shape[0], self.targets))

    def reference(
        self, m: Arithmetic, x: Array, roots: Array, nodes: Array, splits: Array, leaves: Array, weights: Array
    ) -> Array:
        """All rows go down all trees together."""
        x, splits, weights = (numbers(v, "a comparison") for v in (x, splits, weights))
        ends = _descended(x, roots, nodes, splits)
        order = np.argsort(leaves[:, 0], kind="stable")
        owners = leaves[order, 0]
        first = np.searchsorted(owners, ends, side="left")
        count = np.searchsorted(owners, ends, side="right") - first
        total = np.zeros((len(x), self.targets), np.result_type(weights.dtype, np.float64))
        for turn in range(int(count.max(initial=0))):
            row, tree = np.nonzero(count > turn)
            entry = order[first[row, tree] + turn]
            np.add.at(total, (row, leaves[entry, 1]), weights[entry])
        return total

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Two trees, one of them a single leaf; two weights at a leaf."""
        nodes = operand("i64[4,5]", values=(1, 0, 1, 2, 0, 0, 6, 0, 0, 0, 0, 6, 0, 0, 0, 0, 6, 0, 0, 0))
        leaves = operand("i64[4,2]", values=(1, 0, 1, 1, 2, 1, 3, 0))
        roots, splits = operand("i64[2]", values=(0, 3)), operand("f32[4]", values=(0.25, 0, 0, 0))
        yield sample("f32[5,2]", roots, nodes, splits, leaves, "f32[4]", targets=2)


def _descended(x: Any, roots: Any, nodes: Any, splits: Any) -> Any:
    """The leaf of each row in each tree, [n, t]."""
    at = np.broadcast_to(roots, (len(x), len(roots))).copy()
    for _ in range(len(nodes) + 1):
        mode = nodes[at, 1]
        inner = mode != LEAF
        if not inner.any():
            return at
        value, split = np.take_along_axis(x, nodes[at, 0], axis=1), splits[at]
        true = np.zeros(at.shape, np.bool_)
        for number, compare in enumerate(_COMPARE):
            true |= (mode == number) & compare(value, split)
        true |= np.isnan(value) & (nodes[at, 4] != 0)
        at = np.where(inner, np.where(true, nodes[at, 2], nodes[at, 3]), at)
    raise UsageError("a tree of the ensemble has a cycle")
