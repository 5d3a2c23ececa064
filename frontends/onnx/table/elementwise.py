"""Pointwise arithmetic, comparison, logic, casts and elementary functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ml_dtypes import finfo

from dragoman.frontends.onnx.call import Call
from dragoman.frontends.onnx.context import Context
from dragoman.frontends.onnx.dtypes import dtype_of_code
from dragoman.frontends.onnx.registry import translates
from dragoman.frontends.onnx.table.shape import broadcast_dims
from dragoman.ir.errors import Malformed, TypeRuleError, Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.types import BOOL, F8E8M0, F32, F64, DType, broadcast

_UNARY = {
    "Neg": "neg",
    "Abs": "abs",
    "Sign": "sign",
    "Floor": "floor",
    "Ceil": "ceil",
    "Round": "round",
    "Reciprocal": "reciprocal",
    "Sqrt": "sqrt",
    "Exp": "exp",
    "Log": "log",
    "Sin": "sin",
    "Cos": "cos",
    "Tan": "tan",
    "Asin": "asin",
    "Acos": "acos",
    "Atan": "atan",
    "Sinh": "sinh",
    "Cosh": "cosh",
    "Tanh": "tanh",
    "Asinh": "asinh",
    "Acosh": "acosh",
    "Atanh": "atanh",
    "Erf": "erf",
    "Sigmoid": "sigmoid",
    "Softsign": "softsign",
    "Relu": "relu",
    "Mish": "mish",
    "HardSwish": "hard_swish",
    "Not": "logical_not",
    "BitwiseNot": "bitwise_not",
    "IsNaN": "isnan",
}
_BINARY = {
    "Add": "add",
    "Sub": "sub",
    "Mul": "mul",
    "Div": "div",
    "Equal": "equal",
    "Less": "less",
    "LessOrEqual": "less_equal",
    "Greater": "greater",
    "GreaterOrEqual": "greater_equal",
    "And": "logical_and",
    "Or": "logical_or",
    "Xor": "logical_xor",
    "BitwiseAnd": "bitwise_and",
    "BitwiseOr": "bitwise_or",
    "BitwiseXor": "bitwise_xor",
}


def _unary(operator: str, name: str) -> None:
    def translation(c: Context, n: Call) -> Value:
        return getattr(c.b, name)(n[0])

    translates(operator)(translation)


def _binary(operator: str, name: str) -> None:
    def translation(c: Context, n: Call) -> Value:
        return getattr(c.b, name)(*operands(c, n))

    translates(operator)(translation)


for _operator, _name in _UNARY.items():
    _unary(_operator, _name)
for _operator, _name in _BINARY.items():
    _binary(_operator, _name)


def operands(c: Context, n: Call) -> list[Value]:
    """The two operands of a binary operator, of one shape after broadcasting."""
    x, y = n[0], n[1]
    if n.version < 7 and n.int("broadcast", 0) and n.given("axis"):
        y = _placed(c, x, y, n.int("axis"))
    return aligned(c, [x, y])


def _placed(c: Context, x: Value, y: Value, axis: int) -> Value:
    """Before opset 7 the second operand could begin at an axis of the first."""
    axis = axis + x.type.rank if axis < 0 else axis
    trailing = x.type.rank - axis - y.type.rank
    if trailing < 0:
        raise Malformed(f"{y.type} does not fit into {x.type} at axis {axis}")
    return c.reshape(y, (*y.type.shape, *[1] * trailing))


def aligned(c: Context, values: Sequence[Value]) -> list[Value]:
    """Values that broadcast by the IR's rule: where only a run tells whether a size is 1, it does the stretching."""
    try:
        broadcast(*(v.type.shape for v in values))
        return list(values)
    except TypeRuleError:
        pass
    shape = values[0].type.shape
    for v in values[1:]:
        shape, _ = broadcast_dims(c, shape, v.type.shape)
    result: list[Value] = []
    for index, v in enumerate(values):
        others = [o for at, o in enumerate(values) if at != index]
        for other in others:
            mixed, sure = broadcast_dims(c, v.type.shape, other.type.shape)
            if not sure:
                mixed = tuple(shape[len(shape) - len(mixed) :])
                v = c.b.dynamic_broadcast(v, c.i64(other.type.shape), shape=mixed)
        result.append(v)
    return result


def _folding(operator: str, function: Callable[[Context, Value, Value], Value]) -> None:
    """An operator of any number of operands."""

    def translation(c: Context, n: Call) -> Value:
        total, *others = n.values
        for other in others:
            total = function(c, *aligned(c, [total, other]))
        return total

    translates(operator)(translation)


_folding("Max", lambda c, x, y: c.b.maximum(x, y))
_folding("Min", lambda c, x, y: c.b.minimum(x, y))
_folding("Sum", lambda c, x, y: c.b.add(x, y))


@translates("Mean")
def mean(c: Context, n: Call) -> Value:
    """The mean of the operands."""
    total, *others = n.values
    for other in others:
        total = c.b.add(*aligned(c, [total, other]))
    return c.b.div(total, float(len(n.inputs)))


@translates("Mod")
def mod(c: Context, n: Call) -> Value:
    """The remainder: with the sign of the divisor, or with `fmod` of the dividend."""
    x, y = operands(c, n)
    if n.int("fmod", 0):
        return c.b.fmod(x, y)
    return c.b.remainder(x, y)


@translates("Pow")
def power(c: Context, n: Call) -> Value:
    """x to the power of y, in the dtype of x; what y adds in precision is used inside."""
    x, y = operands(c, n)
    dtype = x.type.dtype
    if y.type.dtype == dtype:
        return c.b.power(x, y)
    if dtype.is_float or y.type.dtype.is_integer:
        return c.b.power(x, c.b.cast(y, dtype=dtype))
    wide = F64 if F64 in (dtype, y.type.dtype) or dtype.bits > 24 else F32
    return c.b.cast(c.b.power(c.cast(x, wide), c.cast(y, wide)), dtype=dtype)


@translates("BitShift")
def bit_shift(c: Context, n: Call) -> Value:
    """Bits moved to the left or right."""
    x, y = operands(c, n)
    left = n.text("direction").upper() == "LEFT"
    return c.b.shift_left(x, y) if left else c.b.shift_right(x, y)


@translates("Where")
def where(c: Context, n: Call) -> Value:
    """x where the condition holds, y elsewhere."""
    return c.b.where(*aligned(c, n.values))


@translates("IsInf")
def isinf(c: Context, n: Call) -> Value:
    """Whether x is infinite, of the signs asked for."""
    positive, negative = bool(n.int("detect_positive", 1)), bool(n.int("detect_negative", 1))
    return c.b.isinf(n[0], positive=positive, negative=negative)


@translates("Clip")
def clip_attributes(c: Context, n: Call) -> Value:
    """Bounds as attributes, before opset 11. From opset 6 on those left out are the extremes of f32, not infinite."""
    widest = float(finfo("float32").max) if n.version >= 6 else None
    low, high = n.float("min", None if widest is None else -widest), n.float("max", widest)
    if n[0].type.dtype.bits < F32.bits:  # which has no such numbers
        low, high = (bound if n.given(name) else None for name, bound in (("min", low), ("max", high)))
    return c.b.clip(n[0], low=low, high=high) if low is not None or high is not None else n[0]


@translates("Clip", since=11)
def clip(c: Context, n: Call) -> Value:
    """min(max(x, low), high)."""
    x, known = n[0], [n.known(i) if n.has(i) else None for i in (1, 2)]
    if x.type.dtype.is_float and all(k is not None or not n.has(i) for i, k in zip((1, 2), known, strict=True)):
        low, high = (None if k is None else float(k.reshape(-1)[0]) for k in known)
        return c.b.clip(x, low=low, high=high) if low is not None or high is not None else x
    if n.has(1):
        x = c.b.maximum(x, c.reshape(n[1], ()))
    return c.b.minimum(x, c.reshape(n[2], ())) if n.has(2) else x


# ---- casts -----------------------------------------------------------------------------------------------


@translates("Cast")
def cast_by_name(c: Context, n: Call) -> Value:
    """The dtype as text, before opset 6."""
    import onnx

    return c.cast(n[0], dtype_of_code(onnx.TensorProto.DataType.Value(n.text("to"))))


@translates("Cast", since=6)
def cast(c: Context, n: Call) -> Value:
    """Another dtype."""
    return converted(c, n, n[0], dtype_of_code(n.int("to")))


@translates("CastLike")
def cast_like(c: Context, n: Call) -> Value:
    """The dtype of another tensor."""
    return converted(c, n, n[0], n.type(1).dtype)


def converted(c: Context, n: Call, x: Value, dtype: DType) -> Value:
    """A cast as ONNX has it: to float8 saturating, unless told."""
    if x.type.dtype == dtype:
        return x
    if dtype is F8E8M0:
        x = x if x.type.dtype.is_float else c.b.cast(x, dtype=F32)
        return c.b.power_of_two(x, rounding=n.text("round_mode", "up"), saturate=bool(n.int("saturate", 1)))
    if dtype.is_float and dtype.bits < 16 and n.int("saturate", 1) and x.type.dtype.kind != "string":
        largest = float(finfo(dtype.numpy).max)
        if not x.type.dtype.is_float:
            x = c.b.cast(x, dtype=F32)  # exact as far as the narrow type reaches
        if float(finfo(x.type.dtype.numpy).max) > largest:
            x = c.b.clip(x, low=-largest, high=largest)
    return c.b.cast(x, dtype=dtype)


# ---- activations -----------------------------------------------------------------------------------------


@translates("LeakyRelu")
def leaky_relu(c: Context, n: Call) -> Value:
    """x above 0, alpha·x below."""
    return c.b.leaky_relu(n[0], alpha=n.float("alpha", 0.01))


@translates("PRelu")
def prelu(c: Context, n: Call) -> Value:
    """x above 0, slope·x below."""
    x, slope = n[0], n[1]
    if n.version < 7 and slope.type.rank == 1 and x.type.rank > 1 and slope.type.shape[0] != 1:
        slope = c.reshape(slope, (*slope.type.shape, *[1] * (x.type.rank - 2)))
    return c.b.prelu(x, slope)


@translates("Elu")
def elu(c: Context, n: Call) -> Value:
    """alpha·(e^x − 1) below 0."""
    return c.b.elu(n[0], alpha=n.float("alpha", 1.0))


@translates("Celu")
def celu(c: Context, n: Call) -> Value:
    """alpha·(e^(x/alpha) − 1) below 0."""
    return c.b.celu(n[0], alpha=n.float("alpha", 1.0))


@translates("Selu")
def selu(c: Context, n: Call) -> Value:
    """gamma·elu; the usual constants are an op of their own."""
    alpha, gamma = n.float("alpha", 1.6732632423543772), n.float("gamma", 1.0507009873554805)
    if abs(alpha - 1.6732632423543772) < 1e-6 and abs(gamma - 1.0507009873554805) < 1e-6:
        return c.b.selu(n[0])
    return c.b.mul(c.b.elu(n[0], alpha=alpha), gamma)


@translates("HardSigmoid")
def hard_sigmoid(c: Context, n: Call) -> Value:
    """A line between 0 and 1."""
    return c.b.hard_sigmoid(n[0], alpha=n.float("alpha", 0.2), beta=n.float("beta", 0.5))


@translates("Softplus")
def softplus(c: Context, n: Call) -> Value:
    """log(1 + e^x)."""
    return c.b.softplus(n[0], threshold=None)


@translates("ThresholdedRelu")
def thresholded_relu(c: Context, n: Call) -> Value:
    """x above alpha, 0 elsewhere."""
    return c.b.thresholded_relu(n[0], alpha=n.float("alpha", 1.0))


@translates("Gelu")
def gelu(c: Context, n: Call) -> Value:
    """x·Φ(x)."""
    return c.b.gelu(n[0], approximate=n.text("approximate", "none"))


@translates("Swish")
def swish(c: Context, n: Call) -> Value:
    """x·sigmoid(alpha·x)."""
    alpha = n.float("alpha", 1.0)
    return c.b.silu(n[0]) if alpha == 1.0 else c.b.quick_gelu(n[0], alpha=alpha)


@translates("Shrink")
def shrink(c: Context, n: Call) -> Value:
    """x + bias below −lambd, x − bias above lambd, 0 between."""
    b, x = c.b, n[0]
    threshold, bias = n.float("lambd", 0.5), n.float("bias", 0.0)
    dtype = x.type.dtype
    wide = c.cast(x, F32) if not dtype.is_float else x
    zero = c.const(0, wide.type.dtype)
    above = b.where(b.greater(wide, threshold), b.sub(wide, bias), zero)
    return c.cast(b.where(b.less(wide, -threshold), b.add(wide, bias), above), dtype)


@translates("Dropout")
def dropout(c: Context, n: Call) -> list[Value]:
    """Nothing, when it is not training; dropping at random has no place in a converted model."""
    x = n[0]
    if n.has(2):
        training = n.known(2)
        ratio = n.known(1) if n.has(1) else None
        known_zero = ratio is not None and float(ratio.reshape(-1)[0]) == 0.0
        if (training is None or bool(training.reshape(-1)[0])) and not known_zero:
            raise Unsupported("it drops elements at random: set the model to inference before exporting it")
    return [x, c.full(x.type.shape, True, BOOL)] if n.wants(1) else [x]


# ---- softmax ---------------------------------------------------------------------------------------------


def _normalises(operator: str, function: Callable[[Context, Value, int], Value]) -> None:
    def flat(c: Context, n: Call) -> Value:
        from dragoman.ir.dims import product

        x = n[0]
        axis = n.int("axis", 1)
        axis = axis + x.type.rank if axis < 0 else axis
        if axis == x.type.rank - 1:
            return function(c, x, axis)
        before, after = product(x.type.shape[:axis]), product(x.type.shape[axis:])
        return c.reshape(function(c, c.reshape(x, (before, after)), 1), x.type.shape)

    def along(c: Context, n: Call) -> Value:
        return function(c, n[0], n.int("axis", -1))

    translates(operator)(flat)
    translates(operator, since=13)(along)


def _hardmax(c: Context, x: Value, axis: int) -> Value:
    """1 at the first of the largest elements."""
    dtype = x.type.dtype
    return c.b.one_hot(c.b.argmax(x, axis=axis), depth=x.type.shape[axis], dtype=dtype, axis=axis)


_normalises("Softmax", lambda c, x, axis: c.b.softmax(x, axis=axis))
_normalises("LogSoftmax", lambda c, x, axis: c.b.log_softmax(x, axis=axis))
_normalises("Hardmax", _hardmax)
