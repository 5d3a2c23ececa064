"""Wall clock, processor time and peak memory of one stretch of code in this process.

Owns the meter and what the kernel says about the process. Refuses to estimate: the peak is the kernel's own high-water
mark, reset just before (`5` into /proc/self/clear_refs); where that cannot be, a thread samples the resident size, and
the reading says so. Resident memory counts pages of mapped files too; `Reading.anonymous` is the process's own part.
"""

from __future__ import annotations

import ctypes
import gc
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

MIB = 1 << 20
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
_INTERVAL = 0.01  # seconds between two samples: under 1 % of a core


@dataclass
class Reading:
    """What a stretch took: seconds, and bytes over what was resident before it.

    `resident` is the peak of all resident pages. `anonymous` and `mapped` are the sampled peaks of the process's own
    pages and of pages of mapped files; 0 where no sampling was asked for.
    """

    seconds: float = 0.0
    processor_seconds: float = 0.0
    resident: int = 0
    anonymous: int = 0
    mapped: int = 0
    before: int = 0
    exact: bool = True  # the kernel's high-water mark, not samples

    def as_dict(self) -> dict[str, float]:
        """The reading as plain numbers, for JSON."""
        return asdict(self)


class Meter:
    """`with Meter() as meter: …`, then `meter.reading`. `sampled` follows anonymous and mapped pages in a thread."""

    def __init__(self, *, sampled: bool = False) -> None:
        self.reading = Reading()
        self._sampled = sampled
        self._sampler: _Sampler | None = None
        self._clocks = (0.0, 0.0)

    def __enter__(self) -> Meter:
        settle()
        self.reading.exact = _reset_peak()
        if self._sampled or not self.reading.exact:
            self._sampler = _Sampler()
            self._sampler.start()
        self.reading.before = memory()["VmRSS"]
        self._clocks = time.perf_counter(), time.process_time()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        wall, processor = self._clocks
        self.reading.seconds = time.perf_counter() - wall
        self.reading.processor_seconds = time.process_time() - processor
        peak = memory()["VmHWM"] if self.reading.exact else 0
        if self._sampler is not None:
            self._sampler.stop()
            self.reading.anonymous, self.reading.mapped = self._sampler.anonymous, self._sampler.mapped
            peak = peak or self._sampler.resident + self.reading.before
        self.reading.resident = max(0, peak - self.reading.before)


def settle() -> None:
    """Collect garbage and hand freed heap back, so that what is measured cannot hide in memory freed before it."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def memory() -> dict[str, int]:
    """The process's memory by the kernel's names (VmRSS, VmHWM, RssAnon, RssFile, …), in bytes."""
    found: dict[str, int] = {}
    for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            found[name] = int(value[:-3]) * 1024
    return found


def _reset_peak() -> bool:
    try:
        _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return False
    now = memory()
    return now["VmHWM"] - now["VmRSS"] < MIB


class _Sampler(threading.Thread):
    """Follows resident, anonymous and mapped pages over what they were at the start."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.resident = self.anonymous = self.mapped = 0
        self._start = memory()
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(_INTERVAL):
            self._look()

    def stop(self) -> None:
        self._done.set()
        self.join()
        self._look()

    def _look(self) -> None:
        now = memory()
        self.resident = max(self.resident, now["VmRSS"] - self._start["VmRSS"])
        self.anonymous = max(self.anonymous, now["RssAnon"] - self._start["RssAnon"])
        self.mapped = max(self.mapped, now["RssFile"] - self._start["RssFile"])
