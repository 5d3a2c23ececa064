"""Random keys and bits of the threefry generator, exactly as JAX computes them, in integer arithmetic.

A key is the two words that it holds, along a last axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

from dragoman.frontends.jax.context import Context
from dragoman.frontends.jax.dtypes import from_jax, is_key
from dragoman.frontends.jax.table.registry import translates
from dragoman.frontends.jax.xla.integers import unsigned
from dragoman.ir.dims import Dim, ceildiv, product
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.types import U32, U64, TensorType


@translates("random_wrap", "random_unwrap", "random_clone")
def same_words(c: Context, x: Value, **_: Any) -> Value:
    """The words as they are."""
    return x


@translates("threefry2x32")
def threefry2x32(c: Context, key0: Value, key1: Value, x: Value, y: Value) -> list[Value]:
    """The op."""
    return list(c.b.threefry2x32(key0, key1, x, y))


@translates("random_seed")
def random_seed(c: Context, seeds: Value, *, impl: Any) -> Value:
    """The high and the low word of the seed."""
    _check_generator(c.equation.outvars[0].aval.dtype)
    return _seeded(c, seeds)


def _seeded(c: Context, seeds: Value) -> Value:
    b = c.b
    if seeds.type.dtype.bits == 64:
        wide = unsigned(b, seeds)
        high, low = c.cast(b.shift_right(wide, 32), U32), c.cast(b.bitwise_and(wide, 2**32 - 1), U32)
    else:
        low = c.cast(seeds, U32)
        high = c.full(0, TensorType(U32, seeds.type.shape))
    return b.stack(high, low, axis=-1)


@translates("random_split")
def random_split(c: Context, keys: Value, *, shape: Sequence[Any]) -> Value:
    """New keys: each the bits for one count."""
    _check_generator(c.equation.invars[0].aval.dtype)
    sizes = c.shape(shape)
    if _partitionable():
        return c.b.stack(*_counted(c, keys, sizes), axis=-1)
    words = _hashed(c, keys, 2 * product(sizes))
    return c.b.reshape(words, shape=(*keys.type.shape[:-1], *sizes, 2))


@translates("random_fold_in")
def random_fold_in(c: Context, keys: Value, data: Value) -> Value:
    """The bits for the data as a count."""
    _check_generator(c.equation.invars[0].aval.dtype)
    b = c.b
    count = _seeded(c, data)
    key0, key1 = _words(c, keys)
    first, second = _words(c, count)
    return b.stack(*b.threefry2x32(key0, key1, first, second), axis=-1)


@translates("random_bits")
def random_bits(c: Context, keys: Value, *, bit_width: int, shape: Sequence[Any]) -> Value:
    """Words for all places, cut or joined to the width."""
    _check_generator(c.equation.invars[0].aval.dtype)
    b, sizes = c.b, c.shape(shape)
    if _partitionable():
        high, low = _counted(c, keys, sizes)
        if bit_width == 64:
            return b.bitwise_or(b.shift_left(c.cast(high, U64), 32), c.cast(low, U64))
        return c.fit(b.bitwise_xor(high, low))
    return _drawn(c, keys, bit_width, sizes)


def _drawn(c: Context, keys: Value, width: int, sizes: tuple[Dim, ...]) -> Value:
    """The bits without `jax_threefry_partitionable`: one run of words, cut into pieces of the width."""
    b, size = c.b, product(sizes)
    batch = keys.type.shape[:-1]
    last = len(batch)
    words = _hashed(c, keys, ceildiv(width * size, 32))
    if width == 64:
        first, second = b.split(words, axis=last, sizes=(size, size))
        words = b.bitwise_or(b.shift_left(c.cast(first, U64), 32), c.cast(second, U64))
    elif width < 32:
        shifts = b.mul(b.iota(size=32 // width, dtype=U32), width)
        pieces = b.bitwise_and(b.shift_right(b.unsqueeze(words, axes=(last + 1,)), shifts), 2**width - 1)
        words = c.fit(b.reshape(pieces, shape=(*batch, words.type.shape[last] * (32 // width))))
        words = b.slice(words, axes=(last,), starts=(0,), stops=(size,))
    return b.reshape(words, shape=(*batch, *sizes))


def _partitionable() -> bool:
    """Whether JAX counts places of an array rather than words of a run."""
    config: Any = jax.config
    return bool(config.jax_threefry_partitionable)


def _check_generator(dtype: Any) -> None:
    if is_key(dtype) and "fry" not in str(dtype):
        raise Unsupported(f"random numbers of the generator {dtype}; threefry is translated")


def _words(c: Context, keys: Value) -> tuple[Value, Value]:
    """The first and the second words of keys."""
    last = keys.type.rank - 1
    first, second = c.b.split(keys, axis=last, sizes=(1, 1))
    return c.b.squeeze(first, axes=(last,)), c.b.squeeze(second, axes=(last,))


def _spread(c: Context, word: Value, more: int) -> Value:
    return c.b.reshape(word, shape=(*word.type.shape, *[1] * more)) if more else word


def _counted(c: Context, keys: Value, sizes: tuple[Dim, ...]) -> tuple[Value, Value]:
    """Two words for each place of a shape, for each key."""
    key0, key1 = (_spread(c, word, len(sizes)) for word in _words(c, keys))
    high, low = counts(c, sizes)
    x, y = c.b.threefry2x32(key0, key1, high, low)
    return x, y


def counts(c: Context, sizes: tuple[Dim, ...]) -> tuple[Value, Value]:
    """0, 1, … over all places of a shape: the high word and the low one."""
    total = product(sizes)
    if not isinstance(total, int) or total < 2**32:
        low = c.b.reshape(c.b.iota(size=total, dtype=U32), shape=sizes)
        return c.full(0, TensorType(U32, sizes)), low
    wide = c.b.reshape(c.b.iota(size=total, dtype=U64), shape=sizes)
    return c.cast(c.b.shift_right(wide, 32), U32), c.cast(wide, U32)


@translates("iota_2x32_shape")
def iota_2x32(c: Context, *, shape: Sequence[Any]) -> list[Value]:
    """0, 1, … over all places, in two words."""
    return list(counts(c, c.shape(shape)))


def _hashed(c: Context, keys: Value, count: Dim) -> Value:
    """So many words for each key: the counts in two halves hashed together."""
    b = c.b
    half = ceildiv(count, 2)
    first = b.iota(size=half, dtype=U32)
    second = b.add(first, b.extent(half, U32))
    odd = 2 * half - count
    if odd != 0:  # the last count is replaced by zero
        limit = b.extent(count, U32)
        second = b.where(b.less(second, limit), second, 0)
    key0, key1 = (_spread(c, word, 1) for word in _words(c, keys))
    x, y = b.threefry2x32(key0, key1, first, second)
    words = b.concat(x, y, axis=x.type.rank - 1)
    if odd == 0:
        return words
    return b.slice(words, axes=(words.type.rank - 1,), starts=(0,), stops=(count,))


@translates("rng_bit_generator")
def rng_bit_generator(c: Context, key: Value, *, shape: Any, dtype: Any, algorithm: Any, **_: Any) -> list[Value]:
    """Refused: what it gives differs from device to device."""
    raise Unsupported(f"{from_jax(dtype)} random bits of {algorithm} are what the device makes of them; use jax.random")
