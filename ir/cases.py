"""The inputs on which two programs are compared: sizes, styles and seeds, in the order of what they can show.

Each dynamic dimension is taken at an odd size of its own, at 1, at 2 and at its declared maximum; integers stay
within the tables they index; masks have padded rows and, in a style of their own, a fully padded one. A case is made
again from its record (`symbols`, `style`, `seed`) and the inputs' roles alone.
"""

from __future__ import annotations

import enum
import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dragoman.ir.dims import UNBOUNDED, Dim, DimExpr, Symbol, evaluate, parse_dim, symbols
from dragoman.ir.errors import Malformed, UsageError
from dragoman.ir.graph import Graph
from dragoman.ir.interpreter import bind_shape
from dragoman.ir.roles import InputRole, Kind, index_range, input_roles
from dragoman.ir.types import TensorType, parse_type


class Style(enum.Enum):
    """What the numbers of a case are like."""

    TYPICAL = "typical"
    PADDED = "fully padded row"
    LARGE = "large"  # 64 times the typical size: saturation and overflow
    FAINT = "faint"  # 2⁻⁸, 2⁻²⁴ and 2⁻⁴⁴ of it, by rows: here an epsilon counts
    ZEROS = "zeros"
    SPECIAL = "NaN and Inf"  # a few among the numbers; only on request: runtimes do not promise what becomes of them
    GIVEN = "given"


_FAINT = (2.0**-8, 2.0**-24, 2.0**-44)
_ODD_SIZES = (3, 5, 7, 9, 11, 13)


@dataclass(frozen=True)
class Case:
    """One run: the size of each symbol, the style and the seed; or arrays given by the user."""

    symbols: Mapping[str, int]
    style: Style = Style.TYPICAL
    seed: int = 0
    arrays: tuple[Any, ...] = field(default=(), repr=False)
    label: str = ""

    def __str__(self) -> str:
        sizes = [f"{n}={v}" for n, v in self.symbols.items()]
        extra = [f"seed {self.seed}"] * bool(self.seed) + [self.label] * bool(self.label)
        return ", ".join([*sizes, self.style.value, *extra])

    def inputs(self, roles: Sequence[InputRole]) -> list[Any]:
        """The input arrays, in order. The same for the same case and roles."""
        if self.style is Style.GIVEN:
            return list(self.arrays)
        return [_array(role, self, np.random.default_rng((self.seed, i))) for i, role in enumerate(roles)]


def plan_cases(graph: Graph, *, seeds: Sequence[int] = (0, 1), given: Sequence[Sequence[Any]] = ()) -> list[Case]:
    """Cases for a graph, most telling first: what the user gave, sizes, styles, more seeds, single dims, maxima."""
    roles = input_roles(graph)
    dynamic = {n: s for v in graph.inputs for n, s in v.type.symbols().items()}
    odd = {n: _odd_size(s, i) for i, (n, s) in enumerate(sorted(dynamic.items()))}
    ones = {n: max(s.low, 1) for n, s in dynamic.items()}
    twos = {n: min(max(s.low + 1, 2), s.high) for n, s in dynamic.items()}
    first = seeds[0] if seeds else 0
    # Rows of a batch are computed alike: where they are not given different numbers on purpose, one is enough.
    one_row = {n: ones[n] if n in _batches(graph) else extent for n, extent in odd.items()}
    plan = [Case(odd, seed=first), Case(ones, seed=first), Case(twos, seed=first)]
    plan += [Case(odd if style in (Style.PADDED, Style.FAINT) else one_row, style, first) for style in _styles(roles)]
    plan += [Case(one_row, seed=seed) for seed in seeds[1:]]
    if len(dynamic) > 1:
        plan += [Case({**odd, n: ones[n]}, seed=first) for n in sorted(dynamic)]
    bounded = sorted((n, s.high) for n, s in dynamic.items() if s.high < UNBOUNDED)
    plan += [Case({**ones, n: high}, seed=first, label=f"{n} at its maximum") for n, high in bounded]
    distinct = {(tuple(sorted(c.symbols.items())), c.style, c.seed): c for c in reversed(plan)}
    taken = [Case({}, Style.GIVEN, arrays=tuple(a), label=f"#{i + 1}" * (len(given) > 1)) for i, a in enumerate(given)]
    met = [sizes for arrays in given if (sizes := sizes_of(graph, arrays)) is not None]
    # Real arrays tell more than made-up ones of the same sizes.
    return [
        *taken,
        *(c for c in reversed(distinct.values()) if c.symbols not in met or c != Case(c.symbols, seed=first)),
    ]


def sizes_of(graph: Graph, arrays: Sequence[Any]) -> Mapping[str, int] | None:
    """The extents of symbols that arrays have; None where they do not fit, which is reported when they are run."""
    sizes: dict[str, int] = {}
    try:
        for value, array in zip(graph.inputs, arrays, strict=True):
            sizes = bind_shape(value.type, np.shape(array), sizes, value.name)
    except (UsageError, ValueError):
        return None
    return sizes


def _batches(graph: Graph) -> set[str]:
    """Symbols that are the first extent of every dynamic input and stand nowhere else in the inputs."""
    firsts, others = set[str](), set[str]()
    for value in graph.inputs:
        for axis, dim in enumerate(value.type.shape):
            if isinstance(dim, DimExpr):
                (firsts if axis == 0 else others).update(symbols(dim))
    return firsts - others


def _odd_size(symbol: Symbol, index: int) -> int:
    wanted = _ODD_SIZES[index % len(_ODD_SIZES)]
    if symbol.low > 1:
        wanted = symbol.low + 1 + symbol.low % 2 + 2 * index
    return min(max(wanted, symbol.low), symbol.high)


def _styles(roles: Sequence[InputRole]) -> list[Style]:
    kinds = {r.kind for r in roles}
    styles = [Style.PADDED] if kinds & {Kind.MASK, Kind.PADDING, Kind.BIAS} else []
    if kinds & {Kind.NORMAL, Kind.IMAGE, Kind.POSITIVE}:
        styles += [Style.FAINT, Style.LARGE]
    return [*styles, Style.ZEROS]


def elements(graph: Graph, symbols: Mapping[str, int]) -> int:
    """How many elements the values of a run have, all together: an estimate of its cost in time and memory."""
    counts = Counter(r.type.shape for node in graph for r in node.results)
    sizes = {**{n: s.low for n, s in graph.symbols().items()}, **symbols}
    return sum(n * math.prod(evaluate(d, sizes) for d in shape) for shape, n in counts.items())


def digest(arrays: Sequence[Any]) -> str:
    """SHA-256 over dtypes, shapes and elements."""
    result = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(array)
        result.update(f"{array.dtype}{array.shape}".encode())
        result.update(repr(array.tolist()).encode() if array.dtype.kind in "OUS" else array.tobytes())
    return result.hexdigest()


# ---- arrays -------------------------------------------------------------------------------------------


def _array(role: InputRole, case: Case, rng: np.random.Generator) -> Any:
    type = parse_type(role.type, _known(case))
    shape = tuple(_extent(d, case.symbols, role) for d in type.shape)
    made = _MAKERS[role.kind](role, type, shape, case, rng)
    if case.style is Style.SPECIAL and type.dtype.is_float and made.size:
        made = _sprinkled(made.astype(type.dtype.numpy), rng)
    return made.astype(type.dtype.numpy)


def _known(case: Case) -> dict[str, Symbol]:
    # A range from 0: reading a dim must not simplify it by more than the graph knew.
    return {n: Symbol(n, 0, UNBOUNDED) for n in case.symbols}


def _extent(dim: Dim, symbols: Mapping[str, int], role: InputRole) -> int:
    extent = evaluate(dim, symbols)
    if not 0 <= extent <= UNBOUNDED:
        raise Malformed(f"the input {role.name!r} of type {role.type} has no shape at {dict(symbols)}")
    return extent


def _index(role: InputRole, type: TensorType, shape: tuple[int, ...], case: Case, rng: np.random.Generator) -> Any:
    low, high = index_range(role, lambda text: evaluate(parse_dim(text, _known(case)), case.symbols))
    if case.style is Style.ZEROS:
        return np.full(shape, low)
    values = rng.integers(low, high + 1, shape)
    if values.size > 1:  # both ends of the table
        values.reshape(-1)[0], values.reshape(-1)[-1] = high, low
    return values


def _count(role: InputRole, type: TensorType, shape: tuple[int, ...], case: Case, rng: np.random.Generator) -> Any:
    return np.zeros(shape, np.int64) if case.style is Style.ZEROS else rng.integers(1, 8, shape)


def _mask(role: InputRole, type: TensorType, shape: tuple[int, ...], case: Case, rng: np.random.Generator) -> Any:
    """Rows along the last axis, valid up to some length: all of it, half, random ones; in PADDED the last is empty."""
    if not shape:
        return np.array(case.style is not Style.PADDED)
    rows, length = math.prod(shape[:-1]), shape[-1]
    valid = rng.integers(1, length + 1, rows) if length else np.zeros(rows, np.int64)
    valid[:1], valid[1:2] = length, (length + 1) // 2
    if case.style is Style.ZEROS:
        valid[:] = length
    if case.style is Style.PADDED:
        valid[-1:] = 0
    return (np.arange(length) < valid[:, None]).reshape(shape)


def _padding(role: InputRole, type: TensorType, shape: tuple[int, ...], case: Case, rng: np.random.Generator) -> Any:
    return ~np.asarray(_mask(role, type, shape, case, rng))


def _bias(role: InputRole, type: TensorType, shape: tuple[int, ...], case: Case, rng: np.random.Generator) -> Any:
    return np.where(_mask(role, type, shape, case, rng), 0.0, -np.inf)


def _normal(role: InputRole, type: TensorType, shape: tuple[int, ...], case: Case, rng: np.random.Generator) -> Any:
    numbers = rng.standard_normal(shape)
    if type.dtype.is_complex:
        numbers = numbers + 1j * rng.standard_normal(shape)
    return numbers * _scale(case, shape)


def _scale(case: Case, shape: tuple[int, ...]) -> Any:
    """What a style multiplies typical numbers by; for FAINT it differs along the first axis."""
    if case.style is Style.FAINT and shape:
        return np.resize(_FAINT, shape[0]).reshape(-1, *(1,) * (len(shape) - 1))
    return {Style.LARGE: 64.0, Style.FAINT: _FAINT[0], Style.ZEROS: 0.0}.get(case.style, 1.0)


def _image(role: InputRole, type: TensorType, shape: tuple[int, ...], case: Case, rng: np.random.Generator) -> Any:
    """A few waves across each channel, with noise, then normalised as pictures are before a network sees them."""
    axes = np.meshgrid(*(np.linspace(0.0, 1.0, n) for n in shape[1:]), indexing="ij")
    pictures = np.zeros(shape)
    for picture in pictures:
        for _ in range(4):
            turns, phase = rng.uniform(-4.0, 4.0, len(axes)), rng.uniform(0.0, 2 * np.pi)
            picture += np.sin(sum(t * a for t, a in zip(turns, axes, strict=True)) * 2 * np.pi + phase) / 8
    pixels = np.clip(pictures + 0.5 + 0.1 * rng.standard_normal(shape), 0.0, 1.0)
    return (pixels - 0.45) / 0.225 * _scale(case, shape)


def _positive(role: InputRole, type: TensorType, shape: tuple[int, ...], case: Case, rng: np.random.Generator) -> Any:
    return rng.uniform(0.25, 4.0, shape) * (1.0 if case.style is Style.ZEROS else _scale(case, shape))


def _unit(role: InputRole, type: TensorType, shape: tuple[int, ...], case: Case, rng: np.random.Generator) -> Any:
    return rng.uniform(-0.95, 0.95, shape) * np.minimum(_scale(case, shape), 1.0)


_WORDS = ("", "a", "dragoman", "naïve", "日本", "two words", "0", "\n")


def _text(role: InputRole, type: TensorType, shape: tuple[int, ...], case: Case, rng: np.random.Generator) -> Any:
    chosen = np.array(_WORDS, np.object_)[rng.integers(0, len(_WORDS), shape)]
    return np.asarray(chosen, np.object_)


_MAKERS = {
    Kind.INDEX: _index,
    Kind.COUNT: _count,
    Kind.MASK: _mask,
    Kind.PADDING: _padding,
    Kind.BIAS: _bias,
    Kind.NORMAL: _normal,
    Kind.IMAGE: _image,
    Kind.POSITIVE: _positive,
    Kind.UNIT: _unit,
    Kind.TEXT: _text,
}


def _sprinkled(x: Any, rng: np.random.Generator) -> Any:
    flat = x.reshape(-1)
    places = rng.choice(flat.size, min(flat.size, 3), replace=False)
    for place, value in zip(places, (np.nan, np.inf, -np.inf), strict=False):
        flat[place] = value
    return x
