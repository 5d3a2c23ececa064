"""What a value is: an element type and a shape, printed `f32[batch,3,224,224]`.

Element types are objects (`F32`, `BF16`, `I64`, …) shared by the whole project; ml_dtypes gives NumPy those it lacks.
Shapes are tuples of dims (`dragoman.ir.dims`). Nothing here knows a framework.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import ml_dtypes
import numpy as np

from dragoman.ir.dims import Dim, DimExpr, Symbol, bounds, parse_dim, product, same, substitute, symbols
from dragoman.ir.errors import Malformed, TypeRuleError

Shape = tuple[Dim, ...]


@dataclass(frozen=True)
class DType:
    """An element type. `bits` is the storage of one element (2 or 4 for packed ones), 0 for strings."""

    name: str
    kind: str = field(compare=False)  # "bool", "int", "uint", "float", "complex" or "string"
    bits: int = field(compare=False)
    numpy: np.dtype[Any] = field(compare=False)

    def __hash__(self) -> int:
        return hash(self.name)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return self.name.upper()

    def __reduce__(self) -> tuple[Any, ...]:
        return parse_dtype, (self.name,)  # one object for each, in a copy and in another process too

    @property
    def is_float(self) -> bool:
        """Whether this is a real floating-point type."""
        return self.kind == "float"

    @property
    def is_integer(self) -> bool:
        """Whether this is a signed or unsigned integer type (bool is not)."""
        return self.kind in ("int", "uint")

    @property
    def is_complex(self) -> bool:
        """Whether this is a complex type."""
        return self.kind == "complex"

    @property
    def is_inexact(self) -> bool:
        """Whether arithmetic in this type rounds: floating-point or complex."""
        return self.kind in ("float", "complex")

    def nbytes(self, count: int) -> int:
        """Bytes that `count` elements take, small ones packed into bytes."""
        return (count * self.bits + 7) // 8


def _dtype(name: str, kind: str, bits: int, numpy: Any) -> DType:
    return DType(name, kind, bits, np.dtype(numpy))


BOOL = _dtype("bool", "bool", 8, np.bool_)
I2 = _dtype("i2", "int", 2, ml_dtypes.int2)
I4 = _dtype("i4", "int", 4, ml_dtypes.int4)
I8 = _dtype("i8", "int", 8, np.int8)
I16 = _dtype("i16", "int", 16, np.int16)
I32 = _dtype("i32", "int", 32, np.int32)
I64 = _dtype("i64", "int", 64, np.int64)
U2 = _dtype("u2", "uint", 2, ml_dtypes.uint2)
U4 = _dtype("u4", "uint", 4, ml_dtypes.uint4)
U8 = _dtype("u8", "uint", 8, np.uint8)
U16 = _dtype("u16", "uint", 16, np.uint16)
U32 = _dtype("u32", "uint", 32, np.uint32)
U64 = _dtype("u64", "uint", 64, np.uint64)
F4E2M1 = _dtype("f4e2m1", "float", 4, ml_dtypes.float4_e2m1fn)
F8E8M0 = _dtype("f8e8m0", "float", 8, ml_dtypes.float8_e8m0fnu)  # powers of two, as scales of blocks
F8E4M3FNUZ = _dtype("f8e4m3fnuz", "float", 8, ml_dtypes.float8_e4m3fnuz)
F8E5M2FNUZ = _dtype("f8e5m2fnuz", "float", 8, ml_dtypes.float8_e5m2fnuz)
F8E4M3FN = _dtype("f8e4m3fn", "float", 8, ml_dtypes.float8_e4m3fn)
F8E5M2 = _dtype("f8e5m2", "float", 8, ml_dtypes.float8_e5m2)
F16 = _dtype("f16", "float", 16, np.float16)
BF16 = _dtype("bf16", "float", 16, ml_dtypes.bfloat16)
F32 = _dtype("f32", "float", 32, np.float32)
F64 = _dtype("f64", "float", 64, np.float64)
C64 = _dtype("c64", "complex", 64, np.complex64)
C128 = _dtype("c128", "complex", 128, np.complex128)
STRING = _dtype("string", "string", 0, np.object_)

DTYPES: dict[str, DType] = {
    d.name: d
    for d in (
        *(BOOL, I2, I4, I8, I16, I32, I64, U2, U4, U8, U16, U32, U64),
        *(F4E2M1, F8E8M0, F8E4M3FN, F8E4M3FNUZ, F8E5M2, F8E5M2FNUZ, F16, BF16, F32, F64, C64, C128, STRING),
    )
}
_LARGEST = 2**63 - 1
_BY_NUMPY = {d.numpy: d for d in DTYPES.values()}


def dtype_of(array_or_dtype: Any) -> DType:
    """The element type of a NumPy array or dtype. Raises TypeRuleError for one that the IR does not have."""
    try:
        given = array_or_dtype
        numpy = np.dtype(given if isinstance(given, type) else getattr(given, "dtype", given))
    except TypeError:
        raise TypeRuleError(f"{array_or_dtype!r} is neither a NumPy array nor a NumPy dtype") from None
    if numpy.kind in "USOT":
        return STRING
    found = _BY_NUMPY.get(numpy.newbyteorder("=") if numpy.byteorder in "<>" else numpy)
    if found is None:
        raise TypeRuleError(f"NumPy's {numpy} is not an element type of the IR; those are {', '.join(DTYPES)}")
    return found


def parse_dtype(name: str) -> DType:
    """The element type of that name. Raises Malformed with the list of names."""
    found = DTYPES.get(name)
    if found is None:
        raise Malformed(f"{name[:40]!r} is not an element type; those are {', '.join(DTYPES)}")
    return found


@dataclass(frozen=True)
class TensorType:
    """An element type and a shape. Raises TypeRuleError for an extent that is not an integer in 0..2^63−1."""

    dtype: DType
    shape: Shape

    def __post_init__(self) -> None:
        if not all(type(d) is int and 0 <= d <= _LARGEST for d in self.shape):
            object.__setattr__(self, "shape", tuple(_extent(d) for d in self.shape))

    # Types are the keys of every cache: their hash, text and staticness are worked out once.

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.dtype, self.shape))

    @cached_property
    def _text(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"TensorType({self})"

    def __reduce__(self) -> tuple[Any, ...]:
        return TensorType, (self.dtype, self.shape)  # a cached hash is of no use to another process

    @cached_property
    def is_static(self) -> bool:
        """Whether every dimension is a number."""
        return not any(isinstance(d, DimExpr) for d in self.shape)

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> Dim:
        """Number of elements."""
        return product(self.shape)

    def with_shape(self, shape: Iterable[Dim]) -> TensorType:
        """The same element type with another shape."""
        return TensorType(self.dtype, tuple(shape))

    def with_dtype(self, dtype: DType) -> TensorType:
        """The same shape with another element type."""
        return TensorType(dtype, self.shape)

    def substitute(self, values: Mapping[str, Dim]) -> TensorType:
        """This type with the symbols in `values` replaced."""
        return TensorType(self.dtype, tuple(substitute(d, values) for d in self.shape))

    def symbols(self) -> dict[str, Symbol]:
        """The symbols of the shape, by name."""
        return dict(self._symbols)

    @cached_property
    def _symbols(self) -> dict[str, Symbol]:
        return {name: s for d in self.shape if isinstance(d, DimExpr) for name, s in symbols(d).items()}


def _extent(dim: Any) -> Dim:
    if isinstance(dim, DimExpr):
        if bounds(dim)[1] < 0:
            raise TypeRuleError(f"the extent {dim} is negative for every value of its symbols")
        return dim
    try:
        extent = operator.index(dim)
    except TypeError:
        raise TypeRuleError(f"an extent is an integer or a dimension expression, not {dim!r}") from None
    if not 0 <= extent <= _LARGEST:
        raise TypeRuleError(
            f"the extent {extent} is negative" if extent < 0 else f"the extent {extent} is above 2^63 - 1"
        )
    return extent


def same_shape(a: Shape, b: Shape) -> bool:
    """Whether two shapes are equal for every value of their symbols."""
    return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))


def same_type(a: TensorType, b: TensorType) -> bool:
    """Whether two types are equal for every value of their symbols."""
    return a is b or (a.dtype == b.dtype and (a.shape == b.shape or same_shape(a.shape, b.shape)))


@lru_cache(maxsize=65536)
def broadcast(*shapes: Shape) -> Shape:
    """The shape that NumPy's broadcasting gives, symbols standing for extents that are not stretched.

    Raises TypeRuleError where two extents are neither equal for all values of their symbols nor 1.
    """
    rank = max((len(s) for s in shapes), default=0)
    result: list[Dim] = [1] * rank
    for shape in shapes:
        for axis, dim in enumerate(shape, rank - len(shape)):
            result[axis] = _broadcast_dim(result[axis], dim, shapes)
    return tuple(result)


def _broadcast_dim(a: Dim, b: Dim, shapes: tuple[Shape, ...]) -> Dim:
    if isinstance(a, int) and a == 1:
        return b
    if (isinstance(b, int) and b == 1) or same(a, b):
        return a
    listed = " and ".join("[" + ",".join(map(str, s)) + "]" for s in shapes)
    ranges = " (one name with two ranges)" if str(a) == str(b) else ""
    raise TypeRuleError(f"{listed} do not broadcast: {a} against {b}{ranges}")


_TYPE = re.compile(r"\s*(\w+)\s*\[(.*)\]\s*", re.DOTALL)


def parse_type(text: str, known: Mapping[str, Symbol] | None = None) -> TensorType:
    """Read `f32[batch,2*seq]`. Symbols in `known` keep their ranges. Raises Malformed."""
    found = _TYPE.fullmatch(text)
    if not found:
        brief = repr(text if len(text) <= 80 else text[:77] + "...")
        raise Malformed(f"{brief} is not a type: write dtype[dims], such as f32[batch,3,224,224]")
    body = found.group(2).strip()
    return TensorType(parse_dtype(found.group(1)), tuple(parse_dim(d, known) for d in split_dims(body)) if body else ())


def split_dims(text: str) -> list[str]:
    """Split at the commas outside parentheses: `a,max(b, c)` has two dims."""
    parts, depth, start = [], 0, 0
    for at, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]
