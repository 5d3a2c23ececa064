"""Ops that order elements. Equal elements keep their order, and NaN is above all numbers, as in torch and ONNX."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from dragoman.ir.dims import Dim
from dragoman.ir.op import Arithmetic, Array, Op, Sample, TensorType, normal_axis, operand, require, sample
from dragoman.ir.ops.shape import surely_negative
from dragoman.ir.types import I64

if TYPE_CHECKING:
    from dragoman.ir.builder import Builder
    from dragoman.ir.graph import Value


def _require_order(x: TensorType) -> None:
    require(x.dtype.kind not in ("complex", "string"), f"{x.dtype} has no order here")


class Topk(Op, name="topk"):
    """The k largest (or smallest) elements along `axis`, best first, and where they were. Equal ones keep their order.

    x: [a…, n, b…]   ->   values [a…, k, b…], indices i64[a…, k, b…]
    """

    k: Dim
    axis: int
    largest: bool = True

    def infer(self, x: TensorType) -> tuple[TensorType, TensorType]:
        """Extent k along `axis`, twice."""
        axis = normal_axis(self.axis, x.rank)
        _require_order(x)
        fits = not surely_negative(self.k) and not surely_negative(x.shape[axis] - self.k)
        require(fits, f"k={self.k} of {x.shape[axis]} elements along axis {axis}")
        values = x.with_shape((*x.shape[:axis], self.k, *x.shape[axis + 1 :]))
        return values, values.with_dtype(I64)

    def reference(self, m: Arithmetic, x: Array) -> tuple[Array, Array]:
        """A stable sort, cut off."""
        order = m.argsort(x, self.axis, self.largest)
        best = np.take(order, np.arange(int(self.k)), self.axis).astype(np.int64)
        return m.move(lambda a: np.take_along_axis(a, best, self.axis), x), best

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Largest and smallest, ties, NaN-free floats, integers, all and none of the elements."""
        yield sample("f32[2,5]", k=3, axis=1)
        yield sample("f32[4,2]", k=2, axis=-2, largest=False)
        yield sample(operand("i32[2,6]", low=0, high=2), k=4, axis=1)
        yield sample(operand("f64[5]", values=(1.0, 2.0, 1.0, 2.0, 0.0)), k=5, axis=0)
        yield sample("i8[3]", k=0, axis=0)


class Sort(Op, name="sort"):
    """All elements along `axis` in order, and where they were. Equal ones keep their order.

    x: [a…, n, b…]   ->   values [a…, n, b…], indices i64[a…, n, b…]
    """

    axis: int
    descending: bool = False

    def infer(self, x: TensorType) -> tuple[TensorType, TensorType]:
        """The type of x, and its shape in i64."""
        normal_axis(self.axis, x.rank)
        _require_order(x)
        return x, x.with_dtype(I64)

    def reference(self, m: Arithmetic, x: Array) -> tuple[Array, Array]:
        """A stable sort."""
        order = m.argsort(x, self.axis, self.descending).astype(np.int64)
        return m.move(lambda a: np.take_along_axis(a, order, self.axis), x), order

    def decompose(self, b: Builder, x: Value) -> tuple[Value, Value]:
        """topk of all elements."""
        axis = normal_axis(self.axis, x.type.rank)
        return b.topk(x, k=x.type.shape[axis], axis=axis, largest=self.descending)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Both directions, ties, nothing to sort."""
        yield sample("f32[3,4]", axis=1)
        yield sample(operand("i64[6,2]", low=0, high=2), axis=0, descending=True)
        yield sample(operand("f64[2,4]", values=(1.0, 0.0, 1.0, 0.0, 2.0, 2.0, -1.0, 2.0)), axis=-1, descending=True)
        yield sample("f32[2,0]", axis=1)
