"""What detectors of objects end with: boxes that do not overlap, and pooled windows of an image. As ONNX has them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from dragoman.ir.arithmetic import numbers
from dragoman.ir.dims import Dim, same
from dragoman.ir.errors import UsageError
from dragoman.ir.op import Arithmetic, Array, Op, Sample, TensorType, operand, require, same_dtype, sample
from dragoman.ir.ops.shape import surely_negative
from dragoman.ir.types import I64


class NonMaxSuppression(Op, name="non_max_suppression", data_dependent=True, exact_field=False):
    """The boxes of each class by falling score, without those that overlap one taken before.

    boxes: [batch, n, 4]   scores: [batch, classes, n]   most: i64[]   overlap: []   least: []   ->   i64[size, 3]
    A row is batch, class and box. A box is two opposite corners (y, x, y, x), or x, y of its centre, width and height
    if `centered`. Boxes overlap whose intersection is more than `overlap` (0 unless given) of their union; only scores
    above `least` count; `most` are taken of each class of each batch, none unless given. Of equal scores the first box
    comes first.
    """

    centered: bool = False
    size: Dim = 0

    def infer(
        self,
        boxes: TensorType,
        scores: TensorType,
        most: TensorType | None = None,
        overlap: TensorType | None = None,
        least: TensorType | None = None,
    ) -> TensorType:
        """One score for each box; limits are scalars."""
        same_dtype(boxes, scores, overlap, least)
        require(boxes.dtype.is_float and boxes.rank == 3 and same(boxes.shape[2], 4), f"the boxes are {boxes}")
        fits = scores.rank == 3 and same(scores.shape[0], boxes.shape[0]) and same(scores.shape[2], boxes.shape[1])
        require(fits, f"scores {scores} of boxes {boxes}")
        require(most is None or (most.dtype == I64 and most.rank == 0), f"the limit is {most}")
        require(all(t is None or t.rank == 0 for t in (overlap, least)), "thresholds are scalars")
        require(not surely_negative(self.size), f"size={self.size} is negative")
        return TensorType(I64, (self.size, 3))

    def reference(
        self,
        m: Arithmetic,
        boxes: Array,
        scores: Array,
        most: Array | None = None,
        overlap: Array | None = None,
        least: Array | None = None,
    ) -> Array:
        """One box after the other, by falling score."""
        boxes, scores = numbers(boxes, "an overlap"), numbers(scores, "an order of scores")
        limit = 0 if most is None else int(most)
        threshold = 0.0 if overlap is None else float(overlap)
        lowest = -math.inf if least is None else float(least)
        rows: list[tuple[int, int, int]] = []
        for batch, (corners, by_class) in enumerate(zip(self._corners(boxes), scores, strict=True)):
            for label, values in enumerate(by_class):
                found = _kept(corners, values, limit, threshold, lowest)
                rows += [(batch, label, box) for box in found]
        if isinstance(self.size, int) and len(rows) != self.size:
            raise UsageError(f"non_max_suppression keeps {len(rows)} boxes where the model says {self.size}")
        return np.array(rows, np.int64).reshape(len(rows), 3)

    def _corners(self, boxes: Any) -> Any:
        """Lower and upper corner of each box."""
        if self.centered:
            centre, half = boxes[..., :2], boxes[..., 2:] / 2
            return np.concatenate([centre - half, centre + half], axis=-1)
        first, second = boxes[..., :2], boxes[..., 2:]
        return np.concatenate([np.minimum(first, second), np.maximum(first, second)], axis=-1)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Overlapping, flipped and centred boxes, two classes, limits and thresholds."""
        boxes = operand("f32[1,3,4]", values=(0, 0, 1, 1, 0, 0.1, 1, 1.1, 1, 11, 0, 10))
        scores = operand("f32[1,2,3]", values=(0.9, 0.75, 0.6, 0.1, 0.95, 0.5))
        some, half = operand("i64[]", values=(2,)), operand("f32[]", values=(0.5,))
        yield sample(boxes, scores, some, half, operand("f32[]", values=(0.3,)), size=4)
        yield sample(boxes, scores, operand("i64[]", values=(1,)), half, size=2)
        centred = operand("f32[1,3,4]", values=(0.5, 0.5, 1, 1, 0.5, 0.6, 1, 1, 0.5, 10.5, 1, 1))
        yield sample(centred, scores, some, half, centered=True, size=4)


def _kept(corners: Any, scores: Any, limit: int, threshold: float, least: float) -> list[int]:
    kept: list[int] = []
    for box in np.argsort(-scores, kind="stable"):
        if len(kept) >= limit:
            break
        if scores[box] > least and not any(_overlap(corners[box], corners[k]) > threshold for k in kept):
            kept.append(int(box))
    return kept


def _overlap(a: Any, b: Any) -> float:
    """Intersection over union; 0 where one of them has no area."""
    areas = [float(np.prod(box[2:] - box[:2])) for box in (a, b)]
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    if min(areas) <= 0 or sides.min() <= 0:
        return 0.0
    common = float(np.prod(sides))
    return common / (sum(areas) - common)


class RoiAlign(Op, name="roi_align", exact_field=False):
    """Each region of an image as a grid of `height` by `width` cells, each cell the mean of points interpolated in it.

    x: [n, c, h, w]   regions: [r, 4] (x, y, x, y)   image: i64[r]   ->   [r, c, height, width]
    Regions are in units of 1/`scale` pixels. `sampling` points are taken along each side of a cell, or as many as
    the cell has pixels if 0. With `half_pixel` coordinates are moved by half a pixel, and regions may be smaller than
    one. `mode="max"` takes the largest of the weighted neighbours of all points, as ONNX has it. He et al. 2017
    (arXiv:1703.06870).
    """

    height: int
    width: int
    sampling: int = 0
    scale: float = 1.0
    mode: str = "avg"
    half_pixel: bool = True

    def infer(self, x: TensorType, regions: TensorType, image: TensorType) -> TensorType:
        """One image for each region."""
        same_dtype(x, regions)
        require(x.dtype.is_float and x.rank == 4, f"roi_align of {x}")
        require(regions.rank == 2 and same(regions.shape[1], 4), f"the regions are {regions}")
        require(image.dtype == I64 and image.rank == 1 and same(image.shape[0], regions.shape[0]), f"images {image}")
        require(self.mode in ("avg", "max"), f"mode={self.mode!r} is neither avg nor max")
        require(min(self.height, self.width) > 0 and self.sampling >= 0, "cells and samples are counted from 1")
        return x.with_shape((regions.shape[0], x.shape[1], self.height, self.width))

    def reference(self, m: Arithmetic, x: Array, regions: Array, image: Array) -> Array:
        """Region by region: points along each axis, four neighbours each."""
        x, regions = numbers(x, "an interpolation"), numbers(regions, "the places of regions")
        rows = [self._pooled(x[int(i)], region) for region, i in zip(regions, image, strict=True)]
        shape = (x.shape[1], self.height, self.width)
        return np.stack(rows) if rows else np.zeros((0, *shape))

    def _pooled(self, x: Any, region: Any) -> Any:
        offset = 0.5 if self.half_pixel else 0.0
        left, top, right, bottom = region * self.scale - offset
        sides = [bottom - top, right - left]
        if not self.half_pixel:
            sides = [max(s, 1.0) for s in sides]
        ys, xs = (
            self._points(start, side, cells, extent)
            for start, side, cells, extent in zip(
                (top, left), sides, (self.height, self.width), x.shape[1:], strict=True
            )
        )
        parts = [
            x[:, y[0][:, None], c[0]] * (y[1][:, None] * c[1]) for y in ys for c in xs
        ]  # low-low, low-high, high-low, high-high
        if self.mode == "avg":
            return sum(self._by_cell(p).mean(axis=(2, 4)) for p in parts)
        return np.max([self._by_cell(p).max(axis=(2, 4)) for p in parts], axis=0)

    def _points(self, start: float, side: float, cells: int, extent: int) -> list[tuple[Any, Any]]:
        """(place, weight) of the lower and upper neighbour of each point along an axis; weight 0 outside."""
        count = self.sampling or max(math.ceil(side / cells), 1)
        places = start + (np.arange(cells * count) + 0.5) * (side / cells / count)
        inside = (places >= -1.0) & (places <= extent)
        places = np.maximum(places, 0.0)
        low = np.minimum(np.floor(places).astype(np.int64), extent - 1)
        high = np.minimum(low + 1, extent - 1)
        beyond = np.where(low >= extent - 1, 0.0, places - low)
        return [(low, np.where(inside, 1.0 - beyond, 0.0)), (high, np.where(inside, beyond, 0.0))]

    def _by_cell(self, points: Any) -> Any:
        channels, rows, columns = points.shape
        return points.reshape(channels, self.height, rows // self.height, self.width, columns // self.width)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Both modes and coordinates, a given and an adaptive number of points, a region partly outside."""
        regions = operand("f32[2,4]", values=(0.5, 1.0, 4.0, 5.0, 2.0, 2.0, 7.5, 6.5))
        images = operand("i64[2]", values=(1, 0))
        yield sample("f32[2,3,6,7]", regions, images, height=2, width=3, sampling=2)
        yield sample("f32[2,3,6,7]", regions, images, height=2, width=2, scale=0.5, half_pixel=False)
        yield sample("f32[2,1,6,7]", regions, images, height=3, width=2, sampling=1, mode="max")
