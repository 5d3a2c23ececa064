"""XLA's general product of two tensors, as a matrix product between moves that are left out where they do nothing."""

from __future__ import annotations

from collections.abc import Sequence

from dragoman.ir.builder import Builder
from dragoman.ir.dims import Dim, product
from dragoman.ir.graph import Value
from dragoman.ir.types import BOOL, I32

Axes = Sequence[int]


def dot_general(b: Builder, x: Value, y: Value, contracted: tuple[Axes, Axes], batch: tuple[Axes, Axes]) -> Value:
    """Sum of products over the contracted axes, elementwise over the batch axes.

    x: axes in any order   y: likewise   ->   [batch…, rest of x…, rest of y…]
    """
    if x.type.dtype == BOOL:
        counted = dot_general(b, b.cast(x, dtype=I32), b.cast(y, dtype=I32), contracted, batch)
        return b.cast(counted, dtype=BOOL)
    rest_x = [a for a in range(x.type.rank) if a not in contracted[0] and a not in batch[0]]
    rest_y = [a for a in range(y.type.rank) if a not in contracted[1] and a not in batch[1]]
    x = moved(b, x, [*batch[0], *rest_x, *contracted[0]])
    y = moved(b, y, [*batch[1], *contracted[1], *rest_y])
    n, k = len(batch[0]), len(contracted[0])
    shared, rows = x.type.shape[:n], x.type.shape[n : n + len(rest_x)]
    columns = y.type.shape[n + k :]
    if not k:
        return _outer(b, x, y, n)
    summed = product(x.type.shape[n + len(rest_x) :])
    if not n and len(rest_x) != 1 and len(columns) == 1 and rows:
        x = _shaped(b, x, (*rows, summed))  # rows need no merging: a matrix product takes them as they are
        return b.matmul(x, _shaped(b, y, (summed, *columns)))
    left = (*shared, *([product(rows)] if rows or n else []), summed)
    right = (*shared, summed, *([product(columns)] if columns or n else []))
    result = b.matmul(_shaped(b, x, left), _shaped(b, y, right))
    return _shaped(b, result, (*shared, *rows, *columns))


def _outer(b: Builder, x: Value, y: Value, batch: int) -> Value:
    """Products of all pairs: nothing is summed."""
    rows, columns = x.type.rank - batch, y.type.rank - batch
    if columns:
        x = _shaped(b, x, (*x.type.shape, *[1] * columns))
    if rows:
        y = _shaped(b, y, (*y.type.shape[:batch], *[1] * rows, *y.type.shape[batch:]))
    return b.mul(x, y)


def moved(b: Builder, x: Value, order: Sequence[int]) -> Value:
    """`x` with its axes in this order; itself where that is its own."""
    return x if list(order) == list(range(x.type.rank)) else b.transpose(x, perm=tuple(order))


def _shaped(b: Builder, x: Value, shape: tuple[Dim, ...]) -> Value:
    return x if x.type.shape == shape else b.reshape(x, shape=shape)
