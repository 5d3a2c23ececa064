"""Bits of integers: the same bits with and without a sign, how many are set, how many lead."""

from __future__ import annotations

from dragoman.ir.builder import Builder
from dragoman.ir.graph import Value
from dragoman.ir.types import I8, I16, I32, I64, U8, U16, U32, U64, DType

_UNSIGNED = {I8: U8, I16: U16, I32: U32, I64: U64}
_SIGNED = {theirs: ours for ours, theirs in _UNSIGNED.items()}


def unsigned(b: Builder, x: Value) -> Value:
    """The same bits without a sign."""
    return _as(b, x, _UNSIGNED)


def signed(b: Builder, x: Value) -> Value:
    """The same bits with a sign."""
    return _as(b, x, _SIGNED)


def _as(b: Builder, x: Value, table: dict[DType, DType]) -> Value:
    dtype = table.get(x.type.dtype)
    return x if dtype is None else b.cast(x, dtype=dtype)


def population_count(b: Builder, x: Value) -> Value:
    """How many bits are set: sums over pairs, nibbles and bytes (Warren, Hacker's Delight, 5-1)."""
    dtype = x.type.dtype
    bits = unsigned(b, x)
    width = bits.type.dtype.bits

    def mask(pattern: int) -> Value:
        return b.const(int.from_bytes(bytes([pattern]) * (width // 8), "little"), bits.type.dtype)

    def right(y: Value, count: int) -> Value:
        return b.shift_right(y, count)

    pairs = b.sub(bits, b.bitwise_and(right(bits, 1), mask(0x55)))
    nibbles = b.add(b.bitwise_and(pairs, mask(0x33)), b.bitwise_and(right(pairs, 2), mask(0x33)))
    total = b.bitwise_and(b.add(nibbles, right(nibbles, 4)), mask(0x0F))
    shift = 8
    while shift < width:
        total = b.add(total, right(total, shift))
        shift *= 2
    total = b.bitwise_and(total, 0x7F)
    return b.cast(total, dtype=dtype) if dtype != bits.type.dtype else total


def leading_zeros(b: Builder, x: Value) -> Value:
    """How many bits above the highest set one are zero."""
    bits = unsigned(b, x)
    width = bits.type.dtype.bits
    shift = 1
    while shift < width:
        bits = b.bitwise_or(bits, b.shift_right(bits, shift))
        shift *= 2
    count = population_count(b, b.bitwise_not(bits))
    return b.cast(count, dtype=x.type.dtype) if count.type.dtype != x.type.dtype else count
