"""The error of each node in half precision, on the values that reach it: what decides where it computes.

One run in float64 gives each node its true operands and result. Beside it the node is run on those operands rounded to
half, as a kernel does: half in, f32 inside, half out. Its error, in norm and at its largest, may be K·8·u of the
result, u the rounding unit of half and K the factor of proof C. A number beyond the range of half may become infinite
as long as no user of it shows: a mask's −3e38 is as good as −∞, a sum of squares is not. Exact results (indices,
comparisons) must stay as they are.

Where a node fails, what it needs is measured too: computing in f32 on half operands, or some operand in f32 as well,
which then keeps what makes that operand in f32. Values are dropped after their last use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dragoman.ir.arithmetic import FLOAT64, NATIVE, Array
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.interpreter import Interpreter
from dragoman.ir.local import rounding_unit, tolerance_factor
from dragoman.ir.types import F32, DType
from dragoman.passes.precision.narrow import Forms, computes_in_f32, rounded

_UNITS = 8.0  # of the result: what operands, result and an elementary function inside may be off, as in proofs B and C


def allowed_error(half: DType) -> float:
    """The relative error that a node may have in half precision."""
    return tolerance_factor(half) * _UNITS * rounding_unit(half)


def largest(half: DType) -> float:
    """The largest finite number of a type."""
    import ml_dtypes

    return float(ml_dtypes.finfo(half.numpy).max)


@dataclass
class Finding:
    """What was measured of a node: its worst error, why it cannot compute in half (empty: it can), and which operands
    it needs in f32 when it does compute in f32.
    """

    error: float = 0.0
    reason: str = ""
    needs: set[int] = field(default_factory=set[int])


@dataclass(frozen=True)
class _Miss:
    error: float
    reason: str


class Measuring(Interpreter):
    """A float64 run of a graph that measures each node. Findings add up over runs; the worst stays.

    `only_special` counts what leaves the range of half, or is no number, and no other error: for inputs that no model
    is meant to be accurate on.
    """

    def __init__(self, graph: Graph, forms: Forms) -> None:
        super().__init__(graph, FLOAT64)
        self.findings: dict[Node, Finding] = {n: Finding() for n in graph if computes_in_f32(n)}
        self.beyond: set[Value] = set()  # values that half precision cannot hold
        self.only_special = False
        self._forms, self._half = forms, forms.half
        self._allowed, self._largest = allowed_error(forms.half), largest(forms.half)
        self._alone: dict[Any, Graph] = {}
        for node, finding in self.findings.items():
            form = forms.of(node)
            if isinstance(form, str):
                finding.reason = f"it has no form in {self._half}: {form}"

    def run_node(self, node: Node, operands: Sequence[Array | None]) -> tuple[Array, ...]:
        """Run, and measure beside it."""
        results = super().run_node(node, operands)
        finding = self.findings.get(node)
        if finding is not None:
            self._measure(node, finding, operands, results)
        return results

    def run_region(self, region: Graph, operands: Sequence[Array]) -> list[Array]:
        """Without measuring: a node with regions is measured as one."""
        inner = Interpreter(region, self.m)
        inner.symbols.update(self.symbols)
        return inner.run(operands)

    # ---- one node ------------------------------------------------------------------------------------

    def _measure(
        self, node: Node, finding: Finding, operands: Sequence[Array | None], results: Sequence[Array]
    ) -> None:
        self.beyond.update(v for v, x in zip(node.results, results, strict=True) if self._leaves_range(v, x))
        # A move computes nothing: what rounding does to what it moves shows in those that use it.
        measurable = not isinstance(self._forms.of(node), str) and (not node.op.movement or self._is_output(node))
        miss = self._in_half(node, operands, results) if measurable else None
        if miss is not None and not miss.error <= finding.error:
            finding.error = miss.error
            finding.reason = miss.reason or finding.reason
        floats = [i for i, v in enumerate(node.operands) if v is not None and v.type.dtype == F32]
        if node.op.movement:
            finding.needs.update(floats)  # to move in f32 what is in half helps nobody
        elif finding.reason or any(self._leaves_range(node.operands[i], operands[i]) for i in floats):
            finding.needs.update(self._needed(node, operands, results, floats))

    def _is_output(self, node: Node) -> bool:
        return any(user is self.graph.terminator for r in node.results for user in r.users)

    def _in_half(self, node: Node, operands: Sequence[Array | None], results: Sequence[Array]) -> _Miss | None:
        if node.op.movement:
            got: list[Array] = [self._rounded(v, x) for v, x in zip(node.results, results, strict=True)]
        else:
            given = [self._rounded(v, x) for v, x in zip(node.operands, operands, strict=True) if v is not None]
            got = self._run(self._forms.program(node), given)
        return self._missed(node, results, got, infinite=True)

    def _needed(
        self, node: Node, operands: Sequence[Array | None], results: Sequence[Array], floats: Sequence[int]
    ) -> Sequence[int]:
        """The fewest operands that must be in f32 for the node to hold its bound in f32: none, one, or all."""
        for needs in ((), *((i,) for i in floats)):
            given = [
                self._rounded(v, x, keep=i in needs)
                for i, (v, x) in enumerate(zip(node.operands, operands, strict=True))
                if v is not None
            ]
            miss = self._missed(node, results, self._run(self._as_it_is(node), given), infinite=False)
            if miss is None or not miss.reason:
                return needs
        return floats

    def _rounded(self, value: Value | None, x: Array, keep: bool = False) -> Array:
        if value is None or value.type.dtype != F32:
            return x if value is None else self._stored(value, x)
        return np.asarray(x).astype(np.float32) if keep else rounded(x, self._half)

    @staticmethod
    def _stored(value: Value, x: Array) -> Array:
        return np.asarray(x).astype(value.type.dtype.numpy, copy=False)

    def _as_it_is(self, node: Node) -> Graph:
        key = (node.op, node.operand_types)
        found = self._alone.get(key)
        if found is None:
            found = self._alone[key] = Graph()
            operands = [None if v is None else found.add_input(v.type) for v in node.operands]
            found.set_outputs(found.insert(node.op, operands).results)
        return found

    def _run(self, program: Graph, given: Sequence[Array]) -> list[Array]:
        interpreter = Interpreter(program, NATIVE)
        interpreter.symbols.update(self.symbols)
        declared = [v.type.dtype.numpy for v in program.inputs]
        return interpreter.run([np.asarray(x).astype(d, copy=False) for x, d in zip(given, declared, strict=True)])

    # ---- judging -------------------------------------------------------------------------------------

    def _leaves_range(self, value: Value | None, x: Array | None) -> bool:
        if value is None or x is None or value.type.dtype != F32:
            return False
        size = np.abs(x)
        return bool(np.any(np.isfinite(size) & (size > self._largest)))

    def _missed(self, node: Node, results: Sequence[Array], got: Sequence[Array], *, infinite: bool) -> _Miss | None:
        worst: _Miss | None = None
        for value, truth, found in zip(node.results, results, got, strict=True):
            miss = self._missed_result(value, np.asarray(truth), np.asarray(found), infinite)
            if miss is not None and (worst is None or not miss.error <= worst.error):
                worst = miss
        return worst

    def _missed_result(self, value: Value, truth: Array, found: Array, infinite: bool) -> _Miss | None:
        dtype = value.type.dtype
        if not dtype.is_inexact:
            return self._missed_exact(truth, found)
        if not dtype.is_float:
            return None
        if truth.shape != found.shape:
            return _Miss(np.inf, f"its shape is {list(found.shape)}, not {list(truth.shape)}")
        found = found.astype(np.float64)
        with np.errstate(all="ignore"):
            same = (found == truth) | (np.isnan(found) & np.isnan(truth))
            if infinite:
                same |= np.isinf(found) & (np.abs(truth) > self._largest) & (np.sign(found) == np.sign(truth))
        odd = ~same & ~np.isfinite(found) & (np.abs(truth) <= self._largest if self.only_special else True)
        if np.any(odd | (~same & ~np.isfinite(truth))):
            at = np.abs(truth[np.isfinite(truth)]).max(initial=0.0)
            return _Miss(np.inf, f"it leaves the range of {self._half} (its numbers reach {at:.3g} in float64)")
        if self.only_special:
            return None
        # What half cannot hold is no measure for the rest.
        held = np.isfinite(truth) & ((np.abs(truth) <= self._largest) | (not infinite))
        return self._missed_error(np.where(same, 0.0, found - np.where(same, 0.0, truth)), np.where(held, truth, 0.0))

    def _missed_exact(self, truth: Array, found: Array) -> _Miss | None:
        if truth.shape != found.shape:
            return _Miss(np.inf, "the extents of its result change")
        changed = int(np.count_nonzero(truth != found)) if not self.only_special else 0
        return _Miss(np.inf, f"{changed} of {truth.size} elements of its exact result change") if changed else None

    def _missed_error(self, off: Array, truth: Array) -> _Miss:
        error = max(
            _ratio(np.linalg.norm(off.ravel()), np.linalg.norm(truth.ravel())),
            _ratio(np.abs(off).max(initial=0.0), np.abs(truth).max(initial=0.0)),
        )
        reason = f"its error is {error:.2e} in {self._half}, {self._allowed:.2e} is allowed"
        return _Miss(error, reason if error > self._allowed else "")


def _ratio(error: Any, size: Any) -> float:
    return float(error / size) if size else (np.inf if error else 0.0)
