"""Random arrays of the exact field, and equality as proofs judge it."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from dragoman.ir.field import PRIMES, FieldArray, embed

SHAPE = (3, 4)


def residues(seed: int, shape: tuple[int, ...] = SHAPE) -> FieldArray:
    """An independent random residue other than zero for each element and prime."""
    rng = np.random.default_rng(seed)
    return FieldArray(tuple(rng.integers(1, p, shape, np.int64) for p in PRIMES))


numbers = st.integers(0, 2**32).map(residues)


def equal(a: Any, b: Any) -> bool:
    """Whether two arrays have one shape and the same residues modulo the first prime."""
    left, right = embed(a), embed(b)
    return left.shape == right.shape and bool(np.all(left == right))
