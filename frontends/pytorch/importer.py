"""From an exported program to a graph: inputs, weights by their names, states that the model writes to, outputs.

A buffer or input that the model changes becomes a state: an input with the value before, and an output with the value
after.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind
from torch.fx import Node

from dragoman.frontends.imported import Assumption, Imported, State
from dragoman.frontends.pytorch import table
from dragoman.frontends.pytorch.conditions import Condition, conjuncts
from dragoman.frontends.pytorch.context import Number
from dragoman.frontends.pytorch.decompose import Expansions
from dragoman.frontends.pytorch.dtypes import from_torch
from dragoman.frontends.pytorch.names import output_names
from dragoman.frontends.pytorch.symints import Symbols
from dragoman.frontends.pytorch.walker import Job, Walker
from dragoman.frontends.pytorch.weights import weight_of
from dragoman.ir.dims import DimExpr
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Graph, Value
from dragoman.ir.types import F64


def translate(
    program: ExportedProgram,
    inputs: Sequence[str],
    dims: Symbols,
    name: str = "",
    assumptions: Sequence[Assumption] = (),
) -> Imported:
    """Translate a program whose tensor and scalar inputs have these names. Raises ImportRefused listing what it
    cannot.
    """
    started = time.perf_counter()
    table.load()
    reader = _Reader(program, inputs, dims, name)
    graph, states = reader.read()
    return Imported(graph, states, tuple(assumptions), {"translate": time.perf_counter() - started})


def watched(
    program: ExportedProgram, inputs: Sequence[str], dims: Symbols, name: str = ""
) -> tuple[Graph, dict[Node, Value]]:
    """As `translate`, with the value that each tensor of the program became: for looking into an import."""
    table.load()
    reader = _Reader(program, inputs, dims, name)
    graph, _ = reader.read()
    return graph, reader.became()


class _Reader:
    """One translation: gives the placeholders their values, walks, and names the outputs."""

    def __init__(self, program: ExportedProgram, inputs: Sequence[str], dims: Symbols, name: str) -> None:
        self._program = program
        self._names = list(inputs)
        self._dims = dims
        self._graph = Graph(name)
        self._job = Job(dims, from_torch(torch.get_default_dtype()), expansions=Expansions(self._holds))
        self._walker = Walker(self._job, self._graph, program.graph_module)
        self._first: dict[Any, str] | None = None  # names by where their values lie
        self._states: dict[str, tuple[Node, State]] = {}  # by the name of the state's input

    def read(self) -> tuple[Graph, tuple[State, ...]]:
        """Walk the program."""
        placeholders = [n for n in self._program.graph.nodes if n.op == "placeholder"]
        specs = list(zip(placeholders, self._program.graph_signature.input_specs, strict=True))
        for node, spec in specs:  # the caller's inputs come first
            if spec.kind is InputKind.USER_INPUT:
                self._input(node)
        for node, spec in specs:
            if spec.kind is not InputKind.USER_INPUT:
                self._stored(node, spec)
        outputs = self._walker.run()
        self._finish(outputs)
        self._job.refusals.raise_if_any()
        self._graph.metadata["framework"] = f"torch {torch.__version__}"
        _erase_unused(self._graph)
        return self._graph, tuple(state for _, state in self._states.values())

    def became(self) -> dict[Node, Value]:
        """The values of torch's nodes that are in the graph, each told by the last node that it is the value of."""
        found = {node: self._walker.known(node) for node in self._program.graph.nodes}
        kept = {n: v for n, v in found.items() if isinstance(v, Value)}
        return {n: v for n, v in kept.items() if v.producer is None or v.producer.graph is self._graph}

    def _holds(self, expression: Any) -> bool:
        return all(Condition(part, self._dims).proven() for part in conjuncts(expression))

    # ---- inputs --------------------------------------------------------------------------------------

    def _input(self, node: Node) -> None:
        name = self._names.pop(0)
        value = node.meta.get("val")
        if not isinstance(value, torch.Tensor):
            if isinstance(value, torch.SymInt):
                raise Unsupported(f"the input {name!r} is a number that may vary: pass it as a tensor")
            self._walker.bind(node, value)
            return
        given = self._graph.add_input(self._walker.type_of(value), name)
        self._walker.bind(node, given)
        if self._walker.aliases.follows(node):
            self._states[given.name] = (node, State(given.name, f"{given.name}.next"))

    def _stored(self, node: Node, spec: Any) -> None:
        """A parameter, buffer or constant: a weight, or a state where the model writes to it."""
        if not node.users and not self._is_returned(spec):
            return
        target = self._name_of(str(spec.target))
        if spec.kind is InputKind.CUSTOM_OBJ or spec.kind is InputKind.TOKEN:
            raise Unsupported(f"the model uses the object {target!r}, which is no tensor")
        tensor = self._tensor(target)
        if spec.kind is InputKind.CONSTANT_TENSOR and tensor.dim() == 0:
            self._walker.bind(node, self._walker.constant(tensor, next(iter(node.users), None)))
            return
        weight = weight_of(target, tensor)
        if self._walker.aliases.follows(node) or self._is_returned(spec):
            given = self._graph.add_input(self._walker.type_of(node.meta["val"]), target)
            self._states[given.name] = (node, State(given.name, f"{given.name}.next", weight))
            self._walker.bind(node, given)
            return
        found = self._graph.weights.get(target)
        self._walker.bind(node, found or self._graph.add_weight(target, weight))

    def _name_of(self, target: str) -> str:
        """The first of the names that a tensor has: torch keeps a tied weight under the name it was last used by."""
        found = self._program.state_dict.get(target)
        if not isinstance(found, torch.Tensor) or found.numel() == 0 or found.is_meta:
            return target
        if self._first is None:
            self._first = {}
            for name, tensor in self._program.state_dict.items():
                self._first.setdefault(_place(tensor), name)
        return self._first.get(_place(found), target)

    def _is_returned(self, spec: Any) -> bool:
        """Whether a functional program gives the new value of a buffer as an output."""
        signature = self._program.graph_signature
        changed = {*signature.buffers_to_mutate.values(), *getattr(signature, "parameters_to_mutate", {}).values()}
        return str(spec.target) in changed

    def _tensor(self, target: str) -> torch.Tensor:
        for store in (self._program.state_dict, self._program.constants):
            found = store.get(target)
            if isinstance(found, torch.Tensor):
                return found
        raise Unsupported(f"the model uses {target!r}, of which the program holds no tensor")

    # ---- outputs -------------------------------------------------------------------------------------

    def _finish(self, outputs: Sequence[Any]) -> None:
        specs = self._program.graph_signature.output_specs
        listed = output_names(self._program.call_spec.out_spec)
        names = iter(listed)
        values: list[Value] = []
        given: list[str] = []
        after: dict[str, Value] = {}
        for output, spec in zip(outputs, specs, strict=True):
            if spec.kind is OutputKind.USER_OUTPUT:
                name = next(names)
                if output is not None:
                    values.append(self._as_value(output))
                    given.append(name)
            elif spec.kind in (OutputKind.BUFFER_MUTATION, OutputKind.USER_INPUT_MUTATION, _PARAMETER_MUTATION):
                after[str(spec.target)] = output
        for name, (node, state) in list(self._states.items()):
            value = self._after(node, state, after)
            if value is None:
                del self._states[name]
                continue
            values.append(value)
            given.append(state.output)
        self._graph.set_outputs(values, given)

    def _after(self, node: Node, state: State, functional: Mapping[str, Value]) -> Value | None:
        """The value of a state after the run; None for an input that was not changed after all."""
        for key in (state.input, node.name):
            if key in functional:
                return functional[key]
        if self._walker.aliases.was_written(node) or state.initial is not None:
            return self._walker.read(node)
        return None

    def _as_value(self, output: Any) -> Value:
        if isinstance(output, Value):
            return output
        if isinstance(output, float) or (isinstance(output, Number) and output.kind == "float"):
            return self._walker.scalar(output, F64)  # Python's own float
        if isinstance(output, (bool, int, DimExpr, Number)):
            return self._walker.scalar(output)
        raise Unsupported(f"the model returns {type(output).__name__}, which is no tensor")


def _place(tensor: Any) -> Any:
    return (
        (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()) if isinstance(tensor, torch.Tensor) else None
    )


_PARAMETER_MUTATION = getattr(OutputKind, "PARAMETER_MUTATION", None)


def _erase_unused(graph: Graph) -> None:
    """Drop nodes that nothing uses, from the last to the first, and weights that only they used."""
    last = graph.terminator.previous
    while last is not None:
        before = last.previous
        if not last.is_used:
            graph.erase(last)
        last = before
    for name in [name for name, value in graph.weights.items() if not value.uses]:
        graph.remove_weight(name)
