"""Moving elements: reshape, transpose, slices, concatenation, padding, and sizes that only a run tells."""

from __future__ import annotations

from collections.abc import Sequence

from dragoman.frontends.onnx import known as k
from dragoman.frontends.onnx.call import Call
from dragoman.frontends.onnx.context import Context
from dragoman.frontends.onnx.operands import Operand
from dragoman.frontends.onnx.registry import translates
from dragoman.frontends.onnx.table.sizes import span
from dragoman.ir.dims import Call as DimCall
from dragoman.ir.dims import Dim, DimExpr, bounds, floordiv, is_one, maximum, product, same, terms_of
from dragoman.ir.errors import Malformed, Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.op import normal_axes, normal_axis
from dragoman.ir.types import I64, same_shape


def target_dims(c: Context, n: Call, index: int, hint: str) -> tuple[Dim, ...]:
    """A fresh size for each element of an input that holds sizes."""
    type = n.type(index)
    if type.rank != 1 or not isinstance(type.shape[0], int):
        raise Unsupported(f"{n.op} to a number of dimensions that is known only when the model runs")
    return tuple(c.fresh(hint) for _ in range(type.shape[0]))


def sized(c: Context, n: Call, index: int, hint: str) -> list[Dim]:
    """The elements of an integer input as dims: known ones, or fresh sizes that the model computes."""
    dims = n.dims(index)
    if dims is not None:
        return dims
    count = target_dims(c, n, index, hint)
    vector = c.cast(n[index], I64)
    return [c.size(c.slice(vector, 0, i, i + 1), hint) for i in range(len(count))]


# ---- the same elements under another shape ---------------------------------------------------------------


@translates("Identity")
def identity(c: Context, n: Call) -> Operand:
    """As it is, sequences too."""
    return n.operand(0)


@translates("Reshape")
def reshape(c: Context, n: Call) -> Value:
    """Another shape: 0 keeps an extent unless `allowzero`, −1 takes what is left."""
    x, keeps_zeros = n[0], bool(n.int("allowzero", 0))
    dims: Sequence[Dim] | None = n.ints("shape") if n.given("shape") else n.dims(1)
    if dims is None:
        shape = target_dims(c, n, 1, "reshaped")
        return c.b.dynamic_reshape(x, c.cast(n[1], I64), shape=shape, keep_zeros=keeps_zeros)
    shape = reshape_target(x.type.shape, dims, keeps_zeros)
    if same(product(x.type.shape), product(shape)) or not (_symbolic(x.type.shape) or _symbolic(shape)):
        return c.reshape(x, shape)
    # Whether the sizes fit is for the run to say, as it is in ONNX.
    return c.b.dynamic_reshape(x, c.i64(dims), shape=shape, keep_zeros=keeps_zeros)


def _symbolic(shape: Sequence[Dim]) -> bool:
    return any(isinstance(d, DimExpr) for d in shape)


def reshape_target(before: Sequence[Dim], dims: Sequence[Dim], keeps_zeros: bool) -> tuple[Dim, ...]:
    """The shape that a Reshape gives. Raises Malformed for two sizes of −1 or a 0 without an extent to keep."""
    result: list[Dim] = []
    open_axes = [i for i, d in enumerate(dims) if isinstance(d, int) and d == -1]
    if len(open_axes) > 1 or any(isinstance(d, int) and d < -1 for d in dims):
        raise Malformed(f"a reshape to {list(dims)}")
    for axis, dim in enumerate(dims):
        if isinstance(dim, int) and dim == 0 and not keeps_zeros:
            if axis >= len(before):
                raise Malformed(f"a reshape to {list(dims)} keeps the extent of axis {axis}, of {len(before)}")
            dim = before[axis]
        result.append(dim)
    if open_axes:
        result[open_axes[0]] = _left(before, [d for i, d in enumerate(result) if i != open_axes[0]])
    return tuple(result)


def _left(before: Sequence[Dim], others: Sequence[Dim]) -> Dim:
    total, taken = product(before), product(others)
    if isinstance(taken, int) and taken == 0:
        return 0
    # Extents that are kept cancel, whatever their values: 0·n/n is no number, but [n, 12] to [n, 3, −1] is 4.
    rest = list(others)
    kept: list[Dim] = []
    for dim in before:
        match = next((i for i, d in enumerate(rest) if isinstance(d, DimExpr) and same(d, dim)), None)
        if match is None:
            kept.append(dim)
        else:
            rest.pop(match)
    total, taken = product(kept), product(rest)
    return total if is_one(taken) else floordiv(total, taken)


@translates("Flatten")
def flatten(c: Context, n: Call) -> Value:
    """A matrix: the axes before `axis` and those from it on."""
    x = n[0]
    axis = n.int("axis", 1)
    axis = axis + x.type.rank if axis < 0 else axis
    if not 0 <= axis <= x.type.rank:
        raise Malformed(f"Flatten at axis {axis} of {x.type}")
    return c.reshape(x, (product(x.type.shape[:axis]), product(x.type.shape[axis:])))


@translates("Squeeze")
def squeeze(c: Context, n: Call) -> Value:
    """Without axes of extent 1: those named, or all there are."""
    x = n[0]
    if not n.given("axes") and n.has(1) and n.numbers(1) is None:
        return _squeezed(c, x, c.cast(n[1], I64))
    axes = n.axes(1)
    shape = x.type.shape
    if axes is None:
        unsure = next((d for d in shape if isinstance(d, DimExpr) and bounds(d)[0] <= 1 <= bounds(d)[1]), None)
        if unsure is not None:
            raise Unsupported(f"Squeeze without axes, where {unsure} may be 1: name the axes")
        axes = [i for i, d in enumerate(shape) if is_one(d)]
    gone = normal_axes(axes, x.type.rank)
    kept = tuple(d for i, d in enumerate(shape) if i not in gone)
    if any(isinstance(shape[i], DimExpr) for i in gone):
        return c.b.dynamic_reshape(x, c.i64(kept), shape=kept, keep_zeros=True)
    return c.b.squeeze(x, axes=tuple(gone)) if gone else x


def _squeezed(c: Context, x: Value, axes: Value) -> Value:
    """Without axes that the model computes."""
    b, rank = c.b, x.type.rank
    count = _count(axes, "Squeeze")
    left = b.nonzero(b.logical_not(_among(c, axes, rank)), size=rank - count)
    sizes = b.take(c.i64(x.type.shape), c.reshape(left, (rank - count,)), axis=0)
    shape = tuple(c.fresh("squeezed") for _ in range(rank - count))
    return b.dynamic_reshape(x, sizes, shape=shape, keep_zeros=True)


def _count(axes: Value, operator: str) -> int:
    count = axes.type.shape[0] if axes.type.rank == 1 else 1
    if not isinstance(count, int):
        raise Unsupported(f"{operator} of a number of axes that is known only when the model runs")
    return count


def _among(c: Context, axes: Value, rank: int) -> Value:
    """bool[rank]: whether each axis is among those computed."""
    b = c.b
    normal = b.where(b.less(axes, 0), b.add(axes, rank), axes)
    hits = b.equal(c.reshape(normal, (1, _count(axes, "axes"))), b.reshape(b.iota(size=rank), shape=(rank, 1)))
    return b.reduce_any(hits, axes=(1,))


def _unsqueezed(c: Context, x: Value, axes: Value) -> Value:
    """With axes that the model computes."""
    b, rank = c.b, x.type.rank + _count(axes, "Unsqueeze")
    new = _among(c, axes, rank)
    if not x.type.rank:
        return c.reshape(x, (1,) * rank)
    at = b.maximum(b.sub(b.cumsum(b.cast(b.logical_not(new), dtype=I64), axis=0), 1), 0)
    sizes = b.where(new, b.const(1, I64), b.take(c.i64(x.type.shape), at, axis=0))
    return b.dynamic_reshape(x, sizes, shape=tuple(c.fresh("unsqueezed") for _ in range(rank)), keep_zeros=True)


@translates("Unsqueeze")
def unsqueeze(c: Context, n: Call) -> Value:
    """With axes of extent 1."""
    if not n.given("axes") and n.has(1) and n.numbers(1) is None:
        return _unsqueezed(c, n[0], c.cast(n[1], I64))
    axes = n.axes(1)
    if axes is None:
        raise Malformed("Unsqueeze without axes")
    x = n[0]
    return c.b.unsqueeze(x, axes=tuple(normal_axes(axes, x.type.rank + len(axes)))) if axes else x


@translates("Expand")
def expand(c: Context, n: Call) -> Value:
    """x and a shape, broadcast against each other."""
    x, dims = n[0], n.dims(1)
    if dims is not None:
        return expanded(c, x, dims)
    wanted = target_dims(c, n, 1, "expanded")
    rank = max(x.type.rank, len(wanted))
    own = (1,) * (rank - x.type.rank) + x.type.shape
    fresh = (1,) * (rank - len(wanted)) + wanted
    shape = tuple(d if isinstance(d, int) and d != 1 else f for d, f in zip(own, fresh, strict=True))
    return c.b.dynamic_broadcast(x, c.cast(n[1], I64), shape=shape)


def expanded(c: Context, x: Value, dims: Sequence[Dim]) -> Value:
    """x and these dims, broadcast against each other."""
    shape, sure = broadcast_dims(c, x.type.shape, dims)
    return c.broadcast(x, shape) if sure else c.b.dynamic_broadcast(x, c.i64(dims), shape=shape)


def broadcast_dims(c: Context, a: Sequence[Dim], b: Sequence[Dim]) -> tuple[tuple[Dim, ...], bool]:
    """What two shapes broadcast to, and whether the dims alone say so; else the run must."""
    rank = max(len(a), len(b))
    shape: list[Dim] = []
    sure = True
    for x, y in zip((1,) * (rank - len(a)) + tuple(a), (1,) * (rank - len(b)) + tuple(b), strict=True):
        if is_one(y) or same(x, y):
            shape.append(x)
        elif is_one(x):
            shape.append(y)
        elif isinstance(x, int) and isinstance(y, int):
            raise Malformed(f"[{','.join(map(str, a))}] and [{','.join(map(str, b))}] do not broadcast: {x} and {y}")
        else:
            sure = False
            numbers = [d for d in (x, y) if isinstance(d, int)]
            shape.append(numbers[0] if numbers else _clipped(c, x, y) or _clipped(c, y, x) or c.fresh("common"))
    return tuple(shape), sure


def _clipped(c: Context, whole: Dim, part: Dim) -> Dim | None:
    """`whole` where `part` is min(number, whole), as a table sliced to a length is: both are equal or the run fails."""
    terms = terms_of(part)
    if len(terms) != 1 or terms[0][1] != 1 or len(terms[0][0]) != 1:
        return None
    atom, power = terms[0][0][0]
    if power != 1 or not isinstance(atom, DimCall) or atom.function != "min":
        return None
    limit = next((a for a in atom.arguments if isinstance(a, int)), None)
    if limit is None or not any(same(a, whole) for a in atom.arguments):
        return None
    c.limit(whole, limit)
    return whole


@translates("Transpose")
def transpose(c: Context, n: Call) -> Value:
    """Axes permuted, reversed unless told."""
    x = n[0]
    perm = n.ints("perm", list(reversed(range(x.type.rank))))
    return c.b.transpose(x, perm=tuple(perm))


@translates("Concat")
def concat(c: Context, n: Call) -> Value:
    """One after the other."""
    values = n.values
    return joined(c, values, n.int("axis", 1 if n.version < 4 else ...))


def joined(c: Context, values: Sequence[Value], axis: int) -> Value:
    """Values one after the other. Extents that must be equal, and are of unknown sizes, are those of the first."""
    if len(values) == 1:
        return values[0]
    axis = normal_axis(axis, values[0].type.rank)
    first = values[0].type.shape
    fitted = [values[0]]
    for x in values[1:]:
        shape = tuple(d if i == axis else f for i, (d, f) in enumerate(zip(x.type.shape, first, strict=True)))
        differs = not same_shape(shape, x.type.shape)
        if differs and (_symbolic(shape) or _symbolic(x.type.shape)):
            x = c.b.dynamic_reshape(x, c.i64(shape), shape=shape, keep_zeros=True)
        fitted.append(x)
    return c.b.concat(*fitted, axis=axis)


# ---- parts ---------------------------------------------------------------------------------------------------


@translates("Slice")
def slice_attributes(c: Context, n: Call) -> Value:
    """Places as attributes, before opset 10."""
    starts, stops = n.ints("starts"), n.ints("ends")
    axes = n.ints("axes", list(range(len(starts))))
    return sliced(c, n[0], axes, starts, stops, [1] * len(starts))


@translates("Slice", since=10)
def slice_(c: Context, n: Call) -> Value:
    """x[start:stop:step] along axes."""
    x = n[0]
    count = n.type(1).shape[0]
    if n.has(3) and n.numbers(3) is None:
        return _sliced_anywhere(c, n, x)
    axes = n.axes(3) if n.has(3) else (list(range(count)) if isinstance(count, int) else None)
    if axes is None:
        raise Unsupported("a slice of a number of axes that is known only when the model runs")
    starts, stops = n.dims(1), n.dims(2)
    steps = n.numbers(4) if n.has(4) else [1] * len(axes)
    if starts is not None and stops is not None and steps is not None:
        try:
            return sliced(c, x, axes, starts, stops, steps)
        except k.Undecided:
            pass
    by = c.cast(n[4], I64) if n.has(4) else c.i64([1] * len(axes))
    sizes = tuple(c.fresh("sliced") for _ in axes)
    places = (c.cast(n[1], I64), c.cast(n[2], I64), by)
    return c.b.dynamic_strided_slice(x, *places, axes=tuple(normal_axis(a, x.type.rank) for a in axes), sizes=sizes)


def _sliced_anywhere(c: Context, n: Call, x: Value) -> Value:
    """A slice along axes that the model computes: of all axes, whole where they are not among those."""
    b, rank = c.b, x.type.rank
    axes = c.cast(n[3], I64)
    axes = b.where(b.less(axes, 0), b.add(axes, rank), axes)
    whole = (0, 2**63 - 1, 1)
    given = [c.cast(n[i], I64) if n.has(i) else c.full(axes.type.shape, 1, I64) for i in (1, 2, 4)]
    places = [b.scatter_elements(c.full((rank,), w, I64), axes, g, axis=0) for w, g in zip(whole, given, strict=True)]
    sizes = tuple(c.fresh("sliced") for _ in range(rank))
    return b.dynamic_strided_slice(x, *places, axes=tuple(range(rank)), sizes=sizes)


def sliced(
    c: Context, x: Value, axes: Sequence[int], starts: Sequence[Dim], stops: Sequence[Dim], steps: Sequence[int]
) -> Value:
    """A slice between places that are known. Raises Undecided where a sign is open."""
    spans = []
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        if step == 0:
            raise Malformed("a slice has the step 0")
        at = normal_axis(axis, x.type.rank)
        spans.append((at, *span(start, stop, step, x.type.shape[at]), step))
    for at, first, count, step in spans:
        x = _cut(c, x, at, first, count, step)
    return x


def _cut(c: Context, x: Value, axis: int, first: Dim, count: Dim, step: int) -> Value:
    extent = x.type.shape[axis]
    if step > 0:
        if same(first, 0) and same(count, extent) and step == 1:
            return x
        stop = first + count if step == 1 else _stop(first, count, step)
        return c.slice(x, axis, first, stop, step)
    if isinstance(count, int) and count == 0:
        return c.slice(x, axis, 0, 0)
    if same(first, extent - 1) and same(count, extent) and step == -1:
        return c.b.flip(x, axes=(axis,))
    b = c.b
    places = b.add(b.mul(b.iota(size=count), step), b.extent(first, I64))
    return b.take(x, places, axis=axis)


def _stop(first: Dim, count: Dim, step: int) -> Dim:
    """The place after the last of `count` places: inside the axis, unlike first + count·step."""
    return first + maximum((count - 1) * step + 1, 0)


@translates("Split")
def split(c: Context, n: Call) -> list[Value]:
    """Parts along an axis: of the sizes given, or even ones with the last smaller."""
    x = n[0]
    axis = normal_axis(n.int("axis", 0), x.type.rank)
    extent = x.type.shape[axis]
    sizes: list[Dim] | None = list(n.ints("split")) if n.given("split") else None
    if sizes is None and n.has(1):
        sizes = sized(c, n, 1, "part")
    if sizes is None:
        sizes = even_sizes(extent, n.int("num_outputs", len(n.outputs)), exact=n.version < 18)
    if len(sizes) != len(n.outputs):
        raise Malformed(f"Split into {len(sizes)} parts with {len(n.outputs)} outputs")
    return parts(c, x, axis, sizes)


def even_sizes(extent: Dim, count: int, exact: bool) -> list[Dim]:
    """Sizes of `count` parts: equal, or the last smaller."""
    if exact:
        if not same(floordiv(extent, count) * count, extent):
            if isinstance(extent, int):
                raise Malformed(f"Split of an extent of {extent} into {count} equal parts")
            raise Unsupported(f"Split of {extent} into {count} equal parts, which it may not have")
        return [floordiv(extent, count)] * count
    each = floordiv(extent + count - 1, count)
    return [*[each] * (count - 1), extent - each * (count - 1)]


def parts(c: Context, x: Value, axis: int, sizes: Sequence[Dim]) -> list[Value]:
    """Consecutive parts."""
    total: Dim = sum(sizes, start=0)
    if same(total, x.type.shape[axis]):
        return list(c.b.split(x, axis=axis, sizes=tuple(sizes)))
    if isinstance(total, int) and isinstance(x.type.shape[axis], int):
        raise Malformed(f"Split of an extent of {x.type.shape[axis]} into parts of {list(sizes)}")
    ends = [sum(sizes[: i + 1], start=0) for i in range(len(sizes))]
    return [c.slice(x, axis, e - s, e) for s, e in zip(sizes, ends, strict=True)]


@translates("DepthToSpace")
def depth_to_space(c: Context, n: Call) -> Value:
    """Channels to pixels."""
    return c.b.depth_to_space(n[0], block=n.int("blocksize"), mode=n.text("mode", "DCR").lower())


@translates("SpaceToDepth")
def space_to_depth(c: Context, n: Call) -> Value:
    """Pixels to channels."""
    return c.b.space_to_depth(n[0], block=n.int("blocksize"), mode=n.text("mode", "DCR").lower())


@translates("Trilu")
def trilu(c: Context, n: Call) -> Value:
    """A triangle of each matrix."""
    x, upper = n[0], bool(n.int("upper", 1))
    dims = n.dims(1) if n.has(1) else [0]
    if dims is not None:
        return c.b.triangle(x, upper=upper, diagonal=dims[0])
    b = c.b
    rows, columns = x.type.shape[-2:]
    row, column = b.reshape(b.iota(size=rows), shape=(rows, 1)), b.reshape(b.iota(size=columns), shape=(1, columns))
    offset = b.sub(column, row)
    diagonal = c.reshape(c.cast(n[1], I64), ())
    kept = b.greater_equal(offset, diagonal) if upper else b.less_equal(offset, diagonal)
    return b.where(kept, x, c.const(0, x.type.dtype))
