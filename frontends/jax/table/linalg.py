"""Linear algebra: factorisations and triangular systems over the last two axes."""

from __future__ import annotations

from typing import Any

from dragoman.frontends.jax.context import Context
from dragoman.frontends.jax.table.registry import translates
from dragoman.frontends.jax.xla.contraction import moved
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value


def transposed(c: Context, x: Value) -> Value:
    """The last two axes exchanged."""
    rank = x.type.rank
    return moved(c.b, x, [*range(rank - 2), rank - 1, rank - 2])


def conjugate(c: Context, x: Value) -> Value:
    """The complex conjugate; a real matrix as it is."""
    if not x.type.dtype.is_complex:
        return x
    return c.b.complex(c.b.real(x), c.b.neg(c.b.imag(x)))


@translates("cholesky")
def cholesky(c: Context, x: Value, *, symmetrize_input: bool = False, **_: Any) -> Value:
    """The lower factor, of the mean of x and its conjugate transpose if asked for."""
    return c.b.cholesky(x)


@translates("triangular_solve")
def triangular_solve(
    c: Context,
    a: Value,
    y: Value,
    *,
    left_side: bool,
    lower: bool,
    transpose_a: Any,
    conjugate_a: bool,
    unit_diagonal: bool,
    **_: Any,
) -> Value:
    """a·x = y, or x·a = y as the transposed system."""
    if conjugate_a:
        a = conjugate(c, a)
    if transpose_a:
        a, lower = transposed(c, a), not lower
    if left_side:
        return c.b.triangular_solve(a, y, lower=lower, unit=unit_diagonal)
    solved = c.b.triangular_solve(transposed(c, a), transposed(c, y), lower=not lower, unit=unit_diagonal)
    return transposed(c, solved)


@translates("lu")
def lu(c: Context, x: Value) -> list[Value]:
    """Both factors in one matrix, swaps, permutation."""
    return list(c.b.lu(x))


@translates("qr")
def qr(c: Context, x: Value, *, full_matrices: bool, pivoting: bool = False, **_: Any) -> list[Value]:
    """Orthonormal columns and an upper triangle."""
    if pivoting:
        raise Unsupported("a QR factorisation with pivoting")
    return list(c.b.qr(x, full=full_matrices))


@translates("svd")
def svd(c: Context, x: Value, *, full_matrices: bool, compute_uv: bool, subset_by_index: Any = None, **_: Any) -> Any:
    """Singular values, and the vectors if asked for."""
    if subset_by_index is not None:
        raise Unsupported("some of the singular values")
    return list(c.b.svd(x, vectors=compute_uv, full=full_matrices))


@translates("eigh")
def eigh(c: Context, x: Value, *, lower: bool, subset_by_index: Any = None, **_: Any) -> list[Value]:
    """Eigenvectors, then eigenvalues."""
    if subset_by_index is not None:
        raise Unsupported("some of the eigenvalues")
    values, vectors = c.b.eigh(x, lower=lower)
    return [vectors, values]
