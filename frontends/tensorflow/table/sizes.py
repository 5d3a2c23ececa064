"""Shape arithmetic: how operators compute with integers and sizes that are known while importing."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from dragoman.frontends.onnx import known as k
from dragoman.frontends.onnx.context import common_shape
from dragoman.frontends.tensorflow.call import Call
from dragoman.frontends.tensorflow.registry import knows
from dragoman.frontends.tensorflow.table.slicing import index_of
from dragoman.ir.types import BOOL, I32, DType

Found = list[tuple[Any, DType]]


def _array(n: Call, index: int) -> Any:
    known = n.tensor(index).known
    if known is None:
        raise k.Undecided
    return known


def _one(array: Any, dtype: DType) -> Found:
    return [(k.array_of(array.reshape(-1).tolist(), array.shape), dtype)]


@knows("Shape", "ShapeN")
def shape(n: Call) -> Found:
    """Extents."""
    dtype = n.dtype("out_type") if n.has("out_type") else I32
    return [(k.array_of(n.type(i).shape), dtype) for i in range(len(n.inputs))]


@knows("Size")
def size(n: Call) -> Found:
    """How many elements there are."""
    dims = n.type(0).shape
    return [(k.scalar_of(reduce(lambda a, b: a * b, dims, 1)), n.dtype("out_type") if n.has("out_type") else I32)]


@knows("Rank")
def rank(n: Call) -> Found:
    """How many axes there are."""
    return [(k.scalar_of(n.type(0).rank), I32)]


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "Add": k.add, "AddV2": k.add, "Sub": k.subtract, "Mul": k.multiply, "RealDiv": k.divide, "TruncateDiv": k.divide,
    "FloorDiv": lambda x, y: _floor_divide(x, y), "FloorMod": k.modulo, "Maximum": k.larger, "Minimum": k.smaller,
}  # fmt: skip
_ASKING: dict[str, Callable[[Any, Any], Any]] = {
    "Equal": k.equal, "NotEqual": lambda x, y: not k.equal(x, y), "Less": k.less, "LessEqual": k.less_equal,
    "Greater": lambda x, y: k.less(y, x), "GreaterEqual": lambda x, y: k.less_equal(y, x),
    "LogicalAnd": lambda x, y: x and y, "LogicalOr": lambda x, y: x or y,
}  # fmt: skip


def _floor_divide(x: Any, y: Any) -> Any:
    if isinstance(x, int) and isinstance(y, int):
        if y == 0:
            raise k.Undecided
        return x // y
    return k.divide(x, y)


@knows(*_BINARY)
def arithmetic(n: Call) -> Found:
    """Element by element."""
    return [(k.mapped(_BINARY[n.op], _array(n, 0), _array(n, 1)), n.type(0).dtype)]


@knows(*_ASKING)
def asking(n: Call) -> Found:
    """Questions that the ranges of the symbols may decide."""
    return [(k.mapped(_ASKING[n.op], _array(n, 0), _array(n, 1)), BOOL)]


@knows("LogicalNot")
def negation(n: Call) -> Found:
    """The other answer."""
    return [(k.mapped(lambda x: not x, _array(n, 0)), BOOL)]


@knows("Neg", "Abs", "Floor", "Ceil")
def unary(n: Call) -> Found:
    """Element by element."""
    function = {"Neg": k.negative, "Abs": k.absolute, "Floor": k.floor, "Ceil": k.ceiling}[n.op]
    return [(k.mapped(function, _array(n, 0)), n.type(0).dtype)]


@knows("Cast")
def cast(n: Call) -> Found:
    """Another element type."""
    dtype = n.dtype("DstT")
    return [(k.mapped(lambda x: k.converted(x, dtype), _array(n, 0)), dtype)]


@knows("Select", "SelectV2")
def select(n: Call) -> Found:
    """One or the other, where the condition is known."""
    return [(k.mapped(lambda p, x, y: x if p else y, *(_array(n, i) for i in range(3))), n.type(1).dtype)]


@knows("Pack")
def pack(n: Call) -> Found:
    """Side by side along a new axis."""
    return _one(np.stack([_array(n, i) for i in range(len(n.inputs))], n.int("axis")), n.type(0).dtype)


@knows("Unpack")
def unpack(n: Call) -> Found:
    """Apart along an axis."""
    array = np.moveaxis(_array(n, 0), n.int("axis"), 0)
    return [pair for row in array for pair in _one(np.asarray(row, object), n.type(0).dtype)]


@knows("ConcatV2")
def concat(n: Call) -> Found:
    """One after the other."""
    last = len(n.inputs) - 1
    axis = int(_array(n, last).reshape(-1)[0])
    return _one(np.concatenate([_array(n, i) for i in range(last)], axis), n.type(0).dtype)


@knows("StridedSlice")
def strided_slice(n: Call) -> Found:
    """As NumPy indexes."""
    begin, end, strides = (_array(n, i) for i in (1, 2, 3))
    return _one(np.asarray(_array(n, 0)[index_of(n, begin, end, strides)], object), n.type(0).dtype)


@knows("Slice")
def slice_(n: Call) -> Found:
    """A block."""
    starts, sizes = (_array(n, i).reshape(-1) for i in (1, 2))
    index = tuple(slice(int(s), None if c == -1 else int(s) + int(c)) for s, c in zip(starts, sizes, strict=True))
    return _one(_array(n, 0)[index], n.type(0).dtype)


@knows("Reshape")
def reshape(n: Call) -> Found:
    """In another shape."""
    return _one(_array(n, 0).reshape([int(d) for d in _array(n, 1).reshape(-1)]), n.type(0).dtype)


@knows("ExpandDims")
def expand_dims(n: Call) -> Found:
    """With a new axis."""
    return _one(np.expand_dims(_array(n, 0), int(_array(n, 1).reshape(-1)[0])), n.type(0).dtype)


@knows("Squeeze")
def squeeze(n: Call) -> Found:
    """Without axes of extent 1."""
    axes = n.ints("squeeze_dims")
    return _one(np.asarray(np.squeeze(_array(n, 0), tuple(axes) if axes else None), object), n.type(0).dtype)


@knows("GatherV2")
def gather(n: Call) -> Found:
    """Elements by their places."""
    axis = int(_array(n, 2).reshape(-1)[0])
    places = np.array(_array(n, 1).tolist(), np.int64)
    return _one(np.asarray(np.take(_array(n, 0), places, axis), object), n.type(0).dtype)


@knows("Range")
def range_(n: Call) -> Found | None:
    """Few numbers in steps."""
    start, limit, step = (_array(n, i).reshape(-1)[0] for i in range(3))
    if not all(isinstance(x, int) for x in (start, limit, step)) or step == 0:
        return None
    if (limit - start) // step > 64:
        return None
    return [(k.array_of(list(range(start, limit, step))), n.type(0).dtype)]


@knows("Fill")
def fill(n: Call) -> Found | None:
    """Few equal numbers."""
    shape = _array(n, 0).reshape(-1)
    if not all(isinstance(d, int) for d in shape) or np.prod([int(d) for d in shape]) > 64:
        return None
    array = np.empty([int(d) for d in shape], object)
    array[...] = _array(n, 1).reshape(-1)[0]
    return [(array, n.type(1).dtype)]


@knows("Prod", "Sum", "Max", "Min", "All", "Any")
def folded(n: Call) -> Found:
    """A reduction of all elements of a vector."""
    array, keep = _array(n, 0), n.flag("keep_dims")
    axes = {int(a) % max(array.ndim, 1) for a in _array(n, 1).reshape(-1)}
    if axes != set(range(array.ndim)):
        raise k.Undecided
    kinds: dict[str, tuple[Callable[[Any, Any], Any], Any]] = {
        "Prod": (k.multiply, 1), "Sum": (k.add, 0), "All": (lambda x, y: x and y, True),
        "Any": (lambda x, y: x or y, False), "Max": (k.larger, None), "Min": (k.smaller, None),
    }  # fmt: skip
    function, start = kinds[n.op]
    flat = array.reshape(-1).tolist()
    total = reduce(function, flat) if start is None else reduce(function, flat, start)
    return [(k.array_of([total], (1,) * array.ndim if keep else ()), n.type(0).dtype)]


@knows("BroadcastArgs")
def broadcast_args(n: Call) -> Found:
    """The shape that two shapes broadcast to."""
    shapes = [tuple(_array(n, i).reshape(-1).tolist()) for i in (0, 1)]
    return [(k.array_of(common_shape(*shapes)), n.type(0).dtype)]
