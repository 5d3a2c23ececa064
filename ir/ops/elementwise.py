"""Pointwise arithmetic: one result element from the operand elements at its (broadcast) place. No implicit promotion.

Owns the base classes of pointwise ops. Comparisons are in `comparison.py`, functions of analysis in `functions.py`.
Four-bit integers and booleans are refused: they are storage and logic, cast them first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from dragoman.ir.guess import Guess, guess, with_settings
from dragoman.ir.op import Arithmetic, Array, Op, Sample, TensorType, operand, require, same_dtype, sample
from dragoman.ir.types import BF16, BOOL, C64, F16, F32, F64, I8, I32, I64, U8, DType, broadcast

if TYPE_CHECKING:
    from dragoman.ir.builder import Builder
    from dragoman.ir.graph import Node, Value

REAL = ("int", "uint", "float")
NUMERIC = (*REAL, "complex")


def require_kind(x: TensorType, kinds: tuple[str, ...], what: str) -> None:
    """Raise TypeRuleError unless the dtype is of one of these kinds and, if an integer, at least 8 bits wide."""
    require(x.dtype.kind in kinds, f"{what} on {x.dtype}: it takes {', '.join(kinds)}")
    require(not x.dtype.is_integer or x.dtype.bits >= 8, f"{what} on {x.dtype}: cast four-bit integers to i8 first")


def plain_number(value: float, dtype: DType) -> float:
    """An attribute as a number of this dtype's kind. Raises TypeRuleError where an integer type cannot hold it."""
    if not dtype.is_integer:
        return float(value)
    require(float(value).is_integer(), f"{value} is not a value of {dtype}")
    signed = dtype.kind == "int"
    low, high = (-(2 ** (dtype.bits - 1)) if signed else 0), 2 ** (dtype.bits - signed) - 1
    require(low <= value <= high, f"{value} is not a value of {dtype}")
    return int(value)


def number_like(m: Arithmetic, value: float, x: Array) -> float:
    """An attribute as NumPy should meet it: an integer beside integers, so that nothing is promoted."""
    return value if m.is_real(x) else int(value)


def widened(b: Builder, x: Value) -> Value:
    """x in f32 if it is narrower: where intermediate results would overflow or cancel in half precision."""
    return b.cast(x, dtype=F32) if x.type.dtype.is_float and x.type.dtype.bits < F32.bits else x


def narrowed(b: Builder, x: Value, dtype: DType) -> Value:
    """x back in the dtype it had before `widened`."""
    return x if x.type.dtype == dtype else b.cast(x, dtype=dtype)


class Binary(Op):
    """Two operands of one dtype, broadcast as NumPy does."""

    kinds: ClassVar[tuple[str, ...]] = NUMERIC

    def infer(self, x: TensorType, y: TensorType) -> TensorType:
        """The broadcast shape, the common dtype."""
        same_dtype(x, y)
        require_kind(x, self.kinds, self.name)
        return TensorType(x.dtype, broadcast(x.shape, y.shape))

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Equal shapes, broadcasting both ways, scalars, nothing, integers."""
        yield sample("f32[2,3]", "f32[2,3]")
        yield sample("f32[4,1,3]", "f32[2,1]")
        yield sample("f64[]", "f64[3]")
        yield sample("bf16[3]", "bf16[3]")
        yield sample("f32[0,3]", "f32[3]")
        if "int" in cls.kinds:
            yield sample("i32[2,3]", "i32[3]")
            yield sample("u8[4]", "u8[4]")


class Unary(Op):
    """One operand; the result has its type."""

    kinds: ClassVar[tuple[str, ...]] = NUMERIC
    domain: ClassVar[tuple[float | None, float | None]] = (None, None)

    def infer(self, x: TensorType) -> TensorType:
        """The operand's type."""
        require_kind(x, self.kinds, self.name)
        return x

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Several ranks and dtypes, within the domain."""
        low, high = cls.domain
        for type in ("f32[2,3]", "f64[]", "f16[4,1]", "f32[0]"):
            yield sample(operand(type, low=low, high=high))
        if "int" in cls.kinds:
            yield sample("i32[5]")
        if "complex" in cls.kinds:
            yield sample("c64[3]")

    @classmethod
    def guesses(cls, root: Node) -> Iterable[Guess]:
        """The type of the result, and settings as in the samples."""
        if cls.is_composite():
            yield from with_settings(cls, root.results[0].type)


# ---- two operands -------------------------------------------------------------------------------------


class Add(Binary, name="add", commutative=True, associative=True, pointwise=True):
    """x + y. Integers wrap."""

    def reference(self, m: Arithmetic, x: Array, y: Array) -> Array:
        """Sum."""
        return x + y


class Sub(Binary, name="sub", pointwise=True):
    """x − y. Integers wrap."""

    def reference(self, m: Arithmetic, x: Array, y: Array) -> Array:
        """Difference."""
        return x - y


class Mul(Binary, name="mul", commutative=True, associative=True, pointwise=True):
    """x · y. Integers wrap."""

    def reference(self, m: Arithmetic, x: Array, y: Array) -> Array:
        """Product."""
        return x * y


class Nonzero(Binary):
    """Divisions: samples keep the second operand away from zero."""

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Positive and negative divisors."""
        yield sample("f32[2,3]", operand("f32[2,3]", low=0.5, high=2.0))
        yield sample("f32[4,1,3]", operand("f32[2,1]", low=-2.0, high=-0.5))
        yield sample("f64[]", operand("f64[3]", low=0.5, high=2.0))
        yield sample("f16[3]", operand("f16[3]", low=0.5, high=2.0))
        yield sample("i32[2,3]", operand("i32[3]", values=(-3, 2, 7)))
        yield sample("i64[4]", operand("i64[1]", values=(-2,)))
        yield sample("u8[4]", operand("u8[4]", low=1, high=9))


class Div(Nonzero, name="div", pointwise=True):
    """x / y. Of integers, the quotient truncated toward zero, and zero where y is zero."""

    def reference(self, m: Arithmetic, x: Array, y: Array) -> Array:
        """Quotient."""
        return m.divide(x, y)


class Remainder(Nonzero, name="remainder", pointwise=True):
    """x − y·⌊x/y⌋, with the sign of the divisor, as Python's %. Of integers, zero where y is zero."""

    kinds = REAL

    def reference(self, m: Arithmetic, x: Array, y: Array) -> Array:
        """NumPy's remainder."""
        return m.special2("remainder", x, y)


class Fmod(Nonzero, name="fmod", pointwise=True):
    """x − y·trunc(x/y), with the sign of the dividend, as C's fmod. Of integers, zero where y is zero."""

    kinds = REAL

    def reference(self, m: Arithmetic, x: Array, y: Array) -> Array:
        """NumPy's fmod."""
        return m.special2("fmod", x, y)


class FloorDivide(Nonzero, name="floor_divide", pointwise=True):
    """⌊x / y⌋ of the exact quotient, as Python's //. Of floats x / y where y is zero; of integers zero.

    The quotient is (x − fmod(x, y)) / y, so that 1 // 0.1 is 9: the double 0.1 is a little more than a tenth.
    """

    kinds = REAL

    def reference(self, m: Arithmetic, x: Array, y: Array) -> Array:
        """The truncated quotient, one less where a remainder has the other sign than the divisor."""
        left = m.special2("fmod", x, y)
        whole = m.divide(x - left, y)
        quotient = m.where((left != 0) & ((left < 0) != (y < 0)), whole - 1, whole)
        if not m.is_real(x):
            return quotient
        return m.where(y == 0, m.divide(x, y), m.special("rint", quotient))

    def decompose(self, b: Builder, x: Value, y: Value) -> Value:
        """The same from fmod, which every framework has."""
        zero = b.const(0, x.type.dtype)
        left = b.fmod(x, y)
        whole = b.div(b.sub(x, left), y)
        crosses = b.logical_and(b.not_equal(left, zero), b.logical_xor(b.less(left, zero), b.less(y, zero)))
        quotient = b.where(crosses, b.sub(whole, b.const(1, x.type.dtype)), whole)
        if x.type.dtype.is_integer:
            return quotient
        return b.where(b.equal(y, zero), b.div(x, y), b.round(quotient))


class Power(Binary, name="power", pointwise=True):
    """x^y. Negative exponents of integers give 1, ±1 or 0, the reciprocal truncated."""

    def reference(self, m: Arithmetic, x: Array, y: Array) -> Array:
        """NumPy's power."""
        return m.power(x, y)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Positive bases, integer exponents of any base, integers."""
        yield sample(operand("f32[2,3]", low=0.1, high=2.0), "f32[3]")
        yield sample("f64[2,3]", operand("f64[]", values=(2.0,)))
        yield sample("f32[2,3]", operand("f32[3]", values=(3.0, 1.0, 0.0)))
        yield sample(operand("f16[4]", low=0.1, high=2.0), operand("f16[]", values=(0.5,)))
        yield sample("i32[2,3]", operand("i32[3]", low=0, high=4))
        yield sample(operand("i64[4]", values=(1, -1, 2, -1)), operand("i64[4]", values=(-2, -3, -1, -2)))


class Maximum(Binary, name="maximum", commutative=True, associative=True, pointwise=True):
    """The larger of x and y; NaN where either is."""

    kinds = REAL

    def reference(self, m: Arithmetic, x: Array, y: Array) -> Array:
        """NumPy's maximum."""
        return m.maximum(x, y)


class Minimum(Binary, name="minimum", commutative=True, associative=True, pointwise=True):
    """The smaller of x and y; NaN where either is."""

    kinds = REAL

    def reference(self, m: Arithmetic, x: Array, y: Array) -> Array:
        """NumPy's minimum."""
        return m.minimum(x, y)


class Atan2(Binary, name="atan2", pointwise=True):
    """The angle of the point (y, x) in (−π, π]: atan2(x, y) has the ordinate as its first operand."""

    kinds = ("float",)

    def reference(self, m: Arithmetic, x: Array, y: Array) -> Array:
        """NumPy's arctan2."""
        return m.special2("arctan2", x, y)


class Hypot(Binary, name="hypot", commutative=True, pointwise=True):
    """√(x² + y²)."""

    kinds = ("float",)

    def reference(self, m: Arithmetic, x: Array, y: Array) -> Array:
        """By the definition; squares of f32 do not leave the range of float64."""
        return m.sqrt(x * x + y * y)

    def decompose(self, b: Builder, x: Value, y: Value) -> Value:
        """sqrt(x·x + y·y)."""
        return b.sqrt(b.add(b.mul(x, x), b.mul(y, y)))


# ---- one operand --------------------------------------------------------------------------------------


class Neg(Unary, name="neg", pointwise=True):
    """−x. Integers wrap."""

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """Negation."""
        return -x


class Abs(Unary, name="abs", pointwise=True):
    """|x|."""

    kinds = REAL

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """Absolute value."""
        return m.absolute(x)


class Sign(Unary, name="sign", pointwise=True):
    """−1, 0 or 1; NaN stays NaN."""

    kinds = REAL

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's sign."""
        return m.special("sign", x)


class Rounding(Unary):
    """Functions onto the whole numbers; of floats only, integers are whole already."""

    kinds = ("float",)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Ties among them."""
        yield from super().samples()
        yield sample(operand("f32[8]", values=(-2.5, -1.5, -0.5, -0.2, 0.5, 1.5, 2.5, 2.7)))


class Floor(Rounding, name="floor", pointwise=True):
    """The largest whole number not above x."""

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's floor."""
        return m.special("floor", x)


class Ceil(Rounding, name="ceil", pointwise=True):
    """The smallest whole number not below x."""

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's ceil."""
        return m.special("ceil", x)


class Round(Rounding, name="round", pointwise=True):
    """The nearest whole number, ties to the even one."""

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's rint."""
        return m.special("rint", x)


class Trunc(Rounding, name="trunc", pointwise=True):
    """x without its fraction."""

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's trunc."""
        return m.special("trunc", x)


class Reciprocal(Unary, name="reciprocal", pointwise=True):
    """1 / x."""

    kinds = ("float", "complex")
    domain = (0.5, 2.0)

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """Quotient."""
        return 1 / x

    def decompose(self, b: Builder, x: Value) -> Value:
        """div(1, x)."""
        return b.div(b.const(1.0, x.type.dtype), x)

    def as_power(self, b: Builder, x: Value) -> Value:
        """x^−1."""
        return b.power(x, -1.0)

    spellings = (as_power,)


class Square(Unary, name="square", pointwise=True):
    """x²."""

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """Product."""
        return x * x

    def decompose(self, b: Builder, x: Value) -> Value:
        """mul(x, x)."""
        return b.mul(x, x)

    def as_power(self, b: Builder, x: Value) -> Value:
        """x^2."""
        return b.power(x, b.const(2, x.type.dtype))

    spellings = (as_power,)


class Clip(Unary, name="clip", pointwise=True):
    """min(max(x, low), high); None leaves a side open. Where low > high the result is high, as torch.clamp has it."""

    kinds = REAL

    low: float | None = None
    high: float | None = None

    def infer(self, x: TensorType) -> TensorType:
        """The operand's type; bounds of integers are integers of their dtype."""
        require_kind(x, self.kinds, self.name)
        for bound in (self.low, self.high):
            if bound is not None:
                plain_number(bound, x.dtype)
        return x

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NaN passes through."""
        if self.low is not None:
            x = m.maximum(x, number_like(m, self.low, x))
        return x if self.high is None else m.minimum(x, number_like(m, self.high, x))

    def decompose(self, b: Builder, x: Value) -> Value:
        """minimum(maximum(x, low), high)."""
        dtype = x.type.dtype
        if self.low is not None:
            x = b.maximum(x, b.const(plain_number(self.low, dtype), dtype))
        return x if self.high is None else b.minimum(x, b.const(plain_number(self.high, dtype), dtype))

    def as_choices(self, b: Builder, x: Value) -> Value:
        """where(x > high, high, where(x < low, low, x))."""
        if self.low is None or self.high is None or self.low > self.high:
            return self.decompose(b, x)
        low, high = (b.const(plain_number(bound, x.type.dtype), x.type.dtype) for bound in (self.low, self.high))
        return b.where(b.greater(x, high), high, b.where(b.less(x, low), low, x))

    spellings = (as_choices,)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Both bounds, one, and none; crossed ones."""
        yield sample("f32[2,3]", low=-0.5, high=0.7)
        yield sample("f64[5]", low=0.0)
        yield sample("f16[5]", high=0.25)
        yield sample("i32[5]", low=-1, high=2)
        yield sample("f32[3]", low=1.0, high=-1.0)

    @classmethod
    def guesses(cls, root: Node) -> Iterable[Guess]:
        """Both bounds, then one."""
        x = root.results[0].type
        return guess(x), guess(x, high=None), guess(x, low=None)


class NanToNum(Unary, name="nan_to_num", pointwise=True):
    """x with NaN and the two infinities replaced by the numbers given."""

    kinds = ("float",)

    nan: float = 0.0
    positive: float
    negative: float

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """Three choices."""
        infinite = m.special("isinf", x)
        x = m.where(infinite & (x > 0), self.positive, m.where(infinite & (x < 0), self.negative, x))
        return m.where(m.special("isnan", x), self.nan, x)

    def decompose(self, b: Builder, x: Value) -> Value:
        """where(isnan(x), nan, …)."""
        dtype = x.type.dtype
        positive, negative, nan = (b.const(v, dtype) for v in (self.positive, self.negative, self.nan))
        finite = b.where(b.isinf(x, positive=False), negative, x)
        finite = b.where(b.isinf(x, negative=False), positive, finite)
        return b.where(b.isnan(x), nan, finite)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Ordinary numbers; tests against frameworks bring NaN and infinities."""
        yield sample("f32[2,3]", positive=3.0, negative=-4.0)
        yield sample("f64[]", nan=1.5, positive=1e300, negative=-1e300)


class Cast(Op, name="cast", pointwise=True, exact_field=False):
    """x as another dtype: floats to integers truncate toward zero, anything to bool asks whether it is not zero.

    Complex to real drops the imaginary part. Strings are refused: their text depends on who prints it.
    """

    dtype: DType

    def infer(self, x: TensorType) -> TensorType:
        """The operand's shape."""
        require("string" not in (x.dtype.kind, self.dtype.kind), f"no cast from {x.dtype} to {self.dtype}")
        return x.with_dtype(self.dtype)

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """The arithmetic's cast: precision of floats is only modelled by the native one."""
        return m.cast(x, self.dtype)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Between floats, to and from integers, to and from bool, to complex."""
        yield sample("f32[2,3]", dtype=BF16)
        yield sample("bf16[3]", dtype=F64)
        yield sample("f64[]", dtype=F32)
        yield sample("i32[2,3]", dtype=F32)
        yield sample("bool[4]", dtype=F16)
        yield sample("i64[4]", dtype=BOOL)
        yield sample("bool[4]", dtype=I64)
        yield sample(operand("f32[6]", values=(-2.7, -1.0, -0.5, 0.5, 1.9, 100.0)), dtype=I32)
        yield sample("f32[0]", dtype=BOOL)
        yield sample("i64[3]", dtype=U8)
        yield sample("i4[3]", dtype=I8)
        yield sample("f32[3]", dtype=C64)
