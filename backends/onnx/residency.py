"""Letting go of file-backed memory that was read: a model mapped from disk must not become resident as it is copied.

Pages are handed back with MADV_PAGEOUT, which loses nothing even where a private mapping was written to. Does nothing
on systems other than Linux.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

_PAGEOUT = 21
_SMALLEST = 32 << 20  # a file of weights worth the calls; programs and their libraries are left alone


class FileMappings:
    """The large data files that this process had mapped when it was made."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []
        self._madvise = None
        if sys.platform != "linux":
            return
        try:
            lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
            self._madvise = ctypes.CDLL(None).madvise
        except (OSError, AttributeError):
            return
        for line in lines:
            bounds, permissions, _, _, inode, *name = line.split(maxsplit=5)
            start, end = (int(bound, 16) for bound in bounds.split("-"))
            library = "x" in permissions or ".so" in "".join(name)
            if inode != "0" and not library and end - start >= _SMALLEST:
                self._ranges.append((start, end))

    def release(self) -> None:
        """Hand back what is resident of them."""
        if self._madvise is None:
            return
        for start, end in self._ranges:
            self._madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _PAGEOUT)
