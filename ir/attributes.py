"""The values of an op's attributes: how each is kept, checked, compared, searched and shown.

Attributes are immutable: numbers, strings, dtypes, dims, sub-graphs, and tuples of them. What is given is brought to
the form that the annotation declares where nothing is lost: a list to a tuple, NumPy's numbers to Python's, 1 to 1.0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from dragoman.ir.dims import DimExpr, substitute
from dragoman.ir.errors import TypeRuleError
from dragoman.ir.types import DType

if TYPE_CHECKING:
    from dragoman.ir.graph import Graph

_LONGEST = 100  # characters of an attribute in an error
_SIMPLE = frozenset({int, float, bool, str, complex, type(None), DType, DimExpr})
_ALIASES = {"Shape": "tuple[Dim, ...]", "Padding": "tuple[tuple[int, int], ...]"}


class _Unfit(Exception):
    """A value is not of the declared form."""


Fit = Callable[[Any], Any]


def plain(value: Any) -> Any:
    """A value without NumPy's scalars and without lists. Raises TypeRuleError for what can change or be no key."""
    kind = type(value)
    if kind in _SIMPLE:
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (tuple, list)):
        items = tuple(plain(v) for v in value)
        unchanged = kind is tuple and all(new is old for new, old in zip(items, value, strict=True))
        return value if unchanged else items
    if kind.__hash__ is None:
        raise TypeRuleError(f"an attribute cannot be a {kind.__name__}: {brief(value)}")
    return value


def declared(name: str, value: Any, annotation: str) -> Any:
    """A plain value in the form that an attribute's annotation declares. Raises TypeRuleError if it has another."""
    try:
        return _fit(annotation)(value)
    except _Unfit:
        raise TypeRuleError(f"the attribute {name!r} should be {annotation}, not {brief(value)!r}") from None


@lru_cache(maxsize=256)
def _fit(annotation: str) -> Fit:
    annotation = _ALIASES.get(annotation, annotation)
    leaf = _LEAVES.get(annotation)
    if leaf is not None:
        return leaf
    alternatives = annotation.split(" | ")
    if len(alternatives) == 2 and alternatives[1] == "None":
        inner = _fit(alternatives[0])
        return lambda value: None if value is None else inner(value)
    if found := re.fullmatch(r"tuple\[(.+), \.\.\.\]", annotation):
        return _tuple_of(_fit(found.group(1)))
    if found := re.fullmatch(r"tuple\[(\w+(?:, \w+)+)\]", annotation):
        return _tuple_with([_fit(part) for part in found.group(1).split(", ")])
    return lambda value: value  # a form that is not known here is for the type rule to check


def _tuple_of(item: Fit) -> Fit:
    def fit(value: Any) -> Any:
        if type(value) is not tuple:
            raise _Unfit
        return tuple(item(v) for v in value)

    return fit


def _tuple_with(items: list[Fit]) -> Fit:
    def fit(value: Any) -> Any:
        if type(value) is not tuple or len(value) != len(items):
            raise _Unfit
        return tuple(item(v) for item, v in zip(items, value, strict=True))

    return fit


def _of(*kinds: type) -> Fit:
    def fit(value: Any) -> Any:
        if type(value) not in kinds:
            raise _Unfit
        return value

    return fit


def _integer(value: Any) -> Any:
    if type(value) is bool:
        return int(value)
    return _of(int)(value)


def _real(value: Any) -> Any:
    return float(_of(float, int, bool)(value))


def _flag(value: Any) -> Any:
    if type(value) is int and value in (0, 1):
        return bool(value)
    return _of(bool)(value)


def _dim(value: Any) -> Any:
    return value if isinstance(value, DimExpr) else _integer(value)


def _region(value: Any) -> Any:
    if not is_region(value):
        raise _Unfit
    return value


_LEAVES: dict[str, Fit] = {
    "int": _integer,
    "float": _real,
    "bool": _flag,
    "str": _of(str),
    "DType": _of(DType),
    "Dim": _dim,
    "Graph": _region,
}


def exactly(value: Any) -> Any:
    """A key under which only values that are the same in every respect are equal: 0.0 is not -0.0, 1 is not True."""
    kind = type(value)
    if kind is tuple:
        return tuple([exactly(v) for v in value])
    if isinstance(value, np.generic):
        return exactly(value.item())
    return (kind, repr(value)) if kind in (float, bool, complex) else value


def is_region(value: Any) -> bool:
    """Whether an attribute is a sub-graph."""
    from dragoman.ir.graph import Graph

    return isinstance(value, Graph)


def regions(values: Iterable[Any]) -> Iterator[Graph]:
    """The sub-graphs among attributes, alone or in tuples."""
    for value in values:
        if isinstance(value, tuple):
            yield from regions(value)
        elif type(value) not in _SIMPLE and is_region(value):
            yield value


def symbolic(value: Any) -> Iterator[DimExpr]:
    """The dimension expressions in an attribute."""
    if isinstance(value, DimExpr):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from symbolic(item)


def substituted(value: Any, values: Mapping[str, Any]) -> Any:
    """An attribute with symbols replaced; the object itself where it has none."""
    if isinstance(value, DimExpr):
        return substitute(value, values)
    if isinstance(value, tuple):
        items = tuple(substituted(v, values) for v in value)
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    return value


def brief(value: Any) -> str:
    """An attribute as it stands in an error."""
    if isinstance(value, tuple):
        text = f"({', '.join(brief(v) for v in value)})"
    else:
        text = "<graph>" if is_region(value) else str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
