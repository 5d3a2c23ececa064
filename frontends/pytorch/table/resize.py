"""Resampling: interpolate in all its modes, and grid_sample."""

from __future__ import annotations

from collections.abc import Sequence

from dragoman.frontends.pytorch.context import Context
from dragoman.frontends.pytorch.table.registry import translates
from dragoman.ir.dims import Dim
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value

_KINDS = {
    # torch's kind: mode, coordinates without align_corners, rounding
    "nearest": ("nearest", "asymmetric", "floor"),
    "nearest_exact": ("nearest", "half_pixel", "round_prefer_ceil"),
    "linear": ("linear", "half_pixel", "round_prefer_floor"),
    "cubic": ("cubic", "half_pixel", "round_prefer_floor"),
}


def _resized(
    c: Context,
    x: Value,
    kind: str,
    scales: Sequence[float | None] | None,
    align_corners: bool = False,
    antialias: bool = False,
) -> Value:
    mode, coordinates, rounding = _KINDS[kind]
    given = (
        None if scales is None or any(s is None for s in scales) else tuple(float(s) for s in scales if s is not None)
    )
    if scales is not None and given is None and any(s is not None for s in scales):
        raise Unsupported("a scale is given for some axes only")
    sizes: tuple[Dim, ...] = c.type.shape[2:]
    if antialias and align_corners:  # torch then changes the scale only, not where pixels lie
        given, align_corners = _corner_scales(x.type.shape[2:], sizes), False
    # Corners are aligned by the sizes alone; the factor does not count.
    return c.b.resize(
        x,
        sizes=sizes,
        mode=mode,
        coordinates="align_corners" if align_corners else coordinates,
        rounding=rounding,
        scales=None if align_corners else given,
        antialias=antialias,
        cubic_a=-0.5 if antialias else -0.75,
        exclude_outside=antialias,
    )


def _corner_scales(before: Sequence[Dim], after: Sequence[Dim]) -> tuple[float, ...]:
    scales: list[float] = []
    for extent, size in zip(before, after, strict=True):
        if not isinstance(extent, int) or not isinstance(size, int) or extent < 2 or size < 2:
            raise Unsupported("antialiasing with aligned corners at sizes that are not known, or below 2")
        scales.append((size - 1) / (extent - 1))
    return tuple(scales)


def _nearest(prefix: str, kind: str, count: int) -> None:
    def by_size(
        c: Context, x: Value, output_size: Sequence[Dim], *scales: float | None, **named: float | None
    ) -> Value:
        return _resized(c, x, kind, _given(scales, named))

    def by_scale(
        c: Context, x: Value, output_size: Sequence[Dim] | None, scale_factors: Sequence[float] | None
    ) -> Value:
        return _resized(c, x, kind, scale_factors)

    translates(f"aten.{prefix}{count}d.default")(by_size)
    translates(f"aten.{prefix}{count}d.vec")(by_scale)


def _given(scales: Sequence[float | None], named: dict[str, float | None]) -> list[float | None] | None:
    listed = [*scales, *named.values()]
    return listed if any(s is not None for s in listed) else None


for _count in (1, 2, 3):
    _nearest("upsample_nearest", "nearest", _count)
    _nearest("_upsample_nearest_exact", "nearest_exact", _count)


def _smooth(operator: str, kind: str, antialias: bool = False) -> None:
    def by_size(
        c: Context,
        x: Value,
        output_size: Sequence[Dim],
        align_corners: bool,
        *scales: float | None,
        **named: float | None,
    ) -> Value:
        return _resized(c, x, kind, _given(scales, named), align_corners, antialias)

    def by_scale(
        c: Context,
        x: Value,
        output_size: Sequence[Dim] | None,
        align_corners: bool,
        scale_factors: Sequence[float] | None,
    ) -> Value:
        return _resized(c, x, kind, scale_factors, align_corners, antialias)

    translates(f"aten.{operator}.default")(by_size)
    translates(f"aten.{operator}.vec")(by_scale)


_smooth("upsample_linear1d", "linear")
_smooth("upsample_bilinear2d", "linear")
_smooth("upsample_trilinear3d", "linear")
_smooth("upsample_bicubic2d", "cubic")
_smooth("_upsample_bilinear2d_aa", "linear", antialias=True)
_smooth("_upsample_bicubic2d_aa", "cubic", antialias=True)

_SAMPLING = ("linear", "nearest", "cubic")
_PADDING = ("zeros", "border", "reflection")


@translates("aten.grid_sampler.default", "aten.grid_sampler_2d.default", "aten.grid_sampler_3d.default")
def grid_sampler(
    c: Context, x: Value, grid: Value, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Value:
    """Elements of x at the places that the grid names."""
    return c.b.grid_sample(
        x,
        grid,
        mode=_SAMPLING[interpolation_mode],
        padding=_PADDING[padding_mode],
        align_corners=bool(align_corners),
    )
