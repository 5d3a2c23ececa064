"""Ops whose result has sizes that only a run tells, from an operand that holds them: ranges, reshapes, broadcasts.

The sizes are attributes all the same: symbols of their own, which the run binds, so that everything after them has a
shape to reason about. Where the sizes are known, `iota`, `reshape` and `broadcast_to` say it without an operand.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from dragoman.ir.dims import Dim, is_one, same
from dragoman.ir.errors import UsageError
from dragoman.ir.op import Arithmetic, Array, Op, Sample, Shape, TensorType, operand, require, sample
from dragoman.ir.ops.shape import listed, surely_negative
from dragoman.ir.types import I64

if TYPE_CHECKING:
    from dragoman.ir.builder import Builder
    from dragoman.ir.graph import Value


def _require_sizes(sizes: TensorType, rank: int) -> None:
    fits = sizes.dtype == I64 and sizes.rank == 1 and same(sizes.shape[0], rank)
    require(fits, f"the sizes are {sizes}, not i64[{rank}]")


def _require_extents(shape: Shape) -> None:
    negative = next((d for d in shape if surely_negative(d)), None)
    require(negative is None, f"the extent {negative} in {listed(shape)} is negative")


class DynamicIota(Op, name="dynamic_iota", data_dependent=True):
    """0, 1, …, size−1, where an operand tells the size. It also stands for the size: everything after it may name it.

    count: i64[], not negative   ->   i64[size]
    """

    size: Dim

    def infer(self, count: TensorType) -> TensorType:
        """Rank 1."""
        require(count.dtype == I64 and count.rank == 0, f"the count is {count}, not i64[]")
        _require_extents((self.size,))
        return TensorType(I64, (self.size,))

    def reference(self, m: Arithmetic, count: Array) -> Array:
        """NumPy's arange."""
        if int(count) < 0:
            raise UsageError(f"a size is {int(count)}: negative")
        return np.arange(int(count), dtype=np.int64)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Some and no elements."""
        yield sample(operand("i64[]", values=(4,)), size=4)
        yield sample(operand("i64[]", values=(0,)), size=0)


def _reshaped(a: Any, sizes: Any, keep_zeros: bool) -> Any:
    wanted = [int(d) for d in sizes]
    if not keep_zeros:
        wanted = [a.shape[i] if d == 0 and i < a.ndim else d for i, d in enumerate(wanted)]
    elif -1 in wanted and 0 in wanted:
        raise UsageError(f"a reshape to {wanted}: what −1 stands for is not told beside an extent of 0")
    try:
        return np.reshape(a, wanted)
    except ValueError as error:
        raise UsageError(f"a reshape of {list(a.shape)} to {wanted}: {error}") from None


class DynamicReshape(Op, name="dynamic_reshape", movement=True, data_dependent=True):
    """The same elements in row-major order under a shape that an operand holds; `shape` names what comes of it.

    x: [n…]   sizes: i64[rank of the result]   ->   [shape…]
    One size may be −1, for what is left. A size of 0 is the extent of x at its place, unless `keep_zeros`. As ONNX's
    Reshape, opset 14.
    """

    shape: Shape
    keep_zeros: bool = False

    def infer(self, x: TensorType, sizes: TensorType) -> TensorType:
        """The shape named."""
        _require_sizes(sizes, len(self.shape))
        _require_extents(self.shape)
        return x.with_shape(self.shape)

    def reference(self, m: Arithmetic, x: Array, sizes: Array) -> Array:
        """NumPy's reshape."""
        return m.move(lambda a: _reshaped(a, sizes, self.keep_zeros), x)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Merging, splitting, an extent that is kept, one that is left, nothing."""
        yield sample("f32[2,6]", operand("i64[2]", values=(3, 4)), shape=(3, 4))
        yield sample("f32[2,3,4]", operand("i64[2]", values=(0, -1)), shape=(2, 12))
        yield sample("i8[2,0]", operand("i64[2]", values=(0, 3)), shape=(0, 3), keep_zeros=True)


class DynamicBroadcast(Op, name="dynamic_broadcast", movement=True, data_dependent=True):
    """x and a shape that an operand holds, broadcast against each other; `shape` names what comes of it.

    x: [n…]   sizes: i64[k]   ->   [shape…] of rank max(rank of x, k). As ONNX's Expand.
    """

    shape: Shape

    def infer(self, x: TensorType, sizes: TensorType) -> TensorType:
        """The shape named, which keeps the extents of x that are numbers above 1."""
        fits = sizes.dtype == I64 and sizes.rank == 1 and isinstance(sizes.shape[0], int)
        require(fits, f"the sizes are {sizes}, not i64 of a known number")
        count = sizes.shape[0]
        require(
            isinstance(count, int) and len(self.shape) == max(x.rank, count),
            f"{listed(x.shape)} and {count} sizes do not give {listed(self.shape)}",
        )
        _require_extents(self.shape)
        for dim, wanted in zip(reversed(x.shape), reversed(self.shape), strict=False):
            kept = is_one(dim) or not isinstance(dim, int) or not isinstance(wanted, int) or dim == wanted
            require(kept, f"{listed(x.shape)} does not broadcast to {listed(self.shape)}: {dim} against {wanted}")
        return x.with_shape(self.shape)

    def reference(self, m: Arithmetic, x: Array, sizes: Array) -> Array:
        """NumPy's broadcasting."""
        wanted = [int(d) for d in sizes]
        try:
            shape = np.broadcast_shapes(x.shape, tuple(wanted))
        except ValueError:
            raise UsageError(f"{list(x.shape)} and the sizes {wanted} do not broadcast") from None
        return m.move(lambda a: np.broadcast_to(a, shape), x)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """New axes, stretched axes, an operand that is larger than the sizes."""
        yield sample("f32[3,1]", operand("i64[2]", values=(3, 4)), shape=(3, 4))
        yield sample("i32[3]", operand("i64[2]", values=(2, 1)), shape=(2, 3))
        yield sample("f32[2,3]", operand("i64[1]", values=(1,)), shape=(2, 3))


def _places(start: Any, stop: Any, step: Any, extent: int) -> Any:
    """What Python's slice takes of an axis, for stops that may be far outside of it."""
    first, last, by = int(start), int(stop), int(step)
    if by == 0:
        raise UsageError("the step of a slice is 0")
    first, last = (p + extent if p < 0 else p for p in (first, last))
    if by > 0:
        return np.arange(min(max(first, 0), extent), min(max(last, 0), extent), by)
    return np.arange(min(max(first, 0), extent - 1), min(max(last, -1), extent - 1), by)


class DynamicStridedSlice(Op, name="dynamic_strided_slice", movement=True, data_dependent=True):
    """x[start:stop:step] along each of `axes`, as Python counts, where operands tell the places and how many they are.

    x: [n…]   starts, stops, steps: i64[number of axes], no step 0   ->   x with the extents at `axes` become `sizes`
    As ONNX's Slice.
    """

    axes: tuple[int, ...]
    sizes: tuple[Dim, ...]

    def infer(self, x: TensorType, starts: TensorType, stops: TensorType, steps: TensorType) -> TensorType:
        """The sizes in place of the extents."""
        axes = [a % x.rank for a in self.axes] if x.rank else []
        require(len(set(axes)) == len(axes) == len(self.sizes), f"axes={self.axes} and sizes={listed(self.sizes)}")
        for given in (starts, stops, steps):
            _require_sizes(given, len(axes))
        _require_extents(self.sizes)
        shape = list(x.shape)
        for axis, size in zip(axes, self.sizes, strict=True):
            shape[axis] = size
        return x.with_shape(shape)

    def reference(self, m: Arithmetic, x: Array, starts: Array, stops: Array, steps: Array) -> Array:
        """Each axis by its places."""
        for axis, start, stop, step in zip(self.axes, starts, stops, steps, strict=True):
            places = _places(start, stop, step, x.shape[axis])
            x = m.move(partial(np.take, indices=places, axis=axis), x)
        return x

    def decompose(self, b: Builder, x: Value, starts: Value, stops: Value, steps: Value) -> Value:
        """The places of each axis as numbers, and what is there."""
        for at, (axis, size) in enumerate(zip(self.axes, self.sizes, strict=True)):
            start, stop, step = (_entry(b, v, at) for v in (starts, stops, steps))
            extent = b.extent(x.type.shape[axis], I64)
            first, last = (b.where(b.less(p, 0), b.add(p, extent), p) for p in (start, stop))
            forwards, end = b.greater(step, 0), b.sub(extent, 1)
            low, high = b.where(forwards, b.const(0, I64), b.const(-1, I64)), b.where(forwards, extent, end)
            first = b.minimum(b.maximum(first, 0), high)
            last = b.minimum(b.maximum(last, low), high)
            count = b.maximum(b.neg(b.floor_divide(b.sub(first, last), step)), 0)
            places = b.add(first, b.mul(b.dynamic_iota(count, size=size), step))
            x = b.take(x, places, axis=axis)
        return x

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Forwards, backwards, far outside, nothing, two axes."""

        def at(*values: int) -> Any:
            return operand(f"i64[{len(values)}]", values=values)

        yield sample("f32[5,3]", at(1), at(9), at(2), axes=(0,), sizes=(2,))
        yield sample("f32[5,3]", at(-1), at(-(2**62)), at(-2), axes=(0,), sizes=(3,))
        yield sample("i32[2,6]", at(0, -2), at(2, 6), at(1, 1), axes=(0, -1), sizes=(2, 2))
        yield sample("bool[4]", at(3), at(1), at(1), axes=(0,), sizes=(0,))


def _entry(b: Builder, x: Value, at: int) -> Value:
    return b.reshape(b.slice(x, axes=(0,), starts=(at,), stops=(at + 1,)), shape=())
