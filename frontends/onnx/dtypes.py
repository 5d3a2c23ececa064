"""Element types of ONNX as those of the IR, and which of them a tensor's bytes are in."""

from __future__ import annotations

import onnx

from dragoman.ir.errors import Malformed, Unsupported
from dragoman.ir.types import DTYPES, DType

_P = onnx.TensorProto
_NAMES = {
    _P.FLOAT: "f32",
    _P.UINT8: "u8",
    _P.INT8: "i8",
    _P.UINT16: "u16",
    _P.INT16: "i16",
    _P.INT32: "i32",
    _P.INT64: "i64",
    _P.STRING: "string",
    _P.BOOL: "bool",
    _P.FLOAT16: "f16",
    _P.DOUBLE: "f64",
    _P.UINT32: "u32",
    _P.UINT64: "u64",
    _P.COMPLEX64: "c64",
    _P.COMPLEX128: "c128",
    _P.BFLOAT16: "bf16",
    _P.FLOAT8E4M3FN: "f8e4m3fn",
    _P.FLOAT8E5M2: "f8e5m2",
    _P.UINT4: "u4",
    _P.INT4: "i4",
} | {
    getattr(_P, name): ours
    for name, ours in {
        "FLOAT8E4M3FNUZ": "f8e4m3fnuz",
        "FLOAT8E5M2FNUZ": "f8e5m2fnuz",
        "FLOAT4E2M1": "f4e2m1",
        "FLOAT8E8M0": "f8e8m0",
        "UINT2": "u2",
        "INT2": "i2",
    }.items()
    if hasattr(_P, name)
}


def dtype_of_code(code: int) -> DType:
    """The element type that ONNX numbers so. Raises Malformed for a number without meaning, Unsupported for a type
    that the IR does not have.
    """
    name = _NAMES.get(code)
    if name is None and code in _P.DataType.values() and code:
        raise Unsupported(f"the element type {_P.DataType.Name(code)} has no counterpart in the IR")
    if name is None:
        raise Malformed(f"{code} is not the number of an ONNX element type")
    return DTYPES[name]


def code_of_dtype(dtype: DType) -> int:
    """ONNX's number for an element type of ours."""
    return next(code for code, name in _NAMES.items() if name == dtype.name)
