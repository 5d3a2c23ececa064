"""Regions of StableHLO as programs: what they take from outside, and which known function they are.

A comparator or reducer is known by comparing it, operation by operation, with the one that JAX itself writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from dragoman.frontends.jax.stablehlo import table
from dragoman.frontends.jax.stablehlo.constants import constant_text

_Form = tuple[tuple[str, tuple[int | str, ...], tuple[str, ...]], ...]


def operations_of(block: Any) -> list[Any]:
    """The operations of a block in order, the terminator last."""
    return [o.operation for o in block.operations]


def free_values(blocks: Sequence[Any]) -> list[Any]:
    """The values that blocks, and those nested in them, take from outside; each once, in order of their first use."""
    inside: set[Any] = set()
    used: dict[Any, None] = {}
    for block in blocks:
        _note(block, inside, used)
    return [v for v in used if v not in inside]


def _note(block: Any, inside: set[Any], used: dict[Any, None]) -> None:
    inside.update(block.arguments)
    for operation in operations_of(block):
        used.update(dict.fromkeys(operation.operands))
        inside.update(operation.results)
        for region in operation.regions:
            for nested in region.blocks:
                _note(nested, inside, used)


def constants_of(blocks: Sequence[Any], functions: Mapping[str, Any]) -> list[Any]:
    """The operations that make constants in blocks, in those nested in them and in the functions that they call."""
    found: list[Any] = []
    stack, called = list(blocks), set[str]()
    while stack:
        for operation in operations_of(stack.pop()):
            if operation.name == "stablehlo.constant":
                found.append(operation)
            regions = list(operation.regions)
            for attribute in ("callee", "decomposition"):
                name = table.symbol(operation, attribute)
                if name and name not in called:
                    called.add(name)
                    regions.extend(functions[name].regions)
            stack.extend(block for region in regions for block in region.blocks)
    return found


def only_operation(block: Any) -> str:
    """The operation that a block applies to its two arguments; empty if it does more."""
    inner = operations_of(block)
    arguments = list(block.arguments)
    plain = len(inner) == 2 and len(arguments) == 2 and set(inner[0].operands) == set(arguments)
    return inner[0].name if plain else ""


def returned(block: Any) -> list[int | None]:
    """For each result of a block, which of its arguments it is; None for one that is computed."""
    places = {v: i for i, v in enumerate(block.arguments)}
    return [places.get(v) for v in operations_of(block)[-1].operands]


def keys_of_sort(block: Any, dtypes: Sequence[Any]) -> int | None:
    """How many leading operands a comparator orders by, as `lax.sort` writes it; None for another comparator."""
    form = _form(block)
    kinds = tuple(np.dtype(d) for d in dtypes)
    return next((n for n in range(1, len(kinds) + 1) if _sort_form(kinds, n) == form), None)


def is_argument_of(block: Any, dtypes: Sequence[Any]) -> str:
    """`argmax` or `argmin` if a reducer of values and places is JAX's for it; empty otherwise."""
    if len(dtypes) != 2:
        return ""
    form = _form(block)
    value, index = (np.dtype(d) for d in dtypes)
    return next((n for n in ("argmax", "argmin") if _argument_form(n, value, index) == form), "")


@lru_cache(maxsize=256)
def _sort_form(dtypes: tuple[Any, ...], keys: int) -> _Form | None:
    return _written(lambda *xs: jax.lax.sort(xs, num_keys=keys), dtypes, "stablehlo.sort")


@lru_cache(maxsize=256)
def _argument_form(name: str, value: Any, index: Any) -> _Form | None:
    def function(x: Any) -> Any:
        return getattr(jax.lax, name)(x, 0, index)

    return _written(function, (value,), "stablehlo.reduce")


def _written(function: Callable[..., Any], dtypes: Sequence[Any], name: str) -> _Form | None:
    """The region of the operation of that name in what JAX makes of a function; None where JAX refuses it."""
    try:
        module: Any = jax.jit(function).lower(*[jax.ShapeDtypeStruct((2,), d) for d in dtypes]).compiler_ir()
    except (TypeError, ValueError, NotImplementedError):
        return None
    found = next((o for o in _within(module.operation) if o.name == name), None)
    return None if found is None else _form(found.regions[0].blocks[0])


def _within(operation: Any) -> Iterator[Any]:
    for region in operation.regions:
        for block in region.blocks:
            for inner in operations_of(block):
                yield inner
                yield from _within(inner)


def _form(block: Any) -> _Form:
    """What a block computes without the names in it: operations, numbers of their operands or what constant those are,
    attributes. Two blocks with equal forms compute the same. Empty where it takes values from outside that are no
    constants, or has regions in it.
    """
    known: dict[Any, int | str] = {value: i for i, value in enumerate(block.arguments)}
    rows: list[tuple[str, tuple[int | str, ...], tuple[str, ...]]] = []
    for operation in operations_of(block):
        if operation.name == "stablehlo.constant":
            continue
        operands = tuple(known[v] if v in known else _constant(v) for v in operation.operands)
        if list(operation.regions) or "" in operands:
            return ()
        attributes = tuple(f"{name}={operation.attributes[name]}" for name in sorted(operation.attributes))
        rows.append((operation.name, operands, attributes))
        for value in operation.results:
            known[value] = len(known)
    return tuple(rows)


def _constant(value: Any) -> str:
    """The constant that a value is, as text; empty for any other. JAX moves constants out of regions."""
    maker = getattr(value, "owner", None)
    return constant_text(maker) if getattr(maker, "name", "") == "stablehlo.constant" else ""
