"""Convolution and pooling: operators that look at windows of the spatial axes."""

from __future__ import annotations

from collections.abc import Sequence

from dragoman.frontends.onnx.context import Context
from dragoman.frontends.tensorflow.call import Call
from dragoman.frontends.tensorflow.registry import translates
from dragoman.ir.dims import Dim, ceildiv, floordiv, maximum
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.types import F32

Pairs = list[tuple[Dim, Dim]]
_FIRST, _LAST = "channels_first", "channels_last"


def layout_of(n: Call) -> str:
    """Where the channels of the activations are."""
    return _FIRST if n.text("data_format", "NHWC").startswith("NC") else _LAST


def spatial(values: Sequence[int], layout: str) -> tuple[int, ...]:
    """The entries of a list with one for each axis that are for spatial axes."""
    return tuple(values[2:]) if layout == _FIRST else tuple(values[1:-1])


def _extents(x: Value, layout: str) -> tuple[Dim, ...]:
    return x.type.shape[2:] if layout == _FIRST else x.type.shape[1:-1]


def _number(dims: Sequence[Dim]) -> tuple[int, ...]:
    found = tuple(d for d in dims if isinstance(d, int))
    if len(found) != len(dims):
        raise Unsupported("a window whose extents are known only when the model runs")
    return found


def _padding(
    n: Call, x: Value, layout: str, window: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Pairs:
    kind, extents = n.text("padding"), _extents(x, layout)
    if kind == "VALID":
        return [(0, 0)] * len(window)
    if kind == "EXPLICIT":
        around = n.ints("explicit_paddings")
        pairs = list(zip(around[::2], around[1::2], strict=True))
        return list(pairs[2:] if layout == _FIRST else pairs[1:-1])
    found: Pairs = []
    for extent, k, stride, dilation in zip(extents, window, strides, dilations, strict=True):
        total = (ceildiv(extent, stride) - 1) * stride + (k - 1) * dilation + 1 - extent
        total = (k - 1) * dilation if stride == 1 else maximum(total, 0)
        found.append((floordiv(total, 2), total - floordiv(total, 2)))
    return found


def _padded(c: Context, x: Value, padding: Pairs, layout: str, value: float = 0.0) -> Value:
    around: Pairs = [(0, 0), (0, 0), *padding] if layout == _FIRST else [(0, 0), *padding, (0, 0)]
    return c.b.pad(x, padding=tuple(around), value=value)


def _static(padding: Pairs) -> bool:
    return all(isinstance(p, int) for pair in padding for p in pair)


@translates("Conv2D", "Conv3D", "DepthwiseConv2dNative")
def conv(c: Context, n: Call) -> Value:
    """Cross-correlation; kernels lie as [*window, in / groups, out]."""
    x, w, layout = n[0], n[1], layout_of(n)
    strides = spatial(n.ints("strides"), layout)
    dilations = spatial(n.ints("dilations"), layout) if n.has("dilations") else (1,) * len(strides)
    dilations = dilations or (1,) * len(strides)
    window = _number(w.type.shape[:-2])
    padding = _padding(n, x, layout, window, strides, dilations)
    rank = w.type.rank
    channels = x.type.shape[1 if layout == _FIRST else -1]
    inner, outer = _number(w.type.shape[-2:])
    (channels,) = _number([channels])
    if n.op == "DepthwiseConv2dNative":
        groups = channels
        w = c.b.reshape(w, shape=(*window, 1, inner * outer))
    else:
        groups = channels // inner
    w = c.b.transpose(w, perm=(rank - 1, rank - 2, *range(rank - 2)))
    if not _static(padding):
        x, padding = _padded(c, x, padding, layout), [(0, 0)] * len(window)
    return c.b.conv(x, w, strides=strides, padding=tuple(padding), dilations=dilations, groups=groups, layout=layout)


@translates("Conv2DBackpropInput", "Conv3DBackpropInputV2")
def conv_transpose(c: Context, n: Call) -> Value:
    """The adjoint of a convolution, to a size that is given."""
    sizes, w, y, layout = n.sizes(0, "sizes"), n[1], n[2], layout_of(n)
    strides = spatial(n.ints("strides"), layout)
    dilations = (spatial(n.ints("dilations"), layout) if n.has("dilations") else ()) or (1,) * len(strides)
    window = _number(w.type.shape[:-2])
    rank = w.type.rank
    wanted = sizes[2:] if layout == _FIRST else sizes[1:-1]
    pairs: list[tuple[int, int]] = []
    more: list[int] = []
    around = n.ints("explicit_paddings") if n.text("padding") == "EXPLICIT" else []
    explicit = list(zip(around[::2], around[1::2], strict=True))
    explicit = explicit[2:] if layout == _FIRST else explicit[1:-1]
    for i, (extent, size) in enumerate(zip(_extents(y, layout), wanted, strict=True)):
        reach = (window[i] - 1) * dilations[i] + 1
        natural = (extent - 1) * strides[i] + reach
        if n.text("padding") == "SAME":
            total = maximum(0, (extent - 1) * strides[i] + reach - size)
            low: Dim = floordiv(total, 2)
        else:
            low = explicit[i][0] if explicit else 0
        high = natural - size - low
        low, high = _number([low, high])
        pairs.append((low, max(high, 0)))
        more.append(max(-high, 0))
    w = c.b.transpose(w, perm=(rank - 1, rank - 2, *range(rank - 2)))
    return c.b.conv_transpose(
        y, w, strides=strides, padding=tuple(pairs), output_padding=tuple(more), dilations=dilations, layout=layout
    )


@translates("MaxPool", "MaxPoolV2", "AvgPool", "MaxPool3D", "AvgPool3D")
def pool(c: Context, n: Call) -> Value:
    """The largest number, or the mean of those within the operand."""
    x, layout = n[0], layout_of(n)
    ksize = n.numbers(1, "windows") if n.op == "MaxPoolV2" else n.ints("ksize")
    steps = n.numbers(2, "strides") if n.op == "MaxPoolV2" else n.ints("strides")
    window, strides = spatial(ksize, layout), spatial(steps, layout)
    dilations = (1,) * len(window)
    padding = _padding(n, x, layout, window, strides, dilations)
    if not _static(padding):
        if n.op.startswith("Avg"):
            return _dynamic_mean(c, x, window, strides, padding, layout)
        x, padding = _padded(c, x, padding, layout, float("-inf")), [(0, 0)] * len(window)
    make = c.b.avg_pool if n.op.startswith("Avg") else c.b.max_pool
    more = {"count_include_pad": False} if n.op.startswith("Avg") else {}
    return make(x, window=window, strides=strides, padding=tuple(padding), dilations=dilations, layout=layout, **more)


def _dynamic_mean(
    c: Context, x: Value, window: tuple[int, ...], strides: tuple[int, ...], padding: Pairs, layout: str
) -> Value:
    """Sums over counts, where the amount of padding is known only when the model runs."""
    still = ((0, 0),) * len(window)
    attributes = {"window": window, "strides": strides, "padding": still, "dilations": (1,) * len(window)}
    ones = c.full(x.type.shape, 1.0, x.type.dtype)
    sums, counts = (c.b.avg_pool(_padded(c, v, padding, layout), layout=layout, **attributes) for v in (x, ones))
    return c.b.div(sums, counts)


@translates("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
def fused_batch_norm(c: Context, n: Call) -> list[Value]:
    """By the given statistics, or by those of the batch."""
    x, scale, offset, mean, variance = (n[i] for i in range(5))
    first = n.text("data_format", "NHWC").startswith("NC")
    axis = 1 if first else x.type.rank - 1
    epsilon, dtype = n.float("epsilon"), x.type.dtype
    if n.flag("is_training", True):
        axes = tuple(a for a in range(x.type.rank) if a != axis)
        wide = c.cast(x, scale.type.dtype)
        own = c.b.reduce_mean(wide, axes=axes)
        spread = c.b.variance(wide, axes=axes, correction=0.0)
        result = c.b.batch_norm(wide, scale, offset, own, spread, epsilon=epsilon, axis=axis)
        unbiased = c.b.variance(wide, axes=axes, correction=1.0)
        running = (_moved(c, n, mean, own), _moved(c, n, variance, unbiased))
        return [c.cast(result, dtype), *running, own, spread, own]
    result = c.b.batch_norm(c.cast(x, scale.type.dtype), scale, offset, mean, variance, epsilon=epsilon, axis=axis)
    return [c.cast(result, dtype), mean, variance, mean, variance, mean]


def _moved(c: Context, n: Call, before: Value, now: Value) -> Value:
    """A running statistic after a batch."""
    share = n.float("exponential_avg_factor") if n.has("exponential_avg_factor") else 1.0
    return now if share == 1.0 else c.b.add(c.b.mul(before, 1.0 - share), c.b.mul(now, share))


@translates("LRN")
def local_response_norm(c: Context, n: Call) -> Value:
    """Divided by what lies around in the last axis."""
    x, radius = n[0], n.int("depth_radius")
    x = c.b.transpose(x, perm=(0, 3, 1, 2))
    size = 2 * radius + 1
    y = c.b.local_response_norm(x, size=size, alpha=n.float("alpha") * size, beta=n.float("beta"), bias=n.float("bias"))
    return c.b.transpose(y, perm=(0, 2, 3, 1))


@translates("ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic")
def resize(c: Context, n: Call) -> Value:
    """To a size that is given, as TensorFlow counts pixels."""
    x = n[0]
    height, width = n.sizes(1, "sizes")
    half, corners = n.flag("half_pixel_centers"), n.flag("align_corners")
    coordinates = "align_corners" if corners else "half_pixel" if half else "asymmetric"
    sizes = (height, width)
    if n.op == "ResizeNearestNeighbor":
        rounding = "round_prefer_ceil" if corners or half else "floor"
        return c.b.resize(x, sizes=sizes, mode="nearest", coordinates=coordinates, rounding=rounding, layout=_LAST)
    x = c.cast(x, n.dtype("T")) if x.type.dtype.is_float else c.cast(x, F32)
    if n.op == "ResizeBilinear":
        return c.cast(c.b.resize(x, sizes=sizes, mode="linear", coordinates=coordinates, layout=_LAST), F32)
    if not half:
        raise Unsupported("ResizeBicubic without half_pixel_centers")
    return c.cast(
        c.b.resize(
            x, sizes=sizes, mode="cubic", coordinates=coordinates, cubic_a=-0.5, exclude_outside=True, layout=_LAST
        ),
        F32,
    )
