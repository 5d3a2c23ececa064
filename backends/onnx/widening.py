"""What ONNX Runtime has no kernels for in bf16, computed in f32 between casts: for its own target only.

It knows bf16 as a type, moves it and casts it, and computes in it nowhere on a processor. An op in f32 on operands that
were bf16, its result rounded to bf16, is the op as the IR defines it in bf16, to the rounding of f32 within.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from dragoman.ir.builder import Builder
from dragoman.ir.errors import TypeRuleError
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.op import Op
from dragoman.ir.ops.constant import Constant
from dragoman.ir.ops.elementwise import Cast
from dragoman.ir.types import BF16, F32, DType, TensorType, same_type

_Operands = tuple[TensorType | None, ...]
# What moves elements with an operator that ONNX Runtime 1.32 has for bf16 (each tried with a one-node model).
_RUNS = frozenset({"reshape", "transpose", "concat", "slice", "squeeze", "unsqueeze", "split", "take", "gather_nd"})


def widened_form(node: Node) -> Callable[..., list[Value]] | None:
    """A decomposition of a node with bf16 operands or results into itself in f32 between casts; None for any other, for
    what runs in bf16, for regions, whose own nodes are looked at one by one, and for what has no form in f32.
    """
    op = node.op
    values = (*node.operands, *node.results)
    if not any(v is not None and v.type.dtype == BF16 for v in values):
        return None
    if isinstance(op, (Cast, Constant)) or op.regions or op.name in _RUNS:
        return None
    wide = _wide_op(op, node.operand_types, tuple(r.type for r in node.results))
    return None if wide is None else _between_casts(wide, tuple(r.type.dtype for r in node.results))


def _between_casts(wide: Op, dtypes: tuple[DType, ...]) -> Callable[..., list[Value]]:
    def decomposed(b: Builder, *operands: Value | None) -> list[Value]:
        given = [v if v is None or v.type.dtype != BF16 else b.cast(v, dtype=F32) for v in operands]
        results = b.graph.insert(wide, given, provenance=b.provenance).results
        return [r if r.type.dtype == d else b.cast(r, dtype=d) for r, d in zip(results, dtypes, strict=True)]

    return decomposed


@lru_cache(maxsize=4096)
def _wide_op(op: Op, operands: _Operands, results: tuple[TensorType, ...]) -> Op | None:
    """The op whose result on f32 for bf16 has the types that are wanted, with f32 for bf16."""
    dtypes = {n: F32 for n in op.attribute_names() if getattr(op, n) == BF16}
    wanted = [_wide(t) for t in results]
    for candidate in (op.with_attributes(**dtypes), op) if dtypes else (op,):
        scratch = Graph()
        given = [None if t is None else scratch.add_input(_wide(t)) for t in operands]
        try:
            made = scratch.insert(candidate, given).results
        except TypeRuleError:
            continue
        if all(same_type(a.type, b) for a, b in zip(made, wanted, strict=True)):
            return candidate
    return None


def _wide(type: TensorType) -> TensorType:
    return type.with_dtype(F32) if type.dtype == BF16 else type
