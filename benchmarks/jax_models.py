#!/usr/bin/env python3
"""Models of JAX as ONNX: beside jax2onnx, what converting costs, how many nodes there are, and how fast they run.

    python benchmarks/jax_models.py --peer-python /opt/peer/bin/python        # about 15 minutes
    python benchmarks/jax_models.py --models linen_vit,nnx_lstm --seconds 5
    python benchmarks/jax_models.py --json out.json --markdown docs/benchmarks/jax.md

Ends with status 1 if a demand is not met. The peer has an environment of its own: `python -m venv DIR`, then
`DIR/bin/pip install jax2onnx==0.17 flax equinox dm-haiku jax==0.10.2`.

Each file is exported in a fresh process, from the model in memory to the file, the tools in turns; verification is not
in the time, as the peer has none. The least of the repeats counts. Then one process loads all files of a model in ONNX
Runtime with its optimiser on, compares what they give, and runs them in rounds, once each in random order; a ratio is
that of medians over the rounds, ours over theirs, with the middle 95 % over resampled rounds. Each tool writes its
default opset. Dynamic dims are the same for all; the models are tests/frontends/jax/subjects.py.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jax_results as results
from command_line import add_outputs, finish, names
from fresh_process import Request, Result, run_fresh
from jax_export import PEER, TOOLS, subjects
from tables import Page


def export_all(model: str, folder: Path, tools: Sequence[str], options: argparse.Namespace) -> dict[str, Result]:
    """Each tool's file of a model, the fastest of the repeats."""
    found = dict[str, Result]()
    for turn in range(options.repeats):
        for tool in tools if turn % 2 == 0 else tools[::-1]:
            path = folder / f"{model}.{tool}.onnx"
            request: Request = {"model": model, "tool": tool, "path": str(path)}
            python = options.peer_python if tool == PEER else sys.executable
            made = run_fresh("jax_export.py", request, timeout=options.timeout, python=python)
            made["path"] = str(path)
            best = found.get(tool)
            if best is None or made.get("seconds", float("inf")) < best.get("seconds", float("inf")):
                found[tool] = made
    return found


def measure(model: str, folder: Path, options: argparse.Namespace) -> Result:
    """Export and time one model."""
    exports = export_all(model, folder, options.tools, options)
    files = {tool: each["path"] for tool, each in exports.items() if "failure" not in each}
    if not files:
        return {"model": model, "exports": exports, "failure": "no export worked"}
    request: Request = {
        "candidates": {tool: ("onnxruntime", path) for tool, path in files.items()},
        "inputs": str(Path(next(iter(files.values()))).with_suffix(".npz")),
        "seconds": options.seconds,
        "threads": options.threads,
    }
    timed = run_fresh("ort_cpu_time.py", request, threads=options.threads, timeout=options.timeout)
    return {"model": model, "exports": exports, **timed}


def page(options: argparse.Namespace) -> Page:
    """Measure, and put what came out in order."""
    samples: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="dragoman-jax-") as temporary:
        folder = options.files or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for number, model in enumerate(options.models, 1):
            samples.append(measure(model, folder, options))
            print(f"[{number}/{len(options.models)}] {results.told(samples[-1])}", file=sys.stderr, flush=True)
    about = (__doc__ or "").rsplit("\n\n", maxsplit=1)[-1].replace("\n", " ").strip()
    done = Page("Models of JAX beside jax2onnx", about, samples=samples)
    done.tables += results.tables(samples)
    done.demands += results.demands(samples)
    return done


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n", maxsplit=1)[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--models", type=names, default=(), help="names of subjects, with commas; all if not given")
    parser.add_argument("--tools", type=names, default=TOOLS, help="which exports to make")
    parser.add_argument("--peer-python", default=sys.executable, help="the interpreter that has jax2onnx")
    parser.add_argument("--repeats", type=int, default=3, help="exports by each tool")
    parser.add_argument("--seconds", type=float, default=10.0, help="of rounds for each model")
    parser.add_argument("--threads", type=int, default=1, help="of ONNX Runtime")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for one export or one model's rounds")
    parser.add_argument("--files", type=Path, help="keep the exports there")
    add_outputs(parser)
    options = parser.parse_args()
    options.models = options.models or tuple(subjects())
    return options


def main() -> int:
    """Measure and print; 1 if a demand is not met."""
    options = parse_options()
    return finish(page(options), options)


if __name__ == "__main__":
    sys.exit(main())
