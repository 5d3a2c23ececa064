"""The IR's types in ONNX's words: element types, shapes with `dim_param`, tensors, and what each opset asks of a model
file.

Which dtypes an operator takes is read from ONNX's own schemas, so that it is right for every opset. Refuses nothing
itself: callers ask `objection` and decide.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import onnx
import onnx.defs

from dragoman.ir.dims import Dim
from dragoman.ir.errors import UsageError
from dragoman.ir.types import (
    BF16,
    BOOL,
    C64,
    C128,
    DTYPES,
    F4E2M1,
    F8E4M3FN,
    F8E4M3FNUZ,
    F8E5M2,
    F8E5M2FNUZ,
    F8E8M0,
    F16,
    F32,
    F64,
    I2,
    I4,
    I8,
    I16,
    I32,
    I64,
    STRING,
    U2,
    U4,
    U8,
    U16,
    U32,
    U64,
    DType,
    TensorType,
)
from dragoman.ir.weights import Array, pack_small

OLDEST = 13
# What runs in the most places: ONNX Runtime has it since 1.17. Newer ones gain nothing there: seven models of the zoo
# took the same time at opsets 17, 20, 21, 23 and 25 as far as a busy machine can tell (ONNX Runtime 1.32, one thread).
DEFAULT = 20
# The file format that first had each opset; older readers refuse a newer one.
_IR_VERSIONS = {
    13: 7,
    14: 7,
    15: 8,
    16: 8,
    17: 8,
    18: 8,
    19: 9,
    20: 9,
    21: 10,
    22: 10,
    23: 11,
    24: 12,
    25: 13,
    26: 13,
    27: 13,
    28: 14,
}

_CODES: dict[DType, int] = (
    {
        F32: 1,
        U8: 2,
        I8: 3,
        U16: 4,
        I16: 5,
        I32: 6,
        I64: 7,
        STRING: 8,
        BOOL: 9,
        F16: 10,
        F64: 11,
        U32: 12,
        U64: 13,
    }
    | {C64: 14, C128: 15, BF16: 16, F8E4M3FN: 17, F8E4M3FNUZ: 18, F8E5M2: 19, F8E5M2FNUZ: 20, U4: 21, I4: 22}
    | {
        F4E2M1: 23,
        F8E8M0: 24,
        U2: 25,
        I2: 26,
    }
)
_SCHEMA_NAMES: dict[DType, str] = (
    {F32: "float", F64: "double", F16: "float16", BF16: "bfloat16", BOOL: "bool", STRING: "string"}
    | {I4: "int4", I8: "int8", I16: "int16", I32: "int32", I64: "int64"}
    | {U4: "uint4", U8: "uint8", U16: "uint16", U32: "uint32", U64: "uint64"}
    | {F8E4M3FNUZ: "float8e4m3fnuz", F8E5M2FNUZ: "float8e5m2fnuz", F4E2M1: "float4e2m1", F8E8M0: "float8e8m0"}
    | {U2: "uint2", I2: "int2"}
    | {F8E4M3FN: "float8e4m3fn", F8E5M2: "float8e5m2", C64: "complex64", C128: "complex128"}
)
_SINCE: dict[DType, int] = {F8E4M3FN: 19, F8E5M2: 19, F8E4M3FNUZ: 19, F8E5M2FNUZ: 19} | {
    I4: 21,
    U4: 21,
    F4E2M1: 23,
    F8E8M0: 24,
    I2: 25,
    U2: 25,
}  # the opset in which each small type appears

# Each dtype and those that hold all its values, narrowest first: where casts there and back lose nothing.
_WIDER: dict[DType, tuple[DType, ...]] = (
    {F8E4M3FN: (F16, F32, F64), F8E5M2: (F16, F32, F64), F16: (F32, F64), BF16: (F32, F64), F32: (F64,)}
    | {I4: (I8, I16, I32, I64, F32), I8: (I16, I32, I64, F32), I16: (I32, I64, F32), I32: (I64, F64)}
    | {U4: (U8, I32, I64, F32), U8: (I16, I32, I64, F32), U16: (I32, I64, F32), U32: (I64, F64)}
    | {F8E4M3FNUZ: (F16, F32, F64), F8E5M2FNUZ: (F32, F64), F4E2M1: (F16, F32, F64), F8E8M0: (F32, F64)}
    | {I2: (I8, I16, I32, I64, F32), U2: (U8, I32, I64, F32)}
    | {BOOL: (U8, I32, I64, F32)}
)


# What ONNX permits and ONNX Runtime 1.32 has no CPU kernel for (each tried with a one-node model). Integers and bool
# compute in a wider type instead, composites in f64 are decomposed. bf16 is not listed: accelerators have it.
_WIDE_UNSIGNED = frozenset({U32, U64})
_NO_KERNEL: dict[str, frozenset[DType]] = {
    **dict.fromkeys(("ReduceSum", "ReduceProd", "ReduceMax", "ReduceMin", "CumSum"), _WIDE_UNSIGNED),
    **dict.fromkeys(("ArgMax", "ArgMin"), _WIDE_UNSIGNED | {I16, U16}),
    **dict.fromkeys(("Max", "Min", "Pad"), frozenset({I16, U16})),
    **dict.fromkeys(("LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "HardSigmoid", "HardSwish"), frozenset({F64})),
    **dict.fromkeys(("Softplus", "Softsign", "Mish", "ThresholdedRelu", "PRelu", "Shrink"), frozenset({F64})),
    "Relu": frozenset({I16, I64}),
    "NonZero": _WIDE_UNSIGNED | {F64, I8, I16, U16},
    "Trilu": _WIDE_UNSIGNED | {I8, I16, U8, U16},
    "TopK": _WIDE_UNSIGNED | {U16},
    "Where": frozenset({BOOL, I16, U16, U64}),
}


def newest() -> int:
    """The newest opset that the installed onnx package describes."""
    return min(onnx.defs.onnx_opset_version(), max(_IR_VERSIONS))


def checked_opset(opset: int | None) -> int:
    """The opset to write. Raises UsageError for one that we or the installed onnx do not know."""
    if opset is None:
        return DEFAULT
    if not OLDEST <= opset <= newest():
        raise UsageError(
            f"opset {opset} cannot be written: choose {OLDEST} to {newest()} (onnx {onnx.__version__} is installed)"
        )
    return opset


def ir_version(opset: int) -> int:
    """The file format version that belongs to an opset."""
    return _IR_VERSIONS[opset]


def code(dtype: DType) -> int:
    """ONNX's number for an element type."""
    return _CODES[dtype]


def dtype_of_code(number: int) -> DType | None:
    """The element type that ONNX numbers so; None for one that the IR does not have."""
    return next((d for d, n in _CODES.items() if n == number), None)


def absent(dtype: DType, opset: int) -> str | None:
    """Why an opset cannot hold a dtype at all, or None."""
    since = _SINCE.get(dtype, 0)
    return f"{dtype} exists from opset {since} on" if opset < since else None


@lru_cache(maxsize=4096)
def schema(op_type: str, opset: int) -> onnx.defs.OpSchema | None:
    """ONNX's own description of an operator as of an opset; None where it does not exist yet."""
    try:
        return onnx.defs.get_schema(op_type, opset, "")
    except onnx.defs.SchemaError:
        return None


@lru_cache(maxsize=4096)
def _allowed(op_type: str, opset: int) -> tuple[tuple[str, frozenset[str]], ...]:
    found = schema(op_type, opset)
    if found is None:
        return ()
    constraints = {c.type_param_str: frozenset(c.allowed_type_strs) for c in found.type_constraints}
    return tuple((i.type_str, constraints.get(i.type_str, frozenset({i.type_str}))) for i in found.inputs)


@lru_cache(maxsize=65536)
def objection(op_type: str, opset: int, dtypes: tuple[DType | None, ...]) -> str | None:
    """Why ONNX forbids `op_type` on operands of these dtypes at an opset, or None."""
    found = schema(op_type, opset)
    if found is None:
        return f"ONNX opset {opset} has no {op_type}"
    allowed = _allowed(op_type, opset)
    for index, dtype in enumerate(dtypes):
        if dtype is None:
            continue
        _, names = allowed[min(index, len(allowed) - 1)]
        if f"tensor({_SCHEMA_NAMES[dtype]})" not in names:
            return f"ONNX opset {opset} has no {op_type} on {dtype}"
    return None


def runs(op_type: str, dtype: DType) -> bool:
    """Whether ONNX Runtime on CPU has a kernel for an operator that ONNX permits on this dtype."""
    return dtype not in _NO_KERNEL.get(op_type, ())


@lru_cache(maxsize=4096)
def computing_dtype(op_type: str, opset: int, dtype: DType) -> DType | None:
    """The narrowest dtype holding every value of `dtype` that `op_type` takes, and runs on where that can be had."""
    legal = [d for d in (dtype, *_WIDER.get(dtype, ())) if objection(op_type, opset, (d,)) is None]
    return next((d for d in legal if runs(op_type, d)), legal[0] if legal else None)


def fill_type(target: onnx.TypeProto, type: TensorType) -> None:
    """Write a type into a TypeProto; symbolic dims become `dim_param` with the expression as text."""
    tensor = target.tensor_type
    tensor.elem_type = _CODES[type.dtype]
    shape = tensor.shape
    shape.SetInParent()
    for dim in type.shape:
        fill_dim(shape.dim.add(), dim)


def fill_dim(target: onnx.TensorShapeProto.Dimension, dim: Dim) -> None:
    """Write one dim: a number or the text of an expression."""
    if isinstance(dim, int):
        target.dim_value = dim
    else:
        target.dim_param = str(dim)


def little_endian(values: Array, dtype: DType) -> Array:
    """Contiguous bytes of an array in the layout of `raw_data`: little-endian, 4-bit elements packed."""
    if 0 < dtype.bits < 8:
        return pack_small(np.ascontiguousarray(values))
    flat = np.ascontiguousarray(values).reshape(-1)
    if flat.dtype.byteorder == ">":
        flat = flat.astype(flat.dtype.newbyteorder("<"))
    return flat.view(np.uint8)


def constant_key(values: Array, dtype: DType) -> bytes:
    """What two constants of one dtype and shape share if they are the same, signs of zeros and NaNs included."""
    if dtype is STRING:
        return repr(values.tolist()).encode()
    return little_endian(values, dtype).tobytes()


def tensor(name: str, values: Array, dtype: DType) -> onnx.TensorProto:
    """A small tensor with its bytes inside."""
    proto = onnx.TensorProto(name=name, data_type=_CODES[dtype], dims=values.shape)
    if dtype is STRING:
        proto.string_data.extend(str(v).encode() for v in values.reshape(-1))
    else:
        proto.raw_data = little_endian(values, dtype).tobytes()
    return proto


assert set(_CODES) == set(DTYPES.values()) == set(_SCHEMA_NAMES)


def array(values: object, dtype: DType) -> Array:
    """A NumPy array of the numbers given, rounded to the dtype; beyond its range that is infinity."""
    with np.errstate(over="ignore"):
        return np.asarray(values, np.object_ if dtype == STRING else None).astype(dtype.numpy)


def zeros(type: TensorType) -> Array:
    """An array of a type with known extents; strings are empty."""
    shape = [int(d) for d in type.shape]
    return np.full(shape, "", np.object_) if type.dtype == STRING else np.zeros(shape, type.dtype.numpy)
