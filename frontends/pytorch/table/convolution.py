"""Convolutions in all of torch's spellings, with and without a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dragoman.frontends.pytorch.context import Context
from dragoman.frontends.pytorch.table.registry import translates
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value

Numbers = Sequence[int] | int


def spread(given: Numbers, count: int) -> tuple[int, ...]:
    """A number, or one for each spatial axis, as one for each."""
    listed = (given,) if isinstance(given, int) else tuple(given)
    return listed * count if len(listed) == 1 else listed


def batched(c: Context, x: Value, rank: int, function: Callable[[Value], Value]) -> Value:
    """`function` of x, given a batch of one if it lacks the batch axis that would make it `rank`."""
    if x.type.rank == rank:
        return function(x)
    result = function(c.b.reshape(x, shape=(1, *x.type.shape)))
    return c.b.reshape(result, shape=result.type.shape[1:])


def convolve(
    c: Context,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: Numbers,
    padding: Numbers | str,
    dilation: Numbers,
    groups: int,
) -> Value:
    """A convolution over as many axes as the weight has."""
    rank = weight.type.rank
    count = rank - 2
    strides, dilations = spread(stride, count), spread(dilation, count)
    pairs = _same(weight, dilations) if padding == "same" else _pairs(padding, count)
    return batched(
        c,
        x,
        rank,
        lambda y: c.b.conv(y, weight, bias, strides=strides, padding=pairs, dilations=dilations, groups=groups),
    )


def _pairs(padding: Numbers | str, count: int) -> tuple[tuple[int, int], ...]:
    if isinstance(padding, str):
        if padding != "valid":
            raise Unsupported(f"padding={padding!r}")
        return ((0, 0),) * count
    return tuple((p, p) for p in spread(padding, count))


def _same(weight: Value, dilations: Sequence[int]) -> tuple[tuple[int, int], ...]:
    pairs: list[tuple[int, int]] = []
    for extent, dilation in zip(weight.type.shape[2:], dilations, strict=True):
        if not isinstance(extent, int):
            raise Unsupported("padding='same' with a kernel of symbolic extent")
        total = dilation * (extent - 1)
        pairs.append((total // 2, total - total // 2))
    return tuple(pairs)


@translates(*(f"aten.conv{n}d.{overload}" for n in (1, 2, 3) for overload in ("default", "padding")))
def conv(
    c: Context,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Numbers = 1,
    padding: Numbers | str = 0,
    dilation: Numbers = 1,
    groups: int = 1,
) -> Value:
    """A convolution."""
    return convolve(c, x, weight, bias, stride, padding, dilation, groups)


def _transposed(
    c: Context,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: Numbers,
    padding: Numbers,
    output_padding: Numbers,
    groups: int,
    dilation: Numbers,
) -> Value:
    rank = weight.type.rank
    count = rank - 2
    return batched(
        c,
        x,
        rank,
        lambda y: c.b.conv_transpose(
            y,
            weight,
            bias,
            strides=spread(stride, count),
            padding=_pairs(padding, count),
            output_padding=spread(output_padding, count),
            dilations=spread(dilation, count),
            groups=groups,
        ),
    )


@translates("aten.conv_transpose1d.default", "aten.conv_transpose2d.input", "aten.conv_transpose3d.input")
def conv_transpose(
    c: Context,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Numbers = 1,
    padding: Numbers = 0,
    output_padding: Numbers = 0,
    groups: int = 1,
    dilation: Numbers = 1,
) -> Value:
    """The transpose of a convolution."""
    return _transposed(c, x, weight, bias, stride, padding, output_padding, groups, dilation)


@translates("aten.convolution.default", "aten._convolution.default", "aten._convolution.deprecated")
def convolution(
    c: Context,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: Numbers,
    padding: Numbers,
    dilation: Numbers,
    transposed: bool,
    output_padding: Numbers,
    groups: int,
    *flags: bool,
) -> Value:
    """Either."""
    if transposed:
        return _transposed(c, x, weight, bias, stride, padding, output_padding, groups, dilation)
    return convolve(c, x, weight, bias, stride, padding, dilation, groups)


@translates("aten._convolution_mode.default")
def convolution_mode(
    c: Context,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: Numbers,
    padding: str,
    dilation: Numbers,
    groups: int,
) -> Value:
    """Padding by name."""
    return convolve(c, x, weight, bias, stride, padding, dilation, groups)
