"""How the numbers of one case of a suite are judged: our interpreter in float64 against the framework in double, the
ONNX model in ONNX Runtime (optimiser off) by the rule of proof C.

Refuses nothing: whatever happens is an outcome.
"""

from __future__ import annotations

import math
import os
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
from onnx.reference import ReferenceEvaluator

from dragoman.backends.onnx import to_model_proto
from dragoman.ir.findings import Status
from dragoman.ir.graph import Graph
from dragoman.ir.interpreter import run
from dragoman.ir.judge import judge, outputs_of, wide
from dragoman.ir.local import rounding_unit, special_values_differ
from dragoman.ir.noise import noisy_outputs, spread

Resolve = Callable[[Sequence[Any]], list[Any]]
# Far below f32, far above the noise of two float64 computations.
_DOUBLE_NOISE, _DOUBLE_SHARE = 2.0**-40, 2.0**-16
_NO_KERNEL = (
    "Could not find an implementation",
    "NOT_IMPLEMENTED",
    "is not currently registered or supported",
    "ONNX Runtime has no",
)


@dataclass(frozen=True)
class Outcome:
    """What became of one sample."""

    kind: str
    reason: str = ""


@dataclass(frozen=True)
class Wrong:
    reason: str
    special: bool  # another shape, dtype, integer or place of NaN: no matter of rounding


def misjudged(graph: Graph, resolve: Resolve, oracle: Any, source: Any, got: Any) -> Wrong | None:
    """The first output that proof C's rule does not accept."""
    form = [np.asarray(s).dtype == np.asarray(g).dtype for s, g in zip(source, got, strict=True)]
    if not all(form):
        return Wrong(f"the dtypes are {[str(np.asarray(g).dtype) for g in got]}", True)
    known = outputs_of(graph)
    triples = zip(resolve(oracle), resolve(source), resolve(got), strict=True)
    for index, (o, s, g) in enumerate(triples):
        finding = judge(known[min(index, len(known) - 1)], o, s, g)
        if finding.status is Status.WRONG:
            place = f" at {finding.place}: {finding.got} for {finding.expected}" if finding.expected else ""
            return Wrong(f"{finding.name}: {finding.reason}{place}", math.isinf(finding.excess))
    return None


def is_noise(graph: Graph, inputs: Sequence[Any], oracle: Sequence[Any], got: Sequence[Any]) -> bool:
    """Whether shaking every number by 8 units of rounding moves the results as far as they are off."""
    exact = [np.asarray(x) for x in run(graph, *inputs)]
    for index, (o, g) in enumerate(zip(oracle, got, strict=True)):
        dtype = graph.outputs[index].type.dtype
        if not dtype.is_float:
            continue
        moved = spread(exact, noisy_outputs(graph, inputs, 8 * rounding_unit(dtype), 4))[index]
        error = np.abs(wide(g) - wide(o))
        if float(np.where(np.isfinite(error), error, 0.0).max(initial=0.0)) > float(np.max(moved, initial=0.0)):
            return False
    return True


def blamed(
    emitted: Graph,
    graph: Graph,
    inputs: Sequence[Any],
    resolve: Resolve,
    oracle: Any,
    source: Any,
    wrong: Wrong,
) -> Outcome:
    """ONNX Runtime's own doing, if ONNX's reference gives PyTorch's numbers for the same model; wrong otherwise."""
    proto = to_model_proto(emitted)
    feeds = dict(zip((i.name for i in proto.graph.input), inputs, strict=True))
    try:
        witness = [np.asarray(x) for x in ReferenceEvaluator(proto).run(None, feeds)]
    except Exception:  # ONNX's reference lacks some operators and fails on others: no witness
        return Outcome("wrong", f"ONNX: {wrong.reason}")
    if not misjudged(graph, resolve, oracle, source, witness):
        return Outcome("kernel", wrong.reason)
    return Outcome("wrong", f"ONNX: {wrong.reason}")


def without_kernel(text: str) -> bool:
    return any(mark in text for mark in _NO_KERNEL)


def copies(inputs: Sequence[Any]) -> list[Any]:
    return [np.array(x) for x in inputs]


def off_in_double(ours: Sequence[Any], oracle: Sequence[Any], source: Sequence[Any], narrow: bool) -> str:
    """Why our float64 run is not torch's in double; empty if it is."""
    if len(ours) != len(oracle):
        return f"{len(ours)} outputs, not {len(oracle)}"
    for index, (x, o, s) in enumerate(zip(ours, oracle, source, strict=True)):
        x, o, s = (np.asarray(v) for v in (x, o, s))
        if x.shape != o.shape:
            return f"output {index} has the shape {x.shape}, not {o.shape}"
        if s.dtype.kind in "biu" and s.dtype.itemsize <= 8:
            if not np.array_equal(x, o):
                return f"output {index} is {shown(x)}, not {shown(o)}"
            continue
        x, o, s = wide(x), wide(o), wide(s)
        reason = special_values_differ(o, x)
        if reason:
            return f"output {index}: {reason}: {shown(x)}, not {shown(o)}"
        # A constant that is stored as torch gives it in f32 is as it should be.
        both = np.isfinite(o) & np.isfinite(x) & (x != s)
        size = float(np.abs(o[np.isfinite(o)]).max(initial=0.0))
        error = float(np.abs(x - o)[both].max(initial=0.0))
        finite = both & np.isfinite(s)
        own = float(np.abs(s - o)[finite].max(initial=0.0))
        allowed = 2.0**-18 * size if narrow else max(_DOUBLE_NOISE * size, _DOUBLE_SHARE * own)
        if error > allowed:
            return f"output {index} is off by {error:.3g} of {size:.3g}: {shown(x)}, not {shown(o)}"
    return ""


def shown(x: Any) -> str:
    return " ".join(np.array2string(np.asarray(x), threshold=12, precision=6).split())[:160]


def first_lines(error: BaseException) -> str:
    """The lines of a message that say what is the matter."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " | ".join(lines[:2])[:300]


def where_raised(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"({frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno})" if frames else ""
