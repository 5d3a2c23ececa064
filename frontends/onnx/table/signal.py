"""Signals: DFT, STFT, the mel filter bank, and Col2Im, which adds windows back into an image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dragoman.frontends.onnx.call import Call
from dragoman.frontends.onnx.context import Context
from dragoman.frontends.onnx.dtypes import dtype_of_code
from dragoman.frontends.onnx.registry import translates
from dragoman.ir.dims import Dim, floordiv, same
from dragoman.ir.errors import Malformed, Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.op import normal_axis
from dragoman.ir.types import F64, I64


@translates("DFT")
def dft_17(c: Context, n: Call) -> Value:
    """The axis is an attribute."""
    return _dft(c, n, n.int("axis", 1))


@translates("DFT", since=20)
def dft(c: Context, n: Call) -> Value:
    """The axis is an input."""
    axis = n.numbers(2) if n.has(2) else [-2]
    if axis is None:
        raise Unsupported("DFT along an axis that is known only when the model runs")
    return _dft(c, n, axis[0])


def _dft(c: Context, n: Call, axis: int) -> Value:
    x = n[0]
    at = normal_axis(axis, x.type.rank)
    inverse, onesided = bool(n.int("inverse", 0)), bool(n.int("onesided", 0))
    length: Dim = 2 * (x.type.shape[at] - 1) if inverse and onesided else x.type.shape[at]
    if n.has(1):
        length = _extent(c, n, 1, "dft_length")
    terms = floordiv(length, 2) + 1 if inverse and onesided else length
    if not same(terms, x.type.shape[at]):
        x = _of_extent(c, x, at, terms)
    return c.b.dft(x, axis=at, size=length, inverse=inverse, onesided=onesided)


def _extent(c: Context, n: Call, index: int, hint: str) -> Dim:
    """A scalar input as a dim."""
    known = n.dims(index)
    return known[0] if known else c.size(n[index], hint)


def _of_extent(c: Context, x: Value, axis: int, size: Dim) -> Value:
    """Cut, or filled up with zeros."""
    extent = x.type.shape[axis]
    if not isinstance(extent, int) or not isinstance(size, int):
        raise Unsupported(f"DFT of {size} terms of the extent {extent}")
    if size < extent:
        return c.slice(x, axis, 0, size)
    shape = tuple(size - extent if a == axis else d for a, d in enumerate(x.type.shape))
    return c.b.concat(x, c.full(shape, 0.0, x.type.dtype), axis=axis)


@translates("STFT")
def stft(c: Context, n: Call) -> Value:
    """DFT of frames that begin every so many entries, each times a window. [b, n, 1 or 2] -> [b, frames, terms, 2]."""
    b, x = c.b, n[0]
    step = n.numbers(1)
    window = n.get(2)
    frame: Dim | None = window.type.shape[0] if window is not None else None
    if n.has(3):
        frame = _extent(c, n, 3, "frame_length")
    if step is None or not isinstance(frame, int):
        raise Unsupported("STFT with a step or a length of frames that is known only when the model runs")
    if step[0] < 1 or frame < 1:
        raise Malformed(f"STFT every {step[0]} entries, of {frame} entries")
    if x.type.rank == 2:
        x = c.reshape(x, (*x.type.shape, 1))
    count = floordiv(x.type.shape[1] - frame, step[0]) + 1
    starts = b.reshape(b.mul(b.iota(size=count), step[0]), shape=(count, 1))
    frames = b.take(x, b.add(starts, c.array(np.arange(frame), I64)), axis=1)
    if window is not None:
        frames = b.mul(frames, c.reshape(c.cast(window, x.type.dtype), (frame, 1)))
    return b.dft(frames, axis=2, size=frame, onesided=bool(n.int("onesided", 1)))


@translates("MelWeightMatrix")
def mel_weight_matrix(c: Context, n: Call) -> Value:
    """Triangles on the mel scale, as the standard's reference places them. [dft_length // 2 + 1, bins]."""
    b = c.b
    bins, length = _extent(c, n, 0, "mel_bins"), _extent(c, n, 1, "dft_length")
    dtype = dtype_of_code(n.int("output_datatype", 1))
    rate, low, high = (c.reshape(c.cast(n[i], F64), ()) for i in (2, 3, 4))
    lower, upper = (_mels(c, v) for v in (low, high))
    wide: Dim = bins + 2
    width = b.div(b.sub(upper, lower), b.extent(wide, F64))
    mels = b.add(b.mul(b.iota(size=wide, dtype=F64), width), lower)
    hertz = b.mul(b.expm1(b.mul(mels, math.log(10) / 2595)), 700.0)
    places = b.floor(b.div(b.mul(hertz, b.add(b.extent(length, F64), 1.0)), rate))
    left, centre, right = (b.reshape(c.slice(places, 0, i, bins + i), shape=(1, bins)) for i in range(3))
    rows = floordiv(length, 2) + 1
    at = b.reshape(b.iota(size=rows, dtype=F64), shape=(rows, 1))
    rise, fall = b.sub(centre, left), b.sub(right, centre)
    rising = b.div(b.sub(at, left), b.maximum(rise, 1.0))
    falling = b.div(b.sub(right, at), b.maximum(fall, 1.0))
    # At the peak the falling side counts, which is 1 there, unless it has no width.
    on_rise = b.logical_and(b.less_equal(left, at), b.less_equal(at, centre))
    on_fall = b.logical_and(b.less_equal(centre, at), b.less(at, right))
    peak = b.logical_and(b.equal(rise, 0.0), b.equal(at, centre))
    y = b.where(on_fall, falling, b.where(peak, c.const(1.0, F64), b.where(on_rise, rising, 0.0)))
    return c.cast(y, dtype)


def _mels(c: Context, hertz: Value) -> Value:
    """2595·log₁₀(1 + f/700)."""
    return c.b.mul(c.b.log1p(c.b.div(hertz, 700.0)), 2595 / math.log(10))


@translates("Col2Im")
def col2im(c: Context, n: Call) -> Value:
    """Each column added to its window of an image: a transposed convolution with filters of a single one each."""
    x, image, block = n[0], n.dims(1), n.numbers(2)
    if image is None or block is None:
        raise Unsupported("Col2Im with an image or block of sizes that are known only when the model runs")
    count, taps = len(block), math.prod(block)
    strides, dilations = n.ints("strides", [1] * count), n.ints("dilations", [1] * count)
    pads = n.ints("pads", [0] * (2 * count))
    channels = floordiv(x.type.shape[1], taps)
    if not isinstance(channels, int) or not same(channels * taps, x.type.shape[1]) or len(image) != count:
        raise Malformed(f"Col2Im of {x.type} with windows of {block} to an image of {len(image)} axes")
    places, rest = _windows(image, block, strides, dilations, pads)
    filters = np.eye(taps).reshape(taps, 1, *block)
    return c.b.conv_transpose(
        c.reshape(x, (x.type.shape[0], channels * taps, *places)),
        c.array(np.tile(filters, (channels, *[1] * (count + 1))), x.type.dtype),
        strides=tuple(strides),
        padding=tuple(zip(pads[:count], pads[count:], strict=True)),
        output_padding=tuple(rest),
        dilations=tuple(dilations),
        groups=channels,
    )


def _windows(
    image: Sequence[Dim], block: Sequence[int], strides: Sequence[int], dilations: Sequence[int], pads: Sequence[int]
) -> tuple[list[Dim], list[int]]:
    """How many windows fit along each axis, and how many entries of the image lie behind the last."""
    places: list[Dim] = []
    rest: list[int] = []
    for i, extent in enumerate(image):
        room = extent + pads[i] + pads[len(block) + i] - dilations[i] * (block[i] - 1) - 1
        fit = floordiv(room, strides[i])
        behind = room - fit * strides[i]
        if not isinstance(behind, int):
            raise Unsupported(f"Col2Im to an image of the dynamic extent {extent} in steps of {strides[i]}")
        places.append(fit + 1)
        rest.append(behind)
    return places, rest
