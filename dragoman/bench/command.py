"""The options of `dragoman bench` as the harness takes them, and the command that says them again."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import Any

from dragoman.bench.harness import bench
from dragoman.bench.results import Benchmark
from dragoman.ir.errors import UsageError

ZOO = ("dragoman.bench.zoo:resnet50", "dragoman.bench.zoo:bert")


def run(
    sources: Sequence[str],
    *,
    targets: str | None,
    batch: str | None,
    precision: str,
    compare: bool,
    zoo: bool,
    **options: Any,
) -> Benchmark:
    """Lists from text, then `bench`. Raises UsageError for a batch size that is no number, and what `bench` raises."""
    if compare and len(sources) < 2:
        raise UsageError("--compare takes two files: --compare a.onnx --compare b.onnx, or a.onnx --compare b.onnx")
    named = [*sources, *(ZOO if zoo else ())]
    return bench(
        *named,
        targets=_listed(targets) if targets is not None else None,
        batch=_numbers(batch),
        precision=_listed(precision),
        compare=compare,
        command=shlex.join(["dragoman", *sys.argv[1:]]),
        **options,
    )


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _numbers(text: str | None) -> list[int]:
    try:
        return [int(part) for part in _listed(text or "")]
    except ValueError:
        raise UsageError(f"--batch {text}: write numbers, such as 1,8,32") from None
