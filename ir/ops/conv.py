"""Convolution and its transpose, in any spatial rank and both layouts.

Weights are [out, in/groups, *kernel] (transposed: [in, out/groups, *kernel]) in every layout, which says only where
the channels of the activations are. What frameworks call convolution is cross-correlation, and so it is here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dragoman.ir.dims import Dim, bounds, floordiv, same
from dragoman.ir.op import Arithmetic, Array, Op, Sample, TensorType, require, same_dtype, sample

if TYPE_CHECKING:
    from dragoman.ir.builder import Builder
    from dragoman.ir.graph import Value

CHANNELS_FIRST = "channels_first"
CHANNELS_LAST = "channels_last"
Padding = tuple[tuple[int, int], ...]

_CHUNK = 1 << 22  # elements of the unfolded windows held at once: 32 MiB in float64


def require_layout(layout: str) -> None:
    """Raise TypeRuleError unless `layout` is one of the two."""
    require(layout in (CHANNELS_FIRST, CHANNELS_LAST), f"layout={layout!r} is neither channels_first nor channels_last")


def spatial_axes(rank: int, layout: str) -> tuple[int, ...]:
    """The spatial axes of an activation of that rank."""
    return tuple(range(2, rank)) if layout == CHANNELS_FIRST else tuple(range(1, rank - 1))


def channel_axis(rank: int, layout: str) -> int:
    """The axis of the channels."""
    return 1 if layout == CHANNELS_FIRST else rank - 1


def channels_first(m: Arithmetic, x: Array, layout: str) -> Array:
    """`x` with its channels at axis 1."""
    return x if layout == CHANNELS_FIRST else m.move(lambda a: np.moveaxis(a, -1, 1), x)


def laid_out(m: Arithmetic, x: Array, layout: str) -> Array:
    """`x`, which has its channels at axis 1, in the layout asked for."""
    return x if layout == CHANNELS_FIRST else m.move(lambda a: np.moveaxis(a, 1, -1), x)


def with_spatial(x: TensorType, layout: str, channels: Dim, spatial: Iterable[Dim]) -> TensorType:
    """The type of an activation with other channels and spatial extents."""
    batch = x.shape[0]
    return x.with_shape((batch, channels, *spatial) if layout == CHANNELS_FIRST else (batch, *spatial, channels))


def check_window(
    spatial: int,
    window: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[Sequence[int]],
    dilations: Sequence[int],
) -> None:
    """Raise TypeRuleError unless the window's attributes describe that many spatial axes."""
    for name, given in (("window", window), ("strides", strides), ("padding", padding), ("dilations", dilations)):
        require(len(given) == spatial, f"{name} has {len(given)} entries for {spatial} spatial axes")
    require(all(w >= 1 for w in window), f"an extent of the window {tuple(window)} is below 1")
    require(all(s >= 1 for s in strides), f"a stride of {tuple(strides)} is below 1")
    require(all(d >= 1 for d in dilations), f"a dilation of {tuple(dilations)} is below 1")
    require(all(len(p) == 2 and min(p) >= 0 for p in padding), f"padding={padding} must be pairs of numbers from 0")


def reach(window: int, dilation: int) -> int:
    """The extent that a dilated window covers."""
    return (window - 1) * dilation + 1


def window_extent(extent: Dim, window: int, stride: int, padding: Sequence[int], dilation: int) -> Dim:
    """How many windows fit: ⌊(extent + low + high − reach) / stride⌋ + 1."""
    room = extent + padding[0] + padding[1] - reach(window, dilation)
    require(
        bounds(room)[1] >= 0,
        f"a window of extent {reach(window, dilation)} does not fit into {extent} with padding {tuple(padding)}",
    )
    return floordiv(room, stride) + 1


def windows(x: Any, window: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Any:
    """A view [n, c, *out, *window] of [n, c, *spatial] onto each window."""
    axes = tuple(range(2, x.ndim))
    reaches = tuple(reach(w, d) for w, d in zip(window, dilations, strict=True))
    view = np.lib.stride_tricks.sliding_window_view(x, reaches, axis=axes)
    steps = (slice(None), slice(None), *(slice(None, None, s) for s in strides))
    return view[(*steps, *(slice(None, None, d) for d in dilations))]


def padded(m: Arithmetic, x: Array, padding: Sequence[Sequence[int]]) -> Array:
    """`x` [n, c, *spatial] with zeros around it."""
    if not any(low or high for low, high in padding):
        return x
    return m.move(lambda a: np.pad(a, ((0, 0), (0, 0), *(tuple(p) for p in padding))), x)


class Conv(Op, name="conv"):
    """Cross-correlation of each group of channels with its filters, plus a bias.

    x: [n, in, *spatial] (channels_last: [n, *spatial, in])   w: [out, in/groups, *kernel]   bias: [out]
    ->   [n, out, *⌊(spatial + low + high − (kernel−1)·dilation − 1)/stride⌋ + 1]
    """

    strides: tuple[int, ...]
    padding: Padding
    dilations: tuple[int, ...]
    groups: int = 1
    layout: str = CHANNELS_FIRST

    def infer(self, x: TensorType, w: TensorType, bias: TensorType | None = None) -> TensorType:
        """Channels and groups must agree, and a window must fit."""
        same_dtype(x, w, bias)
        require(x.dtype.kind not in ("bool", "string"), f"a convolution of {x.dtype}")
        require_layout(self.layout)
        require(
            x.rank >= 3 and w.rank == x.rank, f"x has rank {x.rank} and w rank {w.rank}; both need 2 + spatial axes"
        )
        out, per_group, *extents = w.shape
        kernel = tuple(k for k in extents if isinstance(k, int))
        require(len(kernel) == len(extents), f"the kernel {extents} has a symbolic extent")
        check_window(len(kernel), kernel, self.strides, self.padding, self.dilations)
        check_groups(x.shape[channel_axis(x.rank, self.layout)], per_group, out, self.groups)
        check_bias(bias, out)
        return with_spatial(x, self.layout, out, self._spatial(x, kernel))

    def _spatial(self, x: TensorType, kernel: Sequence[int]) -> Iterable[Dim]:
        for i, axis in enumerate(spatial_axes(x.rank, self.layout)):
            yield window_extent(x.shape[axis], kernel[i], self.strides[i], self.padding[i], self.dilations[i])

    def reference(self, m: Arithmetic, x: Array, w: Array, bias: Array | None = None) -> Array:
        """A matrix product over unfolded windows; over single taps where each group has one channel."""
        x = padded(m, channels_first(m, x, self.layout), self.padding)
        y = correlate(m, x, w, self.strides, self.dilations, self.groups)
        if bias is not None:
            y = y + m.move(lambda a: a.reshape(-1, *[1] * (len(y.shape) - 2)), bias)
        return laid_out(m, y, self.layout)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """One to three spatial axes, groups, depthwise, strides, dilations, uneven padding, even kernels, layouts."""
        plain = {"strides": (1, 1), "padding": ((0, 0), (0, 0)), "dilations": (1, 1)}
        yield sample("f32[2,3,6,5]", "f32[4,3,3,2]", "f32[4]", **plain)
        yield sample("f32[2,3,5,4]", "f32[4,3,1,1]", strides=(2, 1), padding=((0, 0), (0, 0)), dilations=(1, 1))
        yield sample(
            "f64[1,4,7,6]",
            "f64[6,2,3,3]",
            "f64[6]",
            strides=(2, 1),
            padding=((1, 2), (0, 1)),
            dilations=(1, 2),
            groups=2,
        )
        yield sample(
            "f32[2,4,6,6]", "f32[8,1,3,3]", strides=(2, 2), padding=((1, 1), (1, 1)), dilations=(1, 1), groups=4
        )
        yield sample(
            "f32[2,9,3]", "f32[5,3,4]", "f32[5]", strides=(2,), padding=((1, 2),), dilations=(2,), layout=CHANNELS_LAST
        )
        yield sample(
            "f32[1,2,4,3,5]", "f32[3,2,2,1,3]", strides=(1, 1, 2), padding=((0, 1), (0, 0), (1, 1)), dilations=(1, 1, 1)
        )
        yield sample(
            "f32[2,6,5,4]",
            "f32[4,1,3,3]",
            "f32[4]",
            groups=4,
            layout=CHANNELS_LAST,
            strides=(1, 1),
            padding=((1, 1), (1, 1)),
            dilations=(1, 1),
        )
        yield sample("f32[0,3,4,4]", "f32[2,3,3,3]", **plain)
        yield sample("i32[1,2,4,4]", "i32[2,2,2,2]", **plain)


def check_groups(channels: Dim, per_group: Dim, out: Dim, groups: int) -> None:
    """Raise TypeRuleError unless `groups` divides the filters, and the channels are groups × those of a filter."""
    require(groups >= 1, f"groups={groups} is below 1")
    require(
        same(per_group * groups, channels),
        f"{channels} channels in {groups} group(s) do not meet filters of {per_group} channels",
    )
    require(same(floordiv(out, groups) * groups, out), f"{out} filters do not fall into {groups} groups")


def check_bias(bias: TensorType | None, out: Dim) -> None:
    """Raise TypeRuleError unless there is no bias or one number for each filter."""
    if bias is not None:
        require(bias.rank == 1 and same(bias.shape[0], out), f"the bias is {bias} for {out} channels")


def correlate(
    m: Arithmetic, x: Array, w: Array, strides: Sequence[int], dilations: Sequence[int], groups: int
) -> Array:
    """Valid cross-correlation of [n, c, *spatial] with [out, c/groups, *kernel]."""
    kernel = tuple(w.shape[2:])
    out = tuple((x.shape[2 + i] - reach(k, dilations[i])) // strides[i] + 1 for i, k in enumerate(kernel))
    if groups > 1 and w.shape[1] == 1:
        return _depthwise(m, x, w, strides, dilations, out)
    shape = (groups, -1, int(np.prod(w.shape[1:])))
    filters = m.move(lambda a: a.reshape(shape), w)
    per_image = max(1, x.shape[1] * int(np.prod(kernel)) * int(np.prod(out)))
    step = max(1, _CHUNK // per_image)
    parts: list[Array] = []
    for start in range(0, max(x.shape[0], 1), step):
        columns = m.move(_unfold(kernel, strides, dilations, groups), x[start : start + step])
        parts.append(m.matmul(filters, columns))
    y = parts[0] if len(parts) == 1 else m.move(lambda *a: np.concatenate(a), *parts)
    return m.move(lambda a: a.reshape(x.shape[0], w.shape[0], *out), y)


def _unfold(
    kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], groups: int
) -> Callable[[Any], Any]:
    """A function from [n, c, *spatial] to columns [n, groups, c/groups · taps, places]."""

    def unfold(x: Any) -> Any:
        view = windows(x, kernel, strides, dilations)
        n, c, spatial = x.shape[0], x.shape[1], len(kernel)
        taps, out = int(np.prod(kernel)), view.shape[2 : 2 + spatial]
        order = (0, 1, *range(2 + spatial, 2 + 2 * spatial), *range(2, 2 + spatial))
        return view.transpose(order).reshape(n, groups, c // groups * taps, int(np.prod(out)))

    return unfold


def _depthwise(
    m: Arithmetic, x: Array, w: Array, strides: Sequence[int], dilations: Sequence[int], out: Sequence[int]
) -> Array:
    """One channel to a group: multiply and add for each tap, all channels at once."""
    channels, multiplier = x.shape[1], w.shape[0] // x.shape[1]
    ones = [1] * len(out)
    filters = m.move(lambda a: a.reshape(channels, multiplier, *a.shape[2:]), w)
    total: Array = None
    for tap in itertools.product(*(range(k) for k in w.shape[2:])):
        place = tuple(
            slice(t * d, t * d + (o - 1) * s + 1, s) for t, d, s, o in zip(tap, dilations, strides, out, strict=True)
        )
        seen = x[(slice(None), slice(None), None, *place)]
        factor = m.move(lambda a: a.reshape(channels, multiplier, *ones), filters[(slice(None), slice(None), *tap)])
        term = seen * factor
        total = term if total is None else total + term
    return m.move(lambda a: a.reshape(x.shape[0], channels * multiplier, *out), total)


class ConvTranspose(Op, name="conv_transpose"):
    """The adjoint of `conv`: each input element adds its filter to the output at `stride` times its place.

    x: [n, in, *spatial] (channels_last: [n, *spatial, in])   w: [in, out/groups, *kernel]   bias: [out]
    ->   [n, out, *(spatial−1)·stride − low − high + (kernel−1)·dilation + 1 + output_padding]
    """

    strides: tuple[int, ...]
    padding: Padding
    output_padding: tuple[int, ...]
    dilations: tuple[int, ...]
    groups: int = 1
    layout: str = CHANNELS_FIRST

    def infer(self, x: TensorType, w: TensorType, bias: TensorType | None = None) -> TensorType:
        """Channels and groups must agree."""
        same_dtype(x, w, bias)
        require(x.dtype.kind not in ("bool", "string"), f"a convolution of {x.dtype}")
        require_layout(self.layout)
        require(
            x.rank >= 3 and w.rank == x.rank, f"x has rank {x.rank} and w rank {w.rank}; both need 2 + spatial axes"
        )
        given, per_group, *extents = w.shape
        kernel = tuple(k for k in extents if isinstance(k, int))
        require(len(kernel) == len(extents), f"the kernel {extents} has a symbolic extent")
        check_window(len(kernel), kernel, self.strides, self.padding, self.dilations)
        require(
            len(self.output_padding) == len(kernel) and min(self.output_padding, default=0) >= 0,
            f"output_padding={self.output_padding} must have a number from 0 for each of {len(kernel)} spatial axes",
        )
        channels = x.shape[channel_axis(x.rank, self.layout)]
        require(same(channels, given), f"x has {channels} channels, w takes {given}")
        check_groups(per_group * self.groups, per_group, given, self.groups)
        check_bias(bias, per_group * self.groups)
        return with_spatial(x, self.layout, per_group * self.groups, self._spatial(x, kernel))

    def _spatial(self, x: TensorType, kernel: Sequence[int]) -> Iterable[Dim]:
        for i, axis in enumerate(spatial_axes(x.rank, self.layout)):
            low, high = self.padding[i]
            grown = (x.shape[axis] - 1) * self.strides[i] + reach(kernel[i], self.dilations[i])
            extent = grown + self.output_padding[i] - low - high
            require(bounds(extent)[1] >= 0, f"padding {self.padding[i]} takes away more than the extent {grown}")
            yield extent

    def _margins(self, kernel: Sequence[int]) -> list[tuple[int, int]]:
        """Zeros to add (negative: elements to cut) around the stretched input so that `conv` gives the result."""
        reaches = [reach(k, d) - 1 for k, d in zip(kernel, self.dilations, strict=True)]
        return [
            (r - low, r - high + extra)
            for r, (low, high), extra in zip(reaches, self.padding, self.output_padding, strict=True)
        ]

    def reference(self, m: Arithmetic, x: Array, w: Array, bias: Array | None = None) -> Array:
        """Correlation of the input, zeros put between its elements, with the filters turned around."""
        x = channels_first(m, x, self.layout)
        margins = self._margins(w.shape[2:])
        x = padded(m, m.move(lambda a: _stretched(a, self.strides), x), [(max(p, 0), max(q, 0)) for p, q in margins])
        turned = m.move(lambda a: _turned(a, self.groups), w)
        y = correlate(m, x, turned, [1] * len(margins), self.dilations, self.groups)
        cut = [slice(max(-p, 0), e - max(-q, 0)) for (p, q), e in zip(margins, y.shape[2:], strict=True)]
        y = y[(slice(None), slice(None), *cut)]
        if bias is not None:
            y = y + m.move(lambda a: a.reshape(-1, *[1] * len(margins)), bias)
        return laid_out(m, y, self.layout)

    def decompose(self, b: Builder, x: Value, w: Value, bias: Value | None = None) -> Value:
        """Zeros between the elements, filters turned around, `conv`, and a cut where the padding exceeds the kernel."""
        given, per_group, *kernel = w.type.shape
        rank, inner = x.type.rank, floordiv(given, self.groups)
        for axis, stride in zip(spatial_axes(rank, self.layout), self.strides, strict=True):
            x = _stretch(b, x, axis, stride)
        w = b.reshape(b.flip(w, axes=tuple(range(2, rank))), shape=(self.groups, inner, per_group, *kernel))
        w = b.transpose(w, perm=(0, 2, 1, *range(3, rank + 1)))
        w = b.reshape(w, shape=(per_group * self.groups, inner, *kernel))
        margins = self._margins([k for k in kernel if isinstance(k, int)])
        y = b.conv(
            x,
            w,
            bias,
            strides=(1,) * len(kernel),
            padding=tuple((max(low, 0), max(high, 0)) for low, high in margins),
            dilations=self.dilations,
            groups=self.groups,
            layout=self.layout,
        )
        for axis, (low, high) in zip(spatial_axes(rank, self.layout), margins, strict=True):
            if low < 0 or high < 0:
                stop = y.type.shape[axis] + min(high, 0)
                y = b.slice(y, axes=(axis,), starts=(max(-low, 0),), stops=(stop,), steps=(1,))
        return y

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """One to three spatial axes, groups, dilations, output padding, padding wider than the kernel, both layouts."""
        plain = {"padding": ((0, 0), (0, 0)), "output_padding": (0, 0), "dilations": (1, 1)}
        yield sample("f32[2,3,4,5]", "f32[3,2,2,2]", "f32[2]", strides=(2, 2), **plain)
        yield sample(
            "f64[1,4,3,4]",
            "f64[4,3,3,2]",
            "f64[6]",
            strides=(2, 3),
            padding=((1, 0), (0, 1)),
            output_padding=(1, 2),
            dilations=(2, 1),
            groups=2,
        )
        yield sample(
            "f32[2,3,4]", "f32[3,1,3]", strides=(2,), padding=((1, 1),), output_padding=(1,), dilations=(1,), groups=3
        )
        yield sample(
            "f32[1,4,3,2]",
            "f32[2,3,3,3]",
            strides=(1, 2),
            padding=((1, 1), (1, 1)),
            output_padding=(0, 1),
            dilations=(1, 1),
            layout=CHANNELS_LAST,
        )
        yield sample(
            "f32[1,2,6,5]",
            "f32[2,2,1,2]",
            strides=(1, 1),
            padding=((1, 2), (2, 0)),
            output_padding=(0, 0),
            dilations=(1, 1),
        )
        yield sample(
            "f32[1,2,2,3,2]",
            "f32[2,1,2,2,2]",
            strides=(2, 1, 2),
            padding=((0, 0),) * 3,
            output_padding=(0, 0, 0),
            dilations=(1, 1, 1),
        )


def _stretch(b: Builder, x: Value, axis: int, stride: int) -> Value:
    """`x` with stride − 1 zeros between the elements of one axis."""
    if stride == 1:
        return x
    shape = x.type.shape
    before, extent, after = shape[:axis], shape[axis], shape[axis + 1 :]
    x = b.reshape(x, shape=(*before, extent, 1, *after))
    x = b.pad(x, padding=tuple((0, stride - 1 if i == axis + 1 else 0) for i in range(x.type.rank)))
    x = b.reshape(x, shape=(*before, extent * stride, *after))
    return b.slice(x, axes=(axis,), starts=(0,), stops=((extent - 1) * stride + 1,), steps=(1,))


def _stretched(x: Any, strides: Sequence[int]) -> Any:
    """Zeros between the elements of the spatial axes."""
    extents = [max((e - 1) * s + 1, 0) for e, s in zip(x.shape[2:], strides, strict=True)]
    result = np.zeros((*x.shape[:2], *extents), x.dtype)
    result[(slice(None), slice(None), *(slice(None, None, s) for s in strides))] = x
    return result


def _turned(w: Any, groups: int) -> Any:
    """[in, out/groups, *kernel] as [out, in/groups, *kernel], each kernel reversed."""
    given, per_group, *kernel = w.shape
    grouped = np.flip(w, tuple(range(2, w.ndim))).reshape(groups, given // groups, per_group, *kernel)
    return np.swapaxes(grouped, 1, 2).reshape(groups * per_group, given // groups, *kernel)
