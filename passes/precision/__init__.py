"""Half precision by measurement: f32 nodes go to f16 or bf16, but for those whose error grows beyond the budget there.

    graph, precision = reduce_precision(graph, F16, source=runner, examples=arrays)

1. Each node is measured on the values that reach it (`measure`); what fails stays in f32 (`choose`).
2. The whole is held against the source in half precision by the rule of proof C (`standard`, `whole`); as long as it
   is beyond its bound, the nodes that contribute most go back to f32.

No node is named in advance. What an op's type rule refuses in half, or the target cannot express there, stays in f32.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from dragoman.ir.cases import Case, Style, elements, plan_cases, sizes_of
from dragoman.ir.errors import UsageError
from dragoman.ir.graph import Graph, Node
from dragoman.ir.ops.elementwise import Cast
from dragoman.ir.roles import input_roles
from dragoman.ir.runner import Runner
from dragoman.ir.types import BF16, F16, DType
from dragoman.ir.verify import verify
from dragoman.passes.legalize import Supports, legalize
from dragoman.passes.manager import Context
from dragoman.passes.pipelines import canonicalise
from dragoman.passes.precision.choose import failing, moves_with, settled
from dragoman.passes.precision.measure import Measuring, allowed_error
from dragoman.passes.precision.narrow import Forms, computes_in_f32, narrowed
from dragoman.passes.precision.record import Kept, Precision
from dragoman.passes.precision.standard import InHalf
from dragoman.passes.precision.whole import MOST, Whole, put_back

__all__ = ["HALVES", "InHalf", "Kept", "Precision", "half_dtype", "reduce_precision"]

HALVES: dict[str, DType] = {"f16": F16, "bf16": BF16}
_MOST_ELEMENTS = 1 << 31  # of all values of a run; a larger case is not measured
_LEAST_ELEMENTS = 100_000  # below that it is the fixed cost of a run
_MEASURING = 0.5  # of the time goes to measuring nodes; the rest judges the whole
_ACCURATE = (Style.GIVEN, Style.TYPICAL, Style.PADDED)  # inputs on which a model is meant to be accurate
_EDGES = (Style.ZEROS, Style.FAINT)  # inputs on which it should at least give numbers


def half_dtype(name: str) -> DType:
    """The element type that `--precision` names. Raises UsageError."""
    if name not in HALVES:
        raise UsageError(f"there is no precision {name!r}: choose {' or '.join(HALVES)}, or leave it out for f32")
    return HALVES[name]


def reduce_precision(
    graph: Graph,
    half: DType,
    *,
    source: Runner | None = None,
    examples: Sequence[Any] = (),
    supports: Supports | None = None,
    seconds: float = 60.0,
    context: Context | None = None,
    progress: Callable[[str], None] = lambda name: None,
) -> tuple[Graph, Precision]:
    """A copy of a graph with its f32 nodes in half precision where that is measured to be good enough, and the record.

    Inputs and outputs keep their names, order and types. `source` runs the model in half and in double precision;
    without it the graph itself does. `examples` are arrays for the inputs; more are made from what the inputs are for.
    `supports` tells what the target expresses. Measuring stops after `seconds`, but one case always runs; what is
    left out then is left to verification. Raises UsageError where no case can be run.
    """
    return _Reduction(graph, half, source, supports, seconds, progress).run(examples, context)


class _Reduction:
    def __init__(
        self,
        graph: Graph,
        half: DType,
        source: Runner | None,
        supports: Supports | None,
        seconds: float,
        progress: Callable[[str], None],
    ) -> None:
        self._graph, self._half, self._supports = graph, half, supports
        self._forms = Forms(half, supports)
        self._standard = InHalf(graph, source, half)
        self._started, self._seconds, self._progress = time.perf_counter(), seconds, progress
        self._measured = Measuring(graph, self._forms)
        self._whole = Whole(graph, self._standard, half)
        self._per_element = 0.0  # seconds that measuring takes

    def run(self, examples: Sequence[Any], context: Context | None) -> tuple[Graph, Precision]:
        nodes = [n for n in self._graph if computes_in_f32(n)]
        if nodes:
            self._measure(plan_cases(self._graph, given=[examples] if len(examples) else []))
        reasons = failing(self._graph, self._measured)
        wide = settled(self._graph, reasons)
        excess = self._whole.excess(self._as_run(wide)) if nodes else 0.0
        chosen: dict[Node, float] = {}
        if excess > 1.0:
            self._progress("put back")
            free = [n for n in nodes if n not in reasons and not n.op.movement]
            chosen, excess = put_back(self._whole, self._written, free, set(reasons), self._is_late)
            reasons |= {n: _put_back(e) for n, e in chosen.items()}
            wide = settled(self._graph, reasons)
        result = narrowed(self._graph, self._forms, wide)
        canonicalise(result, context or Context())
        verify(result)
        kept = moves_with(wide, reasons)
        record = Precision(
            dtype=str(self._half),
            nodes=len(nodes),
            kept=tuple(self._kept(n, kept[n]) for n in nodes if n in kept),
            casts=_casts(result) - _casts(self._graph),
            standard=self._standard.name,
            excess=excess,
            cases=tuple(str(c) for c in self._whole.cases),
            restored=len(chosen),
            seconds=time.perf_counter() - self._started,
        )
        return result, record

    def _measure(self, cases: Sequence[Case]) -> None:
        roles = input_roles(self._graph)
        failure: Exception | None = None
        for case in cases:
            if case.style not in (*_ACCURATE, *_EDGES) or not self._affordable(case):
                continue
            started = time.perf_counter()
            try:
                if case.style in _ACCURATE:
                    self._whole.add(case)
                self._measured.only_special = case.style in _EDGES
                self._measured.run(case.inputs(roles))
            except Exception as error:  # whatever a framework raises on inputs that were made up: no case
                failure = error
            else:
                self._per_element = (time.perf_counter() - started) / max(self._size(case), _LEAST_ELEMENTS)
        if not self._whole.cases:
            reason = f": {failure}" if failure is not None else ""
            raise UsageError(f"the model ran on no inputs, so nothing could be measured in {self._half}{reason}")

    def _affordable(self, case: Case) -> bool:
        """Whether measuring a case, and judging candidates on it, fits into what is left of half of the time."""
        if not self._whole.cases:
            return case.style is Style.GIVEN or self._size(case) <= _MOST_ELEMENTS
        left = self._seconds * _MEASURING - (time.perf_counter() - self._started)
        return self._size(case) * self._per_element <= left

    def _size(self, case: Case) -> int:
        sizes = sizes_of(self._graph, case.arrays) if case.style is Style.GIVEN else case.symbols
        return elements(self._graph, sizes or {})

    def _is_late(self) -> bool:
        return time.perf_counter() - self._started > self._seconds

    def _written(self, computing: Collection[Node]) -> Graph:
        return self._as_run(settled(self._graph, computing))

    def _as_run(self, wide: Collection[Node]) -> Graph:
        """The candidate in the steps that the target makes of it."""
        candidate = narrowed(self._graph, self._forms, wide)
        if self._supports is not None:
            legalize(candidate, self._supports)
        return candidate

    def _kept(self, node: Node, reason: str) -> Kept:
        described = node.op.describe(node.operand_types)
        finding = self._measured.findings[node]
        origin = node.provenance
        allowed = allowed_error(self._half)
        return Kept(described, origin.module, origin.line, reason, finding.error, allowed)


def _put_back(error: float) -> str:
    """Why a node whose group alone makes this error, in terms of what is allowed, went back to f32."""
    if error >= MOST:
        return "the whole is beyond its bound: an exact output changes, or one leaves the range, by rounding here alone"
    return f"the whole is beyond its bound, of which rounding here alone makes {error:.2g}"


def _casts(graph: Graph) -> int:
    return sum(isinstance(n.op, Cast) for n in graph)
