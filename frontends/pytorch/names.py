"""Names of inputs and outputs: parameters of `forward`, fields of what it returns, nested ones joined by dots."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch.utils import _pytree as pytree

from dragoman.frontends.dynamic import Leaf
from dragoman.ir.errors import UsageError


def _key(entry: Any) -> str:
    for attribute in ("idx", "key", "name"):
        found = getattr(entry, attribute, None)
        if found is not None:
            return str(found)
    return str(entry)


def leaves(prefix: str, value: Any) -> list[Leaf]:
    """The leaves of a nested argument with their paths: `states.0.hidden`."""
    try:
        with_paths, _ = pytree.tree_flatten_with_path(value)
    except (NotImplementedError, ValueError):  # a container registered without names for its parts
        flat = pytree.tree_leaves(value)
        with_paths = [((index,) if len(flat) > 1 else (), leaf) for index, leaf in enumerate(flat)]
    return [(".".join([prefix, *map(_key, path)]), leaf) for path, leaf in with_paths]


def bound_arguments(forward: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by the names of `forward`'s parameters. Raises UsageError when they do not fit its signature."""
    try:
        return dict(inspect.signature(forward).bind(*args, **kwargs).arguments)
    except TypeError as error:
        raise UsageError(f"the example arguments do not fit forward{inspect.signature(forward)}: {error}") from None


def input_leaves(forward: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Leaf]:
    """All leaves of the call in the order in which torch.export flattens it: positional arguments, then keywords."""
    bound_arguments(forward, args, kwargs)
    parameters = list(inspect.signature(forward).parameters.values())
    found: list[Leaf] = []
    for index, value in enumerate(args):
        found.extend(leaves(_positional_name(parameters, index), value))
    for name, value in kwargs.items():
        found.extend(leaves(name, value))
    return found


def _positional_name(parameters: Sequence[inspect.Parameter], index: int) -> str:
    for position, parameter in enumerate(parameters):
        if parameter.kind is parameter.VAR_POSITIONAL:
            return f"{parameter.name}.{index - position}"
        if position == index:
            return parameter.name
    return f"args.{index}"


def output_names(spec: Any) -> list[str]:
    """A name for each leaf of an output specification: `output`, `logits`, `output1`, `past_key_values.0.1`."""
    if _is_leaf(spec):
        return ["output"]
    plain = spec.type in (tuple, list)
    names = [f"output{path}" if plain else path for path in _spec_paths(spec)]
    return _unique(names)


def _is_leaf(spec: Any) -> bool:
    return spec.is_leaf() if hasattr(spec, "is_leaf") else not spec.children_specs


def _children(spec: Any) -> list[Any]:
    return list(spec.children() if callable(getattr(spec, "children", None)) else spec.children_specs)


def _spec_paths(spec: Any) -> Iterator[str]:
    """Paths of the leaves below a container; each begins with the container's own key."""
    children = _children(spec)
    for key, child in zip(_keys(spec, len(children)), children, strict=True):
        if _is_leaf(child):
            yield key
        else:
            yield from (f"{key}.{rest}" for rest in _spec_paths(child))


def _keys(spec: Any, count: int) -> list[str]:
    context = spec.context
    fields = getattr(context, "_fields", None)  # a namedtuple's context is its class
    if fields is None and isinstance(context, (list, tuple)) and context and isinstance(context[0], (list, tuple)):
        context = context[0]  # a default dict or a dataclass keeps more than its keys
    keys: Sequence[Any] = fields if fields is not None else context
    if isinstance(keys, (list, tuple)) and len(keys) == count and all(isinstance(k, (str, int)) for k in keys):
        return [str(k) for k in keys]
    return [str(index) for index in range(count)]


def _unique(names: Sequence[str]) -> list[str]:
    taken: dict[str, int] = {}
    result: list[str] = []
    for name in names:
        count = taken.get(name, 0)
        taken[name] = count + 1
        result.append(f"{name}_{count}" if count else name)
    return result
