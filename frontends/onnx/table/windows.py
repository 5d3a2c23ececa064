"""Convolution, pooling, resampling: operators that look at windows of the spatial axes."""

from __future__ import annotations

from collections.abc import Sequence

from dragoman.frontends.onnx.call import Call
from dragoman.frontends.onnx.context import Context
from dragoman.frontends.onnx.registry import translates
from dragoman.ir.dims import Dim, ceildiv, maximum
from dragoman.ir.errors import Malformed, Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.types import I64

Pairs = tuple[tuple[int, int], ...]


def _known(dims: Sequence[Dim]) -> list[int]:
    found = [d for d in dims if isinstance(d, int)]
    if len(found) != len(dims):
        raise Unsupported(f"a kernel of extents {[str(d) for d in dims]} that are known only when the model runs")
    return found


class Window:
    """The attributes that windowed operators share, with the padding resolved for an input."""

    def __init__(self, n: Call, kernel: Sequence[int], spatial: Sequence[Dim]) -> None:
        count = len(kernel)
        self.kernel = tuple(kernel)
        self.strides = tuple(n.ints("strides", [1] * count))
        self.dilations = tuple(n.ints("dilations", [1] * count))
        if not len(self.strides) == len(self.dilations) == count:
            raise Malformed(
                f"{n.op} with a kernel {list(kernel)} has strides {self.strides}, dilations {self.dilations}"
            )
        self.automatic = n.text("auto_pad", "NOTSET")
        self.padding = self._padding(n, spatial)

    def reach(self, i: int) -> int:
        """The extent that the dilated kernel covers."""
        return (self.kernel[i] - 1) * self.dilations[i] + 1

    def _padding(self, n: Call, spatial: Sequence[Dim]) -> Pairs:
        count = len(self.kernel)
        if self.automatic in ("SAME_UPPER", "SAME_LOWER"):
            return tuple(self._same(i, extent) for i, extent in enumerate(spatial))
        if self.automatic == "VALID":
            return ((0, 0),) * count
        if self.automatic != "NOTSET":
            raise Malformed(f"{n.op} with auto_pad={self.automatic!r}")
        pads = n.ints("pads", [0] * (2 * count))
        if len(pads) != 2 * count:
            raise Malformed(f"{n.op} has {len(pads)} pads for {count} spatial axes")
        return tuple(zip(pads[:count], pads[count:], strict=True))

    def _same(self, i: int, extent: Dim) -> tuple[int, int]:
        stride = self.strides[i]
        total = maximum((ceildiv(extent, stride) - 1) * stride + self.reach(i) - extent, 0)
        if not isinstance(total, int):
            raise Unsupported(f"auto_pad={self.automatic} with stride {stride} over the dynamic extent {extent}")
        small, large = total // 2, total - total // 2
        return (small, large) if self.automatic == "SAME_UPPER" else (large, small)


@translates("Conv")
def conv(c: Context, n: Call) -> Value:
    """Cross-correlation."""
    x, w, bias = n[0], n[1], n.get(2)
    window = Window(n, _known(w.type.shape[2:]), x.type.shape[2:])
    return convolved(c, x, w, bias, window, n.int("group", 1))


def convolved(c: Context, x: Value, w: Value, bias: Value | None, window: Window, groups: int) -> Value:
    """A convolution; negative padding cuts."""
    x, padding = cut(c, x, window.padding)
    return c.b.conv(x, w, bias, strides=window.strides, padding=padding, dilations=window.dilations, groups=groups)


def cut(c: Context, x: Value, padding: Pairs) -> tuple[Value, Pairs]:
    """Negative padding as a slice of the input."""
    for i, (low, high) in enumerate(padding):
        if low < 0 or high < 0:
            extent = x.type.shape[2 + i]
            x = c.slice(x, 2 + i, max(-low, 0), extent - max(-high, 0))
    return x, tuple((max(low, 0), max(high, 0)) for low, high in padding)


@translates("ConvTranspose")
def conv_transpose(c: Context, n: Call) -> Value:
    """The adjoint of a convolution."""
    x, w, bias = n[0], n[1], n.get(2)
    kernel = _known(w.type.shape[2:])
    spatial = x.type.shape[2:]
    if n.text("auto_pad", "NOTSET").startswith("SAME"):
        window = Window(n, kernel, [1] * len(kernel))
    else:
        window = Window(n, kernel, spatial)
    extra = n.ints("output_padding", [0] * len(kernel))
    padding = window.padding
    if n.given("output_shape") or window.automatic.startswith("SAME"):
        padding = _to_size(n, window, spatial, extra)
    # What ends up negative is more of the result: zeros.
    more = [max(-low, 0) for low, _ in padding], [max(-high, 0) for _, high in padding]
    padding = tuple((max(low, 0), max(high, 0)) for low, high in padding)
    y = c.b.conv_transpose(
        x,
        w,
        bias,
        strides=window.strides,
        padding=padding,
        output_padding=tuple(e + m for e, m in zip(extra, more[1], strict=True)),
        dilations=window.dilations,
        groups=n.int("group", 1),
    )
    if any(more[0]):
        raise Unsupported("ConvTranspose to a shape that is larger than the result at its beginning")
    return y


def _to_size(n: Call, window: Window, spatial: Sequence[Dim], extra: Sequence[int]) -> Pairs:
    """Padding so that the result has the size asked for, or the input's times the stride."""
    pairs: list[tuple[int, int]] = []
    wanted = n.ints("output_shape", None)
    wanted = wanted[-len(spatial) :] if wanted else None
    for i, extent in enumerate(spatial):
        stride = window.strides[i]
        size = wanted[i] if wanted else extent * stride
        total = stride * (extent - 1) + extra[i] + window.reach(i) - size
        if not isinstance(total, int):
            raise Unsupported(f"ConvTranspose of the dynamic extent {extent} to the size {size}")
        if total < 0:
            pairs.append((0, total))
            continue
        half, rest = total // 2, total - total // 2
        pairs.append((half, rest) if window.automatic == "SAME_UPPER" else (rest, half))
    return tuple(pairs)


# ---- pooling -------------------------------------------------------------------------------------------------


@translates("MaxPool")
def max_pool(c: Context, n: Call) -> list[Value]:
    """The largest element of each window, and where it is in the whole input."""
    x = n[0]
    window = _pool_window(n, x)
    ceil_mode = bool(n.int("ceil_mode", 0))
    if not n.wants(1):
        attributes = _pooling(window)
        return [c.b.max_pool(x, **attributes, ceil_mode=ceil_mode)]
    y, places = c.b.max_pool_with_indices(x, **_pooling(window), ceil_mode=ceil_mode)
    return [y, _absolute_places(c, x, places, n.int("storage_order", 0))]


def _pool_window(n: Call, x: Value) -> Window:
    window = Window(n, n.ints("kernel_shape"), x.type.shape[2:])
    if any(p < 0 for pair in window.padding for p in pair):
        raise Malformed(f"{n.op} with negative padding {window.padding}")
    return window


def _pooling(window: Window) -> dict[str, object]:
    return {
        "window": window.kernel,
        "strides": window.strides,
        "padding": window.padding,
        "dilations": window.dilations,
    }


def _absolute_places(c: Context, x: Value, places: Value, column_major: int) -> Value:
    """ONNX counts places in the whole tensor, the IR in the spatial axes of each channel."""
    b = c.b
    batch, channels, *spatial = x.type.shape
    plane: Dim = 1
    for extent in spatial:
        plane = plane * extent
    if column_major:
        rest, rebuilt = places, None
        strides: list[Dim] = []
        step: Dim = 1
        for extent in spatial:
            strides.append(step)
            step = step * extent
        for i in reversed(range(len(spatial))):
            extent = b.extent(spatial[i], I64)
            at = b.remainder(rest, extent)
            rest = b.div(rest, extent)
            term = b.mul(at, b.extent(strides[i], I64))
            rebuilt = term if rebuilt is None else b.add(rebuilt, term)
        assert rebuilt is not None
        places = rebuilt
    ones = [1] * len(spatial)
    n_at = b.reshape(b.iota(size=batch), shape=(batch, 1, *ones))
    c_at = b.reshape(b.iota(size=channels), shape=(1, channels, *ones))
    offset = b.mul(b.add(b.mul(n_at, b.extent(channels, I64)), c_at), b.extent(plane, I64))
    return b.add(places, offset)


@translates("AveragePool")
def average_pool(c: Context, n: Call) -> Value:
    """The mean of each window."""
    x = n[0]
    counts = bool(n.int("count_include_pad", 0))
    return c.b.avg_pool(
        x, **_pooling(_pool_window(n, x)), ceil_mode=bool(n.int("ceil_mode", 0)), count_include_pad=counts
    )


@translates("LpPool")
def lp_pool(c: Context, n: Call) -> Value:
    """The p-norm of each window."""
    x = n[0]
    p = float(n.int("p", 2)) if n.version >= 2 else n.float("p", 2.0)
    return c.b.lp_pool(x, **_pooling(_pool_window(n, x)), ceil_mode=bool(n.int("ceil_mode", 0)), p=p)


def _spatial(x: Value) -> tuple[int, ...]:
    return tuple(range(2, x.type.rank))


@translates("GlobalAveragePool")
def global_average_pool(c: Context, n: Call) -> Value:
    """The mean over the spatial axes."""
    return c.b.reduce_mean(n[0], axes=_spatial(n[0]), keepdims=True)


@translates("GlobalMaxPool")
def global_max_pool(c: Context, n: Call) -> Value:
    """The largest element over the spatial axes."""
    return c.b.reduce_max(n[0], axes=_spatial(n[0]), keepdims=True)


@translates("GlobalLpPool")
def global_lp_pool(c: Context, n: Call) -> Value:
    """The p-norm over the spatial axes."""
    b, x = c.b, n[0]
    p = float(n.int("p", 2)) if n.version >= 2 else n.float("p", 2.0)
    if p == 2.0:
        return b.reduce_l2(x, axes=_spatial(x), keepdims=True)
    return b.power(b.reduce_sum(b.power(b.abs(x), p), axes=_spatial(x), keepdims=True), 1.0 / p)


@translates("MaxUnpool")
def max_unpool(c: Context, n: Call) -> Value:
    """Elements back at the places that MaxPool took them from, zeros elsewhere."""
    b, x, places = c.b, n[0], n[1]
    batch, channels, *spatial = x.type.shape
    kernel = n.ints("kernel_shape")
    strides, pads = n.ints("strides", [1] * len(kernel)), n.ints("pads", [0] * (2 * len(kernel)))
    count = len(kernel)
    sizes: list[Dim] = [
        (extent - 1) * strides[i] - pads[i] - pads[count + i] + kernel[i] for i, extent in enumerate(spatial)
    ]
    inferred: tuple[Dim, ...] = (batch, channels, *sizes)
    target = inferred
    if n.has(2):
        found = n.dims(2)
        if found is None:
            from dragoman.frontends.onnx.table.shape import sized

            found = sized(c, n, 2, "unpooled")
        target = tuple(found)
    total: Dim = 1
    for extent in target:
        total = total * extent
    flat, at = c.reshape(x, (x.type.size,)), c.reshape(places, (places.type.size,))
    if n.has(2):
        at = _in_larger(c, at, inferred, target)
    return c.reshape(b.scatter_elements(c.full((total,), 0.0, x.type.dtype), at, flat, axis=0), target)


def _in_larger(c: Context, at: Value, before: Sequence[Dim], after: Sequence[Dim]) -> Value:
    """Flat places in one shape as flat places in another, coordinates kept."""
    b = c.b
    total, rest = None, at
    strides: list[Dim] = []
    running: Dim = 1
    for extent in reversed(after):
        strides.insert(0, running)
        running = running * extent
    for axis in reversed(range(len(before))):
        extent = b.extent(before[axis], I64)
        term = b.mul(b.remainder(rest, extent), b.extent(strides[axis], I64))
        rest = b.div(rest, extent)
        total = term if total is None else b.add(total, term)
    assert total is not None
    return total


# ---- quantised -------------------------------------------------------------------------------------------------


@translates("ConvInteger")
def conv_integer(c: Context, n: Call) -> Value:
    """A convolution of integers less their zero points, in i32."""
    x, w = n[0], n[1]
    window = Window(n, _known(w.type.shape[2:]), x.type.shape[2:])
    if any(p < 0 for pair in window.padding for p in pair):
        raise Unsupported(f"ConvInteger with negative padding {window.padding}")
    zeros = [_zero_point(c, n.get(i)) for i in (2, 3)]
    return c.b.conv_integer(
        x,
        w,
        *zeros,
        strides=window.strides,
        padding=window.padding,
        dilations=window.dilations,
        groups=n.int("group", 1),
    )


def _zero_point(c: Context, zero: Value | None) -> Value | None:
    return c.reshape(zero, ()) if zero is not None and zero.type.shape == (1,) else zero
