"""Times several files of one model in ONNX Runtime and OpenVINO, in turns; run by ort_cpu.py in a fresh process.

Owns the loading of each file by its runtime with all optimisations on, and the rounds: in each, every candidate runs
once, in random order, so that what disturbs the machine disturbs all alike. Refuses to count a file that computes
something else: each output is compared with the first candidate's.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from convert_once import brief
from fresh_process import Request, Result, answer

_WARM_UP = 3
_LEAST_ROUNDS = 15
Run = Callable[[], Sequence[Any]]


def measure(request: Request) -> Result:
    """Load, warm up, take turns until the seconds are over. Seconds of each round by candidate."""
    given = [np.asarray(value) for _, value in sorted(np.load(request["inputs"]).items())]
    runs, failures = _load(request, given)
    expected = next(iter(runs.values()))()
    differences = {name: _difference(run(), expected) for name, run in runs.items()}
    for run in runs.values():
        for _ in range(_WARM_UP):
            run()
    chance, rounds = random.Random(0), {name: list[float]() for name in runs}
    end = time.perf_counter() + request["seconds"]
    while time.perf_counter() < end or min(map(len, rounds.values())) < _LEAST_ROUNDS:
        for name in chance.sample(list(runs), len(runs)):
            started = time.perf_counter()
            runs[name]()
            rounds[name].append(time.perf_counter() - started)
    return {"rounds": rounds, "differences": differences, "failures": failures}


def _load(request: Request, given: list[np.ndarray]) -> tuple[dict[str, Run], dict[str, str]]:
    runs, failures = dict[str, Run](), dict[str, str]()
    for name, (runtime, path) in request["candidates"].items():
        try:
            run = _RUNTIMES[runtime](path, given, int(request["threads"]))
            run()
        except Exception as error:
            failures[name] = brief(error)
            continue
        runs[name] = run
    return runs, failures


def _onnxruntime(path: str, given: list[np.ndarray], threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = {i.name: value for i, value in zip(session.get_inputs(), given, strict=True)}
    return lambda: session.run(None, feeds)


def _openvino(path: str, given: list[np.ndarray], threads: int) -> Run:
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    core = openvino.Core()
    request = core.compile_model(core.read_model(path), "CPU", settings).create_infer_request()
    outputs = range(len(request.model_outputs))

    def run() -> list[np.ndarray]:
        request.infer(given, share_inputs=True)
        return [request.get_output_tensor(i).data for i in outputs]

    return run


_RUNTIMES = {"onnxruntime": _onnxruntime, "openvino": _openvino}


def _difference(got: Sequence[Any], expected: Sequence[Any]) -> float:
    """The largest difference of any output, in parts of that output's largest value."""
    if [np.shape(g) for g in got] != [np.shape(e) for e in expected]:
        return float("inf")
    return max((_distance(np.asarray(g), np.asarray(e)) for g, e in zip(got, expected, strict=True)), default=0.0)


def _distance(got: np.ndarray, expected: np.ndarray) -> float:
    if expected.size == 0:
        return 0.0
    wide, reference = got.astype(np.float64), expected.astype(np.float64)
    scale = float(np.max(np.abs(reference))) or 1.0
    return float(np.max(np.abs(wide - reference))) / scale


if __name__ == "__main__":
    answer(measure)
