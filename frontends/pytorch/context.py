"""What a translation works with: the builder, the dims, the node at hand and the type that torch gives its result.

Also owns torch's type promotion, made explicit: `promote` inserts the casts that torch makes silently.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy
import torch
from torch.fx import GraphModule, Node

from dragoman.frontends.pytorch.dtypes import from_torch, to_torch
from dragoman.frontends.pytorch.symints import Symbols
from dragoman.ir import types as ir
from dragoman.ir.builder import Builder
from dragoman.ir.dims import Dim, DimExpr
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Graph, Value
from dragoman.ir.types import DType, TensorType
from dragoman.ir.weights import Weight


@dataclass(frozen=True)
class Number:
    """A scalar that is known only when the model runs: `x.shape[0] ** 0.5`, `t.item()`. `kind` is bool, int or float.
    A scalar that is known only when the model runs: `x.shape[0] ** 0.5`, `t.item()`. `kind` is bool, int or float.
    """

    expression: sympy.Basic
    kind: str


Scalar = bool | int | float | complex | DimExpr | Number
Operand = Value | Scalar

_KINDS = {"bool": 0, "int": 1, "uint": 1, "float": 2, "complex": 3}


class Context:
    """Passed to each translation. `type` is what torch says the (first) result is; `b` writes nodes."""

    def __init__(self, builder: Builder, dims: Symbols, default: DType) -> None:
        self.b = builder
        self.dims = dims
        self.default = default  # the dtype that torch gives to Python floats
        self.in_region = False
        self.node: Node | None = None
        self.types: tuple[TensorType, ...] = ()
        self.written: dict[int, Value] = {}
        self.number: Callable[[Number, DType], Value] = _no_numbers
        self.region: Callable[[GraphModule, Sequence[Any]], Graph] = _no_regions
        self.inline: Callable[..., Any] = _no_regions
        self.expanded: Callable[[GraphModule, Sequence[Any]], Any] = _no_regions

    @property
    def type(self) -> TensorType:
        """The type of the result, or of the first of several."""
        return self.types[0]

    def weight(self, name: str, weight: Weight) -> Value:
        """A constant of several elements. Raises Unsupported in a region of control flow, which has no weights of its
        own.
        """
        if self.in_region:
            raise Unsupported("it makes a constant inside control flow: make it outside and pass it in")
        return self.b.graph.add_weight(name, weight)

    def write(self, argument: int, value: Value) -> None:
        """Say that the operator also changed its argument at that position to `value`."""
        self.written[argument] = value

    # ---- scalars and casts ---------------------------------------------------------------------------

    def cast(self, x: Value, dtype: DType) -> Value:
        """`x` as `dtype`; nothing where it is."""
        return x if x.type.dtype == dtype else self.b.cast(x, dtype=dtype)

    def scalar(self, x: Scalar, dtype: DType) -> Value:
        """A scalar as a rank-0 value of `dtype`, converted as Python and torch convert."""
        if isinstance(x, DimExpr):
            if dtype.is_integer or dtype.is_float:
                return self.b.extent(x, dtype)
            return self.cast(self.b.extent(x, ir.I64), dtype)
        if isinstance(x, Number):
            return self.number(x, dtype)
        return self.b.const(plain(x, dtype), dtype)

    def value(self, x: Operand, dtype: DType) -> Value:
        """A tensor or scalar as a value of `dtype`."""
        return self.cast(x, dtype) if isinstance(x, Value) else self.scalar(x, dtype)

    def full(self, shape: Sequence[Dim], fill: Operand, dtype: DType) -> Value:
        """A tensor of one value."""
        scalar = self.value(fill, dtype)
        return scalar if not shape else self.b.broadcast_to(scalar, shape=tuple(shape))

    def broadcast(self, x: Value, shape: Sequence[Dim]) -> Value:
        """`x` broadcast to a shape; nothing where it has it."""
        return x if ir.same_shape(x.type.shape, tuple(shape)) else self.b.broadcast_to(x, shape=tuple(shape))

    def reshape(self, x: Value, shape: Sequence[Dim]) -> Value:
        """`x` in another shape; nothing where it has it."""
        return x if ir.same_shape(x.type.shape, tuple(shape)) else self.b.reshape(x, shape=tuple(shape))

    # ---- promotion -----------------------------------------------------------------------------------

    def result_dtype(self, *operands: Operand) -> DType:
        """The dtype that torch promotes these operands to."""
        return result_dtype(operands, self.default)

    def promote(self, *operands: Operand) -> list[Value]:
        """All operands as values of their common dtype."""
        dtype = self.result_dtype(*operands)
        return [self.value(x, dtype) for x in operands]

    def applied(self, function: Callable[..., Value], *operands: Operand, dtype: DType | None = None) -> Value:
        """`function` of the operands in their common dtype, or in `dtype`."""
        common = dtype or self.result_dtype(*operands)
        return function(*(self.value(x, common) for x in operands))

    def scaled(self, function: Callable[..., Value], *operands: Operand, dtype: DType | None = None) -> Value:
        """The same for products and quotients: torch keeps a factor that half precision cannot hold in f32."""
        common = dtype or self.result_dtype(*operands)
        wide = ir.F32 if _loses(operands, common) else common
        return self.cast(function(*(self.value(x, wide) for x in operands)), common)

    def floating(self, x: Value) -> Value:
        """`x` as torch's mathematical functions take it: integers become the default float."""
        return x if x.type.dtype.is_inexact else self.cast(x, self.default)


def _no_numbers(number: Number, dtype: DType) -> Value:
    raise Unsupported(f"{number.expression} is not known when the model is imported")


def _no_regions(*_: Any) -> Any:
    raise Unsupported("control flow has no place here")


def plain(x: complex, dtype: DType) -> complex:
    """A Python number as one of the dtype's kind, truncated and wrapped as torch does."""
    if dtype.is_float:
        return float(x.real if isinstance(x, complex) else x)
    if dtype.kind == "bool":
        return bool(x)
    if dtype.is_integer:
        low = -(1 << (dtype.bits - 1)) if dtype.kind == "int" else 0
        return (int(x.real if isinstance(x, complex) else x) - low) % (1 << dtype.bits) + low
    return complex(x)


def _loses(operands: Sequence[Operand], dtype: DType) -> bool:
    """Whether a scalar among the operands would lose digits in a half-precision dtype."""
    if not (dtype.is_float and dtype.bits < ir.F32.bits):
        return False
    for x in operands:
        if isinstance(x, Value):
            if x.type.rank == 0 and x.type.dtype != dtype:
                return True
        elif isinstance(x, (DimExpr, Number)) or not _holds(dtype, x):
            return True
    return False


def _holds(dtype: DType, x: complex) -> bool:
    with np.errstate(all="ignore"):
        kept = complex(np.array(x).astype(dtype.numpy).astype(np.float64))
    return kept == complex(x) or x != x


def category(x: Operand) -> int:
    """bool 0, integer 1, float 2, complex 3."""
    if isinstance(x, Value):
        return _KINDS[x.type.dtype.kind]
    if isinstance(x, Number):
        return _KINDS[x.kind]
    if isinstance(x, bool):
        return 0
    return 1 if isinstance(x, (int, DimExpr)) else 2 if isinstance(x, float) else 3


def result_dtype(operands: Sequence[Operand], default: DType) -> DType:
    """torch.result_type: tensors with dimensions first, then rank-0 tensors, then numbers, each only if of a higher
    kind.
    """
    groups: list[list[DType]] = [[], [], []]
    for x in operands:
        if isinstance(x, Value):
            groups[0 if x.type.rank else 1].append(x.type.dtype)
        else:
            groups[2].append(_scalar_dtype(x, default))
    result: DType | None = None
    for group in reversed(groups):
        if group:
            result = _combined(_widest(group), result)
    assert result is not None
    return result


def _combined(higher: DType, lower: DType | None) -> DType:
    """What tensors of one rank class and operands of the class below promote to."""
    if lower is None or higher.is_complex:
        return higher
    if higher.is_float:  # a real float beside a complex number becomes complex of its own width
        return _complex_of(higher) if lower.is_complex else higher
    return _joined(higher, lower) if higher == ir.BOOL or lower.is_inexact else higher


def _scalar_dtype(x: Scalar, default: DType) -> DType:
    return (ir.BOOL, ir.I64, default, _complex_of(default))[category(x)]


def _complex_of(dtype: DType) -> DType:
    return ir.C128 if dtype == ir.F64 else ir.C64


def _widest(dtypes: Sequence[DType]) -> DType:
    result = dtypes[0]
    for dtype in dtypes[1:]:
        result = _joined(result, dtype)
    return result


def _joined(a: DType, b: DType) -> DType:
    if a == b:
        return a
    return from_torch(torch.promote_types(to_torch(a), to_torch(b)))
