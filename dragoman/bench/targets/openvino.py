"""Dragoman's portable file in OpenVINO."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dragoman.bench.target import Loaded, Target, Task


class OpenVino(Target):
    """The portable file, computed in the task's precision; OpenVINO's own default would be bf16 on some processors."""

    name = "openvino"
    needs = ("openvino",)
    install = "openvino"
    forms = ("portable",)

    def load(self, task: Task) -> Loaded:
        """Compiled for the lowest latency of one request."""
        openvino: Any = importlib.import_module("openvino")

        path = Path(task.files["portable"])
        settings = {
            "INFERENCE_NUM_THREADS": task.threads,
            "INFERENCE_PRECISION_HINT": task.precision,
            "PERFORMANCE_HINT": "LATENCY",
        }
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(path), task.variant or "CPU", settings)
        given = list(task.arrays().values())

        def client() -> Callable[[], Any]:
            request = compiled.create_infer_request()
            outputs = range(len(request.model_outputs))

            def run() -> list[Any]:
                request.infer(given, share_inputs=True)
                return [request.get_output_tensor(i).data for i in outputs]

            return run

        return Loaded(client(), client=client, file=path)


TARGET = OpenVino()
