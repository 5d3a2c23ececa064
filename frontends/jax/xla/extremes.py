"""The lowest and highest value of an element type: what changes no maximum and no minimum."""

from __future__ import annotations

import math

import ml_dtypes

from dragoman.ir.types import DType


def lowest(dtype: DType) -> float | int:
    """−∞ of floats, the least integer, false."""
    if dtype.is_float:
        return -math.inf
    return int(ml_dtypes.iinfo(dtype.numpy).min) if dtype.is_integer else 0


def highest(dtype: DType) -> float | int:
    """∞ of floats, the greatest integer, true."""
    if dtype.is_float:
        return math.inf
    return int(ml_dtypes.iinfo(dtype.numpy).max) if dtype.is_integer else 1
