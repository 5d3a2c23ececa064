"""Running a generated folder from outside, in a process of its own that has torch and Triton and nothing of ours.

Without a device that process runs Triton's interpreter. Refuses double precision: a folder computes in the types it
declares.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from dragoman.backends.triton.program import TORCH
from dragoman.backends.triton.write import MANIFEST
from dragoman.ir.errors import UsageError
from dragoman.ir.types import dtype_of, parse_dtype

_OURS = {torch: ours for ours, torch in TORCH.items()}
_DEVICES = ("/dev/nvidiactl", "/dev/kfd")


class Worker:
    """The process; one at a time serves all folders."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("worker.py")
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        if not any(Path(device).exists() for device in _DEVICES):
            environment["TRITON_INTERPRET"] = "1"
        # -P: the script's own folder, where a module is called as one of the standard library may be, is not searched.
        command = [sys.executable, "-P", "-W", "ignore", str(script)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        atexit.register(self.close)

    def run(self, folder: Path, inputs: Sequence[Any]) -> list[Any]:
        """The outputs of the model in a folder. Raises UsageError with what went wrong there."""
        source, sink = self._process.stdout, self._process.stdin
        assert source is not None
        assert sink is not None
        arrays = [np.ascontiguousarray(x).reshape(np.shape(x)) for x in inputs]
        told = [{"dtype": TORCH[dtype_of(x).name], "shape": list(x.shape), "bytes": x.nbytes} for x in arrays]
        sink.write(json.dumps({"path": str(folder), "inputs": told}).encode() + b"\n")
        for array in arrays:
            sink.write(array.tobytes())
        sink.flush()
        line = source.readline()
        if not line:
            raise UsageError(f"the process that runs {folder} ended with status {self._process.wait()}")
        answer = json.loads(line)
        raw = [source.read(o["bytes"]) for o in answer["outputs"]]
        if answer["error"]:
            raise UsageError(answer["error"])
        pairs = zip(raw, answer["outputs"], strict=True)
        return [np.frombuffer(r, parse_dtype(_OURS[o["dtype"]]).numpy).reshape(o["shape"]) for r, o in pairs]

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait(timeout=10)


@lru_cache(maxsize=1)
def _worker() -> Worker:
    return Worker()


def worker() -> Worker:
    """The process that serves this one."""
    if not _worker().is_alive:
        _worker.cache_clear()
    return _worker()


class FolderRunner:
    """A generated folder as a runner."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).resolve()
        try:
            info = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"{folder} is no folder of generated kernels: {error}") from None
        self.input_names = tuple(told["name"] for told in info["inputs"])
        self.output_names = tuple(told["name"] for told in info["outputs"])
        device = any(Path(d).exists() for d in _DEVICES)
        self.name = "Triton on the device" if device else "Triton's interpreter"

    def run(self, inputs: Sequence[Any], double: bool = False) -> list[Any]:
        """The outputs for inputs in order. Raises UsageError for `double`, and where the folder refuses the inputs."""
        if double:
            raise UsageError("generated kernels compute in the types they declare")
        return worker().run(self.folder, inputs)
