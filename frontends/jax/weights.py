"""Arrays of JAX as weights of the IR: views of JAX's own memory where it is on the host, never copies until asked."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from dragoman.frontends.jax.dtypes import from_jax, is_key, key_shape
from dragoman.ir.weights import FrameworkWeight

Array = np.ndarray[Any, np.dtype[Any]]


def weight_of(array: Any) -> FrameworkWeight:
    """An array as a weight. Nothing is read until `array()` is called."""
    inner = key_shape(array.dtype) if is_key(array.dtype) else ()
    shape = (*(int(d) for d in array.shape), *inner)
    return FrameworkWeight(from_jax(array.dtype), shape, lambda: to_numpy(array))


def to_numpy(array: Any) -> Array:
    """An array as NumPy has it, a random key as the integers that it holds."""
    if is_key(getattr(array, "dtype", None) or np.float64):
        return np.asarray(jax.random.key_data(array))
    return np.asarray(array)
