"""`python -m dragoman.bench gpu [--out FILE] [--only PART] [--modes a,b] [--dtype bfloat16|float32]`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def main() -> int:
    """Parse and run; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dragoman.bench", description="Benchmarks that need hardware.")
    parser.add_argument("what", choices=["gpu"])
    parser.add_argument("--out", type=Path, default=Path("bench-gpu.jsonl"), help="JSON lines; a second run goes on.")
    parser.add_argument("--only", default="", help="A part of the names of the subjects to run.")
    parser.add_argument("--modes", default="default,reduce-overhead,max-autotune", help="Modes of torch.compile.")
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16")
    given = parser.parse_args()
    if not any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/kfd")):
        os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported
    from dragoman.bench.gpu import main as run

    rows = run(given.out, only=given.only, modes=tuple(given.modes.split(",")), dtype=given.dtype)
    return int(any("failure" in row for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
