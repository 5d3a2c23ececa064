"""Pointwise arithmetic: one result element from the operand elements at its (broadcast) place. No implicit promotion."""

from __future__ import annotations

from collections.abc import Iterable

from dragoman.ir.op import Arithmetic, Array, Op, Sample, TensorType, require, same_dtype, sample
from dragoman.ir.types import broadcast


class Binary(Op):
    """Two operands of one dtype, broadcast as NumPy does."""

    def infer(self, x: TensorType, y: TensorType) -> TensorType:
        """The broadcast shape, the common dtype."""
        same_dtype(x, y)
        require(x.dtype.kind not in ("bool", "string"), f"arithmetic on {x.dtype}")
        return TensorType(x.dtype, broadcast(x.shape, y.shape))

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Equal shapes, broadcasting both ways, integers."""
        yield sample("f32[2,3]", "f32[2,3]")
        yield sample("f32[4,1,3]", "f32[2,1]")
        yield sample("f64[]", "f64[3]")
        yield sample("i32[2,3]", "i32[3]")


class Add(Binary, name="add", commutative=True, associative=True, pointwise=True):
    """x + y."""

    def reference(self, m: Arithmetic, x: Array, y: Array) -> Array:
        """Sum."""
        return x + y
