"""From a located source to a model: the frontend that reads it, with example arguments and dynamic dims made ready."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dragoman.inputs import (
    EFFORTS,
    Dynamic,
    InputSpec,
    check_type,
    dynamic_of,
    example_sizes,
    examples_of,
    nested,
    parse_dynamic,
    parse_inputs,
    unknown_names,
)
from dragoman.ir.collector import calm_collector
from dragoman.ir.errors import DimensionPinned, ImportRefused, Unsupported, UsageError
from dragoman.ir.types import TensorType
from dragoman.notes import Note
from dragoman.source import Located
from dragoman.stages import Progress

if TYPE_CHECKING:
    from dragoman.frontends.imported import ExampleRunner, Imported, Source


_NAMED = 3  # how many names a note lists


@dataclass(frozen=True)
class Read:
    """A source that was read: what was imported, what runs the source, and what its reader should know."""

    imported: Imported
    runner: ExampleRunner
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class _Call:
    """What a reader needs besides the source: example arguments, dynamic dims, what `--input` said, whom to tell."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    dynamic: Dynamic
    specs: list[InputSpec]
    progress: Progress
    params: Any = None

    @property
    def has_arguments(self) -> bool:
        return bool(self.args or self.kwargs)


def read_source(
    located: Located,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    dynamic: Mapping[str, Mapping[int, Any]] | None,
    inputs: Sequence[str | InputSpec],
    progress: Progress,
    params: Any = None,
) -> Read:
    """Read what was located. Arguments given here take precedence over those that came with the source."""
    params = located.params if params is None else params
    if params is not None and located.kind != "jax":
        raise UsageError(f"{located.spec} holds its own parameters: leave out params")
    specs = _specs(inputs)
    if not args and not kwargs:
        args, kwargs = located.args, dict(located.kwargs)
    dims: Dynamic = {**dynamic_of(specs), **parse_dynamic(dynamic)}
    call = _Call(args, kwargs, dims, specs, progress, params)
    with calm_collector():
        source, notes = _READERS[located.kind](located, call)
    graph = source.imported.graph
    if not graph.outputs:
        raise UsageError(f"{located.spec} returns no tensor: there is nothing to convert")
    types = {v.name: v.type for v in graph.inputs}
    unknown_names([s.name for s in specs], list(types))
    for spec in specs:
        check_type(spec, types[spec.name], "the model's input")
    imported = source.imported
    limits = [Note(str(limit)) for limit in imported.limits]
    assumed = [Note(str(a), a.fails_at) for a in imported.assumptions]
    return Read(imported, source.runner, (*limits, *assumed, *_changing(imported), *notes))


def _changing(imported: Imported) -> list[Note]:
    """What the model remembers from run to run becomes the caller's to keep."""
    names = [state.input for state in imported.states]
    if not names:
        return []
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return [
        Note(
            f"the model changes {', '.join(map(repr, names[:_NAMED]))}{more}:"
            f" give the output {imported.states[0].output!r} to the next run as {names[0]!r}" + " …" * (len(names) > 1)
        )
    ]


def _specs(inputs: Sequence[str | InputSpec]) -> list[InputSpec]:
    texts = [s for s in inputs if isinstance(s, str)]
    parsed = iter(parse_inputs(texts))
    return [s if isinstance(s, InputSpec) else next(parsed) for s in inputs]


# ---- readers by kind ----------------------------------------------------------------------------------

_Answer = tuple["Source", Sequence[Note]]


def _read_module(located: Located, call: _Call) -> _Answer:
    from dragoman.frontends.pytorch.readiness import check_ready

    module = located.what
    check_ready(module)
    if call.specs and not call.has_arguments:
        return _read_from_specs(located, call), ()
    if not call.has_arguments and _takes_arguments(module):
        raise UsageError(
            f"{located.spec}: example arguments are needed to trace it; give --input name:dtype[dims] for each input"
            " (or args=(…) in Python), or let the factory return (model, args)"
        )
    args, kwargs = _as_tensors(call)
    _check_values(module, args, kwargs)
    _check_specs(module, args, kwargs, call.specs)
    source = _imported(module, args, kwargs, call)
    return source, _fixed_numbers(module, args, kwargs)


def _read_exported(located: Located, call: _Call) -> _Answer:
    from dragoman.frontends.pytorch import import_exported

    if call.has_arguments:
        raise UsageError(
            f"{located.spec}: an exported program brings its own example arguments; leave out args and kwargs"
        )
    return import_exported(located.what, dynamic=call.dynamic or None, progress=call.progress), ()


def _read_directory(located: Located, call: _Call) -> _Answer:
    from dragoman.frontends.pytorch import import_directory
    from dragoman.frontends.pytorch.failures import ModelFails

    args, kwargs = _as_tensors(call)
    made = bool(call.specs) and not call.has_arguments
    if made:
        kwargs = nested(_tensors(examples_of(call.specs), None))
    try:
        source = import_directory(located.what, args, kwargs, dynamic=call.dynamic or None, progress=call.progress)
    except ModelFails as failure:
        raise (_fails_on(call.specs, example_sizes(call.specs), failure) if made else failure) from failure
    return source, ()


def _read_jax(located: Located, call: _Call) -> _Answer:
    from dragoman.frontends.jax import import_function, settings

    args, kwargs = call.args, call.kwargs
    if call.specs and not call.has_arguments:
        kwargs = nested(examples_of(call.specs))
    source = import_function(
        located.what, args, kwargs, params=call.params, dynamic=call.dynamic or None, progress=call.progress
    )
    return source, [Note(f"{n!r} is no array: its value {v} is fixed in the result") for n, v in settings(source)]


def _read_artefact(located: Located, call: _Call) -> _Answer:
    try:
        from dragoman.frontends.jax.stablehlo.load import import_artefact
    except ModuleNotFoundError as error:
        raise UsageError(f"{located.spec}: JAX is needed to read it ({error}): pip install 'dragoman[jax]'") from error
    return import_artefact(
        located.what, call.args, call.kwargs, dynamic=call.dynamic or None, progress=call.progress
    ), ()


def _read_onnx(located: Located, call: _Call) -> _Answer:
    from dragoman.onnx_source import read_onnx

    types = {s.name: s.type for s in call.specs}
    dynamic = {n: axes for n, axes in call.dynamic.items() if n not in types}
    return read_onnx(located.what, call.args, call.kwargs, types, dynamic, call.progress), ()


def _read_keras(located: Located, call: _Call) -> _Answer:
    from dragoman.frontends.keras import import_keras

    types = {s.name: s.type for s in call.specs}
    dynamic = {n: axes for n, axes in call.dynamic.items() if n not in types}
    return import_keras(
        located.what, call.args, call.kwargs, types=types, dynamic=dynamic or None, progress=call.progress
    ), ()


_READERS: dict[str, Callable[[Located, _Call], _Answer]] = {
    "module": _read_module,
    "exported": _read_exported,
    "directory": _read_directory,
    "jax": _read_jax,
    "artefact": _read_artefact,
    "onnx": _read_onnx,
    "keras": _read_keras,
}


def _imported(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], call: _Call) -> Source:
    from dragoman.frontends.pytorch import import_module

    try:
        return import_module(module, args, kwargs, dynamic=call.dynamic or None, progress=call.progress)
    except (ImportRefused, DimensionPinned):
        raise
    except Unsupported as error:
        if not call.dynamic or "\n" not in str(error) or "cannot trace" not in str(error):
            raise
        dims = ", ".join(f"{n}[{axis}] = {dim}" for n, axes in call.dynamic.items() for axis, dim in axes.items())
        raise Unsupported(
            f"{error}\nIt runs on the example arguments as they are: a dynamic dimension ({dims}) may be in the way."
            " Sizes that must be equal take the same name, and all of them must be dynamic."
        ) from error


# ---- examples from specifications ---------------------------------------------------------------------


def _read_from_specs(located: Located, call: _Call) -> Source:
    """Trace on examples of the specified types: the smallest on which the model runs."""
    from dragoman.frontends.pytorch.failures import ModelFails
    from dragoman.frontends.pytorch.readiness import example_device

    module, specs = located.what, call.specs
    _check_parameters(module, specs)
    device = example_device(module)
    first: UsageError | None = None
    tried: list[dict[str, int]] = []
    for effort in EFFORTS:
        sizes = example_sizes(specs, effort)
        if sizes in tried:
            continue
        tried.append(sizes)
        args, kwargs = _call_of(module, nested(_tensors(examples_of(specs, effort), device)))
        try:
            return _imported(module, args, kwargs, call)
        except ModelFails as failure:
            first = first or _fails_on(specs, sizes, failure)
    assert first is not None
    raise first


def _fails_on(specs: Sequence[InputSpec], sizes: Mapping[str, int], failure: Any) -> UsageError:
    given = " ".join(f"--input {s}" for s in specs)
    at = f", tried with {', '.join(f'{n} = {v}' for n, v in sizes.items())}" if sizes else ""
    line = f"\n  {failure.line}" if failure.line else ""
    advice = "\nSizes that must be equal take the same name; 32*h is a multiple of 32." if len(sizes) > 1 else ""
    return UsageError(f"the model does not run on inputs of these types ({given}{at}): {failure.reason}{line}{advice}")


def _tensors(arrays: Mapping[str, Any], device: Any) -> dict[str, Any]:
    from dragoman.frontends.pytorch.dtypes import to_torch
    from dragoman.frontends.pytorch.weights import from_numpy
    from dragoman.ir.types import dtype_of

    for name, array in arrays.items():
        try:
            to_torch(dtype_of(array))
        except Unsupported as error:
            raise UsageError(f"--input {name}: {error}") from None
    made = {name: from_numpy(array) for name, array in arrays.items()}
    return made if device is None else {name: tensor.to(device) for name, tensor in made.items()}


def _as_tensors(call: _Call) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The example arguments with NumPy arrays as tensors."""
    from torch.utils import _pytree as pytree

    from dragoman.frontends.pytorch.weights import from_numpy

    args, kwargs = pytree.tree_map_only(np.ndarray, from_numpy, (call.args, call.kwargs))
    return args, kwargs


def _call_of(module: Any, values: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Values by name as positional and keyword arguments: positional only where `forward` leaves no choice."""
    parameters = list(inspect.signature(module.forward).parameters.values())
    variadic = any(p.kind is p.VAR_POSITIONAL and p.name in values for p in parameters)
    args: list[Any] = []
    kwargs = dict(values)
    for parameter in parameters:
        if parameter.name not in kwargs:
            continue
        if parameter.kind is parameter.VAR_POSITIONAL:
            given = kwargs.pop(parameter.name)
            args.extend(given if isinstance(given, tuple) else (given,))
        elif parameter.kind is parameter.POSITIONAL_ONLY or (variadic and parameter.kind is not parameter.KEYWORD_ONLY):
            args.append(kwargs.pop(parameter.name))
    return tuple(args), kwargs


# ---- checks -------------------------------------------------------------------------------------------


def _takes_arguments(module: Any) -> bool:
    parameters = inspect.signature(module.forward).parameters.values()
    return any(p.default is p.empty and p.kind is not p.VAR_KEYWORD for p in parameters)


def _check_parameters(module: Any, specs: Sequence[InputSpec]) -> None:
    """Raise UsageError for a specification of no parameter, and for a parameter that has none."""
    parameters = inspect.signature(module.forward).parameters
    given = {s.name.partition(".")[0] for s in specs}
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        variadic = {n for n, p in parameters.items() if p.kind is p.VAR_POSITIONAL}
        listed = [f"{n}.0, {n}.1, …" if n in variadic else n for n in parameters]
        unknown_names([s.name for s in specs if s.name in variadic], listed)
        unknown_names(sorted(given - set(parameters)), listed)
    missing = [n for n, p in parameters.items() if p.default is p.empty and p.kind not in _VARIADIC and n not in given]
    if missing:
        written = " ".join(f"--input {n}:dtype[dims]" for n in missing)
        raise UsageError(f"the model also needs {', '.join(missing)}: add {written}")


_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _check_specs(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], specs: Sequence[InputSpec]) -> None:
    from dragoman.frontends.pytorch.dtypes import from_torch
    from dragoman.frontends.pytorch.names import input_leaves

    leaves = dict(input_leaves(module.forward, args, kwargs)) if specs else {}
    tensors = {name: leaf for name, leaf in leaves.items() if hasattr(leaf, "dtype")}
    for spec in specs:
        if spec.name in leaves and spec.name not in tensors:
            value = leaves[spec.name]
            raise UsageError(
                f"--input {spec}: {spec.name!r} is the {type(value).__name__} {value!r} in the example, which is fixed"
                " in the result; give a tensor to make it an input"
            )
    unknown_names([s.name for s in specs], list(tensors))
    for spec in specs:
        leaf = tensors[spec.name]
        check_type(spec, TensorType(from_torch(leaf.dtype), tuple(leaf.shape)), "the model's example input")


def _check_values(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise UsageError for an example tensor that has no plain values."""
    import torch

    from dragoman.frontends.pytorch.names import input_leaves

    for name, leaf in input_leaves(module.forward, args, kwargs):
        if isinstance(leaf, torch.Tensor) and (leaf.layout != torch.strided or leaf.is_quantized or leaf.is_meta):
            kind = "on the meta device" if leaf.is_meta else f"{leaf.layout}, {leaf.dtype}"
            raise UsageError(f"the example {name!r} is {kind}: give a dense tensor with values")


def _fixed_numbers(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Note]:
    """Numbers among the arguments: a trace takes them for constants, which is worth saying."""
    from dragoman.frontends.pytorch.names import input_leaves

    numbers = {n: v for n, v in input_leaves(module.forward, args, kwargs) if type(v) in (int, float, complex)}
    return [Note(f"{n!r} is no tensor: its value {v} is fixed in the result") for n, v in numbers.items()]
