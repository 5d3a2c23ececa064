"""Running a script of this folder in a fresh process: a request goes in as JSON, a result comes out as JSON.

Owns the exchange, and a look at what else the machine was doing. Refuses to lose a failure: a process that dies is a
result that says how.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
_TAIL = 2000  # characters of a dead process's output that are kept

Request = dict[str, Any]
Result = dict[str, Any]


def run_fresh(
    script: str, request: Mapping[str, Any], *, threads: int = 1, timeout: float = 1800.0, python: str = sys.executable
) -> Result:
    """Run `script` on `request` and return its result; `{"failure": why}` if it gives none. Adds the machine's load.

    `python` is the interpreter, for a peer that has an environment of its own.
    """
    environment = {
        **os.environ,
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads)),
        "ORT_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONWARNINGS": "ignore",
    }
    load = machine_load()
    with tempfile.TemporaryDirectory(prefix="dragoman-bench-") as folder:
        answer = Path(folder) / "answer.json"
        command = [python, str(HERE / script), json.dumps({**request, "answer": str(answer)})]
        try:
            ended = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired:
            return {"failure": f"nothing after {timeout:.0f} s", "load": load}
        if not answer.exists():
            said = (ended.stderr or ended.stdout)[-_TAIL:].strip()
            return {"failure": f"the process ended with status {ended.returncode}: {said}", "load": load}
        return {**json.loads(answer.read_text(encoding="utf-8")), "load": load}


def answer(function: Callable[[Request], Result]) -> None:
    """What a script run by `run_fresh` does in its main: compute the result of the request and hand it back."""
    request: Request = json.loads(sys.argv[1])
    result = function(request)
    Path(request["answer"]).write_text(json.dumps(result), encoding="utf-8")


def machine_load() -> dict[str, float]:
    """The load of the last minute, and how many processes run at this moment, this one not counted."""
    fields = Path("/proc/loadavg").read_text(encoding="ascii").split()
    return {"minute": float(fields[0]), "running": float(int(fields[3].partition("/")[0]) - 1)}
