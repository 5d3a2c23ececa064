"""TensorProtos as weights: dims, dtype and number of bytes are compared before anything is read or allocated."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper

from dragoman.frontends.onnx.dtypes import dtype_of_code
from dragoman.frontends.onnx.external import ExternalData
from dragoman.ir.errors import Malformed, UnsafeInput
from dragoman.ir.types import DType
from dragoman.ir.weights import ArrayWeight, FileWeight, FrameworkWeight, Weight

_P = onnx.TensorProto
_MOST_ELEMENTS = 1 << 48
# Typed fields, and how many entries of them one element takes; small types travel in int32_data.
_FIELDS: dict[int, tuple[str, int]] = {
    _P.FLOAT: ("float_data", 1),
    _P.DOUBLE: ("double_data", 1),
    _P.INT64: ("int64_data", 1),
    _P.UINT64: ("uint64_data", 1),
    _P.UINT32: ("uint64_data", 1),
    _P.COMPLEX64: ("float_data", 2),
    _P.COMPLEX128: ("double_data", 2),
    _P.STRING: ("string_data", 1),
}


def weight_of(proto: onnx.TensorProto, external: ExternalData, name: str = "") -> Weight:
    """A tensor as a weight. Raises Malformed where dims, dtype and bytes contradict each other, UnsafeInput for
    external data that must not be read.
    """
    name = name or proto.name
    dtype = dtype_of_code(proto.data_type)
    shape = _shape(proto, name)
    count = math.prod(shape)
    if proto.data_location == _P.EXTERNAL:
        return _external(proto, external, name, dtype, shape)
    if proto.external_data:
        raise Malformed(f"the tensor {name!r} has external data, but says that its data is inside")
    if proto.HasField("segment"):
        raise Malformed(f"the tensor {name!r} is a segment of another, which ONNX does not use")
    if proto.HasField("raw_data"):
        held, needed = len(proto.raw_data), dtype.nbytes(count)
        if dtype.kind == "string" or held != needed:
            raise Malformed(f"the tensor {name!r}, {dtype}{list(shape)}, takes {needed} bytes; it has {held}")
        if held <= 64:
            return ArrayWeight(_array(proto, dtype, shape))
        return FrameworkWeight(dtype, shape, lambda: _array(proto, dtype, shape))
    field, each = _FIELDS.get(proto.data_type, ("int32_data", 1))
    held = len(getattr(proto, field))
    needed = -(-count * dtype.bits // 8) if 0 < dtype.bits < 8 else count * each
    if held != needed:
        raise Malformed(f"the tensor {name!r}, {dtype}{list(shape)}, takes {needed} numbers; it has {held}")
    return ArrayWeight(_array(proto, dtype, shape))


def _shape(proto: onnx.TensorProto, name: str) -> tuple[int, ...]:
    shape = tuple(int(d) for d in proto.dims)
    if any(d < 0 for d in shape) or math.prod(d for d in shape if d) > _MOST_ELEMENTS:
        raise Malformed(f"the tensor {name!r} has dims {list(shape)}, which cannot be")
    return shape


def _external(
    proto: onnx.TensorProto, external: ExternalData, name: str, dtype: DType, shape: tuple[int, ...]
) -> Weight:
    keys = [entry.key for entry in proto.external_data]
    if len(set(keys)) != len(keys):
        raise Malformed(f"the external data of {name!r} names a key twice")
    place = external.range_of(name, {entry.key: entry.value for entry in proto.external_data})
    if dtype.kind == "string":
        raise UnsafeInput(f"the tensor {name!r} holds strings, which have no place in an external file")
    needed = dtype.nbytes(math.prod(shape))
    if place.length is not None and place.length != needed:
        raise Malformed(f"the tensor {name!r}, {dtype}{list(shape)}, takes {needed} bytes; {place.length} are named")
    if place.offset + needed > place.size:
        raise Malformed(f"{place.path.name} has {place.size} bytes, too few for the tensor {name!r}")
    return FileWeight(place.path, place.offset, dtype, shape)


def _array(proto: onnx.TensorProto, dtype: DType, shape: tuple[int, ...]) -> Any:
    if dtype.kind == "string":
        texts = [_text(raw) for raw in proto.string_data]
        return np.array(texts, np.object_).reshape(shape)
    try:
        values = onnx.numpy_helper.to_array(proto)
    except (TypeError, ValueError) as error:
        raise Malformed(f"the tensor {proto.name!r} cannot be read: {error}") from None
    if values.dtype != dtype.numpy:
        values = values.view(dtype.numpy) if values.itemsize == dtype.numpy.itemsize else values.astype(dtype.numpy)
    return values.reshape(shape)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def sparse_array(proto: onnx.SparseTensorProto, external: ExternalData) -> Any:
    """A sparse tensor made dense. Raises Malformed for places outside of it."""
    shape = tuple(int(d) for d in proto.dims)
    if any(d < 0 for d in shape) or math.prod(shape) > 1 << 28:
        raise Malformed(f"the sparse tensor {proto.values.name!r} has dims {list(shape)}, too many to make dense")
    values = weight_of(proto.values, external).array()
    places = weight_of(proto.indices, external).array().astype(np.int64)
    if places.ndim == 2:
        if places.shape[1] != len(shape):
            raise Malformed(f"the places of the sparse tensor {proto.values.name!r} have {places.shape[1]} axes")
        bad = (places < 0) | (places >= np.array(shape))
        if bad.any():
            raise Malformed(f"a place of the sparse tensor {proto.values.name!r} is outside of it")
        places = np.ravel_multi_index(tuple(places.T), shape)
    dense = np.zeros(math.prod(shape), values.dtype)
    if places.shape != values.shape or (places.size and not 0 <= places.min() <= places.max() < dense.size):
        raise Malformed(f"the sparse tensor {proto.values.name!r} has {places.size} places for {values.size} values")
    dense[places] = values
    return dense.reshape(shape)
