"""The process of one target, seen from the harness: requests out, answers back, an end in any case.

Threads are pinned: every process may run on the same processors and is told how many threads it may use.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

from dragoman.ir.errors import DragomanError

_TAIL = 300  # characters of what a dead process printed
_PATIENCE = 900.0  # seconds for one answer: torch.compile at its most thorough takes minutes
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class TargetFailed(DragomanError):
    """A target could not do what it was asked for; the others go on."""


class Process:
    """A context manager: within it the process lives."""

    def __init__(self, name: str, folder: Path, threads: int, patience: float = _PATIENCE) -> None:
        self.name, self._patience = name, patience
        self._log = folder / f"{name.replace('/', '_').replace(':', '_')}.{os.urandom(3).hex()}.log"
        ours, theirs = socket.socketpair()
        environment = {**os.environ, **dict.fromkeys(_THREADS, str(threads)), "ORT_DISABLE_TELEMETRY": "1"}
        environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", "OPENVINO_TELEMETRY": "0", "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-m", "dragoman.bench.worker", str(theirs.fileno()), str(self._log)]
        self._process = subprocess.Popen(
            command, pass_fds=(theirs.fileno(),), env=environment, stdin=subprocess.DEVNULL, start_new_session=True
        )
        theirs.close()
        self._connection = Connection(ours.detach())

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Send a request and wait. Raises TargetFailed with the target's own words, or with how its process ended."""
        try:
            self._connection.send_bytes(json.dumps({"do": do, **request}).encode())
            if not self._connection.poll(self._patience):
                self.end()
                raise TargetFailed(f"no answer to {do!r} after {self._patience:.0f} s")
            answer: dict[str, Any] = json.loads(self._connection.recv_bytes())
        except (EOFError, OSError) as error:
            raise TargetFailed(self._how_it_ended()) from error
        if "failure" in answer:
            raise TargetFailed(str(answer["failure"]))
        return answer

    def _how_it_ended(self) -> str:
        try:
            status = self._process.wait(5)
        except subprocess.TimeoutExpired:
            return "its process hung up"
        how = f"killed by signal {-status}" if status < 0 else f"ended with status {status}"
        said = self._log.read_text(encoding="utf-8", errors="replace").strip()[-_TAIL:] if self._log.exists() else ""
        return f"its process was {how}" + (f": {said.splitlines()[-1]}" if said else "")

    def end(self) -> None:
        """Hang up and wait; a process that does not end is killed."""
        self._connection.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
