"""Looking into a traced program while it runs: the tensors inside it, told by the values of the graph they became.

Owns nothing that a conversion needs; verification asks for it when it has found a difference, to name the node that was
translated wrongly. The program is run node by node as torch would, in its own precision or in double.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from dragoman.frontends.pytorch.importer import watched
from dragoman.frontends.pytorch.runner import Array, precision, wide
from dragoman.frontends.pytorch.symints import Symbols
from dragoman.frontends.pytorch.weights import from_numpy, to_numpy
from dragoman.ir.graph import Graph, Value


class ProgramProbe:
    """A program translated once more, with the torch node behind each value of its `graph`."""

    def __init__(self, program: ExportedProgram, inputs: Sequence[str], dims: Symbols, name: str = "") -> None:
        self._program = program
        self.graph: Graph
        self.graph, self._became = watched(program, inputs, dims, name)
        # Several nodes may be one value (a cast to the dtype it has); the first is what computes it.
        self._behind = {value: node for node, value in reversed(self._became.items())}

    def probe(self, inputs: Sequence[Array], values: Sequence[Value], double: bool = False) -> Mapping[Value, Array]:
        """What these values are in a run; those that are no tensor of the program on their own are left out."""
        wanted = {self._behind[v]: v for v in values if v in self._behind}
        given = {v.name: from_numpy(np.asarray(x)) for v, x in zip(self.graph.inputs, inputs, strict=True)}
        recorder = _Recorder(self._program.graph_module, frozenset(wanted))
        with torch.no_grad(), precision(double):
            recorder.run(*self._arguments(given, double), enable_io_processing=False)
        return {wanted[node]: to_numpy(x) for node, x in recorder.seen.items()}

    def _arguments(self, given: Mapping[str, Tensor], double: bool) -> list[Any]:
        """What each placeholder gets: inputs of the graph by the value they became, stored tensors, constants."""
        arguments: list[Any] = []
        placeholders = [n for n in self._program.graph.nodes if n.op == "placeholder"]
        by_node = {n: given[v.name] for n, v in self._became.items() if n.op == "placeholder" and v.name in given}
        for node, spec in zip(placeholders, self._program.graph_signature.input_specs, strict=True):
            x = by_node.get(node)
            if x is None and spec.kind is not InputKind.USER_INPUT:
                x = self._stored(str(spec.target))
            if x is None:
                x = node.meta.get("val")  # an argument that is no tensor
            # A copy: the program may write to what it is given.
            arguments.append((wide(x) if double else x).clone() if isinstance(x, Tensor) else x)
        return arguments

    def _stored(self, target: str) -> Any:
        found = self._program.state_dict.get(target)
        return self._program.constants.get(target) if found is None else found


class _Recorder(fx.Interpreter):
    """Runs a program and keeps a copy of what some nodes give."""

    def __init__(self, module: fx.GraphModule, wanted: frozenset[fx.Node]) -> None:
        super().__init__(module)
        self.seen: dict[fx.Node, Tensor] = {}
        self._wanted = wanted

    def run_node(self, n: fx.Node) -> Any:
        """One node; later writes in place do not reach the copy."""
        result = super().run_node(n)
        if n in self._wanted and isinstance(result, Tensor):
            self.seen[n] = result.detach().clone()
        return result
