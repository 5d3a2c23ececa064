"""One op on arrays, and the comparison with what torch gives in double."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dragoman.ir.arithmetic import FLOAT64, Arithmetic
from dragoman.ir.builder import make, trace
from dragoman.ir.interpreter import run
from dragoman.ir.op import REGISTRY
from dragoman.ir.types import TensorType, dtype_of


def apply(name: str, *arrays: Any, arithmetic: Arithmetic = FLOAT64, **attributes: Any) -> Any:
    """The value of an op with one result; its decomposition must agree with it on the same edge values."""
    op = make(REGISTRY[name], attributes)
    given = [np.asarray(a) for a in arrays if a is not None]
    types = [TensorType(dtype_of(a), a.shape) for a in given]

    def written(form: Callable[..., Any]) -> Callable[..., Any]:
        def whole(b: Any, *values: Any) -> Any:
            rest = iter(values)
            return form(b, *(next(rest) if a is not None else None for a in arrays))

        return whole

    (result,) = run(trace(written(lambda b, *values: b.one(op, *values)), *types), *given, arithmetic=arithmetic)
    if op.is_composite() and arithmetic is FLOAT64:
        (spelled,) = run(trace(written(op.decompose), *types), *given)
        np.testing.assert_allclose(spelled, result, rtol=1e-12, atol=1e-15, equal_nan=True, err_msg="decomposed")
    return result


def agree(ours: Any, theirs: Any, *, zeros: bool = False, absolute: float = 1e-15) -> None:
    """The same shape, kind, NaNs and infinities; finite numbers within 10⁻¹² relative; signs of zeros on request."""
    expected = theirs.numpy() if hasattr(theirs, "numpy") else np.asarray(theirs)
    assert ours.shape == expected.shape
    assert ours.dtype.kind == expected.dtype.kind
    if ours.dtype.kind != "f":
        np.testing.assert_array_equal(ours, expected)
        return
    np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=absolute, equal_nan=True)
    if zeros:
        both = (ours == 0) & (expected == 0)
        np.testing.assert_array_equal(np.signbit(ours[both]), np.signbit(expected[both]))
