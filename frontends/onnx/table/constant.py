"""Constants, ranges and tensors made of one number."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from dragoman.frontends.onnx import known as k
from dragoman.frontends.onnx.call import Call
from dragoman.frontends.onnx.context import Context
from dragoman.frontends.onnx.dtypes import dtype_of_code
from dragoman.frontends.onnx.operands import Tensor
from dragoman.frontends.onnx.registry import translates
from dragoman.frontends.onnx.table.shape import target_dims
from dragoman.frontends.onnx.tensors import sparse_array, weight_of
from dragoman.ir.dims import Dim, DimExpr, ceildiv, maximum
from dragoman.ir.errors import Malformed
from dragoman.ir.graph import Value
from dragoman.ir.types import BOOL, F32, F64, I64, STRING, DType, TensorType, dtype_of
from dragoman.ir.weights import ArrayWeight

_A = onnx.AttributeProto


@translates("Constant")
def constant(c: Context, n: Call) -> Any:
    """A tensor, a scalar or a list, from one attribute."""
    given = [a for name, a in n.attributes.items() if name.startswith(("value", "sparse_value"))]
    if len(given) != 1:
        raise Malformed(f"Constant has {len(given)} values")
    attribute = given[0]
    if attribute.type == _A.TENSOR:
        weight = weight_of(attribute.t, c.external, n.outputs[0])
        if weight.nbytes <= 8 * k.MOST or weight.dtype == STRING:
            return of_array(c, weight.array(), weight.dtype, n.outputs[0])
        return c.weight(n.outputs[0], weight)
    if attribute.type == _A.SPARSE_TENSOR:
        values = sparse_array(attribute.sparse_tensor, c.external)
        return of_array(c, values, dtype_of(values), n.outputs[0])
    found: dict[int, tuple[DType, Any]] = {
        _A.FLOAT: (F32, attribute.f),
        _A.INT: (I64, attribute.i),
        _A.STRING: (STRING, attribute.s.decode("utf-8", "surrogateescape")),
        _A.FLOATS: (F32, list(attribute.floats)),
        _A.INTS: (I64, list(attribute.ints)),
        _A.STRINGS: (STRING, [s.decode("utf-8", "surrogateescape") for s in attribute.strings]),
    }
    if attribute.type not in found:
        raise Malformed(f"Constant has a value of the kind {_A.AttributeType.Name(attribute.type)}")
    dtype, values = found[attribute.type]
    return of_array(c, np.array(values, dtype.numpy), dtype, n.outputs[0])


def of_array(c: Context, values: Any, dtype: DType, name: str) -> Any:
    """A constant: known while importing where it is small, a weight else."""
    if values.size <= k.MOST and not (dtype.is_float and values.size > 64):
        return Tensor(TensorType(dtype, values.shape), known=k.array_of(values))
    return c.weight(name, ArrayWeight(values))


def filling(n: Call) -> tuple[DType, Any]:
    """The number of ConstantOfShape and its dtype."""
    attribute = n.attributes.get("value")
    if attribute is None:
        return F32, 0.0
    weight = weight_of(attribute.t, n.c.external, "value")
    if weight.shape not in ((), (1,)):
        raise Malformed(f"ConstantOfShape has a value of shape {list(weight.shape)}")
    return weight.dtype, k.array_of(weight.array()).item()


@translates("ConstantOfShape")
def constant_of_shape(c: Context, n: Call) -> Value:
    """One number in every place."""
    dtype, fill = filling(n)
    scalar = c.of_known(k.scalar_of(fill), dtype).settle(c.scope)
    dims = n.dims(0)
    if dims is not None:
        return c.full(dims, scalar, dtype)
    return c.b.dynamic_broadcast(scalar, c.cast(n[0], I64), shape=target_dims(c, n, 0, "fill"))


@translates("Range")
def range_(c: Context, n: Call) -> Value:
    """start + step · (0, 1, …): as many as lie before the limit."""
    b, dtype = c.b, n.type(0).dtype
    places = b.iota(size=count) if (count := _known_count(n)) is not None else _counted(c, n)
    start, step = n[0], n[2]
    # Halves are computed in f32 and rounded once.
    wide = F32 if dtype.is_float and dtype.bits < F32.bits else dtype
    start, step = (c.cast(c.reshape(v, ()), wide) for v in (start, step))
    return c.cast(b.add(start, b.mul(c.cast(places, wide), step)), dtype) if dtype != BOOL else places


def _known_count(n: Call) -> Dim | None:
    if n.type(0).dtype.is_inexact:
        values = [n.known(i) for i in range(3)]
        if any(v is None or k.is_symbolic(v) for v in values):
            return _float_count(values)
        start, stop, step = (float(v.item()) for v in values if v is not None)
        return max(int(np.ceil((stop - start) / step)), 0) if step else None
    dims = [n.dims(i) for i in range(3)]
    if any(d is None for d in dims):
        return None
    start, stop, step = (d[0] for d in dims if d is not None)
    if isinstance(step, DimExpr) or step == 0:
        return None
    span = stop - start if step > 0 else start - stop
    return maximum(ceildiv(span, abs(step)), 0)


def _float_count(values: Any) -> Dim | None:
    """Of sizes in floating point, in whole steps from a whole start."""
    try:
        start, stop, step = (k.converted(v.item(), I64) for v in values if v is not None)
        exact = all(k.equal(k.converted(w, F64), v.item()) for w, v in zip((start, stop, step), values, strict=True))
    except (k.Undecided, ValueError, AttributeError):
        return None
    return maximum(stop - start, 0) if exact and step == 1 else None


def _counted(c: Context, n: Call) -> Value:
    """0, 1, … as many as a run needs: ⌈(limit − start) / step⌉, at least 0."""
    b = c.b
    start, stop, step = (c.reshape(n[i], ()) for i in range(3))
    if start.type.dtype.is_inexact:
        wide = [c.cast(v, F64) for v in (start, stop, step)]
        count = b.cast(b.ceil(b.div(b.sub(wide[1], wide[0]), wide[2])), dtype=I64)
    else:
        first, last, by = (c.cast(v, I64) for v in (start, stop, step))
        count = b.neg(b.floor_divide(b.sub(first, last), by))
    return b.dynamic_iota(b.maximum(count, 0), size=c.fresh("range"))


@translates("EyeLike")
def eye_like(c: Context, n: Call) -> Value:
    """Ones on a diagonal."""
    b, type = c.b, n.type(0)
    dtype = dtype_of_code(n.int("dtype")) if n.given("dtype") else type.dtype
    rows, columns = type.shape
    row = b.reshape(b.iota(size=rows), shape=(rows, 1))
    column = b.reshape(b.iota(size=columns), shape=(1, columns))
    return c.cast(b.equal(b.sub(column, row), n.int("k", 0)), dtype)
