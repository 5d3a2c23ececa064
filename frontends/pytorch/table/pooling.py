"""Pooling over one to three spatial axes, with and without a batch."""

from __future__ import annotations

from collections.abc import Sequence

from dragoman.frontends.pytorch.context import Context
from dragoman.frontends.pytorch.table.convolution import Numbers, batched, spread
from dragoman.frontends.pytorch.table.registry import translates
from dragoman.ir.dims import Dim, DimExpr
from dragoman.ir.graph import Value


def _windows(
    count: int, kernel: Numbers, stride: Numbers, padding: Numbers, dilation: Numbers, ceil_mode: bool
) -> dict[str, object]:
    window = spread(kernel, count)
    given = spread(stride, count) if isinstance(stride, int) or len(stride) else window
    return {
        "window": window,
        "strides": given,
        "padding": tuple((p, p) for p in spread(padding, count)),
        "dilations": spread(dilation, count),
        "ceil_mode": bool(ceil_mode),
    }


def _max_pool(count: int) -> None:
    def pool(
        c: Context,
        x: Value,
        kernel_size: Numbers,
        stride: Numbers = (),
        padding: Numbers = 0,
        dilation: Numbers = 1,
        ceil_mode: bool = False,
    ) -> Value:
        attributes = _windows(count, kernel_size, stride, padding, dilation, ceil_mode)
        return batched(c, x, count + 2, lambda y: c.b.max_pool(y, **attributes))

    def with_places(
        c: Context,
        x: Value,
        kernel_size: Numbers,
        stride: Numbers = (),
        padding: Numbers = 0,
        dilation: Numbers = 1,
        ceil_mode: bool = False,
    ) -> tuple[Value, Value]:
        attributes = _windows(count, kernel_size, stride, padding, dilation, ceil_mode)
        full = x if x.type.rank == count + 2 else c.b.reshape(x, shape=(1, *x.type.shape))
        values, places = c.b.max_pool_with_indices(full, **attributes)
        first, second = c.types
        return c.reshape(values, first.shape), c.reshape(places, second.shape)

    translates(f"aten.max_pool{count}d.default")(pool)
    translates(f"aten.max_pool{count}d_with_indices.default")(with_places)


def _avg_pool(count: int) -> None:
    def pool(
        c: Context,
        x: Value,
        kernel_size: Numbers,
        stride: Numbers = (),
        padding: Numbers = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Value:
        attributes = _windows(count, kernel_size, stride, padding, 1, ceil_mode)
        included = {"count_include_pad": bool(count_include_pad), "divisor": divisor_override}
        return batched(c, x, count + 2, lambda y: c.b.avg_pool(y, **attributes, **included))

    translates(f"aten.avg_pool{count}d.default")(pool)


def _adaptive(count: int) -> None:
    def average(c: Context, x: Value, output_size: Sequence[Dim]) -> Value:
        sizes = _sizes(x, output_size, count)
        return batched(c, x, count + 2, lambda y: c.b.adaptive_avg_pool(y, output_size=sizes))

    def largest(c: Context, x: Value, output_size: Sequence[Dim]) -> tuple[Value, Value | None]:
        sizes = _sizes(x, output_size, count)
        window = _even_window(x.type.shape[x.type.rank - count :], sizes)
        if window is None:
            return batched(c, x, count + 2, lambda y: c.b.adaptive_max_pool(y, output_size=sizes)), None
        full = x if x.type.rank == count + 2 else c.b.reshape(x, shape=(1, *x.type.shape))
        attributes = _windows(count, window, window, 0, 1, False)
        values, places = c.b.max_pool_with_indices(full, **attributes)
        first, second = c.types
        return c.reshape(values, first.shape), c.reshape(places, second.shape)

    translates(f"aten.adaptive_avg_pool{count}d.default", f"aten._adaptive_avg_pool{count}d.default")(average)
    translates(f"aten.adaptive_max_pool{count}d.default")(largest)


def _even_window(extents: Sequence[Dim], sizes: Sequence[Dim]) -> tuple[int, ...] | None:
    """The window of a plain pool that gives these sizes, where all are of one size."""
    window: list[int] = []
    for extent, size in zip(extents, sizes, strict=True):
        if not isinstance(extent, int) or not isinstance(size, int) or size < 1 or extent < 1 or extent % size:
            return None
        window.append(extent // size)
    return tuple(window)


def _sizes(x: Value, given: Sequence[Dim] | Dim, count: int) -> tuple[Dim, ...]:
    listed: tuple[Dim, ...] = (given,) if isinstance(given, (int, DimExpr)) else tuple(given)
    return listed * count if len(listed) == 1 else listed


for _count in (1, 2, 3):
    _max_pool(_count)
    _avg_pool(_count)
    _adaptive(_count)
