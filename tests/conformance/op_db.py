"""Drives the whole of PyTorch's operator suite (`op_db`) through import, interpreter, ONNX and ONNX Runtime.

    python tests/conformance/op_db.py [--only NAME …] [--again] [--samples 3] [--report docs/conformance.md]

How cases run and where results are kept is in `suite.py`. Ends with 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from suite import Record, Suite, listed, main, reasons, verdict  # beside this file, which Python puts on the path

DENOMINATOR = 702  # entries of op_db in torch 2.13


@cache
def _entries() -> dict[str, Any]:
    import op_db_cases as cases

    return {cases.title(op): op for op in cases.entries()}


def _run(name: str, options: argparse.Namespace) -> Iterator[Record]:
    import op_db_cases as cases

    if name in cases.EXCLUDED:
        yield {"op": name, "case": "", "outcome": "excluded", "reason": cases.EXCLUDED[name]}
        return
    op = _entries()[name]
    try:
        for case, sample in cases.samples_of(op, options.samples):
            outcome = cases.run_sample(op, sample)
            yield {"op": name, "case": case, "outcome": outcome.kind, "reason": outcome.reason}
    except Exception as error:
        reason = f"no samples: {type(error).__name__}: {error}"[:300]
        yield {"op": name, "case": "", "outcome": "error", "reason": reason}


_MEANING = {
    "right": "every sample right",
    "partly": "some samples right, the others refused with a reason",
    "refused": "refused when imported or emitted, with a reason",
    "runtime": "the model is valid, ONNX Runtime has no kernel for its types",
    "kernel": "ONNX Runtime's kernel gives another number, ONNX's own reference gives PyTorch's for the same model",
    "wrong": "**another result than PyTorch**",
    "error": "an error inside Dragoman, a crash or a hang",
    "excluded": "has no one right answer (below)",
}


def report(found: Mapping[str, Sequence[Record]]) -> str:
    """The section of docs/conformance.md."""
    verdicts = {name: verdict(records) for name, records in found.items()}
    counts = Counter(verdicts.values())
    samples = Counter(r["outcome"] for records in found.values() for r in records)
    lines = ["| of 702 operators | | |", "|---|---:|---|"]
    lines += [f"| {kind} | {counts[kind]} | {meaning} |" for kind, meaning in _MEANING.items()]
    lines += ["", f"Samples: {', '.join(f'{n} {kind}' for kind, n in samples.most_common())}.", ""]
    lines += listed("What is refused, by reason", reasons(found, ("refused", "runtime")))
    lines += listed("Where ONNX Runtime's kernels differ", reasons(found, ("kernel",)))
    bad = {n: r for n, r in found.items() if verdicts[n] in ("wrong", "error")}
    if bad:
        lines += listed("What is wrong or fails", reasons(bad, ("wrong", "error")))
    excluded: dict[str, list[str]] = defaultdict(list)
    for name, records in found.items():
        if verdicts[name] == "excluded":
            excluded[records[0]["reason"]].append(name)
    lines += listed("What is excluded", excluded)
    return "\n".join(lines)


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--samples", type=int, default=3, help="how many f32 samples of each operator")


SUITE = Suite(Path(__file__), "op_db", DENOMINATOR, lambda _: list(_entries()), _run, report, _options)

if __name__ == "__main__":
    sys.exit(main(SUITE))
