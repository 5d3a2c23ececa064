"""What moves an array of random keys moves the words that they hold: parameters with those last axes added."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dragoman.frontends.jax.dtypes import is_key, key_shape

Params = dict[str, Any]


def with_words(equation: Any) -> Mapping[str, Any]:
    """The parameters of an equation; those of one that moves keys as if it moved the words."""
    params = equation.params
    rule = _RULES.get(equation.primitive.name)
    if rule is None or not equation.outvars:
        return params
    aval = equation.outvars[0].aval
    dtype = getattr(aval, "dtype", None)
    if dtype is None or not is_key(dtype):
        return params
    return {**params, **rule(params, len(equation.invars[0].aval.shape), len(aval.shape), key_shape(dtype))}


def _slice(p: Params, before: int, after: int, words: tuple[int, ...]) -> Params:
    strides = p["strides"]
    return {
        "start_indices": (*p["start_indices"], *[0] * len(words)),
        "limit_indices": (*p["limit_indices"], *words),
        "strides": None if strides is None else (*strides, *[1] * len(words)),
    }


def _broadcast(p: Params, before: int, after: int, words: tuple[int, ...]) -> Params:
    added = range(after, after + len(words))
    return {"shape": (*p["shape"], *words), "broadcast_dimensions": (*p["broadcast_dimensions"], *added)}


def _reshape(p: Params, before: int, after: int, words: tuple[int, ...]) -> Params:
    return {"new_sizes": (*p["new_sizes"], *words)}


def _transpose(p: Params, before: int, after: int, words: tuple[int, ...]) -> Params:
    return {"permutation": (*p["permutation"], *range(before, before + len(words)))}


def _dynamic_slice(p: Params, before: int, after: int, words: tuple[int, ...]) -> Params:
    return {"slice_sizes": (*p["slice_sizes"], *words)}


def _gather(p: Params, before: int, after: int, words: tuple[int, ...]) -> Params:
    numbers = p["dimension_numbers"]
    added = tuple(range(after, after + len(words)))
    return {
        "dimension_numbers": numbers._replace(offset_dims=(*numbers.offset_dims, *added)),
        "slice_sizes": (*p["slice_sizes"], *words),
        "fill_value": 2**32 - 1 if p.get("fill_value") is None else p["fill_value"],
    }


_RULES: dict[str, Callable[[Params, int, int, tuple[int, ...]], Params]] = {
    "slice": _slice,
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "transpose": _transpose,
    "dynamic_slice": _dynamic_slice,
    "gather": _gather,
}
