"""Tile and Pad in all their versions."""

from __future__ import annotations

from collections.abc import Sequence

from dragoman.frontends.onnx.call import Call
from dragoman.frontends.onnx.context import Context
from dragoman.frontends.onnx.registry import translates
from dragoman.frontends.onnx.table.shape import sized
from dragoman.ir.dims import Dim, bounds, same
from dragoman.ir.errors import Malformed, Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.op import normal_axis
from dragoman.ir.types import I64


@translates("Tile")
def tile(c: Context, n: Call) -> Value:
    """Repeated as a whole along each axis."""
    x = n[0]
    if n.version < 6:
        raise Unsupported("Tile before opset 6")
    return c.b.tile(x, repeats=tuple(sized(c, n, 1, "repeats")))


@translates("Pad")
def pad_attributes(c: Context, n: Call) -> Value:
    """Amounts as attributes, before opset 11."""
    x = n[0]
    amounts: list[Dim] = list(n.ints("pads" if n.given("pads") else "paddings"))
    return padded(c, x, list(range(x.type.rank)), amounts, n.text("mode", "constant"), n.float("value", 0.0))


@translates("Pad", since=11)
def pad(c: Context, n: Call) -> Value:
    """Amounts as an input; negative ones cut off."""
    x = n[0]
    if n.has(3) and n.numbers(3) is None:
        amounts, axes = _padding_anywhere(c, n, x), list(range(x.type.rank))
    else:
        amounts = sized(c, n, 1, "pad")
        axes = n.axes(3) if n.has(3) else list(range(x.type.rank))
    assert axes is not None
    value = 0.0
    mode = n.text("mode", "constant")
    if n.has(2) and mode == "constant":
        known = n.known(2)
        if known is None or not _is_exact(known.reshape(-1)[0]):
            return _filled(c, x, axes, amounts, n[2])
        value = float(known.reshape(-1)[0])
    return padded(c, x, axes, amounts, mode, value)


def _is_exact(value: object) -> bool:
    """Whether a number is the same one as a float: not all integers of 64 bits are."""
    return not isinstance(value, int) or int(float(value)) == value


def _padding_anywhere(c: Context, n: Call, x: Value) -> list[Dim]:
    """Amounts for all axes, from those for axes that the model computes."""
    b, rank = c.b, x.type.rank
    axes = c.cast(n[3], I64)
    axes = b.where(b.less(axes, 0), b.add(axes, rank), axes)
    places = b.concat(axes, b.add(axes, rank), axis=0)
    vector = b.scatter_elements(c.full((2 * rank,), 0, I64), places, c.cast(n[1], I64), axis=0)
    return [c.size(c.slice(vector, 0, i, i + 1), "pad") for i in range(2 * rank)]


def padded(c: Context, x: Value, axes: Sequence[int], amounts: Sequence[Dim], mode: str, value: float) -> Value:
    """x with elements added around it; ONNX lists all beginnings, then all ends."""
    count = len(axes)
    if len(amounts) != 2 * count:
        raise Malformed(f"Pad has {len(amounts)} amounts for {count} axes")
    padding: list[tuple[Dim, Dim]] = [(0, 0)] * x.type.rank
    for i, axis in enumerate(axes):
        at = normal_axis(axis, x.type.rank)
        low, high = amounts[i], amounts[count + i]
        x, low, high = _cropped(c, x, at, low, high)
        padding[at] = (low, high)
    if all(is_zero(d) for pair in padding for d in pair):
        return x
    return c.b.pad(x, padding=tuple(padding), mode=mode, value=value)


def _cropped(c: Context, x: Value, axis: int, low: Dim, high: Dim) -> tuple[Value, Dim, Dim]:
    """Negative amounts as a slice."""
    for dim in (low, high):
        if bounds(dim)[0] < 0 <= bounds(dim)[1] and not isinstance(dim, int):
            raise Unsupported(f"a padding of {dim}, which may be negative or not")
    extent = x.type.shape[axis]
    first: Dim = -low if bounds(low)[1] < 0 else 0
    last: Dim = extent + high if bounds(high)[1] < 0 else extent
    if not (is_zero(first) and same(last, extent)):
        x = c.slice(x, axis, first, last)
    return x, 0 if bounds(low)[1] < 0 else low, 0 if bounds(high)[1] < 0 else high


def _filled(c: Context, x: Value, axes: Sequence[int], amounts: Sequence[Dim], value: Value) -> Value:
    """Padding with a number that the model computes: zeros, and that number where nothing was."""
    b = c.b
    result = padded(c, x, axes, amounts, "constant", 0.0)
    inside = padded(c, c.full(x.type.shape, 1, I64), axes, amounts, "constant", 0.0)
    return b.where(b.greater(inside, 0), result, c.reshape(value, ()))


def is_zero(dim: Dim) -> bool:
    """Whether a dim is the number 0."""
    return isinstance(dim, int) and dim == 0
