"""Functions of analysis in ONNX: what it has directly, and accurate spellings of those it lacks."""

from __future__ import annotations

from dragoman.backends.onnx import types
from dragoman.backends.onnx.emitter import Emitter
from dragoman.backends.onnx.table import direct, emits
from dragoman.ir.graph import Node, Value
from dragoman.ir.types import F32, F64, DType

for _name in ("exp", "log", "sqrt", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "erf"):
    direct(_name, _name.capitalize())
for _name in ("asinh", "acosh", "atanh"):
    direct(_name, _name.capitalize())
direct("sigmoid", "Sigmoid", widen=False)


def _working(e: Emitter, x: Value, op_type: str) -> tuple[Value | str, DType]:
    computing = types.computing_dtype(op_type, e.opset, x.type.dtype) or F32
    return e.cast(x, computing), computing


@emits("expm1")
def expm1(e: Emitter, node: Node, x: Value) -> str:
    """2t/(1 − t) with t = tanh(x/2) near zero, where exp(x) − 1 would cancel; exp(x) − 1 elsewhere."""
    a, dtype = _working(e, x, "Exp")
    one = e.scalar(1.0, dtype)
    t = e.op("Tanh", e.op("Mul", a, e.scalar(0.5, dtype)))
    near = e.op("Div", e.op("Add", t, t), e.op("Sub", one, t))
    far = e.op("Sub", e.op("Exp", a), one)
    result = e.op("Where", e.op("Less", e.op("Abs", a), one), near, far)
    return e.cast_from(result, dtype, x.type.dtype)


@emits("log1p")
def log1p(e: Emitter, node: Node, x: Value) -> str:
    """log(u)·x/(u − 1) with u = 1 + x as rounded, which corrects that rounding (Kahan); log(u) where x is large."""
    a, dtype = _working(e, x, "Log")
    one = e.scalar(1.0, dtype)
    u = e.op("Add", a, one)
    exact = e.op("Equal", u, one)
    rounded = e.op("Where", exact, one, e.op("Sub", u, one))
    logarithm = e.op("Log", u)
    near = e.op("Where", exact, a, e.op("Mul", logarithm, e.op("Div", a, rounded)))
    result = e.op("Where", e.op("Less", a, one), near, logarithm)
    return e.cast_from(result, dtype, x.type.dtype)


# Chebyshev coefficients of erfc(z)·exp(z²)/t with t = 2/(2 + z), relative error 1.2e-16 for z ≥ 0 (Numerical Recipes,
# 3rd edition, §6.2.2).
_ERFC = (
    *(-1.3026537197817094, 6.4196979235649026e-1, 1.9476473204185836e-2, -9.561514786808631e-3),
    *(-9.46595344482036e-4, 3.66839497852761e-4, 4.2523324806907e-5, -2.0278578112534e-5, -1.624290004647e-6),
    *(1.303655835580e-6, 1.5626441722e-8, -8.5238095915e-8, 6.529054439e-9, 5.059343495e-9, -9.91364156e-10),
    *(-2.27365122e-10, 9.6467911e-11, 2.394038e-12, -6.886027e-12, 8.94487e-13, 3.13092e-13, -1.12708e-13),
    *(3.81e-16, 7.106e-15, -1.523e-15, -9.4e-17, 1.21e-16, -2.8e-17),
)


@emits("erfc")
def erfc(e: Emitter, node: Node, x: Value) -> str:
    """A Chebyshev series in f64: 1 − erf(x) has no digit left for large x. 10 terms do for f32 and less, 28 for f64."""
    wide = e.cast(x, F64)
    z = e.op("Abs", wide)

    def number(value: float) -> str:
        return e.scalar(value, F64)

    t = e.op("Div", number(2.0), e.op("Add", z, number(2.0)))
    ty = e.op("Sub", e.op("Mul", t, number(4.0)), number(2.0))
    terms = _ERFC if x.type.dtype is F64 else _ERFC[:14]
    last, before = number(0.0), number(0.0)
    for coefficient in reversed(terms[1:]):
        step = e.op("Add", e.op("Sub", e.op("Mul", ty, last), before), number(coefficient))
        last, before = step, last
    exponent = e.op("Mul", number(0.5), e.op("Add", e.op("Mul", ty, last), number(terms[0])))
    exponent = e.op("Sub", e.op("Sub", exponent, before), e.op("Mul", z, z))
    tail = e.op("Mul", t, e.op("Exp", exponent))
    below = e.op("Less", wide, number(0.0))
    return e.cast_from(e.op("Where", below, e.op("Sub", number(2.0), tail), tail), F64, x.type.dtype)
