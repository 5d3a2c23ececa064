"""Element types of TensorFlow, by their numbers in protobufs, as those of the IR."""

from __future__ import annotations

from functools import cache

import numpy as np
import tensorflow as tf

from dragoman.ir.errors import TypeRuleError, Unsupported
from dragoman.ir.types import STRING, DType, dtype_of


@cache
def from_tensorflow(code: int) -> DType:
    """The IR's element type. Raises Unsupported for one that the IR does not have."""
    dtype = tf.dtypes.as_dtype(code)
    if dtype == tf.string:
        return STRING
    if dtype in (tf.resource, tf.variant) or dtype.name.startswith("q"):
        raise Unsupported(f"{dtype.name} is not an element type of the IR")
    try:
        return dtype_of(np.dtype(dtype.as_numpy_dtype))
    except TypeRuleError as error:
        raise Unsupported(str(error)) from None
