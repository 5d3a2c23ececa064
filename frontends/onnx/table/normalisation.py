"""Normalisations."""

from __future__ import annotations

from dragoman.frontends.onnx.call import Call
from dragoman.frontends.onnx.context import Context
from dragoman.frontends.onnx.dtypes import dtype_of_code
from dragoman.frontends.onnx.registry import translates
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.op import normal_axis
from dragoman.ir.types import F32


@translates("BatchNormalization")
def batch_norm(c: Context, n: Call) -> list[Value]:
    """With given statistics, or with those of the batch while training."""
    x = n[0]
    if n.int("training_mode", 0) or (n.version < 7 and not n.int("is_test", 0)):
        return _training(c, n, x)
    if n.version < 9 and not n.int("spatial", 1):
        raise Unsupported("BatchNormalization with statistics for each element (spatial=0)")
    parameters = [c.cast(n[i], x.type.dtype) for i in range(1, 5)]
    return [c.b.batch_norm(x, *parameters, epsilon=n.float("epsilon", 1e-5))]


def _training(c: Context, n: Call, x: Value) -> list[Value]:
    b, momentum = c.b, n.float("momentum", 0.9)
    axes = tuple(a for a in range(x.type.rank) if a != 1)
    mean = b.reduce_mean(x, axes=axes)
    variance = b.variance(x, axes=axes, correction=0.0)
    scale, bias = (c.cast(n[i], x.type.dtype) for i in (1, 2))
    y = b.batch_norm(x, scale, bias, mean, variance, epsilon=n.float("epsilon", 1e-5))
    running: list[Value] = []
    for index, new in ((3, mean), (4, variance)):
        old = n[index]
        running.append(b.add(b.mul(old, momentum), b.mul(c.cast(new, old.type.dtype), 1.0 - momentum)))
    return [y, *running]


@translates("InstanceNormalization")
def instance_norm(c: Context, n: Call) -> Value:
    """Each channel of each sample."""
    return c.b.instance_norm(n[0], n[1], n[2], epsilon=n.float("epsilon", 1e-5))


@translates("GroupNormalization")
def group_norm_by_group(c: Context, n: Call) -> Value:
    """Groups of channels; before opset 21 scale and bias were one number for each group."""
    b, x, groups = c.b, n[0], n.int("num_groups")
    each = x.type.shape[1] // groups
    scale, bias = (b.repeat_interleave(n[i], repeats=each, axis=0) for i in (1, 2))
    return b.group_norm(x, scale, bias, epsilon=n.float("epsilon", 1e-5), groups=groups)


@translates("GroupNormalization", since=21)
def group_norm(c: Context, n: Call) -> Value:
    """Groups of channels, scale and bias per channel."""
    x, groups = n[0], n.int("num_groups")
    return c.b.group_norm(x, n[1], n[2], epsilon=n.float("epsilon", 1e-5), groups=groups)


@translates("LayerNormalization")
def layer_norm(c: Context, n: Call) -> list[Value]:
    """Over the trailing axes; mean and inverse deviation where they are asked for."""
    b, x = c.b, n[0]
    axis = normal_axis(n.int("axis", -1), x.type.rank)
    epsilon = n.float("epsilon", 1e-5)
    shape = x.type.shape[axis:]
    fits = all(not n.has(i) or n.type(i).shape == shape for i in (1, 2))
    if fits:
        y = b.layer_norm(x, n[1], n.get(2), axis=axis, epsilon=epsilon)
    else:
        y = b.mul(b.layer_norm(x, axis=axis, epsilon=epsilon), n[1])
        y = b.add(y, n[2]) if n.has(2) else y
    if not (n.wants(1) or n.wants(2)):
        return [y]
    axes = tuple(range(axis, x.type.rank))
    wide = c.cast(x, F32) if x.type.dtype.bits < F32.bits else x
    mean = b.reduce_mean(wide, axes=axes, keepdims=True)
    variance = b.variance(wide, axes=axes, keepdims=True, correction=0.0)
    kept = dtype_of_code(n.int("stash_type", 1))
    return [y, c.cast(mean, kept), c.cast(b.rsqrt(b.add(variance, epsilon)), kept)]


@translates("RMSNormalization")
def rms_norm(c: Context, n: Call) -> Value:
    """By the root of the mean square."""
    b, x, scale = c.b, n[0], n[1]
    axis = normal_axis(n.int("axis", -1), x.type.rank)
    epsilon = n.float("epsilon", 1e-5)
    if scale.type.shape == x.type.shape[axis:] and scale.type.dtype == x.type.dtype:
        return b.rms_norm(x, scale, axis=axis, epsilon=epsilon)
    return b.mul(c.cast(b.rms_norm(x, axis=axis, epsilon=epsilon), scale.type.dtype), scale)


@translates("LRN")
def local_response_norm(c: Context, n: Call) -> Value:
    """Across neighbouring channels."""
    size, alpha, beta, bias = n.int("size"), n.float("alpha", 1e-4), n.float("beta", 0.75), n.float("bias", 1.0)
    if size % 2:
        return c.b.local_response_norm(n[0], size=size, alpha=alpha, beta=beta, bias=bias)
    # Of an even number, ONNX has one more channel after its own than before it, the IR one less.
    turned = c.b.local_response_norm(c.b.flip(n[0], axes=(1,)), size=size, alpha=alpha, beta=beta, bias=bias)
    return c.b.flip(turned, axes=(1,))


@translates("LpNormalization")
def lp_normalization(c: Context, n: Call) -> Value:
    """x over its norm along an axis; 0 where that is 0."""
    b, x = c.b, n[0]
    axes = (normal_axis(n.int("axis", -1), x.type.rank),)
    norm = b.reduce_l1 if n.int("p", 2) == 1 else b.reduce_l2
    size = norm(x, axes=axes, keepdims=True)
    empty = b.equal(size, 0.0)
    return b.where(empty, c.const(0, x.type.dtype), b.div(x, b.where(empty, c.const(1, x.type.dtype), size)))


@translates("MeanVarianceNormalization")
def mean_variance(c: Context, n: Call) -> Value:
    """(x − mean) / deviation over the axes."""
    b, x = c.b, n[0]
    axes = tuple(n.ints("axes", [0, 2, 3]))
    deviation = b.sub(x, b.reduce_mean(x, axes=axes, keepdims=True))
    spread = b.sqrt(b.reduce_mean(b.mul(deviation, deviation), axes=axes, keepdims=True))
    return b.div(deviation, b.add(spread, 1e-9))
