"""Resampling by factors or to sizes that only a run tells, over any of the axes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from dragoman.ir.arithmetic import Inexact
from dragoman.ir.errors import UsageError
from dragoman.ir.op import Arithmetic, Array, Op, Sample, Shape, TensorType, operand, require, sample
from dragoman.ir.ops.resize import Resize
from dragoman.ir.ops.shape import listed
from dragoman.ir.types import F32, I64

POLICIES = ("stretch", "not_larger", "not_smaller")


class DynamicResize(Op, name="dynamic_resize", data_dependent=True, exact_field=False):
    """Interpolation of `axes` by the factors in one operand, or to the sizes in another; `shape` names the result's.

    x: [n…]   scales: f32[number of axes]   sizes: i64[number of axes], in place of them   ->   [shape…]
    Each extent becomes ⌊extent·factor⌋. `policy` not_larger or not_smaller uses one factor for all axes, the smallest
    or largest that the sizes ask for, and rounds. The other attributes are those of `resize`. ONNX's Resize, opset 18.
    """

    shape: Shape
    axes: tuple[int, ...]
    policy: str = "stretch"
    mode: str = "nearest"
    coordinates: str = "half_pixel"
    rounding: str = "round_prefer_floor"
    antialias: bool = False
    cubic_a: float = -0.75
    exclude_outside: bool = False

    def infer(self, x: TensorType, scales: TensorType | None = None, sizes: TensorType | None = None) -> TensorType:
        """The shape named, which keeps the extents of other axes."""
        require((scales is None) != (sizes is None), "either factors or sizes")
        require(len(self.shape) == x.rank and self.policy in POLICIES, f"{listed(self.shape)}, policy={self.policy!r}")
        count = len(self.axes)
        require(all(0 <= a < x.rank for a in self.axes) and len(set(self.axes)) == count, f"axes={self.axes}")
        for given, dtype in ((scales, F32), (sizes, I64)):
            fits = given is None or (given.dtype == dtype and given.shape == (count,))
            require(fits, f"{given} is not {dtype}[{count}]")
        self._static((1,) * count, None).infer(TensorType(x.dtype, (1,) * (2 + count)))
        return x.with_shape(self.shape)

    def _static(self, sizes: Sequence[int], scales: Sequence[float] | None) -> Resize:
        return Resize(
            sizes=tuple(sizes),
            scales=None if scales is None else tuple(scales),
            mode=self.mode,
            coordinates=self.coordinates,
            rounding=self.rounding,
            antialias=self.antialias,
            cubic_a=self.cubic_a,
            exclude_outside=self.exclude_outside,
        )

    def _targets(self, extents: Sequence[int], scales: Any, sizes: Any) -> tuple[list[int], list[float] | None]:
        if scales is not None:
            factors = [float(s) for s in scales]
            if any(f <= 0 for f in factors):
                raise UsageError(f"a resize by the factors {factors}")
            return [
                int(np.floor(np.float32(e) * np.float32(f))) for e, f in zip(extents, factors, strict=True)
            ], factors
        wanted = [int(s) for s in sizes]
        if self.policy == "stretch":
            return wanted, None
        ratios = [Fraction(s, e) for s, e in zip(wanted, extents, strict=True)]
        factor = min(ratios) if self.policy == "not_larger" else max(ratios)
        rounded = [(factor * e + Fraction(1, 2)).__floor__() for e in extents]
        return rounded, [float(factor)] * len(rounded)

    def reference(self, m: Arithmetic, x: Array, scales: Array | None = None, sizes: Array | None = None) -> Array:
        """As `resize`, the axes that stay put before the others."""
        if scales is not None and not isinstance(scales, np.ndarray):
            raise Inexact("factors that are real numbers")
        rest = [a for a in range(len(x.shape)) if a not in self.axes]
        order = [*rest, *self.axes]
        extents = [x.shape[a] for a in self.axes]
        target, factors = self._targets(extents, scales, sizes)
        lead = [x.shape[a] for a in rest]
        seen = m.move(lambda a: np.transpose(a, order).reshape(1, int(np.prod(lead)), *extents), x)
        y = self._static(target, factors).reference(m, seen)
        back = np.argsort(order)
        return m.move(lambda a: np.transpose(a.reshape(*lead, *target), back), y)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Factors that give no whole sizes, sizes, one factor for all."""
        scales = operand("f32[2]", values=(1.5, 0.6))
        yield sample("f32[1,2,3,4]", scales, axes=(2, 3), shape=(1, 2, 4, 2), mode="linear")
        sizes = operand("i64[2]", values=(7, 8))
        yield sample("f32[1,1,2,4]", None, sizes, axes=(2, 3), shape=(1, 1, 7, 8))
        yield sample("f32[1,1,2,4]", None, sizes, axes=(2, 3), shape=(1, 1, 4, 8), policy="not_larger")
        yield sample("f32[2,3]", operand("f32[2]", values=(2.0, 1.0)), axes=(0, 1), shape=(4, 3))
