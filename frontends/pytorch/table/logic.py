"""Comparisons, logic and bits. What torch calls true is a bool in the IR; other dtypes are compared with zero first."""

from __future__ import annotations

from dragoman.frontends.pytorch.context import Context, Operand
from dragoman.frontends.pytorch.table.registry import translates
from dragoman.ir.graph import Value
from dragoman.ir.types import BOOL, U8


def _comparison(name: str, *operators: str) -> None:
    """A comparison of promoted operands."""

    def translate(c: Context, x: Operand, y: Operand) -> Value:
        a, d = c.promote(x, y)
        if a.type.dtype == BOOL and "equal" != name != "not_equal":  # false is less than true
            a, d = c.cast(a, U8), c.cast(d, U8)
        return getattr(c.b, name)(a, d)

    translate.__name__, translate.__doc__ = name, f"{name}(x, y)."
    translates(*(f"aten.{o}.{kind}" for o in operators for kind in ("Tensor", "Scalar")))(translate)


_comparison("equal", "eq")
_comparison("not_equal", "ne", "not_equal")
_comparison("less", "lt", "less")
_comparison("less_equal", "le", "less_equal")
_comparison("greater", "gt", "greater")
_comparison("greater_equal", "ge", "greater_equal")


def _logical(name: str, *operators: str) -> None:
    def translate(c: Context, x: Operand, y: Operand) -> Value:
        return getattr(c.b, name)(c.value(x, BOOL), c.value(y, BOOL))

    translates(*(f"aten.{o}.default" for o in operators))(translate)


_logical("logical_and", "logical_and")
_logical("logical_or", "logical_or")
_logical("logical_xor", "logical_xor")


@translates("aten.logical_not.default")
def logical_not(c: Context, x: Value) -> Value:
    """Whether x is zero."""
    return c.b.logical_not(c.cast(x, BOOL))


def _bitwise(name: str, logical: str, operators: tuple[str, ...]) -> None:
    """Bits of integers; of booleans, logic."""

    def translate(c: Context, x: Operand, y: Operand) -> Value:
        a, d = c.promote(x, y)
        return getattr(c.b, logical if a.type.dtype == BOOL else name)(a, d)

    kinds = ("Tensor", "Scalar", "Scalar_Tensor")
    translates(*(f"aten.{o}.{kind}" for o in operators for kind in kinds))(translate)


_bitwise("bitwise_and", "logical_and", ("bitwise_and", "__and__", "__iand__"))
_bitwise("bitwise_or", "logical_or", ("bitwise_or", "__or__", "__ior__"))
_bitwise("bitwise_xor", "logical_xor", ("bitwise_xor", "__xor__", "__ixor__"))


@translates("aten.bitwise_not.default")
def bitwise_not(c: Context, x: Value) -> Value:
    """Every bit turned; of a boolean, not."""
    return c.b.logical_not(x) if x.type.dtype == BOOL else c.b.bitwise_not(x)


def _shift(name: str, operators: tuple[str, ...]) -> None:
    def translate(c: Context, x: Operand, y: Operand) -> Value:
        return getattr(c.b, name)(*c.promote(x, y))

    kinds = ("Tensor", "Scalar", "Tensor_Scalar", "Scalar_Tensor")
    translates(*(f"aten.{o}.{kind}" for o in operators for kind in kinds))(translate)


_shift("shift_left", ("bitwise_left_shift", "__lshift__", "__ilshift__"))
_shift("shift_right", ("bitwise_right_shift", "__rshift__", "__irshift__"))


def _question(operator: str, name: str, otherwise: bool, **attributes: bool) -> None:
    """A question about NaN and infinity, which integers are not."""

    def translate(c: Context, x: Value) -> Value:
        if not x.type.dtype.is_float:
            return c.full(x.type.shape, otherwise, BOOL)
        return getattr(c.b, name)(x, **attributes)

    translates(f"aten.{operator}.default")(translate)


_question("isnan", "isnan", False)
_question("isinf", "isinf", False)
_question("isposinf", "isinf", False, negative=False)
_question("isneginf", "isinf", False, positive=False)
_question("isfinite", "isfinite", True)
