"""Arrays of z3 terms: real numbers (`dragoman.passes.smt.terms`), z3 Ints or z3 Bools, one kind in each array.

Owns how they behave under NumPy's operators and under the NumPy functions that ops apply to integers and booleans.
What would need the values of unknowns raises `Inexact`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import z3

from dragoman.ir.errors import Inexact
from dragoman.passes.smt.terms import Real, choose

if TYPE_CHECKING:
    from dragoman.passes.smt.arithmetic import Symbolic

# NumPy functions that ops apply to booleans and integers directly, and that only move elements.
_MOVES = frozenset(
    {"broadcast_to", "concatenate", "expand_dims", "flip", "moveaxis", "repeat", "reshape", "roll", "squeeze", "stack",
     "swapaxes", "take", "tile", "transpose"}
)  # fmt: skip
_UFUNCS: dict[str, str] = {
    "add": "__add__", "subtract": "__sub__", "multiply": "__mul__", "negative": "__neg__", "equal": "__eq__",
    "not_equal": "__ne__", "less": "__lt__", "less_equal": "__le__", "greater": "__gt__", "greater_equal": "__ge__",
    "logical_and": "__and__", "logical_or": "__or__", "logical_xor": "__xor__", "logical_not": "__invert__",
    "bitwise_and": "__and__", "bitwise_or": "__or__", "bitwise_xor": "__xor__", "invert": "__invert__",
}  # fmt: skip
_SWAPPED = {"__lt__": "__gt__", "__gt__": "__lt__", "__le__": "__ge__", "__ge__": "__le__", "__sub__": "__rsub__"}


class TermArray:
    """An array of reals, integers or booleans as terms; behaves as a NumPy array under arithmetic and indexing."""

    __slots__ = ("dtype", "kind", "m", "terms")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, m: Symbolic, terms: Any, kind: str, dtype: Any = None) -> None:
        self.m = m
        self.terms = np.asarray(terms, dtype=object)
        self.kind = kind  # real, int or bool
        self.dtype = np.dtype(dtype or {"real": np.float64, "int": np.int64, "bool": np.bool_}[kind])

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents."""
        return tuple(self.terms.shape)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return int(self.terms.ndim)

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(self.terms.size)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> TermArray:
        return self.m.move(lambda a: a[index], self)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise Inexact("it needs the values of what is unknown here")

    def astype(self, dtype: Any, **_: Any) -> TermArray:
        """Integers do not wrap: another width is the same numbers."""
        to = np.dtype(dtype)
        kind = {"f": "real", "b": "bool", "i": "int", "u": "int"}.get(to.kind)
        if kind != self.kind:
            raise Inexact(f"a conversion from {self.kind} to {to}")
        return TermArray(self.m, self.terms, self.kind, to)

    def reshape(self, *shape: Any) -> TermArray:
        """As NumPy's."""
        return self.m.move(lambda a: a.reshape(*shape), self)

    def any(self, axis: Any = None, keepdims: bool = False) -> TermArray:
        """Whether any is true."""
        return self.m.fold(lambda a, b: flag(z3.Or(a, b)), self, axis, keepdims, False)

    def all(self, axis: Any = None, keepdims: bool = False) -> TermArray:
        """Whether all are true."""
        return self.m.fold(lambda a, b: flag(z3.And(a, b)), self, axis, keepdims, True)

    def argmax(self, axis: int | None = None, keepdims: bool = False) -> TermArray:
        """The first place of a truth along an axis."""
        if self.kind != "bool" or axis is None:
            raise Inexact("the place of an extreme of unknown numbers")
        rows = np.moveaxis(self.terms, axis, 0)
        found = np.full(rows.shape[1:], z3.IntVal(0), dtype=object)
        for place in range(len(rows) - 1, -1, -1):
            found = np.asarray(pairs(lambda hit, later, at=place: z3.If(hit, z3.IntVal(at), later))(rows[place], found))
        return TermArray(self.m, np.expand_dims(found, axis) if keepdims else found, "int")

    # ---- operators: NumPy must hand mixed operations to this class ---------------------------------------

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        name = _UFUNCS.get(ufunc.__name__)
        if method != "__call__" or name is None or kwargs:
            if ufunc.__name__ in ("true_divide", "divide") and method == "__call__":
                return self.m.divide(*inputs)
            if ufunc.__name__ == "power" and method == "__call__":
                return self.m.power(*inputs)
            raise Inexact(f"NumPy's {ufunc.__name__} has no meaning over terms")
        if isinstance(inputs[0], TermArray):
            return getattr(inputs[0], name)(*inputs[1:])
        return getattr(inputs[1], _SWAPPED.get(name, name))(inputs[0])

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        name = function.__name__
        if name in _MOVES:
            return self._moved(function, args, kwargs)
        if name in ("any", "all", "argmax"):
            return getattr(args[0], name)(*args[1:], **kwargs)
        if name == "where" and len(args) == 3:
            return self.m.where(*args)
        raise Inexact(f"NumPy's {name} has no meaning over terms")

    def _moved(self, function: Any, args: Any, kwargs: Any) -> Any:
        if isinstance(args[0], (list, tuple)):
            return self.m.move(lambda *a: function(a, *args[1:], **kwargs), *args[0])
        return self.m.move(lambda a: function(a, *args[1:], **kwargs), args[0])

    def _numeric(self, other: Any, function: Callable[[Any, Any], Any]) -> TermArray:
        return self.m.pointwise(function, self, other)

    def __add__(self, other: Any) -> TermArray:
        return self._numeric(other, lambda a, b: a + b)

    __radd__ = __add__

    def __sub__(self, other: Any) -> TermArray:
        return self._numeric(other, lambda a, b: a - b)

    def __rsub__(self, other: Any) -> TermArray:
        return self._numeric(other, lambda a, b: b - a)

    def __mul__(self, other: Any) -> TermArray:
        return self._numeric(other, lambda a, b: a * b)

    __rmul__ = __mul__

    def __neg__(self) -> TermArray:
        return TermArray(self.m, each(lambda a: -a)(self.terms), self.kind, self.dtype)

    def __truediv__(self, other: Any) -> TermArray:
        return self.m.divide(self, other)

    def __rtruediv__(self, other: Any) -> TermArray:
        return self.m.divide(other, self)

    def __pow__(self, exponent: Any) -> TermArray:
        return self.m.power(self, exponent)

    def __rpow__(self, base: Any) -> TermArray:
        return self.m.power(base, self)

    def _logic(self, other: Any, function: Callable[[Any, Any], Any]) -> TermArray:
        if self.kind != "bool":
            raise Inexact("the bits of integers")
        return self.m.pointwise(lambda a, b: flag(function(a, b)), self, other, result="bool")

    def __and__(self, other: Any) -> TermArray:
        return self._logic(other, z3.And)

    __rand__ = __and__

    def __or__(self, other: Any) -> TermArray:
        return self._logic(other, z3.Or)

    __ror__ = __or__

    def __xor__(self, other: Any) -> TermArray:
        return self._logic(other, z3.Xor)

    __rxor__ = __xor__

    def __invert__(self) -> TermArray:
        if self.kind != "bool":
            raise Inexact("the bits of integers")
        return TermArray(self.m, each(z3.Not)(self.terms), "bool")

    def _compare(self, other: Any, relation: Callable[[Any, Any], Any]) -> TermArray:
        return self.m.pointwise(lambda a, b: related(a, b, relation), self, other, result="bool")

    def __lt__(self, other: Any) -> TermArray:
        return self._compare(other, lambda a, b: a < b)

    def __le__(self, other: Any) -> TermArray:
        return self._compare(other, lambda a, b: a <= b)

    def __gt__(self, other: Any) -> TermArray:
        return self._compare(other, lambda a, b: a > b)

    def __ge__(self, other: Any) -> TermArray:
        return self._compare(other, lambda a, b: a >= b)

    def __eq__(self, other: object) -> Any:
        return self._compare(other, lambda a, b: a == b)

    def __ne__(self, other: object) -> Any:
        return self._compare(other, lambda a, b: a != b)

    def __abs__(self) -> TermArray:
        return self.m.absolute(self)


def each(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function of one element on a whole array."""
    return np.frompyfunc(function, 1, 1)


def pairs(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """A function of two elements on arrays that broadcast."""
    return np.frompyfunc(function, 2, 1)


def flag(term: Any) -> Any:
    """A truth as a z3 Bool."""
    return z3.BoolVal(term) if isinstance(term, (bool, np.bool_)) else term


def related(a: Any, b: Any, relation: Callable[[Any, Any], Any]) -> Any:
    """Whether a relation holds between two elements, as a z3 Bool."""
    return a.compared(b, relation) if isinstance(a, Real) else flag(relation(a, b))


def select(condition: Any, x: Any, y: Any) -> Any:
    """`x` where the condition holds, `y` elsewhere."""
    if isinstance(condition, (bool, np.bool_)):
        return x if condition else y
    return choose(condition, x, y) if isinstance(x, Real) else z3.If(condition, x, y)


def _key(x: Any) -> int:
    return x.term.get_id() if isinstance(x, Real) else x.get_id()


def larger(a: Any, b: Any) -> Any:
    """The larger of two elements; one form for max(a, b) and max(b, a)."""
    a, b = (a, b) if _key(a) <= _key(b) else (b, a)
    return select(related(a, b, lambda x, y: x >= y), a, b)


def smaller(a: Any, b: Any) -> Any:
    """The smaller of two elements; one form for either order."""
    a, b = (a, b) if _key(a) <= _key(b) else (b, a)
    return select(related(a, b, lambda x, y: x <= y), a, b)
