"""From a located source to a model: the frontend that reads it, with example arguments and dynamic dims made ready."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dragoman.inputs import (
    Dynamic,
    InputSpec,
    check_example,
    dynamic_of,
    example_of,
    parse_dynamic,
    parse_inputs,
    unknown_names,
)
from dragoman.ir.collector import calm_collector
from dragoman.ir.errors import UsageError
from dragoman.source import Located
from dragoman.stages import Progress

if TYPE_CHECKING:
    from dragoman.frontends.pytorch import Source


def read_source(
    located: Located,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    dynamic: Mapping[str, Mapping[int, Any]] | None,
    inputs: Sequence[str | InputSpec],
    progress: Progress,
) -> Source:
    """Read what was located. Arguments given here take precedence over those that came with the source."""
    specs = _specs(inputs)
    if not args and not kwargs:
        args, kwargs = located.args, dict(located.kwargs)
    dims: Dynamic = {**dynamic_of(specs), **parse_dynamic(dynamic)}
    with calm_collector():
        return _READERS[located.kind](located, args, kwargs, dims, specs, progress)


def _specs(inputs: Sequence[str | InputSpec]) -> list[InputSpec]:
    texts = [s for s in inputs if isinstance(s, str)]
    parsed = iter(parse_inputs(texts))
    return [s if isinstance(s, InputSpec) else next(parsed) for s in inputs]


def _read_module(
    located: Located,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    dynamic: Dynamic,
    specs: list[InputSpec],
    progress: Progress,
) -> Source:
    from dragoman.frontends.pytorch import import_module

    if specs and not args and not kwargs:
        kwargs = {s.name: _tensor(s) for s in specs}
        _check_parameters(located, specs)
    elif specs:
        _check_specs(located, args, kwargs, specs)
    if not args and not kwargs and _takes_arguments(located.what):
        raise UsageError(
            f"{located.spec}: example arguments are needed to trace it; give args=(…), or --input name:dtype[dims] for each"
        )
    return import_module(located.what, args, kwargs, dynamic=dynamic or None, progress=progress)


def _read_exported(
    located: Located,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    dynamic: Dynamic,
    specs: list[InputSpec],
    progress: Progress,
) -> Source:
    from dragoman.frontends.pytorch import import_exported

    return import_exported(located.what, dynamic=dynamic or None, progress=progress)


def _read_directory(
    located: Located,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    dynamic: Dynamic,
    specs: list[InputSpec],
    progress: Progress,
) -> Source:
    from dragoman.frontends.pytorch import import_directory

    if specs and not args and not kwargs:
        kwargs = {s.name: _tensor(s) for s in specs}
    return import_directory(located.what, args, kwargs, dynamic=dynamic or None, progress=progress)


_READERS = {"module": _read_module, "exported": _read_exported, "directory": _read_directory}


def _tensor(spec: InputSpec) -> Any:
    from dragoman.frontends.pytorch.weights import from_numpy

    return from_numpy(example_of(spec))


def _takes_arguments(module: Any) -> bool:
    import inspect

    parameters = inspect.signature(module.forward).parameters.values()
    return any(p.default is p.empty and p.kind is not p.VAR_KEYWORD for p in parameters)


def _check_parameters(located: Located, specs: list[InputSpec]) -> None:
    import inspect

    parameters = inspect.signature(located.what.forward).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        unknown_names([s.name for s in specs], [n for n, p in parameters.items() if p.kind is not p.VAR_POSITIONAL])


def _check_specs(located: Located, args: tuple[Any, ...], kwargs: dict[str, Any], specs: list[InputSpec]) -> None:
    from dragoman.frontends.pytorch.names import input_leaves
    from dragoman.frontends.pytorch.weights import to_numpy

    examples = {name: leaf for name, leaf in input_leaves(located.what.forward, args, kwargs) if hasattr(leaf, "dtype")}
    unknown_names([s.name for s in specs], list(examples))
    for spec in specs:
        leaf = examples[spec.name]
        check_example(spec, tuple(leaf.shape), to_numpy(leaf[(0,) * leaf.dim()]).dtype)
