"""Symbolic integer dimensions: `batch`, `2*seq + 1`, `floor(h/2)`, in one canonical form.

The face of three modules: `dim_expr` (the form and its arithmetic), `dim_questions` (values, symbols, equality) and
`dim_text` (reading). Nothing here evaluates text.
"""

from __future__ import annotations

from collections.abc import Iterable

from dragoman.ir.dim_expr import (
    UNBOUNDED,
    Call,
    Dim,
    DimExpr,
    Monomial,
    Symbol,
    bounds,
    call,
    ceildiv,
    floordiv,
    maximum,
    minimum,
    mod,
    terms_of,
)
from dragoman.ir.dim_questions import atoms, evaluate, same, substitute, symbols
from dragoman.ir.dim_text import parse_dim

__all__ = [
    "UNBOUNDED",
    "Call",
    "Dim",
    "DimExpr",
    "Monomial",
    "Symbol",
    "atoms",
    "bounds",
    "call",
    "ceildiv",
    "evaluate",
    "floordiv",
    "is_one",
    "maximum",
    "minimum",
    "mod",
    "parse_dim",
    "product",
    "same",
    "substitute",
    "symbols",
    "terms_of",
]


def is_one(dim: Dim) -> bool:
    """Whether `dim` is the number 1 (a symbol that may be 1 is not)."""
    return isinstance(dim, int) and dim == 1


def product(dims: Iterable[Dim]) -> Dim:
    """The product of dims; 1 for none."""
    result: Dim = 1
    for d in dims:
        result = result * d
    return result
