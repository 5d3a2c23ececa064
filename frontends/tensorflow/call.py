"""One node as translations see it: inputs as values, attributes by kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dragoman.frontends.tensorflow.dtypes import from_tensorflow
from dragoman.frontends.tensorflow.operands import Operand, Tensor, Variable, tensor
from dragoman.ir.dims import Dim, DimExpr
from dragoman.ir.errors import Malformed, Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.types import DType, TensorType

if TYPE_CHECKING:
    from dragoman.frontends.onnx.context import Context


class Call:
    """A node of a graph of TensorFlow. `call[i]` is input i as a value of the current scope."""

    def __init__(self, c: Context, node: Any, inputs: Sequence[Operand]) -> None:
        self.c = c
        self.node = node
        self.op: str = node.op
        self.inputs = tuple(inputs)

    # ---- inputs --------------------------------------------------------------------------------------

    def operand(self, index: int) -> Operand:
        """An input as it is. Raises Malformed where there is none."""
        if not -len(self.inputs) <= index < len(self.inputs):
            raise Malformed(f"{self.op} lacks its input {index}")
        return self.inputs[index]

    def tensor(self, index: int) -> Tensor:
        """An input that is a tensor."""
        found = self.operand(index)
        if isinstance(found, Variable):
            raise Unsupported(f"{self.op} of the variable {found.name!r} itself")
        return tensor(found, f"input {index}")

    def variable(self, index: int) -> Variable:
        """An input that is the handle of a variable."""
        found = self.operand(index)
        if not isinstance(found, Variable):
            raise Unsupported(f"{self.op} of a resource that is no variable of the model")
        return found

    def type(self, index: int) -> TensorType:
        """The type of an input, without making it a value."""
        return self.tensor(index).type

    def __getitem__(self, index: int) -> Value:
        return self.tensor(index).settle(self.c.scope)

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
        return list(found.reshape(-1).tolist())

    def sizes(self, index: int, what: str) -> list[Dim]:
        """The elements of an integer input, which must be known. Raises Unsupported, saying what they are."""
        found = self.dims(index)
        if found is None:
            raise Unsupported(f"{self.op} with {what} that are known only when the model runs")
        return found

    def numbers(self, index: int, what: str) -> list[int]:
        """The elements of an integer input, which must be plain numbers. Raises Unsupported, saying what they are."""
        found = self.sizes(index, what)
        if any(isinstance(d, DimExpr) for d in found):
            raise Unsupported(f"{self.op} with {what} that depend on dynamic dimensions")
        return [int(d) for d in found]  # type: ignore[arg-type]

    # ---- attributes ----------------------------------------------------------------------------------

    def _attribute(self, name: str) -> Any:
        if name not in self.node.attr:
            raise Malformed(f"{self.op} lacks its attribute {name!r}")
        return self.node.attr[name]

    def has(self, name: str) -> bool:
        """Whether an attribute is given."""
        return name in self.node.attr

    def int(self, name: str) -> int:
        """An integer."""
        return int(self._attribute(name).i)

    def float(self, name: str) -> float:
        """A number."""
        return float(self._attribute(name).f)

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean."""
        return bool(self.node.attr[name].b) if self.has(name) else default

    def text(self, name: str, default: str = "") -> str:
        """A string."""
        return self.node.attr[name].s.decode("utf-8", "surrogateescape") if self.has(name) else default

    def ints(self, name: str) -> list[int]:
        """Integers."""
        return [int(i) for i in self._attribute(name).list.i]

    def dtype(self, name: str) -> DType:
        """An element type."""
        return from_tensorflow(self._attribute(name).type)
