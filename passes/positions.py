"""What an integer tensor says of its own indices: `start + Σ steps[a]·index[a]`.

Models compute masks from positions: ranges, stretched, moved, shifted, compared. Where each element is such a sum, a
comparison may be known beforehand, gathering by it is a slice, and a mask over it is the causal one. Exact over the
integers; a dtype too narrow for its own positions is not looked at. Bounded effort: a value made of more than
`_MOST_NODES` is not looked at either.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dragoman.ir.dims import Dim, bounds, is_one, same
from dragoman.ir.graph import Node, Value
from dragoman.ir.op import normal_axis
from dragoman.ir.types import BOOL, I32, I64, Shape, broadcast

_MOST_NODES = 64


@dataclass(frozen=True)
class Positions:
    """`start + Σ steps[a]·index[a]`; steps along axes of extent 1 are 0. A bool counts as 0 or 1."""

    start: Dim
    steps: tuple[Dim, ...]

    def constant(self) -> bool:
        """Whether it is one number everywhere."""
        return not any(self.moves(axis) for axis in range(len(self.steps)))

    def moves(self, axis: int) -> bool:
        """Whether it depends on the index along an axis."""
        return not _is(self.steps[axis], 0)

    def range(self, shape: Shape) -> tuple[float, float]:
        """The least and greatest that any element can be, over all sizes; infinite where unknown."""
        low, high = (float(end) for end in bounds(self.start))
        for step, extent in zip(self.steps, shape, strict=True):
            last = max(0.0, float(bounds(extent)[1]) - 1)
            ends = [end * last for end in bounds(step) if end]
            low, high = low + min(0.0, *ends, 0.0), high + max(0.0, *ends, 0.0)
        return low, high


def positions(value: Value, nested: int = 3) -> Positions | None:
    """The positions that a value consists of; None if it is not known to be that. Looks `nested` gathers deep."""
    found: dict[Value, Positions | None] = {}
    stack = [value]
    while stack:
        current = stack[-1]
        if current in found:
            stack.pop()
            continue
        node = current.producer
        rule = _RULES.get(node.op.name) if node is not None else None
        if node is None or rule is None or current.type.dtype not in (I64, I32, BOOL):
            found[current] = None
            continue
        waiting = [v for v in node.operands if v is not None and v not in found]
        if waiting:
            if len(found) + len(stack) > _MOST_NODES:
                return None
            stack.extend(waiting)
            continue
        known = [found[v] for v in node.operands if v is not None]
        got = _gather(node, known, nested) if rule is _gather else rule(node, known)
        found[current] = _normal(got, current.type.shape) if got is not None else None
    return found[value]


def difference(a: Value, b: Value) -> tuple[Positions, Shape] | None:
    """a − b, broadcast, and its shape; None if either is not made of positions."""
    first, second = positions(a), positions(b)
    if first is None or second is None:
        return None
    shape = broadcast(a.type.shape, b.type.shape)
    return _combined(first, second, len(shape), -1), shape


def made_of(*values: Value) -> list[Node]:
    """The nodes that tell what positions values consist of, nearest first: what a proof has to see."""
    nodes: dict[Node, None] = {}
    work = deque(values)
    while work and len(nodes) < _MOST_NODES:
        node = work.popleft().producer
        if node is None or node in nodes or node.op.name not in _RULES:
            continue
        if all(r.type.dtype in (I64, I32, BOOL) for r in node.results):
            nodes[node] = None
            work.extend(v for v in node.operands if v is not None)
    return list(nodes)


Known = Sequence[Positions | None]
Transfer = Callable[[Node, Known], Positions | None]


def _is(dim: Dim, number: int) -> bool:
    return isinstance(dim, int) and dim == number


def _normal(found: Positions, shape: Shape) -> Positions:
    return Positions(found.start, tuple(0 if is_one(d) else s for s, d in zip(found.steps, shape, strict=True)))


def _spread(found: Positions, rank: int) -> tuple[Dim, ...]:
    return (0,) * (rank - len(found.steps)) + found.steps


def _combined(a: Positions, b: Positions, rank: int, sign: int) -> Positions:
    steps = (x + y * sign for x, y in zip(_spread(a, rank), _spread(b, rank), strict=True))
    return Positions(a.start + b.start * sign, tuple(steps))


def _constant(node: Node, known: Known) -> Positions | None:
    op: Any = node.op
    return Positions(int(op.value), ())


def _dimension(node: Node, known: Known) -> Positions | None:
    op: Any = node.op
    return Positions(op.dim, ())


def _iota(node: Node, known: Known) -> Positions | None:
    return Positions(0, (1,))


def _cast(node: Node, known: Known) -> Positions | None:
    operand, found = node.operands[0], known[0]
    assert operand is not None
    if node.results[0].type.dtype == BOOL and operand.type.dtype != BOOL:
        if found is None or not found.constant() or not isinstance(found.start, int):
            return None
        return Positions(int(found.start != 0), found.steps)
    return found


def _sum(sign: int) -> Transfer:
    def rule(node: Node, known: Known) -> Positions | None:
        a, b = known
        return None if a is None or b is None else _combined(a, b, node.results[0].type.rank, sign)

    return rule


def _product(node: Node, known: Known) -> Positions | None:
    a, b = known
    if a is None or b is None:
        return None
    if not b.constant():
        a, b = b, a
    if not b.constant():
        return None
    rank = node.results[0].type.rank
    return Positions(a.start * b.start, tuple(s * b.start for s in _spread(a, rank)))


def _negative(node: Node, known: Known) -> Positions | None:
    (a,) = known
    return None if a is None else Positions(-a.start, tuple(-s for s in a.steps))


def _reshape(node: Node, known: Known) -> Positions | None:
    """Where only extents of 1 come or go."""
    (a,) = known
    operand = node.operands[0]
    assert operand is not None
    after = node.results[0].type.shape
    if a is None:
        return None
    if a.constant():
        return Positions(a.start, (0,) * len(after))
    kept = [(d, s) for d, s in zip(operand.type.shape, a.steps, strict=True) if not is_one(d)]
    wide = [axis for axis, d in enumerate(after) if not is_one(d)]
    if len(kept) != len(wide) or not all(same(after[x], d) for x, (d, _) in zip(wide, kept, strict=True)):
        return None
    steps: list[Dim] = [0] * len(after)
    for axis, (_, step) in zip(wide, kept, strict=True):
        steps[axis] = step
    return Positions(a.start, tuple(steps))


def _broadcast(node: Node, known: Known) -> Positions | None:
    (a,) = known
    return None if a is None else Positions(a.start, _spread(a, node.results[0].type.rank))


def _transpose(node: Node, known: Known) -> Positions | None:
    (a,) = known
    op: Any = node.op
    return None if a is None else Positions(a.start, tuple(a.steps[p] for p in op.perm))


def _slice(node: Node, known: Known) -> Positions | None:
    a, op = known[0], node.op
    if a is None:
        return None
    attributes: Any = op
    start, steps = a.start, list(a.steps)
    strides = attributes.steps or (1,) * len(attributes.axes)
    for axis, begin, stride in zip(attributes.axes, attributes.starts, strides, strict=True):
        axis = normal_axis(axis, len(steps))
        if stride < 1 or bounds(begin)[0] < 0:
            return None
        start, steps[axis] = start + steps[axis] * begin, steps[axis] * stride
    return Positions(start, tuple(steps))


def _concat(node: Node, known: Known) -> Positions | None:
    """Where each piece goes on as the one before it ended."""
    op: Any = node.op
    axis = normal_axis(op.axis, node.results[0].type.rank)
    pieces = [(p, v.type.shape[axis]) for p, v in zip(known, node.operands, strict=True) if p is not None and v]
    if len(pieces) != len(node.operands):
        return None
    wide = [p.steps[axis] for p, extent in pieces if not is_one(extent)]
    first = pieces[0][0]
    step = wide[0] if wide else (pieces[1][0].start - first.start if len(pieces) > 1 else 0)
    at = first.start
    for piece, extent in pieces:
        others = [same(s, t) for i, (s, t) in enumerate(zip(piece.steps, first.steps, strict=True)) if i != axis]
        own = is_one(extent) or same(piece.steps[axis], step)
        if not (all(others) and own and same(piece.start, at)):
            return None
        at = at + step * extent
    return Positions(first.start, tuple(step if i == axis else s for i, s in enumerate(first.steps)))


def _running_sum(node: Node, known: Known) -> Positions | None:
    (a,) = known
    return a if a is not None and a.constant() and _is(a.start, 0) else None


def _difference_is(holds: Callable[[float, float], bool | None]) -> Transfer:
    def rule(node: Node, known: Known) -> Positions | None:
        a, b = known
        if a is None or b is None:
            return None
        shape = node.results[0].type.shape
        truth = holds(*_normal(_combined(a, b, len(shape), -1), shape).range(shape))
        return None if truth is None else Positions(int(truth), (0,) * len(shape))

    return rule


def _never(answer: bool | None) -> bool | None:
    return None if answer is None else not answer


def _less(low: float, high: float) -> bool | None:
    return True if high < 0 else False if low >= 0 else None


def _equal(low: float, high: float) -> bool | None:
    return True if low == high == 0 else False if low > 0 or high < 0 else None


def _gather(node: Node, known: Known, nested: int = 0) -> Positions | None:
    """A sum over the places that the rows of the indices name, where those are positions too."""
    op: Any = node.op
    table, rows = known[0], node.operands[1]
    if table is None or op.batch_dims or rows is None:
        return None
    rank = node.results[0].type.rank
    if table.constant():
        return Positions(table.start, (0,) * rank)
    columns = index_columns(rows, nested - 1) if nested else None
    if columns is None:
        return None
    total = Positions(table.start, (0,) * rank)
    rest = table.steps[len(columns) :]
    for step, (column, shape) in zip(table.steps, columns, strict=False):
        if column.range(shape)[0] < 0:
            return None  # counted from the end
        steps = tuple(t + step * s for t, s in zip(total.steps, (*column.steps, *(0 for _ in rest)), strict=True))
        total = Positions(total.start + step * column.start, steps)
    return Positions(total.start, (*total.steps[: rank - len(rest)], *rest))


def index_columns(rows: Value, nested: int = 3) -> list[tuple[Positions, Shape]] | None:
    """For indices [i…, k]: the positions of each of the k columns over [i…], and that shape."""
    shape = rows.type.shape[:-1]
    depth = rows.type.shape[-1]
    producer = rows.producer
    parts = [rows]
    if not is_one(depth):
        op: Any = producer.op if producer is not None else None
        if producer is None or producer.op.name != "concat" or normal_axis(op.axis, rows.type.rank) != len(shape):
            return None
        parts = [v for v in producer.operands if v is not None]
    columns: list[tuple[Positions, Shape]] = []
    for part in parts:
        found = positions(part, nested) if is_one(part.type.shape[-1]) else None
        if found is None:
            return None
        columns.append((Positions(found.start, found.steps[:-1]), shape))
    return columns


_RULES: dict[str, Transfer] = {
    "constant": _constant,
    "dimension": _dimension,
    "iota": _iota,
    "cast": _cast,
    "add": _sum(1),
    "sub": _sum(-1),
    "mul": _product,
    "neg": _negative,
    "reshape": _reshape,
    "squeeze": _reshape,
    "unsqueeze": _reshape,
    "broadcast_to": _broadcast,
    "transpose": _transpose,
    "slice": _slice,
    "concat": _concat,
    "cumsum": _running_sum,
    "gather_nd": _gather,
    "less": _difference_is(_less),
    "greater_equal": _difference_is(lambda low, high: _never(_less(low, high))),
    "greater": _difference_is(lambda low, high: _less(-high, -low)),
    "less_equal": _difference_is(lambda low, high: _never(_less(-high, -low))),
    "equal": _difference_is(_equal),
    "not_equal": _difference_is(lambda low, high: _never(_equal(low, high))),
}
