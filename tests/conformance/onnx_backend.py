"""Drives ONNX's own backend suite whole through import, interpreter, ONNX and ONNX Runtime.

    python tests/conformance/onnx_backend.py [--only CASE …] [--again] [--report docs/conformance.md]

Cases run in a worker process, so that a crash or a hang costs one. Results are kept line by line in
`build/conformance/onnx_backend.jsonl`; a second run goes on where the first stopped. Ends with 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from suite import Record, Suite, main  # beside this file, which Python puts on the path

DENOMINATOR = 1884 + 23 + 82 + 35  # node, simple, pytorch-converted, pytorch-operator of onnx 1.23
OPSETS = (13, 17, 21)
_FOR_VALUES = "the model is made for the case's values of "
_WAYS = {
    "runtime": "ONNX Runtime on the original",
    "reference": "`onnx.reference` on the original",
    "interpreter": "**ours: import, reference interpreter**",
    "plain": "**ours: import, ONNX, ONNX Runtime**",
    "optimised": "**ours: import, optimise, ONNX, ONNX Runtime**",
}


@cache
def _cases() -> dict[str, Any]:
    import onnx_backend_cases as cases

    return cases.all_cases()


def _run(title: str, options: argparse.Namespace) -> Iterator[Record]:
    import onnx_backend_cases as cases

    reason = cases.excluded(title.rpartition(": ")[2])
    if reason:
        yield {"op": title, "case": "", "outcome": "excluded", "reason": reason}
        return
    for way, outcome in cases.outcomes(_cases()[title](), cases_opsets()).items():
        yield {"op": title, "case": way, "outcome": outcome.kind, "reason": outcome.reason}


def cases_opsets() -> tuple[int, ...]:
    """The opsets that are written to besides the case's own."""
    from dragoman.backends.onnx import OLDEST_OPSET

    return tuple(o for o in OPSETS if o >= OLDEST_OPSET)


def by_way(records: Sequence[Record]) -> dict[str, tuple[str, str]]:
    """Outcome and reason of each way of running a case."""
    return {r["case"]: (r["outcome"], r["reason"]) for r in records}


def ours(records: Sequence[Record]) -> list[Record]:
    """What is of our doing: where ONNX Runtime itself fails on the original, what it makes of ours says nothing."""
    ways = by_way(records)
    theirs = ways.get("runtime", ("", ""))[0] != "right"
    kept: list[Record] = []
    for record in records:
        way, kind = record["case"], record["outcome"]
        if way in ("runtime", "reference") or (theirs and way not in ("", "interpreter")):
            continue
        # It takes the original and not what we write.
        kept.append({**record, "outcome": "wrong"} if kind == "missing" else record)
    return kept or [{**r, "outcome": "right"} for r in records[:1]]


def faults(found: Mapping[str, Sequence[Record]]) -> dict[str, list[str]]:
    """Cases that are wrong or fail by our doing, by reason."""
    grouped: dict[str, list[str]] = defaultdict(list)
    for title, records in found.items():
        for record in ours(records):
            if record["outcome"] in ("wrong", "error"):
                grouped[f"{record['case'] or 'all'}: {_class_of(record['reason'])}"].append(title)
    return grouped


def _class_of(reason: str) -> str:
    return re.sub(r"\b\d[\d.e+-]*", "…", reason)[:160]


def report(found: Mapping[str, Sequence[Record]]) -> str:
    """The section of docs/conformance.md."""
    kept = {t: by_way(r) for t, r in found.items() if r and r[0]["outcome"] != "excluded"}
    total = len(kept)
    ways = [*_WAYS, *(f"opset {o}" for o in OPSETS)]
    lines = [
        f"| of {total} cases | right | | wrong | refused | no kernel | error |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for way in ways:
        counts = Counter(ways_of.get(way, ("not reached", ""))[0] for ways_of in kept.values())
        if counts["not reached"] == total:
            continue
        told = _WAYS.get(way, f"ours, optimised, written at {way}")
        share = f"{100 * counts['right'] / total:.1f} %" if total else ""
        refused = counts["refused"] + counts["not reached"]
        lines.append(
            f"| {told} | {counts['right']} | {share} | {counts['wrong']} | {refused} | {counts['missing']}"
            f" | {counts['error']} |"
        )
    lines += ["", *_of_those_that_run(kept, ways), ""]
    lines += _listed("What is refused, by reason", _refused(kept))
    lines += _listed("What is wrong or fails", faults(found))
    lines += _listed("What is made for values of the case", _for_values(kept))
    excluded: dict[str, list[str]] = defaultdict(list)
    for title, records in found.items():
        if records and records[0]["outcome"] == "excluded":
            excluded[records[0]["reason"]].append(title)
    return "\n".join([*lines, *_listed("What is excluded", excluded)])


def _of_those_that_run(kept: Mapping[str, Mapping[str, tuple[str, str]]], ways: Sequence[str]) -> list[str]:
    right = [w for w in kept.values() if w.get("runtime", ("", ""))[0] == "right"]
    told = [f"Of the {len(right)} cases that ONNX Runtime itself passes:"]
    for way in ways[2:]:
        count = sum(w.get(way, ("", ""))[0] == "right" for w in right)
        told.append(f"* {_WAYS.get(way, way)}: {count}")
    return [told[0], "", *told[1:]]


def _refused(kept: Mapping[str, Mapping[str, tuple[str, str]]]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = defaultdict(list)
    for title, ways in kept.items():
        for way in ("interpreter", "plain", "optimised"):
            kind, reason = ways.get(way, ("", ""))
            if kind == "refused":
                grouped[("import" if way == "interpreter" else way) + ": " + _class_of(reason)].append(title)
                break
    return grouped


def _for_values(kept: Mapping[str, Mapping[str, tuple[str, str]]]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = defaultdict(list)
    for title, ways in kept.items():
        _, mark, names = ways.get("interpreter", ("", ""))[1].partition(_FOR_VALUES)
        if mark:
            grouped[f"of {names}"].append(title)
    return grouped


def _listed(heading: str, grouped: Mapping[str, Sequence[str]]) -> list[str]:
    ordered = sorted(grouped.items(), key=lambda item: (-len(item[1]), item[0]))
    items = [f"* {len(names)}: {reason.replace('|', '/')}: {', '.join(names)}" for reason, names in ordered]
    return [f"### {heading}", "", *items, ""]


def _options(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


SUITE = Suite(Path(__file__), "onnx_backend", DENOMINATOR, lambda _: list(_cases()), _run, report, _options, ours=ours)

if __name__ == "__main__":
    sys.exit(main(SUITE))
