"""Drives all of JAX's own test harnesses through import, interpreter, ONNX and ONNX Runtime.

    python tests/conformance/jax_harnesses.py [--only NAME …] [--every N] [--again] [--report docs/conformance.md]

How cases run and where results are kept is in `suite.py`. Ends with 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from suite import Record, Suite, listed, main, reasons, verdict  # beside this file, which Python puts on the path

DENOMINATOR = 5594  # harnesses in jax 0.10


def _run(name: str, options: argparse.Namespace) -> Iterator[Record]:
    import jax_cases as cases
    import jax_suite

    harness = jax_suite.harnesses()[name]
    reason = jax_suite.excluded(harness)
    if reason:
        yield {"op": name, "case": "", "outcome": "excluded", "reason": reason}
        return
    outcome = cases.run_harness(harness)
    yield {"op": name, "case": "", "outcome": outcome.kind, "reason": outcome.reason}


def _names(options: argparse.Namespace) -> list[str]:
    import jax_suite

    return list(jax_suite.harnesses())


_MEANING = {
    "right": "right in our interpreter and in ONNX Runtime",
    "runtime": "right in our interpreter; the ONNX model is valid, ONNX Runtime has no kernel for its types",
    "unemitted": "right in our interpreter; ONNX has no form for it, refused with the reason",
    "kernel": "right in our interpreter; ONNX Runtime's kernel gives another number than ONNX's own reference",
    "refused": "refused when imported, with the reason",
    "wrong": "**another result than JAX**",
    "error": "an error inside Dragoman, a crash or a hang",
    "excluded": "does not run in JAX itself on a processor (below)",
}


def report(found: Mapping[str, Sequence[Record]]) -> str:
    """The section of docs/conformance.md."""
    verdicts = {
        name: records[0]["outcome"] if len(records) == 1 else verdict(records) for name, records in found.items()
    }
    counts = Counter(verdicts.values())
    run = len(found) - counts["excluded"]
    ours = sum(counts[k] for k in ("right", "runtime", "unemitted", "kernel"))
    lines = [f"| of {len(found)} harnesses | | |", "|---|---:|---|"]
    lines += [f"| {kind} | {counts[kind]} | {meaning} |" for kind, meaning in _MEANING.items()]
    share, right = 100 * ours / max(run, 1), 100 * counts["right"] / max(run, 1)
    lines += ["", f"Of {run} that run: {share:.1f} % right in our interpreter, {right:.1f} % in ONNX Runtime too.", ""]
    lines += ["| group | " + " | ".join(_MEANING) + " |", "|---|" + "---:|" * len(_MEANING)]
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    for name, kind in verdicts.items():
        groups[_group(name)][kind] += 1
    for group, kinds in sorted(groups.items()):
        if set(kinds) != {"right"}:
            lines.append(f"| {group} | " + " | ".join(str(kinds[k] or "") for k in _MEANING) + " |")
    whole = sum(set(kinds) == {"right"} for kinds in groups.values())
    lines += ["", f"All harnesses of the other {whole} groups are right.", ""]
    for heading, kinds in (
        ("What is refused, by reason", ("refused",)),
        ("What ONNX has no form for", ("unemitted",)),
        ("What ONNX Runtime has no kernel for", ("runtime",)),
        ("Where ONNX Runtime's kernels differ", ("kernel",)),
        ("What is wrong or fails", ("wrong", "error")),
        ("What is excluded", ("excluded",)),
    ):
        lines += listed(heading, {reason: _groups_of(names) for reason, names in reasons(found, kinds).items()})
    return "\n".join(lines)


def _group(name: str) -> str:
    import jax_suite

    return jax_suite.harnesses()[name].group_name


def _groups_of(names: Sequence[str]) -> list[str]:
    return [f"{group} {count}×" for group, count in Counter(map(_group, names)).most_common()]


SUITE = Suite(Path(__file__), "jax_harnesses", DENOMINATOR, _names, _run, report, lambda _: None)

if __name__ == "__main__":
    sys.exit(main(SUITE))
