"""`python -m dragoman.bench gpu|study [--out FILE] …`: what is run by hand, where the hardware is or takes long."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def main() -> int:
    """Parse and run; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m dragoman.bench",
        description="Benchmarks that need hardware, and the study of the harness itself.",
    )
    parser.add_argument("what", choices=["gpu", "study"])
    parser.add_argument("--out", type=Path, help="gpu: JSON lines, a second run goes on; study: JSON.")
    parser.add_argument("--only", default="", help="A part of the names of the subjects to run.")
    parser.add_argument("--modes", default="default,reduce-overhead,max-autotune", help="Modes of torch.compile.")
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16")
    parser.add_argument("--runs", type=int, default=40, help="Of the study.")
    parser.add_argument("--slowdown", type=float, default=0.05, help="Planted in the study.")
    parser.add_argument("--threads", type=int, default=1, help="Of each process of the study.")
    parser.add_argument("--seconds", type=float, default=6.0, help="For the rounds of a run of the study.")
    given = parser.parse_args()
    if given.what == "study":
        from dragoman.bench.study import main as study

        return study(given.runs, given.slowdown, given.threads, given.seconds, given.out)
    if not any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/kfd")):
        os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported
    from dragoman.bench.gpu import main as run

    rows = run(
        given.out or Path("bench-gpu.jsonl"), only=given.only, modes=tuple(given.modes.split(",")), dtype=given.dtype
    )
    return int(any("failure" in row for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
