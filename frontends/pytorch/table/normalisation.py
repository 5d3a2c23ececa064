"""Normalisations, kept whole. A batch norm in training mode also says what becomes of its running statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from dragoman.frontends.pytorch.context import Context
from dragoman.frontends.pytorch.dtypes import to_torch
from dragoman.frontends.pytorch.table.registry import translates
from dragoman.ir.dims import Dim, DimExpr, product
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value

# ---- batch norm --------------------------------------------------------------------------------------------------


def _per_channel(c: Context, x: Value, given: Value | None, otherwise: float) -> Value:
    """A parameter of the channels, or a constant in its place."""
    if x.type.rank < 2:
        raise Unsupported("a batch norm without an axis of channels")
    return c.full((x.type.shape[1],), otherwise, x.type.dtype) if given is None else given


def _normalised(
    c: Context, x: Value, weight: Value | None, bias: Value | None, mean: Value, variance: Value, eps: float
) -> Value:
    # Mixed precision keeps the statistics in f32 beside half-precision activations.
    wide = mean.type.dtype
    scale, shift = _per_channel(c, x, weight, 1.0), _per_channel(c, x, bias, 0.0)
    result = c.b.batch_norm(
        c.cast(x, wide), c.cast(scale, wide), c.cast(shift, wide), mean, variance, epsilon=float(eps)
    )
    return c.cast(result, x.type.dtype)


def _batch_statistics(c: Context, x: Value) -> tuple[Value, Value]:
    axes = tuple(a for a in range(x.type.rank) if a != 1)
    return c.b.reduce_mean(x, axes=axes), c.b.variance(x, axes=axes, correction=0)


def _updated(c: Context, old: Value, new: Value, momentum: float) -> Value:
    b = c.b
    return b.add(b.mul(old, 1.0 - momentum), b.mul(c.cast(new, old.type.dtype), momentum))


def _unbiased(c: Context, x: Value, variance: Value) -> Value:
    return _bessel(c, variance, product(d for axis, d in enumerate(x.type.shape) if axis != 1))


def _bessel(c: Context, variance: Value, count: Dim) -> Value:
    """The variance of a sample from that of a population of `count`."""
    if isinstance(count, int):
        return c.b.mul(variance, count / (count - 1)) if count > 1 else variance
    b, dtype = c.b, variance.type.dtype
    return b.mul(variance, b.div(b.extent(count, dtype), b.extent(count - 1, dtype)))


@translates("aten.batch_norm.default")
def batch_norm(
    c: Context,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    running_mean: Value | None,
    running_var: Value | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> Value:
    """Normalised by the running statistics, or in training by the batch's own, which also move the running ones."""
    if not training:
        if running_mean is None or running_var is None:
            raise Unsupported("a batch norm without running statistics outside of training")
        return _normalised(c, x, weight, bias, running_mean, running_var, eps)
    mean, variance = _batch_statistics(c, x)
    if running_mean is not None and running_var is not None:
        c.write(3, _updated(c, running_mean, mean, momentum))
        c.write(4, _updated(c, running_var, _unbiased(c, x, variance), momentum))
    return _normalised(c, x, weight, bias, mean, variance, eps)


@translates("aten._native_batch_norm_legit_no_training.default")
def batch_norm_inference(
    c: Context,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    running_mean: Value,
    running_var: Value,
    momentum: float,
    eps: float,
) -> tuple[Value, None, None]:
    """The batch norm of torch's core set."""
    return _normalised(c, x, weight, bias, running_mean, running_var, eps), None, None


@translates("aten.native_batch_norm.default", "aten._native_batch_norm_legit.default")
def native_batch_norm(
    c: Context,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    running_mean: Value | None,
    running_var: Value | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Value, Value | None, Value | None]:
    """The same, with the batch's mean and 1/deviation."""
    result = batch_norm(c, x, weight, bias, running_mean, running_var, training, momentum, eps)
    if not training:
        return result, None, None
    mean, variance = _batch_statistics(c, x)
    return result, mean, c.b.rsqrt(c.b.add(variance, float(eps)))


@translates("aten._native_batch_norm_legit_functional.default")
def functional_batch_norm(
    c: Context,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    running_mean: Value,
    running_var: Value,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Value | None, ...]:
    """The same, with the new running statistics as results."""
    if not training:
        return _normalised(c, x, weight, bias, running_mean, running_var, eps), None, None, running_mean, running_var
    mean, variance = _batch_statistics(c, x)
    moved = _updated(c, running_mean, mean, momentum)
    spread = _updated(c, running_var, _unbiased(c, x, variance), momentum)
    inverse = c.b.rsqrt(c.b.add(variance, float(eps)))
    return _normalised(c, x, weight, bias, mean, variance, eps), mean, inverse, moved, spread


@translates("aten._native_batch_norm_legit.no_stats")
def batch_norm_without_statistics(
    c: Context, x: Value, weight: Value | None, bias: Value | None, training: bool, momentum: float, eps: float
) -> tuple[Value, Value, Value]:
    """Normalised by the batch's own statistics."""
    mean, variance = _batch_statistics(c, x)
    inverse = c.b.rsqrt(c.b.add(variance, float(eps)))
    return _normalised(c, x, weight, bias, mean, variance, eps), mean, inverse


@translates("aten.instance_norm.default")
def instance_norm(
    c: Context,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    running_mean: Value | None,
    running_var: Value | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> Value:
    """Each channel of each element normalised by itself, or by running statistics, which using itself moves."""
    if not use_input_stats:
        assert running_mean is not None
        assert running_var is not None
        return _normalised(c, x, weight, bias, running_mean, running_var, eps)
    if running_mean is not None and running_var is not None:
        axes = tuple(range(2, x.type.rank))
        count: Dim = product(x.type.shape[2:])
        mean = c.b.reduce_mean(c.b.reduce_mean(x, axes=axes), axes=(0,))
        spread = c.b.reduce_mean(_bessel(c, c.b.variance(x, axes=axes, correction=0), count), axes=(0,))
        c.write(3, _updated(c, running_mean, mean, momentum))
        c.write(4, _updated(c, running_var, spread, momentum))
    return c.b.instance_norm(x, weight, bias, epsilon=float(eps))


# ---- layer, group and root-mean-square norms ---------------------------------------------------------------------


def _widest(*given: Value | None) -> Value:
    """Of activations and parameters that differ in precision, the one with more."""
    return max((v for v in given if v is not None), key=lambda v: v.type.dtype.bits)


def _layer_norm(c: Context, x: Value, axes: int, weight: Value | None, bias: Value | None, eps: float) -> Value:
    dtype = _widest(x, weight, bias).type.dtype
    scale, shift = (None if p is None else c.cast(p, dtype) for p in (weight, bias))
    axis = x.type.rank - axes
    return c.cast(c.b.layer_norm(c.cast(x, dtype), scale, shift, axis=axis, epsilon=float(eps)), x.type.dtype)


@translates("aten.layer_norm.default")
def layer_norm(
    c: Context,
    x: Value,
    normalized_shape: Sequence[Dim],
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-05,
    cudnn_enable: bool = True,
) -> Value:
    """Normalised over the last axes."""
    return _layer_norm(c, x, len(normalized_shape), weight, bias, eps)


@translates("aten.native_layer_norm.default")
def native_layer_norm(
    c: Context, x: Value, normalized_shape: Sequence[Dim], weight: Value | None, bias: Value | None, eps: float
) -> tuple[Value, Value | None, Value | None]:
    """The same, with mean and 1/deviation."""
    result = _layer_norm(c, x, len(normalized_shape), weight, bias, eps)
    if not _used(c, 1, 2):
        return result, None, None
    axes = tuple(range(x.type.rank - len(normalized_shape), x.type.rank))
    mean = c.b.reduce_mean(x, axes=axes, keepdims=True)
    variance = c.b.variance(x, axes=axes, keepdims=True, correction=0)
    return result, mean, c.b.rsqrt(c.b.add(variance, float(eps)))


def _used(c: Context, *results: int) -> bool:
    """Whether any of these results of the operator is picked."""
    users = c.node.users if c.node is not None else {}
    return any(len(u.args) > 1 and u.args[1] in results for u in users)


@translates("aten.rms_norm.default", "aten._fused_rms_norm.default")
def rms_norm(
    c: Context, x: Value, normalized_shape: Sequence[Dim], weight: Value | None = None, eps: float | None = None
) -> Value | tuple[Value, None]:
    """Divided by the root of the mean square over the last axes."""
    axis = x.type.rank - len(normalized_shape)
    epsilon = torch.finfo(to_torch(x.type.dtype)).eps if eps is None else float(eps)
    dtype = _widest(x, weight).type.dtype
    scale = None if weight is None else c.cast(weight, dtype)
    result = c.cast(c.b.rms_norm(c.cast(x, dtype), scale, axis=axis, epsilon=epsilon), c.type.dtype)
    return (result, None) if len(c.types) > 1 else result


@translates("aten.group_norm.default")
def group_norm(
    c: Context,
    x: Value,
    num_groups: int,
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-05,
    cudnn_enabled: bool = True,
) -> Value:
    """Normalised over groups of channels."""
    dtype = _widest(x, weight, bias).type.dtype
    scale, shift = (None if p is None else c.cast(p, dtype) for p in (weight, bias))
    result = c.b.group_norm(c.cast(x, dtype), scale, shift, groups=num_groups, epsilon=float(eps))
    return c.cast(result, x.type.dtype)


@translates("aten.native_group_norm.default")
def native_group_norm(
    c: Context,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    N: Dim,
    C: Dim,
    HxW: Dim,
    group: int,
    eps: float,
) -> tuple[Value, Value | None, Value | None]:
    """The same, with mean and 1/deviation."""
    result = group_norm(c, x, group, weight, bias, eps)
    if not _used(c, 1, 2):
        return result, None, None
    rows = c.reshape(
        x, (N, group, product(x.type.shape) // (N * group) if not isinstance(N, DimExpr) else C // group * HxW)
    )
    variance = c.b.variance(rows, axes=(2,), correction=0)
    return result, c.b.reduce_mean(rows, axes=(2,)), c.b.rsqrt(c.b.add(variance, float(eps)))


@translates("aten.renorm.default")
def renorm(c: Context, x: Value, p: float, dim: int, maxnorm: float) -> Value:
    """Slices along an axis shrunk to a norm of at most maxnorm."""
    b = c.b
    axes = tuple(a for a in range(x.type.rank) if a != dim % x.type.rank)
    if p == 2:
        size = b.reduce_l2(x, axes=axes, keepdims=True)
    elif p == 1:
        size = b.reduce_l1(x, axes=axes, keepdims=True)
    elif math.isinf(p):
        size = b.reduce_max(b.abs(x), axes=axes, keepdims=True)
    else:
        size = b.power(b.reduce_sum(b.power(b.abs(x), float(p)), axes=axes, keepdims=True), 1.0 / p)
    factor = b.div(b.const(float(maxnorm), x.type.dtype), b.add(size, 1e-7))
    return b.mul(x, b.where(b.greater(size, float(maxnorm)), factor, b.const(1.0, x.type.dtype)))
