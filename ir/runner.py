"""What can be run and compared: a source framework's model, a converted file, a graph of ours.

A `Runner` gives outputs for inputs. It may also know its names (`Named`), show the values inside it (`Probing`), or
stand for another in a lower precision (`Reduced`). Nothing here knows a framework: frontends and
backends provide the runners.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from dragoman.ir.arithmetic import FLOAT64, NATIVE, Array
from dragoman.ir.errors import UsageError
from dragoman.ir.graph import Graph, Value
from dragoman.ir.interpreter import Interpreter


@runtime_checkable
class Runner(Protocol):
    """Anything that computes outputs from inputs, both NumPy arrays in the model's order."""

    @property
    def name(self) -> str:
        """What a report calls it, such as "PyTorch 2.13" or "ONNX Runtime 1.25, optimiser off"."""
        ...

    def run(self, inputs: Sequence[Array], double: bool = False) -> list[Array]:
        """The outputs. With `double`, all in float64, inner casts to narrower floats included, and float outputs as
        float64.

        Raises (any exception) where it cannot run the inputs, or has no double precision.
        """
        ...


@runtime_checkable
class Named(Protocol):
    """A runner that knows the names of its inputs and outputs, in order; they are compared with the source's."""

    @property
    def input_names(self) -> Sequence[str]:
        """Inputs."""
        ...

    @property
    def output_names(self) -> Sequence[str]:
        """Outputs."""
        ...


@runtime_checkable
class Probing(Protocol):
    """A runner that can show the values inside it, told by the values of a graph that it implements node by node.

    For a candidate that is the graph that was emitted; for a source, the graph that was imported.
    """

    @property
    def graph(self) -> Graph:
        """The graph whose values it can show."""
        ...

    def probe(self, inputs: Sequence[Array], values: Sequence[Value], double: bool = False) -> Mapping[Value, Array]:
        """What these values are in a run on these inputs; those it cannot tell are left out. `double` as in `run`."""
        ...


@runtime_checkable
class Reduced(Protocol):
    """A runner that stands for another in a lower precision; in double, it is that other."""

    @property
    def original(self) -> Runner:
        """The other."""
        ...


def probing(runner: Runner) -> Probing | None:
    """The runner, if it can show the values inside it here and now."""
    try:
        return runner if isinstance(runner, Probing) else None
    except Exception:  # `graph` may be made on asking, and that may fail; the difference is then told without its node
        return None


class GraphRunner:
    """The reference interpreter as a runner: node by node in the declared types, or in float64."""

    def __init__(self, graph: Graph, name: str = "Dragoman's interpreter") -> None:
        self.graph = graph
        self.name = name

    @property
    def input_names(self) -> tuple[str, ...]:
        """The graph's inputs."""
        return tuple(v.name for v in self.graph.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The graph's outputs."""
        return self.graph.output_names

    def run(self, inputs: Sequence[Array], double: bool = False) -> list[Array]:
        """The outputs for inputs in order."""
        m = FLOAT64 if double else NATIVE
        outputs = Interpreter(self.graph, m).run(inputs)
        return [m.extract(x, v.type.dtype) for x, v in zip(outputs, self.graph.outputs, strict=True)]

    def probe(self, inputs: Sequence[Array], values: Sequence[Value], double: bool = False) -> Mapping[Value, Array]:
        """Values of a run node by node in the declared types, or in float64."""
        wanted = frozenset(values)
        interpreter = Interpreter(self.graph, FLOAT64 if double else NATIVE, keep=wanted.__contains__)
        interpreter.run(inputs)
        return {v: interpreter.values[v] for v in values if v in interpreter.values}


def check_inputs(graph: Graph, inputs: Sequence[Array]) -> None:
    """Raise UsageError unless these arrays fit the graph's inputs in number and dtype (shapes are bound by a run)."""
    if len(inputs) != len(graph.inputs):
        raise UsageError(f"the model takes {len(graph.inputs)} inputs, got {len(inputs)}")
    for value, given in zip(graph.inputs, inputs, strict=True):
        if given.dtype != value.type.dtype.numpy and value.type.dtype.kind != "string":
            raise UsageError(f"the input {value.name!r} is {value.type}, got {given.dtype}{list(given.shape)}")
