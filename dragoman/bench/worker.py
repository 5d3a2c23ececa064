"""A process of one target: it reads requests from a socket and answers them, and never meets another framework.

`python -m dragoman.bench.worker FD FOLDER`. Standard output and error go to a file, since frameworks print.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

Answer = dict[str, Any]
_SAID = 400  # characters of an error


class Worker:
    """What one process has loaded, and the requests it answers: `do` names the method."""

    def __init__(self) -> None:
        self._loaded: Any = None
        self._task: Any = None

    def read(self, request: Answer) -> Answer:
        """Read a source and write what its targets are given."""
        from dragoman.bench.reading import read

        return read(request)

    def load(self, request: Answer) -> Answer:
        """Make a target ready. Seconds to load, without the import of its framework; its file's bytes."""
        from dragoman.bench.target import Task, targets

        target = targets()[request["target"]]
        self._task = Task(**request["task"])
        for module in target.needs:
            __import__(module)
        before, started = resident(), time.perf_counter()
        self._loaded = target.load(self._task)
        seconds = time.perf_counter() - started
        file = self._loaded.file
        answer: Answer = {"load_s": seconds, "before": before, "said": self._loaded.said}
        answer["runs"] = self._loaded.run is not None
        if file is not None:
            answer["file_bytes"] = sum(p.stat().st_size for p in file.parent.glob(f"{file.name}*"))
        return answer

    def first(self, request: Answer) -> Answer:
        """The first inference, and how far its result is from the truth."""
        started = time.perf_counter()
        result = self._loaded.run()
        seconds = time.perf_counter() - started
        return {"first_s": seconds, **self._error(result)}

    def _error(self, result: Any) -> Answer:
        from dragoman.bench.accuracy import errors

        truth = Path(self._task.inputs).with_name("truth.npz")
        return {"errors": errors(self._loaded.arrays(result), truth)} if truth.exists() else {}

    def warm(self, request: Answer) -> Answer:
        """Run until the times settle."""
        from dragoman.bench.stationary import warm_up

        call, calls, settled = warm_up(self._loaded.run, request["most"])
        return {"call_s": call, "calls": calls, "settled": settled}

    def turn(self, request: Answer) -> Answer:
        """Seconds of each of `calls` inferences, after one that is not counted: another process had the caches."""
        run = self._loaded.run
        run()
        times: list[float] = []
        for _ in range(request["calls"]):
            started = time.perf_counter()
            run()
            times.append(time.perf_counter() - started)
        return {"times": times}

    def clients(self, request: Answer) -> Answer:
        """Seconds of each inference of several clients at the same time, for a while."""
        count, seconds = int(request["clients"]), float(request["seconds"])
        make = self._loaded.client or (lambda: self._loaded.run)
        runs = [make() for _ in range(count)]
        for run in runs:
            run()
        began = time.perf_counter()
        found = _together(runs, began + seconds)
        return {"latencies": found, "seconds": time.perf_counter() - began}

    def memory(self, request: Answer) -> Answer:
        """Resident bytes at most, and those of the device."""
        device = self._loaded.device_bytes
        return {"peak": resident("VmHWM"), "device_peak": device() if device else 0}


def _together(runs: Sequence[Callable[[], Any]], end: float) -> list[float]:
    kept: list[list[float]] = [[] for _ in runs]

    def serve(run: Callable[[], Any], times: list[float]) -> None:
        while (started := time.perf_counter()) < end:
            run()
            times.append(time.perf_counter() - started)

    threads = [threading.Thread(target=serve, args=each) for each in zip(runs, kept, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [t for times in kept for t in times]


def resident(field: str = "VmRSS") -> int:
    """Resident bytes of this process now, or at most (`VmHWM`); 0 where the system does not tell."""
    from dragoman.stages import memory

    return memory()[field == "VmHWM"]


def serve(connection: Connection) -> None:
    """Answer requests until the other side hangs up. A failure is an answer."""
    import json

    worker = Worker()
    while True:
        try:
            request: Answer = json.loads(connection.recv_bytes())
        except (EOFError, OSError):
            return
        try:
            answer = getattr(worker, request["do"])(request)
        except (Exception, SystemExit) as error:
            said = str(error).strip().splitlines() or [""]
            answer = {"failure": f"{type(error).__name__}: {said[0][:_SAID]}"}
        connection.send_bytes(json.dumps(answer).encode())


def main(descriptor: int, log: str) -> None:
    """Send what is printed to the log, then serve."""
    opened = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(opened, 1)
    os.dup2(opened, 2)
    import warnings

    warnings.simplefilter("ignore")
    serve(Connection(descriptor))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
