"""The rule of proof C for one output: as exact as the source where it is exact, else no worse than K times the
source's own error.

Shapes, dtypes, integers, booleans, strings and the places of NaN and ±Inf must match exactly. Of inexact numbers the
error against the float64 oracle is bounded norm-wise, and over each tile of `TILE` elements, by K times the source's
(in a tile where the source was lucky: its relative error over the output, at the tile's magnitude), and from below by
8·u·max|y|, u the rounding unit: one elementary function of a numeric library may be off by that (measured over 600 000
numbers: ONNX Runtime's tanh 5.4 u, torch's gelu 4.7 u). An output that is only moved and selected from inputs and
weights, with nothing computed, must be an exact copy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dragoman.ir.cases import digest
from dragoman.ir.findings import OutputFinding, Status, Summary, describe_number
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.local import TILE, rounding_unit, special_values_differ, tile_maximum, tolerance_factor
from dragoman.ir.types import DType, dtype_of

_LIBRARY = 8.0  # units: the accuracy of elementary functions in numeric libraries
_SELECTING = frozenset(
    ("abs", "ceil", "clip", "constant", "floor", "iota", "max_pool", "maximum", "minimum", "neg", "pad", "reduce_max")
) | frozenset(
    ("reduce_min", "relu", "round", "scatter_elements", "scatter_nd", "sign", "sort", "topk", "triangle", "where")
)  # computed without rounding, beside what only moves elements
_LARGEST = math.sqrt(2 * math.log(TILE))  # of TILE normal errors, in standard deviations
_REMEMBERED = 16  # elements of the oracle that a summary keeps


@dataclass(frozen=True)
class Output:
    """An output of a graph: its name, the narrowest float on the way to it, and whether any rounding is."""

    name: str
    precision: DType
    rounded: bool = True


def outputs_of(graph: Graph) -> list[Output]:
    """The outputs of a graph with what is known of how they are computed. Linear in the graph."""
    rounded: set[Value] = set()
    narrowest: dict[Value, DType] = {}
    for node in graph:
        known = [v for v in node.operands if v is not None]
        rounds = _rounds(node) or any(v in rounded for v in known)
        floats = [narrowest.get(v, v.type.dtype) for v in known if v.type.dtype.is_inexact]
        for result in node.results:
            dtype = result.type.dtype
            if dtype.is_inexact and rounds:
                rounded.add(result)
            narrowest[result] = max([dtype, *floats] if dtype.is_inexact else floats or [dtype], key=rounding_unit)
    return [
        Output(n, narrowest.get(v, v.type.dtype), v in rounded)
        for n, v in zip(graph.output_names, graph.outputs, strict=True)
    ]


def _rounds(node: Node) -> bool:
    """Whether an op computes numbers, rather than moving or selecting them."""
    return not (node.op.movement or (node.op.name in _SELECTING and getattr(node.op, "reduction", "none") == "none"))


def judge(output: Output, oracle: Any, source: Any, candidate: Any) -> OutputFinding:
    """One output of one case."""
    return judge_draws(output, [(oracle, source, candidate)])


def judge_draws(output: Output, draws: Sequence[tuple[Any, Any, Any]], profile: Any | None = None) -> OutputFinding:
    """One output over several draws of one shape, errors pooled; a draw is (oracle, source, candidate).

    `profile` is an estimate of the source's own error, element by element (root mean square). It counts where it is
    larger than what the draws show, a tile by the largest of `TILE` such errors: a constant picture is one error,
    repeated, and what the source shows there is the luck of one.
    """
    oracle, source, candidate = draws[0]
    finding = OutputFinding(output.name, type_text(source), draws=len(draws))
    for _, s, c in draws:
        reason = _form_differs(s, c)
        if reason:
            return replace(finding, status=Status.WRONG, reason=reason, excess=math.inf)
    if not dtype_of(source).is_inexact:
        return _judge_exact(finding, oracle, source, candidate)
    for o, s, c in draws:
        reason = _special_places_differ(wide(o), wide(s), wide(c))
        if reason:
            place = _special_place(wide(o), wide(c))
            return replace(finding, status=Status.WRONG, reason=reason, excess=math.inf, **_shown(o, c, place))
    return _judge_errors(finding, output, draws, profile)


def wide(x: Any) -> Any:
    """The array in float64, or complex128."""
    x = np.asarray(x)
    return x.astype(np.complex128 if x.dtype.kind == "c" else np.float64, copy=False)


def type_text(x: Any) -> str:
    """The type of an array as the IR writes it."""
    return f"{dtype_of(x)}[{','.join(map(str, np.shape(x)))}]"


def _form_differs(source: Any, candidate: Any) -> str:
    source, candidate = np.asarray(source), np.asarray(candidate)
    if source.shape != candidate.shape:
        return f"the shape is {list(candidate.shape)}, not {list(source.shape)}"
    if dtype_of(source) != dtype_of(candidate):
        return f"the dtype is {dtype_of(candidate)}, not {dtype_of(source)}"
    return ""


# ---- exact outputs ------------------------------------------------------------------------------------


def _judge_exact(finding: OutputFinding, oracle: Any, source: Any, candidate: Any) -> OutputFinding:
    """Equal to the source, or, where source and oracle disagree, to the oracle."""
    unequal = np.asarray(source) != np.asarray(candidate)
    if np.shape(oracle) == np.shape(source):
        unequal &= np.asarray(oracle).astype(np.asarray(source).dtype) != np.asarray(candidate)
    count = int(np.count_nonzero(unequal))
    summary = Summary(digest=digest([source if count else candidate]))
    if not count:
        return replace(finding, oracle=summary)
    place = tuple(int(i) for i in np.argwhere(unequal)[0])
    reason = f"{count} of {unequal.size} elements differ"
    return replace(
        finding, status=Status.WRONG, reason=reason, excess=math.inf, oracle=summary, **_shown(source, candidate, place)
    )


def _shown(expected: Any, got: Any, place: tuple[int, ...]) -> dict[str, Any]:
    shown = {"expected": describe_number(np.asarray(expected)[place]), "got": describe_number(np.asarray(got)[place])}
    return {"place": place, **shown}


# ---- places of NaN and the infinities -----------------------------------------------------------------


def _special_places_differ(oracle: Any, source: Any, candidate: Any) -> str:
    """Where source and oracle agree, the candidate must; where they do not (overflow), it may be as either."""
    if not special_values_differ(source, candidate) or not special_values_differ(oracle, candidate):
        return ""
    agree = _classes(source) == _classes(oracle)
    off = agree & (_classes(candidate) != _classes(source))
    neither = ~agree & (_classes(candidate) != _classes(source)) & (_classes(candidate) != _classes(oracle))
    if not np.any(off | neither):
        return ""
    return special_values_differ(np.where(off | neither, source, 0), np.where(off | neither, candidate, 0))


def _classes(x: Any) -> Any:
    """0 for finite, 1 for NaN, 2 for +Inf, 3 for −Inf; of complex numbers only whether they are finite."""
    if np.iscomplexobj(x):
        return (~np.isfinite(x)).astype(np.int8)
    return np.isnan(x) * 1 + np.isposinf(x) * 2 + np.isneginf(x) * 3


def special_counts(x: Any) -> tuple[int, ...]:
    """How many NaN, +Inf and −Inf there are."""
    return tuple(int(np.count_nonzero(_classes(x) == c)) for c in (1, 2, 3))


def _special_place(oracle: Any, candidate: Any) -> tuple[int, ...]:
    off = np.argwhere(_classes(oracle) != _classes(candidate))
    return tuple(int(i) for i in off[0]) if len(off) else (0,) * np.ndim(oracle)


# ---- errors -------------------------------------------------------------------------------------------


def _judge_errors(
    finding: OutputFinding, output: Output, draws: Sequence[tuple[Any, Any, Any]], profile: Any | None
) -> OutputFinding:
    dtype = max(dtype_of(draws[0][1]), output.precision, key=rounding_unit)
    factor, unit = tolerance_factor(dtype), rounding_unit(dtype)
    floor = _LIBRARY * unit if output.rounded else 0.0
    errors = [_errors(*(wide(x) for x in draw)) for draw in draws]
    source = np.concatenate([e.source for e in errors])
    candidate = np.concatenate([e.candidate for e in errors])
    size = np.concatenate([e.size for e in errors])
    norms = [_norm(e) for e in (source, candidate, size)]
    estimate = np.zeros(1) if profile is None else np.asarray(profile, np.float64)
    allowed_norm = max(factor * norms[0], factor * _norm(estimate) * math.sqrt(len(draws)), floor * norms[2])
    # Draws are pooled tile by tile: the same place of each draw is one tile.
    tiles = [np.max([tile_maximum(getattr(e, n)) for e in errors], axis=0) for n in ("source", "candidate", "size")]
    # A tile where the source was lucky is allowed its error over the whole output, at the tile's own magnitude.
    level = norms[0] / (norms[2] or 1.0)
    expected = np.maximum(tiles[0], level * tiles[2])
    if profile is not None:
        expected = np.maximum(expected, _LARGEST * tile_maximum(estimate))
    allowed = np.maximum(factor * expected, floor * tiles[2])
    excess_norm, excess_tile = _ratio(norms[1], allowed_norm), _ratio(tiles[1], allowed)
    largest = float(size.max(initial=0.0)) or 1.0
    finding = replace(
        finding,
        factor=factor,
        norm_source=norms[0] / (norms[2] or 1.0),
        norm_candidate=norms[1] / (norms[2] or 1.0),
        worst_source=float(source.max(initial=0.0)) / largest,
        worst_candidate=float(candidate.max(initial=0.0)) / largest,
        excess=max(float(excess_norm), float(excess_tile.max(initial=0.0))),
        oracle=summarise(draws[0][0], allowed_norm, allowed),
    )
    if finding.excess <= 1.0:
        return finding
    tile = int(np.argmax(excess_tile))
    which, place = _worst(errors, tile, np.shape(draws[0][0]))
    where = "in norm" if excess_norm >= excess_tile[tile] else f"in a tile of {min(TILE, errors[0].size.size)} elements"
    reason = f"the error is {finding.excess:.3g} × what is allowed {where} (K={factor:g})"
    return replace(finding, status=Status.WRONG, reason=reason, **_shown(draws[which][0], draws[which][2], place))


def _norm(x: Any) -> float:
    return float(np.linalg.norm(np.ravel(x)))


@dataclass(frozen=True)
class _Errors:
    source: Any
    candidate: Any
    size: Any


def _errors(oracle: Any, source: Any, candidate: Any) -> _Errors:
    """Distances from the oracle, row-major; where the source overflows it is given the error it has elsewhere."""
    finite = np.isfinite(oracle) & np.isfinite(candidate)
    both = finite & np.isfinite(source)
    with np.errstate(all="ignore"):
        of_source = np.where(both, np.abs(source - oracle), 0.0).reshape(-1)
        of_candidate = np.where(finite, np.abs(candidate - oracle), 0.0).reshape(-1)
        size = np.where(finite, np.abs(oracle), 0.0).reshape(-1)
    lost = (finite & ~both).reshape(-1)
    if lost.any():
        of_source[lost] = of_candidate[lost]
    return _Errors(of_source, of_candidate, size)


def _ratio(error: Any, allowed: Any) -> Any:
    """error / allowed, with 0/0 = 0."""
    error, allowed = np.asarray(error), np.asarray(allowed)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(error == 0, 0.0, np.where(allowed == 0, np.inf, error / allowed))


def _worst(errors: Sequence[_Errors], tile: int, shape: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """The draw and the place of the largest error in a tile."""
    pieces = [e.candidate[tile * TILE : (tile + 1) * TILE] for e in errors]
    which = int(np.argmax([p.max(initial=0.0) for p in pieces]))
    flat = tile * TILE + (int(np.argmax(pieces[which])) if pieces[which].size else 0)
    return which, tuple(int(i) for i in np.unravel_index(flat, shape)) if shape else ()


def summarise(oracle: Any, allowed_norm: float, allowed: Any) -> Summary:
    """What is remembered of an oracle's output, with the bound in norm and those of each tile."""
    flat = wide(oracle).reshape(-1)
    finite = np.isfinite(flat)
    places = np.unique(np.linspace(0, max(flat.size - 1, 0), _REMEMBERED).astype(np.int64))[: flat.size]
    return Summary(
        norm=float(np.linalg.norm(np.abs(flat[finite]))),
        norm_bound=allowed_norm,
        special=special_counts(flat),
        places=tuple(int(p) for p in places),
        values=tuple(describe_number(flat[p]) for p in places),
        bounds=tuple(float(allowed[p // TILE]) for p in places),
    )
