"""Input specifications: `x:f32[batch,3,224,224]` names an input, its dtype, its shape and which dims are dynamic.

They make example arguments where a source has none, and are checked against the example where it has some.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dragoman.ir.dims import Dim, DimExpr, evaluate
from dragoman.ir.errors import Malformed, UsageError
from dragoman.ir.types import TensorType, dtype_of, parse_type

Dynamic = dict[str, dict[int, Any]]
_EXAMPLE = 2  # extent of a dynamic dim in an example made here: 0 and 1 are special to tracers


@dataclass(frozen=True)
class InputSpec:
    """One `--input`."""

    name: str
    type: TensorType

    @property
    def dynamic(self) -> dict[int, Dim]:
        """Axes with symbolic extents."""
        return {axis: d for axis, d in enumerate(self.type.shape) if isinstance(d, DimExpr)}


def parse_inputs(texts: Sequence[str]) -> list[InputSpec]:
    """Read specifications. Raises UsageError for one that does not follow the form or a name given twice."""
    specs: list[InputSpec] = []
    for text in texts:
        name, colon, rest = text.partition(":")
        if not colon or not name.strip():
            raise UsageError(f"--input {text}: write name:dtype[dims], such as x:f32[batch,3,224,224]")
        try:
            spec = InputSpec(name.strip(), parse_type(rest))
        except Malformed as error:
            raise UsageError(f"--input {text}: {error}") from None
        if any(s.name == spec.name for s in specs):
            raise UsageError(f"--input {text}: {spec.name!r} is given twice")
        specs.append(spec)
    return specs


def dynamic_of(specs: Sequence[InputSpec]) -> Dynamic:
    """The dynamic dims of specifications, in the form that `convert(dynamic=…)` takes."""
    return {s.name: dict(s.dynamic) for s in specs if s.dynamic}


def example_of(spec: InputSpec, seed: int = 0) -> Any:
    """A NumPy array of a specification's type: normal numbers, zeros for integers, true for booleans."""
    sizes = {n: min(max(_EXAMPLE + i, s.low), s.high) for i, (n, s) in enumerate(sorted(spec.type.symbols().items()))}
    shape = tuple(evaluate(d, sizes) for d in spec.type.shape)
    dtype = spec.type.dtype
    if dtype.is_inexact:
        return np.random.default_rng(seed).standard_normal(shape).astype(dtype.numpy)
    return np.ones(shape, np.bool_) if dtype.kind == "bool" else np.zeros(shape, dtype.numpy)


def check_example(spec: InputSpec, shape: Sequence[int], dtype: Any) -> None:
    """Compare a specification with an example argument. Raises UsageError naming input, axis and both values."""
    name = f"--input {spec.name}:{spec.type}"
    if dtype_of(dtype) != spec.type.dtype:
        raise UsageError(f"{name}: the model's example input is {dtype_of(dtype)}, not {spec.type.dtype}")
    if len(shape) != spec.type.rank:
        raise UsageError(
            f"{name} has rank {spec.type.rank}, the model's example input has rank {len(shape)}: {list(shape)}"
        )
    for axis, (dim, extent) in enumerate(zip(spec.type.shape, shape, strict=True)):
        if isinstance(dim, int) and dim != extent:
            raise UsageError(f"{name}: axis {axis} is {dim}, in the model's example input it is {extent}")


def parse_dynamic(texts: Mapping[str, Mapping[int, Any]] | None) -> Dynamic:
    """`convert(dynamic=…)` as given, with axes checked to be integers. Raises UsageError."""
    result: Dynamic = {}
    for name, axes in (texts or {}).items():
        if not isinstance(axes, Mapping):
            raise UsageError(f"dynamic[{name!r}] should map axes to names, as in {{0: 'batch'}}; it is {axes!r}")
        for axis, dim in axes.items():
            if not isinstance(axis, int) or isinstance(axis, bool):
                raise UsageError(f"dynamic[{name!r}]: {axis!r} is no axis number")
            result.setdefault(name, {})[axis] = dim
    return result


def unknown_names(given: Sequence[str], known: Sequence[str]) -> None:
    """Raise UsageError if a name is not among a model's inputs."""
    for name in given:
        if name not in known:
            raise UsageError(f"the model has no input {name!r}; its inputs are {', '.join(known) or 'none'}")
