"""What a translation works with: the builder of the current scope, fresh symbols, weights, values of constants."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from dragoman.frontends.onnx import known as k
from dragoman.frontends.onnx.external import ExternalData
from dragoman.frontends.onnx.operands import Operand, Scope, Tensor
from dragoman.ir.arithmetic import NATIVE
from dragoman.ir.builder import Builder
from dragoman.ir.dims import Dim, DimExpr, Symbol, bounds, product, same
from dragoman.ir.errors import DragomanError, Unsupported
from dragoman.ir.graph import Node, Value
from dragoman.ir.interpreter import Interpreter
from dragoman.ir.region import extract, free_values, producers
from dragoman.ir.types import BOOL, I64, DType, TensorType, same_shape
from dragoman.ir.weights import ArrayWeight, Weight

_MOST_FOLDED = 64  # nodes behind a constant that is asked for while importing
_MOST_BYTES = 1 << 20  # of what they read


class Refined(Exception):
    """A symbol has a smaller range than was taken for granted: the import begins again with that."""

    def __init__(self, name: str, high: int, where: str) -> None:
        super().__init__(f"{name} is at most {high} at {where}")
        self.name, self.high, self.where = name, high, where


class Context:
    """One translation of a model. `scope` is the graph that is being written now."""

    def __init__(self, scope: Scope, external: ExternalData, symbols: dict[str, Symbol]) -> None:
        self.scope = scope
        self.external = external
        self.symbols = symbols
        self.region: Callable[..., Any] = _no_regions
        self.inline: Callable[..., Any] = _no_regions
        self.opsets: Mapping[str, int] = {}
        self._constants: dict[Value, Any] = {}

    @property
    def b(self) -> Builder:
        """The builder of the current scope."""
        return self.scope.builder

    # ---- symbols -------------------------------------------------------------------------------------

    def fresh(self, hint: str, low: int = 0) -> DimExpr:
        """A new symbol for a size that only running the model tells."""
        stem = re.sub(r"\W", "_", hint)[:40] or "n"
        stem = stem if re.match(r"[A-Za-z_]", stem) else f"n_{stem}"
        number = 0
        while (name := f"{stem}{number}") in self.symbols:
            number += 1
        self.symbols[name] = Symbol(name, low)
        return self.symbols[name].dim

    def limit(self, dim: Dim, high: int) -> None:
        """Say that beyond `high` the model fails for certain; a symbol of the inputs is then read with that range.

        Within control flow nothing follows: what is not run does not fail.
        """
        for name, symbol in self.symbols.items():
            if self.scope.parent is None and symbol.dim == dim and symbol.low <= high < symbol.high:
                raise Refined(name, high, str(self.b.provenance) or "in the model")

    def size(self, count: Value, hint: str) -> Dim:
        """A dim that has the value of an integer scalar which the model computes."""
        b = self.b
        count = self.cast(count, I64)
        if count.type.rank:
            count = b.reshape(count, shape=())
        return b.dynamic_iota(count, size=self.fresh(hint)).type.shape[0]

    # ---- values --------------------------------------------------------------------------------------

    def cast(self, x: Value, dtype: DType) -> Value:
        """`x` as `dtype`; nothing where it is."""
        return x if x.type.dtype == dtype else self.b.cast(x, dtype=dtype)

    def reshape(self, x: Value, shape: Sequence[Dim]) -> Value:
        """`x` in another shape; nothing where it has it."""
        return x if same_shape(x.type.shape, tuple(shape)) else self.b.reshape(x, shape=tuple(shape))

    def assume(self, x: Value, shape: Sequence[Dim]) -> Value:
        """`x`, whose shape must turn out to be this one where it is run; else that run fails."""
        return self.b.dynamic_reshape(x, self.i64(x.type.shape), shape=tuple(shape), keep_zeros=True)

    def assume_batch(self, x: Value, batch: Dim) -> Value:
        """`x`, whose first extent must turn out to be this one."""
        return x if same(x.type.shape[0], batch) else self.assume(x, (batch, *x.type.shape[1:]))

    def broadcast(self, x: Value, shape: Sequence[Dim]) -> Value:
        """`x` broadcast to a shape; nothing where it has it."""
        return x if same_shape(x.type.shape, tuple(shape)) else self.b.broadcast_to(x, shape=tuple(shape))

    def full(self, shape: Sequence[Dim], fill: complex | str | Value, dtype: DType) -> Value:
        """A tensor of one value."""
        scalar = fill if isinstance(fill, Value) else self.const(fill, dtype)
        return scalar if not shape else self.b.broadcast_to(scalar, shape=tuple(shape))

    def const(self, value: complex | str, dtype: DType) -> Value:
        """A scalar constant, converted to the kind of its dtype."""
        if dtype.is_float and not isinstance(value, str):
            value = float(value.real)
        elif dtype.is_integer and not isinstance(value, str):
            value = int(value.real)
        elif dtype == BOOL:
            value = bool(value)
        return self.b.const(value, dtype)

    def array(self, values: Any, dtype: DType) -> Value:
        """A constant of several elements."""
        values = np.asarray(values)
        return self.scope.array(values if dtype.kind == "string" else values.astype(dtype.numpy), dtype)

    def i64(self, dims: Sequence[Dim]) -> Value:
        """Dims as an i64 vector."""
        return self.of_known(k.array_of(dims), I64).settle(self.scope)

    def of_known(self, array: Any, dtype: DType) -> Tensor:
        """A tensor that is known element by element."""
        return Tensor(TensorType(dtype, array.shape), known=array)

    def weight(self, name: str, weight: Weight) -> Value:
        """A weight of the model, as a value of the current scope."""
        return self.scope.local(self.scope.root.graph.add_weight(name, weight))

    def slice(self, x: Value, axis: int, start: Dim, stop: Dim, step: int = 1) -> Value:
        """x[start:stop:step] along one axis."""
        steps = () if step == 1 else (step,)
        return self.b.slice(x, axes=(axis,), starts=(start,), stops=(stop,), steps=steps)

    # ---- constants -----------------------------------------------------------------------------------

    def known(self, tensor: Tensor) -> Any:
        """The elements of a tensor that depends on constants alone, in the precision that it is declared with."""
        found = tensor.known
        if found is not None or not tensor.is_value or not tensor.type.is_static:
            return found
        count = product(tensor.type.shape)
        if not isinstance(count, int) or count > k.MOST:
            return None
        return self._evaluated(tensor.value(self.scope))

    def _evaluated(self, value: Value) -> Any:
        if value not in self._constants:
            self._constants[value] = self._evaluate(value)
        return self._constants[value]

    def _evaluate(self, value: Value) -> Any:
        nodes = _behind(value)
        if nodes is None:
            return None
        free = free_values(nodes, [value])
        if any(v.weight is None for v in free):
            return None
        weights = [v.weight for v in free if v.weight is not None]
        if sum(w.nbytes for w in weights) > _MOST_BYTES:
            return None
        try:
            (result,) = Interpreter(extract(nodes, free, [value]), NATIVE).run([w.array() for w in weights])
        except (DragomanError, ArithmeticError, ValueError, IndexError):
            return None  # the model may compute it where it never runs, or fail there in its own words
        return k.array_of(np.asarray(result))


def _behind(value: Value) -> list[Node] | None:
    """The nodes that compute a value, if they are few and need nothing but constants."""
    seen: dict[Node, None] = {}
    stack = [value]
    while stack:
        current = stack.pop()
        node = current.producer
        if node is None:
            if current.weight is None:
                return None
            continue
        if node in seen:
            continue
        if len(seen) >= _MOST_FOLDED or node.op.regions or node.op.is_symbolic:
            return None
        seen[node] = None
        stack.extend(v for v in node.operands if v is not None)
    return producers([value], ())


def _no_regions(*_: Any) -> Any:
    raise Unsupported("control flow has no place here")


def common_shape(*shapes: Sequence[Dim]) -> tuple[Dim, ...]:
    """What arrays of these shapes broadcast to, where a size that only a run tells may turn out to be 1.

    Unlike the IR's own rule it takes a fresh size beside a number for that number.
    """
    rank = max((len(s) for s in shapes), default=0)
    result: list[Dim] = [1] * rank
    for shape in shapes:
        for axis, dim in enumerate(shape, rank - len(shape)):
            result[axis] = _common(result[axis], dim)
    return tuple(result)


def _common(a: Dim, b: Dim) -> Dim:
    if isinstance(a, int) and a == 1:
        return b
    if (isinstance(b, int) and b == 1) or same(a, b):
        return a
    raise Unsupported(f"whether {a} and {b} are equal or one of them is 1 is known only when the model runs")


def is_sure(dim: Dim) -> bool:
    """Whether an extent is surely not 1."""
    low, high = bounds(dim)
    return low > 1 or high < 1


__all__ = ["ArrayWeight", "Context", "Operand", "common_shape", "is_sure", "onnx"]
