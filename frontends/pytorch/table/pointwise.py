"""Pointwise arithmetic with torch's promotion made explicit: sums, products, powers, rounding, bits, choices."""

from __future__ import annotations

import math
from collections.abc import Callable

from dragoman.frontends.pytorch.context import Context, Number, Operand, Scalar
from dragoman.frontends.pytorch.table.registry import translates
from dragoman.ir.dims import DimExpr
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.types import BOOL, F64, DType

# ---- sums and products ---------------------------------------------------------------------------------------


@translates("aten.add.Tensor", "aten.add.Scalar")
def add(c: Context, x: Operand, y: Operand, alpha: Scalar = 1) -> Value:
    """x + alpha·y; of booleans, or."""
    if alpha == 1 and c.result_dtype(x, y) == BOOL:
        return c.b.logical_or(*c.promote(x, y))
    return _sum(c, c.b.add, x, y, alpha)


@translates("aten.sub.Tensor", "aten.sub.Scalar", "aten.subtract.Tensor", "aten.subtract.Scalar")
def sub(c: Context, x: Operand, y: Operand, alpha: Scalar = 1) -> Value:
    """x − alpha·y."""
    return _sum(c, c.b.sub, x, y, alpha)


@translates("aten.rsub.Tensor", "aten.rsub.Scalar")
def rsub(c: Context, x: Operand, y: Operand, alpha: Scalar = 1) -> Value:
    """y − alpha·x."""
    return _sum(c, c.b.sub, y, x, alpha)


def _sum(c: Context, function: Callable[..., Value], x: Operand, y: Operand, alpha: Scalar) -> Value:
    if alpha == 1:
        return c.applied(function, x, y)
    dtype = c.result_dtype(x, y)
    return c.applied(lambda a, d, s: function(a, c.b.mul(d, s)), x, y, alpha, dtype=dtype)


@translates("aten.mul.Tensor", "aten.mul.Scalar", "aten.multiply.Tensor", "aten.multiply.Scalar")
def mul(c: Context, x: Operand, y: Operand) -> Value:
    """x·y; of booleans, and."""
    if c.result_dtype(x, y) == BOOL:
        return c.b.logical_and(*c.promote(x, y))
    return c.scaled(c.b.mul, x, y)


@translates(
    "aten.div.Tensor",
    "aten.div.Scalar",
    "aten.true_divide.Tensor",
    "aten.true_divide.Scalar",
    "aten.divide.Tensor",
    "aten.divide.Scalar",
)
def div(c: Context, x: Operand, y: Operand) -> Value:
    """x / y; integers become floats first."""
    return c.scaled(c.b.div, x, y, dtype=inexact(c, x, y))


@translates("aten.div.Tensor_mode", "aten.div.Scalar_mode", "aten.divide.Tensor_mode", "aten.divide.Scalar_mode")
def div_mode(c: Context, x: Operand, y: Operand, rounding_mode: str | None = None) -> Value:
    """x / y, as it is or rounded to an integer."""
    if rounding_mode is None:
        return div(c, x, y)
    if rounding_mode == "floor":
        return floor_divide(c, x, y)
    if c.result_dtype(x, y).is_integer:
        return c.scaled(c.b.div, x, y)
    return c.scaled(lambda a, d: c.b.trunc(c.b.div(a, d)), x, y)


@translates("aten.floor_divide.default", "aten.floor_divide.Scalar", "aten.floor_divide.Tensor")
def floor_divide(c: Context, x: Operand, y: Operand) -> Value:
    """⌊x / y⌋."""
    return c.scaled(c.b.floor_divide, x, y)


def inexact(c: Context, *operands: Operand) -> DType:
    """The dtype of a function that is only defined on floats."""
    dtype = c.result_dtype(*operands)
    return dtype if dtype.is_inexact else c.default


def _binary(name: str, *operators: str, real: bool = False) -> None:
    """An operator that is one op on promoted operands (`real`: as floats)."""

    def translate(c: Context, x: Operand, y: Operand) -> Value:
        return c.applied(getattr(c.b, name), x, y, dtype=inexact(c, x, y) if real else None)

    translate.__name__, translate.__doc__ = name, f"{name} of the promoted operands."
    translates(*(f"aten.{o}" for o in operators))(translate)


_binary("remainder", "remainder.Tensor", "remainder.Scalar", "remainder.Scalar_Tensor")
_binary("fmod", "fmod.Tensor", "fmod.Scalar")
_binary("atan2", "atan2.default", "arctan2.default", real=True)
_binary("hypot", "hypot.default", real=True)


def _extremum(name: str, of_booleans: str) -> Callable[[Context, Operand, Operand], Value]:
    def translate(c: Context, x: Operand, y: Operand) -> Value:
        if c.result_dtype(x, y) == BOOL:
            return getattr(c.b, of_booleans)(*c.promote(x, y))
        return c.applied(getattr(c.b, name), x, y)

    return translate


maximum = translates("aten.maximum.default", "aten.max.other")(_extremum("maximum", "logical_or"))
minimum = translates("aten.minimum.default", "aten.min.other")(_extremum("minimum", "logical_and"))


@translates("aten.fmax.default")
def fmax(c: Context, x: Operand, y: Operand) -> Value:
    """The larger; the number where one is NaN."""
    return _number_of(c, maximum, x, y)


@translates("aten.fmin.default")
def fmin(c: Context, x: Operand, y: Operand) -> Value:
    """The smaller; the number where one is NaN."""
    return _number_of(c, minimum, x, y)


def _number_of(c: Context, function: Callable[..., Value], x: Operand, y: Operand) -> Value:
    a, d = c.promote(x, y)
    if not a.type.dtype.is_float:
        return function(c, a, d)
    b = c.b
    return b.where(b.isnan(a), d, b.where(b.isnan(d), a, function(c, a, d)))


# ---- powers and functions --------------------------------------------------------------------------------------

_POWERS = {2: "square", 0.5: "sqrt", -0.5: "rsqrt", -1: "reciprocal"}


@translates("aten.pow.Tensor_Tensor", "aten.pow.Scalar", "aten.pow.Tensor_Scalar", "aten.pow.Tensor")
def power(c: Context, x: Operand, y: Operand) -> Value:
    """x^y; squares and roots by their own name, as torch computes them."""
    dtype = c.result_dtype(x, y)
    if isinstance(x, Value) and isinstance(y, (int, float)) and dtype != BOOL:
        name = _POWERS.get(y)
        if y == 1:
            return c.cast(x, dtype)
        if name is not None and (dtype.is_inexact or y == 2):
            return getattr(c.b, name)(c.cast(x, dtype))
    return c.applied(c.b.power, x, y)


@translates(
    *("aten.float_power.Tensor_Tensor", "aten.float_power.Scalar", "aten.float_power.Tensor_Scalar"),
    "aten.float_power.Tensor",
)
def float_power(c: Context, x: Operand, y: Operand) -> Value:
    """x^y in f64."""
    return c.b.power(c.value(x, F64), c.value(y, F64))


def _unary(name: str, *operators: str, real: bool = True) -> None:
    """An operator that is one op (`real`: of a float)."""

    def translate(c: Context, x: Value) -> Value:
        return getattr(c.b, name)(c.floating(x) if real else x)

    translate.__name__, translate.__doc__ = name, f"{name}(x)."
    translates(*(f"aten.{o}.default" for o in operators))(translate)


for _name in [
    "exp",
    "expm1",
    "log",
    "log1p",
    "log2",
    "log10",
    "sqrt",
    "rsqrt",
    "sin",
    "cos",
    "tan",
    "sinh",
    "cosh",
    "tanh",
    "erf",
    "erfc",
    "erfinv",
    "sigmoid",
]:
    _unary(_name, _name)
for _name in ("asin", "acos", "atan", "asinh", "acosh", "atanh"):
    _unary(_name, _name, f"arc{_name[1:]}")
_unary("exp2", "exp2", "special_exp2")
_unary("lgamma", "lgamma", "special_gammaln")
_unary("digamma", "digamma", "special_digamma", "special_psi")
_unary("reciprocal", "reciprocal")


@translates("aten.polygamma.default")
def polygamma(c: Context, n: int, x: Value) -> Value:
    """The n-th derivative of digamma; only itself has an op."""
    if n:
        raise Unsupported(f"polygamma of order {n}")
    return c.b.digamma(c.floating(x))


_unary("neg", "neg", "negative", real=False)


@translates("aten.abs.default", "aten.absolute.default")
def absolute(c: Context, x: Value) -> Value:
    """|x|."""
    if x.type.dtype.is_complex:
        raise Unsupported("absolute values of complex numbers")
    return c.b.abs(x)


@translates("aten.sign.default", "aten.sgn.default")
def sign(c: Context, x: Value) -> Value:
    """−1, 0 or 1; a boolean is its own sign, NaN has the sign 0."""
    if not x.type.dtype.is_float:
        return x if x.type.dtype == BOOL else c.b.sign(x)
    return c.b.where(c.b.isnan(x), c.b.const(0.0, x.type.dtype), c.b.sign(x))


@translates("aten.signbit.default")
def signbit(c: Context, x: Value) -> Value:
    """Whether the sign is negative, that of −0 included."""
    b = c.b
    if not x.type.dtype.is_float:
        return b.less(x, 0) if x.type.dtype.kind == "int" else c.full(x.type.shape, False, BOOL)
    return b.logical_or(b.less(x, 0.0), b.logical_and(b.equal(x, 0.0), b.less(b.reciprocal(x), 0.0)))


@translates("aten.square.default")
def square(c: Context, x: Value) -> Value:
    """x·x."""
    return c.b.square(c.cast(x, c.type.dtype))


@translates("aten.positive.default")
def positive(c: Context, x: Value) -> Value:
    """x."""
    return x


def _rounding(name: str, *operators: str) -> None:
    def translate(c: Context, x: Value) -> Value:
        return getattr(c.b, name)(x) if x.type.dtype.is_float else x

    translates(*(f"aten.{o}.default" for o in operators))(translate)


for _name in ("floor", "ceil", "round"):
    _rounding(_name, _name)
_rounding("trunc", "trunc", "fix")


@translates("aten.round.decimals")
def round_decimals(c: Context, x: Value, decimals: int = 0) -> Value:
    """Rounded to a number of decimals, as torch does: scaled, rounded, scaled back."""
    b, factor = c.b, 10.0 ** abs(decimals)
    if decimals >= 0:
        return b.div(b.round(b.mul(x, factor)), factor) if decimals else b.round(x)
    return b.mul(b.round(b.div(x, factor)), factor)


@translates("aten.frac.default")
def frac(c: Context, x: Value) -> Value:
    """x − trunc(x)."""
    return c.b.sub(x, c.b.trunc(x))


@translates("aten.logaddexp.default")
def logaddexp(c: Context, x: Value, y: Value) -> Value:
    """log(e^x + e^y), without overflow."""
    b, (a, d) = c.b, c.promote(x, y)
    larger = b.maximum(a, d)
    spread = b.log1p(b.exp(b.neg(b.abs(b.sub(a, d)))))
    # Two equal infinities have no difference.
    return b.where(b.logical_and(b.equal(a, d), b.isinf(a)), a, b.add(larger, spread))


@translates("aten.xlogy.Tensor", "aten.xlogy.Scalar_Self", "aten.xlogy.Scalar_Other", "aten.special_xlogy.default")
def xlogy(c: Context, x: Operand, y: Operand) -> Value:
    """x·log(y), 0 where x is 0 and y is a number."""
    dtype = inexact(c, x, y)
    b, a, d = c.b, c.value(x, dtype), c.value(y, dtype)
    zero = b.logical_and(b.equal(a, 0.0), b.logical_not(b.isnan(d)))
    return b.where(zero, b.const(0.0, dtype), b.mul(a, b.log(d)))


@translates("aten.logit.default", "aten.special_logit.default")
def logit(c: Context, x: Value, eps: float | None = None) -> Value:
    """log(x / (1 − x)), x first kept within eps of the ends."""
    b, x = c.b, c.floating(x)
    if eps is not None:
        x = b.clip(x, low=eps, high=1 - eps)
    return b.log(b.div(x, b.sub(b.const(1.0, x.type.dtype), x)))


@translates("aten.sinc.default", "aten.special_sinc.default")
def sinc(c: Context, x: Value) -> Value:
    """sin(πx)/(πx), 1 at 0."""
    b, x = c.b, c.floating(x)
    angle = b.mul(x, math.pi)
    return b.where(b.equal(x, 0.0), b.const(1.0, x.type.dtype), b.div(b.sin(angle), angle))


@translates("aten.deg2rad.default")
def deg2rad(c: Context, x: Value) -> Value:
    """x·π/180."""
    return c.scaled(c.b.mul, c.floating(x), math.pi / 180)


@translates("aten.rad2deg.default")
def rad2deg(c: Context, x: Value) -> Value:
    """x·180/π."""
    return c.scaled(c.b.mul, c.floating(x), 180 / math.pi)


# ---- combinations ------------------------------------------------------------------------------------------------


@translates("aten.lerp.Scalar", "aten.lerp.Tensor")
def lerp(c: Context, start: Value, end: Value, weight: Operand) -> Value:
    """start + weight·(end − start), written from the nearer end as torch does."""
    b, dtype = c.b, start.type.dtype
    w = c.value(weight, dtype)
    difference = b.sub(end, start)
    from_start = b.add(start, b.mul(w, difference))
    one = b.const(1.0, dtype)
    from_end = b.sub(end, b.mul(difference, b.sub(one, w)))
    if isinstance(weight, (int, float)):
        return from_start if abs(weight) < 0.5 else from_end
    return b.where(b.less(b.abs(w), b.const(0.5, dtype)), from_start, from_end)


@translates("aten.addcmul.default")
def addcmul(c: Context, x: Value, y: Value, z: Value, value: Scalar = 1) -> Value:
    """x + value·y·z."""
    dtype = c.result_dtype(x, y, z)
    b = c.b
    if value == 1:
        return c.scaled(lambda p, q, r: b.add(p, b.mul(q, r)), x, y, z, dtype=dtype)
    return c.scaled(lambda p, q, r, v: b.add(p, b.mul(b.mul(v, q), r)), x, y, z, value, dtype=dtype)


@translates("aten.addcdiv.default")
def addcdiv(c: Context, x: Value, y: Value, z: Value, value: Scalar = 1) -> Value:
    """x + value·y/z."""
    dtype = c.result_dtype(x, y, z)
    b = c.b
    if value == 1:
        return c.scaled(lambda p, q, r: b.add(p, b.div(q, r)), x, y, z, dtype=dtype)
    return c.scaled(lambda p, q, r, v: b.add(p, b.mul(v, b.div(q, r))), x, y, z, value, dtype=dtype)


@translates("aten.clamp.default", "aten.clamp.Tensor", "aten.clip.default", "aten.clip.Tensor")
def clamp(c: Context, x: Value, min: Operand | None = None, max: Operand | None = None) -> Value:
    """x kept between two bounds."""
    bounds = [v for v in (min, max) if v is not None]
    dtype = c.result_dtype(x, *bounds)
    x = c.cast(x, dtype)
    if any(isinstance(v, (Value, DimExpr, Number)) for v in bounds):
        if min is not None:
            x = maximum(c, x, c.value(min, dtype))
        return x if max is None else minimum(c, x, c.value(max, dtype))
    return c.b.clip(x, low=_bound(min, dtype), high=_bound(max, dtype))


def _bound(x: Operand | None, dtype: DType) -> float | None:
    if x is None:
        return None
    assert isinstance(x, (int, float))
    return x if not dtype.is_integer else int(x)


@translates("aten.clamp_min.default", "aten.clamp_min.Tensor")
def clamp_min(c: Context, x: Value, min: Operand) -> Value:
    """x or the bound, the larger."""
    return clamp(c, x, min, None)


@translates("aten.clamp_max.default", "aten.clamp_max.Tensor")
def clamp_max(c: Context, x: Value, max: Operand) -> Value:
    """x or the bound, the smaller."""
    return clamp(c, x, None, max)


@translates("aten.nan_to_num.default")
def nan_to_num(
    c: Context, x: Value, nan: float | None = None, posinf: float | None = None, neginf: float | None = None
) -> Value:
    """x with NaN and infinities replaced."""
    dtype = x.type.dtype
    if not dtype.is_float:
        return x
    import ml_dtypes

    largest = float(ml_dtypes.finfo(dtype.numpy).max)
    return c.b.nan_to_num(
        x,
        nan=0.0 if nan is None else nan,
        positive=largest if posinf is None else posinf,
        negative=-largest if neginf is None else neginf,
    )


@translates("aten.copysign.Tensor", "aten.copysign.Scalar")
def copysign(c: Context, x: Operand, y: Operand) -> Value:
    """|x| with the sign of y."""
    dtype = inexact(c, x, y)
    b = c.b
    size = b.abs(c.value(x, dtype))
    return b.where(signbit(c, c.value(y, dtype)), b.neg(size), size)


@translates("aten.heaviside.default")
def heaviside(c: Context, x: Value, values: Value) -> Value:
    """0 below 0 and for NaN, 1 above it, `values` at it."""
    b, (a, at_zero) = c.b, c.promote(x, values)
    dtype = a.type.dtype
    zero = c.scalar(0, dtype)
    if dtype == BOOL:
        return b.logical_or(a, at_zero)
    return b.where(b.equal(a, zero), at_zero, c.cast(b.greater(a, zero), dtype))


@translates("aten.angle.default")
def angle(c: Context, x: Value) -> Value:
    """0 for numbers from 0 on, π below; NaN stays."""
    b, x = c.b, c.floating(x)
    if x.type.dtype.is_complex:
        raise Unsupported("angles of complex numbers")
    turned = c.scaled(b.mul, c.cast(b.less(x, 0.0), x.type.dtype), math.pi)
    return b.where(b.isnan(x), x, turned)


# ---- choices ---------------------------------------------------------------------------------------------------


@translates("aten.where.self", "aten.where.ScalarSelf", "aten.where.ScalarOther", "aten.where.Scalar")
def where(c: Context, condition: Value, x: Operand, y: Operand) -> Value:
    """x where the condition holds, y elsewhere."""
    a, d = c.promote(x, y)
    result = c.b.where(c.cast(condition, BOOL), a, d)
    return c.broadcast(result, c.type.shape)


@translates("aten.masked_fill.Scalar", "aten.masked_fill.Tensor")
def masked_fill(c: Context, x: Value, mask: Value, value: Operand) -> Value:
    """x with `value` where the mask holds."""
    return c.b.where(c.cast(mask, BOOL), c.value(value, x.type.dtype), x)


@translates("aten.isclose.default")
def isclose(c: Context, x: Value, y: Value, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> Value:
    """|x − y| ≤ atol + rtol·|y|, or equal."""
    b = c.b
    same = b.equal(x, y)
    if equal_nan and x.type.dtype.is_float:
        same = b.logical_or(same, b.logical_and(b.isnan(x), b.isnan(y)))
    if rtol == 0 and atol == 0:
        return same
    p, q = c.floating(x), c.floating(y)
    allowed = b.add(b.abs(b.mul(q, rtol)), atol)
    error = b.abs(b.sub(p, q))
    return b.logical_or(same, b.logical_and(b.isfinite(error), b.less_equal(error, allowed)))
