"""Activations, kept whole; and dropout, which is nothing outside of training and refused in it."""

from __future__ import annotations

from collections.abc import Callable

from dragoman.frontends.pytorch.context import Context, Operand
from dragoman.frontends.pytorch.table.registry import translates
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value


def _plain(name: str, operator: str) -> None:
    def translate(c: Context, x: Value) -> Value:
        return getattr(c.b, name)(x)

    translate.__name__, translate.__doc__ = name, f"{name}(x)."
    translates(f"aten.{operator}.default")(translate)


for _name, _operator in {
    "relu": "relu",
    "selu": "selu",
    "silu": "silu",
    "mish": "mish",
    "hard_swish": "hardswish",
    "hard_sigmoid": "hardsigmoid",
    "log_sigmoid": "log_sigmoid",
}.items():
    _plain(_name, _operator)


@translates("aten.log_sigmoid_forward.default")
def log_sigmoid_forward(c: Context, x: Value) -> tuple[Value, None]:
    """log(sigmoid(x)); the second result serves the gradient only."""
    return c.b.log_sigmoid(x), None


@translates("aten.relu6.default")
def relu6(c: Context, x: Value) -> Value:
    """x kept between 0 and 6."""
    return c.b.clip(x, low=0, high=6) if x.type.dtype.is_integer else c.b.clip(x, low=0.0, high=6.0)


@translates("aten.hardtanh.default")
def hardtanh(c: Context, x: Value, min_val: float = -1, max_val: float = 1) -> Value:
    """x kept between two bounds."""
    kind: Callable[[float], float] = int if x.type.dtype.is_integer else float
    return c.b.clip(x, low=kind(min_val), high=kind(max_val))


@translates("aten.leaky_relu.default")
def leaky_relu(c: Context, x: Value, negative_slope: float = 0.01) -> Value:
    """x, or x·slope where negative."""
    return c.b.leaky_relu(x, alpha=float(negative_slope))


@translates("aten.prelu.default", "aten._prelu_kernel.default")
def prelu(c: Context, x: Value, weight: Value) -> Value:
    """x, or x·weight of its channel where negative."""
    count = weight.type.shape[0] if weight.type.rank == 1 else None
    if count is not None and x.type.rank > 1:
        weight = c.reshape(weight, (count, *(1,) * (x.type.rank - 2)))
    return c.b.prelu(x, weight)


@translates("aten.rrelu.default")
def rrelu(c: Context, x: Value, lower: float = 0.125, upper: float = 1 / 3, training: bool = False) -> Value:
    """The leaky relu with the mean slope."""
    _refuse_training(training, "rrelu")
    return c.b.leaky_relu(x, alpha=(lower + upper) / 2)


@translates("aten.elu.default")
def elu(c: Context, x: Value, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Value:
    """scale·(x, or alpha·(e^(x·input_scale) − 1) where negative)."""
    b = c.b
    if input_scale != 1:
        below = b.mul(b.expm1(b.mul(x, float(input_scale))), float(alpha))
        result = b.where(b.greater(x, 0.0), x, below)
    else:
        result = b.elu(x, alpha=float(alpha))
    return result if scale == 1 else b.mul(result, float(scale))


@translates("aten.celu.default")
def celu(c: Context, x: Value, alpha: float = 1.0) -> Value:
    """max(x, 0) + min(0, alpha·(e^(x/alpha) − 1))."""
    return c.b.celu(x, alpha=float(alpha))


@translates("aten.gelu.default")
def gelu(c: Context, x: Value, approximate: str = "none") -> Value:
    """x·Φ(x)."""
    return c.b.gelu(x, approximate=approximate)


@translates("aten.softplus.default")
def softplus(c: Context, x: Value, beta: float = 1, threshold: float = 20) -> Value:
    """log(1 + e^(beta·x))/beta."""
    return c.b.softplus(x, beta=float(beta), threshold=float(threshold))


@translates("aten.softshrink.default")
def softshrink(c: Context, x: Value, lambd: float = 0.5) -> Value:
    """x moved towards 0."""
    return c.b.soft_shrink(x, alpha=float(lambd))


@translates("aten.hardshrink.default")
def hardshrink(c: Context, x: Value, lambd: float = 0.5) -> Value:
    """x, or 0 near 0."""
    return c.b.hard_shrink(x, alpha=float(lambd))


@translates("aten.threshold.default")
def threshold(c: Context, x: Value, threshold: float, value: float) -> Value:
    """x, or `value` up to the threshold."""
    kind: Callable[[float], float] = int if x.type.dtype.is_integer else float
    return c.b.threshold(x, threshold=kind(threshold), value=kind(value))


@translates("aten.glu.default")
def glu(c: Context, x: Value, dim: int = -1) -> Value:
    """One half times the sigmoid of the other."""
    return c.b.glu(x, axis=dim % x.type.rank)


# ---- dropout -----------------------------------------------------------------------------------------------------


def _refuse_training(training: bool, what: str) -> None:
    if training:
        raise Unsupported(f"{what} in training mode is random: call model.eval() first")


def _dropout(c: Context, x: Value, p: float, train: bool) -> Value:
    _refuse_training(bool(train) and p > 0, "dropout")
    return x


translates(
    "aten.dropout.default",
    "aten.feature_dropout.default",
    "aten.alpha_dropout.default",
    "aten.feature_alpha_dropout.default",
)(_dropout)


@translates("aten.native_dropout.default")
def native_dropout(c: Context, x: Value, p: float, train: bool | None = None) -> tuple[Value, None]:
    """x, when not training."""
    return _dropout(c, x, p, train is None or train), None


def _random(*operators: str) -> None:
    def translate(c: Context, *args: Operand, **kwargs: Operand) -> Value:
        raise Unsupported("it draws random numbers: pass them in as an input, or call model.eval()")

    translates(*operators)(translate)


_random(
    *(f"aten.{o}.default" for o in ("rand", "randn", "rand_like", "randn_like", "randint", "randint_like", "randperm")),
    *("aten.randint.low", "aten.randint_like.low_dtype", "aten.bernoulli.default", "aten.bernoulli.p"),
    *("aten.multinomial.default", "aten.normal_functional.default", "aten.uniform.default", "aten.poisson.default"),
    *("aten.bernoulli_.float", "aten.bernoulli_.Tensor", "aten.normal_.default", "aten.uniform_.default"),
    *("aten.normal.Tensor_Tensor", "aten.normal.Tensor_float", "aten.normal.float_Tensor", "aten.exponential_.default"),
)
