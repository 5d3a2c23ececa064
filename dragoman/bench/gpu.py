"""Chains on a GPU: our kernels against torch eager and torch.compile in its modes, interleaved, errors against float64.

One line of JSON for each subject, appended as it is done, so that a run which is cut off goes on; what failed is
tried again. A table comes last.
Without a device the subjects are small, run interpreted, and only errors mean anything: times are then left out.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from dragoman.bench.chains import Subject, subjects
from dragoman.compiled import check_runs
from dragoman.model import load

_ROUNDS = 15
MODES = ("default", "reduce-overhead", "max-autotune")


def main(out: Path, *, only: str = "", modes: tuple[str, ...] = MODES, dtype: str = "bfloat16") -> list[dict[str, Any]]:
    """Run what is missing in `out` and print the table; returns all rows. `only` is a part of a subject's name."""
    check_runs()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    where = torch.cuda.get_device_name() if device == "cuda" else "no device"
    kind = dtype if device == "cuda" else "float32"
    done = read(out)
    for subject in subjects(small=device == "cpu"):
        key = f"{subject.name} | {kind} | {where}"
        if (key in done and "failure" not in done[key]) or only not in subject.name:
            continue
        row = {"key": key, "name": subject.name, "dtype": kind, "device": where, "date": time.strftime("%Y-%m-%d")}
        try:
            row |= measured(subject, getattr(torch, kind), device, modes)
        except Exception as error:  # one subject that fails must not end the run; it is told in its row
            row["failure"] = f"{type(error).__name__}: {error}"[:500]
        done[key] = row
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    print(table(list(done.values())))
    return list(done.values())


def read(out: Path) -> dict[str, dict[str, Any]]:
    """Rows of earlier runs by their keys; a last line that was cut off is left out."""
    rows: dict[str, dict[str, Any]] = {}
    for line in out.read_text(encoding="utf-8").splitlines() if out.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        rows[row["key"]] = row
    return rows


def measured(subject: Subject, dtype: torch.dtype, device: str, modes: tuple[str, ...]) -> dict[str, Any]:
    """Errors, launches, seconds to compile and, on a device, milliseconds of each candidate."""
    torch.manual_seed(0)
    module = subject.make().eval().to(dtype)
    inputs = [torch.randn(shape, dtype=dtype) for shape in subject.shapes]
    with torch.no_grad():
        exact = subject.make().eval().double().requires_grad_(False)
        exact.load_state_dict({k: v.double() for k, v in module.state_dict().items()})
        truth = exact(*(x.double() for x in inputs))
        started = time.perf_counter()
        model = load(module, tuple(inputs))
        ours = model.compile()
        module, given = module.to(device), [x.to(device) for x in inputs]
        found, eager = ours(*given), module(*given)
        row: dict[str, Any] = {
            "compile_s": round(time.perf_counter() - started, 2),
            "launches": len(ours.info["launches"]),
            "library": ours.info["library"],
            "peak_bytes": ours.info["peak_bytes"],
            "error": _error(found, truth),
            "eager_error": _error(eager, truth),
        }
        if device == "cuda":
            replay = ours.capture(*given)
            candidates: dict[str, Callable[..., Any]] = {"ours": ours, "ours, captured": replay, "eager": module}
            for mode in modes:
                started = time.perf_counter()
                candidates[mode] = torch.compile(module, mode=mode)
                candidates[mode](*given)
                row[f"compile_s {mode}"] = round(time.perf_counter() - started, 2)
            row["ms"] = _times(candidates, given)
    return row


def _error(found: torch.Tensor, truth: torch.Tensor) -> float:
    difference = (found.double().cpu() - truth).norm()
    return float(difference / truth.norm().clamp_min(1e-300))


def _times(candidates: dict[str, Callable[..., Any]], given: list[torch.Tensor]) -> dict[str, float]:
    """Median milliseconds, the candidates in turn within each round so that a clock that drifts hits all alike."""
    for run in candidates.values():
        for _ in range(3):
            run(*given)
    kept: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(_ROUNDS):
        for name, run in candidates.items():
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            first.record()
            run(*given)
            last.record()
            torch.cuda.synchronize()
            kept[name].append(first.elapsed_time(last))
    return {name: round(statistics.median(times), 5) for name, times in kept.items()}


def table(rows: list[dict[str, Any]]) -> str:
    """A row for each subject, then the geometric mean of how much faster than the best of torch.compile."""
    lines = [
        "| chain | launches | error | eager's error | ours ms | best torch.compile ms | × |",
        "|---|---|---|---|---|---|---|",
    ]
    gains: list[float] = []
    for row in rows:
        if "failure" in row:
            lines.append(f"| {row['name']} | {row['failure'][:60]} | | | | | |")
            continue
        shown = [row["name"], str(row["launches"]), f"{row['error']:.1e}", f"{row['eager_error']:.1e}"]
        times = row.get("ms", {})
        best = min((times[m] for m in MODES if m in times), default=None)
        if best is None:
            shown += ["unmeasured"] * 3
        else:
            mine = min(times["ours"], times["ours, captured"])
            gains.append(best / mine)
            shown += [f"{mine:.3f}", f"{best:.3f}", f"{gains[-1]:.2f}"]
        lines.append(f"| {' | '.join(shown)} |")
    if gains:
        lines.append(f"\ngeometric mean over {len(gains)} chains: {statistics.geometric_mean(gains):.2f} ×")
    return "\n".join(lines)
