"""Convolution that reads where another tensor says: deformable convolution."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dragoman.ir.arithmetic import numbers
from dragoman.ir.dims import same
from dragoman.ir.op import Arithmetic, Array, Op, Sample, TensorType, operand, require, same_dtype, sample

if TYPE_CHECKING:
    from dragoman.ir.builder import Builder
    from dragoman.ir.graph import Value
    from dragoman.ir.types import DType


class DeformConv(Op, name="deform_conv", exact_field=False):
    """A convolution whose taps are each moved by an offset, and weighted by a mask where there is one.

    x: [n, c, h, w]   weight: [o, c/groups, kh, kw]   offset: [n, parts·kh·kw·2, oh, ow] (y before x)   bias: [o]
    mask: [n, parts·kh·kw, oh, ow]   ->   [n, o, oh, ow]
    `parts` groups of channels share their offsets. Between elements x is interpolated linearly, outside it is 0.
    Dai et al. 2017 (arXiv:1703.06211), Zhu et al. 2018 (arXiv:1811.11168).
    """

    strides: tuple[int, ...] = (1, 1)
    padding: tuple[tuple[int, int], ...] = ((0, 0), (0, 0))
    dilations: tuple[int, ...] = (1, 1)
    groups: int = 1
    parts: int = 1

    def infer(
        self,
        x: TensorType,
        weight: TensorType,
        offset: TensorType,
        bias: TensorType | None = None,
        mask: TensorType | None = None,
    ) -> TensorType:
        """Two spatial axes of known extents, whose offsets there are for each tap."""
        same_dtype(x, weight, offset, bias, mask)
        require(x.dtype.is_float and x.rank == 4 and weight.rank == 4, f"deform_conv of {x} with {weight}")
        require(len(self.strides) == len(self.padding) == len(self.dilations) == 2, "there are two spatial axes")
        whole = [*x.shape[1:], *weight.shape]
        require(all(isinstance(d, int) for d in whole), f"deform_conv of the extents {x} and {weight} must be known")
        c, *spatial = (int(d) for d in x.shape[1:])  # type: ignore[arg-type]
        o, each, *kernel = (int(d) for d in weight.shape)  # type: ignore[arg-type]
        require(each * self.groups == c and o % self.groups == 0, f"{c} and {o} channels in {self.groups} groups")
        require(c % self.parts == 0, f"{c} channels in {self.parts} parts")
        out = tuple(
            (s + sum(p) - d * (k - 1) - 1) // t + 1
            for s, p, d, k, t in zip(spatial, self.padding, self.dilations, kernel, self.strides, strict=True)
        )
        require(min(out) > 0, f"the kernel {kernel} is larger than {spatial}")
        taps = self.parts * math.prod(kernel)
        for given, count in ((offset, 2 * taps), (mask, taps)):
            wanted = (x.shape[0], count, *out)
            fits = given is None or (
                given.rank == 4 and all(same(a, b) for a, b in zip(given.shape, wanted, strict=True))
            )
            require(fits, f"{given} where {list(map(str, wanted))} is needed")
        require(bias is None or (bias.rank == 1 and same(bias.shape[0], o)), f"the bias is {bias}")
        return x.with_shape((x.shape[0], o, *out))

    def _places(self, kernel: tuple[int, ...], out: tuple[int, ...]) -> tuple[Any, Any]:
        """Where the taps read without offsets: y and x, [taps, oh, ow]."""
        ys, xs = (
            (np.arange(o) * s - p[0]) + np.arange(k)[:, None] * d
            for o, s, p, k, d in zip(out, self.strides, self.padding, kernel, self.dilations, strict=True)
        )
        shape = (*kernel, *out)
        y = np.broadcast_to(ys[:, None, :, None], shape).reshape(-1, *out)
        x = np.broadcast_to(xs[None, :, None, :], shape).reshape(-1, *out)
        return y, x

    def reference(
        self,
        m: Arithmetic,
        x: Array,
        weight: Array,
        offset: Array,
        bias: Array | None = None,
        mask: Array | None = None,
    ) -> Array:
        """The four neighbours of each tap weighted by distance, then one product for each group of channels."""
        x, weight, offset = (numbers(v, "a place between elements") for v in (x, weight, offset))
        n, c, height, width = x.shape
        o, each, *kernel = weight.shape
        taps, out = math.prod(kernel), offset.shape[2:]
        moved = offset.reshape(n, self.parts, taps, 2, *out)
        ys, xs = self._places(tuple(kernel), out)
        y, z = moved[:, :, :, 0] + ys, moved[:, :, :, 1] + xs
        image = x.reshape(n, self.parts, c // self.parts, height * width)
        total: Any = 0.0
        for dy, dx in itertools.product((0, 1), repeat=2):
            row, column = np.floor(y) + dy, np.floor(z) + dx
            weight_of = (1 - np.abs(y - row)) * (1 - np.abs(z - column))
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            places = np.where(inside, row * width + column, 0).astype(np.int64).reshape(n, self.parts, 1, -1)
            read = np.take_along_axis(image, places, axis=3)
            total = total + read * np.where(inside, weight_of, 0.0).reshape(n, self.parts, 1, -1)
        if mask is not None:
            total = total * mask.reshape(n, self.parts, 1, -1)
        columns = total.reshape(n, self.groups, each * taps, math.prod(out))
        product = np.matmul(weight.reshape(self.groups, o // self.groups, each * taps), columns)
        y = product.reshape(n, o, *out)
        return y if bias is None else y + bias.reshape(-1, 1, 1)

    def decompose(
        self, b: Builder, x: Value, weight: Value, offset: Value, bias: Value | None = None, mask: Value | None = None
    ) -> Value:
        """The taps read by grid_sample, times the mask, and one product for each group of channels."""
        n = x.type.shape[0]
        c, height, width = (int(d) for d in x.type.shape[1:])  # type: ignore[arg-type]
        o, each, *kernel = (int(d) for d in weight.type.shape)  # type: ignore[arg-type]
        out = tuple(int(d) for d in offset.type.shape[2:])  # type: ignore[arg-type]
        taps, wide, dtype = math.prod(kernel), math.prod(out), x.type.dtype
        moved = b.reshape(offset, shape=(n * self.parts, taps, 2, wide))
        grid: list[Value] = []
        for axis, extent in enumerate((height, width)):
            part = b.slice(moved, axes=(2,), starts=(axis,), stops=(axis + 1,))
            part = b.reshape(part, shape=(n * self.parts, taps, wide, 1))
            start = b.reshape(self._starts(b, axis, kernel, out, dtype), shape=(taps, wide, 1))
            # Places count from the middles of elements, those of a grid from −1 to 1 between the outer edges.
            grid.insert(0, b.sub(b.mul(b.add(b.add(part, start), 0.5), 2.0 / extent), 1.0))
        read = b.grid_sample(
            b.reshape(x, shape=(n * self.parts, c // self.parts, height, width)), b.concat(*grid, axis=3)
        )
        if mask is not None:
            read = b.mul(read, b.reshape(mask, shape=(n * self.parts, 1, taps, wide)))
        columns = b.reshape(read, shape=(n, self.groups, each * taps, wide))
        product = b.matmul(b.reshape(weight, shape=(self.groups, o // self.groups, each * taps)), columns)
        y = b.reshape(product, shape=(n, o, *out))
        return y if bias is None else b.add(y, b.reshape(bias, shape=(o, 1, 1)))

    def _starts(self, b: Builder, axis: int, kernel: Sequence[int], out: Sequence[int], dtype: DType) -> Value:
        """Where the taps read along an axis without offsets, [kh, kw, oh, ow]."""
        shape = [1] * 4
        tap = b.reshape(b.iota(size=kernel[axis], dtype=dtype), shape=(*shape[:axis], kernel[axis], *shape[axis + 1 :]))
        place = b.reshape(
            b.iota(size=out[axis], dtype=dtype), shape=(*shape[: axis + 2], out[axis], *shape[axis + 3 :])
        )
        low = float(self.padding[axis][0])
        found = b.add(b.mul(tap, float(self.dilations[axis])), b.sub(b.mul(place, float(self.strides[axis])), low))
        return b.broadcast_to(found, shape=(*kernel, *out))

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Padding, strides, dilations, groups, parts, bias and mask; offsets that leave the image."""
        yield sample("f64[2,2,5,4]", "f64[3,2,2,2]", operand("f64[2,8,4,3]", low=-1.5, high=1.5))
        yield sample(
            "f64[1,4,6,6]",
            "f64[2,2,3,3]",
            operand("f64[1,36,3,3]", low=-1.5, high=1.5),
            "f64[2]",
            "f64[1,18,3,3]",
            strides=(2, 2),
            padding=((1, 1), (1, 1)),
            groups=2,
            parts=2,
        )
