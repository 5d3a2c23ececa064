#!/usr/bin/env python3
"""Memory to convert a model that is larger than memory should have to be: 4 GiB of weights in a file on disk.

    python benchmarks/big_model.py                          # 4 GiB, needs 12 GiB of disk and a minute or two
    python benchmarks/big_model.py --gib 0.5 --ways ir
    python benchmarks/big_model.py --json out.json --markdown docs/benchmarks/big_model.md

Ends with status 1 if a demand is not met.

Each conversion, to ONNX with external data, runs in a fresh process. The weights lie in a file: as ranges of a
safetensors file under an IR graph ("ir"), or as parameters of a torch module that safetensors or torch.load(mmap=True)
mapped. The peak is of resident pages over what was resident before, and resident pages include those of mapped files,
which the kernel could drop at any time; "own" are the process's own pages and "mapped" those of files, each at its own
peak. Disk caches that belong to no process are not counted.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from command_line import add_outputs, finish
from fresh_process import Result, run_fresh
from tables import Demand, Page, Table, mib

WAYS = ("ir", "safetensors", "torch.load")
BEYOND_BOUND = 1 << 30


def measure(options: argparse.Namespace) -> list[Result]:
    """Make the files, then convert each way."""
    samples: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="dragoman-bench-", dir=options.folder) as folder:
        request = {"bytes": int(options.gib * (1 << 30)), "folder": folder, "source": str(Path(folder) / "weights")}
        made = _run({**request, "way": "make"}, options)
        checkpoint = str(Path(folder) / "checkpoint")
        if "torch.load" in options.ways:
            _run({**request, "way": "make checkpoint", "source": checkpoint}, options)
        for way in options.ways:
            source = checkpoint if way == "torch.load" else request["source"]
            found = _run({**request, "way": way, "source": source, "offsets": made["offsets"]}, options, strict=False)
            samples.append({"way": way, **found})
            outcome = found.get("failure") or f"{found['seconds']:.1f} s, {mib(found['resident'])} MiB"
            print(f"{way}: {outcome}", file=sys.stderr, flush=True)
    return samples


def _run(request: Result, options: argparse.Namespace, *, strict: bool = True) -> Result:
    found = run_fresh("big_model_once.py", request, timeout=options.timeout)
    if strict and "failure" in found:
        raise SystemExit(f"the files could not be made: {found['failure']}")
    return found


def page(samples: list[Result], gib: float) -> Page:
    """Tables and demands."""
    about = (__doc__ or "").rsplit("\n\n", maxsplit=1)[-1].replace("\n", " ").strip()
    made = Page(f"A model of {gib:g} GiB, from disk to disk", about, samples=samples)
    columns = ["way", "s", "peak MiB", "own MiB", "mapped MiB", "largest tensor MiB", "beyond it MiB", "file MiB"]
    table = Table("Peak memory", columns)
    for s in samples:
        if "failure" in s:
            made.demands.append(Demand(f"{s['way']} converts", s["failure"][-300:], False))
            continue
        beyond = s["resident"] - s["largest"]
        numbers = [mib(s[key]) for key in ("resident", "anonymous", "mapped", "largest")]
        table.rows.append([s["way"], f"{s['seconds']:.1f}", *numbers, mib(max(0, beyond)), mib(s["file_bytes"])])
        text = f"{s['way']}: less than 1 GiB resident beyond the largest tensor"
        made.demands.append(Demand(text, f"{mib(max(0, beyond))} MiB", beyond < BEYOND_BOUND))
        text = f"{s['way']}: every tensor reached the output"
        made.demands.append(Demand(text, "yes" if s["complete"] else "no", s["complete"]))
    made.tables.append(table)
    return made


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n", maxsplit=1)[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--gib", type=float, default=4.0, help="size of the weights")
    parser.add_argument("--ways", type=_ways, default=list(WAYS), help=f"with commas: {', '.join(WAYS)}")
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds for one conversion")
    parser.add_argument("--folder", default=None, help="where the files are written, not in memory; removed afterwards")
    add_outputs(parser)
    return parser.parse_args()


def _ways(text: str) -> list[str]:
    ways = text.split(",")
    unknown = set(ways) - set(WAYS)
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))} is none of {', '.join(WAYS)}")
    return ways


def main() -> int:
    """Measure and print; 1 if a demand is not met."""
    options = parse_options()
    return finish(page(measure(options), options.gib), options)


if __name__ == "__main__":
    sys.exit(main())
