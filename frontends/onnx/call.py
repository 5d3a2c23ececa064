"""One node as translations see it: inputs as values, attributes by kind, with defaults for those left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import onnx

from dragoman.frontends.onnx.operands import Operand, Tensor, tensor
from dragoman.ir.dims import Dim, DimExpr
from dragoman.ir.errors import Malformed, Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.types import TensorType

if TYPE_CHECKING:
    from dragoman.frontends.onnx.context import Context

_A = onnx.AttributeProto


class Call:
    """A node of an ONNX graph. `call[i]` is input i as a value of the current scope."""

    def __init__(
        self,
        c: Context,
        node: onnx.NodeProto,
        inputs: Sequence[Operand | None],
        attributes: Mapping[str, onnx.AttributeProto],
        version: int,
    ) -> None:
        self.c = c
        self.proto = node
        self.op = node.op_type
        self.domain = "" if node.domain == "ai.onnx" else node.domain
        self.version = version
        self.inputs = tuple(inputs)
        self.attributes = attributes

    # ---- inputs --------------------------------------------------------------------------------------

    def has(self, index: int) -> bool:
        """Whether an input is given."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def operand(self, index: int) -> Operand:
        """An input as it is. Raises Malformed if it is left out."""
        found = self.inputs[index] if index < len(self.inputs) else None
        if found is None:
            raise Malformed(f"{self.op} lacks its input {index}")
        return found

    def tensor(self, index: int) -> Tensor:
        """An input that is a tensor."""
        return tensor(self.operand(index), f"input {index}")

    def type(self, index: int) -> TensorType:
        """The type of an input, without making it a value."""
        return self.tensor(index).type

    def __getitem__(self, index: int) -> Value:
        return self.tensor(index).settle(self.c.scope)

    def get(self, index: int) -> Value | None:
        """An optional input as a value."""
        return self[index] if self.has(index) else None

    @property
    def values(self) -> list[Value]:
        """All inputs as values."""
        return [self[i] for i in range(len(self.inputs))]

    def known(self, index: int) -> Any:
        """The elements of an input as an array of objects, or None where they are computed when the model runs."""
        return self.c.known(self.tensor(index))

    def dims(self, index: int) -> list[Dim] | None:
        """The elements of an integer input as dims, or None."""
        found = self.known(index)
        if found is None or not all(isinstance(v, (int, DimExpr)) for v in found.flat):
            return None
        return [int(v) if isinstance(v, bool) else v for v in found.reshape(-1).tolist()]

    def numbers(self, index: int) -> list[int] | None:
        """The elements of an integer input where all are plain numbers, or None."""
        found = self.dims(index)
        return None if found is None or any(isinstance(d, DimExpr) for d in found) else [int(d) for d in found]  # type: ignore[arg-type]

    def axes(self, index: int, name: str = "axes") -> list[int] | None:
        """Axes from an attribute (older versions) or an input; None where neither is given."""
        if name in self.attributes:
            return self.ints(name)
        if not self.has(index):
            return None
        found = [] if self.type(index).shape == (0,) else self.numbers(index)
        if found is None:
            raise Unsupported(f"{self.op} over axes that are known only when the model runs")
        return found

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs; empty for one that is left out."""
        return tuple(self.proto.output)

    def wants(self, index: int) -> bool:
        """Whether an output is asked for."""
        return index < len(self.proto.output) and bool(self.proto.output[index])

    # ---- attributes ----------------------------------------------------------------------------------

    def _get(self, name: str, kind: int) -> onnx.AttributeProto | None:
        found = self.attributes.get(name)
        if found is not None and found.type != kind:
            kinds = _A.AttributeType
            raise Malformed(f"the attribute {name!r} of {self.op} is {kinds.Name(found.type)}, not {kinds.Name(kind)}")
        return found

    def _needed(self, name: str, default: Any) -> Any:
        if default is ...:
            raise Malformed(f"{self.op} lacks its attribute {name!r}")
        return default

    def int(self, name: str, default: Any = ...) -> int:
        """An integer."""
        found = self._get(name, _A.INT)
        return found.i if found is not None else self._needed(name, default)

    def float(self, name: str, default: Any = ...) -> float:
        """A number, as the f32 it is."""
        found = self._get(name, _A.FLOAT)
        return float(found.f) if found is not None else self._needed(name, default)

    def text(self, name: str, default: Any = ...) -> str:
        """A string."""
        found = self._get(name, _A.STRING)
        return found.s.decode("utf-8", "surrogateescape") if found is not None else self._needed(name, default)

    def ints(self, name: str, default: Any = ...) -> list[int]:
        """Integers."""
        found = self._get(name, _A.INTS)
        return list(found.ints) if found is not None else self._needed(name, default)

    def floats(self, name: str, default: Any = ...) -> list[float]:
        """Numbers."""
        found = self._get(name, _A.FLOATS)
        return list(found.floats) if found is not None else self._needed(name, default)

    def texts(self, name: str, default: Any = ...) -> list[str]:
        """Strings."""
        found = self._get(name, _A.STRINGS)
        if found is None:
            return self._needed(name, default)
        return [s.decode("utf-8", "surrogateescape") for s in found.strings]

    def graph(self, name: str) -> onnx.GraphProto:
        """A sub-graph."""
        found = self._get(name, _A.GRAPH)
        if found is None:
            raise Malformed(f"{self.op} lacks its sub-graph {name!r}")
        return found.g

    def given(self, *names: str) -> bool:
        """Whether any of these attributes is given."""
        return any(name in self.attributes for name in names)
