"""Element types of JAX and of the IR, one to one; keys of random numbers are the integers that they hold."""

from __future__ import annotations

from typing import Any

import numpy as np
from jax import dtypes
from jax import numpy as jnp

from dragoman.ir.errors import TypeRuleError, Unsupported
from dragoman.ir.types import U32, DType, dtype_of


def is_key(dtype: Any) -> bool:
    """Whether a dtype is that of random keys."""
    return jnp.issubdtype(dtype, dtypes.prng_key)


def from_jax(dtype: Any) -> DType:
    """The IR's name for an element type of JAX. Raises Unsupported for one that the IR does not have."""
    if is_key(dtype):
        return U32
    if jnp.issubdtype(dtype, dtypes.extended) or dtype == dtypes.float0:
        raise Unsupported(f"{dtype} is not an element type of the IR")
    try:
        return dtype_of(np.dtype(dtype))
    except TypeRuleError as error:
        raise Unsupported(str(error)) from None


def key_shape(dtype: Any) -> tuple[int, ...]:
    """The shape of the integers that one random key is: [2] for threefry."""
    import jax

    return tuple(int(d) for d in jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct((), dtype)).shape)
