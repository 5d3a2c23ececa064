#!/usr/bin/env python3
"""What our ONNX costs at inference: beside PyTorch's own export after onnxsim, in ONNX Runtime with its optimiser on.

    python benchmarks/ort_cpu.py                                   # every model of the zoo: about half an hour
    python benchmarks/ort_cpu.py --models bert_base --seconds 20
    python benchmarks/ort_cpu.py --files build/ort-cpu             # keep the files, and export nothing twice
    python benchmarks/ort_cpu.py --json out.json --markdown docs/performance.md

Ends with status 1 if a demand is not met.

Every file is exported in a fresh process. Then, model by model, one process loads all files of that model, warms up,
and runs them in rounds: once each, in random order. A ratio is that of medians over the rounds, ours over theirs;
beside it stands the middle 95 % of that ratio over resampled rounds. Peer: `torch.onnx.export(dynamo=True)` with the
same dynamic dims, then onnxsim; where that export fails, the next form that works (named). A batch of one; 128
tokens; pictures at the zoo's size; one thread unless `--threads` says otherwise, so that no scheduler has a say.
OpenVINO reads our portable file and computes in f32: a yardstick of what the machine can do.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import ort_cpu_results as results
from command_line import add_outputs, finish, names
from fresh_process import Request, Result, run_fresh
from ort_cpu_export import TOOLS
from subjects import entries
from tables import Page


def export_all(model: str, folder: Path, tools: Sequence[str], options: argparse.Namespace) -> dict[str, Result]:
    """Each tool's file of a model; what is there already is not made again (`--files`)."""
    found = dict[str, Result]()
    for tool in tools:
        path = folder / f"{model}.{tool}.onnx"
        note = path.with_suffix(".json")
        if note.exists():
            found[tool] = results.read_note(note)
            continue
        request: Request = {"model": model, "tool": tool, "path": str(path)}
        found[tool] = {"path": str(path), **run_fresh("ort_cpu_export.py", request, timeout=options.timeout)}
        if "failure" not in found[tool]:
            results.write_note(note, found[tool])
    return found


def measure(model: str, folder: Path, options: argparse.Namespace) -> Result:
    """Export and time one model."""
    exports = export_all(model, folder, options.tools, options)
    files = {tool: each["path"] for tool, each in exports.items() if "failure" not in each}
    if not files:
        return {"model": model, "exports": exports, "failure": "no export worked"}
    candidates = {tool: ("onnxruntime", path) for tool, path in files.items()}
    if not options.no_openvino and "portable" in files:
        candidates["openvino"] = ("openvino", files["portable"])
    request: Request = {
        "candidates": candidates,
        "inputs": str(Path(next(iter(files.values()))).with_suffix(".npz")),
        "seconds": options.seconds,
        "threads": options.threads,
    }
    timed = run_fresh("ort_cpu_time.py", request, threads=options.threads, timeout=options.timeout)
    return {"model": model, "exports": exports, **timed}


def page(options: argparse.Namespace) -> Page:
    """Measure, and put what came out in order."""
    samples: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="dragoman-ort-cpu-") as temporary:
        folder = options.files or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for number, model in enumerate(options.models, 1):
            samples.append(measure(model, folder, options))
            print(f"[{number}/{len(options.models)}] {results.told(samples[-1])}", file=sys.stderr, flush=True)
            if options.files is None:
                results.remove_files(folder, model)
    about = (__doc__ or "").rsplit("\n\n", maxsplit=1)[-1].replace("\n", " ").strip()
    done = Page("Inference in ONNX Runtime on a CPU", about, samples=samples)
    done.tables += results.tables(samples)
    done.demands += results.demands(samples)
    return done


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n", maxsplit=1)[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--models", type=names, default=(), help="names of the zoo, with commas; all if not given")
    parser.add_argument("--tools", type=names, default=TOOLS, help="which exports to make")
    parser.add_argument("--seconds", type=float, default=15.0, help="of rounds for each model")
    parser.add_argument("--threads", type=int, default=1, help="of each runtime")
    parser.add_argument("--no-openvino", action="store_true", help="leave the yardstick out")
    parser.add_argument("--timeout", type=float, default=1200.0, help="seconds for one export or one model's rounds")
    parser.add_argument("--files", type=Path, help="keep the exports there, and use those that are there")
    add_outputs(parser)
    options = parser.parse_args()
    options.models = options.models or tuple(entries())
    return options


def main() -> int:
    """Measure and print; 1 if a demand is not met."""
    options = parse_options()
    return finish(page(options), options)


if __name__ == "__main__":
    sys.exit(main())
