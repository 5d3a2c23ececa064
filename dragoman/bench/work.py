"""What a graph has to do at least: floating-point operations and bytes moved, from the IR.

Operations: those of products of matrices, convolutions, attention and cells (a multiplication and an addition are
two); of everything else, one for each element of its results. A composite op costs what its decomposition costs.
Bytes: inputs, outputs and weights once; values in between may stay on the chip.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from dragoman.ir.builder import Builder
from dragoman.ir.dims import Dim, evaluate
from dragoman.ir.errors import DragomanError
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.op import Op
from dragoman.ir.types import TensorType

_FREE = frozenset(
    {
        "reshape",
        "transpose",
        "expand",
        "slice",
        "squeeze",
        "unsqueeze",
        "constant",
        "dimension",
        "concat",
        "pad",
        "cast",
    }
)
_DEEPEST = 16
_LOOP = 1  # turns of a loop whose number no type tells


@dataclass(frozen=True)
class Work:
    """Operations and bytes."""

    operations: float = 0.0
    bytes: float = 0.0


def work_of(graph: Graph, sizes: Mapping[str, int]) -> Work:
    """The least that a whole graph has to do when its symbols have these sizes."""
    known = {**{n: max(s.low, 1) for n, s in graph.symbols().items()}, **sizes}
    operations = sum(operations_of(node, known) for node in graph)
    ends = dict.fromkeys((*graph.inputs, *graph.outputs))
    used = [v for v in graph.weights.values() if v.uses]
    return Work(operations, sum(_bytes(v.type, known) for v in (*ends, *used)))


def node_work(node: Node, sizes: Mapping[str, int]) -> Work:
    """Of one node by itself: it reads its operands and writes its results."""
    moved = sum(_bytes(v.type, sizes) for v in (*node.operands, *node.results) if v is not None)
    return Work(operations_of(node, sizes), moved)


def operations_of(node: Node, sizes: Mapping[str, int]) -> float:
    """Floating-point operations of one node."""
    operands = tuple(_fixed(v.type, sizes) if v is not None else None for v in node.operands)
    results = tuple(_fixed(v.type, sizes) for v in node.results)
    op = node.op.substitute(dict(sizes)) if node.op.is_symbolic else node.op
    if op.regions:
        return _LOOP * sum(operations_of(inner, sizes) for region in op.regions for inner in region)
    return _operations(op, operands, results, 0)


@lru_cache(maxsize=4096)
def _operations(op: Op, operands: tuple[TensorType | None, ...], results: tuple[TensorType, ...], depth: int) -> float:
    if op.name in _FREE:
        return 0.0
    counted = _COUNTS.get(op.name)
    if counted is not None:
        return counted(op, operands, results)
    if op.is_composite() and depth < _DEEPEST:
        try:
            return _of_decomposition(op, operands, depth)
        except DragomanError:  # a decomposition that needs a real size or a weight's value: count its elements instead
            pass
    return float(max((_count(t) for t in (*operands, *results) if t is not None), default=0))


def _of_decomposition(op: Op, operands: tuple[TensorType | None, ...], depth: int) -> float:
    graph = Graph()
    values = [graph.add_input(t) if t is not None else None for t in operands]
    assert op.decompose is not None
    made = op.decompose(Builder(graph), *values)
    graph.set_outputs([made] if isinstance(made, Value) else list(made))
    return sum(
        _operations(
            n.op,
            tuple(v.type if v is not None else None for v in n.operands),
            tuple(v.type for v in n.results),
            depth + 1,
        )
        for n in graph
        if not n.op.regions
    )


# ---- what is counted by a formula ---------------------------------------------------------------------


def _matmul(op: Any, operands: Any, results: Any) -> float:
    return 2.0 * _count(results[0]) * int(operands[0].shape[-1])


def _convolution(op: Any, operands: Any, results: Any) -> float:
    kernel = operands[1]
    return 2.0 * _count(results[0]) * _count(kernel) / max(int(kernel.shape[0]), 1)


def _transposed(op: Any, operands: Any, results: Any) -> float:
    kernel = operands[1]
    return 2.0 * _count(operands[0]) * _count(kernel) / max(int(kernel.shape[0]), 1)


def _attention(op: Any, operands: Any, results: Any) -> float:
    query, key, value = (t.shape for t in operands[:3])
    rows = math.prod(int(d) for d in query[:-1])
    return 2.0 * rows * int(key[-2]) * (int(query[-1]) + int(value[-1])) + 5.0 * rows * int(key[-2])


_COUNTS: dict[str, Callable[[Any, Any, Any], float]] = {
    "matmul": _matmul,
    "conv": _convolution,
    "conv_transpose": _transposed,
    "attention": _attention,
}


def _fixed(type: TensorType, sizes: Mapping[str, int]) -> TensorType:
    return type if type.is_static else TensorType(type.dtype, tuple(_extent(d, sizes) for d in type.shape))


def _extent(dim: Dim, sizes: Mapping[str, int]) -> int:
    return evaluate(dim, sizes)


def _count(type: TensorType) -> int:
    return math.prod(int(d) for d in type.shape)


def _bytes(type: TensorType, sizes: Mapping[str, int]) -> float:
    return _count(_fixed(type, sizes)) * type.dtype.bits / 8
