"""Writing graphs: `b.silu(x)`, `b.softmax(x, axis=-1)`. The methods are the op registry, so they cannot drift from it.

Operands are positional, attributes keyword. A Python number where an operand is expected becomes a scalar constant of
the dtype of the first operand that has one. A method returns the value, or a tuple where its type rule returns one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import dragoman.ir.ops as _ops
from dragoman.ir.dims import Dim
from dragoman.ir.errors import TypeRuleError
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.op import REGISTRY, Op
from dragoman.ir.provenance import NOWHERE, Provenance
from dragoman.ir.types import DType, TensorType

_ops.load_all()  # the registry is the set of builder methods


class Builder:
    """Appends nodes to a graph, at its end or before a node. `provenance` is given to each node made."""

    def __init__(self, graph: Graph, before: Node | None = None, provenance: Provenance = NOWHERE) -> None:
        self.graph = graph
        self.before = before
        self.provenance = provenance

    def apply(self, op: Op, *operands: Value | float | None) -> tuple[Value, ...]:
        """Apply an op object; returns all results."""
        values = self._values(op, operands)
        return self.graph.insert(op, values, self.before, self.provenance).results

    def one(self, op: Op, *operands: Value | float | None) -> Value:
        """Apply an op object that has one result."""
        return self.apply(op, *operands)[0]

    def const(self, value: float | complex | str, dtype: DType) -> Value:
        """A scalar constant. A whole number of a float dtype is kept as a float: 1 and 1.0 are one constant."""
        if dtype.is_float and isinstance(value, int):
            value = float(value)
        return self.one(REGISTRY["constant"](value=value, dtype=dtype))

    def extent(self, dim: Dim, dtype: DType) -> Value:
        """A dimension as a scalar of `dtype`: a constant when it is a number."""
        if isinstance(dim, int):
            return self.const(float(dim) if dtype.is_float else dim, dtype)
        return self.one(REGISTRY["dimension"](dim=dim, dtype=dtype))

    def _values(self, op: Op, operands: Sequence[Value | float | None]) -> list[Value | None]:
        values: list[Value | None] = []
        for given in operands:
            if given is None or isinstance(given, Value):
                values.append(given)
            elif isinstance(given, (bool, int, float, complex)):
                dtype = next((v.type.dtype for v in operands if isinstance(v, Value)), None)
                if dtype is None:
                    raise TypeRuleError(f"{op.name}({given}): a number needs another operand to take its dtype from")
                values.append(self.const(given, dtype))
            else:
                raise TypeRuleError(f"{op.name}: {given!r} is neither a value nor a number")
        return values

    def __getattr__(self, name: str) -> Callable[..., Any]:
        cls = REGISTRY.get(name)
        if cls is None:
            raise AttributeError(f"there is no op named {name!r}")

        def method(self: Builder, *operands: Value | float | None, **attributes: Any) -> Any:
            op = make(cls, attributes)
            values = self._values(op, operands)
            results = self.graph.insert(op, values, self.before, self.provenance).results
            return results[0] if cls.returns_one else results

        method.__name__, method.__doc__ = name, cls.__doc__
        setattr(Builder, name, method)
        return getattr(self, name)


def make(cls: type[Op], attributes: dict[str, Any]) -> Op:
    """An op from attributes; lists become tuples. Raises TypeRuleError for an attribute that the op does not have."""
    try:
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in attributes.items()})
    except TypeError as error:
        known = ", ".join(cls.attribute_names()) or "none"
        raise TypeRuleError(f"{cls.name}: {error}; its attributes are {known}") from None


def trace(function: Callable[..., Any], *types: TensorType, names: Sequence[str] | None = None) -> Graph:
    """The graph of `function(b, *values)` on inputs of the given types; outputs are what it returns."""
    graph = Graph(getattr(function, "__name__", ""))
    inputs = [graph.add_input(t, names[i] if names else f"x{i}") for i, t in enumerate(types)]
    results = function(Builder(graph), *inputs)
    graph.set_outputs([results] if isinstance(results, Value) else list(results))
    return graph


def _check_no_method_is_shadowed() -> None:
    clash = set(REGISTRY) & {n for n in vars(Builder) if not n.startswith("_")} | set(REGISTRY) & {
        "graph",
        "before",
        "provenance",
    }
    if clash:
        raise TypeError(f"ops named {sorted(clash)} would be hidden by the builder's own methods")


_check_no_method_is_shadowed()
