"""What ONNX names stand for while importing: tensors, sequences and optionals, and scopes of values.

A tensor is a value of the graph, or known element by element, or both; a known one becomes a value only where one is
needed. Regions of control flow capture nothing implicitly: what they use from outside becomes an operand on its first
use there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dragoman.frontends.onnx import known as k
from dragoman.ir.builder import Builder
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Graph, Value
from dragoman.ir.types import BOOL, I64, DType, TensorType
from dragoman.ir.weights import ArrayWeight


class Scope:
    """A graph being written: the model's own, or a region's, which takes what it needs of the scope around it."""

    def __init__(self, graph: Graph, parent: Scope | None = None) -> None:
        self.graph = graph
        self.parent = parent
        self.builder = Builder(graph)
        self.captured: dict[Value, Value] = {}  # a value of the parent's, and the input that stands for it here
        self.own: set[Value] = set()  # inputs of the region that are its own
        self.depth: int = parent.depth + 1 if parent else 0
        self.weights: dict[Any, Value] = {}  # small constants of the model, each once

    @property
    def root(self) -> Scope:
        """The scope of the model itself."""
        scope = self
        while scope.parent is not None:
            scope = scope.parent
        return scope

    def local(self, value: Value) -> Value:
        """A value of this scope or one around it, as it is named here."""
        if self.parent is None or value in self.own:
            return value
        if value.producer is not None and value.producer.graph is self.graph:
            return value
        outer = self.parent.local(value)
        found = self.captured.get(outer)
        if found is None:
            found = self.captured[outer] = self.graph.add_input(outer.type, value.name or "captured")
            self.own.add(found)
        return found

    def add_input(self, type: TensorType, name: str) -> Value:
        """An input of a region."""
        value = self.graph.add_input(type, name)
        self.own.add(value)
        return value

    def array(self, values: Any, dtype: DType, name: str = "constant") -> Value:
        """A constant of several elements: a weight of the model."""
        root = self.root
        key = (dtype, values.shape, values.tobytes() if dtype.kind != "string" else repr(values.tolist()))
        if key not in root.weights:
            root.weights[key] = root.graph.add_weight(name, ArrayWeight(values))
        return self.local(root.weights[key])


class Tensor:
    """One tensor of the model. `type` is known always; at least one of value and known elements is there."""

    __slots__ = ("_known", "_value", "name", "type")

    def __init__(self, type: TensorType, value: Value | None = None, known: Any = None, name: str = "") -> None:
        self.type = type
        self._value = value
        self._known = known
        self.name = name

    @staticmethod
    def of(value: Value) -> Tensor:
        """A tensor that is a value."""
        return Tensor(value.type, value)

    @property
    def known(self) -> Any:
        """Its elements as an array of objects, or None. Small weights and constants are read when first asked for."""
        if self._known is None and self._value is not None:
            self._known = _read(self._value)
        return self._known

    def value(self, scope: Scope) -> Value:
        """The tensor as a value of a scope."""
        if self._value is None or (self._known is not None and self._value.weight is None and scope.parent):
            return _made(self._known, self.type, scope)
        return scope.local(self._value)

    @property
    def is_value(self) -> bool:
        """Whether there is a value of the graph already."""
        return self._value is not None

    def settle(self, scope: Scope) -> Value:
        """As `value`, kept for the next time: for the scope that the tensor belongs to."""
        if self._value is None:
            made = _made(self._known, self.type, scope)
            if scope.parent is not None:
                return made
            self._value = made
        return self.value(scope)


class TensorSequence:
    """A sequence of tensors whose length is known while importing."""

    __slots__ = ("dtype", "items")

    def __init__(self, items: Sequence[Tensor], dtype: DType | None = None) -> None:
        self.items = tuple(items)
        self.dtype = dtype


class OptionalTensor:
    """An optional that is known to hold something, or not."""

    __slots__ = ("held",)

    def __init__(self, held: Tensor | TensorSequence | None) -> None:
        self.held = held


class Unknown:
    """The result of a node that has no translation: what uses it has none either, and is not listed again."""


Operand = Tensor | TensorSequence | OptionalTensor | Unknown


def _read(value: Value) -> Any:
    count = math.prod(d if isinstance(d, int) else k.MOST + 1 for d in value.type.shape)
    if count > k.MOST:
        return None
    if value.weight is not None:
        return k.array_of(value.weight.array())
    op: Any = value.op
    if op is not None and op.name == "constant":
        return k.scalar_of(op.value)
    return None


def _made(known: Any, type: TensorType, scope: Scope) -> Value:
    """Known elements as nodes: constants, and dimensions where they are symbolic."""
    b, dtype = scope.builder, type.dtype
    if not k.is_symbolic(known):
        if known.ndim == 0 and dtype.kind != "string":
            return b.const(known.item(), dtype)
        return scope.array(_array(known, dtype), dtype)
    parts = [_element(b, v, dtype) for v in known.reshape(-1).tolist()]
    if known.ndim == 0:
        return parts[0]
    rows = [b.reshape(p, shape=(1,)) for p in parts]
    flat = rows[0] if len(rows) == 1 else b.concat(*rows, axis=0)
    return flat if known.ndim == 1 else b.reshape(flat, shape=known.shape)


def _array(known: Any, dtype: DType) -> Any:
    if dtype.kind == "string":
        return known
    wide: Any = {"int": np.int64, "uint": np.uint64, "float": np.float64}.get(dtype.kind, dtype.numpy)
    with np.errstate(over="ignore"):
        return np.array(known.reshape(-1).tolist(), wide).astype(dtype.numpy).reshape(known.shape)


def _element(b: Builder, x: Any, dtype: DType) -> Value:
    if isinstance(x, k.Quotient):
        above = b.extent(x.above, dtype)
        return above if x.below == 1 else b.div(above, b.const(float(x.below), dtype))
    if isinstance(x, (bool, float, str)) or dtype == BOOL:
        return b.const(x, dtype)
    if dtype.is_integer and dtype != I64 and not isinstance(x, int):
        return b.cast(b.extent(x, I64), dtype=dtype)
    return b.extent(x, dtype)


def tensor(operand: Operand | None, what: str) -> Tensor:
    """An operand that must be a tensor. Raises Unsupported for a sequence or an optional."""
    if isinstance(operand, Tensor):
        return operand
    if isinstance(operand, OptionalTensor) and isinstance(operand.held, Tensor):
        return operand.held
    raise Unsupported(f"{what} is a sequence or an optional where a tensor is expected")
