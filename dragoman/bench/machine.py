"""What a measurement ran on, how busy that was with other things, and which processors it was pinned to."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

_PACKAGES = ("torch", "jax", "tensorflow", "onnxruntime", "openvino", "triton", "onnx", "numpy")
_BUSY = 0.15  # of one processor, used by others: a reader should know


@dataclass(frozen=True)
class Machine:
    """A description; `processors` are those that measurements were pinned to."""

    processor: str
    processors: tuple[int, ...]
    threads: int
    memory_bytes: int
    python: str
    versions: dict[str, str]

    def __str__(self) -> str:
        cores = f"{self.threads} thread{'s' * (self.threads != 1)} on processors {_ranges(self.processors)}"
        return f"{self.processor}; {cores}; {self.memory_bytes / 2**30:.0f} GiB; Python {self.python}"


def describe(threads: int) -> Machine:
    """This machine."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    available = tuple(sorted(os.sched_getaffinity(0)))
    return Machine(_processor(), available, threads, pages, platform.python_version(), versions)


class Others:
    """How many processors other programs used between `__init__` and `used`: all but the processes named."""

    def __init__(self, processes: Iterable[int]) -> None:
        self._pids = list(processes)
        self._before = _busy_seconds(), sum(map(_seconds_of, self._pids)), _elapsed()

    def used(self) -> float:
        """Processors kept busy by others, on average."""
        busy, own, then = self._before
        elapsed = max(_elapsed() - then, 1e-9)
        theirs = (_busy_seconds() - busy) - (sum(map(_seconds_of, self._pids)) - own)
        return max(theirs / elapsed, 0.0)


def disturbance(used: float) -> str:
    """What to say of others' load; empty where there was next to none."""
    return f"other programs kept {used:.1f} processors busy meanwhile" if used > _BUSY else ""


def _elapsed() -> float:
    import time

    return time.monotonic()


def _busy_seconds() -> float:
    fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
    user, nice, system, _, _, irq, softirq, steal = (int(f) for f in fields[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _seconds_of(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _ranges(numbers: tuple[int, ...]) -> str:
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{p[0]}–{p[-1]}" if len(p) > 1 else str(p[0]) for p in parts)
