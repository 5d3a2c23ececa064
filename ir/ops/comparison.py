"""Pointwise comparisons, logic, choice, bits and the questions about NaN and infinity."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dragoman.ir.op import Arithmetic, Array, Op, Sample, TensorType, operand, require, same_dtype, sample
from dragoman.ir.ops.elementwise import REAL, Binary, require_kind
from dragoman.ir.types import BOOL, broadcast

if TYPE_CHECKING:
    from dragoman.ir.builder import Builder
    from dragoman.ir.graph import Value

# ---- comparisons --------------------------------------------------------------------------------------


class Comparison(Op):
    """Two operands of one dtype to bool."""

    ordered: ClassVar[bool] = False

    def infer(self, x: TensorType, y: TensorType) -> TensorType:
        """The broadcast shape, bool. Only real numbers have an order."""
        same_dtype(x, y)
        require(not self.ordered or x.dtype.kind in REAL, f"{self.name}: {x.dtype} has no order")
        return TensorType(BOOL, broadcast(x.shape, y.shape))

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Equal and unequal elements, broadcasting, integers."""
        yield sample(operand("f32[4]", values=(0.5, -1.0, 2.0, 0.0)), operand("f32[4]", values=(0.5, 1.0, -2.0, 0.0)))
        yield sample("f32[2,1]", "f32[3]")
        yield sample("f16[3]", "f16[]")
        yield sample(operand("i64[2,3]", low=0, high=2), operand("i64[3]", low=0, high=2))
        if not cls.ordered:
            yield sample("bool[4]", "bool[4]")


class Equal(Comparison, name="equal", commutative=True, pointwise=True):
    """x = y. NaN equals nothing."""

    def reference(self, m: Arithmetic, x: Array, y: Array) -> Array:
        """Comparison."""
        return x == y


class NotEqual(Comparison, name="not_equal", commutative=True, pointwise=True):
    """x ≠ y. NaN differs from everything."""

    def reference(self, m: Arithmetic, x: Array, y: Array) -> Array:
        """Comparison."""
        return x != y


class Less(Comparison, name="less", pointwise=True):
    """x < y."""

    ordered = True

    def reference(self, m: Arithmetic, x: Array, y: Array) -> Array:
        """Comparison."""
        return x < y


class LessEqual(Comparison, name="less_equal", pointwise=True):
    """x ≤ y."""

    ordered = True

    def reference(self, m: Arithmetic, x: Array, y: Array) -> Array:
        """Comparison."""
        return x <= y


class Greater(Comparison, name="greater", pointwise=True):
    """x > y."""

    ordered = True

    def reference(self, m: Arithmetic, x: Array, y: Array) -> Array:
        """Comparison."""
        return x > y


class GreaterEqual(Comparison, name="greater_equal", pointwise=True):
    """x ≥ y."""

    ordered = True

    def reference(self, m: Arithmetic, x: Array, y: Array) -> Array:
        """Comparison."""
        return x >= y


# ---- logic --------------------------------------------------------------------------------------------


class Logical(Binary):
    """Two booleans."""

    kinds = ("bool",)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """All four cases, broadcasting."""
        table = (
            operand("bool[4]", values=(False, False, True, True)),
            operand("bool[4]", values=(False, True, False, True)),
        )
        yield sample(*table)
        yield sample("bool[2,1]", "bool[3]")


class LogicalAnd(Logical, name="logical_and", commutative=True, associative=True, pointwise=True):
    """x ∧ y."""

    def reference(self, m: Arithmetic, x: Array, y: Array) -> Array:
        """Conjunction."""
        return x & y


class LogicalOr(Logical, name="logical_or", commutative=True, associative=True, pointwise=True):
    """x ∨ y."""

    def reference(self, m: Arithmetic, x: Array, y: Array) -> Array:
        """Disjunction."""
        return x | y


class LogicalXor(Logical, name="logical_xor", commutative=True, associative=True, pointwise=True):
    """x ≠ y of booleans."""

    def reference(self, m: Arithmetic, x: Array, y: Array) -> Array:
        """Exclusive disjunction."""
        return x ^ y


class LogicalNot(Op, name="logical_not", pointwise=True):
    """¬x."""

    def infer(self, x: TensorType) -> TensorType:
        """Bool to bool."""
        require(x.dtype == BOOL, f"{x.dtype} is not bool")
        return x

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """Negation."""
        return ~x

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Two ranks."""
        yield sample("bool[4]")
        yield sample("bool[2,1]")


# ---- choice ---------------------------------------------------------------------------------------------


class Where(Op, name="where", pointwise=True):
    """x where the condition holds, y elsewhere; the three broadcast."""

    def infer(self, condition: TensorType, x: TensorType, y: TensorType) -> TensorType:
        """The broadcast shape; x and y have one dtype, the condition is bool."""
        require(condition.dtype == BOOL, f"the condition is {condition.dtype}, not bool")
        same_dtype(x, y)
        return TensorType(x.dtype, broadcast(condition.shape, x.shape, y.shape))

    def reference(self, m: Arithmetic, condition: Array, x: Array, y: Array) -> Array:
        """Choice."""
        return m.where(condition, x, y)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Each operand broadcasting; several dtypes."""
        yield sample("bool[2,3]", "f32[2,3]", "f32[2,3]")
        yield sample("bool[3]", "f32[2,1]", "f32[]")
        yield sample("bool[]", "i64[2,3]", "i64[2,3]")
        yield sample("bool[2]", "bool[2]", "bool[2]")
        yield sample("bool[4,1]", "bf16[3]", "bf16[4,3]")


# ---- bits ---------------------------------------------------------------------------------------------


class Bitwise(Binary):
    """Two integers of one dtype; of booleans use the logical ops."""

    kinds = ("int", "uint")

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Signed and unsigned, broadcasting."""
        yield sample("i32[2,3]", "i32[3]")
        yield sample(operand("u8[5]", low=0, high=255), operand("u8[5]", low=0, high=255))
        yield sample("i64[]", "i64[2]")


class BitwiseAnd(Bitwise, name="bitwise_and", commutative=True, associative=True, pointwise=True):
    """Bits set in both."""

    def reference(self, m: Arithmetic, x: Array, y: Array) -> Array:
        """Conjunction."""
        return x & y


class BitwiseOr(Bitwise, name="bitwise_or", commutative=True, associative=True, pointwise=True):
    """Bits set in either."""

    def reference(self, m: Arithmetic, x: Array, y: Array) -> Array:
        """Disjunction."""
        return x | y


class BitwiseXor(Bitwise, name="bitwise_xor", commutative=True, associative=True, pointwise=True):
    """Bits set in one of them."""

    def reference(self, m: Arithmetic, x: Array, y: Array) -> Array:
        """Exclusive disjunction."""
        return x ^ y


class BitwiseNot(Op, name="bitwise_not", pointwise=True):
    """Every bit flipped."""

    def infer(self, x: TensorType) -> TensorType:
        """Integers of at least eight bits."""
        require_kind(x, ("int", "uint"), self.name)
        return x

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """Complement."""
        return ~x

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Signed and unsigned."""
        yield sample("i32[4]")
        yield sample(operand("u8[2,2]", low=0, high=255))


class Shift(Bitwise):
    """Shifts by 0 ≤ y < width; outside of that each framework differs, here all bits leave."""

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Within the width, and outside."""
        yield sample("i32[2,3]", operand("i32[3]", low=0, high=20))
        yield sample(operand("u8[5]", low=0, high=255), operand("u8[5]", values=(0, 1, 4, 7, 9)))
        yield sample(operand("i8[4]", values=(-128, -1, 3, 100)), operand("i8[]", values=(1,)))


def _out_of_range(x: Array, y: Array) -> Array:
    return (y < 0) | (y >= x.dtype.itemsize * 8)


class ShiftLeft(Shift, name="shift_left", pointwise=True):
    """x · 2^y in the width of the dtype; zero for y outside of it."""

    def reference(self, m: Arithmetic, x: Array, y: Array) -> Array:
        """NumPy's left_shift."""
        outside = _out_of_range(x, y)
        return np.where(outside, x.dtype.type(0), np.left_shift(x, np.where(outside, y.dtype.type(0), y)))


class ShiftRight(Shift, name="shift_right", pointwise=True):
    """⌊x / 2^y⌋: the sign bit is repeated. For y outside of the width, −1 for negative x and 0 otherwise."""

    def reference(self, m: Arithmetic, x: Array, y: Array) -> Array:
        """NumPy's right_shift."""
        outside = _out_of_range(x, y)
        last = x.dtype.type(x.dtype.itemsize * 8 - 1)
        shifted = np.right_shift(x, np.where(outside, last, y))
        return np.where(outside & (x >= 0), x.dtype.type(0), shifted)


# ---- NaN and infinity -----------------------------------------------------------------------------------


class Question(Op):
    """A float to bool."""

    def infer(self, x: TensorType) -> TensorType:
        """The operand's shape, bool."""
        require(x.dtype.is_float, f"{self.name} of {x.dtype}: only floats have NaN and infinities")
        return x.with_dtype(BOOL)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Ordinary numbers; tests against frameworks bring NaN and infinities."""
        yield sample("f32[2,3]")
        yield sample("f64[]")
        yield sample("bf16[4]")


class Isnan(Question, name="isnan", pointwise=True):
    """Whether x is not a number."""

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's isnan."""
        return m.special("isnan", x)


class Isinf(Question, name="isinf", pointwise=True):
    """Whether x is infinite, of the signs asked for."""

    positive: bool = True
    negative: bool = True

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's isinf and the sign."""
        infinite = m.special("isinf", x)
        if self.positive and self.negative:
            return infinite
        return infinite & ((x > 0) if self.positive else (x < 0) if self.negative else np.False_)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Each choice of signs."""
        yield from super().samples()
        yield sample("f32[3]", positive=False)
        yield sample("f32[3]", negative=False)
        yield sample("f32[3]", positive=False, negative=False)


class Isfinite(Question, name="isfinite", pointwise=True):
    """Whether x is neither NaN nor infinite."""

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """Neither."""
        return ~(m.special("isnan", x) | m.special("isinf", x))

    def decompose(self, b: Builder, x: Value) -> Value:
        """not (isnan or isinf)."""
        return b.logical_not(b.logical_or(b.isnan(x), b.isinf(x)))
