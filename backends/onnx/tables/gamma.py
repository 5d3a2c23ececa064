"""The gamma functions and the inverse of the error function, which ONNX lacks: series in f64, for results up to f32.

Refuses f64, of which the series do not give every digit.
"""

from __future__ import annotations

import math

from dragoman.backends.onnx.emitter import Emitter
from dragoman.backends.onnx.table import emits
from dragoman.ir.graph import Node, Value
from dragoman.ir.types import F64

_SHIFT = 10  # Γ(y) = Γ(y + 10)/(y(y + 1)…(y + 9)): from 10 on, seven terms of Stirling's series are exact to 1e-16
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)


def _to_f32(node: Node, opset: int) -> str | None:
    return "its series in f64 does not give every digit of f64" if node.result.type.dtype is F64 else None


class _Doubles:
    """Arithmetic in f64, with Python numbers for constants."""

    def __init__(self, e: Emitter) -> None:
        self._e = e

    def number(self, x: str | float) -> str:
        return x if isinstance(x, str) else self._e.scalar(float(x), F64)

    def __call__(self, op_type: str, *operands: str | float) -> str:
        return self._e.op(op_type, *(self.number(x) for x in operands))

    def choose(self, condition: str, x: str | float, y: str | float) -> str:
        return self._e.op("Where", condition, self.number(x), self.number(y))

    def polynomial(self, x: str, coefficients: tuple[float, ...]) -> str:
        """Horner's scheme, lowest power first."""
        total: str | float = coefficients[-1]
        for coefficient in coefficients[-2::-1]:
            total = self("Add", self("Mul", total, x), coefficient)
        return self.number(total)

    def mirrored(self, x: str) -> tuple[str, str]:
        """Whether x is below ½, and the one of x and 1 − x that is not."""
        below = self("Less", x, 0.5)
        return below, self.choose(below, self("Sub", 1.0, x), x)


@emits("lgamma", where=_to_f32)
def lgamma(e: Emitter, node: Node, x: Value) -> str:
    """Stirling's series above 10, products below, Γ(x)Γ(1 − x) = π/sin πx below ½."""
    f, wide = _Doubles(e), e.ref(e.cast(x, F64))
    below, y = f.mirrored(wide)
    small = f("Less", y, float(_SHIFT))
    z = f.choose(small, f("Add", y, float(_SHIFT)), y)
    product: str = y
    for k in range(1, _SHIFT):
        product = f("Mul", product, f("Add", y, float(k)))
    inverse = f("Div", 1.0, z)
    terms = tuple(b / (2 * k * (2 * k - 1)) for k, b in enumerate(_BERNOULLI, 1))
    series = f("Mul", inverse, f.polynomial(f("Mul", inverse, inverse), terms))
    # (z − ½)·log z − z, written so that infinity stays infinite.
    main = f("Mul", f("Sub", z, 0.5), f("Sub", f("Log", z), 1.0))
    total = f("Add", f("Add", main, 0.5 * math.log(2 * math.pi) - 0.5), series)
    total = f("Sub", total, f.choose(small, f("Log", product), 0.0))
    one_or_two = f("Or", f("Equal", y, 1.0), f("Equal", y, 2.0))
    total = f.choose(one_or_two, 0.0, total)  # exactly
    turned = f("Abs", f("Sin", f("Mul", f("Sub", wide, f("Round", wide)), math.pi)))
    reflected = f("Sub", f("Log", f("Div", math.pi, turned)), total)
    result = f.choose(f("Equal", f("Abs", wide), math.inf), math.inf, f.choose(below, reflected, total))
    return e.cast_from(result, F64, x.type.dtype)


@emits("digamma", where=_to_f32)
def digamma(e: Emitter, node: Node, x: Value) -> str:
    """The asymptotic series above 10, ψ(x) = ψ(x + 1) − 1/x below, ψ(1 − x) − π/tan πx below ½; NaN at −1, −2, …"""
    f, wide = _Doubles(e), e.ref(e.cast(x, F64))
    below, y = f.mirrored(wide)
    z = f("Add", y, float(_SHIFT))
    inverse = f("Div", 1.0, z)
    terms = tuple(-b / (2 * k) for k, b in enumerate(_BERNOULLI, 1))
    square = f("Mul", inverse, inverse)
    series = f("Sub", f("Mul", square, f.polynomial(square, terms)), f("Mul", inverse, 0.5))
    total = f("Add", f("Log", z), series)
    for k in range(_SHIFT):
        total = f("Sub", total, f("Div", 1.0, f("Add", y, float(k))))
    offset = f("Sub", wide, f("Round", wide))
    sine = f("Sin", f("Mul", offset, math.pi))
    cosine = f("Sin", f("Mul", f("Sub", 0.5, f("Abs", offset)), math.pi))
    reflected = f("Sub", total, f("Mul", f("Div", cosine, sine), math.pi))
    pole = f("And", f("Equal", offset, 0.0), f("Less", wide, 0.0))
    result = f.choose(pole, math.nan, f.choose(below, reflected, total))
    return e.cast_from(result, F64, x.type.dtype)


# erfinv(x)/x as a polynomial in w = −log(1 − x²), and in √w beyond; interpolated at Chebyshev points in 40 digits,
# relative error 7e-10 and 8e-9. The middle and the half width of each interval come first.
_NEAR = (3.125, 3.125)
_NEAR_TERMS = (
    *(1.653654562683104, 0.7504943076479699, -0.05892256867474467, -0.0226040964520428, 0.017808404972816407),
    *(-0.004140180721044794, -0.0012720206339429019, 0.0012426903099391818, -0.00026338020147288863),
    *(-0.000135081155684473, 9.204975856542918e-05, 1.5787974515688915e-06, -1.0903440866058975e-05),
)
_FAR = (3.375, 0.875)
_FAR_TERMS = (
    *(3.2096201204829784, 0.8806380029604751, 0.003191941231358975, -0.0018324584784318587, 0.0009529658655218042),
    *(-0.0005549998198316032, 0.00031416378322717274, -0.00012383973693488314, 5.217064102680524e-06),
    1.2321515043822728e-05,
)


@emits("erfinv", where=_to_f32)
def erfinv(e: Emitter, node: Node, x: Value) -> str:
    """x times a polynomial in w = −log(1 − x²) (after Giles 2010), infinite at ±1, NaN beyond."""
    f, wide = _Doubles(e), e.ref(e.cast(x, F64))
    w = f("Neg", f("Log", f("Mul", f("Sub", 1.0, wide), f("Add", 1.0, wide))))

    def part(t: str, interval: tuple[float, float], terms: tuple[float, ...]) -> str:
        middle, half = interval
        return f.polynomial(f("Div", f("Sub", t, middle), half), terms)

    near, far = part(w, _NEAR, _NEAR_TERMS), part(f("Sqrt", w), _FAR, _FAR_TERMS)
    quotient = f.choose(f("Less", w, 2 * _NEAR[0]), near, far)
    at_end = f("Equal", f("Abs", wide), 1.0)
    return e.cast_from(f("Mul", wide, f.choose(at_end, math.inf, quotient)), F64, x.type.dtype)
