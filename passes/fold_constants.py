"""Evaluating what depends on weights and constants only.

A maximal constant region becomes one weight that is computed when it is written, in float64 and rounded once: no second
copy of a model is ever held, and references compute with what it was before rounding. Scalars become `constant` ops.
What would grow (a broadcast constant) stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dragoman.ir.arithmetic import FLOAT64
from dragoman.ir.builder import Builder
from dragoman.ir.errors import UsageError
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.interpreter import Interpreter
from dragoman.ir.ops.constant import Constant
from dragoman.ir.region import extract, free_values, producers
from dragoman.ir.types import TensorType
from dragoman.ir.weights import ComputedWeight, exact_values
from dragoman.passes.manager import Context

_EAGER = 4096  # bytes up to which a folded weight is computed at once: later passes look at small values
_GROWTH = 4096  # bytes by which a folded weight may exceed what it is computed from


def fold_constants(graph: Graph, context: Context) -> int:
    """Replace maximal constant regions by weights or scalar constants; returns how many nodes they held."""
    return _fold_regions(graph, _constant_nodes(graph))


def fold_scalars(graph: Graph, context: Context) -> int:
    """The same where no weight but scalars takes part: what is computed from parameters stays, to be recognised."""
    return _fold_regions(graph, _constant_nodes(graph, scalars_only=True))


def _fold_regions(graph: Graph, constant: set[Node]) -> int:
    folded = 0
    replaced: list[tuple[Value, Value]] = []
    for node in graph.nodes:
        if node in constant:
            for value in node.results:
                if value.uses and _is_boundary(value, constant):
                    folded += _fold(graph, value, constant, replaced)
    for node in graph.reversed():
        if node in constant and not node.is_used:
            graph.erase(node)
    for original, new in replaced:
        _take_over_name(graph, original, new)
    return folded


def _take_over_name(graph: Graph, original: Value, new: Value) -> None:
    """A folded weight gets the name of the parameter it replaces, if nothing else uses that one."""
    if original.uses or graph.weights.get(original.name) is not original:
        return
    graph.remove_weight(original.name)
    del graph.weights[new.name]
    new.name = original.name
    graph.weights[new.name] = new


def _constant_nodes(graph: Graph, scalars_only: bool = False) -> set[Node]:
    """Nodes that depend on weights and constants alone, may be evaluated, and do not blow up."""
    constant: set[Node] = set()
    sizes: dict[Value, int] = {}
    for node in graph:
        operands = [v for v in node.operands if v is not None]
        if node.op.regions or node.op.symbols() or any(not r.type.is_static for r in node.results):
            continue
        if scalars_only and any(r.type.rank for r in node.results):
            continue  # positions and masks are known by how they are made
        if all(v.producer in constant or _may_fold(v, scalars_only) for v in operands):
            available = sum(sizes[v] if v in sizes else _nbytes(v.type) for v in operands)
            if all(_nbytes(r.type) <= available + _GROWTH for r in node.results):
                constant.add(node)
                sizes.update((r, max(_nbytes(r.type), 1)) for r in node.results)
    return constant


def _may_fold(value: Value, scalars_only: bool) -> bool:
    return value.weight is not None and (not scalars_only or value.type.rank == 0)


def _nbytes(type: TensorType) -> int:
    size = type.size
    return type.dtype.nbytes(size) if isinstance(size, int) else 0


def _is_boundary(value: Value, constant: set[Node]) -> bool:
    if isinstance(value.op, Constant):
        return False  # already in the form that folding gives
    return any(user not in constant for user in value.users)


def _fold(graph: Graph, value: Value, constant: set[Node], replaced: list[tuple[Value, Value]]) -> int:
    nodes = producers([value], (), within=constant)
    sources = [v for v in free_values(nodes, [value]) if v.weight is not None]
    try:
        weight = _weight(nodes, sources, value)
    except UsageError:
        return 0  # an index outside, say: for whoever runs it to be told
    node = value.producer
    assert node is not None
    if value.type.rank == 0 and value.type.dtype.kind != "string":
        builder = Builder(graph, before=node, provenance=node.provenance)
        new = builder.const(_python_number(exact_values(weight), value.type), value.type.dtype)
        assert new.producer is not None
        constant.add(new.producer)
    else:
        largest = max(sources, key=lambda v: _nbytes(v.type), default=None)
        name = f"{largest.name.partition('.folded')[0]}.folded" if largest else "constant"
        new = graph.add_weight(name, weight)
        if largest is not None:
            replaced.append((largest, new))
    known = _nbytes(value.type) <= _EAGER  # regions further on start from what is known, instead of computing it again
    for user, operand in list(value.uses):
        if known or user not in constant:
            user.set_operand(operand, new)
    return len(nodes)


def _python_number(array: Any, type: TensorType) -> Any:
    return np.asarray(array).astype(np.float64).item() if type.dtype.is_float else np.asarray(array).item()


def _weight(nodes: Sequence[Node], inputs: Sequence[Value], value: Value) -> ComputedWeight:
    region = extract(nodes, inputs, [value])
    sources = [v.weight for v in inputs if v.weight is not None]
    shape = tuple(int(d) for d in value.type.shape if isinstance(d, int))
    dtype = value.type.dtype

    def exact() -> Any:
        (result,) = Interpreter(region, FLOAT64).run([exact_values(w) for w in sources])
        return np.asarray(result)

    if _nbytes(value.type) <= _EAGER:
        known = exact()
        rounded = known.astype(dtype.numpy)
        return ComputedWeight(dtype, shape, lambda: rounded, lambda: known)
    return ComputedWeight(dtype, shape, lambda: exact().astype(dtype.numpy), exact)
