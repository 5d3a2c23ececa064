"""Records: what goes through JSON comes back equal, and what does not fit is refused with its place."""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from dragoman.ir.errors import Malformed
from dragoman.ir.findings import Comparison, Divergence, OutputFinding, Skipped, Status, Verdict
from dragoman.ir.records import decode, encode


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Inner:
    size: int
    ratio: float = 0.5


@dataclass(frozen=True)
class Outer:
    name: str
    colour: Colour
    inner: Inner | None
    parts: tuple[Inner, ...]
    table: Mapping[str, tuple[int, ...]]
    flag: bool = False
    limit: float | None = None
    extra: Mapping[str, float] = field(default_factory=dict[str, float])


FULL = Outer(
    "ä\n", Colour.BLUE, Inner(3), (Inner(1, math.inf), Inner(2, -math.inf)), {"x": (1, 2)}, True, 2.5, {"k": 1e-300}
)


def through_json(record: Any) -> Any:
    return decode(type(record), json.loads(json.dumps(encode(record), allow_nan=False)))


def test_a_record_comes_back_equal() -> None:
    assert through_json(FULL) == FULL
    assert through_json(Outer("", Colour.RED, None, (), {})) == Outer("", Colour.RED, None, (), {})


def test_nan_is_kept_though_json_has_none() -> None:
    assert math.isnan(through_json(Inner(1, math.nan)).ratio)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 3}, "Outer.name: a string was expected, found '3'"),
        ({"colour": "green"}, "Outer.colour: 'green' is none of red, blue"),
        ({"inner": {"size": "3"}}, "Outer.inner.size: a whole number was expected"),
        ({"inner": {"size": True}}, "Outer.inner.size: a whole number was expected"),
        ({"inner": {"size": 3, "ratio": "many"}}, "Outer.inner.ratio: a number was expected"),
        ({"inner": {}}, "Outer.inner: no field 'size'"),
        ({"inner": {"size": 1, "colour": "red"}}, "Outer.inner: unknown field 'colour'"),
        ({"inner": [1]}, "Outer.inner: an object was expected"),
        ({"parts": {"size": 1}}, "Outer.parts: a list was expected"),
        ({"parts": [{"size": 1}, 7]}, r"Outer.parts\[1\]: an object was expected"),
        ({"table": {"x": [1, 2.5]}}, r"Outer.table.x\[1\]: a whole number was expected"),
        ({"table": []}, "Outer.table: an object was expected"),
        ({"flag": 1}, "Outer.flag: true or false was expected"),
        ({"limit": []}, "Outer.limit: a number was expected"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(change: dict[str, Any], message: str) -> None:
    with pytest.raises(Malformed, match=message):
        decode(Outer, {**encode(FULL), **change})


def test_what_is_no_record_at_all_is_refused() -> None:
    for nonsense in (None, 3, "text", [], {"name": "x"}):
        with pytest.raises(Malformed):
            decode(Outer, nonsense)


def test_a_report_goes_through_json_whole() -> None:
    finding = OutputFinding("y", "f32[2]", Status.WRONG, "off", 2.0, 0.1, math.inf, place=(1,), expected="1", got="nan")
    report = Comparison(
        Verdict.DIFFERENT,
        "why",
        "source",
        "candidate",
        "oracle",
        skipped=(Skipped("a", "b"),),
        divergence=Divergence("emission", "add", "add", "m", "l", "r", (0, 1)),
        budget=None,
    )
    assert through_json(report) == report
    assert through_json(finding) == finding
    assert str(through_json(report)) == str(report)
