"""The three ways in: a module with example arguments, an exported program, a Hugging Face model directory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from dragoman.frontends.dynamic import Dynamic, example_sizes, read_spec
from dragoman.frontends.imported import Imported, Source
from dragoman.frontends.pytorch.export import environment_of, export, place_inputs, user_placeholders
from dragoman.frontends.pytorch.failures import failure_of
from dragoman.frontends.pytorch.importer import translate
from dragoman.frontends.pytorch.names import Leaf, leaves
from dragoman.frontends.pytorch.pinned import Judged, judge
from dragoman.frontends.pytorch.probe import ProgramProbe
from dragoman.frontends.pytorch.runner import SourceRunner
from dragoman.frontends.pytorch.symints import Symbols
from dragoman.ir.dims import UNBOUNDED, Symbol
from dragoman.ir.errors import ImportRefused, Malformed, UsageError

Progress = Callable[[str], None]


def _silent(stage: str) -> None:
    """No progress is shown."""


def import_module(
    module: torch.nn.Module,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic: Dynamic | None = None,
    name: str = "",
    progress: Progress = _silent,
) -> Source:
    """Trace a module on example arguments and translate it.

    `dynamic` maps names of inputs to {axis: name or expression or Symbol}. Raises UsageError for arguments that do
    not fit, DimensionPinned where the model fixes a dynamic dim, ImportRefused for operators without translation.
    """
    kwargs = dict(kwargs or {})
    started = time.perf_counter()
    progress("trace")
    exported = export(module, tuple(args), kwargs, dynamic)
    traced = time.perf_counter() - started
    progress("translate")
    title = name or type(module).__name__
    tensors = [path for path, _ in exported.inputs]
    try:
        found = translate(exported.program, tensors, exported.judged.dims, title, exported.judged.assumptions)
    except ImportRefused as refused:
        # An operator with impossible operands may be traced that the model itself does not run on: say that instead.
        if any(o.reason for o in refused.occurrences) and (failure := failure_of(module, args, kwargs)) is not None:
            raise failure from refused
        raise
    found = replace(found, seconds={"trace": traced, **found.seconds}, limits=exported.judged.limits)

    def look() -> ProgramProbe:
        again = export(module, tuple(args), kwargs, dynamic)
        return ProgramProbe(again.program, tensors, again.judged.dims, title)

    return Source(found, _runner(module, args, kwargs, exported.inputs, found, look))


def _runner(
    module: torch.nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    inputs: Sequence[Leaf],
    found: Imported,
    look: Callable[[], ProgramProbe],
) -> SourceRunner:
    buffers = [s.input for s in found.states if s.initial is not None]
    changed = [s.input for s in found.states if s.initial is None]
    names = [v.name for v in found.graph.inputs]
    return SourceRunner(module, args, kwargs, inputs, names, buffers, changed, look=look)


def import_exported(
    program: ExportedProgram, *, dynamic: Dynamic | None = None, name: str = "", progress: Progress = _silent
) -> Source:
    """Translate a program that torch.export made. `dynamic` names its dynamic dims, which torch itself calls `s0`,
    `s1`, …
    """
    example = program.example_inputs
    args, kwargs = example if example is not None else ((), {})
    inputs = _program_inputs(program, args, kwargs)
    if example is None:
        args, kwargs = pytree.tree_unflatten([leaf for _, leaf in inputs], _call_form(program))
    judged = _program_dims(program, inputs, dynamic)
    progress("translate")
    paths = [path for path, _ in inputs]
    found = translate(program, paths, judged.dims, name, judged.assumptions)
    found = replace(found, limits=judged.limits)

    def look() -> ProgramProbe:
        return ProgramProbe(program, paths, judged.dims, name)

    return Source(found, _runner(program.module(), args, kwargs, inputs, found, look))


def _program_inputs(program: ExportedProgram, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Leaf]:
    """The leaves of the program's example call, with the names of its parameters."""
    signature = program.module_call_graph[0].signature if program.module_call_graph else None
    named = getattr(signature, "forward_arg_names", None) or [n.name for n in user_placeholders(program)]
    found: list[Leaf] = []
    for parameter, value in zip(named, [*args, *kwargs.values()], strict=False):
        found.extend(leaves(str(parameter), value))
    placeholders = user_placeholders(program)
    if len(found) != len(placeholders):  # a program without example inputs
        return [(n.name, _example(n.meta.get("val"))) for n in placeholders]
    return found


def _call_form(program: ExportedProgram) -> pytree.TreeSpec:
    form = program.call_spec.in_spec
    if form is None:
        raise UsageError(
            "the program keeps neither example inputs nor how it is called. Export it again with torch.export.export"
        )
    return form


def _example(value: Any) -> Any:
    """A tensor of the sizes that a program was traced at, without values."""
    if not isinstance(value, torch.Tensor):
        return value
    sizes = [s.node.hint if isinstance(s, torch.SymInt) else int(s) for s in value.shape]
    return torch.empty([2 if s is None else s for s in sizes], dtype=value.dtype, device="meta")


def _program_dims(program: ExportedProgram, inputs: Sequence[Leaf], dynamic: Dynamic | None) -> Judged:
    """torch's symbols under the caller's names where these are given, else under torch's own."""
    environment = environment_of(program)
    spec = read_spec(dynamic, inputs)
    if spec and environment is not None:
        judged = judge(place_inputs(program, inputs, spec), spec, example_sizes(spec, inputs), environment)
        _bind_rest(judged.dims, program)
        return judged
    dims = Symbols()
    _bind_rest(dims, program)
    return Judged(dims, {}, ())


def _bind_rest(dims: Symbols, program: ExportedProgram) -> None:
    for expression, found in program.range_constraints.items():
        for symbol in expression.free_symbols:
            if dims.bound(symbol) is None and expression == symbol and symbol.name.startswith("s"):
                # torch writes 2 for "no lower bound": it takes sizes of 0 and 1 for granted while tracing.
                low = int(found.lower) if found.lower.is_Integer and int(found.lower) > 2 else 1
                high = int(found.upper) if found.upper.is_Integer else UNBOUNDED
                dims.bind(symbol, Symbol(symbol.name, low, min(high, UNBOUNDED)).dim)


def import_directory(
    path: str | Path,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic: Dynamic | None = None,
    progress: Progress = _silent,
) -> Source:
    """Read a Hugging Face model directory: configuration and safetensors. Without arguments, examples are made from
    the configuration.
    """
    from dragoman.frontends.pytorch.huggingface import example_arguments, load_model

    folder = Path(path)
    if not (folder / "config.json").is_file():
        raise Malformed(f"{folder} has no config.json: it is no Hugging Face model directory")
    progress("load")
    module = load_model(folder)
    if not args and not kwargs:
        kwargs, standard = example_arguments(module)
        dynamic = standard if dynamic is None else dynamic
    return import_module(module, args, kwargs, dynamic=dynamic, name=folder.name, progress=progress)
