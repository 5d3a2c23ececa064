"""How each op works on operands whose axes are in another order.

`permuted(op, p, types)` gives an op and a permutation q with op'(transpose(x, p), …) = transpose(op(x, …), q), or None
where there is no such op. `transpose(x, p)` has axis p[i] of x as its axis i. One entry of the table for each family of
ops; an op without one is computed as it stands. Owns no choice of layouts: that is `dragoman.passes.layout`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from dragoman.ir.dims import Dim, is_one, product, same
from dragoman.ir.op import Op, TensorType, normal_axes, normal_axis
from dragoman.ir.ops.conv import CHANNELS_FIRST, CHANNELS_LAST, Conv, ConvTranspose
from dragoman.ir.ops.gate import Glu
from dragoman.ir.ops.indexing import Take
from dragoman.ir.ops.magnitude import L2Normalize, LocalResponseNorm
from dragoman.ir.ops.matmul import Linear, Matmul
from dragoman.ir.ops.norm import BatchNorm, LayerNorm, PerChannel, RmsNorm
from dragoman.ir.ops.pool import Adaptive, Pool
from dragoman.ir.ops.quant import Quantiser
from dragoman.ir.ops.rearrange import RepeatInterleave, Roll, Tile
from dragoman.ir.ops.reduce import Position, Reduction, Running
from dragoman.ir.ops.resize import Resize
from dragoman.ir.ops.shape import (
    BroadcastTo,
    Concat,
    Flip,
    Pad,
    Reshape,
    Slice,
    Split,
    Squeeze,
    Stack,
    Transpose,
    Unsqueeze,
)
from dragoman.ir.ops.softmax import AlongAxis
from dragoman.ir.ops.sorting import Sort, Topk
from dragoman.ir.types import Shape

Perm = tuple[int, ...]
Types = tuple[TensorType | None, ...]
Permuted = tuple[Op, Perm]
_Function = Callable[[Any, Perm, Types], Permuted | None]

_TABLE: dict[type[Op], _Function] = {}


# ---- permutations -------------------------------------------------------------------------------------------


def identity(rank: int) -> Perm:
    """The permutation that moves nothing."""
    return tuple(range(rank))


def inverse(perm: Perm) -> Perm:
    """The permutation that undoes `perm`: where each axis of x lies in transpose(x, perm)."""
    return tuple(sorted(range(len(perm)), key=perm.__getitem__))


def composed(p: Perm, q: Perm) -> Perm:
    """The permutation of transpose(transpose(x, p), q)."""
    return tuple(p[i] for i in q)


def to_channels_first(rank: int) -> Perm:
    """[n, *spatial, c] to [n, c, *spatial]."""
    return (0, rank - 1, *range(1, rank - 1))


def to_channels_last(rank: int) -> Perm:
    """[n, c, *spatial] to [n, *spatial, c]."""
    return (0, *range(2, rank), 1)


def is_reshape(shape: Shape, perm: Perm) -> bool:
    """Whether only axes of extent 1 change places, and at most one dynamic extent with them.

    The elements stay in order then, and the shape is given without computing extents.
    """
    moved = [p for p in perm if not is_one(shape[p])]
    dynamic = [i for i, p in enumerate(perm) if i != p and not isinstance(shape[p], int)]
    return moved == sorted(moved) and len(dynamic) <= 1


# ---- the questions ------------------------------------------------------------------------------------------


def permuted(op: Op, perm: Perm, types: Types) -> Permuted | None:
    """The op for operands permuted by `perm`, and the permutation of its results; None where there is none.

    Of ops for which `permutes_all` holds, every operand is permuted, those of a lower rank as if they had leading axes
    of extent 1; of other ops, the first. `types` are those of the operands as they are.
    """
    if op.pointwise:
        return op, perm
    function = _function(type(op))
    return function(op, perm, types) if function is not None else None


def permutes_all(op: Op) -> bool:
    """Whether all operands are permuted alike, and not the first alone."""
    return op.pointwise or isinstance(op, (Concat, Stack, BroadcastTo))


def permuted_rank(op: Op, types: Types) -> int:
    """The rank of the permutation that `permuted` takes for this op: that to which its operands broadcast."""
    ranks = [t.rank for t in types if t is not None] or [0]
    if isinstance(op, BroadcastTo):
        return len(op.shape)
    return max(ranks) if op.pointwise else ranks[0]


def operand_permutation(op: Op, perm: Perm, types: Types, result: TensorType) -> Perm | None:
    """The permutation of the operands under which the results are permuted by `perm`; None where none is known."""
    source = types[0]
    if source is None:
        return None
    found: Perm | None = perm
    if isinstance(op, Transpose):
        return composed(_normal(op.perm), perm)
    if isinstance(op, (Reshape, Squeeze, Unsqueeze)):
        found = reshaped_permutation(result.shape, source.shape, perm)
    if found is None or len(found) != permuted_rank(op, types):
        return None
    forward = permuted(op, found, types)
    return found if forward is not None and forward[1] == perm else None


@lru_cache(maxsize=4096)
def reshaped_permutation(before: Shape, after: Shape, perm: Perm) -> Perm | None:
    """q with reshape(transpose(x, perm)) = transpose(reshape(x, after), q); None if the reshape mixes the axes.

    Axes merged or split together must stay together and in order. Axes of extent 1 follow their left neighbour.
    """
    if any(isinstance(d, int) and d == 0 for d in (*before, *after)):
        return None
    groups = _groups(before, after)
    starts = {given[0]: (given, made) for given, made in groups if given}
    queue = [p for p in perm if not is_one(before[p])]
    order: list[int] = []
    at = 0
    while at < len(queue):
        given, made = starts.get(queue[at], ((), ()))
        if not given or tuple(queue[at : at + len(given)]) != given:
            return None
        order.extend(made)
        at += len(given)
    return _with_ones(order, len(after))


def _groups(before: Shape, after: Shape) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The smallest runs of axes of both shapes that have equally many elements, axes of extent 1 left out."""
    given = [a for a, d in enumerate(before) if not is_one(d)]
    made = [a for a, d in enumerate(after) if not is_one(d)]
    groups: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    i = j = 0
    for k in range(1, len(given) + 1):
        size = product(before[a] for a in given[i:k])
        stop = next((s for s in range(j + 1, len(made) + 1) if same(product(after[a] for a in made[j:s]), size)), None)
        if stop is not None:
            groups.append((tuple(given[i:k]), tuple(made[j:stop])))
            i, j = k, stop
    return groups


def _with_ones(order: Sequence[int], rank: int) -> Perm:
    """`order` with the axes it lacks, each after its left neighbour."""
    result = list(order)
    for axis in range(rank):
        if axis not in order:
            result.insert(result.index(axis - 1) + 1 if axis else 0, axis)
    return tuple(result)


# ---- the table ----------------------------------------------------------------------------------------------


def _permutes(*families: type[Op]) -> Callable[[_Function], _Function]:
    def register(function: _Function) -> _Function:
        _TABLE.update(dict.fromkeys(families, function))
        return function

    return register


@lru_cache(maxsize=1024)
def _function(cls: type[Op]) -> _Function | None:
    return next((_TABLE[base] for base in cls.__mro__ if base in _TABLE), None)


def _normal(perm: Perm) -> Perm:
    return tuple(p % len(perm) for p in perm)


def _without(perm: Perm, gone: Sequence[int]) -> Perm:
    """What is left of a permutation when axes go."""
    kept = [p for p in perm if p not in gone]
    order = sorted(kept)
    return tuple(order.index(p) for p in kept)


@_permutes(Running, AlongAxis, Topk, Sort, Glu, Concat, Split, RepeatInterleave, BatchNorm)
def _along_axis(op: Any, perm: Perm, types: Types) -> Permuted | None:
    return op.with_attributes(axis=inverse(perm)[normal_axis(op.axis, len(perm))]), perm


@_permutes(PerChannel)
def _per_channel(op: Any, perm: Perm, types: Types) -> Permuted | None:
    return _along_axis(op, perm, types) if perm[0] == 0 else None  # axis 0 is the batch


@_permutes(L2Normalize, Flip)
def _along_axes(op: Any, perm: Perm, types: Types) -> Permuted | None:
    at = inverse(perm)
    return op.with_attributes(axes=tuple(sorted(at[a] for a in normal_axes(op.axes, len(perm))))), perm


@_permutes(Slice, Roll)
def _along_listed_axes(op: Any, perm: Perm, types: Types) -> Permuted | None:
    at = inverse(perm)
    return op.with_attributes(axes=tuple(at[a % len(perm)] for a in op.axes)), perm


@_permutes(Reduction)
def _reduction(op: Any, perm: Perm, types: Types) -> Permuted | None:
    moved, _ = _along_axes(op, perm, types) or (op, perm)
    return moved, perm if op.keepdims else _without(perm, normal_axes(op.axes, len(perm)))


@_permutes(Position)
def _position(op: Any, perm: Perm, types: Types) -> Permuted | None:
    moved, _ = _along_axis(op, perm, types) or (op, perm)
    return moved, perm if op.keepdims else _without(perm, [op.axis % len(perm)])


@_permutes(Conv, ConvTranspose, Pool, Adaptive, Resize)
def _windowed(op: Any, perm: Perm, types: Types) -> Permuted | None:
    rank = len(perm)
    if op.layout == CHANNELS_FIRST and perm == to_channels_last(rank):
        return op.with_attributes(layout=CHANNELS_LAST), perm
    if op.layout == CHANNELS_LAST and perm == to_channels_first(rank):
        return op.with_attributes(layout=CHANNELS_FIRST), perm
    return None


@_permutes(LayerNorm, RmsNorm)
def _trailing(op: Any, perm: Perm, types: Types) -> Permuted | None:
    axis = normal_axis(op.axis, len(perm))
    return (op.with_attributes(axis=axis), perm) if perm[axis:] == identity(len(perm))[axis:] else None


@_permutes(LocalResponseNorm)
def _across_channels(op: Any, perm: Perm, types: Types) -> Permuted | None:
    return (op, perm) if perm[1] == 1 else None


@_permutes(Linear)
def _features_last(op: Any, perm: Perm, types: Types) -> Permuted | None:
    return (op, perm) if perm[-1] == len(perm) - 1 else None


@_permutes(Matmul)
def _rows(op: Any, perm: Perm, types: Types) -> Permuted | None:
    y = types[1]
    if y is None or y.rank > 2 or perm[-1] != len(perm) - 1:
        return None  # the leading axes of y would have to move as well
    return op, perm if y.rank == 2 else perm[:-1]


@_permutes(Pad)
def _pad(op: Any, perm: Perm, types: Types) -> Permuted | None:
    return op.with_attributes(padding=tuple(op.padding[p] for p in perm)), perm


@_permutes(Tile)
def _tile(op: Any, perm: Perm, types: Types) -> Permuted | None:
    return op.with_attributes(repeats=tuple(op.repeats[p] for p in perm)), perm


@_permutes(BroadcastTo)
def _broadcast(op: Any, perm: Perm, types: Types) -> Permuted | None:
    return op.with_attributes(shape=tuple(op.shape[p] for p in perm)), perm


@_permutes(Take)
def _take(op: Any, perm: Perm, types: Types) -> Permuted | None:
    assert types[1] is not None
    axis, indices = normal_axis(op.axis, len(perm)), types[1].rank
    order: list[int] = []
    for p in perm:
        order += range(axis, axis + indices) if p == axis else [p if p < axis else p + indices - 1]
    return op.with_attributes(axis=inverse(perm)[axis]), tuple(order)


@_permutes(Quantiser)
def _quantiser(op: Any, perm: Perm, types: Types) -> Permuted | None:
    if op.block:
        return None  # the scale has the axes of x
    scale = types[1]
    return (op, perm) if scale is None or scale.rank == 0 else _along_axis(op, perm, types)


@_permutes(Transpose)
def _transpose(op: Any, perm: Perm, types: Types) -> Permuted | None:
    return op.with_attributes(perm=identity(len(perm))), composed(inverse(_normal(op.perm)), perm)


@_permutes(Stack)
def _stack(op: Any, perm: Perm, types: Types) -> Permuted | None:
    axis = normal_axis(op.axis, len(perm) + 1)
    order = _with_ones([p + (p >= axis) for p in perm], len(perm) + 1)
    return op.with_attributes(axis=order.index(axis)), order


@_permutes(Squeeze)
def _squeeze(op: Any, perm: Perm, types: Types) -> Permuted | None:
    moved, _ = _along_axes(op, perm, types) or (op, perm)
    return moved, _without(perm, normal_axes(op.axes, len(perm)))


@_permutes(Unsqueeze)
def _unsqueeze(op: Any, perm: Perm, types: Types) -> Permuted | None:
    rank = len(perm) + len(op.axes)
    added = normal_axes(op.axes, rank)
    kept = [a for a in range(rank) if a not in added]
    order = _with_ones([kept[p] for p in perm], rank)
    return op.with_attributes(axes=tuple(sorted(order.index(a) for a in added))), order


@_permutes(Reshape)
def _reshape(op: Any, perm: Perm, types: Types) -> Permuted | None:
    assert types[0] is not None
    order = reshaped_permutation(types[0].shape, op.shape, perm)
    shape: tuple[Dim, ...] = op.shape
    return None if order is None else (op.with_attributes(shape=tuple(shape[a] for a in order)), order)
