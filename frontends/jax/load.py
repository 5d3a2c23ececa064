"""The ways in: a function or model with example arguments, an artefact that jax.export made."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.extend.core import Literal

from dragoman.frontends.dynamic import Dynamic, Leaf
from dragoman.frontends.imported import Imported, Source, State
from dragoman.frontends.jax import table
from dragoman.frontends.jax.context import type_of
from dragoman.frontends.jax.libraries import pure_model
from dragoman.frontends.jax.names import closed_over
from dragoman.frontends.jax.runner import SourceRunner
from dragoman.frontends.jax.trace import Call, Traced, call_of, trace
from dragoman.frontends.jax.walker import Job, Walker
from dragoman.frontends.jax.weights import weight_of
from dragoman.ir.errors import UsageError
from dragoman.ir.graph import Graph, Value

Progress = Any


def _silent(stage: str) -> None:
    """No progress is shown."""


def import_function(
    source: Any,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    params: Any = None,
    dynamic: Dynamic | None = None,
    name: str = "",
    progress: Progress = _silent,
) -> Source:
    """Trace a function of JAX, or a model of flax, equinox or haiku, on example arguments and translate it.

    `params` are weights: the variables of a flax linen module, the parameters of a haiku function, and of another
    function its first argument. `dynamic` maps names of inputs to {axis: name or expression or Symbol}. Numbers,
    strings and booleans among the arguments are settings. Raises UsageError for arguments that do not fit,
    DimensionPinned where the model fixes a dynamic dim, Unsupported where it cannot be traced, ImportRefused for
    primitives without translation.
    """
    started = time.perf_counter()
    progress("trace")
    model = pure_model(source, params, dict(kwargs or {}))
    call = call_of(model, tuple(args), dict(kwargs or {}))
    result, spec = trace(call, dynamic)
    changed = _changed(call, result)
    held = next((name for name, _ in call.states if name in spec.dims and name not in changed), None)
    if held is not None:
        raise UsageError(f"dynamic names {held!r}, which this call does not change: it is a weight of a fixed size")
    seconds = {"trace": time.perf_counter() - started}
    progress("translate")
    started = time.perf_counter()
    graph, states = translate(call, result, closed_over(source), name or model.name)
    seconds["translate"] = time.perf_counter() - started
    imported = Imported(graph, states, (), seconds)
    return Source(imported, SourceRunner(call, [v.name for v in graph.inputs], [s.input for s in states]))


def settings(source: Source) -> list[Leaf]:
    """The numbers among the arguments of a model, which the trace took for constants."""
    return source.runner.settings if isinstance(source.runner, SourceRunner) else []


def translate(call: Call, traced: Traced, names: Mapping[int, str], title: str) -> tuple[Graph, tuple[State, ...]]:
    """The graph of a traced call, and the states that it changes. Raises ImportRefused."""
    table.load()
    graph = Graph(title)
    job = Job(traced.dims, dict(names))
    walker = Walker(job, graph)
    jaxpr = traced.program.jaxpr
    changed = _changed(call, traced)
    args: list[Value] = []
    variables = iter(jaxpr.invars)
    held = list(zip(call.weights, variables, strict=False))
    kept = [(leaf, next(variables)) for leaf in call.states]
    given = [graph.add_input(type_of(v.aval, job.dims), n) for (n, _), v in zip(call.arrays, variables, strict=True)]
    for (name, leaf), _ in held:
        job.names[id(leaf)] = name
        args.append(walker.array(leaf))
    states: list[State] = []
    for (name, leaf), variable in kept:
        job.names[id(leaf)] = name
        if name not in changed:
            args.append(walker.array(leaf))
            continue
        value = graph.add_input(type_of(variable.aval, job.dims), name)
        states.append(State(value.name, f"{value.name}.next", weight_of(leaf)))
        args.append(value)
    try:
        outputs = walker.run(jaxpr, traced.program.consts, [*args, *given])
    except Exception:  # what stands for a result without translation may not fit: the refusals tell why
        job.refusals.raise_if_any()
        raise
    job.refusals.raise_if_any()
    count = len(traced.outputs)
    after = {name: value for (name, _), value in zip(call.states, outputs[count:], strict=True)}
    finals = [after[name] for name in changed]
    graph.set_outputs([*outputs[:count], *finals], [*_distinct(traced.outputs, states), *(s.output for s in states)])
    graph.metadata["framework"] = f"jax {jax.__version__}"
    _erase_unused(graph)
    return graph, tuple(states)


def _distinct(outputs: Sequence[str], states: Sequence[State]) -> list[str]:
    taken = {s.output for s in states}
    return [f"{name}_0" if name in taken else name for name in outputs]


def _changed(call: Call, traced: Traced) -> list[str]:
    """The names of the states that do not come out as they went in."""
    jaxpr = traced.program.jaxpr
    first = len(call.weights)
    before = jaxpr.invars[first : first + len(call.states)]
    after = jaxpr.outvars[len(traced.outputs) :]
    changed = {name: (x, y) for (name, _), x, y in zip(call.states, before, after, strict=True) if x is not y}
    counters = call.model.counters & set(changed)
    if counters:
        wanted = [
            *jaxpr.outvars[: len(traced.outputs)],
            *(y for name, (_, y) in changed.items() if name not in counters),
        ]
        used = _reached(jaxpr, wanted)
        changed = {name: pair for name, pair in changed.items() if name not in counters or pair[0] in used}
    return list(changed)


def _reached(jaxpr: Any, wanted: Sequence[Any]) -> set[Any]:
    """The variables that some of the outputs depend on."""
    found = {v for v in wanted if not isinstance(v, Literal)}
    for equation in reversed(jaxpr.eqns):
        if any(v in found for v in equation.outvars):
            found.update(v for v in equation.invars if not isinstance(v, Literal))
    return found


def _erase_unused(graph: Graph) -> None:
    """Drop nodes that nothing uses, from the last to the first, and weights that only they used."""
    for node in graph.reversed():
        if not node.is_used and node is not graph.terminator:
            graph.erase(node)
    for name in [name for name, value in graph.weights.items() if not value.uses]:
        graph.remove_weight(name)
