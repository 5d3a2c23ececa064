"""Comparing a program with what a report remembers of the oracle, where there is no source to run any more.

Weaker than proof C, and said to be: of each output a report keeps its form, its norm, a digest where it must be
exact, and a few elements with the error they were allowed. The verdict is at most VERIFIED.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dragoman.ir.cases import Case, Style, digest
from dragoman.ir.findings import CaseFinding, Comparison, OutputFinding, Skipped, Status, Verdict
from dragoman.ir.judge import special_counts, type_text, wide
from dragoman.ir.roles import InputRole
from dragoman.ir.runner import Runner


def compare_with_memory(
    recorded: Comparison, roles: Sequence[InputRole], candidate: Runner, note: str, budget: float | None = None
) -> Comparison:
    """Run the recorded cases again and hold the results against what is remembered of the oracle's."""
    started = time.perf_counter()
    found: list[CaseFinding] = []
    skipped: list[Skipped] = []
    for case in recorded.cases:
        reason = _against(case, budget, time.perf_counter() - started)
        inputs = [] if reason else Case(case.symbols, Style(case.style), case.seed).inputs(roles)
        if not reason and digest(inputs) != case.inputs:
            reason = "its inputs come out otherwise with this version of NumPy"
        if reason:
            skipped.append(Skipped(case.name, reason))
        else:
            found.append(_run(case, candidate, inputs))
    wrong = next((c for c in found if c.status is not Status.OK), None)
    if wrong is not None:
        verdict, reason = Verdict.DIFFERENT, f"in the case {wrong.name}: {_first_reason(wrong)}"
    elif not found:
        verdict, reason = Verdict.INCONCLUSIVE, "no recorded case could be run again"
    elif not recorded.verdict.holds:
        verdict, reason = recorded.verdict, f"as recorded: {recorded.reason}"
    else:
        verdict, reason = Verdict.VERIFIED, f"{len(found)} cases give what was recorded"
    return replace(
        recorded,
        verdict=verdict,
        reason=reason,
        candidate=candidate.name,
        oracle=f"what was recorded of {recorded.oracle}",
        cases=tuple(found),
        skipped=tuple(skipped),
        divergence=None,
        notes=(note,),
        seconds=time.perf_counter() - started,
        budget=budget,
    )


def _against(case: CaseFinding, budget: float | None, spent: float) -> str:
    if case.style == Style.GIVEN.value:
        return "its inputs were given and are not kept"
    if case.style not in {s.value for s in Style}:
        return f"there is no style of cases {case.style[:80]!r}"
    if case.failure:
        return f"the candidate failed: {case.failure}"
    return "the budget is spent" if budget is not None and spent > budget else ""


def _run(case: CaseFinding, candidate: Runner, inputs: Sequence[Any]) -> CaseFinding:
    started = time.perf_counter()
    try:
        outputs = [np.asarray(x) for x in candidate.run(inputs)]
    except Exception as error:
        return replace(case, failure=f"{type(error).__name__}: {error}"[:300], outputs=())
    if len(outputs) != len(case.outputs):
        return replace(case, failure=f"{len(outputs)} outputs, not {len(case.outputs)}", outputs=())
    judged = tuple(recalled(f, x) for f, x in zip(case.outputs, outputs, strict=True))
    return replace(case, outputs=judged, seconds=time.perf_counter() - started)


def recalled(recorded: OutputFinding, got: Any) -> OutputFinding:
    """An output held against what is remembered: form, places of special values, norm, and single elements."""
    memory = recorded.oracle
    form = type_text(got)
    if form != recorded.type:
        return _wrong(recorded, f"it is {form}, not {recorded.type}")
    if memory.digest:
        same = digest([got]) == memory.digest
        return recorded if same else _wrong(recorded, "its elements are not those that were recorded")
    flat = wide(got).reshape(-1)
    if special_counts(flat) != memory.special:
        return _wrong(recorded, f"NaN, +Inf, -Inf occur {special_counts(flat)} times, not {memory.special}")
    norm = float(np.linalg.norm(np.abs(flat[np.isfinite(flat)])))
    if not abs(norm - memory.norm) <= memory.norm_bound + 1e-12 * memory.norm:
        return _wrong(recorded, f"its norm is {norm!r}, not {memory.norm!r}")
    for place, value, bound in zip(memory.places, memory.values, memory.bounds, strict=True):
        if not 0 <= place < flat.size or not _close(flat[place], value, bound):
            where = tuple(int(i) for i in np.unravel_index(min(max(place, 0), max(flat.size - 1, 0)), np.shape(got)))
            reason = f"it is further than {bound:.3g} from what was recorded"
            return replace(_wrong(recorded, reason), place=where, expected=value, got=repr(flat[place].item()))
    return recorded


def _close(x: Any, remembered: str, bound: float) -> bool:
    try:
        value = complex(remembered.strip("()"))
    except ValueError:
        return False
    if not math.isfinite(abs(value)):
        return True  # counted with the special values
    return bool(abs(x - value) <= bound * (1 + 1e-9))


def _wrong(recorded: OutputFinding, reason: str) -> OutputFinding:
    return replace(recorded, status=Status.WRONG, reason=reason, excess=math.inf)


def _first_reason(case: CaseFinding) -> str:
    if case.failure:
        return case.failure
    return next(f"{o.name!r}: {o.reason}" for o in case.outputs if o.status is not Status.OK)
