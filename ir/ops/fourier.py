"""Discrete Fourier transforms over the last axes: complex, of real numbers, and back to real ones."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from dragoman.ir.arithmetic import numbers
from dragoman.ir.dims import Dim, floordiv
from dragoman.ir.op import Arithmetic, Array, Op, Sample, TensorType, normal_axes, require, sample
from dragoman.ir.types import C64, C128, F32, F64

_COMPLEX = {F32: C64, F64: C128}
_REAL = {C64: F32, C128: F64}


class Fft(Op, name="fft"):
    """Σₖ x[k]·e^(∓2πi·jk/n) along each of `axes`; the inverse has the other sign and divides by the number of terms."""

    axes: tuple[int, ...]
    inverse: bool = False

    def infer(self, x: TensorType) -> TensorType:
        """Complex to complex."""
        require(x.dtype.is_complex, f"the transform of {x.dtype}: use rfft")
        normal_axes(self.axes, x.rank)
        return x

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's fftn and ifftn."""
        x = numbers(x, "a transform")
        if not x.size:
            return x
        return (np.fft.ifftn if self.inverse else np.fft.fftn)(x, axes=self.axes)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """One and two axes, both directions, an odd extent."""
        yield sample("c64[2,5]", axes=(1,))
        yield sample("c128[4,3]", axes=(0, 1), inverse=True)


class Rfft(Op, name="rfft"):
    """The transform of real numbers along `axes`, of the last one only the ⌊n/2⌋ + 1 terms that tell the others."""

    axes: tuple[int, ...]

    def infer(self, x: TensorType) -> TensorType:
        """Real to complex."""
        require(x.dtype in _COMPLEX, f"the transform of {x.dtype}")
        normal_axes(self.axes, x.rank)
        shape = list(x.shape)
        last = self.axes[-1]
        shape[last] = floordiv(shape[last], 2) + 1
        return TensorType(_COMPLEX[x.dtype], tuple(shape))

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's rfftn."""
        return np.fft.rfftn(numbers(x, "a transform"), axes=self.axes)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Even and odd extents, two axes."""
        yield sample("f32[2,6]", axes=(1,))
        yield sample("f64[4,5]", axes=(0, 1))


class Irfft(Op, name="irfft"):
    """The inverse of rfft: real numbers of extent `size` along the last of `axes`."""

    axes: tuple[int, ...]
    size: Dim

    def infer(self, x: TensorType) -> TensorType:
        """Complex to real."""
        require(x.dtype in _REAL, f"the transform of {x.dtype}")
        normal_axes(self.axes, x.rank)
        shape = list(x.shape)
        shape[self.axes[-1]] = self.size
        return TensorType(_REAL[x.dtype], tuple(shape))

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's irfftn."""
        x = numbers(x, "a transform")
        extents = [x.shape[a] for a in self.axes[:-1]]
        return np.fft.irfftn(x, s=[*extents, int(self.size)], axes=self.axes)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Even and odd extents, two axes."""
        yield sample("c64[2,4]", axes=(1,), size=6)
        yield sample("c64[2,4]", axes=(1,), size=7)
        yield sample("c128[3,4]", axes=(0, 1), size=6)
