"""Reductions over axes that only a run tells."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dragoman.ir.errors import UsageError
from dragoman.ir.op import REGISTRY, Arithmetic, Array, Op, Sample, Shape, TensorType, operand, require, sample
from dragoman.ir.ops.shape import listed
from dragoman.ir.types import I64

KINDS = ("sum", "prod", "max", "min", "any", "all", "mean", "l1", "l2", "sum_square", "logsumexp")


class DynamicReduce(Op, name="dynamic_reduce", data_dependent=True):
    """A reduction of that kind over the axes that an operand holds; `shape` names what comes of it.

    x: [n…]   axes: i64[k], each once, negative ones counted from the end   ->   [shape…]
    Where the axes are known, `reduce_sum` and its kin say it without an operand.
    """

    kind: str
    shape: Shape
    keepdims: bool = False

    def infer(self, x: TensorType, axes: TensorType) -> TensorType:
        """The shape named, of x's rank or k less."""
        require(self.kind in KINDS, f"kind={self.kind!r} is none of {', '.join(KINDS)}")
        require(axes.dtype == I64 and axes.rank == 1, f"the axes are {axes}, not i64[k]")
        count = axes.shape[0]
        if not isinstance(count, int):
            require(self.keepdims, f"how many of {axes} axes are left is not known")
            count = 0
        rank = x.rank if self.keepdims else x.rank - count
        require(len(self.shape) == rank, f"{listed(self.shape)} does not have rank {rank}")
        return TensorType(self._static(()).infer(x).dtype, self.shape)

    def _static(self, axes: tuple[int, ...]) -> Op:
        cls: Any = REGISTRY[f"reduce_{self.kind}"]
        return cls(axes=axes, keepdims=self.keepdims)

    def reference(self, m: Arithmetic, x: Array, axes: Array) -> Array:
        """As the reduction over known axes."""
        rank = len(x.shape)
        given = [int(a) for a in axes]
        outside = [a for a in given if not -rank <= a < rank]
        if outside or len({a % rank for a in given}) != len(given):
            raise UsageError(f"the axes {given} of a tensor of rank {rank}")
        return self._static(tuple(sorted(a % rank for a in given))).reference(m, x)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Each kind, one and several axes, kept and dropped."""
        for kind in KINDS:
            dtype = "bool" if kind in ("any", "all") else "f32"
            yield sample(f"{dtype}[2,3,4]", operand("i64[1]", values=(1,)), kind=kind, shape=(2, 4))
            yield sample(f"{dtype}[2,3]", operand("i64[2]", values=(-1, 0)), kind=kind, shape=(1, 1), keepdims=True)
