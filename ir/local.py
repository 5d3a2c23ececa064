"""Proof B: a rewritten region against the same region in float64, on the values that reach it.

Two demands, over each tile of elements. In float64 both regions agree to what a few hundred units of float64's
rounding do to the original region on these values, measured by shaking it (`dragoman.ir.noise`): a wrong constant or
axis fails here by many orders of magnitude, whatever large numbers pass by (a mask's −3e38, say). In the declared
precision the error of the rewritten region is at most K times that of the original, or what its own rounding steps
may do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dragoman.ir.arithmetic import FLOAT64, NATIVE, Arithmetic
from dragoman.ir.graph import Graph
from dragoman.ir.interpreter import Interpreter
from dragoman.ir.noise import noisy_outputs, spread
from dragoman.ir.types import DType

TILE = 1024  # elements over which errors are compared: enough for a stable maximum
_FLOAT64_SLACK = 512  # units of float64's rounding by which operands and results may be off
_ROUNDING_SLACK = 8  # units of the declared rounding, likewise
_SURE = 4  # units of the result itself that are rounding without looking further
UNIT = {"f64": 2.0**-53, "f32": 2.0**-24, "f16": 2.0**-11, "bf16": 2.0**-8, "f8e4m3fn": 2.0**-4, "f8e5m2": 2.0**-3} | {
    "f8e4m3fnuz": 2.0**-4,
    "f8e5m2fnuz": 2.0**-3,
    "f4e2m1": 2.0**-2,
    "f8e8m0": 2.0**-1,
}


@dataclass(frozen=True)
class LocalResult:
    """The outcome of proof B: `ok`, why not, and the largest error seen before and after, relative to the result.

    `has_meaning` tells that the original region runs on these values: it may take the fifth of four.
    """

    ok: bool
    reason: str = ""
    error_before: float = 0.0
    error_after: float = 0.0
    has_meaning: bool = True


def rounding_unit(dtype: DType) -> float:
    """Half the distance from 1 to the next number of this type (complex: of its parts)."""
    return UNIT.get(dtype.name, UNIT["f64"] if dtype.name == "c128" else UNIT["f32"])


def tolerance_factor(dtype: DType) -> float:
    """K: how much worse than the source a result may be."""
    return 3.0 if dtype.name in ("f16", "bf16") else 2.0


def check_local(before: Graph, after: Graph, inputs: Sequence[Any]) -> LocalResult:
    """Run both regions on `inputs` (arrays in the inputs' declared types) in float64 and in the declared precision."""
    if len(before.outputs) != len(after.outputs):
        return LocalResult(False, f"{len(before.outputs)} results became {len(after.outputs)}")
    runs: list[list[Any]] = []
    for graph, arithmetic in ((before, FLOAT64), (before, NATIVE), (after, FLOAT64), (after, NATIVE)):
        try:
            runs.append(_run(graph, inputs, arithmetic))
        except Exception as error:  # a region may fail in any way that NumPy can
            which = "original" if graph is before else "rewritten"
            reason = f"the {which} region does not run: {type(error).__name__}: {error}"
            return LocalResult(False, reason, has_meaning=graph is not before)
    check = _Check(before, inputs, runs[0], runs[1], runs[2], runs[3])
    for index in range(len(before.outputs)):
        reason = check.output(index)
        if reason:
            return LocalResult(False, f"{before.output_names[index]}: {reason}", check.worst_before, check.worst_after)
    return LocalResult(True, "", check.worst_before, check.worst_after)


def _run(graph: Graph, inputs: Sequence[Any], arithmetic: Arithmetic) -> list[Any]:
    return [np.asarray(x) for x in Interpreter(graph, arithmetic).run(inputs)]


@dataclass
class _Check:
    """The four runs of one check, and what shaking the original does, measured once it is needed."""

    before: Graph
    inputs: Sequence[Any]
    exact_before: list[Any]
    native_before: list[Any]
    exact_after: list[Any]
    native_after: list[Any]
    worst_before: float = 0.0
    worst_after: float = 0.0

    def __post_init__(self) -> None:
        self._spreads: dict[float, list[Any]] = {}

    def output(self, index: int) -> str:
        """Why output `index` fails, or nothing."""
        dtype = self.before.outputs[index].type.dtype
        exact, other = self.exact_before[index], self.exact_after[index]
        reason = _same_form(exact, other) or self._agrees_in_float64(index, dtype)
        return reason or (self._compare_rounding(index, dtype) if dtype.is_inexact else "")

    def _agrees_in_float64(self, index: int, dtype: DType) -> str:
        x, y = self.exact_before[index], self.exact_after[index]
        if not dtype.is_inexact:
            return "" if np.array_equal(x, y) else f"{int(np.count_nonzero(x != y))} of {x.size} elements differ"
        reason = special_values_differ(x, y)
        if reason or not x.size:
            return reason
        error = tile_maximum(finite_error(x, y))
        sure = _SURE * UNIT["f64"] * tile_maximum(_finite(np.abs(x)))
        if np.all(error <= sure):
            return ""
        allowed = np.maximum(sure, self._moved_by(_FLOAT64_SLACK * UNIT["f64"], index))
        if np.all(error <= allowed):
            return ""
        tile = int(np.argmax(error - allowed))
        return f"float64 results differ by {error[tile]:.3g} where {allowed[tile]:.3g} is rounding"

    def _compare_rounding(self, index: int, dtype: DType) -> str:
        exact = self.exact_before[index]
        wide = np.complex128 if dtype.is_complex else np.float64
        before, after = self.native_before[index].astype(wide), self.native_after[index].astype(wide)
        finite = np.isfinite(exact) & np.isfinite(before)
        if not np.all(np.isfinite(after) | ~finite):
            self.worst_after = float("inf")
            return f"overflows {dtype} where the original does not"
        error_before, error_after = (tile_maximum(np.where(finite, finite_error(x, exact), 0)) for x in (before, after))
        size = tile_maximum(np.where(finite, _finite(np.abs(exact)), 0))
        scale = float(size.max(initial=0.0)) or 1.0
        self.worst_before = max(self.worst_before, float(error_before.max(initial=0.0)) / scale)
        self.worst_after = max(self.worst_after, float(error_after.max(initial=0.0)) / scale)
        unit = _ROUNDING_SLACK * rounding_unit(dtype)
        allowed = np.maximum(tolerance_factor(dtype) * error_before, unit * size)
        if np.all(error_after <= allowed) or np.all(error_after <= np.maximum(allowed, self._moved_by(unit, index))):
            return ""
        return f"error {self.worst_after:.3g} in {dtype}, that of the original is {self.worst_before:.3g}"

    def _moved_by(self, unit: float, index: int) -> Any:
        """How far each tile of an output moves when the original region is shaken by `unit`."""
        if unit not in self._spreads:
            self._spreads[unit] = spread(self.exact_before, noisy_outputs(self.before, self.inputs, unit))
        return tile_maximum(self._spreads[unit][index])


def _same_form(x: Any, y: Any) -> str:
    if x.shape != y.shape:
        return f"shape {list(x.shape)} became {list(y.shape)}"
    return "" if x.dtype == y.dtype else f"dtype {x.dtype} became {y.dtype}"


def special_values_differ(x: Any, y: Any) -> str:
    """A difference in where NaN and the infinities stand, in words; empty for none."""
    for name, test in (("NaN", np.isnan), ("+Inf", np.isposinf), ("-Inf", np.isneginf)):
        if np.iscomplexobj(x) and name != "NaN":
            continue
        a, b = test(x), test(y)
        if not np.array_equal(a, b):
            return f"{name} at {int(np.count_nonzero(a & ~b))} places is lost, at {int(np.count_nonzero(b & ~a))} new"
    return ""


def finite_error(x: Any, y: Any) -> Any:
    """Element by element, the distance where both are finite, else 0."""
    with np.errstate(all="ignore"):
        return _finite(np.abs(x - y))


def _finite(x: Any) -> Any:
    return np.where(np.isfinite(x), x, 0)


def tile_maximum(errors: Any) -> Any:
    """The largest of each run of TILE elements, in row-major order."""
    flat = np.asarray(errors).reshape(-1)
    if not flat.size:
        return np.zeros(1)
    return np.pad(flat, (0, -flat.size % TILE)).reshape(-1, TILE).max(axis=1)
