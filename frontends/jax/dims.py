"""Symbolic dims: those of the IR as JAX's while a model is traced, and JAX's in the traced program as those of the IR.

JAX takes every symbol for at least 1, and refuses a question about sizes that has no one answer in the range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from dragoman.frontends.dynamic import Spec
from dragoman.ir.dims import UNBOUNDED, Dim, DimExpr, Symbol, parse_dim
from dragoman.ir.errors import UsageError


class Dims:
    """The symbols of one import. `symbolic` gives JAX's dim for ours, `dim` ours for JAX's."""

    def __init__(self, symbols: Mapping[str, Symbol] | None = None) -> None:
        self._symbols: dict[str, Symbol] = dict(symbols or {})
        self._read: dict[str, Dim] = {}
        ranges = [text for s in self._symbols.values() for text in _constraints(s)]
        try:
            self._scope = jax.export.SymbolicScope(ranges)
        except ValueError as error:
            raise UsageError(f"JAX does not take these dynamic dimensions: {error}") from None

    def symbolic(self, shape: Sequence[Any], dims: Mapping[int, DimExpr]) -> tuple[Any, ...]:
        """A shape with some extents replaced by symbolic ones of JAX. Raises UsageError for a name it does not take."""
        if not dims:
            return tuple(shape)
        text = ", ".join(str(dims.get(axis, extent)) for axis, extent in enumerate(shape))
        try:
            return tuple(jax.export.symbolic_shape(f"({text},)", scope=self._scope))
        except ValueError as error:
            raise UsageError(f"JAX does not take the shape ({text}): {error}") from None

    def dim(self, extent: Any) -> Dim:
        """JAX's dimension as one of the IR."""
        if isinstance(extent, (DimExpr, int)):
            return extent
        if not jax.export.is_symbolic_dim(extent):
            return int(extent)
        text = str(extent)
        found = self._read.get(text)
        if found is None:
            found = self._read[text] = parse_dim(text, self._symbols)
        return found

    def shape(self, shape: Sequence[Any]) -> tuple[Dim, ...]:
        """A shape of JAX as one of the IR."""
        return tuple([self.dim(d) for d in shape])


def dims_of(spec: Spec) -> Dims:
    """The dims that a specification names."""
    return Dims(spec.symbols)


def _constraints(symbol: Symbol) -> list[str]:
    low = [f"{symbol.name} >= {symbol.low}"] if symbol.low > 1 else []
    return [*low, f"{symbol.name} <= {symbol.high}"] if symbol.high < UNBOUNDED else low
