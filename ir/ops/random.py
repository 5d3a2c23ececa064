"""Random bits as a function of a key and a counter: exact integer arithmetic, the same on every runtime."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from dragoman.ir.op import Arithmetic, Array, Op, Sample, TensorType, operand, require, sample
from dragoman.ir.types import U32, broadcast

if TYPE_CHECKING:
    from dragoman.ir.builder import Builder
    from dragoman.ir.graph import Value

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_ROUNDS = 5  # groups of four rotations


class Threefry2x32(Op, name="threefry2x32"):
    """Two words of random bits for two words of a counter and a key of two words, in twenty rounds.

    key0, key1, count0, count1: u32, broadcast together   ->   two of u32. Salmon et al. 2011, "Parallel random numbers:
    as easy as 1, 2, 3", section 3.
    """

    def infer(
        self, key0: TensorType, key1: TensorType, count0: TensorType, count1: TensorType
    ) -> tuple[TensorType, TensorType]:
        """The shape that the four broadcast to."""
        require(all(t.dtype == U32 for t in (key0, key1, count0, count1)), "the operands are all u32")
        result = TensorType(U32, broadcast(key0.shape, key1.shape, count0.shape, count1.shape))
        return result, result

    def reference(self, m: Arithmetic, key0: Array, key1: Array, count0: Array, count1: Array) -> tuple[Array, Array]:
        """NumPy's unsigned integers, which wrap."""
        arrays = np.broadcast_arrays(key0, key1, count0, count1)
        x, y = _rounds(_Numbers(), *(np.array(a, np.uint32) for a in arrays))
        return x, y

    def decompose(self, b: Builder, key0: Value, key1: Value, count0: Value, count1: Value) -> tuple[Value, Value]:
        """Additions, rotations and exclusive disjunctions."""
        shape = broadcast(*(v.type.shape for v in (key0, key1, count0, count1)))
        x, y = _rounds(_Nodes(b), key0, key1, count0, count1)
        return tuple(v if v.type.shape == shape else b.broadcast_to(v, shape=shape) for v in (x, y))  # type: ignore[return-value]

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """The counter and key of zeros, whose bits are published; keys that broadcast; scalars."""
        zeros = operand("u32[1]", values=(0,))
        yield sample(zeros, zeros, zeros, zeros)
        yield sample("u32[]", "u32[]", "u32[2,3]", "u32[2,3]")
        yield sample("u32[2,1]", "u32[2,1]", "u32[3]", "u32[3]")
        yield sample("u32[]", "u32[]", "u32[]", "u32[]")


class _Numbers:
    """Words as NumPy's."""

    def add(self, x: Any, y: Any) -> Any:
        return x + (np.uint32(y) if isinstance(y, int) else y)

    def xor(self, x: Any, y: Any) -> Any:
        return x ^ (np.uint32(y) if isinstance(y, int) else y)

    def rotated(self, x: Any, count: int) -> Any:
        return (x << np.uint32(count)) | (x >> np.uint32(32 - count))


class _Nodes:
    """Words as values of a graph."""

    def __init__(self, b: Builder) -> None:
        self._b = b

    def add(self, x: Any, y: Any) -> Any:
        return self._b.add(x, y)

    def xor(self, x: Any, y: Any) -> Any:
        return self._b.bitwise_xor(x, y)

    def rotated(self, x: Any, count: int) -> Any:
        return self._b.bitwise_or(self._b.shift_left(x, count), self._b.shift_right(x, 32 - count))


def _rounds(words: Any, key0: Any, key1: Any, x: Any, y: Any) -> tuple[Any, Any]:
    keys = (key0, key1, words.xor(words.xor(key0, key1), _PARITY))
    x, y = words.add(x, key0), words.add(y, key1)
    for number in range(_ROUNDS):
        for count in _ROTATIONS[number % 2]:
            x = words.add(x, y)
            y = words.xor(words.rotated(y, count), x)
        x = words.add(x, keys[(number + 1) % 3])
        y = words.add(words.add(y, keys[(number + 2) % 3]), number + 1)
    return x, y
