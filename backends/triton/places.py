"""Where an element of a movement comes from: each op as index arithmetic, said once.

A handler gets the index of an element of the result and gives the element, asked for at its place in the operands.
"""

from __future__ import annotations

from dragoman.backends.triton.body import Body, Handler, Index, Term, computed, literal
from dragoman.ir.dims import Dim, is_one, product, same
from dragoman.ir.graph import Node, Value
from dragoman.ir.ops.constant import Constant, Dimension, Iota
from dragoman.ir.ops.indexing import Take, TakeAlongAxis
from dragoman.ir.ops.rearrange import Tile
from dragoman.ir.ops.shape import Concat, Flip, Pad, Slice, Transpose
from dragoman.ir.types import Shape


def _first(node: Node) -> Value:
    value = node.operands[0]
    assert value is not None
    return value


def _constant(body: Body, node: Node, index: Index) -> Term:
    op = node.op
    assert isinstance(op, Constant)
    return Term(literal(op.value, op.dtype))


def _dimension(body: Body, node: Node, index: Index) -> Term:
    op = node.op
    assert isinstance(op, Dimension)
    return Term(f"tl.full((), {body.extent(op.dim).text}, {computed(op.dtype)})")


def _iota(body: Body, node: Node, index: Index) -> Term:
    op = node.op
    assert isinstance(op, Iota)
    kind = computed(op.dtype)
    if index[0].text.isdigit():
        return Term(f"tl.full((), {index[0].text}, {kind})")
    return body.call(f"({{0}}).to({kind})", index[0])


def _transpose(body: Body, node: Node, index: Index) -> Term:
    op = node.op
    assert isinstance(op, Transpose)
    moved = [Term("0")] * len(index)
    for term, axis in zip(index, op.perm, strict=True):
        moved[axis] = term
    return body.value(_first(node), tuple(moved))


def _broadcast(body: Body, node: Node, index: Index) -> Term:
    return body.operand(node, 0, index)


def chunks(given: Shape, wanted: Shape) -> list[tuple[slice, slice]] | None:
    """The axes of two shapes in runs that hold as many elements each; None where sizes do not tell."""
    found: list[tuple[slice, slice]] = []
    i = j = 0
    while i < len(given) or j < len(wanted):
        end_i, end_j = min(i + 1, len(given)), min(j + 1, len(wanted))
        while not same(product(given[i:end_i]), product(wanted[j:end_j])):
            a, b = product(given[i:end_i]), product(wanted[j:end_j])
            behind = isinstance(a, int) and isinstance(b, int) and a < b
            if end_i < len(given) and (behind or end_j == len(wanted) or not _divides(b, a)):
                end_i += 1
            elif end_j < len(wanted):
                end_j += 1
            else:
                return None
        found.append((slice(i, end_i), slice(j, end_j)))
        i, j = end_i, end_j
    return found


def _divides(part: Dim, total: Dim) -> bool:
    return same(part * (total // part), total) if not (isinstance(part, int) and part == 0) else False


def _reshape(body: Body, node: Node, index: Index) -> Term:
    x = _first(node)
    given, wanted = x.type.shape, node.results[0].type.shape
    runs = chunks(given, wanted) or [(slice(None), slice(None))]
    found: list[Term] = []
    for before, after in runs:
        parts = [(d, t) for d, t in zip(wanted[after], index[after], strict=True) if not is_one(d)]
        kept = [d for d in given[before] if not is_one(d)]
        if len(parts) == 1 and len(kept) == 1:
            found += [Term("0") if is_one(d) else parts[0][1] for d in given[before]]
            continue
        place = Term("0")
        for k, (_, term) in enumerate(parts):
            place = body.plus(place, body.times(term, product(d for d, _ in parts[k + 1 :])))
        found += body.split(place, given[before])
    return body.value(x, tuple(found))


def _slice(body: Body, node: Node, index: Index) -> Term:
    op = node.op
    assert isinstance(op, Slice)
    moved = list(index)
    for axis, start, step in zip(op.axes, op.starts, op.steps, strict=True):
        axis %= len(index)
        moved[axis] = body.plus(body.times(index[axis], step), body.extent(start))
    return body.value(_first(node), tuple(moved))


def _flip(body: Body, node: Node, index: Index) -> Term:
    op = node.op
    assert isinstance(op, Flip)
    x, moved = _first(node), list(index)
    for axis in op.axes:
        axis %= len(index)
        moved[axis] = body.plus(body.extent(x.type.shape[axis] - 1), index[axis], "-")
    return body.value(x, tuple(moved))


def _within(body: Body, at: Term, extent: Term) -> Term:
    """Whether a place lies in 0..extent−1."""
    tile = next((c for c in body.conditions if c.axes), None)
    if not at.axes and tile is not None:  # a number is compared as a tile: Triton masks tiles with tiles
        at = body.call("tl.where({0}, {1}, {1})", tile, at)
    return body.call("({0} >= 0) & ({0} < {1})", at, extent)


def _concat(body: Body, node: Node, index: Index) -> Term:
    op = node.op
    assert isinstance(op, Concat)
    axis, start, result = op.axis % len(index), 0, None
    for value in node.operands:
        assert value is not None
        extent: Dim = value.type.shape[axis]
        at = body.plus(index[axis], body.extent(start), "-")
        start = start + extent
        if isinstance(extent, int) and extent == 0:
            continue
        inside = _within(body, at, body.extent(extent))
        with body.where(inside):
            here = body.value(value, (*index[:axis], at, *index[axis + 1 :]))
        result = here if result is None else body.call("tl.where({0}, {1}, {2})", inside, here, result)
    return result if result is not None else Term(literal(0, node.results[0].type.dtype))


def _pad(body: Body, node: Node, index: Index) -> Term:
    op = node.op
    assert isinstance(op, Pad)
    x, moved, inside = _first(node), list(index), None
    for axis, ((low, high), extent) in enumerate(zip(op.padding, x.type.shape, strict=True)):
        if low == 0 and high == 0:
            continue
        at, size = body.plus(index[axis], body.extent(low), "-"), body.extent(extent)
        moved[axis] = at = body.put(at.text, at.axes)
        if op.mode == "constant":
            here = _within(body, at, size)
            inside = here if inside is None else body.call("{0} & {1}", inside, here)
        else:
            moved[axis] = body.call(_BORDERS[op.mode], at, size)
    if inside is None:
        return body.value(x, tuple(moved))
    with body.where(inside):
        term = body.value(x, tuple(moved))
    return body.call("tl.where({0}, {1}, {2})", inside, term, Term(literal(_number(op.value, x), x.type.dtype)))


_BORDERS = {
    "edge": "tl.minimum(tl.maximum({0}, 0), {1} - 1)",
    "reflect": "({1} - 1 - tl.abs({1} - 1 - tl.abs({0})))",
    "wrap": "(({0} + {1}) % {1})",
}


def _number(value: float, x: Value) -> float:
    return value if x.type.dtype.is_float else int(value)


def _tile(body: Body, node: Node, index: Index) -> Term:
    op = node.op
    assert isinstance(op, Tile)
    x = _first(node)
    extents = [body.extent(d) for d in x.type.shape]
    pairs = zip(index, x.type.shape, extents, strict=True)
    return body.value(x, tuple(Term("0") if is_one(d) else body.call("{0} % {1}", i, e) for i, d, e in pairs))


def _taken(body: Body, indices: Value, at: Index, extent: Dim) -> Term:
    """An index read from memory, counted from the end where negative and kept inside."""
    found = body.call("({0}).to(tl.int64)", body.value(indices, at))
    size = body.extent(extent)
    found = body.call("tl.where({0} < 0, {0} + {1}, {0})", found, size)
    return body.call("tl.minimum(tl.maximum({0}, 0), {1} - 1)", found, size)


def _take(body: Body, node: Node, index: Index) -> Term:
    op = node.op
    assert isinstance(op, Take)
    x, indices = node.operands
    assert x is not None
    assert indices is not None
    axis = op.axis % x.type.rank
    end = axis + indices.type.rank
    place = _taken(body, indices, index[axis:end], x.type.shape[axis])
    return body.value(x, (*index[:axis], place, *index[end:]))


def _take_along(body: Body, node: Node, index: Index) -> Term:
    op = node.op
    assert isinstance(op, TakeAlongAxis)
    x, indices = node.operands
    assert x is not None
    assert indices is not None
    axis = op.axis % x.type.rank
    place = _taken(body, indices, index, x.type.shape[axis])
    return body.value(x, (*index[:axis], place, *index[axis + 1 :]))


def _updated(body: Body, node: Node, index: Index) -> Term:
    x, update, starts = node.operands
    assert x is not None
    assert update is not None
    assert starts is not None
    moved, inside = list(index), None
    for axis, (extent, size) in enumerate(zip(x.type.shape, update.type.shape, strict=True)):
        if same(extent, size):
            continue
        start = body.call("({0}).to(tl.int64)", body.value(starts, (Term(str(axis)),)))
        start = body.call("tl.minimum(tl.maximum({0}, 0), {1})", start, body.extent(extent - size))
        moved[axis] = at = body.call("{0} - {1}", index[axis], start)
        here = body.call("({0} >= 0) & ({0} < {1})", at, body.extent(size))
        inside = here if inside is None else body.call("{0} & {1}", inside, here)
    if inside is None:
        return body.value(update, index)
    with body.where(inside):
        fresh = body.value(update, tuple(moved))
    return body.call("tl.where({0}, {1}, {2})", inside, fresh, body.value(x, index))


HANDLERS: dict[str, Handler] = {
    "constant": _constant,
    "dimension": _dimension,
    "iota": _iota,
    "transpose": _transpose,
    "broadcast_to": _broadcast,
    "reshape": _reshape,
    "slice": _slice,
    "flip": _flip,
    "concat": _concat,
    "pad": _pad,
    "tile": _tile,
    "dynamic_update_slice": _updated,
    "take": _take,
    "take_along_axis": _take_along,
}

FREE = frozenset({"constant", "dimension", "iota", "transpose", "broadcast_to", "reshape", "slice", "flip"})
"""Those that cost nothing to do again in each kernel that needs them."""
