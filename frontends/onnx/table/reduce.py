"""Reductions, running sums and products, places of extrema."""

from __future__ import annotations

from collections.abc import Callable

from dragoman.frontends.onnx.call import Call
from dragoman.frontends.onnx.context import Context
from dragoman.frontends.onnx.registry import translates
from dragoman.ir.dims import Dim
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.op import normal_axes, normal_axis
from dragoman.ir.types import BOOL, F32, F64, I64, U8, DType

Reduction = Callable[..., Value]


def _axes(n: Call, x: Value) -> tuple[int, ...] | None:
    """The axes to reduce; None for none at all."""
    whole = not n.given("axes") and n.has(1) and n.type(1).shape == (x.type.rank,)
    axes = list(range(x.type.rank)) if whole else n.axes(1)
    if axes:
        return normal_axes(axes, x.type.rank)
    return None if n.int("noop_with_empty_axes", 0) else tuple(range(x.type.rank))


def _computed_axes(n: Call) -> bool:
    """Whether the axes are known only when the model runs, and are not all there are."""
    if n.given("axes") or not n.has(1) or n.numbers(1) is not None:
        return False
    return n.type(1).shape not in ((0,), (n.type(0).rank,))


def _dynamic(c: Context, n: Call, kind: str, x: Value) -> Value:
    """A reduction over axes that the model computes."""
    keepdims = bool(n.int("keepdims", 1))
    count = n.type(1).shape[0]
    if not keepdims and not isinstance(count, int):
        raise Unsupported(f"{n.op} over a number of axes that is known only when the model runs")
    rank = x.type.rank if keepdims else x.type.rank - int(count)
    shape = tuple(c.fresh("reduced") for _ in range(rank))
    return c.b.dynamic_reduce(x, c.cast(n[1], I64), kind=kind, shape=shape, keepdims=keepdims)


def _reduces(operator: str, name: str, *, floats: bool = False) -> None:
    def translation(c: Context, n: Call) -> Value:
        x = n[0]
        if _computed_axes(n):
            wide = c.cast(x, F64) if floats and not x.type.dtype.is_inexact else x
            kind = {"reduce_max": "any", "reduce_min": "all"}[name] if x.type.dtype == BOOL else name[7:]
            return c.cast(_dynamic(c, n, kind, wide), x.type.dtype)
        axes = _axes(n, x)
        if axes is None and operator in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"):
            return x
        keepdims = bool(n.int("keepdims", 1))
        dtype = x.type.dtype
        if dtype == BOOL:
            name_of_bool = {"reduce_max": "reduce_any", "reduce_min": "reduce_all"}[name]
            return getattr(c.b, name_of_bool)(x, axes=axes, keepdims=keepdims)
        wide = c.cast(x, F64) if floats and not dtype.is_inexact else x
        # With no axes to reduce, each element is reduced alone.
        reduced = getattr(c.b, name)(wide, axes=axes or (), keepdims=keepdims)
        return c.cast(reduced, dtype)

    translates(operator)(translation)


for _operator, _name, _floats in (
    ("ReduceSum", "reduce_sum", False),
    ("ReduceProd", "reduce_prod", False),
    ("ReduceMax", "reduce_max", False),
    ("ReduceMin", "reduce_min", False),
    ("ReduceMean", "reduce_mean", True),
    ("ReduceL1", "reduce_l1", False),
    ("ReduceL2", "reduce_l2", True),
    ("ReduceSumSquare", "reduce_sum_square", False),
    ("ReduceLogSumExp", "reduce_logsumexp", True),
):
    _reduces(_operator, _name, floats=_floats)


@translates("ReduceLogSum")
def reduce_log_sum(c: Context, n: Call) -> Value:
    """log Σx."""
    x = n[0]
    dtype = x.type.dtype
    wide = c.cast(x, F64) if not dtype.is_inexact else x
    if _computed_axes(n):
        return c.cast(c.b.log(_dynamic(c, n, "sum", wide)), dtype)
    axes = _axes(n, x)
    total = c.b.reduce_sum(wide, axes=axes or (), keepdims=bool(n.int("keepdims", 1)))
    return c.cast(c.b.log(total), dtype)


@translates("ArgMax", "ArgMin")
def arg(c: Context, n: Call) -> Value:
    """The place of the largest or smallest element along an axis."""
    function = c.b.argmax if n.op == "ArgMax" else c.b.argmin
    keepdims, last = bool(n.int("keepdims", 1)), bool(n.int("select_last_index", 0))
    return function(n[0], axis=n.int("axis", 0), keepdims=keepdims, last=last)


@translates("CumSum", "CumProd")
def cumulative(c: Context, n: Call) -> Value:
    """Running sums or products along an axis."""
    x, axis = n[0], n.numbers(1)
    function = c.b.cumsum if n.op == "CumSum" else c.b.cumprod
    flags = {"exclusive": bool(n.int("exclusive", 0)), "reverse": bool(n.int("reverse", 0))}
    if axis is not None:
        return function(x, axis=axis[0], **flags)
    if x.type.rank == 1:
        return function(x, axis=0, **flags)
    b = c.b
    wanted = c.reshape(c.cast(n[1], I64), ())
    wanted = b.where(b.less(wanted, 0), b.add(wanted, x.type.rank), wanted)
    total = function(x, axis=0, **flags)
    for other in range(1, x.type.rank):
        total = b.where(b.equal(wanted, other), function(x, axis=other, **flags), total)
    return total


@translates("TopK")
def topk_attribute(c: Context, n: Call) -> list[Value]:
    """k as an attribute, before opset 10."""
    return list(c.b.topk(n[0], k=n.int("k"), axis=n.int("axis", -1)))


@translates("TopK", since=10)
def topk(c: Context, n: Call) -> list[Value]:
    """The k largest or smallest; unsorted ones may come in any order, so sorted ones do."""
    x = n[0]
    dims = n.dims(1)
    k: Dim = dims[0] if dims is not None else c.size(n[1], "k")
    axis = normal_axis(n.int("axis", -1), x.type.rank)
    return list(c.b.topk(x, k=k, axis=axis, largest=bool(n.int("largest", 1))))


@translates("NonZero")
def nonzero(c: Context, n: Call) -> Value:
    """The places of the elements other than zero."""
    x = n[0]
    if not x.type.rank:
        x = c.reshape(x, (1,))
        return c.slice(c.b.nonzero(x, size=c.fresh("nonzero")), 0, 0, 0)
    return c.b.nonzero(x, size=c.fresh("nonzero"))


@translates("Unique")
def unique(c: Context, n: Call) -> list[Value | None]:
    """The distinct elements, or slices along an axis."""
    return unique_elements(c, n)


def unique_elements(c: Context, n: Call) -> list[Value | None]:
    """Distinct elements in ascending order, or in that of their first occurrence; and where they are."""
    x = n[0]
    axis = n.int("axis") if n.given("axis") else None
    if axis is not None and x.type.rank != 1:
        return _unique_slices(c, n, x, normal_axis(axis, x.type.rank))
    flat = c.reshape(x, (x.type.size,))
    return _in_order(c, n, flat, *_ranked(c, flat))


def _ranked(c: Context, flat: Value) -> tuple[Value, Value]:
    """For each element its rank among the distinct ones in ascending order, and whether it is the first of its kind."""
    b = c.b
    order = _sortable(flat.type.dtype)
    values, places = b.sort(c.cast(flat, order), axis=0, descending=False)
    size = flat.type.shape[0]
    starts = _starts(c, values, size)
    ranks = b.sub(b.cumsum(c.cast(starts, I64), axis=0), 1)
    zeros = c.full((size,), 0, I64)
    return b.scatter_elements(zeros, places, ranks, axis=0), b.scatter_elements(
        c.full((size,), False, BOOL), places, starts, axis=0
    )


def _sortable(dtype: DType) -> DType:
    """A type that holds the same numbers and that runtimes order."""
    return U8 if dtype == BOOL else F32 if dtype.is_float and dtype.bits < F32.bits else dtype


def _starts(c: Context, values: Value, size: Dim) -> Value:
    changes = c.b.not_equal(c.slice(values, 0, 1, size), c.slice(values, 0, 0, size - 1))
    return c.b.concat(c.full((1,), True, BOOL), changes, axis=0)


def _in_order(c: Context, n: Call, flat: Value, ranks: Value, first: Value, axis: int = 0) -> list[Value | None]:
    """The outputs from ranks and firsts of the entries of `flat` along an axis."""
    b = c.b
    size = first.type.shape[0]
    count = c.fresh("unique")
    begins = b.reshape(b.nonzero(first, size=count), shape=(count,))  # in order of occurrence
    found = b.take(ranks, begins, axis=0)
    if n.int("sorted", 1):
        order = b.scatter_elements(c.full((count,), 0, I64), found, b.iota(size=count), axis=0)
        begins, inverse = b.take(begins, order, axis=0), ranks
    else:
        place = b.scatter_elements(c.full((count,), 0, I64), found, b.iota(size=count), axis=0)
        inverse = b.take(place, ranks, axis=0)
    counts = b.scatter_elements(c.full((count,), 0, I64), inverse, c.full((size,), 1, I64), axis=0, reduction="add")
    return [b.take(flat, begins, axis=axis), begins, inverse, counts]


def _unique_slices(c: Context, n: Call, x: Value, axis: int) -> list[Value | None]:
    """Distinct slices: ranked by comparing each with each, element by element from the first on."""
    b = c.b
    size = x.type.shape[axis]
    others = tuple(a for a in range(x.type.rank) if a != axis)
    rows = b.transpose(x, perm=(axis, *others))
    width: Dim = 1
    for a in others:
        width = width * x.type.shape[a]
    rows = c.reshape(rows, (size, width))
    rows = c.cast(rows, _sortable(rows.type.dtype))
    left, right = c.reshape(rows, (size, 1, width)), c.reshape(rows, (1, size, width))
    differ = b.not_equal(left, right)
    alike = b.logical_not(b.reduce_any(differ, axes=(2,)))
    # The first element that differs decides which slice is less.
    at = b.argmax(c.cast(differ, I64), axis=2, keepdims=True)
    less = b.squeeze(b.take_along_axis(c.cast(b.less(right, left), I64), at, axis=2), axes=(2,))
    before = b.less(b.reshape(b.iota(size=size), shape=(1, size)), b.reshape(b.iota(size=size), shape=(size, 1)))
    first = b.logical_not(b.reduce_any(b.logical_and(alike, before), axes=(1,)))
    seen = c.cast(c.broadcast(c.reshape(first, (1, size)), (size, size)), I64)
    ranks = b.reduce_sum(b.mul(less, seen), axes=(1,))
    return _in_order(c, n, x, ranks, first, axis)
