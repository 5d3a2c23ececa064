"""`dragoman bench`: sources × batch sizes × targets × precisions, measured so that they may be compared.

A source is read once, in a process of its own. Each target of a group lives in a process of its own; they are loaded
one after the other, warmed up, and then take turns (`rounds`). What fails is told in its row.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dragoman.bench.machine import Others, describe
from dragoman.bench.process import Process, TargetFailed
from dragoman.bench.reading import handed_over
from dragoman.bench.results import Benchmark, Group, Row, check_writable
from dragoman.bench.rounds import take_turns
from dragoman.bench.target import Target, Task, chosen
from dragoman.ir.errors import UsageError
from dragoman.stages import Progress, silent

PRECISIONS = ("f32", "f16", "bf16")
_WARM_UP = 8.0  # seconds at most for one target
_CLIENT_SECONDS = 3.0


@dataclass(frozen=True)
class Plan:
    """What to measure. `seconds` is for the rounds of one group."""

    targets: Sequence[tuple[Target, str]]
    precisions: Sequence[str]
    threads: int
    seconds: float
    clients: int
    trust: bool
    named: bool  # targets were asked for by name: one that is missing gets a row that says so
    specs: Sequence[str] = ()
    base: str = ""
    progress: Progress = silent
    absent: dict[str, str] = field(default_factory=dict[str, str])


def bench(
    *sources: Any,
    targets: Sequence[str] | None = None,
    batch: Sequence[int] = (),
    precision: Sequence[str] = ("f32",),
    inputs: Sequence[str] = (),
    compare: bool = False,
    base: str = "",
    threads: int | None = None,
    seconds: float = 15.0,
    clients: int = 0,
    json: str | Path | None = None,
    html: str | Path | None = None,
    trust: bool = False,
    command: str = "",
    progress: Progress = silent,
) -> Benchmark:
    """Measure sources on targets and return the table with everything behind it.

    sources    what `load` takes; a path, a factory's name, or an object that can be pickled
    targets    names, such as "torch" or "onnxruntime:CUDA"; None: all that are here and take the source
    batch      batch sizes; empty: as the source's example has it
    precision  of "f32", "f16", "bf16"
    compare    the sources are ONNX files of one model, compared with each other as they are
    seconds    for the rounds of one group; fewer if all ratios are known well before
    clients    if above 0, so many threads send requests at the same time, for throughput and percentiles

    Raises UsageError for a target, precision or batch that there is not, OutputError where `json` or `html` cannot be
    written. What fails in one target is told in its row.
    """
    if not sources:
        raise UsageError("name a source to measure")
    for wrong in (p for p in precision if p not in PRECISIONS):
        raise UsageError(f"there is no precision {wrong!r}; there is {', '.join(PRECISIONS)}")
    for size in (b for b in batch if b < 1):
        raise UsageError(f"a batch size is 1 or more, not {size}")
    outputs = [Path(p) for p in (json, html) if p is not None]
    for path in outputs:
        check_writable(path)
    threads = threads or len(os.sched_getaffinity(0))
    picked = chosen(["given"] if compare else targets)
    named = targets is not None or compare
    plan = Plan(picked, precision, threads, seconds, clients, trust, named, inputs, base, progress)
    started = time.perf_counter()
    result = Benchmark(describe(threads), command=command, clients=clients, absent=plan.absent)
    with tempfile.TemporaryDirectory(prefix="dragoman-bench.") as folder:
        for sources_of_group, size in _groups(sources, batch, compare):
            result.groups.append(_measured(plan, sources_of_group, size, Path(folder) / f"{len(result.groups)}"))
    result.seconds = time.perf_counter() - started
    if json is not None:
        result.write_json(Path(json))
    if html is not None:
        from dragoman.report.bench_page import write

        write(result, Path(html))
    return result


def _groups(sources: Sequence[Any], batch: Sequence[int], compare: bool) -> Iterator[tuple[Sequence[Any], int | None]]:
    together = [list(sources)] if compare else [[s] for s in sources]
    return ((each, size) for each in together for size in (batch or (None,)))


# ---- one group -----------------------------------------------------------------------------------------


def _measured(plan: Plan, sources: Sequence[Any], batch: int | None, folder: Path) -> Group:
    folder.mkdir(mode=0o700)
    group = Group(" and ".join(map(_named, sources)), batch)
    entries: list[tuple[Row, Target, Task]] = []
    inputs = ""
    for number, source in enumerate(sources):
        place = folder / str(number)
        place.mkdir()
        try:
            found = _read(plan, source, batch, place, inputs)
        except TargetFailed as error:
            group.failure = str(error)
            return group
        inputs = inputs or str(place / "inputs.npz")
        if not number:
            group.oracle, group.operations, group.bytes = found["oracle"], found["operations"], found["bytes"]
            group.shapes = found["shapes"]
        entries += _entries(plan, group, found, source, place, inputs, several=len(sources) > 1)
    if not group.rows:
        group.failure = f"no target takes a source of this kind: {plan.absent or 'name some with --targets'}"
    _run(plan, group, entries, folder)
    return group


def _named(source: Any) -> str:
    return str(source) if isinstance(source, (str, Path)) else type(source).__name__


def _read(plan: Plan, source: Any, batch: int | None, place: Path, inputs: str) -> dict[str, Any]:
    plan.progress(f"{_named(source)}: read")
    forms = sorted({form for target, _ in plan.targets if not target.missing() for form in target.forms})
    by_precision = {p: [f for f in forms if f != "given" or p == "f32"] for p in plan.precisions}
    with Process("reader", place, plan.threads) as reader:
        return reader.ask(
            "read",
            source=handed_over(source, place),
            trust=plan.trust,
            specs=list(plan.specs),
            batch=batch,
            forms=by_precision,
            folder=str(place),
            inputs=inputs,
        )


def _entries(
    plan: Plan, group: Group, found: Mapping[str, Any], source: Any, place: Path, inputs: str, *, several: bool
) -> Iterator[tuple[Row, Target, Task]]:
    for target, variant in plan.targets:
        name = Path(str(source)).name if several else f"{target.name}:{variant}" if variant else target.name
        reason = target.missing() or target.declines(found["kind"])
        if reason and not plan.named:
            if target.missing():
                plan.absent[name] = reason
            continue
        for precision in plan.precisions:
            row = Row(name, precision, failure=reason)
            group.rows.append(row)
            files = {form: found["files"].get(f"{precision} {form}", "") for form in target.forms}
            if not reason and precision not in target.precisions:
                row.failure = f"has no {precision} here: {', '.join(target.precisions)}"
            for form in () if row.failure else target.forms:
                row.failure = found["refused"].get(f"{precision} {form}", row.failure)
            if not row.failure:
                where = handed_over(source, place)
                task = Task(
                    where, found["kind"], inputs, files, precision, plan.threads, variant, plan.trust, str(place)
                )
                yield row, target, task


def _run(plan: Plan, group: Group, entries: Sequence[tuple[Row, Target, Task]], folder: Path) -> None:
    ready: list[tuple[Row, Process, float]] = []
    with ExitStack() as within:
        for row, target, task in entries:
            plan.progress(f"{group.title}: {row.name}: load and warm up")
            process = within.enter_context(Process(row.target, folder, plan.threads))
            try:
                runs, call = _prepared(row, process, target, task)
            except TargetFailed as error:
                row.failure = str(error)
                process.end()
                continue
            if runs:
                ready.append((row, process, call))
            else:
                process.end()
        names = [row.name for row, _, _ in ready]
        if plan.base and plan.base not in names and ready:
            raise UsageError(f"there is no result of {plan.base!r} to compare with; there is {', '.join(names)}")
        group.base = plan.base or (names[0] if names else "")
        ready.sort(key=lambda entry: entry[0].name != group.base)
        plan.progress(f"{group.title}: {len(ready)} targets in turns")
        others = Others([process.pid for _, process, _ in ready] + [os.getpid()])
        take_turns(ready, plan.seconds)
        group.others = others.used()
        alive = [(row, process) for row, process, _ in ready if not row.failure]
        for row, process in alive:
            if plan.clients:
                plan.progress(f"{group.title}: {row.name}: {plan.clients} clients")
                _serve(row, process, plan)
            _weigh(row, process)


def _prepared(row: Row, process: Process, target: Target, task: Task) -> tuple[bool, float]:
    answer = process.ask("load", target=target.name, task=asdict(task))
    row.load_s, row.said, row.file_bytes = answer["load_s"], answer["said"], answer.get("file_bytes")
    if not answer["runs"]:
        return False, 0.0
    first = process.ask("first")
    row.first_s, row.errors = first["first_s"], first.get("errors", [])
    warm = process.ask("warm", most=_WARM_UP)
    row.warm_calls, row.settled = warm["calls"], warm["settled"]
    return True, warm["call_s"]


def _serve(row: Row, process: Process, plan: Plan) -> None:
    try:
        answer = process.ask("clients", clients=plan.clients, seconds=min(_CLIENT_SECONDS, plan.seconds))
    except TargetFailed as error:
        row.said = f"failed with {plan.clients} clients: {error}"
        return
    row.latencies = answer["latencies"]
    row.throughput = len(row.latencies) / answer["seconds"]


def _weigh(row: Row, process: Process) -> None:
    try:
        answer = process.ask("memory")
    except TargetFailed:
        return
    row.peak_bytes, row.device_bytes = answer["peak"] or None, answer["device_peak"] or None
