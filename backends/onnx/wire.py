"""The bytes of an ONNX file, written piece by piece: the skeleton from protobuf, weights straight from where they lie.

A file is a ModelProto whose last field is its GraphProto, whose last fields are the initializers. Their lengths are
known beforehand, so nothing is ever serialised in memory and one weight at most is computed at a time. `scan` reads
such a file back, or any ONNX file, without loading a weight.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx

from dragoman.backends.onnx import types
from dragoman.backends.onnx.emitter import Emission
from dragoman.backends.onnx.residency import FileMappings
from dragoman.ir.errors import Malformed
from dragoman.ir.types import STRING, DType
from dragoman.ir.weights import Array, Weight, pack_small

Buffer = bytes | mmap.mmap
CHUNK = 1 << 24  # bytes handled at once
_WORTH_RELEASING = 1 << 20
LIMIT = (1 << 31) - (1 << 20)  # protobuf refuses a message of 2 GiB

_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9  # field numbers of ModelProto, GraphProto and TensorProto


@dataclass(frozen=True)
class Placement:
    """Where a weight is outside the model: a file beside it, and the bytes in it."""

    location: str
    offset: int
    length: int


def varint(number: int) -> bytes:
    """Protobuf's variable-length integer."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(number: int, length: int) -> bytes:
    return varint(number << 3 | 2) + varint(length)


# ---- tensors ------------------------------------------------------------------------------------------------


def head(name: str, weight: Weight, placement: Placement | None = None) -> bytes:
    """A TensorProto without its bytes, which follow if there is no placement."""
    if weight.dtype == STRING:
        return types.tensor(name, weight.array(), STRING).SerializeToString(deterministic=True)
    proto = onnx.TensorProto(name=name, data_type=types.code(weight.dtype), dims=weight.shape)
    if placement is not None:
        proto.data_location = onnx.TensorProto.EXTERNAL
        for key in ("location", "offset", "length"):
            proto.external_data.add(key=key, value=str(getattr(placement, key)))
    return proto.SerializeToString(deterministic=True)


def stored(weight: Weight) -> int:
    """Bytes of a weight's raw data; strings have none."""
    return 0 if weight.dtype == STRING else weight.nbytes


def stream(weight: Weight, write: Callable[[memoryview], object], mappings: FileMappings | None = None) -> None:
    """Hand the raw bytes of a weight to `write`, 16 MiB at a time. Raises Malformed if there are not as many."""
    values = weight.array()
    total = 0
    for piece in pieces(values, weight.dtype):
        total += piece.nbytes
        write(piece.data)
    if mappings is not None and total >= _WORTH_RELEASING:
        mappings.release()
    if total != weight.nbytes:
        raise Malformed(f"a weight gave {total} bytes where {weight.nbytes} were declared")


def pieces(values: Array, dtype: DType) -> Iterator[Array]:
    """The raw data of an array as flat arrays of bytes, little-endian, without copying more than one piece."""
    if 0 < dtype.bits < 8:
        flat = values.reshape(-1)
        for start in range(0, flat.size, CHUNK):
            yield pack_small(flat[start : start + CHUNK])
        return
    if values.dtype.byteorder == ">" or (sys.byteorder == "big" and values.dtype.byteorder == "="):
        values = values.astype(values.dtype.newbyteorder("<"))
    yield from _blocks(values)


def _blocks(values: Array) -> Iterator[Array]:
    if values.flags.c_contiguous:
        flat = values.reshape(-1).view(np.uint8)
        for start in range(0, flat.size, CHUNK):
            yield flat[start : start + CHUNK]
        return
    row = values.nbytes // max(values.shape[0], 1)
    if row > CHUNK:
        for index in range(values.shape[0]):
            yield from _blocks(values[index])
        return
    step = max(1, CHUNK // max(row, 1))
    for start in range(0, values.shape[0], step):
        yield _contiguous(values[start : start + step]).reshape(-1).view(np.uint8)


def _contiguous(values: Array) -> Array:
    """A row-major copy. Of a transposed matrix by strips of one cache line: 2 to 3 times as fast as NumPy's own."""
    if values.ndim != 2 or values.strides[0] >= values.strides[1] or values.itemsize > 32:
        return np.ascontiguousarray(values)
    result = np.empty(values.shape, values.dtype)
    strip = 64 // values.itemsize
    for start in range(0, values.shape[1], strip):
        result[:, start : start + strip] = values[:, start : start + strip]
    return result


# ---- files --------------------------------------------------------------------------------------------------


def embedded_size(emission: Emission) -> int:
    """Bytes of the model with all its weights inside, up to a few for lengths."""
    return emission.skeleton.ByteSize() + sum(stored(w) + 128 for w in emission.weights.values())


def write_model(out: BinaryIO, emission: Emission, placements: dict[str, Placement], mappings: FileMappings) -> None:
    """Write the whole model file; weights without a placement go inside."""
    model = emission.skeleton
    outer = onnx.ModelProto(ir_version=model.ir_version, producer_name=model.producer_name)
    outer.opset_import.extend(model.opset_import)
    outer.metadata_props.extend(model.metadata_props)
    skeleton = model.graph.SerializeToString(deterministic=True)
    heads = {name: head(name, weight, placements.get(name)) for name, weight in emission.weights.items()}
    inside = {name: 0 if name in placements else stored(w) for name, w in emission.weights.items()}
    lengths = {name: len(heads[name]) + _raw_length(inside[name]) for name in heads}
    total = len(skeleton) + sum(len(_field(_INITIALIZER, n)) + n for n in lengths.values())
    out.write(outer.SerializeToString(deterministic=True))
    out.write(_field(_GRAPH, total))
    out.write(skeleton)
    for name, weight in emission.weights.items():
        out.write(_field(_INITIALIZER, lengths[name]))
        out.write(heads[name])
        if inside[name]:
            out.write(_field(_RAW_DATA, inside[name]))
            stream(weight, out.write, mappings)


def _raw_length(nbytes: int) -> int:
    return len(_field(_RAW_DATA, nbytes)) + nbytes if nbytes else 0


# ---- reading back -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """An initializer met by `scan`: its type and where its bytes are; no placement if they are inside."""

    name: str
    data_type: int
    dims: tuple[int, ...]
    inside: int
    placement: Placement | None


def scan(data: Buffer) -> tuple[onnx.GraphProto, list[Found]]:
    """The graph of a model file without its initializers, and those. Reads no weight of a mapped file.

    Raises Malformed where lengths do not agree with the file.
    """
    view = memoryview(data)
    bare: list[bytes] = []
    found: list[Found] = []
    for number, _, start, end in _fields(view, 0, len(view)):
        if number != _GRAPH:
            continue
        kept = start  # what lies between initializers is the rest of the graph
        for inner, key, at, stop in _fields(view, start, end):
            if inner == _INITIALIZER:
                bare.append(bytes(view[kept:key]))
                found.append(_initializer(view, at, stop))
                kept = stop
        bare.append(bytes(view[kept:end]))
    graph = onnx.GraphProto()
    _parse(graph, b"".join(bare))
    return graph, found


def _fields(view: memoryview, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, place of the key, of the content and of its end, for each length-delimited field in a range."""
    at = start
    while at < end:
        key_at = at
        key, at = _varint_at(view, at, end)
        kind = key & 7
        if kind == 0:
            _, at = _varint_at(view, at, end)
            continue
        length, at = _varint_at(view, at, end) if kind == 2 else ({1: 8, 5: 4}.get(kind, -1), at)
        if length < 0 or at + length > end:
            raise Malformed(f"the file contradicts itself at byte {at}")
        if kind == 2:
            yield key >> 3, key_at, at, at + length
        at += length


def _varint_at(view: memoryview, at: int, end: int) -> tuple[int, int]:
    result = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise Malformed(f"the file ends within a number at byte {at}")
        byte = view[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return result, at
    raise Malformed(f"the number before byte {at} never ends")


def _parse(proto: onnx.GraphProto | onnx.TensorProto, data: bytes) -> None:
    try:
        proto.ParseFromString(data)
    except Exception as error:  # protobuf's DecodeError, which onnx does not name
        raise Malformed(f"the file does not hold a {type(proto).__name__}: {error}") from None


def _initializer(view: memoryview, start: int, end: int) -> Found:
    """A TensorProto with its raw data left where it is."""
    small: list[bytes] = []
    inside, kept = 0, start
    for number, key, at, stop in _fields(view, start, end):
        if number == _RAW_DATA:
            small.append(bytes(view[kept:key]))
            inside, kept = stop - at, stop
    small.append(bytes(view[kept:end]))
    proto = onnx.TensorProto()
    _parse(proto, b"".join(small))
    return Found(proto.name, proto.data_type, tuple(proto.dims), inside, _placement(proto))


def _placement(proto: onnx.TensorProto) -> Placement | None:
    if proto.data_location != onnx.TensorProto.EXTERNAL:
        return None
    entries = {entry.key: entry.value for entry in proto.external_data}
    try:
        return Placement(entries.get("location", ""), int(entries.get("offset", 0)), int(entries.get("length", -1)))
    except ValueError:
        raise Malformed(f"the tensor {proto.name!r} is placed at {entries}") from None


@contextmanager
def mapped(path: Path) -> Generator[Buffer]:
    """The bytes of a file, mapped for as long as anything looks at them; an empty one as no bytes."""
    with path.open("rb") as file:
        empty = path.stat().st_size == 0
        yield b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
