"""How far outputs are from the truth in float64: a fast wrong answer is no result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

WRONG = float("inf")


def errors(found: Sequence[Any], truth: Path) -> list[float]:
    """The distance of each output from the truth, Euclidean and relative to its size; infinite for another shape, a NaN
    where there is none, or an output that is not there.
    """
    with np.load(truth, allow_pickle=False) as stored:
        expected = [stored[name] for name in sorted(stored.files)]
    if len(found) < len(expected):
        return [WRONG] * len(expected)
    return [distance(f, e) for f, e in zip(found, expected, strict=False)]


def distance(found: Any, expected: Any) -> float:
    """The distance of one output."""
    found, expected = np.asarray(found), np.asarray(expected)
    if found.shape != expected.shape:
        return WRONG
    kind = np.complex128 if np.iscomplexobj(expected) else np.float64
    ours, theirs = found.astype(kind), expected.astype(kind)
    special = ~np.isfinite(theirs)
    if not np.array_equal(special, ~np.isfinite(ours)) or not np.array_equal(
        ours[special], theirs[special], equal_nan=True
    ):
        return WRONG
    size = float(np.linalg.norm(theirs[~special]))
    off = float(np.linalg.norm((ours - theirs)[~special]))
    return off / size if size else off
