"""Models as the libraries on JAX have them, each as a pure function of weights, states and arguments.

Owns what a flax (linen, nnx), equinox or haiku model is made of. Knows the libraries by the modules that are loaded and
imports none: whoever has such a model has loaded its library.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dragoman.frontends.jax.names import leaves
from dragoman.ir.errors import UsageError


@dataclass(frozen=True)
class PureModel:
    """`run(weights, states, args, kwargs)` gives (result, states after it). `called` has the signature of the call."""

    run: Callable[[Any, Any, tuple[Any, ...], dict[str, Any]], tuple[Any, Any]]
    called: Callable[..., Any]
    weights: Any = field(default_factory=dict[str, Any])
    states: Any = field(default_factory=dict[str, Any])
    name: str = ""
    skip: int = 0  # how many first parameters of `called` the weights take
    counters: frozenset[str] = frozenset()  # states that count random draws, of no interest where nothing is drawn


def pure_model(source: Any, params: Any, kwargs: Mapping[str, Any]) -> PureModel:
    """Any source as a pure model. Raises UsageError where parameters are missing or superfluous."""
    for kind, read in _KINDS:
        if kind(source):
            return read(source, params, kwargs)
    if not callable(source):
        raise UsageError(f"{type(source).__name__} is neither a function nor a model of flax, equinox or haiku")
    return _function(source, params)


def _loaded(module: str, name: str) -> Any:
    return getattr(sys.modules.get(module), name, None)


def _is_a(module: str, name: str) -> Callable[[Any], bool]:
    def check(source: Any) -> bool:
        kind = _loaded(module, name)
        return kind is not None and isinstance(source, kind)

    return check


# ---- functions ----------------------------------------------------------------------------------------


def _function(source: Callable[..., Any], params: Any) -> PureModel:
    name = getattr(source, "__name__", "")
    if params is None:
        return PureModel(lambda w, s, a, k: (source(*a, **k), s), source, name=name.replace("<lambda>", ""))
    return PureModel(lambda w, s, a, k: (source(w, *a, **k), s), source, params, name=name, skip=1)


# ---- flax ---------------------------------------------------------------------------------------------


def _linen(source: Any, params: Any, kwargs: Mapping[str, Any]) -> PureModel:
    """Collections that are said to be mutable are states; the others are weights."""
    module, variables = source, params
    if source.scope is not None:
        module, bound = source.unbind()
        variables = bound if params is None else params
    if variables is None:
        raise UsageError(f"{type(module).__name__} is a flax module without its variables: give params=variables")
    variables = dict(variables)
    if variables and "params" not in variables and not _is_collections(variables):
        variables = {"params": variables}
    mutable = kwargs.get("mutable", False)
    names = [mutable] if isinstance(mutable, str) else list(mutable) if isinstance(mutable, (list, tuple)) else []
    states = {n: variables[n] for n in names if n in variables}
    weights = {n: v for n, v in variables.items() if n not in states}

    def run(w: Any, s: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        result = module.apply({**w, **s}, *args, **kwargs)
        if not states:
            return result, s
        result, after = result
        rest = {n: v for n, v in after.items() if n not in states}
        return ((result, rest) if rest else result), {n: after.get(n, s[n]) for n in states}

    return PureModel(run, type(module).__call__, weights, states, type(module).__name__, skip=1)


def _is_collections(variables: Mapping[str, Any]) -> bool:
    return bool({"batch_stats", "cache", "intermediates"} & set(variables))


def _nnx(source: Any, params: Any, kwargs: Mapping[str, Any]) -> PureModel:
    """Variables that are no parameters may change: those that do are states."""
    nnx = sys.modules["flax.nnx"]
    module, method = (source, "__call__") if not hasattr(source, "__self__") else (source.__self__, source.__name__)
    if params is not None:
        raise UsageError(f"{type(module).__name__} holds its own parameters: leave out params")
    definition, trained, others = nnx.split(module, nnx.Param, ...)

    def run(w: Any, s: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        model = nnx.merge(definition, w, s)
        result = getattr(model, method)(*args, **kwargs)
        return result, nnx.split(model, nnx.Param, ...)[2]

    counts = nnx.split(module, nnx.RngCount, ...)[1]
    counters = frozenset(name for name, _ in leaves("", counts))
    return PureModel(run, getattr(module, method), trained, others, type(module).__name__, counters=counters)


def _is_nnx(source: Any) -> bool:
    kind = _loaded("flax.nnx", "Module")
    return kind is not None and (isinstance(source, kind) or isinstance(getattr(source, "__self__", None), kind))


# ---- equinox and haiku ----------------------------------------------------------------------------------


def _equinox(source: Any, params: Any, kwargs: Mapping[str, Any]) -> PureModel:
    """A module is a tree: its arrays are weights, what else is in it stays as it is."""
    if params is not None:
        raise UsageError(f"{type(source).__name__} holds its own parameters: leave out params")
    equinox = sys.modules["equinox"]
    arrays, rest = equinox.partition(source, equinox.is_array)

    def run(w: Any, s: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        return equinox.combine(w, rest)(*args, **kwargs), s

    return PureModel(run, source.__call__, arrays, name=type(source).__name__)


def _haiku(source: Any, params: Any, kwargs: Mapping[str, Any]) -> PureModel:
    """A transformed function: `params` as its `init` gave them."""
    if params is None:
        raise UsageError("a haiku function is transformed without its parameters: give params=transformed.init(…)")

    def run(w: Any, s: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        return source.apply(w, *args, **kwargs), s

    return PureModel(run, source.apply, params, name=getattr(source.apply, "__name__", ""), skip=1)


def _haiku_with_state(source: Any, params: Any, kwargs: Mapping[str, Any]) -> PureModel:
    """A transformed function with state: `params` is the pair that its `init` gave."""
    if not isinstance(params, (tuple, list)) or len(params) != 2:
        raise UsageError("a haiku function with state takes params=(parameters, state), as its init gives them")

    def run(w: Any, s: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        return source.apply(w, s, *args, **kwargs)

    return PureModel(run, source.apply, params[0], params[1], skip=2)


Reader = Callable[[Any, Any, Mapping[str, Any]], PureModel]
_KINDS: Sequence[tuple[Callable[[Any], bool], Reader]] = (
    (_is_a("flax.linen", "Module"), _linen),
    (_is_nnx, _nnx),
    (_is_a("equinox", "Module"), _equinox),
    (_is_a("haiku", "Transformed"), _haiku),
    (_is_a("haiku", "TransformedWithState"), _haiku_with_state),
)


def is_model(source: Any) -> bool:
    """Whether a source is a model of a library that is loaded."""
    return any(kind(source) for kind, _ in _KINDS)
