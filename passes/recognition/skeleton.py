"""What an op looks like spelled out at given types: its decomposition traced, and brought to the form of graphs.

Float attributes that a guess leaves free (an epsilon, a scale) are traced at two arbitrary numbers: what differs
between the two traces depends on them, and tells how.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dragoman.ir.builder import make, trace
from dragoman.ir.errors import DragomanError
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.guess import Guess
from dragoman.ir.op import Op, why_inexact

Prepare = Callable[[Graph], None]

# Arbitrary numbers: no constant of a decomposition, nor a simple function of one, comes near them.
_REAL = (0.3713940271, 0.5347118263, 0.0172963871)
_WHOLE = (83.0, 107.0, 5.0)

_LEAST = 2  # nodes that make a form of an op's own

_INVERSES: tuple[Callable[[float], float], ...] = (
    lambda c: c,
    lambda c: -c,
    lambda c: 1.0 / c,
    lambda c: -1.0 / c,
    math.sqrt,
    lambda c: c * c,
)
"""From a constant of the decomposition to the attribute, for constants that are ±a, ±1/a, a², √a."""


@dataclass(frozen=True)
class Free:
    """A float attribute that a constant in the skeleton depends on, and how it follows from that; None: not simply."""

    name: str
    inverse: Callable[[float], float] | None


@dataclass(frozen=True)
class Skeleton:
    """A decomposition to look for. `leaves` are the op's operands in it, None where one is absent."""

    op: type[Op]
    guess: Guess
    graph: Graph
    root: Node
    leaves: tuple[Value | None, ...]
    free: Mapping[tuple[Node, str], Free] = field(hash=False)
    fixed: frozenset[Node]  # what depends on no operand
    unbound: tuple[str, ...]  # free attributes that the match has to give
    why_inexact: str  # why proof A does not apply to the spelling

    def attributes(self, bound: Mapping[str, float]) -> dict[str, Any]:
        """The op's attributes when the free ones are these."""
        return {**dict(self.guess.attributes), **bound}


def free_attributes(op: type[Op], guess: Guess) -> tuple[str, ...]:
    """Float attributes that a guess does not give."""
    given = dict(guess.attributes)
    annotations = op._annotations  # pyright: ignore[reportPrivateUsage]
    return tuple(n for n in op.attribute_names() if n not in given and annotations[n].startswith("float"))


def build(op: type[Op], spelling: Callable[..., Any], guess: Guess, prepare: Prepare) -> Skeleton | None:
    """The skeleton of one spelling; None where the op does not exist at these types or comes to nothing."""
    free = free_attributes(op, guess)
    marks = _marks(free, guess)
    first = _traced(op, spelling, guess, {n: x for n, (x, _) in marks.items()}, prepare)
    if first is None:
        return None
    found: dict[tuple[Node, str], Free] = {}
    if free:
        second = _traced(op, spelling, guess, {n: y for n, (_, y) in marks.items()}, prepare)
        if second is None or not _compare(first, second, marks, found):
            return None
    root = first.outputs[0].producer
    leaves = iter(first.inputs)
    operands = tuple(None if t is None else next(leaves) for t in guess.operands)
    if root is None or any(v is not None and not v.uses for v in operands):
        return None
    return Skeleton(op, guess, first, root, operands, found, _fixed(first), free, why_inexact(spelling))


def _marks(free: tuple[str, ...], guess: Guess) -> dict[str, tuple[float, float]]:
    whole = any(t is not None and t.dtype.is_integer for t in guess.operands)
    first, second, step = _WHOLE if whole else _REAL
    return {n: (first + i * step, second + i * step) for i, n in enumerate(free)}


def _traced(
    op: type[Op], spelling: Callable[..., Any], guess: Guess, free: Mapping[str, float], prepare: Prepare
) -> Graph | None:
    types = [t for t in guess.operands if t is not None]

    def spelled(b: Any, *given: Value) -> Any:
        rest = iter(given)
        return spelling(made, b, *[None if t is None else next(rest) for t in guess.operands])

    try:
        made = make(op, {**dict(guess.attributes), **free})
        made.result_types(guess.operands)
        graph = trace(spelled, *types)
    except (DragomanError, ArithmeticError, ValueError):
        return None  # a guess that fits nothing
    written = _applications(graph)
    prepare(graph)
    if len(graph.outputs) != 1 or _applications(graph) < min(written, _LEAST):
        return None  # at this setting it is another op: celu with alpha=1 is elu
    return graph


def _applications(graph: Graph) -> int:
    return sum(node.op.name != "constant" for node in graph)


def _compare(
    first: Graph,
    second: Graph,
    marks: Mapping[str, tuple[float, float]],
    found: dict[tuple[Node, str], Free],
) -> bool:
    """Note what differs; False where the two traces do not even have the same nodes."""
    if len(first) != len(second):
        return False
    for a, b in zip(first, second, strict=True):
        if type(a.op) is not type(b.op):
            return False
        for name in a.op.attribute_names():
            x, y = getattr(a.op, name), getattr(b.op, name)
            if isinstance(x, (int, float)) and isinstance(y, (int, float)) and x != y:
                found[a, name] = _origin(x, y, marks)
    return True


def _origin(x: float, y: float, marks: Mapping[str, tuple[float, float]]) -> Free:
    for name, (first, second) in marks.items():
        for inverse in _INVERSES:
            try:
                if math.isclose(inverse(x), first, rel_tol=1e-9) and math.isclose(inverse(y), second, rel_tol=1e-9):
                    return Free(name, inverse)
            except (ArithmeticError, ValueError):
                continue
    return Free("", None)


def _fixed(graph: Graph) -> frozenset[Node]:
    depends: set[Value] = set(graph.inputs)
    fixed: list[Node] = []
    for node in graph:
        if any(v in depends for v in node.operands if v is not None):
            depends.update(node.results)
        else:
            fixed.append(node)
    return frozenset(fixed)
