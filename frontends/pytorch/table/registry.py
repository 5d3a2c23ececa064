"""The table from torch operators to functions that write IR, and the decorator that adds to it.

A translation is called as the operator is: `(c, *args, **kwargs)`, where `c` is the context, tensors are IR values,
symbolic sizes dims, dtypes those of the IR; devices, layouts and memory formats are left out. It returns what the
operator returns.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch

Translation = Callable[..., Any]
Version = tuple[int, ...]

_TABLE: dict[str, dict[Version, Translation]] = {}


def translates(*operators: str, since: str = "0") -> Callable[[Translation], Translation]:
    """Register a translation of operators, named as torch prints them: `translates("mylib.op.default")`.

    `since` is the first version of torch that it is for; the newest that fits is used, and of two for one version the
    last.
    """
    version = _version(since)
    for operator in operators:
        if "." not in operator:
            raise ValueError(f"{operator!r} is no operator: write its full name, such as 'aten.add.Tensor'")

    def register(function: Translation) -> Translation:
        for operator in operators:
            _TABLE.setdefault(operator, {})[version] = function
        translation_of.cache_clear()
        return function

    return register


@cache
def translation_of(operator: str) -> Translation | None:
    """The translation for the torch that is running, if there is one."""
    versions = _TABLE.get(operator)
    if versions is None:
        return None
    running = _version(torch.__version__)
    fitting = [v for v in versions if v <= running]
    return versions[max(fitting)] if fitting else None


def translated_operators() -> tuple[str, ...]:
    """The names of all operators in the table, sorted."""
    return tuple(sorted(_TABLE))


def _version(text: str) -> Version:
    numbers: list[int] = []
    for part in text.partition("+")[0].split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)
