"""Where the numbers of a model are: a small protocol that tells dtype, shape and size without touching the bytes.

`ArrayWeight` holds a NumPy array, `FileWeight` a range of a file (memory-mapped on use), `FrameworkWeight` a tensor of
a framework through a callable that views it without a copy, `ComputedWeight` a value computed when it is asked for and
not kept. Writers stream `Weight.array()` one weight at a time: a conversion never holds a second copy of a model.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dragoman.ir.errors import Malformed, UnsafeInput, UsageError
from dragoman.ir.types import DType, TensorType, dtype_of

Array = NDArray[Any]
_PIECE = 1 << 24  # bytes hashed at a time


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


def weight_type(weight: Weight) -> TensorType:
    """The type of the value that a weight provides."""
    return TensorType(weight.dtype, tuple(weight.shape))


def fingerprint(weight: Weight) -> str:
    """SHA-256 over dtype, shape and elements: equal for equal weights of any kind, byte order or memory layout."""
    shape = ",".join(str(int(extent)) for extent in weight.shape)
    digest = hashlib.sha256(f"{weight.dtype}[{shape}]".encode())
    for piece in _pieces(weight.array()):
        if weight.dtype.kind == "string":
            for text in piece.tolist():
                raw = text if isinstance(text, bytes) else str(text).encode("utf-8", "surrogatepass")
                digest.update(len(raw).to_bytes(8, "little") + raw)
        else:
            digest.update(
                (pack_small(piece) if 0 < weight.dtype.bits < 8 else _little_endian(piece)).view(np.uint8).data
            )
    return digest.hexdigest()


def _pieces(array: Array) -> Iterator[Array]:
    """The elements in row-major order, without a second copy of them all."""
    step = max(_PIECE // max(array.itemsize, 1), 1)
    flat = array.reshape(-1) if array.flags.c_contiguous else array.flat
    for start in range(0, array.size, step):
        yield np.asarray(flat[start : start + step])


def _little_endian(array: Array) -> Array:
    return np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))


def _checked(array: Array, dtype: DType, shape: tuple[int, ...], kind: str) -> Array:
    if tuple(array.shape) != tuple(shape) or dtype_of(array) != dtype:
        given, declared = (f"{d}{list(s)}" for d, s in ((dtype_of(array), array.shape), (dtype, shape)))
        raise Malformed(f"a weight {kind} is {given}, declared {declared}")
    return array


@dataclass(frozen=True, eq=False)
class ArrayWeight:
    """A weight that is a NumPy array in memory."""

    values: Array

    def __post_init__(self) -> None:
        native = np.asarray(self.values)
        if not native.dtype.isnative:
            native = native.astype(native.dtype.newbyteorder("="))
        object.__setattr__(self, "values", native)

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
        """Bytes of the elements, small ones counted as packed."""
        return self.dtype.nbytes(self.values.size)

    def array(self) -> Array:
        """The array itself."""
        return self.values


@dataclass(frozen=True, eq=False)
class FileWeight:
    """A weight in a range of a file, memory-mapped when asked for and released with the array.

    `offset` is in bytes; elements are little-endian, row-major, small ones packed lowest bits first. Raises Malformed
    if the file ends before the weight does, and UnsafeInput for what is not a regular file. Which links a path may pass
    through is for the reader of the model to decide.
    """

    path: Path
    offset: int
    dtype: DType
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.offset < 0 or any(extent < 0 for extent in self.shape):
            raise Malformed(f"{self.path}: a weight at offset {self.offset} with shape {list(self.shape)} cannot be")
        if self.dtype.kind == "string":
            raise Malformed(f"{self.path}: strings have no fixed width and are not read from a range of a file")

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.dtype.nbytes(math.prod(self.shape))

    def array(self) -> Array:
        """A read-only view of the mapped file."""
        count = math.prod(self.shape)
        raw = self._mapped()
        if 0 < self.dtype.bits < 8:
            return unpack_small(raw, count, self.dtype).reshape(self.shape)
        if self.dtype.kind == "bool":
            return (raw != 0).reshape(self.shape)  # a byte above 1 is true as well
        return raw.view(self.dtype.numpy.newbyteorder("<")).astype(self.dtype.numpy, copy=False).reshape(self.shape)

    def _mapped(self) -> Array:
        try:
            # Without O_NONBLOCK, opening a pipe that somebody put in the file's place would wait for ever.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise UsageError(f"the weights in {self.path} cannot be read: {error.strerror}") from None
        try:
            state = os.fstat(descriptor)
            if not stat.S_ISREG(state.st_mode):
                raise UnsafeInput(f"{self.path} holds weights but is not a regular file")
            if self.offset + self.nbytes > state.st_size:
                need = f"a weight of {self.nbytes} bytes at {self.offset}"
                raise Malformed(f"{self.path} has {state.st_size} bytes, too few for {need}")
            if self.nbytes == 0:
                return np.zeros(0, np.uint8)
            page = self.offset - self.offset % mmap.ALLOCATIONGRANULARITY
            mapped = mmap.mmap(descriptor, self.offset - page + self.nbytes, access=mmap.ACCESS_READ, offset=page)
        finally:
            os.close(descriptor)
        return np.frombuffer(mapped, np.uint8, self.nbytes, self.offset - page)


@dataclass(frozen=True, eq=False)
class FrameworkWeight:
    """A framework's tensor, seen through `view`, which returns its elements without a copy where the framework can."""

    dtype: DType
    shape: tuple[int, ...]
    view: Callable[[], Array] = field(repr=False)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.dtype.nbytes(math.prod(self.shape))

    def array(self) -> Array:
        """The elements as the framework holds them. Raises Malformed if they are not of the declared type."""
        return _checked(self.view(), self.dtype, self.shape, "of a framework")


@dataclass(frozen=True, eq=False)
class ComputedWeight:
    """A weight computed from others each time it is asked for, and not kept: a folded constant costs no memory.

    `exact` gives the elements before they were rounded to `dtype`, where the computation was finer than that.
    """

    dtype: DType
    shape: tuple[int, ...]
    compute: Callable[[], Array] = field(repr=False)
    exact: Callable[[], Array] | None = field(default=None, repr=False)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.dtype.nbytes(math.prod(self.shape))

    def array(self) -> Array:
        """Compute the elements. Raises Malformed if they have another shape or dtype than declared."""
        return _checked(self.compute(), self.dtype, self.shape, "that is computed")


def exact_values(weight: Weight) -> Array:
    """The elements of a weight, unrounded where it knows them so: what a float64 reference computes with."""
    if isinstance(weight, ComputedWeight) and weight.exact is not None:
        return weight.exact()
    return weight.array()


@dataclass(frozen=True, eq=False)
class AbsentWeight:
    """A weight of which only the type is known, as after parsing IR text without its weights."""

    dtype: DType
    shape: tuple[int, ...]
    name: str = ""

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.dtype.nbytes(math.prod(self.shape))

    def array(self) -> Array:
        """Raises Malformed: there are no elements."""
        raise Malformed(f"the weight {self.name!r} was read from text without values; pass weights= to parse()")


def unpack_small(raw: Array, count: int, dtype: DType) -> Array:
    """`count` elements of 4 or 2 bits from bytes, lowest bits first."""
    each = 8 // dtype.bits
    mask = (1 << dtype.bits) - 1
    parts = np.empty((raw.size, each), np.uint8)
    for index in range(each):
        parts[:, index] = (raw >> (index * dtype.bits)) & mask
    flat = parts.reshape(-1)[:count]
    if dtype.is_float:
        return flat.view(dtype.numpy)
    sign = 1 << (dtype.bits - 1)
    return (((flat ^ sign).view(np.int8) - sign) if dtype.kind == "int" else flat).astype(dtype.numpy)


def pack_small(values: Array) -> Array:
    """Elements of 4 or 2 bits as bytes, lowest bits first, an odd tail padded with zeros."""
    dtype = dtype_of(values)
    each = 8 // dtype.bits
    flat = values.reshape(-1)
    bits = np.ascontiguousarray(flat).view(np.uint8) if dtype.is_float else flat.astype(np.int8).view(np.uint8)
    padded = np.pad(bits & ((1 << dtype.bits) - 1), (0, -flat.size % each))
    packed = np.zeros(padded.size // each, np.uint8)
    for index in range(each):
        packed |= padded[index::each] << (index * dtype.bits)
    return packed
