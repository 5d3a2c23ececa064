"""Values that come from the program itself: scalar constants, dimensions as numbers, ranges."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from dragoman.ir.dims import Dim, DimExpr
from dragoman.ir.errors import TypeRuleError
from dragoman.ir.op import Arithmetic, Array, Op, Sample, TensorType, require, sample
from dragoman.ir.types import BF16, BOOL, F32, I64, DType


class Constant(Op, name="constant"):
    """A scalar. Larger constants are weights."""

    value: float | complex | str
    dtype: DType

    def infer(self) -> TensorType:
        """Rank 0."""
        kind = self.dtype.kind
        text = kind == "string"
        require(isinstance(self.value, str) == text, f"the value {self.value!r} is not of dtype {self.dtype}")
        require(
            kind == "complex" or not isinstance(self.value, complex), f"{self.value!r} is not of dtype {self.dtype}"
        )
        integral = isinstance(self.value, int) or text
        require(
            not (self.dtype.is_integer or kind == "bool") or integral, f"{self.value!r} is not of dtype {self.dtype}"
        )
        return TensorType(self.dtype, ())

    def reference(self, m: Arithmetic) -> Array:
        """The value, rounded to its dtype."""
        return m.constant(self.value, self.dtype)

    # 0.0 and -0.0 differ as constants, NaN equals itself, and True is not 1.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and self.dtype == other.dtype and repr(self.value) == repr(other.value)

    def __hash__(self) -> int:
        return hash((self.dtype, repr(self.value)))

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Each kind of dtype."""
        yield sample(value=0.1, dtype=F32)
        yield sample(value=1e-5, dtype=BF16)
        yield sample(value=-3, dtype=I64)
        yield sample(value=True, dtype=BOOL)


class Dimension(Op, name="dimension"):
    """A dimension as a scalar: where a model computes with its own sizes."""

    dim: Dim
    dtype: DType = I64

    def infer(self) -> TensorType:
        """Rank 0."""
        require(self.dtype.is_integer or self.dtype.is_float, f"a dimension cannot be a {self.dtype}")
        return TensorType(self.dtype, ())

    def reference(self, m: Arithmetic) -> Array:
        """The number that the dimension is in this run."""
        if isinstance(self.dim, DimExpr):
            raise TypeRuleError(f"the dimension {self.dim} has no value here")
        return m.embed(np.array(self.dim), self.dtype)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Integer and float."""
        yield sample(dim=7)
        yield sample(dim=7, dtype=F32)


class Iota(Op, name="iota"):
    """0, 1, …, size−1."""

    size: Dim
    dtype: DType = I64

    def infer(self) -> TensorType:
        """Rank 1."""
        require(self.dtype.is_integer or self.dtype.is_float, f"a range of {self.dtype} cannot be")
        return TensorType(self.dtype, (self.size,))

    def reference(self, m: Arithmetic) -> Array:
        """NumPy's arange."""
        if isinstance(self.size, DimExpr):
            raise TypeRuleError(f"the dimension {self.size} has no value here")
        return m.embed(np.arange(self.size), self.dtype)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Some, one and no elements."""
        yield sample(size=5)
        yield sample(size=1, dtype=F32)
        yield sample(size=0)
