"""Pointwise functions of analysis: exponentials, logarithms, roots, trigonometry and the special functions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from dragoman.ir.op import Arithmetic, Array
from dragoman.ir.ops.elementwise import Unary

if TYPE_CHECKING:
    from dragoman.ir.builder import Builder
    from dragoman.ir.graph import Value


class Function(Unary):
    """A function that NumPy or scipy.special has, by its name there; of floats and complex numbers."""

    kinds = ("float", "complex")
    function: ClassVar[str]

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """The library's function."""
        return m.special(self.function, x)


class RealFunction(Function):
    """The same, of floats only."""

    kinds = ("float",)


# ---- exponentials, logarithms, roots --------------------------------------------------------------------


class Exp(Function, name="exp", pointwise=True):
    """e^x."""

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """The arithmetic's exponential: in the field a homomorphism from sums to products."""
        return m.exp(x)


class Log(Function, name="log", pointwise=True):
    """Natural logarithm."""

    domain = (0.1, 3.0)

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """The arithmetic's logarithm."""
        return m.log(x)


class Sqrt(Function, name="sqrt", pointwise=True):
    """√x."""

    domain = (0.0, 3.0)

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """The arithmetic's root."""
        return m.sqrt(x)


class Expm1(RealFunction, name="expm1", pointwise=True):
    """e^x − 1, precise near zero."""

    function = "expm1"


class Log1p(RealFunction, name="log1p", pointwise=True):
    """log(1 + x), precise near zero."""

    function = "log1p"
    domain = (-0.9, 3.0)


class Rsqrt(Function, name="rsqrt", pointwise=True):
    """1 / √x."""

    domain = (0.1, 3.0)

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """Quotient."""
        return 1 / m.sqrt(x)

    def decompose(self, b: Builder, x: Value) -> Value:
        """div(1, sqrt(x))."""
        return b.div(b.const(1.0, x.type.dtype), b.sqrt(x))

    def as_reciprocal(self, b: Builder, x: Value) -> Value:
        """reciprocal(sqrt(x))."""
        return b.reciprocal(b.sqrt(x))

    def as_power(self, b: Builder, x: Value) -> Value:
        """x^−½."""
        return b.power(x, -0.5)

    spellings = (as_reciprocal, as_power)


class Exp2(RealFunction, name="exp2", pointwise=True):
    """2^x."""

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """e^(x·ln 2)."""
        return m.exp(x * math.log(2.0))

    def decompose(self, b: Builder, x: Value) -> Value:
        """exp(x·ln 2)."""
        return b.exp(b.mul(x, math.log(2.0)))


class Log2(RealFunction, name="log2", pointwise=True):
    """Logarithm to the base 2."""

    domain = (0.1, 3.0)

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """ln x / ln 2."""
        return m.log(x) / math.log(2.0)

    def decompose(self, b: Builder, x: Value) -> Value:
        """log(x) / ln 2."""
        return b.div(b.log(x), math.log(2.0))


class Log10(RealFunction, name="log10", pointwise=True):
    """Logarithm to the base 10."""

    domain = (0.1, 3.0)

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """ln x / ln 10."""
        return m.log(x) / math.log(10.0)

    def decompose(self, b: Builder, x: Value) -> Value:
        """log(x) / ln 10."""
        return b.div(b.log(x), math.log(10.0))


class Sigmoid(RealFunction, name="sigmoid", pointwise=True):
    """1 / (1 + e^−x), the logistic function."""

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """By the definition: where e^−x overflows the quotient is rightly zero."""
        return 1 / (1 + m.exp(-x))

    def decompose(self, b: Builder, x: Value) -> Value:
        """1 / (1 + exp(−x))."""
        one = b.const(1.0, x.type.dtype)
        return b.div(one, b.add(b.exp(b.neg(x)), one))

    def as_reciprocal(self, b: Builder, x: Value) -> Value:
        """reciprocal(1 + exp(−x))."""
        return b.reciprocal(b.add(b.exp(b.neg(x)), 1.0))

    spellings = (as_reciprocal,)


# ---- trigonometric and hyperbolic -----------------------------------------------------------------------


class Sin(Function, name="sin", pointwise=True):
    """Sine of radians."""

    function = "sin"


class Cos(Function, name="cos", pointwise=True):
    """Cosine of radians."""

    function = "cos"


class Tan(Function, name="tan", pointwise=True):
    """Tangent of radians."""

    function = "tan"
    domain = (-1.2, 1.2)


class Asin(RealFunction, name="asin", pointwise=True):
    """Arc sine, in [−π/2, π/2]."""

    function = "arcsin"
    domain = (-1.0, 1.0)


class Acos(RealFunction, name="acos", pointwise=True):
    """Arc cosine, in [0, π]."""

    function = "arccos"
    domain = (-1.0, 1.0)


class Atan(RealFunction, name="atan", pointwise=True):
    """Arc tangent, in (−π/2, π/2)."""

    function = "arctan"


class Sinh(Function, name="sinh", pointwise=True):
    """Hyperbolic sine."""

    function = "sinh"


class Cosh(Function, name="cosh", pointwise=True):
    """Hyperbolic cosine."""

    function = "cosh"


class Tanh(Function, name="tanh", pointwise=True):
    """Hyperbolic tangent."""

    function = "tanh"


class Asinh(RealFunction, name="asinh", pointwise=True):
    """Inverse hyperbolic sine."""

    function = "arcsinh"


class Acosh(RealFunction, name="acosh", pointwise=True):
    """Inverse hyperbolic cosine, for x ≥ 1."""

    function = "arccosh"
    domain = (1.1, 4.0)


class Atanh(RealFunction, name="atanh", pointwise=True):
    """Inverse hyperbolic tangent, for |x| ≤ 1."""

    function = "arctanh"
    domain = (-0.9, 0.9)


# ---- special functions ------------------------------------------------------------------------------------


class Erf(RealFunction, name="erf", pointwise=True):
    """The error function 2/√π · ∫₀ˣ e^(−t²) dt."""

    function = "erf"


class Erfc(RealFunction, name="erfc", pointwise=True):
    """1 − erf(x), precise for large x."""

    function = "erfc"


class Erfinv(RealFunction, name="erfinv", pointwise=True):
    """The inverse of erf, for |x| ≤ 1."""

    function = "erfinv"
    domain = (-0.9, 0.9)


class Lgamma(RealFunction, name="lgamma", pointwise=True):
    """log |Γ(x)|."""

    function = "gammaln"
    domain = (0.1, 5.0)


class Digamma(RealFunction, name="digamma", pointwise=True):
    """The derivative of lgamma."""

    function = "psi"
    domain = (0.1, 5.0)
