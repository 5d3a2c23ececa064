"""The same bits in another dtype."""

from __future__ import annotations

from typing import Any

from dragoman.frontends.jax.context import Context
from dragoman.frontends.jax.dtypes import from_jax
from dragoman.frontends.jax.table.registry import translates
from dragoman.frontends.jax.xla.integers import unsigned
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.ops.bits import WORDS
from dragoman.ir.types import BOOL, DType


@translates("bitcast_convert_type")
def bitcast(c: Context, x: Value, *, new_dtype: Any) -> Value:
    """Bits of x as another dtype; where the widths differ, an axis of parts goes or comes, low ones first."""
    dtype = from_jax(new_dtype)
    if dtype == x.type.dtype:
        return x
    if BOOL in (dtype, x.type.dtype) or dtype.is_complex or x.type.dtype.is_complex:
        raise Unsupported(f"bits of {x.type.dtype} as {dtype}")
    words = _words(c, x)
    if dtype.bits > words.type.dtype.bits:
        words = _joined(c, words, WORDS[dtype.bits])
    elif dtype.bits < words.type.dtype.bits:
        words = _parted(c, words, WORDS[dtype.bits])
    return c.b.float_from_bits(words, dtype=dtype) if dtype.is_float else c.cast(words, dtype)


def _words(c: Context, x: Value) -> Value:
    if x.type.dtype.bits not in WORDS or c.type.dtype.bits not in WORDS:
        raise Unsupported(f"bits of {x.type.dtype} as {c.type.dtype}")
    return c.b.bits_of_float(x, dtype=x.type.dtype) if x.type.dtype.is_float else unsigned(c.b, x)


def _joined(c: Context, words: Value, wide: DType) -> Value:
    b, last = c.b, words.type.rank - 1
    width = words.type.dtype.bits
    shifts = b.mul(b.iota(size=wide.bits // width, dtype=wide), width)
    return b.reduce_sum(b.shift_left(b.cast(words, dtype=wide), shifts), axes=(last,))


def _parted(c: Context, words: Value, narrow: DType) -> Value:
    b, rank = c.b, words.type.rank
    shifts = b.mul(b.iota(size=words.type.dtype.bits // narrow.bits, dtype=words.type.dtype), narrow.bits)
    parts = b.bitwise_and(b.shift_right(b.unsqueeze(words, axes=(rank,)), shifts), 2**narrow.bits - 1)
    return b.cast(parts, dtype=narrow)


@translates("nextafter")
def nextafter(c: Context, x: Value, y: Value) -> Value:
    """The number after x on the way to y: its bits one more away from zero, or one less."""
    b, dtype = c.b, x.type.dtype
    bits = b.bits_of_float(x, dtype=dtype)
    negative = b.less(x, 0.0)
    away = b.logical_xor(b.less(y, x), b.logical_not(negative))
    moved = b.where(away, b.add(bits, 1), b.sub(bits, 1))
    sign = b.where(b.less(y, 0.0), b.const(1 << (dtype.bits - 1), bits.type.dtype), b.const(0, bits.type.dtype))
    moved = b.where(b.equal(x, 0.0), b.add(sign, 1), moved)
    found = b.float_from_bits(moved, dtype=dtype)
    found = b.where(b.equal(x, y), y, found)
    unordered = b.logical_or(b.isnan(x), b.isnan(y))
    return b.where(unordered, b.const(float("nan"), dtype), found)
