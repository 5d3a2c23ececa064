"""Writing graphs: `b.silu(x)`, `b.softmax(x, axis=-1)`. The methods are the op registry, so they cannot drift from it.

Operands are positional, attributes keyword. A Python number where an operand is expected becomes a scalar constant of
the dtype of the first operand that has one. A method returns the value, or a tuple where its type rule returns one.
"""

from __future__ import annotations

import difflib
import keyword
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import dragoman.ir.ops as _ops
from dragoman.ir.attributes import exactly
from dragoman.ir.dims import Dim
from dragoman.ir.errors import TypeRuleError, UsageError
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.op import REGISTRY, Op
from dragoman.ir.ops.constant import Constant, Dimension
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
        """Apply an op object that has one result. Raises VerifyError if it has more or none."""
        values = self._values(op, operands)
        return self.graph.insert(op, values, self.before, self.provenance).result

    def const(self, value: float | complex | str, dtype: DType) -> Value:
        """A scalar constant. 1, 1.0 and True are one constant of a dtype."""
        return self.one(make(Constant, {"value": value, "dtype": dtype}))

    def extent(self, dim: Dim, dtype: DType) -> Value:
        """A dimension as a scalar of `dtype`: a constant when it is a number."""
        return self.const(dim, dtype) if isinstance(dim, int) else self.one(Dimension(dim=dim, dtype=dtype))

    def _values(self, op: Op, operands: Sequence[Value | float | None]) -> list[Value | None]:
        return [v if v is None or isinstance(v, Value) else self._number(op, v, operands) for v in operands]

    def _number(self, op: Op, given: Any, operands: Sequence[Value | float | None]) -> Value:
        if isinstance(given, np.generic):
            given = given.item()
        if not isinstance(given, (bool, int, float, complex)):
            raise TypeRuleError(f"{op.name}: {given!r} is neither a value nor a number")
        dtypes = [v.type.dtype for v in operands if isinstance(v, Value)]
        if not dtypes:
            raise TypeRuleError(f"{op.name}({given}): a number needs another operand to take its dtype from")
        # A condition beside numbers, as in where(condition, x, 0), does not make its neighbours booleans.
        return self.const(given, next((d for d in dtypes if d.kind != "bool"), dtypes[0]))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        cls = REGISTRY.get(name)
        if cls is None:
            near = difflib.get_close_matches(name, REGISTRY, 1)
            raise AttributeError(f"there is no op named {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))

        def method(self: Builder, *operands: Value | float | None, **attributes: Any) -> Any:
            op = make(cls, attributes)
            values = self._values(op, operands)
            results = self.graph.insert(op, values, self.before, self.provenance).results
            return results[0] if cls.returns_one else results

        method.__name__, method.__doc__ = name, cls.__doc__
        setattr(Builder, name, method)
        return getattr(self, name)


_MOST_OPS = 8192
_made: dict[Any, Op] = {}  # ops are immutable: equal ones, of which models have thousands, are one object


def make(cls: type[Op], attributes: dict[str, Any]) -> Op:
    """An op from attributes; lists become tuples. Raises TypeRuleError for an attribute that the op does not have."""
    key = cls, *[(name, exactly(value)) for name, value in attributes.items()]
    try:
        found = _made.get(key)
    except TypeError:  # a list, say, is no key
        return _new(cls, attributes)
    if found is None:
        found = _new(cls, attributes)
        if not found.regions:  # which would be held for ever
            if len(_made) >= _MOST_OPS:
                _made.clear()
            _made[key] = found
    return found


def _new(cls: type[Op], attributes: dict[str, Any]) -> Op:
    try:
        return cls(**attributes)
    except TypeRuleError as error:
        raise TypeRuleError(f"{cls.name}: {error}") from None
    except (ArithmeticError, AttributeError, TypeError, ValueError) as error:
        known = ", ".join(cls.attribute_names()) or "none"
        told = str(error).replace(f"{cls.__name__}.__init__() ", "").replace("keyword-only argument", "attribute")
        raise TypeRuleError(f"{cls.name}: {told}; its attributes are {known}") from None


def trace(function: Callable[..., Any], *types: TensorType, names: Sequence[str] | None = None) -> Graph:
    """The graph of `function(b, *values)` on inputs of the given types; outputs are what it returns."""
    graph = Graph(getattr(function, "__name__", "").replace("<lambda>", ""))
    names = names or [f"x{i}" for i in range(len(types))]
    if len(names) != len(types):
        raise UsageError(f"{len(types)} inputs need as many names, got {len(names)}")
    inputs = [graph.add_input(type, name) for type, name in zip(types, names, strict=True)]
    results = function(Builder(graph), *inputs)
    graph.set_outputs([results] if isinstance(results, Value) else list(results))
    return graph


def _check_names_of_ops() -> None:
    taken = {n for n in vars(Builder) if not n.startswith("_")} | {"graph", "before", "provenance"}
    clash = [name for name in REGISTRY if name in taken or keyword.iskeyword(name)]
    if clash:
        raise TypeError(f"ops named {sorted(clash)} cannot be called on a builder: its own names, or Python's")


_check_names_of_ops()
