"""Shape arithmetic, element by element: operators of ai.onnx on tensors whose elements are known while importing.

Integers and booleans always; floating-point tensors only where they hold sizes, or where elements are moved and not
computed: constants in floating point are computed by the IR's own arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dragoman.frontends.onnx import known as k
from dragoman.frontends.onnx.call import Call
from dragoman.frontends.onnx.dtypes import dtype_of_code
from dragoman.frontends.onnx.registry import knows
from dragoman.ir.dims import Dim, DimExpr, bounds, ceildiv, maximum, minimum, product
from dragoman.ir.types import BOOL, I64, DType

Known = tuple[DType, Any] | list[tuple[DType, Any]] | None


def _one(n: Call, index: int) -> Any:
    found = n.tensor(index).known
    if found is None:
        raise k.Undecided
    return found


def _numbers(n: Call, index: int) -> list[int]:
    values = _one(n, index).reshape(-1).tolist()
    if any(isinstance(v, DimExpr) for v in values):
        raise k.Undecided
    return [int(v) for v in values]


def _optional(n: Call, index: int, name: str) -> list[int] | None:
    if n.given(name):
        return n.ints(name)
    return _numbers(n, index) if n.has(index) else None


def _fitting(dtype: DType, array: Any) -> Known:
    if array.size > k.MOST or not k.fits(array, dtype):
        return None
    return dtype, array


# ---- computing ---------------------------------------------------------------------------------------------


def _computes(*operators: str, function: Callable[..., Any], result: DType | None = None) -> None:
    def known(n: Call) -> Known:
        arrays = [_one(n, i) for i in range(len(n.inputs))]
        dtype = n.type(0).dtype
        if n.given("broadcast", "axis") or (n.op == "Mod" and n.int("fmod", 0)):
            return None
        if dtype.is_inexact and not any(map(k.is_symbolic, arrays)):
            return None
        total = arrays[0]
        if len(arrays) == 1:
            total = k.mapped(function, total)
        for other in arrays[1:]:
            total = k.mapped(function, total, other)
        return _fitting(result or dtype, total)

    knows(*operators)(known)


for _operator, _function in {
    "Add": k.add,
    "Sub": k.subtract,
    "Mul": k.multiply,
    "Div": k.divide,
    "Mod": k.modulo,
    "Neg": k.negative,
    "Abs": k.absolute,
    "Floor": k.floor,
    "Ceil": k.ceiling,
    "Max": k.larger,
    "Min": k.smaller,
    "Sum": k.add,
}.items():
    _computes(_operator, function=_function)
for _operator, _function in {
    "Equal": k.equal,
    "Less": k.less,
    "LessOrEqual": k.less_equal,
    "Greater": lambda x, y: k.less(y, x),
    "GreaterOrEqual": lambda x, y: k.less_equal(y, x),
    "And": lambda x, y: x and y,
    "Or": lambda x, y: x or y,
    "Xor": lambda x, y: x != y,
    "Not": lambda x: not x,
}.items():
    _computes(_operator, function=_function, result=BOOL)


@knows("Cast")
def cast(n: Call) -> Known:
    """Sizes as other integers, or as floats."""
    x, dtype = _one(n, 0), dtype_of_code(n.int("to"))
    source = n.type(0).dtype
    if source.kind == "string" or (source.is_inexact and not k.is_symbolic(x)):
        return None
    if dtype.is_float and (dtype.bits < 32 or not k.is_symbolic(x)):
        return None
    return _fitting(dtype, k.mapped(lambda v: k.converted(v, dtype), x))


@knows("Where")
def where(n: Call) -> Known:
    """Each element from one side or the other."""
    return n.type(1).dtype, k.mapped(lambda c, x, y: x if c else y, *(_one(n, i) for i in range(3)))


def _reduces(operator: str, function: Callable[[Any, Any], Any], start: int | None) -> None:
    def known(n: Call) -> Known:
        x, dtype = _one(n, 0), n.type(0).dtype
        if dtype.is_inexact or dtype == BOOL:
            return None
        axes = _optional(n, 1, "axes")
        if not axes:
            if n.int("noop_with_empty_axes", 0):
                return None
            axes = list(range(x.ndim))
        keep = bool(n.int("keepdims", 1))
        for axis in sorted((a % x.ndim for a in axes), reverse=True):
            if start is None and not x.shape[axis]:
                return None
            rows = [x.take(i, axis) for i in range(x.shape[axis])]
            total = k.array_of([start] * (x.size // max(x.shape[axis], 1))) if start is not None else None
            total = total.reshape(x.take(0, axis).shape) if total is not None and x.shape[axis] else total
            for row in rows:
                row = np.asarray(row, np.object_)
                total = row if total is None else k.mapped(function, total, row)
            x = k.scalar_of(start) if total is None else np.asarray(total, np.object_)
            if keep:
                x = np.expand_dims(x, axis)
        return _fitting(dtype, x)

    knows(operator)(known)


_reduces("ReduceProd", k.multiply, 1)
_reduces("ReduceSum", k.add, 0)
_reduces("ReduceMax", k.larger, None)
_reduces("ReduceMin", k.smaller, None)


# ---- sizes -------------------------------------------------------------------------------------------------


@knows("Shape")
def shape(n: Call) -> Known:
    """The extents of a tensor, all or some."""
    dims = n.type(0).shape
    start, end = n.int("start", 0), n.int("end", len(dims))
    start, end = (min(max(d + len(dims) if d < 0 else d, 0), len(dims)) for d in (start, end))
    return I64, k.array_of(dims[start:end])


@knows("Size")
def size(n: Call) -> Known:
    """The number of elements."""
    return I64, k.scalar_of(product(n.type(0).shape))


@knows("Range")
def range_(n: Call) -> Known:
    """A range between numbers."""
    if n.type(0).dtype.is_inexact:
        return None
    start, stop, step = (_numbers(n, i)[0] for i in range(3))
    if step == 0 or len(range(start, stop, step)) > k.MOST:
        return None
    return n.type(0).dtype, k.array_of(range(start, stop, step))


@knows("ConstantOfShape")
def constant_of_shape(n: Call) -> Known:
    """A small tensor of one integer."""
    from dragoman.frontends.onnx.table.constant import filling

    dims = _numbers(n, 0)
    count = product(dims)
    if any(d < 0 for d in dims) or not isinstance(count, int) or count > 64:
        return None
    dtype, fill = filling(n)
    return (dtype, k.array_of([fill] * count, dims)) if dtype.is_integer or dtype == BOOL else None


# ---- moving ------------------------------------------------------------------------------------------------


@knows("Identity")
def identity(n: Call) -> Known:
    """As it is."""
    return n.type(0).dtype, _one(n, 0)


@knows("Reshape")
def reshape(n: Call) -> Known:
    """The same elements in another shape."""
    x = _one(n, 0)
    dims = n.ints("shape") if n.given("shape") else _numbers(n, 1)
    if not n.int("allowzero", 0):
        dims = [x.shape[i] if d == 0 and i < x.ndim else d for i, d in enumerate(dims)]
    return (n.type(0).dtype, x.reshape(dims)) if x.size else None


@knows("Squeeze")
def squeeze(n: Call) -> Known:
    """Without axes of extent 1."""
    x = _one(n, 0)
    axes = _optional(n, 1, "axes")
    return n.type(0).dtype, np.squeeze(x, tuple(axes) if axes is not None else None)


@knows("Unsqueeze")
def unsqueeze(n: Call) -> Known:
    """With axes of extent 1."""
    return n.type(0).dtype, np.expand_dims(_one(n, 0), tuple(_optional(n, 1, "axes") or ()))


@knows("Flatten")
def flatten(n: Call) -> Known:
    """As a matrix."""
    x, axis = _one(n, 0), n.int("axis", 1)
    return n.type(0).dtype, x.reshape(int(np.prod(x.shape[:axis])), -1) if x.size else None


@knows("Transpose")
def transpose(n: Call) -> Known:
    """Axes permuted."""
    return n.type(0).dtype, np.transpose(_one(n, 0), n.ints("perm", None))


@knows("Concat")
def concat(n: Call) -> Known:
    """One after the other."""
    joined = np.concatenate([_one(n, i) for i in range(len(n.inputs))], axis=n.int("axis", 1))
    return (n.type(0).dtype, joined) if joined.size <= k.MOST else None


@knows("Gather")
def gather(n: Call) -> Known:
    """Elements at known places."""
    x, places = _one(n, 0), _one(n, 1)
    if k.is_symbolic(places):
        return None
    axis = n.int("axis", 0)
    flat = np.array(places.reshape(-1).tolist(), np.int64).reshape(places.shape)
    if flat.size and not -x.shape[axis] <= flat.min() <= flat.max() < x.shape[axis]:
        return None
    return n.type(0).dtype, np.asarray(np.take(x, flat, axis), np.object_) if flat.ndim or x.ndim > 1 else k.scalar_of(
        x[int(flat)]
    )


@knows("Slice")
def slice_(n: Call) -> Known:
    """A part between known places."""
    x = _one(n, 0)
    starts, stops = _optional(n, 1, "starts") or [], _optional(n, 2, "ends") or []
    axes = _optional(n, 3, "axes") or list(range(len(starts)))
    steps = (_numbers(n, 4) if n.has(4) else None) or [1] * len(starts)
    places: list[slice] = [slice(None)] * x.ndim
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        at = axis % x.ndim
        lowest = -x.shape[at] - 1
        end: int | None = max(stop, lowest)
        # A stop before the first element means "to the beginning", which Python writes as None.
        places[at] = slice(start, None if step < 0 and end <= lowest else end, step)
    return n.type(0).dtype, x[tuple(places)]


@knows("Split")
def split(n: Call) -> Known:
    """Parts along an axis."""
    x, axis = _one(n, 0), n.int("axis", 0)
    sizes = _optional(n, 1, "split")
    if sizes is None:
        count = n.int("num_outputs", len(n.outputs))
        each = -(-x.shape[axis] // count)
        sizes = [min(each, x.shape[axis] - i * each) for i in range(count)]
    if sum(sizes) != x.shape[axis] or min(sizes) < 0:
        return None
    return [(n.type(0).dtype, part) for part in np.split(x, np.cumsum(sizes)[:-1], axis)]


@knows("Expand")
def expand(n: Call) -> Known:
    """Repeated to a small shape."""
    x, dims = _one(n, 0), _numbers(n, 1)
    wanted = np.broadcast_shapes(x.shape, tuple(dims))
    return (n.type(0).dtype, np.broadcast_to(x, wanted)) if np.prod(wanted, dtype=float) <= 64 else None


@knows("Tile")
def tile(n: Call) -> Known:
    """Repeated as a whole."""
    x, repeats = _one(n, 0), _numbers(n, 1)
    if x.size * np.prod(repeats, dtype=float) > 64 or len(repeats) != x.ndim:
        return None
    return n.type(0).dtype, np.tile(x, repeats)


# ---- places within an axis -----------------------------------------------------------------------------------


def clamped(place: Dim, extent: Dim, low: Dim = 0) -> Dim:
    """A place counted from the front, brought into low…extent. Raises Undecided where its sign is open."""
    smallest, largest = bounds(place)
    if smallest >= 0:
        inside = place
    elif largest < 0:
        inside = place + extent
    else:
        raise k.Undecided
    return maximum(minimum(inside, extent), low)


def span(start: Dim, stop: Dim, step: int, extent: Dim) -> tuple[Dim, Dim]:
    """The first place and the number of places that a slice takes. Raises Undecided."""
    if step > 0:
        first, last = clamped(start, extent), clamped(stop, extent)
        return first, maximum(ceildiv(last - first, step), 0)
    # Backwards places are 0…extent−1, and −1 stands before the first; a stop below −extent is that too.
    first = minimum(_placed(start, extent), extent - 1)
    last = -1 if bounds(stop + extent)[1] < 0 else maximum(_placed(stop, extent), -1)
    return first, maximum(ceildiv(first - last, -step), 0)


def _placed(place: Dim, extent: Dim) -> Dim:
    if bounds(place)[0] >= 0:
        return place
    if bounds(place)[1] < 0:
        return maximum(place + extent, -1)
    raise k.Undecided


def dims_of(values: Sequence[Any]) -> list[Dim]:
    """Elements as dims. Raises Undecided for a float."""
    if any(isinstance(v, (float, k.Quotient)) for v in values):
        raise k.Undecided
    return [int(v) if isinstance(v, bool) else v for v in values]
