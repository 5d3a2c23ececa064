"""Counts every firing of every rule on the zoo and on PyTorch's operator suite, and what the proofs say of each.

    python tests/conformance/firings.py [--only zoo:NAME op_db:NAME …] [--again] [--report docs/conformance.md]

Each model is optimised twice, with every firing checked and no limit of time: as imported, for ONNX; and spelled out in
simpler ops at random (`respelled.py`), for ONNX Runtime. What fired is counted by the passes, what was checked by the checker: a firing that slips
by shows. Ends with 1 unless every firing was checked and none refused.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from suite import ROOT, Record, Suite, main  # beside this file, which Python puts on the path

SECONDS = 300.0  # for one model: the largest of the zoo are read, spelled out and optimised twice
DENOMINATOR = 25 + 702  # models of the zoo, entries of op_db in torch 2.13
SKIPPED = ("llama_stack_16", "llama_stack_64")  # the layers of llama_stack_4 again


# ---- one model -------------------------------------------------------------------------------------------------


@cache
def _zoo() -> dict[str, Any]:
    sys.path.append(str(ROOT))
    from tests.zoo import BY_NAME

    return {f"zoo:{name}": entry for name, entry in BY_NAME.items() if name not in SKIPPED}


@cache
def _op_db() -> dict[str, Any]:
    import op_db_cases as cases

    return {f"op_db:{cases.title(op)}": op for op in cases.entries()}


def _run(name: str, options: argparse.Namespace) -> Iterator[Record]:
    warnings.simplefilter("ignore")
    found = _of_zoo(_zoo()[name]) if name in _zoo() else _of_op_db(_op_db()[name], options.samples)
    try:
        for record in found:
            yield {"op": name, "case": "", "reason": "", **record}
    except Exception as error:
        yield {"op": name, "case": "", "outcome": "error", "reason": f"{type(error).__name__}: {error}"[:400]}


def _of_zoo(entry: Any) -> Iterator[Record]:
    from dragoman.frontends.pytorch import import_module

    args, kwargs = entry.arguments(entry.example)
    found = import_module(entry.factory(), args, kwargs, dynamic=entry.dynamic)
    yield from _optimised(found.imported.graph, tuple(found.runner.examples()))


def _of_op_db(op: Any, count: int) -> Iterator[Record]:
    import op_db_cases as cases

    if cases.title(op) in cases.EXCLUDED:
        yield {"outcome": "excluded", "reason": cases.EXCLUDED[cases.title(op)]}
        return
    for case, sample in cases.samples_of(op, count):
        try:
            graph, examples = cases.graph_of(op, sample)
        except Exception as error:  # op_db.py counts what is refused, and tells an error from a refusal
            yield {"case": case, "outcome": "refused", "reason": f"not read: {type(error).__name__}"}
            continue
        for record in _optimised(graph, examples):
            yield {**record, "case": f"{case} {record['case']}"}


def _optimised(graph: Any, examples: Sequence[Any]) -> Iterator[Record]:
    from respelled import spell_out

    from dragoman.ir.region import clone

    other = clone(graph)
    yield {"case": "as imported", **_counted(graph, examples, heads=False)}
    if spell_out(other):
        yield {"case": "spelled out", **_counted(other, examples, heads=True)}


def _counted(graph: Any, examples: Sequence[Any], *, heads: bool) -> Record:
    """Optimised as for ONNX; with `heads`, as for ONNX Runtime."""
    from dragoman.backends.onnx import PREFERRED_LAYOUT, channels_first_only
    from dragoman.passes.check import RewriteChecker
    from dragoman.passes.manager import Context, TargetLayout, run_passes
    from dragoman.passes.pipelines import IMPORTED, OPTIMISE

    checker = RewriteChecker()
    checker.run_on(graph, examples)
    context = Context(checker, TargetLayout(PREFERRED_LAYOUT, channels_first_only, rows=True, heads=heads))
    try:
        run_passes(graph, (*IMPORTED, *OPTIMISE), context)
    except Exception as error:
        return {"outcome": "error", "reason": f"{type(error).__name__}: {error}"[:400]}
    fired = Counter[str]()
    for record in context.records:
        fired.update(record.fired)
    rules: dict[str, dict[str, int]] = {name: {"fired": n} for name, n in fired.items()}
    for firing in checker.firings:
        counts = rules.setdefault(firing.rule, {})
        kind = "refused" if not firing.accepted else "exact" if firing.proven else "local"
        counts[kind] = counts.get(kind, 0) + 1
        counts["on_run"] = counts.get("on_run", 0) + (firing.on_run and firing.accepted)
    why = sorted({f"{f.rule}: {f.exact}" for f in checker.firings if f.accepted and not f.proven})
    wrong = [f"refused {f}"[:400] for f in checker.refused]
    wrong += [f"{n} firings of {name} unchecked" for name, n in checker.unchecked.items()]
    return {"outcome": "wrong" if wrong else "right", "reason": "; ".join(wrong), "rules": rules, "why": why}


# ---- what came out ---------------------------------------------------------------------------------------------


@dataclass
class Total:
    """The firings of one rule."""

    fired: int = 0
    exact: int = 0  # by A and B
    local: int = 0  # by B alone
    refused: int = 0
    on_run: int = 0  # where B also held on the values of a run
    why: dict[str, None] = field(default_factory=dict[str, None])

    @property
    def unchecked(self) -> int:
        """Those that took effect and that no proof looked at."""
        return self.fired - self.exact - self.local

    def cells(self) -> list[int]:
        """The numbers of a row."""
        return [self.fired, self.exact, self.local, self.on_run, self.refused, self.unchecked]


def totals(found: Sequence[Record]) -> dict[str, Total]:
    """Firings by rule, the most frequent first."""
    rules: dict[str, Total] = defaultdict(Total)
    for record in found:
        for name, counts in record.get("rules", {}).items():
            total = rules[name]
            for kind, number in counts.items():
                setattr(total, kind, getattr(total, kind) + number)
        for told in record.get("why", ()):
            name, _, reason = told.partition(": ")
            rules[name].why[reason] = None
    return dict(sorted(rules.items(), key=lambda item: (-item[1].fired, item[0])))


def report(found: Mapping[str, Sequence[Record]]) -> str:
    """The section of docs/conformance.md."""
    from dragoman.passes.pipelines import all_rules

    records = [r for each in found.values() for r in each]
    rules = totals(records)
    never = [r.name for r in all_rules() if r.name not in rules]
    graphs = Counter(r["op"].partition(":")[0] for r in records if "rules" in r)
    models = Counter(name.partition(":")[0] for name, each in found.items() if any("rules" in r for r in each))
    fired, refused = sum(t.fired for t in rules.values()), sum(t.refused for t in rules.values())
    checked = fired - sum(t.unchecked for t in rules.values())
    failed = sum(r["outcome"] == "error" for r in records)
    lines = [
        f"{models['zoo']} models of the zoo ({graphs['zoo']} graphs) and {models['op_db']} of PyTorch's 702 operators "
        f"({graphs['op_db']} graphs; the others are refused or excluded as above, {failed} fail): "
        f"**{checked} of {fired} firings checked ({checked / max(fired, 1):.2%}), {refused} refused**.",
        "",
        "| rule | fired | A and B | B alone | B on values of a run | refused | unchecked |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [f"| {name} | {' | '.join(map(str, total.cells()))} |" for name, total in rules.items()]
    why = [f"* {name}: {reason}".replace("|", "\\|") for name, total in rules.items() for reason in total.why]
    lines += ["", "Why B alone:", "", *why] if why else []
    lines += ["", f"Rules that fire on none of these: {', '.join(never)}."] if never else []
    return "\n".join(lines) + "\n"


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--samples", type=int, default=3, help="how many f32 samples of each operator")


SUITE = Suite(
    Path(__file__), "firings", DENOMINATOR, lambda _: [*_zoo(), *_op_db()], _run, report, _options, seconds=SECONDS
)

if __name__ == "__main__":
    sys.exit(main(SUITE))
