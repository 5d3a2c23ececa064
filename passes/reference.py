"""Values that reach each place of a graph, from one run in float64: what proof B of a rewrite is judged on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.interpreter import Interpreter
from dragoman.ir.weights import exact_values
from dragoman.passes.rewrite import Replacement


class Reference:
    """Calls give the value known at a place, or None. Rewrites are followed, so that later ones find values too."""

    def __init__(self, graph: Graph, inputs: Sequence[Any]) -> None:
        self._interpreter = Interpreter(graph, keep=lambda value: True)
        self._interpreter.run(inputs)
        self._values = self._interpreter.values

    @property
    def sizes(self) -> dict[str, int]:
        """The extents of symbols in the run."""
        return dict(self._interpreter.symbols)

    def __call__(self, value: Value) -> Any | None:
        """The float64 value at a place of the graph, if the run or a followed rewrite gave it one."""
        return self._values.get(value)

    def follow(self, node: Node, replacement: Replacement, made: Sequence[Node]) -> None:
        """A rewrite that was accepted: what it made gets values, what it replaced hands its own over."""
        for old, new in zip(node.results, replacement.values, strict=True):
            known = self._values.get(old)
            if known is not None:
                self._values.setdefault(new, known)
        for each in made:
            if all(r in self._values for r in each.results):
                continue
            operands = [self._operand(v) for v in each.operands]
            if all(known or v is None for (known, _), v in zip(operands, each.operands, strict=True)):
                results = self._interpreter.run_node(each, [x for _, x in operands])
                self._values.update(zip(each.results, results, strict=True))

    def _operand(self, value: Value | None) -> tuple[bool, Any]:
        if value is None:
            return False, None
        if value.weight is not None:
            return True, self._interpreter.m.embed(exact_values(value.weight), value.type.dtype)
        found = self._values.get(value)
        return found is not None, found
