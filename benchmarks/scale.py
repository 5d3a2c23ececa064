#!/usr/bin/env python3
"""Cost by size: a graph of 10 000 and of 100 000 nodes through build, verify, print, parse, optimise and emit.

    python benchmarks/scale.py
    python benchmarks/scale.py --nodes 1000,10000 --repeats 1
    python benchmarks/scale.py --nodes 100000 --profile optimise      # where the time of one stage goes
    python benchmarks/scale.py --json out.json --markdown docs/benchmarks/scale.md

Ends with status 1 if a demand is not met.

Each size runs in a fresh process, sizes in turn over the rounds. Seconds are medians of the rounds. A stage's memory is
its peak over what was resident before it, the process's is the largest resident size of any stage. The graph mixes
matmuls with weights, attention, norms, pointwise chains, idle moves, repeated and foldable work in eight streams
(generated_graph.py). For the smallest graph, ONNX Runtime's result on the emitted file is compared with the graph as it
was built.
"""

from __future__ import annotations

import argparse
import statistics
import sys

from command_line import add_outputs, finish
from fresh_process import Result, run_fresh
from tables import Demand, Page, Table, mib

STAGES = ("build", "verify", "print", "parse", "optimise", "emit")
LARGEST = 100_000  # the size that the demands on seconds and memory are made for
SECONDS_BOUND, MEMORY_BOUND, GROWTH_BOUND = 60.0, 2 << 30, 12.0
DIFFERENCE_BOUND = 1e-3  # a wrong file is off by far more; f32 rounding through thousands of layers is below


def measure(options: argparse.Namespace) -> list[Result]:
    """Every size in turn, round by round."""
    samples: list[Result] = []
    for turn in range(options.repeats):
        for nodes in options.nodes:
            request = {
                "nodes": nodes,
                "seed": options.seed,
                "check": turn == 0 and nodes == min(options.nodes),
                "profile": options.profile,
                "folder": options.folder,
            }
            found = run_fresh("scale_once.py", request, timeout=options.timeout)
            samples.append({"size": nodes, "round": turn, **found})
            told = found.get("failure", "")
            outcome = told[-300:] if told else f"{total(found):.2f} s, {mib(resident(found))} MiB"
            print(f"{nodes} nodes: {outcome}", file=sys.stderr, flush=True)
            if found.get("profile"):
                print(found["profile"])
    return samples


def total(sample: Result) -> float:
    """Seconds of all stages."""
    return sum(reading["seconds"] for reading in sample["stages"].values())


def resident(sample: Result) -> float:
    """The largest resident size of the process in any stage."""
    return max(reading["before"] + reading["resident"] for reading in sample["stages"].values())


def stage_table(samples: list[Result], sizes: list[int]) -> Table:
    """Seconds by stage and size, how they grow, and what memory each stage takes."""
    first, last = sizes[0], sizes[-1]
    columns = ["stage", *(f"{size} s" for size in sizes), "growth", f"{last} peak MiB"]
    table = Table("Seconds by stage", columns)
    for stage in STAGES:
        seconds = {size: _median(samples, size, stage, "seconds") for size in sizes}
        cells = [f"{seconds[size]:.2f}" for size in sizes]
        peak = mib(_median(samples, last, stage, "resident"))
        table.rows.append([stage, *cells, f"{seconds[last] / seconds[first]:.1f}", peak])
    totals = {size: statistics.median(total(s) for s in samples if s["size"] == size) for size in sizes}
    peak = mib(max(resident(s) for s in samples if s["size"] == last))
    table.rows.append(["all", *(f"{totals[s]:.2f}" for s in sizes), f"{totals[last] / totals[first]:.1f}", peak])
    return table


def size_table(samples: list[Result], sizes: list[int]) -> Table:
    """What became of each graph."""
    table = Table("Sizes", ["size", "nodes", "optimised", "ONNX nodes", "text MiB", "file MiB", "difference"])
    for size in sizes:
        s = next(s for s in samples if s["size"] == size)
        difference = "—" if s["difference"] is None else f"{s['difference']:.0e}"
        counts = [str(s[key]) for key in ("nodes", "optimised", "written")]
        table.rows.append([str(size), *counts, mib(s["text_bytes"]), mib(s["file_bytes"]), difference])
    return table


def demands(samples: list[Result], sizes: list[int]) -> list[Demand]:
    """The lines of acceptance."""
    first, last = sizes[0], sizes[-1]
    seconds = {size: statistics.median(total(s) for s in samples if s["size"] == size) for size in sizes}
    peak = max(resident(s) for s in samples if s["size"] == last)
    differences = [s["difference"] for s in samples if s["difference"] is not None]
    large = last >= LARGEST
    found = [
        Demand(
            f"{LARGEST} nodes take less than {SECONDS_BOUND:.0f} s",
            f"{seconds[last]:.1f} s" if large else "not measured",
            seconds[last] < SECONDS_BOUND if large else None,
        ),
        Demand(
            f"{LARGEST} nodes take less than {mib(MEMORY_BOUND)} MiB",
            f"{mib(peak)} MiB" if large else "not measured",
            peak < MEMORY_BOUND if large else None,
        ),
    ]
    if last == 10 * first:
        growth = seconds[last] / seconds[first]
        text = f"ten times the nodes cost at most {GROWTH_BOUND:g} × the time"
        found.append(Demand(text, f"{growth:.1f} ×", growth <= GROWTH_BOUND))
    if differences:
        text = f"ONNX Runtime computes what the graph says, within {DIFFERENCE_BOUND:g} of the largest value"
        found.append(Demand(text, f"{max(differences):.1e}", max(differences) <= DIFFERENCE_BOUND))
    return found


def _median(samples: list[Result], size: int, stage: str, key: str) -> float:
    return statistics.median(s["stages"][stage][key] for s in samples if s["size"] == size)


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n", maxsplit=1)[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--nodes", type=_sizes, default=[10_000, LARGEST], help="sizes, with commas")
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    parser.add_argument("--profile", default="", choices=("", *STAGES), help="profile this stage, which slows it down")
    parser.add_argument("--seed", type=int, default=0, help="of the graph")
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds for one size")
    parser.add_argument("--folder", default=None, help="where the models are written; removed afterwards")
    add_outputs(parser)
    return parser.parse_args()


def _sizes(text: str) -> list[int]:
    return sorted(int(part) for part in text.split(","))


def main() -> int:
    """Measure and print; 1 if a demand is not met."""
    options = parse_options()
    samples = measure(options)
    failures = [s for s in samples if "failure" in s]
    about = (__doc__ or "").rsplit("\n\n", maxsplit=1)[-1].replace("\n", " ").strip()
    page = Page("Cost by size", about, samples=samples)
    if failures:
        page.demands = [Demand("every stage comes through", failures[0]["failure"][-300:], False)]
    else:
        page.tables = [stage_table(samples, options.nodes), size_table(samples, options.nodes)]
        page.demands = demands(samples, options.nodes)
    return finish(page, options)


if __name__ == "__main__":
    sys.exit(main())
