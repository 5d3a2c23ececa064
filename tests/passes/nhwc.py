"""Image models with their channels last, as TensorFlow and JAX bring them, in two spellings.

`direct` has convolutions, pools and resizes with channels last. `wrapped` has them with channels first, a transpose
before and one after each, as converters from NHWC write them. Everything else is in NHWC in both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dragoman.ir.builder import Builder
from dragoman.ir.dims import Dim
from dragoman.ir.graph import Graph, Value
from dragoman.ir.ops.conv import CHANNELS_FIRST, CHANNELS_LAST
from dragoman.ir.types import parse_type
from dragoman.ir.weights import ArrayWeight

SPELLINGS = ("direct", "wrapped")


class Maker:
    """A graph with one image as input, f32[n,h,w,c], and layers with random weights."""

    def __init__(self, image: str, spelling: str) -> None:
        self.graph = Graph()
        self.b = Builder(self.graph)
        self.x = self.graph.add_input(parse_type(image), "image")
        self.spelling = spelling
        self._random = np.random.default_rng(0)

    def weight(self, *shape: int, positive: bool = False) -> Value:
        """A weight whose products keep the size of activations."""
        values = self._random.standard_normal(shape) / max(np.prod(shape[1:]), 1) ** 0.5
        values = np.abs(values) + 0.5 if positive else values
        return self.graph.add_weight(f"w{len(self.graph.weights)}", ArrayWeight(values.astype(np.float32)))

    def done(self, *outputs: Value) -> Graph:
        """The graph."""
        self.graph.set_outputs(list(outputs))
        return self.graph

    def windowed(self, x: Value, apply: Callable[[Value, str], Value]) -> Value:
        """An op that has a layout, in this spelling."""
        if self.spelling == "direct":
            return apply(x, CHANNELS_LAST)
        return self.b.transpose(apply(self.b.transpose(x, perm=(0, 3, 1, 2)), CHANNELS_FIRST), perm=(0, 2, 3, 1))

    def conv(self, x: Value, out: int, kernel: int, stride: int = 1, groups: int = 1) -> Value:
        """Convolution, then a bias [c] added in NHWC."""
        low = (kernel - 1) // 2
        w = self.weight(out, channels(x) // groups, kernel, kernel)
        window = {"strides": (stride,) * 2, "padding": ((low, kernel - 1 - low),) * 2, "dilations": (1, 1)}
        y = self.windowed(x, lambda v, layout: self.b.conv(v, w, **window, groups=groups, layout=layout))
        return self.b.add(y, self.weight(out))

    def pool(self, x: Value, kernel: int, stride: int, mode: str = "max_pool") -> Value:
        """A pool without padding."""
        window = {"window": (kernel,) * 2, "strides": (stride,) * 2, "padding": ((0, 0),) * 2, "dilations": (1, 1)}
        return self.windowed(x, lambda v, layout: getattr(self.b, mode)(v, **window, layout=layout))

    def doubled(self, x: Value) -> Value:
        """Nearest neighbours, twice as many rows and columns."""
        sizes = (x.type.shape[1] * 2, x.type.shape[2] * 2)
        how = {"sizes": sizes, "coordinates": "asymmetric", "rounding": "floor"}
        return self.windowed(x, lambda v, layout: self.b.resize(v, **how, layout=layout))

    def norm(self, x: Value) -> Value:
        """Batch normalisation over the last axis."""
        c = channels(x)
        parts = self.weight(c), self.weight(c), self.weight(c), self.weight(c, positive=True)
        return self.b.batch_norm(x, *parts, epsilon=1e-3, axis=-1)

    def dense(self, x: Value, out: int) -> Value:
        """A linear layer over the last axis."""
        return self.b.linear(x, self.weight(out, channels(x)), self.weight(out))

    def block(self, x: Value, out: int, kernel: int, stride: int = 1, groups: int = 1) -> Value:
        """Convolution, norm, relu."""
        return self.b.relu(self.norm(self.conv(x, out, kernel, stride, groups)))

    def classified(self, x: Value, classes: int) -> Graph:
        """Global mean, linear, softmax."""
        return self.done(self.b.softmax(self.dense(self.b.reduce_mean(x, axes=(1, 2)), classes), axis=-1))


def channels(x: Value) -> int:
    """The last extent."""
    extent: Any = x.type.shape[-1]
    return int(extent)


def resnet(
    spelling: str,
    image: str = "f32[n,224,224,3]",
    width: int = 64,
    blocks: tuple[int, ...] = (3, 4, 6, 3),
    classes: int = 1000,
) -> Graph:
    """ResNet-50 (He et al. 2016) as Keras has it: padding by an op of its own, biases, norms apart."""
    m = Maker(image, spelling)
    b = m.b
    x = m.block(m.x, width, 7, 2)
    x = b.pad(x, padding=((0, 0), (1, 1), (1, 1), (0, 0)), value=-1e30)
    x = m.pool(x, 3, 2)
    for stage, count in enumerate(blocks):
        inner = width << stage
        for number in range(count):
            stride = 2 if number == 0 and stage else 1
            kept = x if number else m.norm(m.conv(x, 4 * inner, 1, stride))
            y = m.block(m.block(x, inner, 1, stride), inner, 3)
            x = b.relu(b.add(kept, m.norm(m.conv(y, 4 * inner, 1))))
    return m.classified(x, classes)


def mobilenet(spelling: str, image: str = "f32[n,32,32,3]") -> Graph:
    """Inverted residuals with squeeze-and-excite and hard swish, in the manner of MobileNetV3 (Howard et al. 2019)."""
    m = Maker(image, spelling)
    b = m.b
    x = b.hard_swish(m.norm(m.conv(m.x, 8, 3, 2)))
    for out, stride in ((8, 1), (16, 2), (16, 1)):
        inner = 4 * channels(x)
        y = b.hard_swish(m.norm(m.conv(x, inner, 1)))
        y = b.hard_swish(m.norm(m.conv(y, inner, 3, stride, groups=inner)))
        squeezed = b.reduce_mean(y, axes=(1, 2), keepdims=True)
        y = b.mul(y, b.hard_sigmoid(m.conv(b.relu(m.conv(squeezed, 8, 1)), inner, 1)))
        y = m.norm(m.conv(y, out, 1))
        x = b.add(x, y) if stride == 1 and channels(x) == out else y
    x = b.hard_swish(m.conv(b.reduce_mean(x, axes=(1, 2), keepdims=True), 32, 1))
    flat = b.reshape(x, shape=(x.type.shape[0], 32))
    return m.done(m.dense(flat, 10))


def unet(spelling: str, image: str = "f32[n,32,32,3]") -> Graph:
    """Two steps down, two up with resizing, skips joined along the channels (Ronneberger et al. 2015)."""
    m = Maker(image, spelling)
    x = m.block(m.x, 8, 3)
    skips: list[Value] = []
    for out in (16, 32):
        skips.append(x)
        x = m.block(m.pool(x, 2, 2), out, 3)
    for skip in reversed(skips):
        x = m.block(m.b.concat(m.doubled(x), skip, axis=-1), channels(skip), 3)
    return m.done(m.b.softmax(m.conv(x, 4, 1), axis=-1))


def convnext(spelling: str, image: str = "f32[n,32,32,3]", blocks: int = 3) -> Graph:
    """Depthwise convolutions with layer norms and linear layers over the last axis (Liu et al. 2022)."""
    m = Maker(image, spelling)
    b = m.b

    def normalised(x: Value) -> Value:
        return b.layer_norm(x, m.weight(channels(x)), m.weight(channels(x)), axis=-1, epsilon=1e-6)

    x = normalised(m.conv(m.x, 16, 4, 4))
    for _ in range(blocks):
        y = m.dense(normalised(m.conv(x, 16, 7, groups=16)), 64)
        x = b.add(x, b.mul(m.dense(b.gelu(y), 16), m.weight(16)))
    return m.done(m.dense(normalised(b.reduce_mean(x, axes=(1, 2))), 10))


def cut_apart(spelling: str, image: str = "f32[n,8,8,6]") -> Graph:
    """What else happens to channels: split, slices, stacking and flattening with the channels first in memory."""
    m = Maker(image, spelling)
    b = m.b
    x = m.block(m.x, 8, 3)
    left, right = b.split(x, axis=3, sizes=(3, 5))
    odd = b.slice(right, axes=(-1, 1), starts=(0, 0), stops=(5, x.type.shape[1]), steps=(2, 1))
    x = m.conv(b.concat(odd, left, b.flip(left, axes=(3,)), axis=3), 4, 1)
    x = b.tile(x, repeats=(1, 1, 1, 2))
    extents: list[Dim] = [x.type.shape[0], x.type.shape[1] * x.type.shape[2], 8]
    rows = b.reshape(m.conv(x, 8, 1), shape=tuple(extents))
    return m.done(b.reduce_max(b.softmax(rows, axis=-1), axes=(1,)), b.argmax(x, axis=-1))


MODELS: dict[str, Callable[[str], Graph]] = {f.__name__: f for f in (resnet, mobilenet, unet, convnext, cut_apart)}
"""Each takes a spelling, and an image type where another is wanted."""
