"""Dataclasses as JSON and back. Reading checks every field against its annotation: what does not fit is Malformed.

Fields may be numbers, strings, booleans, enums, other dataclasses, `T | None`, `tuple[T, ...]` and `Mapping[str, T]`.
NaN and the infinities, which JSON does not have, are written as the strings "nan", "inf" and "-inf". Nothing is
executed.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from dragoman.ir.errors import Malformed

T = TypeVar("T")
_SPECIAL = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def encode(value: Any) -> Any:
    """A dataclass, or anything one may hold, as what `json.dumps(…, allow_nan=False)` accepts."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(k): encode(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [encode(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    raise TypeError(f"a record cannot hold a {type(value).__name__}")


def decode(cls: type[T], data: Any, where: str = "") -> T:
    """A `cls` from what `encode` wrote. Raises Malformed naming the field; unknown and missing fields are errors."""
    return typing.cast(T, _decode(cls, data, where or cls.__name__))


def _decode(kind: Any, data: Any, where: str) -> Any:
    origin = typing.get_origin(kind)
    if dataclasses.is_dataclass(kind):
        return _record(kind, data, where)
    if origin in (types.UnionType, typing.Union):
        return _optional(kind, data, where)
    if origin is tuple:
        _require(isinstance(data, list), "a list", data, where)
        return tuple(_decode(typing.get_args(kind)[0], item, f"{where}[{i}]") for i, item in enumerate(data))
    if origin is collections.abc.Mapping or origin is dict:
        _require(isinstance(data, dict), "an object", data, where)
        return {k: _decode(typing.get_args(kind)[1], v, f"{where}.{k}") for k, v in data.items()}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _member(kind, data, where)
    return _plain(kind, data, where)


def _record(kind: Any, data: Any, where: str) -> Any:
    _require(isinstance(data, dict), "an object", data, where)
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind) if f.init}
    unknown = sorted(set(data) - set(fields))
    missing = sorted(n for n, f in fields.items() if n not in data and _needed(f))
    if unknown or missing:
        raise Malformed(f"{where}: " + (f"unknown field {unknown[0]!r}" if unknown else f"no field {missing[0]!r}"))
    return kind(**{name: _decode(hints[name], value, f"{where}.{name}") for name, value in data.items()})


def _needed(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _optional(kind: Any, data: Any, where: str) -> Any:
    choices = [k for k in typing.get_args(kind) if k is not type(None)]
    if data is None and len(choices) < len(typing.get_args(kind)):
        return None
    for choice in choices[:-1]:
        try:
            return _decode(choice, data, where)
        except Malformed:
            continue
    return _decode(choices[-1], data, where)


def _member(kind: type[enum.Enum], data: Any, where: str) -> enum.Enum:
    try:
        return kind(data)
    except ValueError:
        listed = ", ".join(str(m.value) for m in kind)
        raise Malformed(f"{where}: {str(data)[:80]!r} is none of {listed}") from None


def _plain(kind: Any, data: Any, where: str) -> Any:
    if kind is float:
        if isinstance(data, str) and data in _SPECIAL:
            return _SPECIAL[data]
        _require(isinstance(data, (int, float)) and not isinstance(data, bool), "a number", data, where)
        return float(data)
    if kind is int:
        _require(isinstance(data, int) and not isinstance(data, bool), "a whole number", data, where)
    elif kind in (str, bool):
        _require(isinstance(data, kind), {str: "a string", bool: "true or false"}[kind], data, where)
    else:
        raise TypeError(f"{where}: a record cannot hold a {kind}")
    return data


def _require(condition: bool, expected: str, data: Any, where: str) -> None:
    if not condition:
        raise Malformed(f"{where}: {expected} was expected, found {str(data)[:80]!r}")
