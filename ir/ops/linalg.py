"""Linear algebra over the last two axes: factorisations, triangular systems, eigenvalues.

LAPACK computes the reference. Cholesky's factor and triangular systems are also spelled out column by column where the
extent is a small number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from dragoman.ir.arithmetic import numbers
from dragoman.ir.dims import minimum, same
from dragoman.ir.errors import Unsupported
from dragoman.ir.op import Arithmetic, Array, Op, Sample, TensorType, operand, require, same_dtype, sample
from dragoman.ir.types import C64, C128, F32, F64, I32

if TYPE_CHECKING:
    from dragoman.ir.builder import Builder
    from dragoman.ir.dims import Dim
    from dragoman.ir.graph import Value

_REAL = {F32: F32, F64: F64, C64: F32, C128: F64}
_MOST_COLUMNS = 64
_SPD = (4.0, 1.0, 0.5, 1.0, 5.0, 1.5, 0.5, 1.5, 6.0)  # symmetric, positive definite


def _matrix(x: TensorType, square: bool = False) -> tuple[Dim, Dim]:
    require(x.rank >= 2 and x.dtype in _REAL, f"{x} is no matrix of real or complex numbers")
    rows, columns = x.shape[-2:]
    require(not square or same(rows, columns), f"{x} is not square")
    return rows, columns


def _each(function: Callable[..., Any], x: Array, results: int) -> tuple[Array, ...]:
    """A function of one matrix applied to all, its results stacked."""
    x = numbers(x, "a factorisation")
    batch = x.shape[:-2]
    flat = x.reshape(math.prod(batch), *x.shape[-2:])
    found = [function(a) for a in flat] or [function(np.zeros(x.shape[-2:], x.dtype))]
    stacked = [np.stack([np.asarray(f[i]) for f in found]) for i in range(results)]
    return tuple(
        s.reshape(*batch, *s.shape[1:]) if flat.shape[0] else np.zeros((*batch, *s.shape[1:])) for s in stacked
    )


class Cholesky(Op, name="cholesky", exact_field=False):
    """The lower triangular L with L·Lᴴ = x, from the lower triangle of x; NaN where x is not positive definite.

    x: [*, n, n]   ->   [*, n, n]
    """

    def infer(self, x: TensorType) -> TensorType:
        """The type of x, which is square."""
        _matrix(x, square=True)
        return x

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """LAPACK's potrf, matrix by matrix."""
        return _each(lambda a: (_cholesky(a),), x, 1)[0]

    def decompose(self, b: Builder, x: Value) -> Value:
        """Column after column: its diagonal's root, what is below divided by it, the product taken from the rest."""
        n = _columns(x, x.type.shape[-1], self.name)
        rank = x.type.rank
        done: list[Value] = []
        left = x  # the matrix that is left, from this column on
        for k in range(n):
            corner = _part(b, left, (0, 1), (0, 1))
            root = b.sqrt(corner)
            column = b.div(_part(b, left, (0, n - k), (0, 1)), root)
            pads = tuple([(0, 0)] * (rank - 2) + [(k, 0), (0, 0)])
            done.append(b.pad(column, padding=pads) if k else column)
            if k + 1 < n:
                below = _part(b, column, (1, n - k), (0, 1))
                order = (*range(rank - 2), rank - 1, rank - 2)
                product = b.mul(below, b.transpose(below, perm=order))
                left = b.sub(_part(b, left, (1, n - k), (1, n - k)), product)
        return b.concat(*done, axis=rank - 1) if n else x

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """A positive definite matrix, two of them."""
        yield sample(operand("f32[3,3]", values=_SPD))
        yield sample(operand("f64[2,3,3]", values=_SPD * 2))


def _cholesky(x: Array) -> Array:
    lower = np.tril(x)
    whole = lower + np.conj(np.tril(x, -1)).T
    try:
        return np.linalg.cholesky(whole)
    except np.linalg.LinAlgError:
        return np.where(np.tri(len(x), dtype=bool), np.nan, 0).astype(x.dtype)


class TriangularSolve(Op, name="triangular_solve", exact_field=False):
    """x with a·x = y, where only one triangle of a counts. `unit`: its diagonal is taken for ones.

    a: [*, n, n]   y: [*, n, k]   ->   [*, n, k]
    """

    lower: bool = True
    unit: bool = False

    def infer(self, a: TensorType, y: TensorType) -> TensorType:
        """The type of y; leading axes are the same."""
        same_dtype(a, y)
        rows, _ = _matrix(a, square=True)
        require(y.rank == a.rank and same(y.shape[-2], rows), f"{a} and {y} do not fit")
        require(all(same(p, q) for p, q in zip(a.shape[:-2], y.shape[:-2], strict=True)), "leading axes differ")
        return y

    def reference(self, m: Arithmetic, a: Array, y: Array) -> Array:
        """Substitution, row after row."""
        a, y = numbers(a, "a triangular system"), numbers(y, "a triangular system")
        n = a.shape[-1]
        x = np.zeros(y.shape, np.result_type(a, y))
        for i in range(n) if self.lower else reversed(range(n)):
            known = slice(0, i) if self.lower else slice(i + 1, n)
            rest = y[..., i, :] - np.einsum("...k,...kj->...j", a[..., i, known], x[..., known, :])
            x[..., i, :] = rest if self.unit else rest / a[..., i, i, None]
        return x

    def decompose(self, b: Builder, a: Value, y: Value) -> Value:
        """Substitution, row after row: what is known times the row taken from the right-hand side."""
        n = _columns(a, a.type.shape[-1], self.name)
        rank = a.type.rank
        rows: dict[int, Value] = {}
        for i in range(n) if self.lower else reversed(range(n)):
            first, last = (0, i) if self.lower else (i + 1, n)
            row = _part(b, y, (i, i + 1), None)
            if last > first:
                known = b.concat(*(rows[j] for j in range(first, last)), axis=rank - 2)
                row = b.sub(row, b.matmul(_part(b, a, (i, i + 1), (first, last)), known))
            rows[i] = row if self.unit else b.div(row, _part(b, a, (i, i + 1), (i, i + 1)))
        return b.concat(*(rows[i] for i in range(n)), axis=rank - 2) if n else y

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Both triangles, ones on the diagonal, several matrices."""
        yield sample(operand("f32[3,3]", values=_SPD), "f32[3,2]")
        yield sample(operand("f64[2,3,3]", values=_SPD * 2), "f64[2,3,1]", lower=False)
        yield sample(operand("f64[3,3]", values=_SPD), "f64[3,2]", unit=True)


def _columns(x: Value, extent: Any, name: str) -> int:
    if not isinstance(extent, int) or extent > _MOST_COLUMNS:
        raise Unsupported(f"{name} of extent {extent}: at most {_MOST_COLUMNS} columns are spelled out")
    return extent


def _part(b: Builder, x: Value, rows: tuple[int, int] | None, columns: tuple[int, int] | None) -> Value:
    rank = x.type.rank
    cut = [(rank - 2, rows), (rank - 1, columns)]
    kept = [(a, r) for a, r in cut if r is not None and r != (0, x.type.shape[a])]
    if not kept:
        return x
    axes = tuple(a for a, _ in kept)
    return b.slice(x, axes=axes, starts=tuple(r[0] for _, r in kept), stops=tuple(r[1] for _, r in kept))


class Det(Op, name="det", exact_field=False):
    """The determinant of each matrix.

    x: [*, n, n]   ->   [*]
    """

    def infer(self, x: TensorType) -> TensorType:
        """Square matrices of real numbers."""
        _matrix(x, square=True)
        require(not x.dtype.is_complex, "determinants of complex matrices are not defined here")
        return x.with_shape(x.shape[:-2])

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """LAPACK's factorisation, by NumPy."""
        return np.linalg.det(numbers(x, "a determinant"))

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """One matrix and several."""
        yield sample("f32[3,3]")
        yield sample("f64[2,2,2]")


class Lu(Op, name="lu", exact_field=False):
    """P·x = L·U with partial pivoting: both factors in one matrix, the row swaps, and the permutation of rows.

    x: [*, m, n]   ->   [*, m, n], i32[*, min(m, n)], i32[*, m]
    """

    def infer(self, x: TensorType) -> tuple[TensorType, TensorType, TensorType]:
        """As it says."""
        rows, columns = _matrix(x)
        batch = x.shape[:-2]
        return x, TensorType(I32, (*batch, minimum(rows, columns))), TensorType(I32, (*batch, rows))

    def reference(self, m: Arithmetic, x: Array) -> tuple[Array, ...]:
        """LAPACK's getrf."""
        return _each(_lu, x, 3)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Square, tall and wide."""
        yield sample("f32[3,3]")
        yield sample("f64[2,4,3]")
        yield sample("f64[2,4]")


def _lu(x: Array) -> tuple[Array, Array, Array]:
    from scipy.linalg import lapack

    rows, columns = x.shape
    if not rows or not columns:
        return x, np.zeros(0, np.int32), np.arange(rows, dtype=np.int32)
    (getrf,) = lapack.get_lapack_funcs(("getrf",), (x,))
    factors, pivots, _ = getrf(x)
    order = np.arange(rows)
    for at, other in enumerate(pivots):
        order[[at, other]] = order[[other, at]]
    return factors, pivots.astype(np.int32), order.astype(np.int32)


class Qr(Op, name="qr", exact_field=False):
    """x = Q·R with orthonormal columns of Q and R upper triangular, by Householder's reflections.

    x: [*, m, n]   ->   [*, m, k], [*, k, n]; k is m if `full`, else min(m, n)
    """

    full: bool = False

    def infer(self, x: TensorType) -> tuple[TensorType, TensorType]:
        """As it says."""
        rows, columns = _matrix(x)
        k = rows if self.full else minimum(rows, columns)
        return x.with_shape((*x.shape[:-1], k)), x.with_shape((*x.shape[:-2], k, columns))

    def reference(self, m: Arithmetic, x: Array) -> tuple[Array, ...]:
        """LAPACK's geqrf, which decides the signs."""
        return _each(lambda a: np.linalg.qr(a, "complete" if self.full else "reduced"), x, 2)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Tall, wide, full."""
        yield sample("f32[4,3]")
        yield sample("f64[2,3,4]")
        yield sample("f64[4,2]", full=True)


class Svd(Op, name="svd", exact_field=False):
    """x = U·diag(s)·Vᴴ with singular values from the largest to the smallest.

    x: [*, m, n]   ->   s [*, k]; with `vectors` also u [*, m, k] and vᴴ [*, k, n]; k is min(m, n), or with `full` the
    vectors are square
    """

    vectors: bool = True
    full: bool = False

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:
        """As it says."""
        rows, columns = _matrix(x)
        batch, k = x.shape[:-2], minimum(rows, columns)
        values = TensorType(_REAL[x.dtype], (*batch, k))
        if not self.vectors:
            return (values,)
        left, right = (rows, columns) if self.full else (k, k)
        return values, x.with_shape((*batch, rows, left)), x.with_shape((*batch, right, columns))

    def reference(self, m: Arithmetic, x: Array) -> tuple[Array, ...]:
        """LAPACK's gesdd."""
        if not self.vectors:
            return _each(lambda a: (np.linalg.svd(a, compute_uv=False),), x, 1)

        def factors(a: Array) -> tuple[Array, ...]:
            u, s, v = np.linalg.svd(a, full_matrices=self.full)
            return s, u, v

        return _each(factors, x, 3)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Values alone, vectors, square ones."""
        yield sample("f32[4,3]", vectors=False)
        yield sample("f64[2,3,4]")
        yield sample("f64[4,2]", full=True)


class Eigh(Op, name="eigh", exact_field=False):
    """Eigenvalues of a Hermitian matrix, the smallest first, and its eigenvectors as columns; one triangle counts.

    x: [*, n, n]   ->   [*, n], [*, n, n]
    """

    lower: bool = True

    def infer(self, x: TensorType) -> tuple[TensorType, TensorType]:
        """As it says."""
        _matrix(x, square=True)
        return TensorType(_REAL[x.dtype], x.shape[:-1]), x

    def reference(self, m: Arithmetic, x: Array) -> tuple[Array, ...]:
        """LAPACK's syevd."""
        return _each(lambda a: np.linalg.eigh(a, "L" if self.lower else "U"), x, 2)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Both triangles."""
        yield sample(operand("f32[3,3]", values=_SPD))
        yield sample(operand("f64[2,3,3]", values=_SPD * 2), lower=False)
