"""Discrete Fourier transforms over the last axes: complex, of real numbers, and back to real ones."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from dragoman.ir.arithmetic import numbers
from dragoman.ir.dims import Dim, floordiv, same
from dragoman.ir.op import Arithmetic, Array, Op, Sample, TensorType, normal_axes, normal_axis, require, sample
from dragoman.ir.types import C64, C128, F32, F64

if TYPE_CHECKING:
    from dragoman.ir.builder import Builder
    from dragoman.ir.graph import Value

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


class Dft(Op, name="dft", exact_field=False):
    """The transform along `axis` of complex numbers held as pairs in the last axis, as ONNX's DFT has them.

    x: […, n, …, 2], or […, n, …, 1] of real numbers   ->   […, terms, …, 2]
    `size` is the number of terms of the whole transform. With `onesided` only the first ⌊size/2⌋ + 1 are given, or,
    inverse, taken: the result is then real, […, size, …, 1].
    """

    axis: int
    size: Dim
    inverse: bool = False
    onesided: bool = False

    def infer(self, x: TensorType) -> TensorType:
        """Pairs, but for real results."""
        axis = normal_axis(self.axis, x.rank)
        require(x.dtype in _COMPLEX, f"the transform of {x.dtype}")
        require(axis < x.rank - 1 and x.shape[-1] in (1, 2), f"{x}: the last axis holds one number or a pair")
        half = floordiv(self.size, 2) + 1
        given = half if self.inverse and self.onesided else self.size
        require(same(x.shape[axis], given), f"{x.shape[axis]} terms along axis {axis}, not {given}")
        shape = list(x.shape)
        shape[axis] = half if self.onesided and not self.inverse else self.size
        shape[-1] = 1 if self.onesided and self.inverse else 2
        return x.with_shape(shape)

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's transforms."""
        x = numbers(x, "a transform")
        axis = self.axis % x.ndim
        values = x[..., 0] + (1j * x[..., 1] if x.shape[-1] == 2 else 0j)
        if self.inverse and self.onesided:
            return np.fft.irfft(values, int(self.size), axis=axis)[..., None]
        y = (np.fft.ifft if self.inverse else np.fft.fft)(values, axis=axis)
        if self.onesided:
            y = np.take(y, np.arange(int(self.size) // 2 + 1), axis=axis)
        return np.stack([y.real, y.imag], axis=-1)

    def decompose(self, b: Builder, x: Value) -> Value:
        """A product with the matrix of cosines and sines, in f64: sums that cancel are then right to the last bit."""
        axis, last = self.axis % x.type.rank, x.type.rank - 1
        rest = [a for a in range(last) if a != axis]
        turned = b.transpose(x, perm=(*rest, axis, last))
        given, parts = turned.type.shape[-2:]
        lead = turned.type.shape[:-2]
        result = self.infer(x.type)
        terms, kept = result.shape[axis], result.shape[-1]
        matrix = self._matrix(b, given, terms, int(parts), int(kept))  # type: ignore[arg-type]
        rows = b.reshape(turned, shape=(*lead, given * parts))
        y = b.matmul(rows if rows.type.dtype == F64 else b.cast(rows, dtype=F64), matrix)
        y = y if x.type.dtype == F64 else b.cast(y, dtype=x.type.dtype)
        y = b.reshape(y, shape=(*lead, terms, kept))
        return b.transpose(y, perm=(*(sorted(rest).index(a) if a != axis else len(rest) for a in range(last)), last))

    def _matrix(self, b: Builder, given: Dim, terms: Dim, parts: int, kept: int) -> Value:
        """f64[given·parts, terms·kept]."""
        size = b.extent(self.size, F64)
        row, column = b.iota(size=given, dtype=F64), b.iota(size=terms, dtype=F64)
        turn = b.remainder(b.mul(b.reshape(row, shape=(given, 1)), column), size)
        angle = b.div(b.mul(turn, 2 * math.pi), size)
        cosine, sine = b.cos(angle), b.sin(angle)
        if self.inverse:
            weight = b.reciprocal(size)
            if self.onesided:  # all but the first term, and the last of an even number, stand for two
                single = b.logical_or(b.equal(row, 0.0), b.equal(b.mul(row, 2.0), size))
                weight = b.reshape(b.mul(b.where(single, b.const(1.0, F64), 2.0), weight), shape=(given, 1))
            cosine, sine = b.mul(cosine, weight), b.neg(b.mul(sine, weight))
        columns = [[cosine, b.neg(sine)], [sine, cosine]]  # what the real and the imaginary part give to each
        rows = [b.stack(*columns[p][:kept], axis=2) for p in range(parts)]
        whole = b.stack(*rows, axis=1)  # [given, parts, terms, kept]
        return b.reshape(whole, shape=(given * parts, terms * kept))

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Real and complex, each direction, whole and one-sided."""
        yield sample("f32[2,5,1]", axis=1, size=5)
        yield sample("f64[4,3,2]", axis=0, size=4, inverse=True)
        yield sample("f32[2,6,1]", axis=-2, size=6, onesided=True)
        yield sample("f32[2,4,2]", axis=1, size=7, inverse=True, onesided=True)
