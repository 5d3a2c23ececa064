"""Where the numbers of a model are: a small protocol that tells dtype, shape and size without touching the bytes.

`ArrayWeight` holds a NumPy array, `FileWeight` a range of a file (memory-mapped on use), `FrameworkWeight` a framework's tensor
through a callable that views it without a copy, `ComputedWeight` a value that is computed when it is asked for and not
kept. Writers stream `Weight.array()` one weight at a time, so a conversion never holds a second copy of a model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dragoman.ir.errors import Malformed
from dragoman.ir.types import DType, TensorType, dtype_of

Array = NDArray[Any]


@runtime_checkable
class Weight(Protocol):
    """A tensor whose dtype, shape and size are known without reading it."""

    @property
    def dtype(self) -> DType:
        """Element type."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of the elements, without I/O."""
        ...

    def array(self) -> Array:
        """The elements; a view where possible. Read-only by convention."""
        ...


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for extent in shape:
        total *= extent
    return total


def weight_type(weight: Weight) -> TensorType:
    """The type of the value that a weight provides."""
    return TensorType(weight.dtype, tuple(weight.shape))


def fingerprint(weight: Weight) -> str:
    """SHA-256 over dtype, shape and bytes; reads the weight once, in pieces of 16 MiB."""
    digest = hashlib.sha256(f"{weight.dtype}{weight.shape}".encode())
    flat = np.ascontiguousarray(weight.array()).reshape(-1)
    if flat.dtype == np.object_:
        digest.update(repr(flat.tolist()).encode())
        return digest.hexdigest()
    raw = flat.view(np.uint8)
    for start in range(0, raw.size, 1 << 24):
        digest.update(raw[start : start + (1 << 24)].data)
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class ArrayWeight:
    """A weight that is a NumPy array in memory."""

    values: Array

    @property
    def dtype(self) -> DType:
        """Element type."""
        return dtype_of(self.values)

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents."""
        return tuple(self.values.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.dtype.nbytes(self.values.size)

    def array(self) -> Array:
        """The array itself."""
        return self.values


@dataclass(frozen=True, eq=False)
class FileWeight:
    """A weight in a range of a file, memory-mapped when asked for and released with the array.

    `offset` is in bytes. Raises Malformed if the file ends before the weight does.
    """

    path: Path
    offset: int
    dtype: DType
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.offset < 0 or any(extent < 0 for extent in self.shape):
            raise Malformed(f"{self.path}: a weight at offset {self.offset} with shape {self.shape} cannot be")

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.dtype.nbytes(_count(self.shape))

    def array(self) -> Array:
        """A read-only view of the mapped file."""
        available = self.path.stat().st_size
        if self.offset + self.nbytes > available:
            raise Malformed(f"{self.path} has {available} bytes; a weight needs {self.offset}+{self.nbytes}")
        count = _count(self.shape)
        if count == 0:
            return np.zeros(self.shape, self.dtype.numpy)
        raw = np.memmap(self.path, np.uint8, "r", self.offset, (self.nbytes,))
        if self.dtype.bits == 4:
            return unpack_nibbles(raw, count, self.dtype).reshape(self.shape)
        return raw.view(self.dtype.numpy).reshape(self.shape)


@dataclass(frozen=True, eq=False)
class FrameworkWeight:
    """A framework's tensor, seen through `view`, which returns its elements without a copy where the framework can."""

    dtype: DType
    shape: tuple[int, ...]
    view: Callable[[], Array] = field(repr=False)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.dtype.nbytes(_count(self.shape))

    def array(self) -> Array:
        """The elements as the framework holds them."""
        return self.view()


@dataclass(frozen=True, eq=False)
class ComputedWeight:
    """A weight computed from others each time it is asked for, and not kept: a folded constant costs no memory."""

    dtype: DType
    shape: tuple[int, ...]
    compute: Callable[[], Array] = field(repr=False)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.dtype.nbytes(_count(self.shape))

    def array(self) -> Array:
        """Compute the elements. Raises Malformed if they have another shape or dtype than declared."""
        result = self.compute()
        if tuple(result.shape) != self.shape or dtype_of(result) != self.dtype:
            raise Malformed(f"a computed weight is {dtype_of(result)}{result.shape}, declared {self.dtype}{self.shape}")
        return result


@dataclass(frozen=True, eq=False)
class AbsentWeight:
    """A weight of which only the type is known, as after parsing IR text without its weights."""

    dtype: DType
    shape: tuple[int, ...]
    name: str = ""

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.dtype.nbytes(_count(self.shape))

    def array(self) -> Array:
        """Raises Malformed: there are no elements."""
        raise Malformed(f"the weight {self.name!r} was read from text without values; pass weights= to parse()")


def unpack_nibbles(raw: Array, count: int, dtype: DType) -> Array:
    """`count` 4-bit integers from bytes, low nibble first."""
    low, high = raw & 0x0F, raw >> 4
    nibbles = np.stack([low, high], axis=-1).reshape(-1)[:count].astype(np.int8)
    if dtype.kind == "int":
        nibbles = np.where(nibbles > 7, nibbles - 16, nibbles).astype(np.int8)
    return nibbles.astype(dtype.numpy)


def pack_nibbles(values: Array) -> Array:
    """4-bit integers as bytes, low nibble first, an odd tail padded with zero."""
    nibbles = values.reshape(-1).astype(np.int8).view(np.uint8) & 0x0F
    padded = np.pad(nibbles, (0, nibbles.size % 2))
    return (padded[0::2] | (padded[1::2] << 4)).astype(np.uint8)
