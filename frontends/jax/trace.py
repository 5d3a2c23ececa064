"""Traces a pure model on example arguments, some extents symbolic, and tells what goes wrong in one message."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jax.extend.core import ClosedJaxpr, InconclusiveDimensionOperation

from dragoman.frontends.dynamic import Dynamic, Leaf, Spec, example_sizes, read_spec
from dragoman.frontends.jax.dims import Dims
from dragoman.frontends.jax.libraries import PureModel
from dragoman.frontends.jax.names import input_leaves, is_array, leaves, output_names
from dragoman.frontends.jax.provenance import is_models_file, user_line
from dragoman.ir.errors import DimensionPinned, DragomanError, Unsupported, UsageError

_HINTS: tuple[tuple[type[Exception], str], ...] = (
    (
        jax.errors.TracerBoolConversionError,
        "Python branches on a value that only running the model can tell: use jax.lax.cond or jnp.where",
    ),
    (
        jax.errors.ConcretizationTypeError,
        "Python needs the value of an array that only running the model can tell",
    ),
    (jax.errors.TracerArrayConversionError, "NumPy is given an array of the trace: use jax.numpy"),
    (jax.errors.UnexpectedTracerError, "an array of an earlier trace is used: it was kept outside of the function"),
)


@dataclass(frozen=True)
class Call:
    """A pure model with the leaves of one call: arrays that vary, and settings that stay."""

    model: PureModel
    weights: list[Leaf]
    states: list[Leaf]
    inputs: list[Leaf]  # arrays and settings
    form: Any  # how args and kwargs are made of the leaves

    @property
    def arrays(self) -> list[Leaf]:
        """The inputs that are arrays."""
        return [(name, leaf) for name, leaf in self.inputs if is_array(leaf)]

    def run(self, weights: Sequence[Any], states: Sequence[Any], arrays: Sequence[Any]) -> tuple[Any, list[Any]]:
        """The result for these leaves, and the leaves of the states after it."""
        model = self.model
        given = iter(arrays)
        flat = [next(given) if is_array(leaf) else leaf for _, leaf in self.inputs]
        args, kwargs = jax.tree_util.tree_unflatten(self.form, flat)
        held = jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(model.weights), list(weights))
        kept = jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(model.states), list(states))
        result, after = model.run(held, kept, args, kwargs)
        return result, jax.tree_util.tree_leaves(after)


@dataclass(frozen=True)
class Traced:
    """A traced call: the program, its dims, and the names of what it returns."""

    program: ClosedJaxpr
    dims: Dims
    outputs: list[str]


def call_of(model: PureModel, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
    """The leaves of a call of a model. Raises UsageError where the arguments do not fit its signature."""
    inputs = input_leaves(model.called, args, kwargs, model.skip)
    form = jax.tree_util.tree_structure((tuple(args), dict(kwargs)))
    inputs = [(name, _example(leaf)) for name, leaf in inputs]
    states = leaves("", model.states)
    listed = _distinct([*states, *inputs])
    return Call(model, leaves("", model.weights), listed[: len(states)], listed[len(states) :], form)


def _distinct(listed: Sequence[Leaf]) -> list[Leaf]:
    """The same leaves, a name met again with a number."""
    taken: dict[str, int] = {}
    found: list[Leaf] = []
    for name, leaf in listed:
        count = taken.get(name, 0)
        taken[name] = count + 1
        found.append((f"{name}_{count}" if count else name, leaf))
    return found


def _example(leaf: Any) -> Any:
    """An example as JAX holds it; of a type alone, zeros."""
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jnp.zeros(leaf.shape, leaf.dtype)
    return jnp.asarray(leaf) if isinstance(leaf, (np.ndarray, np.generic)) else leaf


def trace(call: Call, dynamic: Dynamic | None) -> tuple[Traced, Spec]:
    """Trace a call with the dynamic dims symbolic. Raises UsageError, DimensionPinned or Unsupported."""
    spec = read_spec(dynamic, [*call.states, *call.arrays])
    example_sizes(spec, [*call.states, *call.arrays])
    dims = Dims(spec.symbols)
    held = [_abstract(leaf) for _, leaf in call.weights]
    kept = [_abstract(leaf, dims.symbolic(leaf.shape, spec.dims.get(name, {}))) for name, leaf in call.states]
    given = [_abstract(leaf, dims.symbolic(leaf.shape, spec.dims.get(name, {}))) for name, leaf in call.arrays]
    named: list[str] = []

    def flat(*arrays: Any) -> list[Any]:
        count, more = len(held), len(held) + len(kept)
        result, after = call.run(arrays[:count], arrays[count:more], arrays[more:])
        named[:] = output_names(result)
        return [*jax.tree_util.tree_leaves(result), *after]

    try:
        return Traced(traced(flat, [*held, *kept, *given]), dims, named), spec
    except UsageError as error:
        if spec and _runs(flat, [*held, *kept, *(_abstract(leaf) for _, leaf in call.arrays)]):
            raise DimensionPinned(_pinned(error, spec)) from error
        raise


def _runs(function: Callable[..., Any], types: Sequence[Any]) -> bool:
    try:
        traced(function, types)
    except DragomanError:
        return False
    return True


def _pinned(error: UsageError, spec: Spec) -> str:
    dims = ", ".join(f"{n}[{axis}] = {dim}" for n, axes in spec.dims.items() for axis, dim in axes.items())
    return (
        f"{error}\nIt runs on the example arguments as they are: a dynamic dimension ({dims}) is in the way. Sizes that"
        " must be equal take the same name; one with a limit takes a range, such as Symbol('seq', 1, 512)."
    )


def traced(function: Callable[..., Any], types: Sequence[Any]) -> ClosedJaxpr:
    """The program of a function on arguments of these types, failures told with the user's line."""
    try:
        return jax.make_jaxpr(function)(*types)
    except DragomanError:
        raise
    except InconclusiveDimensionOperation as error:
        told = str(error).strip().split("\n")[0]
        raise DimensionPinned(
            f"the model asks something about its sizes that has no one answer: {told}{_at(error)}\n"
            "Give the dimension a range that decides it, such as Symbol('seq', 2, 512), or leave it fixed."
        ) from error
    except Exception as error:
        raise _failure(error) from error


def _failure(error: Exception) -> DragomanError:
    for kind, hint in _HINTS:
        if isinstance(error, kind):
            return Unsupported(f"the model cannot be traced: {hint}{_at(error)}")
    said = str(error).strip().split("\n")[0][:500] or "(without a message)"
    return UsageError(f"the model does not run on the example arguments: {type(error).__name__}: {said}{_at(error)}")


def _at(error: BaseException) -> str:
    """The innermost line of the model in a traceback, on a line of its own."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if is_models_file(frame.filename) and not _is_ours(frame.filename):
            return f"\n  {user_line(frame.filename, frame.lineno or 0)}"
    return ""


def _is_ours(path: str) -> bool:
    return path.startswith(str(Path(__file__).parents[1])) or Path(path).parent.name == "dragoman"


def _abstract(leaf: Any, shape: Sequence[Any] | None = None) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(
        tuple(leaf.shape) if shape is None else tuple(shape), leaf.dtype, weak_type=getattr(leaf, "weak_type", False)
    )
