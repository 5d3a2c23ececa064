"""Values that come from the program itself: scalar constants, dimensions as numbers, ranges."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import ml_dtypes
import numpy as np

from dragoman.ir.dims import Dim, DimExpr
from dragoman.ir.errors import TypeRuleError
from dragoman.ir.op import Arithmetic, Array, Op, Sample, TensorType, require, sample
from dragoman.ir.types import BF16, BOOL, F32, I64, DType


class Constant(Op, name="constant"):
    """A scalar. Larger constants are weights."""

    value: float | complex | str
    dtype: DType

    def __post_init__(self) -> None:
        super().__post_init__()
        # 1, 1.0 and True are one constant of a dtype, in one spelling.
        given, made = _SPELLINGS.get(self.dtype.kind, ((), None))
        is_flag = self.dtype.kind != "bool" or self.value in (0, 1)
        if made is not None and isinstance(self.value, given) and is_flag:
            object.__setattr__(self, "value", made(self.value))

    def infer(self) -> TensorType:
        """Rank 0. A whole number must be in the range of its dtype; a real one is rounded, to infinity if need be."""
        require(_is_of(self.value, self.dtype), f"the value {self.value!r} is not of dtype {self.dtype}")
        if self.dtype.is_integer:
            limits = ml_dtypes.iinfo(self.dtype.numpy)
            fits = isinstance(self.value, int) and int(limits.min) <= self.value <= int(limits.max)
            require(fits, f"the value {self.value} is out of the range {limits.min}..{limits.max} of {self.dtype}")
        return TensorType(self.dtype, ())

    def reference(self, m: Arithmetic) -> Array:
        """The number as written; the native arithmetic rounds it to its dtype."""
        return m.constant(self.value, self.dtype)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Each kind of dtype."""
        yield sample(value=0.1, dtype=F32)
        yield sample(value=1e-5, dtype=BF16)
        yield sample(value=-3, dtype=I64)
        yield sample(value=True, dtype=BOOL)


# What may be given for a kind of dtype, and the Python type it is kept as.
_SPELLINGS: dict[str, tuple[tuple[type, ...], Callable[[Any], Any]]] = {
    "bool": ((int,), bool),
    "int": ((bool,), int),
    "uint": ((bool,), int),
    "float": ((bool, int), float),
    "complex": ((bool, int, float), complex),
}


def _is_of(value: Any, dtype: DType) -> bool:
    if dtype.kind == "bool":
        return isinstance(value, bool)
    if dtype.is_integer:
        return isinstance(value, int)
    return isinstance(value, {"float": float, "complex": complex, "string": str}[dtype.kind])


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
