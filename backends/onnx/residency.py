"""Letting go of file-backed memory that has been read: a model mapped from disk must not become resident as it is
copied.

Pages are handed back with MADV_PAGEOUT, which loses nothing even where a private mapping was written to. Does nothing
on systems other than Linux.
"""

from __future__ import annotations

import bisect
import ctypes
import sys
from pathlib import Path

from dragoman.ir.weights import Array

_PAGEOUT = 21
_SMALLEST = 1 << 20  # below that the calls cost more than the pages
_PAGE = 4096


class FileMappings:
    """The file-backed mappings of this process when it was made."""

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
            bounds, _, _, _, inode, *_ = line.split(maxsplit=5)
            if inode != "0":
                start, end = (int(bound, 16) for bound in bounds.split("-"))
                self._ranges.append((start, end))

    def release(self, values: Array) -> None:
        """Hand back the pages that lie wholly within an array, if they belong to a file."""
        if self._madvise is None or values.nbytes < _SMALLEST or not values.flags.c_contiguous:
            return
        start = values.__array_interface__["data"][0]
        end = start + values.nbytes
        at = bisect.bisect_right(self._ranges, (start, sys.maxsize)) - 1
        if at < 0 or end > self._ranges[at][1]:
            return
        first, last = -(-start // _PAGE) * _PAGE, end // _PAGE * _PAGE
        if first < last:
            self._madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), _PAGEOUT)
