"""Tensors made from nothing: ranges, constants, fills; and copies and casts, which are values already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from dragoman.frontends.pytorch.context import Context, Operand, Scalar
from dragoman.frontends.pytorch.dtypes import to_torch
from dragoman.frontends.pytorch.table.registry import translates
from dragoman.frontends.pytorch.weights import weight_of
from dragoman.ir.dims import Dim, DimExpr, maximum
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.types import F64, I64, DType

# ---- ranges ----------------------------------------------------------------------------------------------------


@translates("aten.arange.default")
def arange(c: Context, end: Scalar, dtype: DType | None = None) -> Value:
    """0, 1, … below `end`."""
    return arange_step(c, 0, end, 1, dtype)


@translates("aten.arange.start")
def arange_start(c: Context, start: Scalar, end: Scalar, dtype: DType | None = None) -> Value:
    """start, start + 1, … below `end`."""
    return arange_step(c, start, end, 1, dtype)


@translates("aten.arange.start_step")
def arange_step(c: Context, start: Scalar, end: Scalar, step: Scalar = 1, dtype: DType | None = None) -> Value:
    """start, start + step, … before `end`."""
    return ramp(c, c.type.shape[0], start, step, c.type.dtype)


def ramp(c: Context, size: Dim, start: Scalar, step: Scalar, dtype: DType) -> Value:
    """start + step·i for i below size, floats computed in f64 as torch does, unless all are whole numbers."""
    whole = all(isinstance(x, (int, DimExpr)) or (isinstance(x, float) and x.is_integer()) for x in (start, step))
    work = dtype if whole or dtype.is_integer else F64
    places = c.b.iota(size=size, dtype=work)
    if not _is(step, 1):
        places = c.b.mul(places, c.scalar(step, work))
    if not _is(start, 0):
        places = c.b.add(places, c.scalar(start, work))
    return c.cast(places, dtype)


def _is(x: Scalar, number: int) -> bool:
    return isinstance(x, (int, float)) and x == number


@translates("aten.linspace.default")
def linspace(c: Context, start: Scalar, end: Scalar, steps: Dim, dtype: DType | None = None) -> Value:
    """Evenly spaced numbers from start to end, counted from the nearer of them."""
    return _spaced(c, start, end)


@translates("aten.logspace.default")
def logspace(
    c: Context, start: Scalar, end: Scalar, steps: Dim, base: float = 10.0, dtype: DType | None = None
) -> Value:
    """Powers of the base with evenly spaced exponents."""
    type = c.type
    if not type.dtype.is_float:
        if isinstance(start, (int, float)) and isinstance(end, (int, float)) and isinstance(steps, int):
            return constant(c, torch.logspace(start, end, steps, base, dtype=to_torch(type.dtype)), "logspace")
        raise Unsupported("the ends or the count of the spacing are symbolic")
    return c.cast(c.b.power(c.b.const(float(base), F64), _evenly(c, start, end, type.shape[0])), type.dtype)


def _spaced(c: Context, start: Scalar, end: Scalar) -> Value:
    type = c.type
    count = type.shape[0]
    if type.dtype.is_float:
        return c.cast(_evenly(c, start, end, count), type.dtype)
    if isinstance(start, (int, float)) and isinstance(end, (int, float)) and isinstance(count, int):
        return constant(c, torch.linspace(start, end, count, dtype=to_torch(type.dtype)), "linspace")
    raise Unsupported("the ends or the count of the spacing are symbolic")


def _evenly(c: Context, start: Scalar, end: Scalar, count: Dim) -> Value:
    """The same in f64; of one number, the start."""
    b, places = c.b, c.b.iota(size=count, dtype=F64)
    first, last = c.scalar(start, F64), c.scalar(end, F64)
    gaps = b.extent(maximum(count - 1, 1), F64)
    step = b.div(b.sub(last, first), gaps)
    upwards = b.add(first, b.mul(places, step))
    downwards = b.sub(last, b.mul(b.sub(gaps, places), step))
    return b.where(b.less(places, b.div(b.extent(maximum(count, 2), F64), 2.0)), upwards, downwards)


def constant(c: Context, tensor: torch.Tensor, name: str) -> Value:
    """A tensor known now, as a weight. Not for regions of control flow, which have none."""
    return c.weight(name, weight_of(name, tensor))


# ---- fills -----------------------------------------------------------------------------------------------------


@translates("aten.full.default")
def full(c: Context, size: Sequence[Dim], fill_value: Scalar, dtype: DType | None = None) -> Value:
    """One value everywhere."""
    return c.full(c.type.shape, fill_value, c.type.dtype)


@translates("aten.full_like.default")
def full_like(c: Context, x: Value, fill_value: Scalar, dtype: DType | None = None) -> Value:
    """One value in the shape of x."""
    return c.full(c.type.shape, fill_value, c.type.dtype)


@translates("aten.new_full.default")
def new_full(c: Context, x: Value, size: Sequence[Dim], fill_value: Scalar, dtype: DType | None = None) -> Value:
    """One value everywhere."""
    return c.full(c.type.shape, fill_value, c.type.dtype)


def _filling(fill: int, *operators: str) -> None:
    def translate(c: Context, *args: Any, dtype: DType | None = None) -> Value:
        return c.full(c.type.shape, fill, c.type.dtype)

    translates(*(f"aten.{o}.default" for o in operators))(translate)


_filling(0, "zeros", "zeros_like", "new_zeros")
_filling(1, "ones", "ones_like", "new_ones")
# What is in uninitialised memory is nobody's promise: zeros.
_filling(0, "empty_like", "new_empty", "new_empty_strided", "empty_strided")
translates("aten.empty.memory_format", "aten.empty_permuted.default")(
    lambda c, *_, **__: c.full(c.type.shape, 0, c.type.dtype)
)


@translates("aten.scalar_tensor.default")
def scalar_tensor(c: Context, value: Scalar, dtype: DType | None = None) -> Value:
    """A number as a tensor of rank 0."""
    return c.scalar(value, c.type.dtype)


@translates("aten.eye.default", "aten.eye.m")
def eye(c: Context, rows: Dim, columns: Dim | None = None, dtype: DType | None = None) -> Value:
    """Ones on the diagonal."""
    b, (height, width) = c.b, c.type.shape
    same = b.equal(b.reshape(b.iota(size=height, dtype=I64), shape=(height, 1)), b.iota(size=width, dtype=I64))
    return c.cast(same, c.type.dtype)


def _triangle_indices(upper: bool) -> None:
    name = "triu_indices" if upper else "tril_indices"

    def translate(c: Context, rows: int, columns: int, offset: int = 0, dtype: DType | None = None) -> Value:
        function = torch.triu_indices if upper else torch.tril_indices
        return constant(c, function(rows, columns, offset, dtype=to_torch(c.type.dtype)), name)

    translates(f"aten.{name}.default")(translate)


_triangle_indices(True)
_triangle_indices(False)


@translates("aten.one_hot.default")
def one_hot(c: Context, x: Value, num_classes: int = -1) -> Value:
    """1 at the place that x says, on a new last axis."""
    depth = c.type.shape[-1]
    return c.b.one_hot(x, depth=depth, dtype=I64, axis=x.type.rank)


# ---- copies and casts --------------------------------------------------------------------------------------------


def _same(c: Context, x: Value, *args: Any, **kwargs: Any) -> Value:
    """x: memory, layout and device have no meaning here."""
    return x


translates(
    *(
        f"aten.{o}.default"
        for o in ("clone", "contiguous", "detach", "detach_copy", "alias", "alias_copy", "lift", "lift_fresh")
    ),
    *(f"aten.{o}.default" for o in ("lift_fresh_copy", "resolve_conj", "resolve_neg", "requires_grad_", "pin_memory")),
)(_same)


@translates(
    *("aten.to.dtype", "aten.to.device", "aten.to.dtype_layout", "aten.to.other", "aten.to.prim_Device"),
    *(
        "aten._to_copy.default",
        "aten.type_as.default",
        "prims.convert_element_type.default",
        "prims.device_put.default",
    ),
)
def to(c: Context, x: Value, *args: Any, **kwargs: Any) -> Value:
    """x in the dtype that torch says it gets."""
    if x.type.dtype.is_complex and not c.type.dtype.is_complex:
        raise Unsupported("a complex number is cast to a real one")
    return c.cast(x, c.type.dtype)


@translates("aten.copy.default", "aten.copy_.default")
def copy(c: Context, x: Value, source: Value, non_blocking: bool = False) -> Value:
    """The source in the shape and dtype of x."""
    return c.broadcast(c.cast(source, x.type.dtype), x.type.shape)


@translates("aten.fill.Scalar", "aten.fill.Tensor", "aten.fill_.Scalar", "aten.fill_.Tensor")
def fill(c: Context, x: Value, value: Operand) -> Value:
    """One value in the type of x."""
    return c.full(x.type.shape, value, x.type.dtype)


@translates("aten.zero.default", "aten.zero_.default")
def zero(c: Context, x: Value) -> Value:
    """Zeros in the type of x."""
    return c.full(x.type.shape, 0, x.type.dtype)
