"""Reductions over axes, moments, norms, positions of extrema, running sums and softmax."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from dragoman.frontends.pytorch.context import Context
from dragoman.frontends.pytorch.table.registry import translates
from dragoman.frontends.pytorch.table.shape import axis_of, sliced
from dragoman.ir.dims import Dim, floordiv
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.types import BOOL, F32, I64, U8, DType

Dims = Sequence[int] | int | None


def axes_of(x: Value, dim: Dims) -> tuple[int, ...]:
    """The axes to reduce over: all of them for none."""
    if x.type.rank == 0:
        return ()
    if dim is None or (not isinstance(dim, int) and len(dim) == 0):
        return tuple(range(x.type.rank))
    return tuple(sorted(axis_of(x, d) for d in ((dim,) if isinstance(dim, int) else dim)))


def _summed(c: Context, x: Value, dtype: DType | None) -> Value:
    """x in the dtype in which torch adds: integers and booleans in i64."""
    wanted = dtype or (x.type.dtype if x.type.dtype.is_inexact else I64)
    return c.cast(x, wanted)


# ---- sums, products, means ---------------------------------------------------------------------------------------


@translates("aten.sum.default")
def sum_all(c: Context, x: Value, dtype: DType | None = None) -> Value:
    """Sum over everything."""
    return sum_(c, x, None, False, dtype)


@translates("aten.sum.dim_IntList")
def sum_(c: Context, x: Value, dim: Dims = None, keepdim: bool = False, dtype: DType | None = None) -> Value:
    """Sum over axes."""
    return c.b.reduce_sum(_summed(c, x, dtype), axes=axes_of(x, dim), keepdims=keepdim)


@translates("aten.nansum.default")
def nansum(c: Context, x: Value, dim: Dims = None, keepdim: bool = False, dtype: DType | None = None) -> Value:
    """Sum over axes, NaN counting as 0."""
    if x.type.dtype.is_float:
        x = c.b.where(c.b.isnan(x), c.b.const(0.0, x.type.dtype), x)
    return sum_(c, x, dim, keepdim, dtype)


@translates("aten.prod.default")
def prod_all(c: Context, x: Value, dtype: DType | None = None) -> Value:
    """Product over everything."""
    return c.b.reduce_prod(_summed(c, x, dtype), axes=axes_of(x, None))


@translates("aten.prod.dim_int")
def prod(c: Context, x: Value, dim: int, keepdim: bool = False, dtype: DType | None = None) -> Value:
    """Product over an axis."""
    return c.b.reduce_prod(_summed(c, x, dtype), axes=axes_of(x, dim), keepdims=keepdim)


@translates("aten.mean.default")
def mean_all(c: Context, x: Value, dtype: DType | None = None) -> Value:
    """Mean over everything."""
    return mean(c, x, None, False, dtype)


@translates("aten.mean.dim")
def mean(c: Context, x: Value, dim: Dims = None, keepdim: bool = False, dtype: DType | None = None) -> Value:
    """Mean over axes."""
    x = c.cast(x, dtype or x.type.dtype)
    return c.b.reduce_mean(x, axes=axes_of(x, dim), keepdims=keepdim)


@translates("aten.count_nonzero.default", "aten.count_nonzero.dim_IntList")
def count_nonzero(c: Context, x: Value, dim: Dims = None) -> Value:
    """How many elements are not zero."""
    return c.b.reduce_sum(c.cast(c.cast(x, BOOL), I64), axes=axes_of(x, dim))


# ---- extrema and logic -------------------------------------------------------------------------------------------


def _extreme(c: Context, x: Value, axes: tuple[int, ...], keepdims: bool, largest: bool) -> Value:
    if not axes:
        return x
    if x.type.dtype == BOOL:
        return (c.b.reduce_any if largest else c.b.reduce_all)(x, axes=axes, keepdims=keepdims)
    return (c.b.reduce_max if largest else c.b.reduce_min)(x, axes=axes, keepdims=keepdims)


def _position(c: Context, x: Value, axis: int, keepdims: bool, largest: bool) -> Value:
    if x.type.rank == 0:
        return c.b.const(0, I64)
    y = c.cast(x, I64) if x.type.dtype == BOOL else x
    return (c.b.argmax if largest else c.b.argmin)(y, axis=axis, keepdims=keepdims)


def _extrema(largest: bool) -> None:
    name = "max" if largest else "min"

    def over_axes(c: Context, x: Value, dim: Dims = None, keepdim: bool = False) -> Value:
        return _extreme(c, x, axes_of(x, dim), keepdim, largest)

    def with_places(c: Context, x: Value, dim: int, keepdim: bool = False) -> tuple[Value, Value]:
        axis = axis_of(x, dim)
        return over_axes(c, x, dim, keepdim), _position(c, x, axis, keepdim, largest)

    def place(c: Context, x: Value, dim: int | None = None, keepdim: bool = False) -> Value:
        if dim is None:
            flat = _position(c, c.reshape(x, (x.type.size,)), 0, False, largest)
            return c.reshape(flat, c.type.shape)
        return _position(c, x, axis_of(x, dim), keepdim, largest)

    translates(f"aten.{name}.default", f"aten.a{name}.default")(over_axes)
    translates(f"aten.{name}.dim")(with_places)
    translates(f"aten.arg{name}.default")(place)


_extrema(True)
_extrema(False)


@translates("aten.aminmax.default")
def aminmax(c: Context, x: Value, dim: int | None = None, keepdim: bool = False) -> tuple[Value, Value]:
    """The smallest and the largest."""
    axes = axes_of(x, dim)
    return _extreme(c, x, axes, keepdim, False), _extreme(c, x, axes, keepdim, True)


def _logic(name: str) -> None:
    def translate(c: Context, x: Value, dim: Dims = None, keepdim: bool = False) -> Value:
        # torch keeps u8, which was its boolean once.
        result = getattr(c.b, f"reduce_{name}")(c.cast(x, BOOL), axes=axes_of(x, dim), keepdims=keepdim)
        return c.cast(result, c.type.dtype)

    translates(*(f"aten.{name}.{overload}" for overload in ("default", "dim", "dims")))(translate)


_logic("any")
_logic("all")


# ---- moments and norms -------------------------------------------------------------------------------------------


def _variance(c: Context, x: Value, dim: Dims, correction: float | None, keepdim: bool) -> Value:
    amount = 1 if correction is None else correction
    return c.b.variance(x, axes=axes_of(x, dim), keepdims=keepdim, correction=amount)


@translates("aten.var.correction")
def var(c: Context, x: Value, dim: Dims = None, correction: float | None = None, keepdim: bool = False) -> Value:
    """Variance over axes."""
    return _variance(c, x, dim, correction, keepdim)


@translates("aten.var.default", "aten.std.default")
def var_all(c: Context, x: Value, unbiased: bool = True) -> Value:
    """Variance or deviation over everything."""
    return _rooted(c, _variance(c, x, None, int(unbiased), False))


@translates("aten.var.dim", "aten.std.dim")
def var_dim(c: Context, x: Value, dim: Dims, unbiased: bool = True, keepdim: bool = False) -> Value:
    """Variance or deviation over axes."""
    return _rooted(c, _variance(c, x, dim, int(unbiased), keepdim))


def _rooted(c: Context, x: Value) -> Value:
    return c.b.sqrt(x) if ".std" in str(c.node.target if c.node else "") else x


@translates("aten.std.correction")
def std(c: Context, x: Value, dim: Dims = None, correction: float | None = None, keepdim: bool = False) -> Value:
    """Standard deviation over axes."""
    return c.b.sqrt(_variance(c, x, dim, correction, keepdim))


@translates("aten.var_mean.correction", "aten.std_mean.correction")
def var_mean(
    c: Context, x: Value, dim: Dims = None, correction: float | None = None, keepdim: bool = False
) -> tuple[Value, Value]:
    """Variance or deviation, and mean."""
    spread = _variance(c, x, dim, correction, keepdim)
    root = "std_mean" in str(c.node.target if c.node else "")
    return (c.b.sqrt(spread) if root else spread), mean(c, x, dim, keepdim)


@translates("aten.logsumexp.default", "aten.special_logsumexp.default")
def logsumexp(c: Context, x: Value, dim: Dims, keepdim: bool = False) -> Value:
    """log Σ e^x over axes."""
    return c.b.reduce_logsumexp(c.floating(x), axes=axes_of(x, dim), keepdims=keepdim)


@translates("aten.linalg_vector_norm.default")
def vector_norm(
    c: Context, x: Value, ord: float = 2, dim: Dims = None, keepdim: bool = False, dtype: DType | None = None
) -> Value:
    """(Σ|x|^p)^(1/p) over axes, and its limits."""
    x = c.cast(x, dtype or x.type.dtype)
    if x.type.dtype.is_complex:
        raise Unsupported("norms of complex numbers")
    b, axes = c.b, axes_of(x, dim)
    named: dict[float, Callable[..., Value]] = {1: b.reduce_l1, 2: b.reduce_l2}
    if ord in named:
        return named[ord](x, axes=axes, keepdims=keepdim)
    size = b.abs(x)
    if math.isinf(ord):
        return _extreme(c, size, axes, keepdim, ord > 0)
    if ord == 0:
        return b.reduce_sum(c.cast(b.not_equal(x, 0.0), x.type.dtype), axes=axes, keepdims=keepdim)
    total = b.reduce_sum(b.power(size, float(ord)), axes=axes, keepdims=keepdim)
    return b.power(total, 1.0 / ord)


@translates("aten.norm.ScalarOpt_dim")
def norm_dim(c: Context, x: Value, p: float | None, dim: Dims, keepdim: bool = False) -> Value:
    """The same."""
    return vector_norm(c, x, 2 if p is None else p, dim, keepdim)


@translates("aten.norm.Scalar")
def norm_all(c: Context, x: Value, p: float = 2) -> Value:
    """The same over everything."""
    return vector_norm(c, x, p)


@translates("aten.norm.ScalarOpt_dtype", "aten.norm.ScalarOpt_dim_dtype")
def norm_dtype(
    c: Context, x: Value, p: float | None = None, dim: Dims = None, keepdim: bool = False, *, dtype: DType
) -> Value:
    """The same in another dtype."""
    return vector_norm(c, x, 2 if p is None else p, dim, keepdim, dtype)


@translates("aten.frobenius_norm.dim")
def frobenius_norm(c: Context, x: Value, dim: Dims, keepdim: bool = False) -> Value:
    """√Σx²."""
    return vector_norm(c, x, 2, dim, keepdim)


# ---- running and differences -------------------------------------------------------------------------------------


@translates("aten.cumsum.default")
def cumsum(c: Context, x: Value, dim: int, dtype: DType | None = None) -> Value:
    """Running sums."""
    return _running(c, x, dim, dtype, c.b.cumsum)


@translates("aten.cumprod.default")
def cumprod(c: Context, x: Value, dim: int, dtype: DType | None = None) -> Value:
    """Running products."""
    return _running(c, x, dim, dtype, c.b.cumprod)


def _running(c: Context, x: Value, dim: int, dtype: DType | None, function: Callable[..., Value]) -> Value:
    wide = _summed(c, x, dtype)
    return wide if x.type.rank == 0 else function(wide, axis=axis_of(x, dim))


@translates("aten.diff.default")
def diff(
    c: Context, x: Value, n: int = 1, dim: int = -1, prepend: Value | None = None, append: Value | None = None
) -> Value:
    """Differences of neighbours, n times."""
    axis = axis_of(x, dim)
    parts = [p for p in (prepend, x, append) if p is not None]
    x = c.b.concat(*parts, axis=axis) if len(parts) > 1 else x
    for _ in range(n):
        extent = x.type.shape[axis]
        right, left = sliced(c, x, axis, 1, extent), sliced(c, x, axis, 0, extent - 1)
        x = c.b.logical_xor(right, left) if x.type.dtype == BOOL else c.b.sub(right, left)
    return x


def _along(c: Context, x: Value, dim: int, dtype: DType | None, function: Callable[..., Value]) -> Value:
    x = c.cast(x, dtype) if dtype else c.floating(x)
    if x.type.rank == 0:
        return c.reshape(function(c.reshape(x, (1,)), axis=0), ())
    return function(x, axis=axis_of(x, dim))


@translates("aten.softmax.int", "aten.special_softmax.default")
def softmax(c: Context, x: Value, dim: int, dtype: DType | None = None) -> Value:
    """e^x / Σ e^x along an axis."""
    return _along(c, x, dim, dtype, c.b.softmax)


@translates("aten.log_softmax.int", "aten.special_log_softmax.default")
def log_softmax(c: Context, x: Value, dim: int, dtype: DType | None = None) -> Value:
    """log of the softmax."""
    return _along(c, x, dim, dtype, c.b.log_softmax)


@translates("aten._softmax.default")
def core_softmax(c: Context, x: Value, dim: int, half_to_float: bool = False) -> Value:
    """The softmax of torch's core set."""
    return _along(c, x, dim, F32 if half_to_float else None, c.b.softmax)


@translates("aten._log_softmax.default")
def core_log_softmax(c: Context, x: Value, dim: int, half_to_float: bool = False) -> Value:
    """Its logarithm."""
    return _along(c, x, dim, F32 if half_to_float else None, c.b.log_softmax)


@translates("aten._safe_softmax.default")
def safe_softmax(c: Context, x: Value, dim: int, dtype: DType | None = None) -> Value:
    """The softmax, 0 where a row is −∞ throughout."""
    b, axis = c.b, axis_of(x, dim)
    empty = b.reduce_all(b.isinf(x, positive=False), axes=(axis,), keepdims=True)
    weights = softmax(c, x, dim, dtype)
    return b.where(empty, b.const(0.0, weights.type.dtype), weights)


# ---- order -------------------------------------------------------------------------------------------------------


@translates("aten.topk.default")
def topk(c: Context, x: Value, k: Dim, dim: int = -1, largest: bool = True, sorted: bool = True) -> tuple[Value, Value]:
    """The k best along an axis, and where they were."""
    if x.type.rank == 0:
        return x, c.b.const(0, I64)
    return c.b.topk(x, k=k, axis=axis_of(x, dim), largest=largest)


@translates("aten.sort.default")
def sort(c: Context, x: Value, dim: int = -1, descending: bool = False) -> tuple[Value, Value]:
    """All in order along an axis, and where they were."""
    if x.type.rank == 0:
        return x, c.b.const(0, I64)
    return c.b.sort(x, axis=axis_of(x, dim), descending=descending)


@translates("aten.sort.stable")
def sort_stable(
    c: Context, x: Value, stable: bool | None = None, dim: int = -1, descending: bool = False
) -> tuple[Value, Value]:
    """The same."""
    return sort(c, x, dim, descending)


@translates("aten.argsort.default")
def argsort(c: Context, x: Value, dim: int = -1, descending: bool = False) -> Value:
    """The places in order."""
    return sort(c, x, dim, descending)[1]


@translates("aten.argsort.stable")
def argsort_stable(c: Context, x: Value, stable: bool, dim: int = -1, descending: bool = False) -> Value:
    """The same."""
    return sort(c, x, dim, descending)[1]


@translates("aten.median.default")
def median_all(c: Context, x: Value) -> Value:
    """The lower median of everything; NaN where there is one."""
    flat = c.reshape(x, (x.type.size,))
    return c.reshape(median(c, flat, 0)[0], ())


@translates("aten.median.dim")
def median(c: Context, x: Value, dim: int, keepdim: bool = False) -> tuple[Value, Value]:
    """The lower median along an axis, and where it was; the first NaN where there is one."""
    if x.type.rank == 0:
        return x, c.b.const(0, I64)
    b, axis = c.b, axis_of(x, dim)
    extent = x.type.shape[axis]
    ordered, places = b.sort(x, axis=axis)
    middle = floordiv(extent - 1, 2)
    parts = [sliced(c, v, axis, middle, middle + 1) for v in (ordered, places)]
    if x.type.dtype.is_float:
        nan = b.isnan(x)
        poisoned = b.reduce_any(nan, axes=(axis,), keepdims=True)
        first = b.argmax(c.cast(nan, U8), axis=axis, keepdims=True)
        parts = [b.where(poisoned, v, part) for v, part in zip((float("nan"), first), parts, strict=True)]
    shape = tuple(1 if a == axis else d for a, d in enumerate(x.type.shape) if keepdim or a != axis)
    return c.reshape(parts[0], shape), c.reshape(parts[1], shape)


@translates("aten.msort.default")
def msort(c: Context, x: Value) -> Value:
    """Sorted along the first axis."""
    return sort(c, x, 0)[0]
