"""Scalars that are known only when the model runs, written as rank-0 values: `x.shape[0] ** -0.5`,
`lengths.max().item()`.

torch keeps them as sympy expressions; integers are computed in i64 and reals in f64, as Python would.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import sympy
from torch.utils._sympy import functions as theirs

from dragoman.frontends.pytorch.context import Number
from dragoman.frontends.pytorch.symints import Symbols
from dragoman.ir.builder import Builder
from dragoman.ir.dims import Dim
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.types import BOOL, F64, I64, DType


class Scalars:
    """Writes numbers. `read` holds the values of `.item()` by the symbol that torch gave each."""

    def __init__(self, builder: Builder, dims: Symbols) -> None:
        self._b = builder
        self._dims = dims
        self.read: dict[sympy.Basic, Value] = {}

    def is_dim(self, expression: Any) -> bool:
        """Whether an integer expression depends on sizes only, not on values read from tensors."""
        return not any(s in self.read for s in expression.free_symbols)

    def value(self, number: Number, dtype: DType) -> Value:
        """The number as a rank-0 value of a dtype."""
        result = self._write(number.expression)
        return result if result.type.dtype == dtype else self._b.cast(result, dtype=dtype)

    def _write(self, e: Any) -> Value:
        b = self._b
        if e in self.read:
            return self.read[e]
        if isinstance(e, sympy.logic.boolalg.Boolean) and not isinstance(e, sympy.Symbol):  # a symbol may be either
            return self._condition(e)
        if e.is_Float:
            return b.const(float(e), F64)
        if e.is_integer and self.is_dim(e) and (dim := self._as_dim(e)) is not None:
            return b.extent(dim, I64)
        for kind, write in _FUNCTIONS.items():
            if isinstance(e, kind):
                return write(b, *(self._write(a) for a in e.args))
        raise Unsupported(f"the number {e} uses {type(e).__name__}")

    def _as_dim(self, e: Any) -> Dim | None:
        try:
            return self._dims.dim(e)
        except Unsupported:  # rounded reals have no form as a dim, but are numbers all the same
            return None

    def _condition(self, e: Any) -> Value:
        b = self._b
        if e in (sympy.true, sympy.false):
            return b.const(bool(e), BOOL)
        if isinstance(e, sympy.Not):
            return b.logical_not(self._write(e.args[0]))
        if isinstance(e, (sympy.And, sympy.Or)):
            join = b.logical_and if isinstance(e, sympy.And) else b.logical_or
            return reduce(join, (self._write(a) for a in e.args))
        compare = _COMPARISONS.get(type(e))
        if compare is None:
            raise Unsupported(f"the condition {e} uses {type(e).__name__}")
        return getattr(b, compare)(*_alike(b, *(self._write(a) for a in e.args)))


def _alike(b: Builder, *xs: Value) -> list[Value]:
    real = any(x.type.dtype == F64 for x in xs)
    return [b.cast(x, dtype=F64) if real and x.type.dtype != F64 else x for x in xs]


def _fold(name: str) -> Callable[..., Value]:
    return lambda b, *xs: reduce(lambda x, y: getattr(b, name)(*_alike(b, x, y)), xs)


def _real(b: Builder, x: Value) -> Value:
    return x if x.type.dtype == F64 else b.cast(x, dtype=F64)


def _floordiv(b: Builder, x: Value, y: Value) -> Value:
    return b.floor_divide(*_alike(b, x, y))


def _rounded(name: str) -> Callable[..., Value]:
    return lambda b, x: b.cast(getattr(b, name)(_real(b, x)), dtype=I64)


def _whole(b: Builder, x: Value) -> Value:
    return b.cast(x, dtype=I64) if x.type.dtype == BOOL else x


_COMPARISONS: dict[Any, str] = {
    sympy.Eq: "equal",
    sympy.Ne: "not_equal",
    sympy.Lt: "less",
    sympy.Le: "less_equal",
    sympy.Gt: "greater",
    sympy.Ge: "greater_equal",
}
_FUNCTIONS: dict[Any, Callable[..., Value]] = {
    sympy.Add: _fold("add"),
    sympy.Mul: _fold("mul"),
    sympy.Pow: _fold("power"),
    theirs.PowByNatural: _fold("power"),
    theirs.FloatPow: lambda b, x, y: b.power(_real(b, x), _real(b, y)),
    theirs.FloorDiv: _floordiv,
    theirs.Mod: _fold("remainder"),
    theirs.PythonMod: _fold("remainder"),
    theirs.Max: _fold("maximum"),
    theirs.Min: _fold("minimum"),
    theirs.IntTrueDiv: lambda b, x, y: b.div(_real(b, x), _real(b, y)),
    theirs.FloatTrueDiv: lambda b, x, y: b.div(_real(b, x), _real(b, y)),
    theirs.ToFloat: _real,
    theirs.FloorToInt: _rounded("floor"),
    theirs.CeilToInt: _rounded("ceil"),
    theirs.TruncToInt: _rounded("trunc"),
    theirs.RoundToInt: _rounded("round"),
    theirs.TruncToFloat: lambda b, x: b.trunc(_real(b, x)),
    theirs.Identity: _whole,
    theirs.OpaqueUnaryFn_sqrt: lambda b, x: b.sqrt(_real(b, x)),
    theirs.OpaqueUnaryFn_exp: lambda b, x: b.exp(_real(b, x)),
    theirs.OpaqueUnaryFn_log: lambda b, x: b.log(_real(b, x)),
    theirs.OpaqueUnaryFn_sin: lambda b, x: b.sin(_real(b, x)),
    theirs.OpaqueUnaryFn_cos: lambda b, x: b.cos(_real(b, x)),
    theirs.OpaqueUnaryFn_tanh: lambda b, x: b.tanh(_real(b, x)),
}
