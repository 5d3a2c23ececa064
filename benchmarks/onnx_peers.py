#!/usr/bin/env python3
"""ONNX files made better: Dragoman beside onnxsim and onnxslim, on what torch.onnx, skl2onnx and tf2onnx export.

    python benchmarks/onnx_peers.py
    python benchmarks/onnx_peers.py --models resnet50,forest --repeats 1
    python benchmarks/onnx_peers.py --json out.json --markdown docs/benchmarks/onnx.md

Ends with status 1 if a demand is not met.

Each tool reads the file, simplifies it with its own defaults and writes it, in a fresh process with its libraries
imported; the clock sees no import. Seconds are medians of the rounds, tools in turn. Nodes are those of all graphs and
functions, without Constant; Dragoman writes the opset of the file. "Verdict" is that of `dragoman convert` on the file,
every rewrite proved where it fires and the result compared in ONNX Runtime with the original; its time is beside it.
Peers verify nothing.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from command_line import add_outputs, finish, names
from fresh_process import Result, run_fresh
from tables import Demand, Page, Table

TOOLS = ("dragoman", "onnxsim", "onnxslim")
TORCH = (
    *("bert_base", "resnet50", "mobilenetv3_large_100", "efficientnet_b0", "convnext_tiny", "vit_base_patch16_224"),
    *(
        "swin_tiny_patch4_window7_224",
        "clip_vision",
        "gpt2",
        "llama",
        "t5_small",
        "whisper_tiny_encoder",
        "lstm",
        "gru",
    ),
    *("transformer_encoder", "detector", "unet", "unet_nearest"),
)
SKLEARN = ("scaled_logistic", "pca_ridge", "forest", "boosting", "perceptron", "k_means", "naive_bayes", "linear_svm")
KERAS = ("keras_cnn", "keras_mlp", "keras_lstm")
PROVEN = ("PROVEN", "VERIFIED")


def measure(options: argparse.Namespace) -> list[Result]:
    """Make each file, then give it to each tool in turn, round by round; then convert it with proofs."""
    samples: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="dragoman-bench-", dir=options.folder) as folder:
        for model in options.models:
            path = Path(folder) / f"{model}.onnx"
            made = _run({"tool": "make", "model": model, "path": str(path)}, options)
            samples.append({"model": model, "tool": "make", **made})
            if "failure" in made:
                continue
            for turn in range(options.repeats):
                for tool in TOOLS:
                    found = _run({"tool": tool, "model": model, "path": str(path)}, options)
                    samples.append({"model": model, "tool": tool, "round": turn, **found})
            found = _run({"tool": "convert", "model": model, "path": str(path)}, options)
            samples.append({"model": model, "tool": "convert", **found})
            path.unlink()
    return samples


def _run(request: Result, options: argparse.Namespace) -> Result:
    found = run_fresh("onnx_peers_once.py", request, timeout=options.timeout)
    told = found["failure"][-300:] if "failure" in found else f"{found['nodes']} nodes, {found['seconds']:.2f} s"
    print(f"{request['model']}, {request['tool']}: {told}", file=sys.stderr, flush=True)
    return found


def of(samples: Sequence[Result], model: str, tool: str) -> list[Result]:
    """The rounds of a tool on a model that came through."""
    return [s for s in samples if s["model"] == model and s["tool"] == tool and "failure" not in s]


def seconds(rounds: Sequence[Result]) -> float:
    """The median."""
    return statistics.median(s["seconds"] for s in rounds)


def table(samples: Sequence[Result], models: Sequence[str]) -> Table:
    """Nodes and seconds of each model and tool."""
    columns = [
        "model",
        "exporter",
        "opset",
        "nodes",
        *(f"{t} {what}" for t in TOOLS for what in ("nodes", "s")),
        "verdict",
        "with proofs s",
    ]
    made = Table("Nodes and seconds", columns)
    for model in models:
        first = of(samples, model, "make")
        if not first:
            continue
        row = [model, first[0]["form"], str(first[0]["opset"]), str(first[0]["nodes"])]
        for tool in TOOLS:
            rounds = of(samples, model, tool)
            row += [str(rounds[0]["nodes"]), f"{seconds(rounds):.2f}"] if rounds else ["fails", "—"]
        proved = of(samples, model, "convert")
        row += [proved[0]["verdict"], f"{seconds(proved):.1f}"] if proved else ["fails", "—"]
        made.rows.append(row)
    return made


def demands(samples: Sequence[Result], models: Sequence[str]) -> list[Demand]:
    """The lines of acceptance: nodes and time at most those of each peer, and no verdict but a proof."""
    found: list[Demand] = []
    there = [m for m in models if of(samples, m, "make")]
    lost = [m for m in there if not of(samples, m, "dragoman") or not of(samples, m, "convert")]
    found.append(Demand("every file that was made is read and written", _listed(lost) or f"all {len(there)}", not lost))
    verdicts = {m: of(samples, m, "convert")[0]["verdict"] for m in there if of(samples, m, "convert")}
    weak = [f"{m} {v}" for m, v in verdicts.items() if v not in PROVEN]
    found.append(Demand("each is PROVEN or VERIFIED", _listed(weak) or f"all {len(verdicts)}", not weak))
    for peer in TOOLS[1:]:
        pairs = {m: (of(samples, m, "dragoman"), of(samples, m, peer)) for m in there}
        both = {m: pair for m, pair in pairs.items() if all(pair)}
        more = [
            f"{m} {a[0]['nodes']} for {b[0]['nodes']}" for m, (a, b) in both.items() if a[0]["nodes"] > b[0]["nodes"]
        ]
        found.append(Demand(f"at most the nodes of {peer}", _listed(more) or f"on all {len(both)}", not more))
        slow = [f"{m} {seconds(a):.2f} for {seconds(b):.2f} s" for m, (a, b) in both.items() if seconds(a) > seconds(b)]
        found.append(Demand(f"at most the time of {peer}", _listed(slow) or f"on all {len(both)}", not slow))
    return found


def _listed(items: Sequence[str]) -> str:
    return ", ".join(items)


def page(options: argparse.Namespace) -> Page:
    """Measure, and put what came out in order."""
    samples = measure(options)
    about = (__doc__ or "").rsplit("\n\n", maxsplit=1)[-1].replace("\n", " ").strip()
    made = Page("ONNX files beside onnxsim and onnxslim", about, samples=samples)
    made.tables = [table(samples, options.models)]
    not_made = [f"{s['model']}: {s['failure'][-160:]}" for s in samples if s["tool"] == "make" and "failure" in s]
    if not_made:
        made.demands.append(Demand("files that their own exporter could not make", "; ".join(not_made), None))
    made.demands += demands(samples, options.models)
    return made


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n", maxsplit=1)[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    everything = ",".join((*TORCH, *SKLEARN, *KERAS))
    parser.add_argument("--models", type=names, default=everything, help="with commas")
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds for one process")
    parser.add_argument("--folder", default=None, help="where files are made")
    add_outputs(parser)
    options = parser.parse_args()
    options.models = names(options.models) if isinstance(options.models, str) else options.models
    return options


if __name__ == "__main__":
    given = parse_options()
    sys.exit(finish(page(given), given))
