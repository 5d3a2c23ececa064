"""Input specifications: `x:f32[batch,3,224,224]` names an input, its dtype, its shape and which dims are dynamic.

They make example arguments where a source has none, and are checked against the example where it has some.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dragoman.ir.dims import Dim, DimExpr, Symbol, evaluate
from dragoman.ir.errors import Malformed, OverBudget, UsageError
from dragoman.ir.types import TensorType, parse_type

Dynamic = dict[str, dict[int, Any]]
_EXAMPLE = 2  # extent of a dynamic dim in an example made here: 0 and 1 are special to tracers
_LARGER = (16, 64, 224)  # tried in turn where a model does not run on the smallest: windows, strides, images
_STEP = 32  # between the extents of two dims, so that a multiple of 32 stays one
_MAX_BYTES = 1 << 33  # of the examples together
_OTHER_NAMES = {
    other: ours
    for ours, others in {
        "f32": ("float", "float32", "single"),
        "f64": ("double", "float64"),
        "f16": ("half", "float16"),
        "bf16": ("bfloat16",),
        "i64": ("int", "int64", "long"),
        "i32": ("int32",),
        "i16": ("int16", "short"),
        "i8": ("int8",),
        "u8": ("uint8", "byte"),
        "bool": ("boolean",),
        "string": ("str",),
    }.items()
    for other in others
}
EFFORTS = range(len(_LARGER) + 1)
"""How hard to try to find an example that a model runs on: 0 is the smallest."""


@dataclass(frozen=True)
class InputSpec:
    """One `--input`."""

    name: str
    type: TensorType

    def __str__(self) -> str:
        return f"{self.name}:{self.type}"

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
            spec = InputSpec(name.strip(), parse_type(rest.strip()))
        except Malformed as error:
            raise UsageError(f"--input {text}: {error}{_meant(rest)}") from None
        if any(s.name == spec.name for s in specs):
            raise UsageError(f"--input {text}: {spec.name!r} is given twice")
        specs.append(spec)
    return specs


def _meant(text: str) -> str:
    """What to write for another library's name of an element type."""
    wanted = text.partition("[")[0].strip().rpartition(".")[2].lower()
    return f"; for {wanted} write {_OTHER_NAMES[wanted]}" if wanted in _OTHER_NAMES else ""


def dynamic_of(specs: Sequence[InputSpec]) -> Dynamic:
    """The dynamic dims of specifications, in the form that `convert(dynamic=…)` takes."""
    return {s.name: dict(s.dynamic) for s in specs if s.dynamic}


# ---- examples -----------------------------------------------------------------------------------------


def examples_of(specs: Sequence[InputSpec], effort: int = 0) -> dict[str, Any]:
    """A NumPy array for each specification: normal numbers, zeros for integers, true for booleans.

    Dynamic dims differ from each other, so that no two are taken for one. A greater `effort` makes those larger that
    are not the first of an input, which is where batches are. Raises OverBudget for arrays that no memory holds.
    """
    sizes = example_sizes(specs, effort)
    shapes = {s.name: tuple(evaluate(d, sizes) for d in s.type.shape) for s in specs}
    total = 0
    for spec in specs:
        count = 1
        for extent in shapes[spec.name]:  # in whole numbers of any size: a product in 64 bits may wrap around
            count *= extent
        total += count * spec.type.dtype.bits // 8
        if total > _MAX_BYTES:
            raise OverBudget(
                f"--input {spec}: an example would take {total / 2**30:,.0f} GiB, {_MAX_BYTES >> 30} are allowed;"
                " give example arguments of a smaller size, or a name in place of a large dimension"
            )
    return {s.name: _array(s, shapes[s.name], seed) for seed, s in enumerate(specs)}


def example_sizes(specs: Sequence[InputSpec], effort: int = 0) -> dict[str, int]:
    """The extent of each symbol in the examples."""
    known: dict[str, Symbol] = {}
    for spec in specs:
        known.update(spec.type.symbols())
    firsts = {name for s in specs if s.type.rank and (name := str(s.type.shape[0])) in known}
    firsts = firsts if firsts < set(known) else set[str]()  # the only one is no batch: a signal, a picture
    sizes: dict[str, int] = {}
    for index, (name, symbol) in enumerate(sorted(known.items())):
        wanted = _EXAMPLE + index
        if effort and name not in firsts:
            wanted = _LARGER[effort - 1] + _STEP * sum(n not in firsts for n in sizes)
        sizes[name] = min(max(wanted, symbol.low), symbol.high)
    return sizes


def _array(spec: InputSpec, shape: tuple[int, ...], seed: int) -> Any:
    dtype = spec.type.dtype
    if dtype.is_inexact:
        return np.random.default_rng(seed).standard_normal(shape).astype(dtype.numpy)
    return np.ones(shape, np.bool_) if dtype.kind == "bool" else np.zeros(shape, dtype.numpy)


# ---- checks -------------------------------------------------------------------------------------------


def check_type(spec: InputSpec, found: TensorType, where: str) -> None:
    """Compare a specification with the type that an input has. Raises UsageError naming axis and both values.

    A number where the input is dynamic is accepted: the model then takes more than was asked for.
    """
    name = f"--input {spec}"
    if found.dtype != spec.type.dtype:
        raise UsageError(f"{name}: {where} is {found.dtype}, not {spec.type.dtype}")
    if found.rank != spec.type.rank:
        raise UsageError(f"{name} has rank {spec.type.rank}, {where} has rank {found.rank}: {found}")
    for axis, (dim, extent) in enumerate(zip(spec.type.shape, found.shape, strict=True)):
        if isinstance(dim, int) and isinstance(extent, int) and dim != extent:
            raise UsageError(f"{name}: axis {axis} is {dim}, in {where} it is {extent}")


def parse_dynamic(texts: Mapping[str, Mapping[int, Any]] | None) -> Dynamic:
    """`convert(dynamic=…)` as given, with axes checked to be integers. Raises UsageError."""
    result: Dynamic = {}
    if texts is not None and not isinstance(texts, Mapping):
        raise UsageError(f"dynamic should map names of inputs to axes, as in {{'x': {{0: 'batch'}}}}; it is {texts!r}")
    for name, axes in (texts or {}).items():
        if not isinstance(axes, Mapping):
            raise UsageError(f"dynamic[{name!r}] should map axes to names, as in {{0: 'batch'}}; it is {axes!r}")
        for axis, dim in axes.items():
            if not isinstance(axis, int) or isinstance(axis, bool):
                raise UsageError(f"dynamic[{name!r}]: {axis!r} is no axis number")
            result.setdefault(name, {})[axis] = dim
    return result


def positional(args: Any) -> tuple[Any, ...]:
    """Example arguments as a tuple: one tensor is one argument, and not as many as it has rows."""
    if hasattr(args, "dtype") and hasattr(args, "shape"):
        return (args,)
    if not isinstance(args, (tuple, list)):
        raise UsageError(f"the example arguments should be a tuple or a dict, not of type {type(args).__name__}")
    return tuple(args)


def unknown_names(given: Sequence[str], known: Sequence[str]) -> None:
    """Raise UsageError if a name is not among a model's inputs."""
    for name in given:
        if name not in known:
            raise UsageError(f"the model has no input {name!r}; its inputs are {', '.join(known) or 'none'}")


def nested(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted names as nested arguments: `states.0` and `states.1` make a tuple, `batch.image` a dict."""
    tree: dict[str, Any] = {}
    for name, value in arrays.items():
        *path, last = name.split(".")
        branch = tree
        for part in path:
            branch = branch.setdefault(part, {})
            if not isinstance(branch, dict):
                raise UsageError(f"--input {name}: {part!r} is given as a tensor and as a container")
        if last in branch:
            raise UsageError(f"--input {name}: {last!r} is given as a tensor and as a container")
        branch[last] = value
    return {name: _sequences(value) for name, value in tree.items()}


def _sequences(value: Any) -> Any:
    """Dicts whose keys are 0, 1, … n−1 as tuples."""
    if not isinstance(value, dict):
        return value
    parts: dict[str, Any] = {k: _sequences(v) for k, v in value.items()}
    numbers = [str(i) for i in range(len(parts))]
    return tuple(parts[n] for n in numbers) if set(parts) == set(numbers) else parts
