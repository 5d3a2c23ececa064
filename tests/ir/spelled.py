"""An op beside its decomposition, on arrays whose types may be symbolic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dragoman.ir.builder import make, trace
from dragoman.ir.interpreter import run
from dragoman.ir.op import REGISTRY
from dragoman.ir.types import TensorType, dtype_of, parse_type
from tests.ir.one_op import KNOWN


def both(name: str, *arrays: Any, types: Sequence[str] | None = None, **attributes: Any) -> list[tuple[Any, ...]]:
    """All results of an op, and of its decomposition. `types` are those of the arrays that are not None."""
    op = make(REGISTRY[name], attributes)
    given = [np.asarray(a) for a in arrays if a is not None]
    declared = [TensorType(dtype_of(a), a.shape) for a in given]
    if types is not None:
        declared = [parse_type(t, KNOWN) for t in types]

    def operands(values: tuple[Any, ...]) -> list[Any]:
        rest = iter(values)
        return [next(rest) if a is not None else None for a in arrays]

    assert op.decompose is not None
    whole = trace(lambda b, *v: b.apply(op, *operands(v)), *declared)
    spelled = trace(lambda b, *v: op.decompose(b, *operands(v)), *declared)
    return [tuple(run(graph, *given)) for graph in (whole, spelled)]
