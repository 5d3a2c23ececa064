"""Whether the harness can be trusted: does it call equal things equal, and find a slowdown of 5 %?

    python -m dragoman.bench study [--runs 40] [--slowdown 0.05] [--threads 1] [--out study.json]

Each run measures one model three times, in three processes: as it is, once more as it is (A/A), and with a planted
slowdown: after each inference the process keeps computing for that part of the inference's own time. Demands: the
interval of A/A holds 1.00 in at least 95 % of the runs, that of the slow one lies above 1.00 in at least 90 %.
"""

from __future__ import annotations

import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from dragoman.bench import intervals
from dragoman.bench.process import Process
from dragoman.bench.results import Row
from dragoman.bench.rounds import take_turns
from dragoman.bench.target import Loaded, Task
from dragoman.bench.targets.onnx_runtime import OnnxRuntime

EQUAL_AT_LEAST, FOUND_AT_LEAST = 0.95, 0.90


class Slowed(OnnxRuntime):
    """ONNX Runtime with a planted slowdown: the variant says how much, such as `slowed:0.05`."""

    name = "slowed"
    always = False
    reads: ClassVar[str] = "given"
    forms = ("given",)

    def load(self, task: Task) -> Loaded:
        """The session, and after each inference a loop for its part of the time."""
        part = float(task.variant or 0)
        loaded = super().load(replace(task, variant=""))
        assert loaded.run is not None
        return Loaded(slowed(loaded.run, part) if part else loaded.run, loaded.arrays, file=loaded.file)


def slowed(run: Callable[[], Any], part: float) -> Callable[[], Any]:
    """`run`, then a busy loop for a part of the time that it took."""

    def both() -> Any:
        started = time.perf_counter()
        result = run()
        end = time.perf_counter() + part * (time.perf_counter() - started)
        while time.perf_counter() < end:
            pass
        return result

    return both


@dataclass
class Run:
    """One run: ratios of A/A and of the slow one with their intervals."""

    equal: intervals.Estimate
    slow: intervals.Estimate
    rounds: int
    seconds: float


def study(runs: int, slowdown: float, threads: int, seconds: float, progress: Callable[[str], None]) -> dict[str, Any]:
    """Run it; the ratios of every run and the two shares."""
    found: list[Run] = []
    with tempfile.TemporaryDirectory(prefix="dragoman-study.") as name:
        folder = Path(name)
        model = _model(folder)
        for number in range(runs):
            found.append(_run(folder, model, slowdown, threads, seconds, number))
            last = found[-1]
            progress(f"{number + 1}/{runs}: A/A {_text(last.equal)}, slowed {_text(last.slow)}, {last.rounds} rounds")
    logs = [math.log(r.equal.value) for r in found]
    return {
        "equal": sum(r.equal.holds(1.0) for r in found) / runs,
        "found": sum(r.slow.low > 1.0 for r in found) / runs,
        "planted": slowdown,
        "holds_planted": sum(r.slow.holds(1.0 + slowdown) for r in found) / runs,
        "spread_of_equal": statistics.pstdev(logs),
        "runs": [asdict(r) for r in found],
    }


def _text(estimate: intervals.Estimate) -> str:
    return f"{estimate.value:.3f} ({estimate.low:.3f}–{estimate.high:.3f})"


def _run(folder: Path, model: Path, slowdown: float, threads: int, seconds: float, seed: int) -> Run:
    rows: list[tuple[Row, Process, float]] = []
    started = time.perf_counter()
    with ExitStack() as within:
        for variant in ("", "0", str(slowdown)):
            process = within.enter_context(Process("study", folder, threads))
            given = {"given": str(model)}
            task = Task(str(model), "onnx", str(folder / "inputs.npz"), given, threads=threads, variant=variant)
            process.ask("load", target="slowed", task=asdict(task))
            process.ask("first")
            rows.append((Row(variant), process, process.ask("warm", most=5.0)["call_s"]))
        take_turns(rows, seconds, seed=seed)
    base, equal, slow = (row.rounds for row, _, _ in rows)
    estimates = intervals.ratio(equal, base), intervals.ratio(slow, base)
    return Run(*estimates, len(base), time.perf_counter() - started)


def _model(folder: Path) -> Path:
    """A stack of convolutions and products: some milliseconds an inference, on many small and large tensors."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    chance = np.random.default_rng(0)
    nodes: list[Any] = []
    weights: list[Any] = []
    last = "x"
    for layer in range(8):
        kernel = chance.standard_normal((32, 32, 3, 3)).astype(np.float32) / 17
        weights.append(numpy_helper.from_array(kernel, f"w{layer}"))
        nodes.append(helper.make_node("Conv", [last, f"w{layer}"], [f"c{layer}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"]))
        last = f"r{layer}"
    shape = [1, 32, 56, 56]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("x", last)]
    graph = helper.make_graph(nodes, "study", ends[:1], ends[1:], weights)
    path = folder / "study.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    given: dict[str, Any] = {"0000:x": chance.standard_normal(shape).astype(np.float32)}
    np.savez(folder / "inputs.npz", **given)
    return path


def main(runs: int, slowdown: float, threads: int, seconds: float, out: Path | None) -> int:
    """Run, print, write; 0 where both demands hold."""
    found = study(runs, slowdown, threads, seconds, lambda text: print(text, flush=True))
    if out is not None:
        out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(
        f"A/A: the interval holds 1.00 in {found['equal']:.1%} of {runs} runs (demanded: {EQUAL_AT_LEAST:.0%});"
        f" ratios spread by {found['spread_of_equal']:.2%}\n"
        f"planted {slowdown:.0%}: found in {found['found']:.1%} (demanded: {FOUND_AT_LEAST:.0%});"
        f" the interval holds {1 + slowdown:.2f} in {found['holds_planted']:.1%}"
    )
    return int(found["equal"] < EQUAL_AT_LEAST or found["found"] < FOUND_AT_LEAST)
