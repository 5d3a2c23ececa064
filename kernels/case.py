"""What each kernel file says of itself: cases for tests and benchmarks, and builds to compile ahead of time.

    CASES    operands by shape and dtype, attributes; `launch(*operands, **attributes)` against `reference(...)`
    BUILDS   signatures to compile for each target without a device

Owns the two records and nothing that runs on a device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Operand:
    """A tensor of a case. `layout` is "plain", "strided" (every second element of a wider one) or "shifted" (starts one
    element after an aligned address); `special` sprinkles NaN and infinities over it.
    """

    dtype: str
    shape: tuple[int, ...]
    layout: str = "plain"
    special: bool = False


@dataclass(frozen=True)
class Case:
    """Operands (None: left out) and attributes on which a kernel is tested and timed, and why these."""

    why: str
    operands: tuple[Operand | None, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Build:
    """One specialisation to compile: types of the arguments (nested for tuples), values of the constants.

    `"i32:16"` is a multiple of 16 (of a pointer: so aligned), `"1"` the number one: what Triton finds out at a launch.
    """

    name: str
    kernel: Any
    signature: Mapping[str, Any]
    constants: Mapping[str, Any]
    warps: int = 4
    stages: int = 3


def operand(text: str, layout: str = "plain", *, special: bool = False) -> Operand:
    """`operand("f32[2,3]")`. Raises ValueError for text of another form."""
    dtype, bracket, rest = text.partition("[")
    if not bracket or not rest.endswith("]"):
        raise ValueError(f"{text!r} is not dtype[extents]")
    extents = tuple(int(e) for e in rest[:-1].split(",") if e)
    return Operand(dtype, extents, layout, special)


def case(why: str, *operands: str | Operand | None, **attributes: Any) -> Case:
    """`case("odd sizes", "f32[2,3]", axis=1)`."""
    return Case(why, tuple(operand(o) if isinstance(o, str) else o for o in operands), attributes)
