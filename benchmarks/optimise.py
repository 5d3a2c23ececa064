#!/usr/bin/env python3
"""What optimising costs: models of the zoo with and without proofs, generated graphs of growing size, each pass.

    python benchmarks/optimise.py
    python benchmarks/optimise.py --models bert_base,llama --nodes 1000 --repeats 1
    python benchmarks/optimise.py --json out.json --markdown docs/benchmarks/optimise.md

Ends with status 1 if a demand is not met.

Each measurement runs in a fresh process with our modules and the ONNX libraries imported and the model read; the clock
sees the passes and the verifier after each. "First" is the first time in a process, which traces what
recognition looks for; "again" the same model once more. With proofs, every rewrite is proved where it fires; models
that arrive as they should be have none. Seconds are medians of the rounds, of passes as well; a pass that runs several
times counts once, with all its runs. Generated graphs mix matmuls with weights, attention, norms, pointwise chains,
idle moves, repeated and foldable work (generated_graph.py).
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
from collections.abc import Iterable, Sequence

from command_line import add_outputs, finish, names
from fresh_process import Result, run_fresh
from tables import Demand, Page, Table

FIRST_MODEL = "bert_base"
LAYOUT = "choose_layout"
PLAIN_BOUND, PROVED_BOUND = 1.5, 10.0  # seconds for FIRST_MODEL
LARGEST, GROWTH_BOUND = 100_000, 12.0  # nodes; times the seconds for ten times the nodes
SHOWN = 0.002  # a pass that takes less in every column has no row


def measure(options: argparse.Namespace) -> list[Result]:
    """Every model with and without proofs and every size, round by round."""
    listed = [{"model": m, "proofs": p, "nodes": 0} for m in options.models for p in (False, True)]
    listed += [{"model": "", "proofs": False, "nodes": nodes} for nodes in options.nodes]
    samples: list[Result] = []
    for turn in range(options.repeats):
        for asked in listed:
            request = {**asked, "seed": options.seed, "seconds": options.proof_seconds}
            found = run_fresh("optimise_once.py", request, timeout=options.timeout)
            samples.append({**asked, "size": asked["nodes"], "round": turn, **found})
            told = found.get("failure", "")
            outcome = told[-300:] if told else f"{found['seconds']:.3f} s"
            name = asked["model"] or f"{asked['nodes']} nodes"
            print(f"{name}{' with proofs' if asked['proofs'] else ''}: {outcome}", file=sys.stderr, flush=True)
    return samples


def median(samples: Iterable[Result], key: str) -> float:
    """Of one reading over rounds."""
    return statistics.median(s[key] for s in samples)


def of_model(samples: list[Result], model: str, *, proofs: bool) -> list[Result]:
    """The rounds of one model."""
    return [s for s in samples if s["model"] == model and s["proofs"] is proofs and not s["size"]]


def of_size(samples: list[Result], size: int) -> list[Result]:
    """The rounds of one generated graph."""
    return [s for s in samples if s["size"] == size]


def pass_seconds(rounds: Sequence[Result], name: str) -> float:
    """Seconds in all runs of a pass, the median of the rounds."""
    return statistics.median(sum(p["seconds"] for p in s["passes"] if p["name"] == name) for s in rounds)


def model_table(samples: list[Result], models: Sequence[str]) -> Table:
    """Seconds of each model."""
    columns = [
        "model",
        "nodes",
        "optimised",
        "first ms",
        "again ms",
        "with proofs ms",
        "again ms",
        "proved",
        "layout ms",
    ]
    table = Table("Models", columns)
    for model in models:
        plain, proved = (of_model(samples, model, proofs=p) for p in (False, True))
        seconds = [median(rounds, key) for rounds in (plain, proved) for key in ("seconds", "again")]
        unchecked = proved[0]["unchecked"]
        shown = f"{proved[0]['proved']}" + (f", {unchecked} not" if unchecked else "")
        counts = [str(plain[0][key]) for key in ("nodes", "optimised")]
        table.rows.append([model, *counts, *map(ms, seconds), shown, ms(pass_seconds(plain, LAYOUT))])
    return table


def size_table(samples: list[Result], sizes: Sequence[int]) -> Table:
    """Seconds and nodes a second of each generated graph."""
    table = Table("Generated graphs", ["size", "nodes", "optimised", "s", "nodes a second", "layout s"])
    for size in sizes:
        rounds = of_size(samples, size)
        seconds, nodes = median(rounds, "seconds"), rounds[0]["nodes"]
        counts = [str(nodes), str(rounds[0]["optimised"])]
        layout = f"{pass_seconds(rounds, LAYOUT):.3f}"
        table.rows.append([str(size), *counts, f"{seconds:.3f}", f"{nodes / seconds:.0f}", layout])
    return table


def pass_table(samples: list[Result], models: Sequence[str], sizes: Sequence[int]) -> Table:
    """Milliseconds in each pass, of models without proofs and of generated graphs."""
    columns = [(m, of_model(samples, m, proofs=False)) for m in models]
    columns += [(f"{size} nodes", of_size(samples, size)) for size in sizes]
    table = Table("Milliseconds in each pass", ["pass", *(name for name, _ in columns)])
    for name in dict.fromkeys(p["name"] for p in columns[0][1][0]["passes"]):
        seconds = [pass_seconds(rounds, name) for _, rounds in columns]
        if max(seconds) >= SHOWN:
            table.rows.append([name, *map(ms, seconds)])
    return table


def ms(seconds: float) -> str:
    """Milliseconds without a unit."""
    return f"{seconds * 1e3:.1f}" if seconds < 0.1 else f"{seconds * 1e3:.0f}"


def demands(samples: list[Result], models: Sequence[str], sizes: Sequence[int]) -> list[Demand]:
    """The lines of acceptance."""
    found: list[Demand] = []
    if FIRST_MODEL in models:
        for proofs, bound in ((False, PLAIN_BOUND), (True, PROVED_BOUND)):
            rounds = of_model(samples, FIRST_MODEL, proofs=proofs)
            seconds = median(rounds, "seconds")
            text = f"{FIRST_MODEL} takes less than {bound:g} s with{'' if proofs else 'out'} proofs"
            found.append(Demand(text, f"{seconds:.2f} s", seconds < bound))
    proved = [s for s in samples if s["proofs"]]
    if proved:
        wrong = sum(s["refused"] for s in proved)
        found.append(Demand("no rewrite is refused by its proof", f"{wrong} refused", wrong == 0))
    for small, large in itertools.pairwise(sizes):
        if large == 10 * small and small >= LARGEST // 10:
            growth = median(of_size(samples, large), "seconds") / median(of_size(samples, small), "seconds")
            text = f"{large} nodes take at most {GROWTH_BOUND:g} × the time of {small}"
            found.append(Demand(text, f"{growth:.1f} ×", growth <= GROWTH_BOUND))
    return found


def page(options: argparse.Namespace) -> Page:
    """Measure, and put what came out in order."""
    samples = measure(options)
    about = (__doc__ or "").rsplit("\n\n", maxsplit=1)[-1].replace("\n", " ").strip()
    done = Page("Cost of optimising", about, samples=samples)
    failures = [s for s in samples if "failure" in s]
    if failures:
        done.demands = [Demand("every measurement comes through", failures[0]["failure"][-300:], False)]
        return done
    shown = options.models[: options.shown]
    done.tables = [model_table(samples, options.models)] if options.models else []
    done.tables += [size_table(samples, options.nodes)] if options.nodes else []
    done.tables += [pass_table(samples, shown, options.nodes)]
    done.demands = demands(samples, options.models, options.nodes)
    return done


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n", maxsplit=1)[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--models", type=names, default=("all",), help="names of the zoo, with commas, or 'all'")
    parser.add_argument("--nodes", type=sizes, default=[1000, 10_000, LARGEST], help="sizes, with commas")
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    parser.add_argument("--shown", type=int, default=4, help="of so many models, the time in each pass")
    parser.add_argument("--proof-seconds", type=float, default=600.0, help="the proofs of one model end after so many")
    parser.add_argument("--seed", type=int, default=0, help="of the generated graphs")
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds for one measurement")
    add_outputs(parser)
    options = parser.parse_args()
    if options.models == ("all",):
        from subjects import entries

        options.models = tuple(sorted(entries(), key=lambda name: name != FIRST_MODEL))
    return options


def sizes(text: str) -> list[int]:
    """Numbers with commas, in order."""
    return sorted(int(part) for part in names(text))


def main() -> int:
    """Measure and print; 1 if a demand is not met."""
    options = parse_options()
    return finish(page(options), options)


if __name__ == "__main__":
    sys.exit(main())
