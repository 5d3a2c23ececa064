"""Operators on elements, with NumPy's broadcasting."""

from __future__ import annotations

import math
from collections.abc import Callable

from dragoman.frontends.onnx.context import Context
from dragoman.frontends.tensorflow.call import Call
from dragoman.frontends.tensorflow.operands import Operand
from dragoman.frontends.tensorflow.registry import translates
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value

_UNARY = {
    "Abs": "abs", "Acos": "acos", "Acosh": "acosh", "Asin": "asin", "Asinh": "asinh", "Atan": "atan", "Atanh": "atanh",
    "Ceil": "ceil", "Cos": "cos", "Cosh": "cosh", "Digamma": "digamma", "Erf": "erf", "Erfc": "erfc",
    "Erfinv": "erfinv", "Exp": "exp", "Expm1": "expm1", "Floor": "floor", "Inv": "reciprocal", "Invert": "bitwise_not",
    "IsFinite": "isfinite", "IsInf": "isinf", "IsNan": "isnan", "Lgamma": "lgamma", "Log": "log", "Log1p": "log1p",
    "LogicalNot": "logical_not", "Neg": "neg", "Reciprocal": "reciprocal", "Relu": "relu", "Rint": "round",
    "Round": "round", "Rsqrt": "rsqrt", "Selu": "selu", "Sigmoid": "sigmoid", "Sign": "sign", "Sin": "sin",
    "Sinh": "sinh", "Softsign": "softsign", "Sqrt": "sqrt", "Square": "square", "Tan": "tan", "Tanh": "tanh",
}  # fmt: skip

_BINARY = {
    "Add": "add", "AddV2": "add", "Atan2": "atan2", "BitwiseAnd": "bitwise_and", "BitwiseOr": "bitwise_or",
    "BitwiseXor": "bitwise_xor", "Complex": "complex", "Div": "div", "Equal": "equal", "FloorDiv": "floor_divide",
    "FloorMod": "remainder", "Greater": "greater", "GreaterEqual": "greater_equal", "LeftShift": "shift_left",
    "Less": "less", "LessEqual": "less_equal", "LogicalAnd": "logical_and", "LogicalOr": "logical_or",
    "Maximum": "maximum", "Minimum": "minimum", "Mul": "mul", "NotEqual": "not_equal", "Pow": "power",
    "RealDiv": "div", "RightShift": "shift_right", "Sub": "sub", "TruncateMod": "fmod",
}  # fmt: skip


def _named(name: str, count: int) -> Callable[[Context, Call], Value]:
    def translate(c: Context, n: Call) -> Value:
        return getattr(c.b, name)(*(n[i] for i in range(count)))

    return translate


for _operator, _name in _UNARY.items():
    translates(_operator)(_named(_name, 1))
for _operator, _name in _BINARY.items():
    translates(_operator)(_named(_name, 2))


@translates("Identity", "StopGradient", "PreventGradient", "Snapshot", "CheckNumerics", "PlaceholderWithDefault")
def same(c: Context, n: Call) -> Operand:
    """What goes in. CheckNumerics fails in TensorFlow on NaN and infinity, which no target can say; it goes."""
    return n.operand(0)


@translates("EnsureShape")
def ensure_shape(c: Context, n: Call) -> Operand:
    """What goes in, where its extents are those asked for, or not known to be others."""
    wanted = n.node.attr["shape"].shape
    shape = n.type(0).shape
    asked = [d.size for d in wanted.dim] if not wanted.unknown_rank else [-1] * len(shape)
    if len(asked) != len(shape) or any(a not in (-1, d) for a, d in zip(asked, shape, strict=True)):
        raise Unsupported(f"EnsureShape of {n.type(0)} to {asked}: give the input these extents")
    return n.operand(0)


@translates("IdentityN")
def each(c: Context, n: Call) -> list[Operand]:
    """What goes in."""
    return list(n.inputs)


@translates("Cast")
def cast(c: Context, n: Call) -> Value:
    """Rounded as C does; complex numbers lose their imaginary part."""
    return c.cast(n[0], n.dtype("DstT"))


@translates("Relu6")
def relu6(c: Context, n: Call) -> Value:
    """Between 0 and 6."""
    return c.b.clip(n[0], low=0.0, high=6.0)


@translates("LeakyRelu")
def leaky_relu(c: Context, n: Call) -> Value:
    """x, or a part of it below 0."""
    return c.b.leaky_relu(n[0], alpha=n.float("alpha"))


@translates("Elu")
def elu(c: Context, n: Call) -> Value:
    """x, or e^x − 1 below 0."""
    return c.b.elu(n[0])


@translates("Softplus")
def softplus(c: Context, n: Call) -> Value:
    """log(1 + e^x)."""
    return c.b.softplus(n[0], threshold=None)


@translates("Softmax")
def softmax(c: Context, n: Call) -> Value:
    """Over the last axis."""
    return c.b.softmax(n[0], axis=-1)


@translates("LogSoftmax")
def log_softmax(c: Context, n: Call) -> Value:
    """Over the last axis."""
    return c.b.log_softmax(n[0], axis=-1)


@translates("SquaredDifference")
def squared_difference(c: Context, n: Call) -> Value:
    """(x − y)²."""
    return c.b.square(c.b.sub(n[0], n[1]))


@translates("DivNoNan", "MulNoNan")
def no_nan(c: Context, n: Call) -> Value:
    """0 where the second operand is 0."""
    x, y = n[0], n[1]
    zero = c.b.equal(y, 0)
    if n.op == "MulNoNan":
        return c.b.where(zero, c.const(0, x.type.dtype), c.b.mul(x, y))
    return c.b.where(zero, c.const(0, x.type.dtype), c.b.div(x, c.b.where(zero, c.const(1, y.type.dtype), y)))


@translates("TruncateDiv")
def truncate_div(c: Context, n: Call) -> Value:
    """The quotient toward zero."""
    return c.b.div(n[0], n[1])


@translates("Xlogy", "Xdivy")
def x_times(c: Context, n: Call) -> Value:
    """x·log(y) or x/y, 0 where x is 0."""
    x, y = n[0], n[1]
    result = c.b.mul(x, c.b.log(y)) if n.op == "Xlogy" else c.b.div(x, y)
    return c.b.where(c.b.equal(x, 0), c.const(0, x.type.dtype), result)


@translates("SelectV2")
def select(c: Context, n: Call) -> Value:
    """One or the other."""
    return c.b.where(n[0], n[1], n[2])


@translates("Select")
def select_rows(c: Context, n: Call) -> Value:
    """One or the other; a vector of conditions chooses among rows."""
    condition, x = n[0], n[1]
    if condition.type.rank == 1 and x.type.rank > 1:
        condition = c.reshape(condition, (*condition.type.shape, *[1] * (x.type.rank - 1)))
    return c.b.where(condition, x, n[2])


@translates("ClipByValue")
def clip_by_value(c: Context, n: Call) -> Value:
    """Between two values."""
    return c.b.minimum(c.b.maximum(n[0], n[1]), n[2])


@translates("AddN")
def add_n(c: Context, n: Call) -> Value:
    """The sum of all."""
    total, *others = n.values
    for x in others:
        total = c.b.add(total, x)
    return total


@translates("ApproximateEqual")
def approximately(c: Context, n: Call) -> Value:
    """Whether two numbers are near each other."""
    return c.b.less(c.b.abs(c.b.sub(n[0], n[1])), n.float("tolerance"))


@translates("Real", "Imag")
def part(c: Context, n: Call) -> Value:
    """One part of complex numbers."""
    return c.b.real(n[0]) if n.op == "Real" else c.b.imag(n[0])


@translates("Conj")
def conj(c: Context, n: Call) -> Value:
    """The other sign of the imaginary part."""
    return c.b.complex(c.b.real(n[0]), c.b.neg(c.b.imag(n[0])))


@translates("Angle", "ComplexAbs")
def polar(c: Context, n: Call) -> Value:
    """Argument or modulus."""
    re, im = c.b.real(n[0]), c.b.imag(n[0])
    return c.b.atan2(im, re) if n.op == "Angle" else c.b.hypot(re, im)


@translates("Ndtri")
def ndtri(c: Context, n: Call) -> Value:
    """The quantile of the normal distribution."""
    return c.b.mul(c.b.erfinv(c.b.sub(c.b.mul(n[0], 2.0), 1.0)), math.sqrt(2))
