"""What can be recognised, and each of its samples spelled out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from dragoman.ir.builder import Builder, make
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.op import REGISTRY, Op, OperandSample, Sample
from dragoman.ir.samples import operand_types, random_operands
from dragoman.ir.types import TensorType
from dragoman.ir.weights import ComputedWeight

DTypeClass = tuple[str, bool]


def is_recognised(op: type[Op]) -> bool:
    """Whether an op has a decomposition and says what to try."""
    return op.is_composite() and op.guesses.__func__ is not Op.guesses.__func__  # type: ignore[attr-defined]


@cache
def recognisable() -> tuple[type[Op], ...]:
    """Every op that can be recognised."""
    return tuple(op for op in REGISTRY.values() if is_recognised(op))


def spellings_of(op: type[Op]) -> tuple[Callable[..., Any], ...]:
    """The decomposition and the other forms: functions of the op, a builder and operands."""
    return (op.decompose, *op.spellings)


def spelled(op: type[Op], spelling: Callable[..., Any], sample: Sample) -> Graph:
    """One spelling of the op on the operands of a sample."""
    made = make(op, dict(sample.attributes))
    graph = Graph(op.name)
    values = [
        None if given is None or type is None else _operand(graph, i, given, type, sample)
        for i, (given, type) in enumerate(zip(sample.operands, operand_types(sample), strict=True))
    ]
    results = spelling(made, Builder(graph), *values)
    graph.set_outputs([results] if isinstance(results, Value) else list(results))
    return graph


def _operand(graph: Graph, index: int, given: OperandSample, type: TensorType, sample: Sample) -> Value:
    if not given.weight:
        return graph.add_input(type, f"x{index}")
    shape = tuple(int(d) for d in type.shape if isinstance(d, int))
    # Drawn when they are looked at: nearly nothing looks at them.
    weight = ComputedWeight(type.dtype, shape, lambda: random_operands(sample)[index])
    return graph.add_weight(f"x{index}", weight)


@dataclass(frozen=True, eq=False)
class Form:
    """One sample of an op in one spelling."""

    op: type[Op]
    spelling: Callable[..., Any]
    sample: Sample
    dtypes: frozenset[DTypeClass]

    def graph(self) -> Graph:
        """It, written down anew."""
        return spelled(self.op, self.spelling, self.sample)


@cache
def forms(op: type[Op]) -> tuple[Form, ...]:
    """Each spelling of one of the samples that are spelled out alike: that differ in extents, axes or numbers only."""
    found: dict[Any, tuple[Sample, frozenset[DTypeClass]]] = {}
    for sample in op.samples():
        operands = tuple(None if t is None else dtype_class(t) for t in operand_types(sample))
        told = {n: _kind(n, v) for n, v in sample.attributes.items()}
        key = operands, tuple(o is not None and o.weight for o in sample.operands), repr(told)
        found.setdefault(key, (sample, frozenset(o for o in operands if o is not None)))
    return tuple(Form(op, s, sample, dtypes) for sample, dtypes in found.values() for s in spellings_of(op))


def dtype_class(type: TensorType) -> DTypeClass:
    """What of a dtype decides how an op is spelled out: its kind, and whether it is narrow, as half precision is."""
    return type.dtype.kind, type.dtype.bits < 32


def _kind(name: str, value: Any) -> Any:
    if name in ("axis", "axes"):
        return value == ()
    return "some number" if isinstance(value, float) else value


def varying(graph: Graph) -> list[Node]:
    """The nodes that lie between inputs or weights and the outputs: neither dead nor made of numbers only."""
    found: dict[Node, None] = {}
    for node in graph:
        if any(v is not None and (v.producer is None or v.producer in found) for v in node.operands):
            found[node] = None
    live: set[Node] = {graph.terminator}
    for node in (graph.terminator, *graph.reversed()):
        if node in live:
            live.update(v.producer for v in node.operands if v is not None and v.producer is not None)
    return [node for node in found if node in live]
