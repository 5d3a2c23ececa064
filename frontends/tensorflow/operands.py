"""What tensors of TensorFlow stand for besides tensors of the IR: variables, whose handles they are."""

from __future__ import annotations

from dataclasses import dataclass

from dragoman.frontends.onnx.operands import Operand as TensorOperand
from dragoman.frontends.onnx.operands import Scope, Tensor, Unknown, tensor
from dragoman.ir.types import TensorType
from dragoman.ir.weights import Weight


@dataclass(frozen=True, eq=False)
class Variable:
    """A variable of the model: its name, its type and the value it has before the call."""

    name: str
    type: TensorType
    initial: Weight


Operand = TensorOperand | Variable

__all__ = ["Operand", "Scope", "Tensor", "Unknown", "Variable", "tensor"]
