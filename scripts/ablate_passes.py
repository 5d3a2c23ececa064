#!/usr/bin/env python3
"""Leaves out each pass, and each group of rules, in turn: are the verdicts on the zoo still the same?

    python scripts/ablate_passes.py docs/benchmarks/passes.md                 # about half an hour on one core
    python scripts/ablate_passes.py /tmp/passes.md --models lstm,unet

Every model is read once and optimised once for each thing left out, with every rewrite proved; then it is emitted, run
in ONNX Runtime with its optimiser off, and compared with the source by the rule of every verification, at the first
sizes that a conversion would try. Graphs that come out equal, weights included, are judged once. No pass may be needed
for a model to be right: ends with 1 if a verdict changes.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
sys.path.append(str(Path(__file__).resolve().parents[1]))

import dragoman
from dragoman.backends.onnx import PREFERRED_LAYOUT, Session, channels_first_only, emit, legal
from dragoman.certificate import graph_hash
from dragoman.ir.cases import digest, plan_cases
from dragoman.ir.equivalence import compare, tally
from dragoman.ir.graph import Graph
from dragoman.ir.region import clone
from dragoman.passes import rules as groups
from dragoman.passes.check import RewriteChecker
from dragoman.passes.legalize import legalize
from dragoman.passes.manager import Context, Pass, TargetLayout, run_passes
from dragoman.passes.pipelines import OPTIMISE
from dragoman.passes.rewrite import Rule, rules_in
from tests.zoo import ENTRIES, Entry

if TYPE_CHECKING:
    from dragoman.ir.runner import Runner

SKIPPED = ("llama_stack_16", "llama_stack_64")  # the layers of llama_stack_4 again
CASES = 2  # sizes: an odd one of each dynamic dim, and 1
NOTHING = "nothing"


@dataclass(frozen=True)
class Ablation:
    """What is left out: passes by name, or rules by name."""

    name: str
    passes: frozenset[str] = frozenset()
    rules: frozenset[str] = frozenset()

    @property
    def pipeline(self) -> tuple[Pass, ...]:
        """The passes that stay."""
        return tuple(p for p in OPTIMISE if _name(p) not in self.passes)


def ablations() -> list[Ablation]:
    """Nothing first, then each pass, each group of rules, and all passes."""
    names = dict.fromkeys(map(_name, OPTIMISE))
    found = [Ablation(NOTHING), *(Ablation(f"pass {n}", frozenset({n})) for n in names)]
    for module in sorted(m.name for m in iter_modules(groups.__path__)):
        rules = rules_in(import_module(f"{groups.__name__}.{module}"))
        if rules:
            found.append(Ablation(f"rules of {module}", rules=frozenset(r.name for r in rules)))
    return [*found, Ablation("every pass", frozenset(names))]


def _name(each: Pass) -> str:
    return str(getattr(each, "__name__", each))


@dataclass
class _Without(Context):
    """A context in which some rules do not exist."""

    left_out: frozenset[str] = frozenset()

    def rewrite(self, graph: Graph, rules: Sequence[Rule], *, backwards: bool = False) -> int:
        """Apply the others."""
        return super().rewrite(graph, [r for r in rules if r.name not in self.left_out], backwards=backwards)


class _Remembering:
    """A source that runs once for equal inputs."""

    def __init__(self, source: Runner) -> None:
        self.name = source.name
        self._source = source
        self._known: dict[tuple[str, bool], list[Any]] = {}

    def run(self, inputs: Sequence[Any], double: bool = False) -> list[Any]:
        """The outputs, from memory if they are known."""
        key = digest(inputs), double
        if key not in self._known:
            self._known[key] = self._source.run(inputs, double)
        return [x.copy() for x in self._known[key]]


@dataclass
class Row:
    """What became of the zoo without something."""

    ablation: Ablation
    verdicts: dict[str, str] = field(default_factory=dict[str, str])
    nodes: dict[str, int] = field(default_factory=dict[str, int])  # of the ONNX model
    seconds: float = 0.0  # of optimising, proofs included

    def cells(self, full: Row) -> list[str]:
        """The row, as text."""
        counts = ", ".join(f"{n} {verdict}" for verdict, n in Counter(self.verdicts.values()).most_common())
        changed = [f"{m}: {v}, not {full.verdicts[m]}" for m, v in self.verdicts.items() if worse(v, full.verdicts[m])]
        more = sum(self.nodes.values()) / max(sum(full.nodes.values()), 1) - 1
        larger = sum(n > full.nodes[m] for m, n in self.nodes.items())
        return [
            self.ablation.name,
            counts,
            "; ".join(changed) or "—",
            f"{more:+.1%}",
            str(larger),
            f"{self.seconds:.0f}",
        ]


def worse(verdict: str, than: str) -> bool:
    """Whether less is shown than with all passes."""
    order = ("PROVEN", "VERIFIED", "INCONCLUSIVE", "DIFFERENT")
    rank: Mapping[str, int] = {v: i for i, v in enumerate(order)}
    return rank.get(verdict, len(order)) > rank.get(than, len(order))


def judge(entry: Entry, rows: Sequence[Row]) -> None:
    """Run one model without each thing, and note what becomes of it."""
    args, kwargs = entry.arguments(entry.example)
    model = dragoman.load(entry.factory(), args, kwargs, dynamic=entry.dynamic)
    assert model.source is not None
    source = _Remembering(model.source)
    known: dict[str, tuple[str, int]] = {}
    for row in rows:
        graph = clone(model.graph)
        checker = RewriteChecker()
        checker.run_on(graph, model.examples)
        layout = TargetLayout(PREFERRED_LAYOUT, channels_first_only, rows=True)
        started = time.perf_counter()
        run_passes(graph, row.ablation.pipeline, _Without(checker, layout, left_out=row.ablation.rules))
        row.seconds += time.perf_counter() - started
        proofs = tally(checker.firings, checker.unchecked)
        told = "exactly" if all(p.proven == p.fired for p in proofs) else "locally"
        legalize(graph, legal())
        key = f"{graph_hash(graph)} {told}"
        if key not in known:
            session = Session(emit(graph), optimise=False)
            found = compare(model.graph, source, session, cases=plan_cases(model.graph)[:CASES], rules=proofs)
            known[key] = str(found.verdict), sum(node.op.name != "constant" for node in graph)
        row.verdicts[entry.name], row.nodes[entry.name] = known[key]
    print(f"{entry.name}: {dict(Counter(r.verdicts[entry.name] for r in rows))}, {len(known)} graphs", flush=True)


COLUMNS = ["left out", "verdicts", "worse than with all", "nodes", "models with more nodes", "s to optimise"]


def page(rows: Sequence[Row]) -> str:
    """The whole page."""
    full = rows[0]
    lines = [
        "# Each pass left out in turn",
        "",
        f"Written by `make ablation`: {len(full.verdicts)} models of the zoo, each optimised without one pass or",
        "one group of rules, all rewrites proved, emitted as ONNX and compared with PyTorch in float64 at two sizes,",
        "ONNX Runtime's optimiser off. No model needs a pass to be right; what one is worth shows in the nodes of the",
        "graph that is emitted, relative to all passes. A verdict may rise where what only proof B judges is left out.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "| --- | --- | --- | ---: | ---: | ---: |",
        *("| " + " | ".join(row.cells(full)) + " |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run, write; 1 if a verdict is worse without something."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("page", type=Path, help="the Markdown file to write")
    parser.add_argument("--models", default="", help="names, with commas")
    options = parser.parse_args()
    rows = [Row(a) for a in ablations()]
    chosen = [
        e for e in ENTRIES if e.name not in SKIPPED and (not options.models or e.name in options.models.split(","))
    ]
    for entry in chosen:
        judge(entry, rows)
        gc.collect()
    options.page.write_text(page(rows), encoding="utf-8")
    return int(any(worse(v, rows[0].verdicts[m]) for row in rows for m, v in row.verdicts.items()))


if __name__ == "__main__":
    sys.exit(main())
