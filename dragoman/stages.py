"""How long the stages of a conversion took and how much memory the process held at most."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

Progress = Callable[[str], None]
"""Told the name of each stage as it begins."""


def silent(stage: str) -> None:
    """Progress that nobody watches."""


@dataclass
class Stages:
    """Seconds by stage, in order; entering a stage reports it."""

    progress: Progress = silent
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    _current: str = ""
    _started: float = 0.0

    def begin(self, name: str) -> None:
        """End the stage that runs, and begin another: what a stage tells of its parts are stages of their own."""
        if name == self._current:
            return
        self._end()
        self.progress(name)
        self._current, self._started = name, time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Generator[None]:
        """Time a stage."""
        self.begin(name)
        try:
            yield
        finally:
            self._end()

    def _end(self) -> None:
        if self._current:
            elapsed = time.perf_counter() - self._started
            self.seconds[self._current] = self.seconds.get(self._current, 0.0) + elapsed
            self._current = ""

    @property
    def total(self) -> float:
        """Seconds over all stages."""
        return sum(self.seconds.values())


def memory() -> tuple[int, int]:
    """Resident bytes of this process now and at most so far; (0, 0) where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0, 0
    fields = {line.partition(":")[0]: line.partition(":")[2] for line in lines}
    return _kibibytes(fields.get("VmRSS", "")), _kibibytes(fields.get("VmHWM", ""))


def _kibibytes(text: str) -> int:
    words = text.split()
    return int(words[0]) * 1024 if words else 0
