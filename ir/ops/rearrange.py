"""Rearrangements made of reshapes, transposes and slices: tile, roll, depth to space, triangles, diagonals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dragoman.ir.dims import Dim, maximum, minimum, mod, same
from dragoman.ir.guess import Guess, guess, upstream
from dragoman.ir.op import Arithmetic, Array, Op, Sample, TensorType, normal_axis, require, sample
from dragoman.ir.ops.shape import surely_negative
from dragoman.ir.types import F64, I64, DType

if TYPE_CHECKING:
    from dragoman.ir.builder import Builder
    from dragoman.ir.graph import Node, Value


class Tile(Op, name="tile", movement=True):
    """x repeated as a whole `repeats[i]` times along axis i. NumPy's tile with one number for each axis."""

    repeats: tuple[Dim, ...]

    def infer(self, x: TensorType) -> TensorType:
        """Extents times repeats."""
        require(len(self.repeats) == x.rank, f"{len(self.repeats)} repeats for an operand of rank {x.rank}")
        negative = next((r for r in self.repeats if surely_negative(r)), None)
        require(negative is None, f"the repeat {negative} is negative")
        return x.with_shape(d * r for d, r in zip(x.shape, self.repeats, strict=True))

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's tile."""
        return m.move(lambda a: np.tile(a, [int(r) for r in self.repeats]), x)

    def decompose(self, b: Builder, x: Value) -> Value:
        """A new axis before each repeated one, broadcast and merged."""
        return _repeat(b, x, self.repeats, before=True)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Several axes, no repeats, nothing, a scalar."""
        yield sample("f32[2,3]", repeats=(2, 3))
        yield sample("i64[2,1,3]", repeats=(1, 4, 2))
        yield sample("f32[2,3]", repeats=(1, 1))
        yield sample("bool[2]", repeats=(0,))
        yield sample("f32[]", repeats=())


class RepeatInterleave(Op, name="repeat_interleave", movement=True):
    """Each entry of x along `axis` repeated `repeats` times in place. NumPy's repeat with one number."""

    repeats: Dim
    axis: int

    def infer(self, x: TensorType) -> TensorType:
        """The extent of `axis` times repeats."""
        axis = normal_axis(self.axis, x.rank)
        require(not surely_negative(self.repeats), f"the repeat {self.repeats} is negative")
        return x.with_shape((*x.shape[:axis], x.shape[axis] * self.repeats, *x.shape[axis + 1 :]))

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's repeat."""
        return m.move(lambda a: np.repeat(a, int(self.repeats), self.axis), x)

    def decompose(self, b: Builder, x: Value) -> Value:
        """A new axis after the repeated one, broadcast and merged."""
        axis = normal_axis(self.axis, x.type.rank)
        return _repeat(b, x, [self.repeats if a == axis else 1 for a in range(x.type.rank)], before=False)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """First, middle and last axis; once; never."""
        yield sample("f32[2,3]", repeats=2, axis=0)
        yield sample("i32[2,3,4]", repeats=3, axis=1)
        yield sample("f32[2,3]", repeats=4, axis=-1)
        yield sample("bool[3]", repeats=1, axis=0)
        yield sample("f16[3]", repeats=0, axis=0)


def _repeat(b: Builder, x: Value, repeats: Sequence[Dim], before: bool) -> Value:
    """Each axis i repeated repeats[i] times, as a whole (`before`) or element by element."""
    spread: list[Dim] = []
    grown: list[Dim] = []
    for extent, count in zip(x.type.shape, repeats, strict=True):
        once = isinstance(count, int) and count == 1
        spread += [extent] if once else ([1, extent] if before else [extent, 1])
        grown += [extent] if once else ([count, extent] if before else [extent, count])
    if len(spread) == x.type.rank:
        return x
    result = tuple(d * r for d, r in zip(x.type.shape, repeats, strict=True))
    return b.reshape(b.broadcast_to(b.reshape(x, shape=tuple(spread)), shape=tuple(grown)), shape=result)


class Roll(Op, name="roll", movement=True):
    """x moved on by shifts[i] along axes[i]; what leaves at one end enters at the other. NumPy's roll with axes."""

    shifts: tuple[Dim, ...]
    axes: tuple[int, ...]

    def infer(self, x: TensorType) -> TensorType:
        """The type of x."""
        require(len(self.shifts) == len(self.axes), f"{len(self.shifts)} shifts for {len(self.axes)} axes")
        for axis in self.axes:
            normal_axis(axis, x.rank)
        return x

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's roll."""
        return m.move(lambda a: np.roll(a, [int(s) for s in self.shifts], self.axes), x)

    def decompose(self, b: Builder, x: Value) -> Value:
        """For each axis, the last `shift` entries before the others."""
        for shift, axis in zip(self.shifts, self.axes, strict=True):
            axis = normal_axis(axis, x.type.rank)
            extent = x.type.shape[axis]
            shift = mod(shift, maximum(extent, 1))
            if isinstance(shift, int) and shift == 0:
                continue
            cut = extent - shift
            tail = b.slice(x, axes=(axis,), starts=(cut,), stops=(extent,), steps=(1,))
            head = b.slice(x, axes=(axis,), starts=(0,), stops=(cut,), steps=(1,))
            x = b.concat(tail, head, axis=axis)
        return x

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Both directions, more than the extent, several axes, one axis twice, nothing."""
        yield sample("f32[5]", shifts=(2,), axes=(0,))
        yield sample("i64[2,3,4]", shifts=(-1, 7), axes=(-1, 1))
        yield sample("f32[4]", shifts=(1, 2), axes=(0, 0))
        yield sample("bool[3]", shifts=(3,), axes=(0,))
        yield sample("f32[0,2]", shifts=(1,), axes=(0,))


# ---- channels and space -----------------------------------------------------------------------------


class DepthSpace(Op):
    """Blocks of `block`×`block` pixels kept as channels: their place varies slowest ("dcr") or fastest ("crd")."""

    block: int
    mode: str = "dcr"

    def check(self, x: TensorType) -> None:
        """Raise TypeRuleError unless attributes and rank fit."""
        require(self.mode in ("dcr", "crd"), f"mode={self.mode!r} is neither 'dcr' nor 'crd'")
        require(self.block >= 1, f"block={self.block}; it must be at least 1")
        require(x.rank >= 3, f"rank {x.rank}; channels, rows and columns are needed")

    @classmethod
    def guesses(cls, root: Node) -> Iterable[Guess]:
        """Where a reshape ends a reshape and a transpose; blocks are the last axis of what it takes or they give."""
        result = root.results[0].type
        if root.op.name != "reshape" or result.rank < 3:
            return
        apart = [n.operands[0].type for n in upstream(root, 2) if n.operands and n.operands[0] is not None]
        blocks = dict.fromkeys(t.shape[-1] for t in apart if t.rank == result.rank + 2)
        for block in (b for b in blocks if isinstance(b, int) and b > 1):
            for mode in ("dcr", "crd"):
                yield guess(result.with_shape(cls.before(result.shape, block)), block=block, mode=mode)

    @staticmethod
    def before(shape: Sequence[Dim], block: int) -> tuple[Dim, ...]:
        """The shape of x, from that of the result."""
        raise NotImplementedError


class DepthToSpace(DepthSpace, name="depth_to_space", movement=True):
    """Channels to pixels. ONNX's DepthToSpace; with mode="crd" torch's pixel_shuffle.

    x: […, b·b·c, h, w]   ->   […, c, h·b, w·b], the channels read as (b, b, c) for "dcr", as (c, b, b) for "crd"
    """

    def infer(self, x: TensorType) -> TensorType:
        """Fewer channels, more pixels."""
        self.check(x)
        *outer, channels, height, width = x.shape
        kept = channels // self.block**2
        fits = same(kept * self.block**2, channels)
        require(fits, f"{channels} channels are not a multiple of {self.block}·{self.block}")
        return x.with_shape((*outer, kept, height * self.block, width * self.block))

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's reshape and transpose."""
        n = len(x.shape) - 3
        channels, height, width = x.shape[n:]
        split = self._split(channels // self.block**2)
        shape = (*x.shape[:n], channels // self.block**2, height * self.block, width * self.block)
        return m.move(
            lambda a: a.reshape(*a.shape[:n], *split, height, width).transpose(self._perm(n)).reshape(shape), x
        )

    def _split(self, kept: Dim) -> tuple[Dim, ...]:
        return (self.block, self.block, kept) if self.mode == "dcr" else (kept, self.block, self.block)

    def _perm(self, n: int) -> tuple[int, ...]:
        order = (2, 3, 0, 4, 1) if self.mode == "dcr" else (0, 3, 1, 4, 2)
        return (*range(n), *(n + axis for axis in order))

    def decompose(self, b: Builder, x: Value) -> Value:
        """reshape, transpose, reshape."""
        n = x.type.rank - 3
        result = self.infer(x.type).shape
        split = b.reshape(x, shape=(*x.type.shape[:n], *self._split(result[n]), *x.type.shape[n + 1 :]))
        return b.reshape(b.transpose(split, perm=self._perm(n)), shape=result)

    @staticmethod
    def before(shape: Sequence[Dim], block: int) -> tuple[Dim, ...]:
        """More channels, fewer pixels."""
        *outer, channels, height, width = shape
        return (*outer, channels * block**2, height // block, width // block)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Both modes, with and without a batch, no change."""
        yield sample("f32[2,8,3,4]", block=2)
        yield sample("f32[2,8,3,4]", block=2, mode="crd")
        yield sample("i8[9,2,1]", block=3, mode="crd")
        yield sample("f32[1,2,3,2]", block=1)


class SpaceToDepth(DepthSpace, name="space_to_depth", movement=True):
    """Pixels to channels. ONNX's SpaceToDepth; with mode="crd" torch's pixel_unshuffle.

    x: […, c, h·b, w·b]   ->   […, b·b·c, h, w], the inverse of depth_to_space in the same mode
    """

    def infer(self, x: TensorType) -> TensorType:
        """More channels, fewer pixels."""
        self.check(x)
        *outer, channels, height, width = x.shape
        for extent in (height, width):
            fits = same(extent // self.block * self.block, extent)
            require(fits, f"the extent {extent} is not a multiple of {self.block}")
        return x.with_shape((*outer, channels * self.block**2, height // self.block, width // self.block))

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's reshape and transpose."""
        n, block = len(x.shape) - 3, self.block
        channels, height, width = x.shape[n], x.shape[n + 1] // block, x.shape[n + 2] // block
        shape = (*x.shape[:n], channels * block**2, height, width)
        return m.move(
            lambda a: (
                a.reshape(*a.shape[:n], channels, height, block, width, block).transpose(self._perm(n)).reshape(shape)
            ),
            x,
        )

    def _perm(self, n: int) -> tuple[int, ...]:
        order = (2, 4, 0, 1, 3) if self.mode == "dcr" else (0, 2, 4, 1, 3)
        return (*range(n), *(n + axis for axis in order))

    def decompose(self, b: Builder, x: Value) -> Value:
        """reshape, transpose, reshape."""
        n = x.type.rank - 3
        result = self.infer(x.type).shape
        height, width = result[n + 1 :]
        split = b.reshape(x, shape=(*x.type.shape[: n + 1], height, self.block, width, self.block))
        return b.reshape(b.transpose(split, perm=self._perm(n)), shape=result)

    @staticmethod
    def before(shape: Sequence[Dim], block: int) -> tuple[Dim, ...]:
        """Fewer channels, more pixels."""
        *outer, channels, height, width = shape
        return (*outer, channels // block**2, height * block, width * block)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Both modes, with and without a batch."""
        yield sample("f32[2,3,4,6]", block=2)
        yield sample("f32[2,3,4,6]", block=2, mode="crd")
        yield sample("i8[2,3,6]", block=3)


# ---- triangles and diagonals ------------------------------------------------------------------------


class Triangle(Op, name="triangle"):
    """x with zeros where column − row is below `diagonal` (upper) or above it (not upper). torch's triu and tril.

    x: […, h, w]   ->   […, h, w]
    """

    upper: bool
    diagonal: Dim = 0

    def infer(self, x: TensorType) -> TensorType:
        """The type of x."""
        require(x.rank >= 2, f"rank {x.rank}; a matrix is needed")
        require(x.dtype.kind != "string", "strings have no zero")
        return x

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """A choice by row and column."""
        height, width = x.shape[-2:]
        offset = np.arange(width) - np.arange(height)[:, None]
        kept = offset >= int(self.diagonal) if self.upper else offset <= int(self.diagonal)
        zero = m.embed(np.zeros(()), F64) if m.is_real(x) else np.zeros((), x.dtype)
        return m.where(kept, x, zero)

    def decompose(self, b: Builder, x: Value) -> Value:
        """where(iota(w) ≥ iota(h) + diagonal, x, 0)."""
        height, width = x.type.shape[-2:]
        rows = b.reshape(b.iota(size=height, dtype=I64), shape=(height, 1))
        if not (isinstance(self.diagonal, int) and self.diagonal == 0):
            rows = b.add(rows, b.extent(self.diagonal, I64))
        columns = b.iota(size=width, dtype=I64)
        kept = b.greater_equal(columns, rows) if self.upper else b.less_equal(columns, rows)
        return b.where(kept, x, b.const(_zero(x.type.dtype), x.type.dtype))

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Both halves, offsets on either side and beyond, each kind of dtype."""
        yield sample("f32[3,4]", upper=True)
        yield sample("f32[2,4,3]", upper=False, diagonal=1)
        yield sample("bool[3,3]", upper=False, diagonal=-1)
        yield sample("i32[2,5]", upper=True, diagonal=2)
        yield sample("f64[2,2]", upper=True, diagonal=5)


def _zero(dtype: DType) -> float | complex:
    if dtype.kind == "bool":
        return False
    if dtype.is_complex:
        return 0j
    return 0.0 if dtype.is_float else 0


class Diagonal(Op, name="diagonal", movement=True):
    """The elements whose place along axis2 is that along axis1 plus `offset`, as a new last axis. NumPy's diagonal."""

    offset: Dim = 0
    axis1: int = 0
    axis2: int = 1

    def infer(self, x: TensorType) -> TensorType:
        """The other axes and the length of the diagonal."""
        first, second = self._axes(x.rank)
        rest = [d for axis, d in enumerate(x.shape) if axis not in (first, second)]
        return x.with_shape((*rest, self._length(x.shape[first], x.shape[second])))

    def _axes(self, rank: int) -> tuple[int, int]:
        first, second = normal_axis(self.axis1, rank, "axis1"), normal_axis(self.axis2, rank, "axis2")
        require(first != second, f"axis1 and axis2 are both {first}")
        return first, second

    def _length(self, height: Dim, width: Dim) -> Dim:
        return maximum(minimum(minimum(height, width), minimum(height + self.offset, width - self.offset)), 0)

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's diagonal."""
        return m.move(lambda a: np.diagonal(a, int(self.offset), self.axis1, self.axis2), x)

    def decompose(self, b: Builder, x: Value) -> Value:
        """take from the flattened matrix at first + (w + 1)·iota."""
        first, second = self._axes(x.type.rank)
        others = [axis for axis in range(x.type.rank) if axis not in (first, second)]
        height, width = x.type.shape[first], x.type.shape[second]
        rows = b.transpose(x, perm=(*others, first, second))
        flat = b.reshape(rows, shape=(*(x.type.shape[axis] for axis in others), height * width))
        start = maximum(self.offset, 0) + width * maximum(-self.offset, 0)
        places = b.mul(b.iota(size=self._length(height, width), dtype=I64), b.extent(width + 1, I64))
        return b.take(flat, b.add(places, b.extent(start, I64)), axis=len(others))

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Square and not, offsets on either side and beyond, inner axes."""
        yield sample("f32[3,3]")
        yield sample("f32[3,5]", offset=1)
        yield sample("i64[2,5,3]", offset=-2, axis1=1, axis2=-1)
        yield sample("f32[4,2,3]", axis1=2, axis2=0)
        yield sample("bool[2,2]", offset=4)
