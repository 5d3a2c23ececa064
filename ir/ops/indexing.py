"""Ops that read at computed places: take, gather, nonzero, one-hot, dynamic slices. Writing is in `scatter.py`.

Indices are integer operands; a negative one counts from the end and one out of range is an error of the run, never
undefined.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dragoman.ir.dims import Dim, same
from dragoman.ir.errors import TypeRuleError, UsageError
from dragoman.ir.guess import Guess, guess, operand_types
from dragoman.ir.op import (
    Arithmetic,
    Array,
    Op,
    Sample,
    Shape,
    TensorType,
    normal_axis,
    operand,
    require,
    same_dtype,
    sample,
)
from dragoman.ir.ops.shape import listed, surely_negative
from dragoman.ir.types import BOOL, F32, I64, DType, same_shape

if TYPE_CHECKING:
    from dragoman.ir.builder import Builder
    from dragoman.ir.graph import Node, Value


def require_integers(indices: TensorType, what: str = "indices") -> None:
    """Raise TypeRuleError unless the operand has an integer dtype."""
    require(indices.dtype.is_integer, f"{what} have dtype {indices.dtype}, not an integer one")


def wrapped(indices: Array, extent: int, axis: int) -> Any:
    """Indices as 0..extent−1, negative ones counted from the end. Raises UsageError for one out of range."""
    wide = np.asarray(indices).astype(np.int64)
    outside = (wide < -extent) | (wide >= extent)
    if outside.any():
        raise UsageError(f"index {wide[outside][0]} is out of range for axis {axis} of extent {extent}")
    return np.where(wide < 0, wide + extent, wide)


class Take(Op, name="take", movement=True):
    """The entries of x along `axis` at `indices`, whose axes take the place of `axis`. As NumPy's take.

    x: [a…, n, b…]   indices: [i…], −n ≤ index < n   ->   [a…, i…, b…]
    """

    axis: int

    def infer(self, x: TensorType, indices: TensorType) -> TensorType:
        """x's shape with `axis` replaced by the shape of the indices."""
        require_integers(indices)
        axis = normal_axis(self.axis, x.rank)
        return x.with_shape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))

    def reference(self, m: Arithmetic, x: Array, indices: Array) -> Array:
        """NumPy's take."""
        places = wrapped(indices, x.shape[self.axis], self.axis)
        return m.move(lambda a: np.take(a, places, self.axis), x)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """An embedding, a scalar index, several index axes, no indices."""
        yield sample("f32[5,3]", operand("i64[2,4]", low=0, high=4), axis=0)
        yield sample("f32[2,3]", operand("i32[]", low=-3, high=2), axis=-1)
        yield sample("i8[2,3,4]", operand("i64[2]", low=-3, high=2), axis=1)
        yield sample("bool[2,3]", operand("i64[0]", low=0, high=1), axis=0)


def prefix_rule(x: TensorType, indices: TensorType, axis: int) -> None:
    """Raise TypeRuleError unless the indices have x's rank and, off `axis`, at most its extents."""
    require(indices.rank == x.rank, f"indices have rank {indices.rank}, the operand {x.rank}; they must be equal")
    for at, (extent, taken) in enumerate(zip(x.shape, indices.shape, strict=True)):
        fits = at == axis or not surely_negative(extent - taken)
        require(fits, f"indices have extent {taken} at axis {at}, more than {extent}; only axis {axis} may be longer")


def mesh_at(indices: Array, extent: int, axis: int) -> tuple[Any, ...]:
    """An open mesh over the shape of `indices` with the indices themselves at `axis`."""
    mesh: list[Any] = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
    mesh[axis] = wrapped(indices, extent, axis)
    return tuple(mesh)


class TakeAlongAxis(Op, name="take_along_axis", movement=True):
    """result[…, i, …] = x[…, indices[…, i, …], …]: one index for each element. torch.gather, ONNX's GatherElements.

    Off `axis` the indices have at most x's extents and take its leading part; nothing broadcasts.
    """

    axis: int

    def infer(self, x: TensorType, indices: TensorType) -> TensorType:
        """The shape of the indices."""
        require_integers(indices)
        prefix_rule(x, indices, normal_axis(self.axis, x.rank))
        return x.with_shape(indices.shape)

    def reference(self, m: Arithmetic, x: Array, indices: Array) -> Array:
        """NumPy's indexing with an open mesh."""
        places = mesh_at(indices, x.shape[self.axis], self.axis)
        return m.move(lambda a: a[places], x)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Fewer and more indices than entries, a leading part off the axis, none."""
        yield sample("f32[3,4]", operand("i64[3,2]", low=-4, high=3), axis=1)
        yield sample("f32[3,4]", operand("i64[5,2]", low=0, high=2), axis=-2)
        yield sample("i32[2,3,4]", operand("i32[1,3,4]", low=0, high=1), axis=0)
        yield sample("bool[3]", operand("i64[0]", low=0, high=2), axis=0)


class GatherNd(Op, name="gather_nd", movement=True):
    """result[b…, i…] = x[b…, *indices[b…, i…, :]]: each row of the indices is a place in x. ONNX's GatherND.

    x: [b…, n₁…nₖ, r…]   indices: [b…, i…, k]   ->   [b…, i…, r…], with `batch_dims` axes b
    """

    batch_dims: int = 0

    def infer(self, x: TensorType, indices: TensorType) -> TensorType:
        """Batch axes, index axes, what is left of x."""
        require_integers(indices)
        batch, depth = self.batch_dims, depth_of(indices)
        require(0 <= batch < indices.rank, f"batch_dims={batch} with indices of rank {indices.rank}")
        require(
            batch + depth <= x.rank, f"indices name {depth} axes after {batch} batch axes, the operand has {x.rank}"
        )
        for at in range(batch):
            fits = same(x.shape[at], indices.shape[at])
            require(
                fits, f"batch axis {at} has extent {x.shape[at]} in the operand, {indices.shape[at]} in the indices"
            )
        return x.with_shape((*indices.shape[:-1], *x.shape[batch + depth :]))

    def reference(self, m: Arithmetic, x: Array, indices: Array) -> Array:
        """NumPy's indexing with a tuple of arrays."""
        batch = [slice(n) for n in indices.shape[: self.batch_dims]]
        rest = [slice(1)] * (indices.ndim - 1 - self.batch_dims)
        mesh = list(np.ogrid[(*batch, *rest)])[: self.batch_dims] if batch else []
        places = (*mesh, *columns(indices, x.shape, self.batch_dims))
        return m.move(lambda a: a[places], x)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Whole and partial places, batch axes, a single place."""
        yield sample("f32[3,4]", operand("i64[5,2]", low=-3, high=2))
        yield sample("f32[3,4,2]", operand("i64[2,2,1]", low=0, high=2))
        yield sample("i32[2,3,4]", operand("i64[2,5,1]", low=0, high=2), batch_dims=1)
        yield sample("f32[2,3,4]", operand("i32[2,3,1]", low=-4, high=3), batch_dims=2)
        yield sample("bool[3,2]", operand("i64[2]", low=0, high=1))


def depth_of(indices: TensorType) -> int:
    """The extent of the last axis of the indices: how many axes a place has."""
    require(indices.rank > 0, "indices have rank 0; their last axis holds the places")
    depth = indices.shape[-1]
    if not isinstance(depth, int) or depth < 1:
        raise TypeRuleError(f"the last extent of the indices is {depth}; it must be a known number of at least 1")
    return depth


def columns(indices: Array, extents: Sequence[int], first: int) -> list[Any]:
    """The columns of the indices, each in range of its axis."""
    return [wrapped(indices[..., i], extents[first + i], first + i) for i in range(indices.shape[-1])]


class Nonzero(Op, name="nonzero", data_dependent=True):
    """The places of the elements other than zero, in row-major order; `size` is how many there are.

    x: [n…] of rank r   ->   i64[r, size], ONNX's layout. `size` is a symbol of its own where only the data can tell.
    """

    size: Dim

    def infer(self, x: TensorType) -> TensorType:
        """One column for each place."""
        require(x.rank > 0, "a scalar has no places")
        require(x.dtype.kind != "string", "a string is neither zero nor not")
        require(not surely_negative(self.size), f"size={self.size} is negative")
        return TensorType(I64, (x.rank, self.size))

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """NumPy's nonzero."""
        found = np.stack(np.nonzero(x != 0))
        if isinstance(self.size, int) and found.shape[1] != self.size:
            raise UsageError(f"nonzero found {found.shape[1]} places where the model says {self.size}")
        return found.astype(np.int64)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """All, some and none of the elements."""
        yield sample(operand("f32[2,3]", values=(0.0, 1.5, -0.0, 2.0, 0.0, -1.0)), size=3)
        yield sample(operand("bool[4]", values=(True, False, True, True)), size=3)
        yield sample(operand("i32[2,1,2]", values=(0, 0, 0, 0)), size=0)
        yield sample(operand("f64[2,2]", low=1.0, high=2.0), size=4)


# ---- made of the above ------------------------------------------------------------------------------


class OneHot(Op, name="one_hot"):
    """1 at the index and 0 elsewhere along a new `axis` of extent `depth`, which counts in the result. ONNX's OneHot.

    A negative index counts from the end; one outside −depth…depth−1 gives zeros only.
    """

    depth: Dim
    dtype: DType
    axis: int = -1

    def infer(self, indices: TensorType) -> TensorType:
        """The shape of the indices with `depth` inserted."""
        require_integers(indices)
        require(self.dtype.kind != "string", "strings have no 0 and 1")
        require(not surely_negative(self.depth), f"depth={self.depth} is negative")
        shape = list(indices.shape)
        shape.insert(normal_axis(self.axis, indices.rank + 1), self.depth)
        return TensorType(self.dtype, tuple(shape))

    def reference(self, m: Arithmetic, indices: Array) -> Array:
        """A comparison with 0…depth−1."""
        depth = int(self.depth)
        places = np.expand_dims(np.asarray(indices).astype(np.int64), self.axis)
        places = np.where(places < 0, places + depth, places)
        along = np.expand_dims(np.arange(depth), [a for a in range(places.ndim) if a != self.axis % places.ndim])
        return m.cast(places == along, self.dtype)

    def decompose(self, b: Builder, indices: Value) -> Value:
        """cast(where(i < 0, i + depth, i) == iota(depth))."""
        rank = indices.type.rank + 1
        axis = normal_axis(self.axis, rank)
        places = b.unsqueeze(indices, axes=(axis,))
        if indices.type.dtype != I64:
            places = b.cast(places, dtype=I64)
        places = b.where(b.less(places, 0), b.add(places, b.extent(self.depth, I64)), places)
        along = b.iota(size=self.depth, dtype=I64)
        along = b.reshape(along, shape=tuple(self.depth if a == axis else 1 for a in range(rank)))
        hit = b.equal(places, along)
        return hit if self.dtype == BOOL else b.cast(hit, dtype=self.dtype)

    @classmethod
    def guesses(cls, root: Node) -> Iterable[Guess]:
        """Integers of the result's shape without an axis."""
        result = root.results[0].type
        if not result.rank or root.op.name not in ("equal", "cast"):
            return
        for indices in operand_types(root):
            if indices.dtype.is_integer and indices.rank == result.rank - 1:
                for axis in range(result.rank):
                    if same_shape(indices.shape, (*result.shape[:axis], *result.shape[axis + 1 :])):
                        yield guess(indices, depth=result.shape[axis], dtype=result.dtype, axis=axis)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Each place of the axis, indices out of range, a narrow index type, booleans."""
        yield sample(operand("i64[2,3]", low=0, high=4), depth=5, dtype=F32)
        yield sample(operand("i32[4]", low=-6, high=6), depth=3, dtype=I64, axis=0)
        yield sample(operand("u8[2,2]", low=0, high=255), depth=300, dtype=F32, axis=1)
        yield sample(operand("i64[]", low=0, high=1), depth=2, dtype=BOOL)


class DynamicSlice(Op, name="dynamic_slice", movement=True):
    """The block of extents `sizes` that begins at `starts`, moved inside x where it would stick out, as XLA does.

    x: [n…] of rank r   starts: [r]   ->   [sizes…]
    """

    sizes: Shape

    def infer(self, x: TensorType, starts: TensorType) -> TensorType:
        """The sizes."""
        _block_rule(x, self.sizes, starts)
        return x.with_shape(self.sizes)

    def reference(self, m: Arithmetic, x: Array, starts: Array) -> Array:
        """NumPy's basic indexing."""
        block = _block(x.shape, [int(n) for n in self.sizes], starts)
        return m.move(lambda a: a[block], x)

    def decompose(self, b: Builder, x: Value, starts: Value) -> Value:
        """take(x, start + iota(size)) along each axis that is cut."""
        for axis, (extent, size) in enumerate(zip(x.type.shape, self.sizes, strict=True)):
            if not same(extent, size):
                x = b.take(x, _run(b, starts, axis, extent, size), axis=axis)
        return x

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Inside, sticking out on either side, whole axes, a scalar."""
        yield sample("f32[5,4]", operand("i64[2]", low=0, high=2), sizes=(2, 2))
        yield sample("i32[5,4,3]", operand("i32[3]", low=-9, high=9), sizes=(5, 1, 2))
        yield sample("f32[]", "i64[0]", sizes=())


class DynamicUpdateSlice(Op, name="dynamic_update_slice"):
    """x with the block that begins at `starts` set to `update`, moved inside where it would stick out, as XLA does.

    x: [n…] of rank r   update: [s…] of rank r   starts: [r]   ->   [n…]
    """

    def infer(self, x: TensorType, update: TensorType, starts: TensorType) -> TensorType:
        """The type of x."""
        same_dtype(x, update)
        _block_rule(x, update.shape, starts)
        return x

    def reference(self, m: Arithmetic, x: Array, update: Array, starts: Array) -> Array:
        """NumPy's assignment to a basic index."""
        return m.scatter(x, _block(x.shape, update.shape, starts), update, "none")

    def decompose(self, b: Builder, x: Value, update: Value, starts: Value) -> Value:
        """scatter_nd at the places of the block; axes after the last one that is cut are written whole."""
        shape, sizes = x.type.shape, update.type.shape
        cut = [axis for axis, (extent, size) in enumerate(zip(shape, sizes, strict=True)) if not same(extent, size)]
        if not cut:
            return update
        leading = cut[-1] + 1
        places: list[Value] = []
        for axis in range(leading):
            run = _run(b, starts, axis, shape[axis], sizes[axis])
            along = tuple(sizes[a] if a == axis else 1 for a in range(leading))
            places.append(b.broadcast_to(b.reshape(run, shape=along), shape=sizes[:leading]))
        return b.scatter_nd(x, b.stack(*places, axis=-1), update)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Inside, sticking out on either side, a whole replacement, a scalar."""
        yield sample("f32[5,4]", "f32[2,2]", operand("i64[2]", low=0, high=2))
        yield sample("i32[2,5,3]", "i32[2,1,3]", operand("i32[3]", low=-9, high=9))
        yield sample("f32[2,3]", "f32[2,3]", operand("i64[2]", low=0, high=2))
        yield sample("f32[]", "f32[]", "i64[0]")


def _block_rule(x: TensorType, sizes: Shape, starts: TensorType) -> None:
    require_integers(starts, "starts")
    require(len(sizes) == x.rank, f"the block has rank {len(sizes)}, the operand {x.rank}")
    fits = starts.rank == 1 and same(starts.shape[0], x.rank)
    require(fits, f"starts have shape {listed(starts.shape)}, not [{x.rank}]: one for each axis")
    for axis, (extent, size) in enumerate(zip(x.shape, sizes, strict=True)):
        inside = not surely_negative(size) and not surely_negative(extent - size)
        require(inside, f"a block of extent {size} does not fit axis {axis} of extent {extent}")


def _block(extents: Sequence[int], sizes: Sequence[int], starts: Array) -> tuple[slice, ...]:
    begin = [max(0, min(int(s), n - size)) for s, n, size in zip(starts, extents, sizes, strict=True)]
    return tuple(slice(s, s + size) for s, size in zip(begin, sizes, strict=True))


def _run(b: Builder, starts: Value, axis: int, extent: Dim, size: Dim) -> Value:
    """The indices along `axis` that a block covers: [size] of i64."""
    run = b.iota(size=size, dtype=I64)
    if same(extent, size):
        return run
    start = b.cast(b.slice(starts, axes=(0,), starts=(axis,), stops=(axis + 1,), steps=(1,)), dtype=I64)
    start = b.maximum(b.minimum(start, b.extent(extent - size, I64)), 0)
    return b.add(start, run)
