"""Functions that Triton lacks, or has only where there is a device, as device code for hooks and generated kernels.

Each is accurate to a few units in the last place over its whole range, in f32 and f64, and passes NaN and infinities on
as NumPy does.
"""

# Parameters of device code are Triton's to type.
# pyright: reportMissingParameterType=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportAssignmentType=false
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def maximum(x, y):
    """The larger; NaN where either is."""
    return tl.where(x != x, x, tl.where(x > y, x, y))


@triton.jit
def minimum(x, y):
    """The smaller; NaN where either is."""
    return tl.where(x != x, x, tl.where(x < y, x, y))


@triton.jit
def sign(x):
    """-1, 0 or 1; NaN stays."""
    return tl.where(x > 0, 1, tl.where(x < 0, -1, x)).to(x.dtype)


@triton.jit
def trunc(x):
    """Without its fraction."""
    return tl.where(x < 0, tl.ceil(x), tl.floor(x))


@triton.jit
def round_even(x):
    """The nearest whole number, ties to the even one."""
    below = tl.floor(x)
    rest = x - below
    odd = below - 2 * tl.floor(below * 0.5)
    return tl.where((rest > 0.5) | ((rest == 0.5) & (odd == 1)), below + 1, below)


@triton.jit
def expm1(x):
    """exp(x) − 1 without cancellation: (u − 1)·x / log u with u = exp(x) (Kahan; Higham 2002, section 1.14.1)."""
    raised = tl.exp(x)
    near = (raised - 1) * x / tl.log(raised)
    ordinary = (raised != 1) & (tl.abs(x) < 1)
    return tl.where(ordinary, near, tl.where(raised == 1, x, raised - 1))


@triton.jit
def log1p(x):
    """log(1 + x) without cancellation: log(u)·x / (u − 1) with u = 1 + x (Kahan; Higham 2002, section 1.14.1)."""
    shifted = 1 + x
    near = tl.log(shifted) * x / (shifted - 1)
    ordinary = (shifted != 1) & (tl.abs(x) < 1)
    return tl.where(ordinary, near, tl.where(shifted == 1, x, tl.log(shifted)))


@triton.jit
def tanh(x):
    """Near zero x + x³·P(x²)/Q(x²) (Cephes, tanh.c); elsewhere 1 − 2/(exp(2|x|) + 1) with the sign of x."""
    square = x * x
    upper = (-9.64399179425052238628e-1 * square - 9.92877231001918586564e1) * square - 1.61468768441708447952e3
    lower = ((square + 1.12811678491632931402e2) * square + 2.23548839060100448583e3) * square
    near = x + x * square * (upper / (lower + 4.84406305325125486048e3))
    far = 1 - 2 / (tl.exp(2 * tl.abs(x)) + 1)
    return tl.where(tl.abs(x) < 0.625, near, tl.where(x < 0, -far, far))


@triton.jit
def quotient(x, y):
    """x / y of integers, toward zero; 0 where y is 0."""
    return tl.where(y == 0, 0, x // tl.where(y == 0, 1, y))


@triton.jit
def left_over(x, y):
    """x − y·trunc(x/y), with the sign of x; of integers 0 where y is 0."""
    return x % y if x.dtype.is_floating() else tl.where(y == 0, 0, x % tl.where(y == 0, 1, y))


@triton.jit
def remainder(x, y):
    """x − y·⌊x/y⌋, with the sign of y; of integers 0 where y is 0."""
    rest = left_over(x, y)
    return tl.where((rest != 0) & ((rest < 0) != (y < 0)), rest + y, rest)


@triton.jit
def shift_left(x, y):
    """x · 2^y; 0 where y is outside of the width."""
    WIDTH: tl.constexpr = x.dtype.primitive_bitwidth
    outside = (y < 0) | (y >= WIDTH)
    return tl.where(outside, 0, x << tl.where(outside, 0, y)).to(x.dtype)


@triton.jit
def shift_right(x, y):
    """⌊x / 2^y⌋; for y outside of the width -1 or 0, by the sign of x."""
    WIDTH: tl.constexpr = x.dtype.primitive_bitwidth
    outside = (y < 0) | (y >= WIDTH)
    shifted = x >> tl.where(outside, WIDTH - 1, y).to(x.dtype)
    return tl.where(outside & (x >= 0), 0, shifted).to(x.dtype)
