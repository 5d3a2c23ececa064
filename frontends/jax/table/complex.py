"""Complex numbers: parts, conjugates, what sign and order mean for them; Fourier transforms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dragoman.frontends.jax.context import Context
from dragoman.frontends.jax.table.registry import translates
from dragoman.ir.graph import Value


@translates("complex")
def complex_(c: Context, x: Value, y: Value) -> Value:
    """x + i·y."""
    return c.b.complex(x, y)


@translates("real")
def real(c: Context, x: Value, **_: Any) -> Value:
    """The real part."""
    return c.b.real(x)


@translates("imag")
def imag(c: Context, x: Value, **_: Any) -> Value:
    """The imaginary part."""
    return c.b.imag(x)


@translates("conj")
def conj(c: Context, x: Value, **_: Any) -> Value:
    """The imaginary part negated; of a real number, a complex one."""
    b = c.b
    if not x.type.dtype.is_complex:
        return c.fit(x)
    return b.complex(b.real(x), b.neg(b.imag(x)))


@translates("fft")
def fft(c: Context, x: Value, *, fft_type: Any, fft_lengths: Sequence[Any]) -> Value:
    """Transforms over the last axes."""
    b, rank = c.b, x.type.rank
    axes = tuple(range(rank - len(fft_lengths), rank))
    kind = int(fft_type)
    if kind in (0, 1):
        return b.fft(x, axes=axes, inverse=kind == 1)
    return b.rfft(x, axes=axes) if kind == 2 else b.irfft(x, axes=axes, size=c.dim(fft_lengths[-1]))
