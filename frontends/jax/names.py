"""Names of inputs, weights and outputs: parameters of the call, and paths through containers, joined by dots."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from dragoman.frontends.dynamic import Leaf
from dragoman.ir.errors import UsageError

_HOLDERS = (".value", ".raw_value")  # how flax nnx says where a variable keeps its array


def is_array(leaf: Any) -> bool:
    """Whether a leaf is an array, or stands for one, rather than a setting."""
    return isinstance(leaf, (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct))


def path_of(path: Any) -> str:
    """A path of JAX through containers as text: `layers.0.kernel`."""
    text = jax.tree_util.keystr(path, simple=True, separator=".")
    for holder in _HOLDERS:
        text = text.removesuffix(holder)
    return text


def leaves(prefix: str, value: Any) -> list[Leaf]:
    """The leaves of a nested argument with their names."""
    with_paths, _ = jax.tree_util.tree_flatten_with_path(value)
    return [(".".join(part for part in (prefix, path_of(path)) if part), leaf) for path, leaf in with_paths]


def input_leaves(
    called: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], skip: int = 0
) -> list[Leaf]:
    """All leaves of a call, positional arguments first, keywords as JAX orders them. Raises UsageError for a call that
    does not fit.
    """
    parameters = _parameters(called, args, kwargs, skip)
    found: list[Leaf] = []
    for index, value in enumerate(args):
        found.extend(leaves(_positional(parameters, index), value))
    for name in sorted(kwargs):
        found.extend(leaves(name, kwargs[name]))
    return found


def _parameters(
    called: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], skip: int
) -> list[inspect.Parameter]:
    try:
        signature = inspect.signature(called)
    except (TypeError, ValueError):
        return []
    listed = list(signature.parameters.values())
    taken = 0
    while taken < skip and listed and listed[0].kind is not listed[0].VAR_POSITIONAL:
        listed, taken = listed[1:], taken + 1
    shown = signature.replace(parameters=listed)
    if not any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in listed):
        try:
            shown.bind(*args, **{k: v for k, v in kwargs.items() if k in shown.parameters})
        except TypeError as error:
            name = getattr(called, "__name__", "the function")
            raise UsageError(f"the example arguments do not fit {name}{shown}: {error}") from None
    return listed


def _positional(parameters: Sequence[inspect.Parameter], index: int) -> str:
    for position, parameter in enumerate(parameters):
        if parameter.kind is parameter.VAR_POSITIONAL:
            return f"{parameter.name}.{index - position}"
        if position == index:
            return parameter.name
    return f"args.{index}"


def output_names(result: Any) -> list[str]:
    """A name for each leaf of a result: `output`, `output0`, `logits`, `cache.0.key`."""
    with_paths, _ = jax.tree_util.tree_flatten_with_path(result)
    paths = [path_of(path) for path, _ in with_paths]
    names = [f"output{p}" if not p or p[0].isdigit() else p for p in paths]
    taken: dict[str, int] = {}
    for index, name in enumerate(names):
        count = taken.get(name, 0)
        taken[name] = count + 1
        names[index] = f"{name}_{count}" if count else name
    return names


def closed_over(function: Any) -> dict[int, str]:
    """Names of the arrays that a function closes over, by identity: variables, and paths through what they hold."""
    names: dict[int, str] = {}
    while isinstance(function, functools.partial):
        for index, value in enumerate(function.args):
            _note(names, f"args.{index}", value)
        for name, value in function.keywords.items():
            _note(names, name, value)
        function = function.func
    function = inspect.unwrap(function) if callable(function) else function
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None)
    if code is None:
        return names
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            _note(names, name, cell.cell_contents)
        except ValueError:  # a variable that has no value yet
            continue
    for name in code.co_names:
        if name in function.__globals__:
            _note(names, name, function.__globals__[name])
    return names


def _note(names: dict[int, str], name: str, value: Any) -> None:
    if inspect.ismodule(value) or isinstance(value, type):
        return
    for path, leaf in leaves(name, value):
        if isinstance(leaf, (jax.Array, np.ndarray)):
            names.setdefault(id(leaf), path)
