"""Drives the whole of PyTorch's operator suite (`op_db`) through import, interpreter, ONNX and ONNX Runtime.

    python tests/conformance/op_db.py [--only NAME …] [--again] [--samples 3] [--report docs/conformance.md]

Operators run in a worker process of their own, so that a crash or a hang costs one operator. Results are kept line by
line in `build/conformance/op_db.jsonl`; a second run goes on where the first stopped. Ends with 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

DENOMINATOR = 702  # entries of op_db in torch 2.13
ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "conformance" / "op_db.jsonl"
SECONDS = 90.0  # for one operator, imports of a fresh worker not counted
LIFETIME = 150  # operators to a worker: what torch caches grows
Record = dict[str, Any]


# ---- the worker ------------------------------------------------------------------------------------------------


def serve(count: int) -> None:
    """Answer names of operators on stdin with a line for each sample and an empty one at the end."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    import op_db_cases as cases  # beside this file, which Python puts on the path

    by_title = {cases.title(op): op for op in cases.entries()}
    answers.write(json.dumps(list(by_title)) + "\n")
    for line in sys.stdin:
        name = line.strip()
        for record in _of(cases, by_title[name], name, count):
            answers.write(json.dumps(record) + "\n")
        answers.write("\n")


def _of(cases: Any, op: Any, name: str, count: int) -> Iterator[Record]:
    if name in cases.EXCLUDED:
        yield {"op": name, "case": "", "outcome": "excluded", "reason": cases.EXCLUDED[name]}
        return
    try:
        for case, sample in cases.samples_of(op, count):
            outcome = cases.run_sample(op, sample)
            yield {"op": name, "case": case, "outcome": outcome.kind, "reason": outcome.reason}
    except Exception as error:
        reason = f"no samples: {type(error).__name__}: {error}"[:300]
        yield {"op": name, "case": "", "outcome": "error", "reason": reason}


class Worker:
    """A process that runs operators one by one."""

    def __init__(self, count: int) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
        command = [sys.executable, __file__, "--worker", "--samples", str(count)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        self._buffer = b""
        self.served = 0
        self.titles: list[str] = json.loads(self._line(600.0) or "[]")

    def run(self, name: str) -> tuple[list[Record], str]:
        """The records of an operator, and why they are not all of them."""
        assert self._process.stdin is not None
        self.served += 1
        records: list[Record] = []
        self._process.stdin.write(f"{name}\n".encode())
        self._process.stdin.flush()
        while True:
            line = self._line(SECONDS)
            if line is None:
                return records, self._end()
            if not line:
                return records, ""
            records.append(json.loads(line))

    def _line(self, seconds: float) -> str | None:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([descriptor], [], [], seconds)
            piece = os.read(descriptor, 1 << 16) if ready else b""
            if not piece:
                return None
            self._buffer += piece
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line.decode()

    def _end(self) -> str:
        code = self._process.poll()
        self.stop()
        return f"no answer in {SECONDS:g} s" if code is None else f"the process ended with {code}"

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


# ---- the driver ------------------------------------------------------------------------------------------------


def drive(only: Sequence[str], again: bool, count: int, kept: Path) -> dict[str, list[Record]]:
    """Run what has no result yet; returns all results by operator."""
    found = {} if again and not only else _read(kept)
    for name in only:
        found.pop(name, None)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text("".join(json.dumps(r) + "\n" for records in found.values() for r in records), encoding="utf-8")
    worker = Worker(count)
    titles = worker.titles
    if len(titles) != DENOMINATOR:
        print(f"op_db has {len(titles)} entries here, not {DENOMINATOR}: the rates are of another suite")
    with kept.open("a", encoding="utf-8") as file:
        for name in [t for t in (only or titles) if t not in found]:
            if worker.served >= LIFETIME:
                worker.stop()
                worker = Worker(count)
            records, stopped = worker.run(name)
            if stopped:
                records.append({"op": name, "case": "", "outcome": "error", "reason": stopped})
                worker = Worker(count)
            file.writelines(json.dumps(r) + "\n" for r in records)
            file.flush()
            found[name] = records
            _show(name, records)
    worker.stop()
    return found


def _read(kept: Path) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = defaultdict(list)
    if kept.exists():
        for line in kept.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            found[record["op"]].append(record)
    return dict(found)


def _show(name: str, records: Sequence[Record]) -> None:
    counts = Counter(r["outcome"] for r in records)
    if set(counts) != {"right"}:
        worst = max(records, key=lambda r: _RANKS[r["outcome"]], default={"reason": ""})
        print(f"{name}: {dict(counts)}  {worst['reason'][:200]}", flush=True)


# ---- what came out ---------------------------------------------------------------------------------------------

_RANKS = {"right": 0, "excluded": 1, "refused": 2, "runtime": 3, "kernel": 4, "error": 5, "wrong": 6}


def verdict(records: Sequence[Record]) -> str:
    """One class for an operator: wrong or an error if any sample is, right if all are, partly if some are refused."""
    kinds = {r["outcome"] for r in records} or {"error"}
    for kind in ("wrong", "error", "kernel", "excluded"):
        if kind in kinds:
            return kind
    if kinds == {"right"}:
        return "right"
    if "right" in kinds:
        return "partly"
    return "refused" if "refused" in kinds else "runtime"


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
    lines += _listed("What is refused, by reason", _reasons(found, ("refused", "runtime")))
    lines += _listed("Where ONNX Runtime's kernels differ", _reasons(found, ("kernel",)))
    bad = {n: r for n, r in found.items() if verdicts[n] in ("wrong", "error")}
    if bad:
        lines += _listed("What is wrong or fails", _reasons(bad, ("wrong", "error")))
    excluded: dict[str, list[str]] = defaultdict(list)
    for name, records in found.items():
        if verdicts[name] == "excluded":
            excluded[records[0]["reason"]].append(name)
    lines += _listed("What is excluded", excluded)
    return "\n".join(lines)


def _reasons(found: Mapping[str, Sequence[Record]], kinds: Sequence[str]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = defaultdict(list)
    for name, records in found.items():
        for reason in dict.fromkeys(_class_of(r["reason"]) for r in records if r["outcome"] in kinds):
            grouped[reason].append(name)
    return grouped


def _class_of(reason: str) -> str:
    """A reason without what differs from sample to sample: types, attributes, lines of source."""
    reason = re.sub(r" \| .*", "", reason)
    reason = re.sub(r"\w+\((?:[^()]|\([^()]*\))*\)(?: \{.*?\})?:? ?", "", reason)
    return re.sub(r"\[[\d, ]+\]|\b\d[\d.e+-]*", "…", reason).strip()


def _listed(heading: str, grouped: Mapping[str, Sequence[str]]) -> list[str]:
    ordered = sorted(grouped.items(), key=lambda item: (-len(item[1]), item[0]))
    items = [f"* {reason.replace('|', '/')}: {', '.join(names)}" for reason, names in ordered]
    return [f"### {heading}", "", *items, ""]


_BEGIN, _END = "<!-- op_db: written by make conformance -->", "<!-- op_db: end -->"


def write_report(path: Path, text: str) -> None:
    """Put the section between its marks."""
    page = path.read_text(encoding="utf-8")
    before, rest = page.split(_BEGIN, 1)
    after = rest.split(_END, 1)[1]
    path.write_text(f"{before}{_BEGIN}\n\n{text}\n{_END}{after}", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], help="names of operators, run again")
    parser.add_argument("--again", action="store_true", help="forget earlier results")
    parser.add_argument("--samples", type=int, default=3, help="how many f32 samples of each operator")
    parser.add_argument("--kept", type=Path, default=KEPT, help="where results are kept")
    parser.add_argument("--report", type=Path, help="write the tables into this page")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        serve(options.samples)
        return 0
    found = drive(options.only, options.again, options.samples, options.kept)
    text = report(found)
    print(text)
    if options.report:
        write_report(options.report, text)
    verdicts = Counter(verdict(records) for records in found.values())
    return 1 if verdicts["wrong"] or verdicts["error"] else 0


if __name__ == "__main__":
    sys.exit(main())
