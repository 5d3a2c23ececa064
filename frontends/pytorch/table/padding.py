"""Padding in all of torch's spellings. Negative padding is a slice."""

from __future__ import annotations

from collections.abc import Sequence

from dragoman.frontends.pytorch.context import Context
from dragoman.frontends.pytorch.table.registry import translates
from dragoman.frontends.pytorch.table.shape import sliced
from dragoman.ir.dims import Dim, bounds
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value

_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def padded(c: Context, x: Value, pad: Sequence[Dim], mode: str, value: float = 0.0) -> Value:
    """x padded by torch's list, which begins with the last axis: [left, right, top, bottom, …]."""
    padding: list[tuple[Dim, Dim]] = [(0, 0)] * x.type.rank
    for index in range(len(pad) // 2):
        axis = x.type.rank - 1 - index
        before, after = pad[2 * index], pad[2 * index + 1]
        x, padding[axis] = _cropped(c, x, axis, before, after)
    if all(isinstance(n, int) and n == 0 for pair in padding for n in pair):
        return x
    if mode == "constant":
        fill: float = value if x.type.dtype.is_float else int(value)
        return c.b.pad(x, padding=tuple(padding), value=fill)
    return c.b.pad(x, padding=tuple(padding), mode=_MODES[mode])


def _cropped(c: Context, x: Value, axis: int, before: Dim, after: Dim) -> tuple[Value, tuple[Dim, Dim]]:
    """x without what negative padding takes away, and what is left to add."""
    left, right = (_sign(n) for n in (before, after))
    if left < 0 or right < 0:
        start = -before if left < 0 else 0
        extent = x.type.shape[axis]
        x = sliced(c, x, axis, start, extent + after if right < 0 else extent)
    return x, (0 if left < 0 else before, 0 if right < 0 else after)


def _sign(n: Dim) -> int:
    low, high = bounds(n)
    if low >= 0:
        return 1
    if high <= 0:
        return -1
    return 1  # interval bounds are loose: a symbolic amount is meant as padding, and the interpreter checks it


@translates("aten.pad.default")
def pad(c: Context, x: Value, pad: Sequence[Dim], mode: str = "constant", value: float | None = None) -> Value:
    """Padding by mode."""
    if mode not in _MODES:
        raise Unsupported(f"padding mode {mode!r}")
    return padded(c, x, pad, mode, 0.0 if value is None else value)


@translates("aten.constant_pad_nd.default")
def constant_pad(c: Context, x: Value, pad: Sequence[Dim], value: float = 0) -> Value:
    """Padding with a number."""
    return padded(c, x, pad, "constant", value)


def _family(mode: str, *operators: str) -> None:
    def translate(c: Context, x: Value, padding: Sequence[Dim]) -> Value:
        return padded(c, x, padding, mode)

    translates(*(f"aten.{o}.default" for o in operators))(translate)


_family("reflect", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d")
_family("replicate", "replication_pad1d", "replication_pad2d", "replication_pad3d")


@translates("aten._pad_circular.default")
def pad_circular(c: Context, x: Value, pad: Sequence[Dim]) -> Value:
    """Padding with the other end."""
    return padded(c, x, pad, "circular")


@translates("aten._pad_enum.default")
def pad_enum(c: Context, x: Value, pad: Sequence[Dim], mode: int, value: float | None = None) -> Value:
    """Padding by the number of the mode."""
    return padded(c, x, pad, ("constant", "reflect", "replicate", "circular")[mode], value or 0.0)
