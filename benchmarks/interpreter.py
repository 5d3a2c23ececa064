#!/usr/bin/env python3
"""The reference interpreter's speed: a model of the zoo at batch 1 in float64, the oracle of every verification.

    python benchmarks/interpreter.py
    python benchmarks/interpreter.py --models resnet50,vit_base_patch16_224 --repeats 3
    python benchmarks/interpreter.py --json out.json --markdown docs/benchmarks/interpreter.md

Ends with status 1 if a demand is not met.

Each model runs in a fresh process, imported from PyTorch and as it was imported; one run warms up, the others are
timed. The difference is from PyTorch in double precision, of the largest element.
"""

from __future__ import annotations

import argparse
import statistics
import sys

from command_line import add_outputs, finish, names
from fresh_process import Result, answer, run_fresh
from tables import Demand, Page, Table

FIRST, BOUND = "resnet50", 5.0  # seconds


def measure(request: Result) -> Result:
    """One model, in this process."""
    import time

    import numpy as np
    import torch
    from ort_cpu_export import serving_sizes
    from subjects import entries, subject

    import dragoman
    from dragoman.ir.interpreter import run

    torch.set_num_threads(request["threads"])
    entry = entries()[request["model"]]
    module = subject(request["model"]).module
    args, kwargs = entry.arguments(serving_sizes(entry))
    graph = dragoman.load(module, args, kwargs).graph
    given = [np.asarray(a) for a in entry.inputs(serving_sizes(entry)).values()]
    seconds: list[float] = []
    for _ in range(request["repeats"] + 1):
        started = time.perf_counter()
        first, *_ = run(graph, *given)
        seconds.append(time.perf_counter() - started)
    with torch.no_grad():
        doubled = [a.double() if a.is_floating_point() else a for a in map(torch.as_tensor, given)]
        expected = module.double()(**dict(zip(entry.inputs(serving_sizes(entry)), doubled, strict=True)))
    wanted = expected if isinstance(expected, torch.Tensor) else next(iter(expected.values()))
    off = float(np.max(np.abs(first - wanted.numpy())) / np.max(np.abs(wanted.numpy())))
    return {"nodes": len(graph), "seconds": seconds[1:], "first": seconds[0], "off": off}


def page(options: argparse.Namespace) -> Page:
    """Measure, and put what came out in order."""
    about = (__doc__ or "").rsplit("\n\n", maxsplit=1)[-1].replace("\n", " ").strip()
    made = Page("The reference interpreter", about)
    table = Table("Seconds at batch 1 in float64", ["model", "nodes", "first", "again", "off"])
    for model in options.models:
        request = {"model": model, "repeats": options.repeats, "threads": options.threads}
        found = run_fresh("interpreter.py", request, threads=options.threads)
        made.samples.append({"model": model, **found})
        if "failure" in found:
            made.demands.append(Demand(f"{model} runs", found["failure"][-200:], False))
            continue
        again = statistics.median(found["seconds"])
        table.rows.append([model, str(found["nodes"]), f"{found['first']:.2f}", f"{again:.2f}", f"{found['off']:.1e}"])
        if model == FIRST:
            made.demands.append(Demand(f"{model} takes less than {BOUND:g} s", f"{again:.2f} s", again < BOUND))
    made.tables = [table]
    return made


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n", maxsplit=1)[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--models", type=names, default=(FIRST, "mobilenetv3_large_100", "vit_base_patch16_224"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    add_outputs(parser)
    return parser.parse_args()


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        answer(measure)
    else:
        given = parse_options()
        sys.exit(finish(page(given), given))
