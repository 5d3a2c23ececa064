"""What each input of a graph is for, read off what the graph does with it: indices into which table, masks, images, …

One pass from the outputs back collects what nodes demand of their operands: an index below the extent it indexes, a
positive number under a logarithm. Demands pass through ops that move elements and through casts. Names of inputs only
decide where the graph leaves it open (whether an integer is a mask). The result is a record, so that a certificate
can make the inputs again.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dragoman.ir.dims import Dim
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.types import TensorType


class Kind(enum.Enum):
    """What values an input takes."""

    INDEX = "index"  # whole numbers from `low` to the least of `high`
    MASK = "mask"  # 0 and 1: which places count
    PADDING = "padding"  # 0 and 1: which places do not count
    BIAS = "bias"  # 0 where a place counts and −∞ where it does not
    COUNT = "count"  # small whole numbers
    NORMAL = "normal"  # standard normal numbers
    IMAGE = "image"  # smooth pictures with noise, normalised
    POSITIVE = "positive"
    UNIT = "unit"  # between −1 and 1
    TEXT = "text"


@dataclass(frozen=True)
class InputRole:
    """An input: name, type and the values it takes. `high` are inclusive bounds as text; the least one holds."""

    name: str
    type: str
    kind: Kind
    low: int = 0
    high: tuple[str, ...] = ()


@dataclass
class _Demand:
    """What the users of a value demand of it."""

    low: int | None = None
    high: dict[Dim, None] = field(default_factory=dict[Dim, None])
    kinds: set[Kind] = field(default_factory=set[Kind])

    def merge(self, other: _Demand, shift: int = 0) -> None:
        """Add demands; `shift` is what the user adds to the value."""
        if other.low is not None:
            low = other.low - shift
            self.low = low if self.low is None else max(self.low, low)
        self.high.update(dict.fromkeys(h - shift for h in other.high))
        self.kinds |= other.kinds

    def __bool__(self) -> bool:
        return self.low is not None or bool(self.high) or bool(self.kinds)


def input_roles(graph: Graph) -> tuple[InputRole, ...]:
    """The role of each input, in order. Linear in the graph."""
    demands = _demands(graph)
    return tuple(_role(v, demands.get(v) or _Demand()) for v in graph.inputs)


def index_range(role: InputRole, extent: Callable[[str], int]) -> tuple[int, int]:
    """The inclusive range of an index once its bounds are numbers; `extent` reads a dim's text."""
    high = min((extent(h) for h in role.high), default=role.low + 7)
    return role.low, max(high, role.low)


# ---- what nodes demand --------------------------------------------------------------------------------

_DOMAIN = {
    **dict.fromkeys(("log", "log2", "log10", "log1p", "sqrt", "rsqrt", "lgamma", "digamma"), Kind.POSITIVE),
    **dict.fromkeys(("asin", "acos", "atanh", "erfinv"), Kind.UNIT),
    "acosh": Kind.POSITIVE,
}
_KINDS = {("attention", 3): Kind.BIAS, ("batch_norm", 4): Kind.POSITIVE}
_INDEX_OPERAND = {"take": 1, "take_along_axis": 1, "gather_nd": 1, "scatter_elements": 1, "scatter_nd": 1, "one_hot": 0}
_SAME_VALUE = frozenset(("cast", "maximum", "minimum", "clip", "pad", "triangle", "where", "sort"))


def _indexed(node: Node) -> Iterable[Dim]:
    """The extents that the index operand of a node indexes."""
    op: Any = node.op
    if op.name == "one_hot":
        return (op.depth,)
    indexed, indices = node.operand_types[0], node.operand_types[1]
    assert indexed is not None
    assert indices is not None
    if op.name in ("gather_nd", "scatter_nd"):
        depth, skipped = indices.shape[-1], getattr(op, "batch_dims", 0)
        return indexed.shape[skipped : skipped + depth] if isinstance(depth, int) else indexed.shape
    return (indexed.shape[op.axis],)


def _demands(graph: Graph) -> dict[Value, _Demand]:
    demands: dict[Value, _Demand] = {}
    for node in graph.reversed():
        _pass_through(node, demands)
        _direct(node, demands)
    return demands


def _direct(node: Node, demands: dict[Value, _Demand]) -> None:
    name = node.op.name
    for index, value in enumerate(node.operands):
        if value is None:
            continue
        kind = _KINDS.get((name, index)) or (_DOMAIN.get(name) if index == 0 else None)
        if kind is not None:
            demands.setdefault(value, _Demand()).kinds.add(kind)
        if _INDEX_OPERAND.get(name) == index:
            demand = demands.setdefault(value, _Demand())
            demand.merge(_Demand(0, dict.fromkeys(d - 1 for d in _indexed(node))))
        if name in ("lstm", "gru") and index == 6:  # lengths
            time = node.operand_types[0]
            assert time is not None
            demands.setdefault(value, _Demand()).merge(_Demand(1, {time.shape[0]: None}))


def _pass_through(node: Node, demands: dict[Value, _Demand]) -> None:
    """Hand what is demanded of the results on to the operands that they are made of."""
    wanted = _Demand()
    for result in node.results:
        if result in demands:
            wanted.merge(demands[result])
    if not wanted:
        return
    name = node.op.name
    if name in ("add", "sub"):
        _through_sum(node, wanted, demands)
    elif node.op.movement or name in _SAME_VALUE:
        index_operand = _INDEX_OPERAND.get(name, 0 if name == "where" else None)
        for index, value in enumerate(node.operands):
            if value is not None and index != index_operand:
                demands.setdefault(value, _Demand()).merge(wanted)


def _through_sum(node: Node, wanted: _Demand, demands: dict[Value, _Demand]) -> None:
    x, y = node.operands[0], node.operands[1]
    assert x is not None
    assert y is not None
    for value, other in ((x, y), (y, x)):
        shift = constant_number(other)
        if shift is None or (node.op.name == "sub" and value is y):
            continue
        demands.setdefault(value, _Demand()).merge(wanted, int(-shift if node.op.name == "sub" else shift))


def constant_number(value: Value) -> float | None:
    """The number that a value is, if it is a scalar constant or a weight of one element."""
    while value.producer is not None and value.producer.op.name in ("broadcast_to", "cast", "reshape", "unsqueeze"):
        (value,) = (v for v in value.producer.operands if v is not None)
    if value.weight is not None and value.weight.dtype.kind in ("int", "uint", "float", "bool"):
        return float(value.weight.array().reshape(-1)[0]) if value.type.size == 1 else None
    number = getattr(value.op, "value", None) if value.op is not None and value.op.name == "constant" else None
    return float(number) if isinstance(number, (bool, int, float)) else None


# ---- what that makes of an input ----------------------------------------------------------------------


def _role(value: Value, demand: _Demand) -> InputRole:
    kind = _KINDS_OF[value.type.dtype.kind](value, demand)
    if kind is Kind.INDEX or (kind is Kind.COUNT and demand.high):
        return InputRole(value.name, str(value.type), Kind.INDEX, demand.low or 0, tuple(map(str, demand.high)))
    return InputRole(value.name, str(value.type), kind)


def _integer(value: Value, demand: _Demand) -> Kind:
    if demand.high:
        return Kind.INDEX
    name = value.name.lower()
    if "mask" in name:
        return _mask(value, demand)
    return Kind.MASK if "length" not in name and _is_flag(value) else Kind.COUNT


def _mask(value: Value, demand: _Demand) -> Kind:
    return Kind.PADDING if "padding" in value.name.lower() else Kind.MASK


def _float(value: Value, demand: _Demand) -> Kind:
    for kind in (Kind.POSITIVE, Kind.UNIT, Kind.BIAS):
        if kind in demand.kinds:
            return kind
    if "mask" in value.name.lower():
        return Kind.MASK
    return Kind.IMAGE if _is_image(value.type) else Kind.NORMAL


_KINDS_OF: Mapping[str, Callable[[Value, _Demand], Kind]] = {
    "bool": _mask,
    "int": _integer,
    "uint": _integer,
    "float": _float,
    "complex": lambda value, demand: Kind.NORMAL,
    "string": lambda value, demand: Kind.TEXT,
}


def _is_image(type: TensorType) -> bool:
    if type.rank != 4:
        return False
    channels = [d for d in (type.shape[1], type.shape[3]) if isinstance(d, int)]
    return any(c in (1, 3, 4) for c in channels) and all(not isinstance(d, int) or d >= 8 for d in type.shape[2:3])


def _is_flag(value: Value) -> bool:
    """Whether the graph asks of these integers only whether they are zero: cast to bool, or compared with 0 or 1."""
    seen = {value}
    stack = [value]
    asked = False
    while stack:
        for node in stack.pop().users:
            name = node.op.name
            if name == "cast" and node.result.type.dtype.kind == "bool":
                asked = True
            elif name in ("equal", "not_equal", "greater", "less", "greater_equal", "less_equal"):
                others = [constant_number(v) for v in node.operands if v is not None and v not in seen]
                if others not in ([0.0], [1.0]):
                    return False
                asked = True
            elif node.op.movement or name == "cast":
                fresh = [r for r in node.results if r not in seen]
                seen.update(fresh)
                stack.extend(fresh)
    return asked
