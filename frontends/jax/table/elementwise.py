"""Pointwise primitives: arithmetic, comparisons, logic, bits, functions of analysis, casts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dragoman.frontends.jax.context import Context
from dragoman.frontends.jax.dtypes import from_jax
from dragoman.frontends.jax.table.registry import translates
from dragoman.frontends.jax.xla.integers import leading_zeros, population_count, unsigned
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.ops.constant import Constant
from dragoman.ir.types import BOOL, C128, F32, F64, I64


def _plainly(op: str) -> Callable[..., Value]:
    def translation(c: Context, *operands: Value, **_: Any) -> Value:
        return c.fit(getattr(c.b, op)(*operands))

    return translation


# Primitives that one op of ours spells, operands in the same order.
_SAME = {
    "sub": "sub",
    "atan2": "atan2",
    "neg": "neg",
    "floor": "floor",
    "ceil": "ceil",
    "exp": "exp",
    "exp2": "exp2",
    "expm1": "expm1",
    "log": "log",
    "log1p": "log1p",
    "logistic": "sigmoid",
    "rsqrt": "rsqrt",
    "sqrt": "sqrt",
    "square": "square",
    "sin": "sin",
    "cos": "cos",
    "tan": "tan",
    "asin": "asin",
    "acos": "acos",
    "atan": "atan",
    "sinh": "sinh",
    "cosh": "cosh",
    "tanh": "tanh",
    "asinh": "asinh",
    "acosh": "acosh",
    "atanh": "atanh",
    "erf": "erf",
    "erfc": "erfc",
    "erf_inv": "erfinv",
    "lgamma": "lgamma",
    "digamma": "digamma",
    "is_finite": "isfinite",
}
for _primitive, _op in _SAME.items():
    translates(_primitive)(_plainly(_op))


def _of_booleans(numbers: str, booleans: str) -> Callable[..., Value]:
    def translation(c: Context, x: Value, y: Value, **_: Any) -> Value:
        return c.fit(getattr(c.b, booleans if x.type.dtype == BOOL else numbers)(x, y))

    return translation


translates("add", "add_any")(_of_booleans("add", "logical_or"))
translates("mul")(_of_booleans("mul", "logical_and"))
translates("max")(_of_booleans("maximum", "logical_or"))
translates("min")(_of_booleans("minimum", "logical_and"))
translates("and")(_of_booleans("bitwise_and", "logical_and"))
translates("or")(_of_booleans("bitwise_or", "logical_or"))
translates("xor")(_of_booleans("bitwise_xor", "logical_xor"))


@translates("not")
def invert(c: Context, x: Value) -> Value:
    """Every bit, or a boolean."""
    return c.b.logical_not(x) if x.type.dtype == BOOL else c.b.bitwise_not(x)


# ---- comparisons ----------------------------------------------------------------------------------------


def _compares(op: str) -> Callable[..., Value]:
    def translation(c: Context, x: Value, y: Value, **_: Any) -> Value:
        if x.type.dtype == BOOL and op not in ("equal", "not_equal"):
            x, y = c.cast(x, I64), c.cast(y, I64)
        return getattr(c.b, op)(x, y)

    return translation


for _primitive, _op in {
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
}.items():
    translates(_primitive)(_compares(_op))


def _total_order(op: str) -> Callable[..., Value]:
    """Comparisons in which NaN equals itself and is above all numbers."""

    def translation(c: Context, x: Value, y: Value, **_: Any) -> Value:
        b = c.b
        if not x.type.dtype.is_float:
            return getattr(b, op)(x, y)
        plain = getattr(b, op)(x, y)
        if op == "equal":
            return b.logical_or(plain, b.logical_and(b.isnan(x), b.isnan(y)))
        above = b.isnan(y) if op == "less_equal" else b.logical_and(b.isnan(y), b.logical_not(b.isnan(x)))
        return b.logical_or(plain, above)

    return translation


for _primitive, _op in {"eq_to": "equal", "lt_to": "less", "le_to": "less_equal"}.items():
    translates(_primitive)(_total_order(_op))


# ---- arithmetic -----------------------------------------------------------------------------------------


def _may_be_zero(x: Value) -> bool:
    return not (isinstance(x.op, Constant) and x.op.value not in (0, -1))


@translates("div")
def div(c: Context, x: Value, y: Value) -> Value:
    """The quotient. Of integers it is −1 where the divisor is zero, as XLA has it."""
    quotient = c.b.div(x, y)
    if not x.type.dtype.is_integer or not _may_be_zero(y):
        return quotient
    ones = -1 if x.type.dtype.kind == "int" else 2**x.type.dtype.bits - 1
    return c.b.where(c.b.equal(y, 0), c.b.const(ones, x.type.dtype), quotient)


@translates("rem")
def rem(c: Context, x: Value, y: Value) -> Value:
    """The remainder with the sign of the dividend. Of integers it is the dividend where the divisor is zero."""
    remainder = c.b.fmod(x, y)
    if not x.type.dtype.is_integer or not _may_be_zero(y):
        return remainder
    return c.b.where(c.b.equal(y, 0), x, remainder)


@translates("pow")
def power(c: Context, x: Value, y: Value) -> Value:
    """x^y; the exponent may be an integer beside a real base."""
    if x.type.dtype.is_inexact and y.type.dtype != x.type.dtype:
        y = c.cast(y, x.type.dtype)
    return c.b.power(x, y)


@translates("integer_pow")
def integer_pow(c: Context, x: Value, *, y: int) -> Value:
    """x^y for a number known now: products by repeated squaring, as XLA computes it."""
    b = c.b
    if y == 0:
        return c.full(1, c.type)
    result: Value | None = None
    factor, left = x, abs(y)
    while left:
        if left & 1:
            result = factor if result is None else b.mul(result, factor)
        left >>= 1
        if left:
            factor = b.square(factor)
    assert result is not None
    return b.reciprocal(result) if y < 0 else result


@translates("sign")
def sign(c: Context, x: Value) -> Value:
    """−1, 0 or 1; of unsigned numbers 0 or 1; of complex ones z / |z|."""
    b, dtype = c.b, x.type.dtype
    if dtype.kind == "uint":
        return b.cast(b.not_equal(x, 0), dtype=dtype)
    if dtype.is_complex:
        size = modulus(c, x)
        whole = b.complex(size, b.const(0.0, size.type.dtype))
        return b.where(b.equal(size, 0.0), b.const(0, dtype), b.div(x, whole))
    return b.sign(x)


@translates("abs")
def absolute(c: Context, x: Value) -> Value:
    """|x|, of a complex number too."""
    if x.type.dtype.is_complex:
        return modulus(c, x)
    return x if x.type.dtype.kind == "uint" else c.b.abs(x)


def modulus(c: Context, z: Value) -> Value:
    """|z| of a complex number."""
    return c.b.hypot(c.b.real(z), c.b.imag(z))


@translates("round")
def round_(c: Context, x: Value, *, rounding_method: Any) -> Value:
    """To the nearest whole number: ties to the even one, or away from zero."""
    b = c.b
    if int(rounding_method) == 1:
        return b.round(x)
    whole = b.trunc(x)
    away = b.greater_equal(b.abs(b.sub(x, whole)), 0.5)
    return b.where(away, b.add(whole, b.sign(x)), whole)


@translates("cbrt")
def cbrt(c: Context, x: Value, **_: Any) -> Value:
    """The cube root, of negative numbers too: ³√|x| improved by a step of Newton's, with the sign of x."""
    b = c.b
    size = b.abs(x)
    root = b.power(size, 1.0 / 3.0)
    better = b.sub(root, b.div(b.sub(root, b.div(size, b.square(root))), 3.0))
    regular = b.logical_and(b.greater(size, 0.0), b.isfinite(size))
    return b.mul(b.where(regular, better, size), b.where(b.less(x, 0.0), c.b.const(-1.0, x.type.dtype), 1.0))


@translates("clamp")
def clamp(c: Context, low: Value, x: Value, high: Value) -> Value:
    """min(max(x, low), high)."""
    return c.b.minimum(c.b.maximum(x, low), high)


@translates("select_n")
def select_n(c: Context, which: Value, *cases: Value) -> Value:
    """The case of that number, or of that truth value; `which` has their shape, or none."""
    b = c.b
    if which.type.dtype == BOOL:
        return cases[0] if len(cases) == 1 else b.where(which, cases[1], cases[0])
    result = cases[-1]
    for number in range(len(cases) - 2, -1, -1):
        result = b.where(b.less_equal(which, number), cases[number], result)
    return result


# ---- bits -----------------------------------------------------------------------------------------------


@translates("shift_left")
def shift_left(c: Context, x: Value, y: Value) -> Value:
    """x · 2^y; 0 where y is outside of the width."""
    return c.b.shift_left(x, y)


@translates("shift_right_arithmetic")
def shift_right_arithmetic(c: Context, x: Value, y: Value) -> Value:
    """The sign bit is repeated, whether the dtype has one or not."""
    if x.type.dtype.kind == "int":
        return c.b.shift_right(x, y)
    from dragoman.frontends.jax.xla.integers import signed

    flat = c.b.shift_right(signed(c.b, x), signed(c.b, y))
    return c.b.cast(flat, dtype=x.type.dtype)


@translates("shift_right_logical")
def shift_right_logical(c: Context, x: Value, y: Value) -> Value:
    """Zeros come in."""
    if x.type.dtype.kind == "uint":
        return c.b.shift_right(x, y)
    return c.b.cast(c.b.shift_right(unsigned(c.b, x), unsigned(c.b, y)), dtype=x.type.dtype)


@translates("population_count")
def ones(c: Context, x: Value) -> Value:
    """How many bits are set."""
    return population_count(c.b, x)


@translates("clz")
def clz(c: Context, x: Value) -> Value:
    """How many bits above the highest one are zero."""
    return leading_zeros(c.b, x)


# ---- casts and complex numbers ----------------------------------------------------------------------------


@translates("convert_element_type")
def convert(c: Context, x: Value, *, new_dtype: Any, **_: Any) -> Value:
    """The number in another dtype. Of a complex number its real part."""
    dtype = from_jax(new_dtype)
    before = x.type.dtype
    if before.is_complex and dtype == BOOL:
        return c.b.not_equal(x, 0)
    if before.is_complex and not dtype.is_complex:
        x = c.b.real(x)
    if dtype.is_complex and not before.is_complex:
        part = F64 if dtype == C128 else F32
        return c.b.complex(c.cast(x, part), c.b.const(0.0, part))
    return c.cast(x, dtype)


@translates("reduce_precision")
def reduce_precision(c: Context, x: Value, *, exponent_bits: int, mantissa_bits: int) -> Value:
    """The nearest number with so many bits, where a dtype has them."""
    dtype = _FORMATS.get((exponent_bits, mantissa_bits))
    if (exponent_bits, mantissa_bits) == _BITS_OF.get(x.type.dtype.name):
        return x
    if dtype is None:
        raise Unsupported(f"no element type has {exponent_bits} bits of exponent and {mantissa_bits} of mantissa")
    return c.cast(c.cast(x, from_jax(dtype)), x.type.dtype)


_FORMATS = {(8, 23): "float32", (5, 10): "float16", (8, 7): "bfloat16", (5, 2): "float8_e5m2", (11, 52): "float64"}
_BITS_OF = {"f32": (8, 23), "f16": (5, 10), "bf16": (8, 7), "f8e5m2": (5, 2), "f64": (11, 52)}
