"""Complex numbers made of their parts and taken apart."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from dragoman.ir.op import Arithmetic, Array, Op, Sample, TensorType, require, same_dtype, sample
from dragoman.ir.types import C64, C128, F32, F64, broadcast

_COMPLEX = {F32: C64, F64: C128}
_REAL = {C64: F32, C128: F64}


class Complex(Op, name="complex", pointwise=True):
    """x + i·y."""

    def infer(self, x: TensorType, y: TensorType) -> TensorType:
        """Two real dtypes to the complex one that has them as parts."""
        same_dtype(x, y)
        require(x.dtype in _COMPLEX, f"a complex number of {x.dtype}")
        return TensorType(_COMPLEX[x.dtype], broadcast(x.shape, y.shape))

    def reference(self, m: Arithmetic, x: Array, y: Array) -> Array:
        """The two parts beside each other, signs of zero kept."""
        parts = np.broadcast_arrays(x, y)
        return np.stack(parts, -1).view(np.result_type(parts[0], np.complex64)).reshape(parts[0].shape)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Equal shapes, broadcasting."""
        yield sample("f32[2,3]", "f32[2,3]")
        yield sample("f64[2,1]", "f64[3]")


class Part(Op):
    """A real number of a complex one."""

    def infer(self, z: TensorType) -> TensorType:
        """The real dtype of that width."""
        require(z.dtype in _REAL, f"a part of {z.dtype}")
        return z.with_dtype(_REAL[z.dtype])

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Both widths."""
        yield sample("c64[2,3]")
        yield sample("c128[2]")


class Real(Part, name="real", pointwise=True):
    """The real part."""

    def reference(self, m: Arithmetic, z: Array) -> Array:
        """NumPy's real."""
        return z.real


class Imag(Part, name="imag", pointwise=True):
    """The imaginary part."""

    def reference(self, m: Arithmetic, z: Array) -> Array:
        """NumPy's imag."""
        return z.imag
