"""Custom calls to LAPACK, of which JAX promises that they stay: factorisations and triangular systems by name.

Parts of results that LAPACK leaves undefined are refused where something uses them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from dragoman.frontends.jax.context import Context
from dragoman.frontends.jax.stablehlo import table
from dragoman.frontends.jax.table.linalg import conjugate, transposed
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.types import I32, TensorType

_Types = tuple[TensorType, ...]
_Call = Callable[[Context, Any, list[Value], _Types], list[Value]]


def call_of(target: str) -> _Call | None:
    """The translation of a custom call by its target, None for one that is none of LAPACK's here."""
    found = re.fullmatch(r"lapack_[sdcz](\w+)_ffi", target)
    name = found[1] if found else ""
    return _CALLS.get({"heevd": "syevd"}.get(name, name))


def _letter(operation: Any, name: str) -> str:
    """A letter among the parameters: LAPACK's `uplo`, `side`, `diag`, …"""
    found = re.search(rf"\b{name} = (\d+) : ui8", str(table.attribute(operation, "mhlo.backend_config")))
    if found is None:
        raise Unsupported(f"{operation.name} without {name}")
    return chr(int(found[1]))


def _fine(c: Context, x: Value) -> Value:
    """The code that all went well, for each matrix."""
    zero = c.b.const(0, I32)
    batch = x.type.shape[:-2]
    return c.b.broadcast_to(zero, shape=batch) if batch else zero


def _potrf(c: Context, operation: Any, args: list[Value], types: _Types) -> list[Value]:
    """The lower factor, above it what was there; NaN where there is none."""
    (x,) = args
    if _letter(operation, "uplo") != "L":
        raise Unsupported("the upper factor of Cholesky")
    b = c.b
    rows, columns = (b.iota(size=n, dtype=I32) for n in x.type.shape[-2:])
    below = b.greater_equal(b.unsqueeze(rows, axes=(1,)), columns)
    return [b.where(below, b.cholesky(x), x), _fine(c, x)]


def _trsm(c: Context, operation: Any, args: list[Value], types: _Types) -> list[Value]:
    """a·x = y or x·a = y."""
    a, y = args
    lower = _letter(operation, "uplo") == "L"
    how = _letter(operation, "trans_x")
    unit = _letter(operation, "diag") == "U"
    if how == "C":
        a = conjugate(c, a)
    if how != "N":
        a, lower = transposed(c, a), not lower
    if _letter(operation, "side") == "L":
        return [c.b.triangular_solve(a, y, lower=lower, unit=unit)]
    solved = c.b.triangular_solve(transposed(c, a), transposed(c, y), lower=not lower, unit=unit)
    return [transposed(c, solved)]


def _getrf(c: Context, operation: Any, args: list[Value], types: _Types) -> list[Value]:
    """Both factors in one matrix, and with which row each was exchanged, from 1 on."""
    factors, swaps, _ = c.b.lu(args[0])
    return [factors, c.b.add(swaps, 1), _fine(c, args[0])]


def _syevd(c: Context, operation: Any, args: list[Value], types: _Types) -> list[Value]:
    """Eigenvectors, then eigenvalues."""
    values, vectors = c.b.eigh(args[0], lower=_letter(operation, "uplo") == "L")
    if _letter(operation, "mode") != "V":
        vectors = _undefined(operation, types, 0)
    return [vectors, values, _fine(c, args[0])]


def _gesdd(c: Context, operation: Any, args: list[Value], types: _Types) -> list[Value]:
    """What is left of the matrix, singular values, and the vectors of both sides."""
    (x,) = args
    mode = _letter(operation, "mode")
    rest = _undefined(operation, types, 0)
    if mode == "N":
        (values,) = c.b.svd(x, vectors=False, full=False)
        return [rest, values, *(_undefined(operation, types, i) for i in (2, 3)), _fine(c, x)]
    if mode not in ("S", "A"):
        raise Unsupported(f"gesdd with mode {mode}")
    values, left, right = c.b.svd(x, vectors=True, full=mode == "A")
    return [rest, values, left, right, _fine(c, x)]


def _undefined(operation: Any, types: _Types, index: int) -> Value:
    """A result that LAPACK leaves undefined and nothing uses. Raises Unsupported if something does."""
    if any(True for _ in operation.results[index].uses):
        raise Unsupported(
            f"result {index} of {operation.attributes['call_target_name']}, which LAPACK leaves undefined"
        )
    return Value(types[index])


_CALLS: dict[str, _Call] = {"potrf": _potrf, "trsm": _trsm, "getrf": _getrf, "syevd": _syevd, "gesdd": _gesdd}
