"""Pointwise arithmetic, comparison, logic and casts in ONNX. Bitwise ops begin at opset 18 and are refused before."""

from __future__ import annotations

import math
from typing import Any

from dragoman.backends.onnx import types
from dragoman.backends.onnx.emitter import Emitter
from dragoman.backends.onnx.table import direct, emits, requires
from dragoman.ir.graph import Node, Value
from dragoman.ir.types import BF16, BOOL, F8E8M0, F32, I64, U8, U16, U32, U64, DType

_BINARY = (
    {"add": "Add", "sub": "Sub", "mul": "Mul", "power": "Pow", "maximum": "Max", "minimum": "Min"}
    | {"equal": "Equal", "less": "Less", "less_equal": "LessOrEqual"}
    | {"greater": "Greater", "greater_equal": "GreaterOrEqual"}
    | {"logical_and": "And", "logical_or": "Or", "logical_xor": "Xor"}
    | {"bitwise_and": "BitwiseAnd", "bitwise_or": "BitwiseOr", "bitwise_xor": "BitwiseXor"}
)
_UNARY = {"neg": "Neg", "abs": "Abs", "sign": "Sign", "floor": "Floor", "ceil": "Ceil", "round": "Round"} | {
    "logical_not": "Not",
    "bitwise_not": "BitwiseNot",
    "isnan": "IsNaN",
}
for _name, _op_type in {**_BINARY, **_UNARY}.items():
    direct(_name, _op_type)
direct("reciprocal", "Reciprocal", widen=False)


def _is_one_over(node: Node, opset: int) -> str | None:
    x, y = node.operands
    assert x is not None
    assert y is not None
    op: Any = x.producer.op if x.producer is not None else None
    unit = op is not None and op.name == "constant" and op.value == 1
    return None if unit and y.type.dtype.kind == "int" else "not one over signed integers"


@emits("div", where=_is_one_over)
def one_over(e: Emitter, node: Node, x: Value, y: Value) -> str:
    """1/y of integers, which is y where |y| is 1, else 0: ONNX Runtime's optimiser would take (1/y)·z for z/y."""
    dtype, wide = y.type.dtype, I64
    is_unit = e.op("Equal", e.op("Abs", e.cast(y, wide)), e.scalar(1, wide))
    return e.cast_from(e.op("Where", is_unit, e.cast(y, wide), e.scalar(0, wide)), wide, dtype)


direct("div", "Div")


@emits("not_equal", where=requires("Equal"))
def not_equal(e: Emitter, node: Node, x: Value, y: Value) -> str:
    """Not(Equal): ONNX has no inequality."""
    return e.op("Not", e.op("Equal", x, y))


def _takes_mod(node: Node, opset: int) -> str | None:
    dtype = node.result.type.dtype
    return None if types.computing_dtype("Mod", opset, dtype) else f"ONNX has no Mod on {dtype}"


@emits("fmod", where=_takes_mod)
def fmod(e: Emitter, node: Node, x: Value, y: Value) -> str:
    """Mod with fmod=1 has the sign of the dividend."""
    dtype = x.type.dtype
    computing = types.computing_dtype("Mod", e.opset, dtype) or dtype
    return e.cast_from(e.op("Mod", e.cast(x, computing), e.cast(y, computing), fmod=1), computing, dtype)


@emits("remainder", where=_takes_mod)
def remainder(e: Emitter, node: Node, x: Value, y: Value) -> str:
    """Mod for integers. Of floats ONNX's has the sign of the dividend: the divisor is added where signs differ."""
    if x.type.dtype.is_integer:
        return e.op("Mod", x, y)
    dtype = x.type.dtype
    computing = types.computing_dtype("Mod", e.opset, dtype) or dtype
    a, b = e.cast(x, computing), e.cast(y, computing)
    zero = e.scalar(0.0, computing)
    left = e.op("Mod", a, b, fmod=1)
    differ = e.op("Xor", e.op("Less", left, zero), e.op("Less", b, zero))
    crosses = e.op("And", differ, e.op("Not", e.op("Equal", left, zero)))
    return e.cast_from(e.op("Where", crosses, e.op("Add", left, b), left), computing, dtype)


@emits("trunc")
def trunc(e: Emitter, node: Node, x: Value) -> str:
    """Floor above zero, Ceil below."""
    dtype = x.type.dtype
    computing = types.computing_dtype("Floor", e.opset, dtype) or dtype
    a = e.cast(x, computing)
    negative = e.op("Less", a, e.scalar(0.0, computing))
    return e.cast_from(e.op("Where", negative, e.op("Ceil", a), e.op("Floor", a)), computing, dtype)


@emits("atan2")
def atan2(e: Emitter, node: Node, y: Value, x: Value) -> str:
    """The angle in the first octant from Atan(min/max), reflected into its own; signs of zeros and infinities count."""
    dtype = y.type.dtype
    computing = types.computing_dtype("Atan", e.opset, dtype) or dtype

    def number(value: float) -> str:
        return e.scalar(value, computing)

    def negative(a: Value | str) -> str:
        # 1/x tells the sign of a zero; elsewhere x tells its own.
        return e.op("Less", e.op("Where", e.op("Equal", a, number(0.0)), e.op("Reciprocal", a), a), number(0.0))

    down, left = e.cast(y, computing), e.cast(x, computing)
    a, b = e.op("Abs", down), e.op("Abs", left)
    small, large = e.op("Min", a, b), e.op("Max", a, b)
    # 0/0 is the angle 0, ∞/∞ the angle π/4.
    plain = e.op("Div", small, e.op("Where", e.op("Equal", large, number(0.0)), number(1.0), large))
    ratio = e.op("Where", e.op("Equal", small, number(math.inf)), number(1.0), plain)
    angle = e.op("Atan", ratio)
    angle = e.op("Where", e.op("Greater", a, b), e.op("Sub", number(math.pi / 2), angle), angle)
    angle = e.op("Where", negative(left), e.op("Sub", number(math.pi), angle), angle)
    angle = e.op("Where", negative(down), e.op("Neg", angle), angle)
    return e.cast_from(angle, computing, dtype)


# ---- shifts -----------------------------------------------------------------------------------------------

_UNSIGNED = {8: U8, 16: U16, 32: U32, 64: U64}


def _wide(dtype: DType) -> DType:
    return U64 if dtype is U64 else I64


@emits("shift_left")
def shift_left(e: Emitter, node: Node, x: Value, y: Value) -> str:
    """A product with a power of two, which wraps as a shift does: BitShift takes no signed integers before opset 28."""
    dtype = x.type.dtype
    wide = _wide(dtype)
    outside = _shift_is_outside(e, y)
    amount = e.op("Where", outside, e.scalar(0, dtype), y) if types.runs("Where", dtype) else None
    places = amount or e.cast_from(e.op("Where", outside, e.scalar(0, I64), e.cast(y, I64)), I64, dtype)
    factor = e.op("BitShift", e.scalar(1, U64), e.op("Cast", places, to=types.code(U64)), direction="LEFT")
    product = e.op("Mul", e.cast(x, wide), factor if wide is U64 else e.cast_from(factor, U64, wide))
    product = (
        e.op("Where", outside, e.scalar(0, wide), product)
        if wide is I64
        else e.op("Mul", product, e.op("Cast", e.op("Not", outside), to=types.code(U64)))
    )
    return e.cast_from(product, wide, dtype)


@emits("shift_right")
def shift_right(e: Emitter, node: Node, x: Value, y: Value) -> str:
    """Of unsigned integers BitShift; of signed ones the quotient by a power of two, rounded down."""
    dtype = x.type.dtype
    outside = _shift_is_outside(e, y)
    if dtype.kind == "uint":
        wide = types.computing_dtype("Mul", e.opset, dtype) or U64  # before opset 14 there is no product of bytes
        keeps = e.op("Cast", e.op("Not", outside), to=types.code(wide))
        kept = (e.cast_from(e.op("Mul", e.cast(v, wide), keeps), wide, dtype) for v in (x, y))
        return e.op("BitShift", *kept, direction="RIGHT")
    last = e.scalar(min(dtype.bits - 1, 62), I64)
    amount = e.op("Where", outside, last, e.op("Min", e.cast(y, I64), last))
    factor = e.cast_from(e.op("BitShift", e.scalar(1, U64), e.cast_from(amount, I64, U64), direction="LEFT"), U64, I64)
    wide = e.cast(x, I64)
    return e.cast_from(e.op("Div", e.op("Sub", wide, e.op("Mod", wide, factor)), factor), I64, dtype)


def _shift_is_outside(e: Emitter, y: Value) -> str:
    dtype = y.type.dtype
    high = e.op("GreaterOrEqual", y, e.scalar(dtype.bits, dtype))
    return high if dtype.kind == "uint" else e.op("Or", high, e.op("Less", y, e.scalar(0, dtype)))


# ---- choice, questions, casts -----------------------------------------------------------------------------


def _takes_where(node: Node, opset: int) -> str | None:
    dtype = node.result.type.dtype
    return None if dtype is BF16 else types.objection("Where", opset, (BOOL, dtype))


@emits("where", where=_takes_where)
def where(e: Emitter, node: Node, condition: Value, x: Value, y: Value) -> str:
    """Where; for booleans, of which ONNX Runtime has none, in u8."""
    dtype = x.type.dtype
    computing = dtype if types.runs("Where", dtype) else U8 if dtype is BOOL else I64
    if dtype is U64:
        computing = dtype
    if dtype is BF16 and e.opset < 16:
        computing = F32
    result = e.op("Where", condition, e.cast(x, computing), e.cast(y, computing))
    return e.cast_from(result, computing, dtype)


@emits("isinf")
def isinf(e: Emitter, node: Node, x: Value) -> str:
    """IsInf, in f32 where an old opset lacks the dtype."""
    op: Any = node.op
    computing = types.computing_dtype("IsInf", e.opset, x.type.dtype) or F32
    flags = {"detect_positive": int(op.positive), "detect_negative": int(op.negative)}
    return e.op("IsInf", e.cast(x, computing), **flags)


def _takes_clip(node: Node, opset: int) -> str | None:
    op: Any = node.op
    # ONNX's Clip with low above high is undefined, and ONNX Runtime's lets NaN bounds pass; maximum and minimum do not.
    if any(bound is not None and bound != bound for bound in (op.low, op.high)):
        return "a bound is NaN"
    if op.low is not None and op.high is not None and op.low > op.high:
        return "low is above high"
    return requires("Clip")(node, opset)


@emits("clip", where=_takes_clip)
def clip(e: Emitter, node: Node, x: Value) -> str | Value:
    """Clip with constant bounds; of floats always two, for ONNX Runtime takes the largest number for one left out."""
    op: Any = node.op
    dtype = x.type.dtype
    if op.low is None and op.high is None:
        return x
    if dtype.is_float:
        low = -math.inf if op.low is None else float(op.low)
        high = math.inf if op.high is None else float(op.high)
        return e.op("Clip", x, e.scalar(low, dtype), e.scalar(high, dtype))
    bounds = (None if v is None else e.scalar(int(v), dtype) for v in (op.low, op.high))
    return e.op("Clip", x, *bounds)


def _casts(node: Node, opset: int) -> str | None:
    operand = node.operands[0]
    assert operand is not None
    before, after = operand.type.dtype, node.result.type.dtype
    if before.is_complex or after.is_complex:
        return f"ONNX has no Cast from {before} to {after}"
    return types.absent(before, opset)


@emits("power_of_two", since=24)
def power_of_two(e: Emitter, node: Node, x: Value) -> str:
    """Cast to FLOAT8E8M0."""
    op: Any = node.op
    return e.op("Cast", x, to=types.code(F8E8M0), round_mode=op.rounding, saturate=int(op.saturate))


@emits("cast", where=_casts)
def cast(e: Emitter, node: Node, x: Value) -> str | Value:
    """Cast; to float8 without saturation, as NumPy and the frameworks have it; to bool through a comparison."""
    before, after = x.type.dtype, node.result.type.dtype
    if before is after:
        return x
    if after.is_float and after.bits == 8 and after is not F8E8M0:
        return e.op("Cast", x, to=types.code(after), saturate=0)
    return e.op("Cast", x, to=types.code(after))
