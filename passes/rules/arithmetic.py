"""Rules about arithmetic that does nothing: x + 0, x · 1, double negation, casts to the type a value has."""

# pyright: reportSelfClsParameterName=false, reportGeneralTypeIssues=false
# A rule is a class of plain functions: they take a builder and what was bound, never `self`.

from __future__ import annotations

import math
from typing import Any

from dragoman.ir.builder import Builder
from dragoman.ir.graph import Value
from dragoman.ir.op import sample
from dragoman.ir.types import BOOL, F32, F64, I32, I64, DType, broadcast, same_type
from dragoman.passes.rewrite import rewrite

_NUMBERS = [sample("f32[2,3]"), sample("f64[]"), sample("i64[4]")]


@rewrite(samples=_NUMBERS)
class DropAddZero:
    """x + 0  ->  x"""

    def before(b: Any, x: Any) -> Any:
        return b.add(x, 0)

    def after(b: Builder, x: Value) -> Value:
        return x


@rewrite(samples=_NUMBERS)
class DropSubZero:
    """x - 0  ->  x"""

    def before(b: Any, x: Any) -> Any:
        return b.sub(x, 0)

    def after(b: Builder, x: Value) -> Value:
        return x


@rewrite(samples=_NUMBERS)
class DropMulOne:
    """x * 1  ->  x"""

    def before(b: Any, x: Any) -> Any:
        return b.mul(x, 1)

    def after(b: Builder, x: Value) -> Value:
        return x


@rewrite(samples=_NUMBERS)
class DropDivOne:
    """x / 1  ->  x"""

    def before(b: Any, x: Any) -> Any:
        return b.div(x, 1)

    def after(b: Builder, x: Value) -> Value:
        return x


@rewrite(samples=_NUMBERS[:2], inexact="the field has no infinity")
class DropMaximumOfLowest:
    """max(x, -inf)  ->  x"""

    def before(b: Any, x: Any) -> Any:
        return b.maximum(x, -math.inf)

    def after(b: Builder, x: Value) -> Value:
        return x


@rewrite(samples=_NUMBERS[:2], inexact="the field has no infinity")
class DropMinimumOfHighest:
    """min(x, inf)  ->  x"""

    def before(b: Any, x: Any) -> Any:
        return b.minimum(x, math.inf)

    def after(b: Builder, x: Value) -> Value:
        return x


@rewrite(samples=_NUMBERS[:2])
class DropPowerOne:
    """x ^ 1  ->  x"""

    def before(b: Any, x: Any) -> Any:
        return b.power(x, 1)

    def after(b: Builder, x: Value) -> Value:
        return x


@rewrite(samples=_NUMBERS[:2])
class SquareOfPower:
    """x ^ 2  ->  square(x)"""

    def before(b: Any, x: Any) -> Any:
        return b.power(x, 2)

    def after(b: Builder, x: Value) -> Value:
        return b.square(x)


@rewrite(samples=_NUMBERS, single_use=False)
class DropDoubleNeg:
    """-(-x)  ->  x"""

    def before(b: Any, x: Any) -> Any:
        return b.neg(b.neg(x))

    def after(b: Builder, x: Value) -> Value:
        return x


@rewrite(samples=[sample("f32[2,3]", "f32[3]")], single_use=True)
class SubOfNeg:
    """x + (-y)  ->  x - y"""

    def before(b: Any, x: Any, y: Any) -> Any:
        return b.add(x, b.neg(y))

    def after(b: Builder, x: Value, y: Value) -> Value:
        return b.sub(x, y)


@rewrite(samples=[sample("bool[2,3]")], single_use=False)
class DropDoubleNot:
    """not not x  ->  x"""

    def before(b: Any, x: Any) -> Any:
        return b.logical_not(b.logical_not(x))

    def after(b: Builder, x: Value) -> Value:
        return x


@rewrite(samples=[sample("bool[2,3]")])
class DropAndTrue:
    """x and true  ->  x"""

    def before(b: Any, x: Any) -> Any:
        return b.logical_and(x, True)

    def after(b: Builder, x: Value) -> Value:
        return x


@rewrite(samples=[sample("bool[2,3]")])
class DropOrFalse:
    """x or false  ->  x"""

    def before(b: Any, x: Any) -> Any:
        return b.logical_or(x, False)

    def after(b: Builder, x: Value) -> Value:
        return x


@rewrite(samples=[sample("bool[2]", "f32[2]"), sample("bool[2,1]", "i64[1,3]")])
class DropWhereOfSame:
    """where(c, x, x)  ->  x"""

    def before(b: Any, c: Any, x: Any) -> Any:
        return b.where(c, x, x)

    def after(b: Builder, c: Value, x: Value) -> Value:
        return b.broadcast_to(x, shape=broadcast(c.type.shape, x.type.shape))


@rewrite(samples=[sample("f32[2]", dtype=F32), sample("bool[]", dtype=BOOL)])
class DropIdentityCast:
    """cast(x, dtype of x)  ->  x"""

    def before(b: Any, x: Any, *, dtype: Any) -> Any:
        return b.cast(x, dtype=dtype)

    def after(b: Builder, x: Value, *, dtype: DType) -> Value:
        return x

    def where(x: Value, *, dtype: DType) -> str | None:
        return None if same_type(x.type, x.type.with_dtype(dtype)) else f"{x.type.dtype} becomes {dtype}"


_MANTISSA = {"f8e5m2": 3, "f8e4m3fn": 4, "bf16": 8, "f16": 11, "f32": 24, "f64": 53}
_EXPONENT = {"f8e5m2": 5, "f8e4m3fn": 4, "bf16": 8, "f16": 5, "f32": 8, "f64": 11}


def holds(wide: DType, narrow: DType) -> bool:
    """Whether every number of `narrow` is a number of `wide`."""
    if narrow.kind == "bool":
        return wide.kind in ("bool", "int", "uint", "float")
    if narrow.is_float:
        if not wide.is_float or wide.name not in _MANTISSA or narrow.name not in _MANTISSA:
            return False
        return _MANTISSA[wide.name] >= _MANTISSA[narrow.name] and _EXPONENT[wide.name] >= _EXPONENT[narrow.name]
    if not narrow.is_integer:
        return False
    digits = narrow.bits - (narrow.kind == "int")
    if wide.is_float:
        return _MANTISSA.get(wide.name, 0) >= digits and _EXPONENT.get(wide.name, 0) >= 8
    return (
        wide.is_integer and wide.bits - (wide.kind == "int") >= digits and (wide.kind == "int" or narrow.kind == "uint")
    )


@rewrite(
    samples=[sample("f32[2]", d=F64, e=F32), sample("bool[3]", d=I64, e=F32), sample("i32[3]", d=I64, e=I32)],
    single_use=False,
)
class MergeCasts:
    """cast(cast(x, wider), e)  ->  cast(x, e)"""

    def before(b: Any, x: Any, *, d: Any, e: Any) -> Any:
        return b.cast(b.cast(x, dtype=d), dtype=e)

    def after(b: Builder, x: Value, *, d: DType, e: DType) -> Value:
        return b.cast(x, dtype=e)

    def where(x: Value, *, d: DType, e: DType) -> str | None:
        return None if holds(d, x.type.dtype) else f"{d} does not hold every {x.type.dtype}"
