"""One op at a time: its type on types in text form, its value on arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dragoman.ir.arithmetic import FLOAT64, Arithmetic
from dragoman.ir.builder import make, trace
from dragoman.ir.dims import Dim, Symbol, parse_dim
from dragoman.ir.errors import TypeRuleError
from dragoman.ir.interpreter import run
from dragoman.ir.op import REGISTRY
from dragoman.ir.types import TensorType, dtype_of, parse_type, same_type

KNOWN = {name: Symbol(name, low, high) for name, low, high in (("b", 1, 64), ("s", 1, 512), ("h", 8, 64), ("z", 0, 9))}


def dim(text: str) -> Dim:
    """A dim over b in 1..64, s in 1..512, h in 8..64 and z in 0..9."""
    return parse_dim(text, KNOWN)


def infer(name: str, *operands: str | None, **attributes: Any) -> str:
    """The result types of an op, as text; those of its decomposition are compared on the way."""
    types = tuple(parse_type(t, KNOWN) if t is not None else None for t in operands)
    op = make(REGISTRY[name], attributes)
    results = op.result_types(types)
    if op.is_composite():
        spelled = _decomposed_types(name, attributes, types)
        assert len(spelled) == len(results)
        assert all(map(same_type, spelled, results)), f"{results} but decomposed {spelled}"
    return " ".join(map(str, results))


def _decomposed_types(name: str, attributes: dict[str, Any], types: tuple[TensorType | None, ...]) -> list[TensorType]:
    def decomposed(b: Any, *values: Any) -> Any:
        given = iter(values)
        operands = [next(given) if t is not None else None for t in types]
        return make(REGISTRY[name], attributes).decompose(b, *operands)

    return [v.type for v in trace(decomposed, *(t for t in types if t is not None)).outputs]


def refusal(name: str, *operands: str | None, **attributes: Any) -> str:
    """The message of the type rule that refuses these operands."""
    try:
        result = infer(name, *operands, **attributes)
    except TypeRuleError as error:
        return str(error)
    raise AssertionError(f"{name} accepts {operands} and gives {result}")


def apply(name: str, *arrays: Any, arithmetic: Arithmetic = FLOAT64, **attributes: Any) -> Any:
    """The value of an op on arrays; a tuple where it has several results. In float64 its decomposition must agree."""
    op = make(REGISTRY[name], attributes)
    results = _run(lambda b, *values: b.apply(op, *values), arrays, arithmetic)
    if op.is_composite() and arithmetic is FLOAT64:
        for spelled, result in zip(_run(op.decompose, arrays, arithmetic), results, strict=True):
            np.testing.assert_allclose(spelled, result, rtol=1e-13)
    return results[0] if op.returns_one else tuple(results)


def _run(function: Callable[..., Any], arrays: Sequence[Any], arithmetic: Arithmetic) -> list[Any]:
    given = [np.asarray(a) for a in arrays if a is not None]

    def whole(b: Any, *values: Any) -> Any:
        rest = iter(values)
        return function(b, *(next(rest) if a is not None else None for a in arrays))

    return run(trace(whole, *(TensorType(dtype_of(a), a.shape) for a in given)), *given, arithmetic=arithmetic)
