"""Runs the cases of a suite that somebody else wrote, and reports what came out.

Cases run in a worker process of their own, so that a crash or a hang costs one case. Results are kept line by line; a
second run goes on where the first stopped.
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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SECONDS = 90.0
LIFETIME = 150  # cases to a worker: what frameworks cache grows
Record = dict[str, Any]


@dataclass(frozen=True)
class Suite:
    """What a driver says of its suite.

    names      every case of the suite, in its order, with the options of the run
    run        the records of one case
    report     the section of docs/conformance.md
    seconds    for one case, imports of a fresh worker not counted
    ours       which records are of our doing, where a suite also runs others beside us: all unless told
    """

    script: Path
    title: str
    count: int
    names: Callable[[argparse.Namespace], Sequence[str]]
    run: Callable[[str, argparse.Namespace], Iterable[Record]]
    report: Callable[[Mapping[str, Sequence[Record]]], str]
    options: Callable[[argparse.ArgumentParser], None]
    seconds: float = SECONDS
    ours: Callable[[Sequence[Record]], Sequence[Record]] = lambda records: records

    @property
    def kept(self) -> Path:
        """Where results are kept."""
        return ROOT / "build" / "conformance" / f"{self.title}.jsonl"


# ---- the worker ------------------------------------------------------------------------------------------------


def serve(suite: Suite, options: argparse.Namespace) -> None:
    """Answer names of cases on stdin with a line for each record and an empty one at the end."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    answers.write(json.dumps(list(suite.names(options))) + "\n")
    for line in sys.stdin:
        for record in suite.run(line.strip(), options):
            answers.write(json.dumps(record) + "\n")
        answers.write("\n")


class Worker:
    """A process that runs cases one by one."""

    def __init__(self, suite: Suite, arguments: Sequence[str]) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
        command = [sys.executable, str(suite.script), *arguments, "--worker"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        self._buffer = b""
        self._seconds = suite.seconds
        self.served = 0
        self.names: list[str] = json.loads(self._line(600.0) or "[]")

    def run(self, name: str) -> tuple[list[Record], str]:
        """The records of a case, and why they are not all of them."""
        assert self._process.stdin is not None
        self.served += 1
        records: list[Record] = []
        self._process.stdin.write(f"{name}\n".encode())
        self._process.stdin.flush()
        while True:
            line = self._line(self._seconds)
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
        return f"no answer in {self._seconds:g} s" if code is None else f"the process ended with {code}"

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


# ---- the driver ------------------------------------------------------------------------------------------------


def drive(suite: Suite, options: argparse.Namespace, arguments: Sequence[str]) -> dict[str, list[Record]]:
    """Run what has no result yet; returns all results by case."""
    kept = options.kept or suite.kept
    found = {} if options.again and not options.only else _read(kept)
    for name in options.only:
        found.pop(name, None)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text("".join(json.dumps(r) + "\n" for records in found.values() for r in records), encoding="utf-8")
    worker = Worker(suite, arguments)
    names = worker.names
    if len(names) != suite.count:
        print(f"{suite.title} has {len(names)} cases here, not {suite.count}: the rates are of another suite")
    with kept.open("a", encoding="utf-8") as file:
        for name in [t for t in (options.only or names[:: options.every]) if t not in found]:
            if worker.served >= LIFETIME:
                worker.stop()
                worker = Worker(suite, arguments)
            records, stopped = worker.run(name)
            if stopped:
                records.append({"op": name, "case": "", "outcome": "error", "reason": stopped})
                worker = Worker(suite, arguments)
            file.writelines(json.dumps(r) + "\n" for r in records)
            file.flush()
            found[name] = records
            _show(name, suite.ours(records))
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

_RANKS = {
    "right": 0,
    "excluded": 1,
    "refused": 2,
    "unemitted": 2,
    "runtime": 3,
    "inconclusive": 3,
    "kernel": 4,
    "error": 5,
    "wrong": 6,
}


def verdict(records: Sequence[Record]) -> str:
    """One class for a case: wrong or an error if any sample is, right if all are, partly if some are refused."""
    kinds = {r["outcome"] for r in records} or {"error"}
    for kind in ("wrong", "error", "kernel", "inconclusive", "excluded"):
        if kind in kinds:
            return kind
    if kinds == {"right"}:
        return "right"
    if "right" in kinds:
        return "partly"
    return "refused" if "refused" in kinds else "runtime"


def reasons(found: Mapping[str, Sequence[Record]], kinds: Sequence[str]) -> dict[str, list[str]]:
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


def listed(heading: str, grouped: Mapping[str, Sequence[str]]) -> list[str]:
    ordered = sorted(grouped.items(), key=lambda item: (-len(item[1]), item[0]))
    items = [f"* {reason.replace('|', '/')}: {', '.join(names)}" for reason, names in ordered]
    return [f"### {heading}", "", *items, ""]


def write_report(path: Path, title: str, text: str) -> None:
    """Put the section between its marks."""
    begin, end = f"<!-- {title}: written by make conformance -->", f"<!-- {title}: end -->"
    page = path.read_text(encoding="utf-8")
    before, rest = page.split(begin, 1)
    after = rest.split(end, 1)[1]
    path.write_text(f"{before}{begin}\n\n{text}\n{end}{after}", encoding="utf-8")


def main(suite: Suite) -> int:
    """The command line of a suite. 1 if anything is wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", default=[], help="names of cases, run again")
    parser.add_argument("--every", type=int, default=1, help="run every so many cases: for development")
    parser.add_argument("--again", action="store_true", help="forget earlier results")
    parser.add_argument("--kept", type=Path, help="where results are kept")
    parser.add_argument("--report", type=Path, help="write the tables into this page")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    suite.options(parser)
    options = parser.parse_args()
    if options.worker:
        serve(suite, options)
        return 0
    found = drive(suite, options, [a for a in sys.argv[1:] if a != "--worker"])
    text = suite.report(found)
    print(text)
    if options.report:
        write_report(options.report, suite.title, text)
    verdicts = Counter(verdict(suite.ours(records)) for records in found.values())
    return 1 if verdicts["wrong"] or verdicts["error"] else 0
