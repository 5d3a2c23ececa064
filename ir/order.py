"""One fixed order of the numbers of the exact field, for maxima, comparisons and sorting.

Residues have no order of their own: most get a random place, with key(−x) = −key(x) and key(0) = 0, so that the laws of
max, min, abs and relu hold and none of them is the identity. Constants of the program keep their real order among each
other and stand all over the range: otherwise clip(x, 0, 6) could be constant, and would hide every mistake in x.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np

from dragoman.ir.residues import PRIMES, scramble

_P = PRIMES[0]
_HALF = _P // 2
_TOP = float(2 * _P) * (_HALF + 1)  # the largest key
_SMALL = 1 << 12  # whole numbers up to this are constants wherever they come from


def _place(number: float) -> int:
    """An odd increasing function onto the keys: 1e-5 stands at 0.09 of their range, 1 at 0.33, 6 at 0.58."""
    size = abs(number)
    if size == 0:
        return 0
    share = 1 / (3 - 0.5 * math.log2(size)) if size < 1 else 1 - 2 / (2 + math.log2(1 + size))
    return int(math.copysign(share * _TOP, number))


class _Constants:
    """Magnitudes of the residues of constants met so far, with the keys of those magnitudes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: dict[int, int] = {}
        # Replaced as a whole, so that a reader in another thread never sees half of a change.
        self.table = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self.small = np.array([_place(n) for n in range(_SMALL + 1)], np.int64)

    def add(self, residue: int, number: float) -> None:
        """Note that a residue is a constant of this real value."""
        magnitude, number = (_P - residue, -number) if residue > _HALF else (residue, number)
        if magnitude <= _SMALL or magnitude in self._keys:
            return
        with self._lock:
            self._keys[magnitude] = _place(number)
            known = sorted(self._keys.items())
            self.table = np.array([m for m, _ in known], np.int64), np.array([k for _, k in known], np.int64)


_constants = _Constants()
note_constant = _constants.add


def order_key(residues: Any) -> Any:
    """The place of each residue (modulo the first prime) in the order, as an int64."""
    negative = residues > _HALF
    magnitude = np.where(negative, _P - residues, residues)
    # The magnitude breaks ties between numbers that hash alike.
    key = (scramble("order", magnitude, _P) * 2 + 1) * (_HALF + 1) + magnitude
    key = np.where(magnitude <= _SMALL, _constants.small[np.minimum(magnitude, _SMALL)], key)
    known, keys = _constants.table
    if known.size:
        at = np.minimum(np.searchsorted(known, magnitude), known.size - 1)
        key = np.where(known[at] == magnitude, keys[at], key)
    return np.where(negative, -key, key)
