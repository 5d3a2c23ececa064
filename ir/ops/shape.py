"""Ops that place elements: reshape, transpose, broadcast, concat, slice, pad, flip, and what one or two of these make.

Extents may be symbolic. Where extents must be equal, they must be for every value of the symbols; a bound is refused
only when no value can keep it, and the interpreter checks the real extents again. Rearrangements: `rearrange.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dragoman.ir.dims import Dim, bounds, ceildiv, is_one, product, same
from dragoman.ir.op import (
    Arithmetic,
    Array,
    Op,
    Sample,
    Shape,
    TensorType,
    normal_axes,
    normal_axis,
    require,
    same_dtype,
    sample,
)
from dragoman.ir.types import F64

if TYPE_CHECKING:
    from dragoman.ir.builder import Builder
    from dragoman.ir.graph import Value

PAD_MODES = ("constant", "reflect", "edge", "wrap")


def surely_negative(dim: Dim) -> bool:
    """Whether `dim` is below zero for every value of its symbols."""
    return bounds(dim)[1] < 0


def listed(shape: Shape) -> str:
    """A shape as messages show it: `[batch,3]`."""
    return f"[{','.join(map(str, shape))}]"


class Reshape(Op, name="reshape", movement=True):
    """The same elements in row-major order under another shape of as many, whatever the values of its symbols."""

    shape: Shape

    def infer(self, x: TensorType) -> TensorType:
        """The shape asked for."""
        negative = next((d for d in self.shape if surely_negative(d)), None)
        require(negative is None, f"the extent {negative} in {listed(self.shape)} is negative; infer it beforehand")
        count = product(self.shape)
        require(
            same(x.size, count),
            f"a reshape keeps the number of elements: {listed(x.shape)} has {x.size}, {listed(self.shape)} has {count}",
        )
        return x.with_shape(self.shape)

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's reshape."""
        return m.move(lambda a: np.reshape(a, self.shape), x)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """To and from scalars, of nothing, merging and splitting."""
        yield sample("f32[2,6]", shape=(3, 4))
        yield sample("f32[2,3,4]", shape=(24,))
        yield sample("i64[1,1]", shape=())
        yield sample("bool[]", shape=(1, 1))
        yield sample("f16[0,3]", shape=(5, 0, 2))


class Transpose(Op, name="transpose", movement=True):
    """Axis i of the result is axis perm[i] of x."""

    perm: tuple[int, ...]

    def infer(self, x: TensorType) -> TensorType:
        """Extents permuted."""
        perm = self._perm(x.rank)
        return x.with_shape(x.shape[p] for p in perm)

    def _perm(self, rank: int) -> list[int]:
        require(len(self.perm) == rank, f"perm {self.perm} has {len(self.perm)} axes, the operand {rank}")
        normal_axes(self.perm, rank, "perm")
        return [p % rank for p in self.perm]

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's transpose."""
        return m.move(lambda a: np.transpose(a, self.perm), x)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Ranks 0 to 4."""
        yield sample("f32[2,3]", perm=(1, 0))
        yield sample("f32[2,3,4,5]", perm=(0, 2, 3, 1))
        yield sample("i8[2,3,4]", perm=(-1, 0, 1))
        yield sample("f64[]", perm=())


class BroadcastTo(Op, name="broadcast_to", movement=True):
    """x repeated along new leading axes and along its axes of extent 1."""

    shape: Shape

    def infer(self, x: TensorType) -> TensorType:
        """The shape asked for."""
        text = f"{listed(x.shape)} does not broadcast to {listed(self.shape)}"
        require(x.rank <= len(self.shape), f"{text}: it has more axes")
        for dim, wanted in zip(reversed(x.shape), reversed(self.shape), strict=False):
            require(is_one(dim) or same(dim, wanted), f"{text}: {dim} against {wanted}")
        negative = next((d for d in self.shape if surely_negative(d)), None)
        require(negative is None, f"the extent {negative} in {listed(self.shape)} is negative")
        return x.with_shape(self.shape)

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's broadcast_to."""
        return m.move(lambda a: np.broadcast_to(a, [int(d) for d in self.shape]), x)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """New axes, stretched axes, both; a scalar; to nothing."""
        yield sample("f32[3]", shape=(2, 3))
        yield sample("f32[2,1,3]", shape=(2, 4, 3))
        yield sample("i32[]", shape=(2, 2))
        yield sample("bool[1,3]", shape=(0, 3))
        yield sample("f64[2]", shape=(2,))


class Concat(Op, name="concat", movement=True):
    """Operands one after the other along `axis`."""

    axis: int

    def infer(self, *xs: TensorType) -> TensorType:
        """Extents along `axis` add up; the others are equal."""
        require(len(xs) > 0, "at least one operand is needed")
        same_dtype(*xs)
        first = xs[0]
        axis = normal_axis(self.axis, first.rank)
        total: Dim = 0
        for number, x in enumerate(xs):
            require(x.rank == first.rank, f"operand {number} has rank {x.rank}, operand 0 rank {first.rank}")
            for at in range(first.rank):
                require(
                    at == axis or same(x.shape[at], first.shape[at]),
                    f"operands 0 and {number} differ at axis {at}: {first.shape[at]} against {x.shape[at]}",
                )
            total = total + x.shape[axis]
        return first.with_shape((*first.shape[:axis], total, *first.shape[axis + 1 :]))

    def reference(self, m: Arithmetic, *xs: Array) -> Array:
        """NumPy's concatenate."""
        return m.move(lambda *a: np.concatenate(a, self.axis), *xs)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """One, two and three operands; an empty one."""
        yield sample("f32[2,3]", "f32[2,1]", axis=1)
        yield sample("f32[2,3]", "f32[0,3]", "f32[1,3]", axis=-2)
        yield sample("i64[2]", axis=0)
        yield sample("bool[2,2,2]", "bool[2,2,2]", axis=-1)


class Slice(Op, name="slice", movement=True):
    """x[start:stop:step] along each of `axes`. 0 ≤ start ≤ stop ≤ extent and step ≥ 1; no steps means 1 everywhere.

    Python's negative and overhanging bounds are resolved by `dragoman.ir.extents.slice_bounds`.
    """

    axes: tuple[int, ...]
    starts: tuple[Dim, ...]
    stops: tuple[Dim, ...]
    steps: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.steps:
            object.__setattr__(self, "steps", (1,) * len(self.axes))

    def infer(self, x: TensorType) -> TensorType:
        """Extents ⌈(stop − start)/step⌉ along `axes`."""
        counts = {len(self.axes), len(self.starts), len(self.stops), len(self.steps)}
        require(len(counts) == 1, "axes, starts, stops and steps differ in number")
        normal_axes(self.axes, x.rank)
        shape = list(x.shape)
        for axis, start, stop, step in zip(self.axes, self.starts, self.stops, self.steps, strict=True):
            self._check(axis, start, stop, step, shape[axis])
            shape[axis] = ceildiv(stop - start, step)
        return x.with_shape(shape)

    def _check(self, axis: int, start: Dim, stop: Dim, step: int, extent: Dim) -> None:
        text = f"{start}:{stop}:{step} along axis {axis} of extent {extent}"
        require(step >= 1, f"{text}: the step must be at least 1")
        require(not surely_negative(start), f"{text}: the start is negative")
        require(not surely_negative(stop - start), f"{text}: the stop lies before the start")
        require(not surely_negative(extent - stop), f"{text}: the stop lies beyond the end")

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's basic indexing."""
        index = [slice(None)] * x.ndim
        for axis, start, stop, step in zip(self.axes, self.starts, self.stops, self.steps, strict=True):
            index[axis] = slice(start, stop, step)
        return m.move(lambda a: a[tuple(index)], x)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """One and several axes, steps, nothing left."""
        yield sample("f32[5]", axes=(0,), starts=(1,), stops=(4,), steps=(1,))
        yield sample("f32[4,5,6]", axes=(-1, 0), starts=(0, 2), stops=(6, 4), steps=(4, 1))
        yield sample("i64[3,4]", axes=(1,), starts=(1,), stops=(4,), steps=(2,))
        yield sample("bool[3]", axes=(0,), starts=(2,), stops=(2,))
        yield sample("f16[3]", axes=(), starts=(), stops=())


class Pad(Op, name="pad"):
    """`padding[i]` = (before, after) elements added along axis i, none negative.

    constant: `value`. reflect: mirrored without the border (c b | a b c | b a), less than the extent. edge: the border
    repeated. wrap: the other end (b c | a b c | a b), at most the extent. Axes are padded in order. As NumPy's pad.
    """

    padding: tuple[tuple[Dim, Dim], ...]
    mode: str = "constant"
    value: float = 0.0

    def infer(self, x: TensorType) -> TensorType:
        """Extents grow by their padding."""
        require(self.mode in PAD_MODES, f"mode={self.mode!r} is none of {', '.join(PAD_MODES)}")
        require(len(self.padding) == x.rank, f"padding is given for {len(self.padding)} axes, the operand has {x.rank}")
        if self.mode == "constant":
            self._check_value(x)
        shape: list[Dim] = []
        for axis, ((before, after), extent) in enumerate(zip(self.padding, x.shape, strict=True)):
            for count in (before, after):
                self._check(axis, count, extent)
            shape.append(extent + before + after)
        return x.with_shape(shape)

    def _check_value(self, x: TensorType) -> None:
        kind = x.dtype.kind
        require(kind != "string", "strings have no number to pad with")
        if kind in ("bool", "int", "uint"):
            highest = 1 if kind == "bool" else 2 ** (x.dtype.bits - (kind == "int")) - 1
            lowest = -highest - 1 if kind == "int" else 0
            fits = lowest <= self.value <= highest and float(self.value).is_integer()
            require(fits, f"value={self.value} is not of dtype {x.dtype}")

    def _check(self, axis: int, count: Dim, extent: Dim) -> None:
        text = f"padding by {count} along axis {axis} of extent {extent}"
        require(not surely_negative(count), f"{text}: it is negative; slice instead")
        if self.mode == "reflect":
            fits = count == 0 or not surely_negative(extent - 1 - count)
            require(fits, f"{text}: reflect needs less than the extent")
        if self.mode == "wrap":
            require(not surely_negative(extent - count), f"{text}: wrap needs at most the extent")
        if self.mode == "edge":
            require(not (isinstance(extent, int) and extent == 0) or count == 0, f"{text}: there is no edge")

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's pad."""
        widths = [(int(before), int(after)) for before, after in self.padding]
        if self.mode != "constant":
            return m.move(lambda a: np.pad(a, widths, mode=self.mode), x)  # type: ignore[call-overload]
        shape = tuple(n + before + after for n, (before, after) in zip(x.shape, widths, strict=True))
        inner = tuple(slice(before, before + n) for n, (before, _) in zip(x.shape, widths, strict=True))
        fill = m.embed(np.array(self.value), F64) if m.is_real(x) else np.array(self.value).astype(x.dtype)

        def padded(a: Array, v: Array) -> Array:
            result = np.full(shape, v, a.dtype)
            result[inner] = a
            return result

        return m.move(padded, x, fill)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Each mode; integers and booleans; no padding; a scalar."""
        yield sample("f32[2,3]", padding=((1, 2), (0, 1)))
        yield sample("f32[2,3]", padding=((1, 0), (2, 2)), mode="reflect")
        yield sample("f32[1,3]", padding=((2, 1), (0, 4)), mode="edge")
        yield sample("f32[2,3]", padding=((2, 1), (3, 0)), mode="wrap")
        yield sample("i8[2]", padding=((1, 1),), value=-7)
        yield sample("bool[2]", padding=((0, 2),), value=1)
        yield sample("f64[0,2]", padding=((1, 0), (0, 0)), value=0.5)
        yield sample("f32[]", padding=())


class Flip(Op, name="flip", movement=True):
    """The order of elements reversed along each of `axes`."""

    axes: tuple[int, ...]

    def infer(self, x: TensorType) -> TensorType:
        """The type of x."""
        normal_axes(self.axes, x.rank)
        return x

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's flip."""
        return m.move(lambda a: np.flip(a, self.axes), x)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """One, several and no axes."""
        yield sample("f32[2,3]", axes=(1,))
        yield sample("i32[2,3,4]", axes=(0, -1))
        yield sample("f32[2]", axes=())


# ---- made of the above ------------------------------------------------------------------------------


class Squeeze(Op, name="squeeze", movement=True):
    """x without `axes`, whose extents are 1."""

    axes: tuple[int, ...]

    def infer(self, x: TensorType) -> TensorType:
        """The other extents."""
        dropped = normal_axes(self.axes, x.rank)
        for axis in dropped:
            require(is_one(x.shape[axis]), f"axis {axis} has extent {x.shape[axis]}, not 1")
        return x.with_shape(d for axis, d in enumerate(x.shape) if axis not in dropped)

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's squeeze."""
        return m.move(lambda a: np.squeeze(a, self.axes), x)

    def decompose(self, b: Builder, x: Value) -> Value:
        """A reshape."""
        return b.reshape(x, shape=self.infer(x.type).shape)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """One, several, all and no axes."""
        yield sample("f32[2,1,3]", axes=(1,))
        yield sample("i64[1,2,1]", axes=(-1, 0))
        yield sample("bool[1]", axes=(0,))
        yield sample("f32[1,2]", axes=())


class Unsqueeze(Op, name="unsqueeze", movement=True):
    """x with axes of extent 1 added; `axes` count in the result."""

    axes: tuple[int, ...]

    def infer(self, x: TensorType) -> TensorType:
        """Ones at `axes`."""
        added = normal_axes(self.axes, x.rank + len(self.axes))
        shape = list(x.shape)
        for axis in added:
            shape.insert(axis, 1)
        return x.with_shape(shape)

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's expand_dims."""
        return m.move(lambda a: np.expand_dims(a, self.axes), x)

    def decompose(self, b: Builder, x: Value) -> Value:
        """A reshape."""
        return b.reshape(x, shape=self.infer(x.type).shape)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """One, several and no axes; a scalar."""
        yield sample("f32[2,3]", axes=(1,))
        yield sample("f32[2,3]", axes=(0, -1))
        yield sample("i64[]", axes=(0,))
        yield sample("f32[2]", axes=())


class Stack(Op, name="stack", movement=True):
    """Operands of one type side by side along a new `axis`, which counts in the result."""

    axis: int

    def infer(self, *xs: TensorType) -> TensorType:
        """The shape of the operands with their number inserted."""
        require(len(xs) > 0, "at least one operand is needed")
        same_dtype(*xs)
        for number, x in enumerate(xs):
            fits = x.rank == xs[0].rank and all(map(same, x.shape, xs[0].shape))
            require(fits, f"operands 0 and {number} differ in shape: {listed(xs[0].shape)} and {listed(x.shape)}")
        shape = list(xs[0].shape)
        shape.insert(normal_axis(self.axis, xs[0].rank + 1), len(xs))
        return xs[0].with_shape(shape)

    def reference(self, m: Arithmetic, *xs: Array) -> Array:
        """NumPy's stack."""
        return m.move(lambda *a: np.stack(a, self.axis), *xs)

    def decompose(self, b: Builder, *xs: Value) -> Value:
        """concat(unsqueeze(x), …)."""
        return b.concat(*(b.unsqueeze(x, axes=(self.axis,)) for x in xs), axis=self.axis)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Along each place; scalars; one operand."""
        yield sample("f32[2,3]", "f32[2,3]", axis=0)
        yield sample("f32[2,3]", "f32[2,3]", "f32[2,3]", axis=-1)
        yield sample("i64[]", "i64[]", axis=0)
        yield sample("bool[2]", axis=1)


class Split(Op, name="split", movement=True):
    """x cut along `axis` into pieces of the given extents, which add up to its own."""

    axis: int
    sizes: tuple[Dim, ...]

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:
        """One type for each size."""
        axis = normal_axis(self.axis, x.rank)
        require(len(self.sizes) > 0, "at least one size is needed")
        negative = next((d for d in self.sizes if surely_negative(d)), None)
        require(negative is None, f"the size {negative} is negative")
        total = self._offsets()[-1]
        require(
            same(total, x.shape[axis]),
            f"sizes {listed(self.sizes)} add up to {total}, axis {axis} has extent {x.shape[axis]}",
        )
        return tuple(x.with_shape((*x.shape[:axis], size, *x.shape[axis + 1 :])) for size in self.sizes)

    def _offsets(self) -> Sequence[Dim]:
        offsets: list[Dim] = [0]
        for size in self.sizes:
            offsets.append(offsets[-1] + size)
        return offsets

    def reference(self, m: Arithmetic, x: Array) -> tuple[Array, ...]:
        """NumPy's split at the running sums of the sizes."""
        return tuple(m.move(lambda a: np.split(a, self._offsets()[1:-1], self.axis), x))  # type: ignore[arg-type]

    def decompose(self, b: Builder, x: Value) -> tuple[Value, ...]:
        """Slices."""
        axis, at = normal_axis(self.axis, x.type.rank), self._offsets()
        return tuple(
            b.slice(x, axes=(axis,), starts=(at[i],), stops=(at[i + 1],), steps=(1,)) for i in range(len(self.sizes))
        )

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Equal and unequal sizes, one size, an empty piece."""
        yield sample("f32[2,6]", axis=1, sizes=(3, 3))
        yield sample("f32[5,2]", axis=-2, sizes=(1, 0, 4))
        yield sample("i64[3]", axis=0, sizes=(3,))
