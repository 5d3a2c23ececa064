"""Ops that write at computed places. Reading is in `indexing.py`, whose rules for indices hold here too.

Where several updates meet in one place, they are applied in row-major order: without a reduction the last one stays.
"""

from __future__ import annotations

from collections.abc import Iterable

from dragoman.ir.dims import same
from dragoman.ir.op import Arithmetic, Array, Op, Sample, TensorType, normal_axis, operand, require, same_dtype, sample
from dragoman.ir.ops.indexing import columns, depth_of, mesh_at, prefix_rule, require_integers
from dragoman.ir.ops.shape import listed

REDUCTIONS = ("none", "add", "mul", "max", "min")


class Scatter(Op):
    """x with updates combined into it; x itself takes part in a reduction."""

    reduction: str = "none"

    def check(self, x: TensorType, indices: TensorType, updates: TensorType) -> None:
        """Raise TypeRuleError unless dtypes and reduction fit."""
        require(self.reduction in REDUCTIONS, f"reduction={self.reduction!r} is none of {', '.join(REDUCTIONS)}")
        require_integers(indices)
        same_dtype(x, updates)
        kind = x.dtype.kind
        require(
            self.reduction == "none"
            or kind in ("int", "uint", "float")
            or (kind, self.reduction) == ("complex", "add"),
            f"reduction={self.reduction!r} of {x.dtype}",
        )


class ScatterElements(Scatter, name="scatter_elements"):
    """x with x[…, indices[…, i, …], …] ⊕= updates[…, i, …]. torch.scatter_reduce, ONNX's ScatterElements.

    Off `axis` the indices have at most x's extents; the updates have the shape of the indices.
    """

    axis: int

    def infer(self, x: TensorType, indices: TensorType, updates: TensorType) -> TensorType:
        """The type of x."""
        self.check(x, indices, updates)
        prefix_rule(x, indices, normal_axis(self.axis, x.rank))
        fits = updates.rank == indices.rank and all(map(same, updates.shape, indices.shape))
        require(fits, f"updates have shape {listed(updates.shape)}, the indices {listed(indices.shape)}")
        return x

    def reference(self, m: Arithmetic, x: Array, indices: Array, updates: Array) -> Array:
        """Updates in row-major order."""
        return m.scatter(x, mesh_at(indices, x.shape[self.axis], self.axis), updates, self.reduction)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Each reduction with indices that meet, negative ones, none; a leading part off the axis."""
        yield sample("f32[2,4]", operand("i64[2,2]", values=(0, 3, -2, 1)), "f32[2,2]", axis=1)
        yield sample("f32[2,4]", operand("i64[2,6]", low=-4, high=3), "f32[2,6]", axis=-1, reduction="add")
        yield sample("i32[3,2,2]", operand("i32[5,1,2]", low=0, high=2), "i32[5,1,2]", axis=0, reduction="add")
        yield sample("f32[2,3]", operand("i64[5,2]", low=-2, high=1), "f32[5,2]", axis=0, reduction="mul")
        yield sample("f64[4]", operand("i64[9]", low=0, high=3), "f64[9]", axis=0, reduction="max")
        yield sample("i8[2,4]", operand("i64[2,5]", low=0, high=3), "i8[2,5]", axis=1, reduction="min")
        yield sample("f32[3]", operand("i64[0]", low=0, high=2), "f32[0]", axis=0)


class ScatterNd(Scatter, name="scatter_nd"):
    """x with x[*indices[i…, :]] ⊕= updates[i…]: each row of the indices is a place in x. ONNX's ScatterND.

    x: [n₁…nₖ, r…]   indices: [i…, k]   updates: [i…, r…]   ->   [n₁…nₖ, r…]
    """

    def infer(self, x: TensorType, indices: TensorType, updates: TensorType) -> TensorType:
        """The type of x."""
        self.check(x, indices, updates)
        depth = depth_of(indices)
        require(depth <= x.rank, f"indices name {depth} axes, the operand has {x.rank}")
        wanted = (*indices.shape[:-1], *x.shape[depth:])
        fits = updates.rank == len(wanted) and all(map(same, updates.shape, wanted))
        require(fits, f"updates have shape {listed(updates.shape)}, not {listed(wanted)}")
        return x

    def reference(self, m: Arithmetic, x: Array, indices: Array, updates: Array) -> Array:
        """Updates in row-major order."""
        return m.scatter(x, tuple(columns(indices, x.shape, 0)), updates, self.reduction)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Elements and rows, places that meet, a single place, none."""
        yield sample("f32[3,4]", operand("i64[2,2]", values=(0, 1, -1, 3)), "f32[2]")
        yield sample("f32[3,4]", operand("i64[5,1]", low=-3, high=2), "f32[5,4]", reduction="add")
        yield sample("i64[2,3]", operand("i32[2,2,2]", low=0, high=1), "i64[2,2]", reduction="add")
        yield sample("f32[2,3]", operand("i64[7,2]", low=0, high=1), "f32[7]", reduction="max")
        yield sample("f32[2,3]", operand("i64[3,1]", low=0, high=1), "f32[3,3]", reduction="min")
        yield sample("i64[2]", operand("i64[4,1]", low=0, high=1), "i64[4]", reduction="mul")
        yield sample("bool[3,2]", operand("i64[1]", low=0, high=2), "bool[2]")
        yield sample("f32[3]", operand("i64[0,1]", low=0, high=2), "f32[0]")
