"""From a traced function to a graph: inputs with their symbols, variables as weights or states, outputs by name."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from dragoman.frontends.imported import Imported, Source, State
from dragoman.frontends.onnx.context import Context
from dragoman.frontends.onnx.external import ExternalData
from dragoman.frontends.refusals import Refusals
from dragoman.frontends.tensorflow import table
from dragoman.frontends.tensorflow.dtypes import from_tensorflow
from dragoman.frontends.tensorflow.operands import Operand, Scope, Tensor, Variable, tensor
from dragoman.frontends.tensorflow.program import program_of
from dragoman.frontends.tensorflow.runner import SourceRunner
from dragoman.frontends.tensorflow.walker import Walker
from dragoman.ir.dims import Dim, DimExpr, symbols
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Graph, Value
from dragoman.ir.types import TensorType
from dragoman.ir.weights import ArrayWeight, FrameworkWeight


@dataclass(frozen=True)
class Interface:
    """A function of tensors alone: what goes in by name, with its type, and the names of what comes out."""

    function: Callable[..., Any]
    inputs: Mapping[str, TensorType]
    outputs: Callable[[], Sequence[str]]  # known once the function was traced
    names: Mapping[int, str]  # of variables, by the identity of their handles
    title: str = ""


def import_function(interface: Interface, examples: Sequence[Any], progress: Any) -> Source:
    """Trace and translate. Raises Unsupported where it cannot be traced, ImportRefused listing every operator without
    translation.
    """
    started = time.perf_counter()
    progress("trace")
    specs = [tf.TensorSpec(_static(t.shape), _dtype_of(t), name=_identifier(n)) for n, t in interface.inputs.items()]
    try:
        concrete = tf.function(interface.function, autograph=False).get_concrete_function(*specs)
    except Exception as error:  # the model's own code, which may fail in any way
        said = str(error).strip().split("\n")[0][:500]
        raise Unsupported(f"the model cannot be traced: {type(error).__name__}: {said}") from error
    seconds = {"trace": time.perf_counter() - started}
    progress("translate")
    started = time.perf_counter()
    graph, states, held = translate(concrete, interface)
    seconds["translate"] = time.perf_counter() - started
    runner = SourceRunner(concrete, list(interface.inputs), [v.name for v in graph.inputs], held, list(examples))
    return Source(Imported(graph, states, (), seconds), runner)


def translate(concrete: Any, interface: Interface) -> tuple[Graph, tuple[State, ...], dict[str, Any]]:
    """The graph of a traced function, the states that it changes, and the variables that hold them."""
    table.load()
    written: tuple[str, ...] = ()
    while True:  # a variable turns out to be a state when something writes it
        reader = _Reader(concrete, interface, written)
        graph = reader.read()
        if tuple(v.name for v in reader.walker.written) == written:
            return graph, tuple(reader.states), reader.held
        written = tuple(v.name for v in reader.walker.written)


class _Reader:
    """One translation."""

    def __init__(self, concrete: Any, interface: Interface, written: Sequence[str]) -> None:
        self._concrete = concrete
        self._interface = interface
        self._written = written
        self._graph = Graph(interface.title)
        known = {n: s for t in interface.inputs.values() for n, s in t.symbols().items()}
        self._context = Context(Scope(self._graph), ExternalData(None), known)
        self._refusals = Refusals("tensorflow")
        definition = concrete.graph.as_graph_def()
        self._nodes = definition.node
        library = {f.signature.name: f for f in definition.library.function}
        self.walker = Walker(self._context, library, self._refusals)
        self.states: list[State] = []
        self.held: dict[str, Any] = {}

    def read(self) -> Graph:
        """Walk the function."""
        function = self._concrete.graph
        captured = list(self._concrete.captured_inputs)
        count = len(function.inputs) - len(captured)
        given: list[Operand] = []
        for (name, type), _ in zip(self._interface.inputs.items(), function.inputs[:count], strict=True):
            given.append(Tensor.of(self._graph.add_input(type, name)))
        given += [self._captured(handle) for handle in captured]
        names = [t.name for t in function.inputs]
        program = program_of(self._nodes, names, [t.name for t in function.outputs], "the model")
        outputs = self.walker.run(program, given)
        self._refusals.raise_if_any()
        values = [tensor(o, "an output").settle(self._context.scope) for o in outputs if not isinstance(o, Variable)]
        after = [self.walker.value_of(v).settle(self._context.scope) for v in self.walker.written]
        finals = [s.output for s in self.states]
        self._graph.set_outputs([*values, *after][: len(values) + len(finals)], [*self._interface.outputs(), *finals])
        self._graph.metadata["framework"] = f"tensorflow {tf.__version__}"
        _erase_unused(self._graph)
        return self._graph

    def _captured(self, handle: Any) -> Operand:
        if handle.dtype != tf.resource:
            array = np.asarray(handle)
            return Tensor.of(self._graph.add_weight("captured", ArrayWeight(array)))
        variable = _variable(self._concrete, handle)
        if variable is None:
            raise Unsupported("the model holds a resource that is no variable: a table or an iterator")
        name = self._interface.names.get(id(handle), variable.name.partition(":")[0])
        name = name if name not in self.held else f"{name}_{len(self.held)}"
        type = TensorType(from_tensorflow(variable.dtype.as_datatype_enum), tuple(variable.shape.as_list()))
        weight = FrameworkWeight(type.dtype, tuple(int(d) for d in variable.shape), lambda: _array_of(variable))
        found = Variable(name, type, weight)
        self.held[name] = variable
        if name in self._written:
            value = self._graph.add_input(type, name)
            self.states.append(State(value.name, f"{value.name}.next", weight))
            self.walker.current[found] = Tensor.of(value)
        return found


def _variable(concrete: Any, handle: Any) -> Any:
    return next((v for v in concrete.graph.variables if v.handle is handle), None)


def _array_of(variable: Any) -> Any:
    return np.asarray(variable.read_value())


def _static(shape: Sequence[Dim]) -> list[int | None]:
    return [None if isinstance(d, DimExpr) and symbols(d) else int(d) for d in shape]  # type: ignore[arg-type]


def _dtype_of(type: TensorType) -> Any:
    return tf.string if type.dtype.kind == "string" else tf.dtypes.as_dtype(type.dtype.numpy)


def _identifier(name: str) -> str:
    kept = "".join(c if c.isalnum() and c.isascii() else "_" for c in name)
    return f"input_{kept}"


def _erase_unused(graph: Graph) -> None:
    """Drop nodes that nothing uses, from the last to the first, and weights that only they used."""
    for node in graph.reversed():
        if not node.is_used and node is not graph.terminator:
            graph.erase(node)
    unused: list[tuple[str, Value]] = [(n, v) for n, v in graph.weights.items() if not v.uses]
    for name, _ in unused:
        graph.remove_weight(name)
