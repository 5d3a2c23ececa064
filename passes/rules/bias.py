"""A bias added after a convolution, as TensorFlow and JAX write it, is the convolution's own."""

# pyright: reportSelfClsParameterName=false, reportGeneralTypeIssues=false
# A rule is a class of plain functions: they take a builder and what was bound, never `self`.

from __future__ import annotations

from typing import Any

from dragoman.ir.builder import Builder
from dragoman.ir.dims import same
from dragoman.ir.graph import Value
from dragoman.ir.op import sample
from dragoman.ir.ops.conv import CHANNELS_FIRST, CHANNELS_LAST
from dragoman.passes.rewrite import rewrite

_WINDOW = {"strides": (1, 2), "padding": ((1, 0), (0, 1)), "dilations": (1, 1)}


@rewrite(
    samples=[
        sample("f32[2,3,5,6]", "f32[4,3,2,3]", "f32[4]", groups=1, layout=CHANNELS_FIRST, a=(1, 2), **_WINDOW),
        sample("f32[1,4,5,6]", "f32[4,2,1,1]", "f32[4]", groups=2, layout=CHANNELS_FIRST, a=(-1, 1), **_WINDOW),
    ]
)
class FoldBiasIntoConv:
    """conv(x, w) + unsqueeze(c)  ->  conv(x, w, c)  with channels first"""

    def before(
        b: Any, x: Any, w: Any, c: Any, *,
        strides: Any, padding: Any, dilations: Any, groups: Any, layout: Any, a: Any,
    ) -> Any:  # fmt: skip
        y = b.conv(x, w, strides=strides, padding=padding, dilations=dilations, groups=groups, layout=layout)
        return b.add(y, b.unsqueeze(c, axes=a))

    def after(b: Builder, x: Value, w: Value, c: Value, *, a: tuple[int, ...], **convolution: Any) -> Value:
        return b.conv(x, w, c, **convolution)

    def where(x: Value, w: Value, c: Value, *, a: tuple[int, ...], layout: str, **convolution: Any) -> str | None:
        rank = x.type.rank - 1
        if layout != CHANNELS_FIRST or sorted(axis % rank for axis in a) != list(range(1, rank)):
            return f"axes={a} do not put the bias at the channels of {layout}"
        return _per_channel(w, c)


@rewrite(
    samples=[
        sample("f32[2,5,6,3]", "f32[4,3,2,3]", "f32[4]", groups=1, layout=CHANNELS_LAST, **_WINDOW),
        sample("f32[1,5,6,4]", "f32[4,2,1,1]", "f32[4]", groups=2, layout=CHANNELS_LAST, **_WINDOW),
    ]
)
class FoldBiasIntoConvChannelsLast:
    """conv(x, w) + c  ->  conv(x, w, c)  with channels last"""

    def before(
        b: Any, x: Any, w: Any, c: Any, *, strides: Any, padding: Any, dilations: Any, groups: Any, layout: Any
    ) -> Any:
        return b.add(
            b.conv(x, w, strides=strides, padding=padding, dilations=dilations, groups=groups, layout=layout), c
        )

    def after(b: Builder, x: Value, w: Value, c: Value, **convolution: Any) -> Value:
        return b.conv(x, w, c, **convolution)

    def where(x: Value, w: Value, c: Value, *, layout: str, **convolution: Any) -> str | None:
        return "the channels are not last" if layout != CHANNELS_LAST else _per_channel(w, c)


def _per_channel(w: Value, c: Value) -> str | None:
    if c.type.rank != 1 or not same(c.type.shape[0], w.type.shape[0]):
        return f"{c.type} has not one number for each of {w.type.shape[0]} channels"
    return None
