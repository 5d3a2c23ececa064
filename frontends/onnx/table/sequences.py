"""Sequences and optionals, as long as it is known while importing how many tensors they hold."""

from __future__ import annotations

from collections.abc import Sequence

from dragoman.frontends.onnx import known as k
from dragoman.frontends.onnx.call import Call
from dragoman.frontends.onnx.context import Context
from dragoman.frontends.onnx.dtypes import dtype_of_code
from dragoman.frontends.onnx.operands import Operand, OptionalTensor, Tensor, TensorSequence
from dragoman.frontends.onnx.registry import translates
from dragoman.frontends.onnx.table.shape import joined, parts, sized
from dragoman.ir.dims import Dim
from dragoman.ir.errors import Malformed, Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.op import normal_axis
from dragoman.ir.types import BOOL, I64


def sequence(n: Call, index: int) -> TensorSequence:
    """An input that is a sequence."""
    found = n.operand(index)
    if isinstance(found, OptionalTensor) and isinstance(found.held, TensorSequence):
        found = found.held
    if not isinstance(found, TensorSequence):
        raise Malformed(f"{n.op} takes a sequence as its input {index}")
    return found


def _place(n: Call, index: int, count: int, default: int) -> int:
    if not n.has(index):
        return default
    found = n.numbers(index)
    if found is None:
        raise Unsupported(f"{n.op} at a place that is known only when the model runs")
    place = found[0] + count if found[0] < 0 else found[0]
    if not 0 <= place <= count:
        raise Malformed(f"{n.op} at place {found[0]} of a sequence of {count}")
    return place


@translates("SequenceEmpty")
def empty(c: Context, n: Call) -> Operand:
    """No tensors."""
    return TensorSequence((), dtype_of_code(n.int("dtype", 1)))


@translates("SequenceConstruct")
def construct(c: Context, n: Call) -> Operand:
    """These tensors."""
    return TensorSequence([n.tensor(i) for i in range(len(n.inputs))])


@translates("SequenceInsert")
def insert(c: Context, n: Call) -> Operand:
    """One more, at the end unless told."""
    items = list(sequence(n, 0).items)
    items.insert(_place(n, 2, len(items), len(items)), n.tensor(1))
    return TensorSequence(items)


@translates("SequenceErase")
def erase(c: Context, n: Call) -> Operand:
    """One less, the last unless told."""
    items = list(sequence(n, 0).items)
    place = _place(n, 1, len(items), len(items) - 1)
    return TensorSequence([*items[:place], *items[place + 1 :]])


@translates("SequenceAt")
def at(c: Context, n: Call) -> Operand:
    """One of them."""
    items = sequence(n, 0).items
    place = _place(n, 1, len(items), 0)
    if place >= len(items):
        raise Malformed(f"SequenceAt {place} of a sequence of {len(items)}")
    return items[place]


@translates("SequenceLength")
def length(c: Context, n: Call) -> Operand:
    """How many."""
    return c.of_known(k.scalar_of(len(sequence(n, 0).items)), I64)


@translates("SplitToSequence")
def split(c: Context, n: Call) -> Operand:
    """Parts along an axis: of the sizes given, of one size, or single entries."""
    x = n[0]
    axis = normal_axis(n.int("axis", 0), x.type.rank)
    extent = x.type.shape[axis]
    sizes: Sequence[Dim]
    keeps = True
    if n.has(1) and n.type(1).rank:
        sizes = sized(c, n, 1, "part")
    elif not isinstance(extent, int):
        raise Unsupported(f"SplitToSequence of the dynamic extent {extent}")
    elif n.has(1):
        given = n.numbers(1)
        if given is None:
            raise Unsupported("SplitToSequence into parts of a size that is known only when the model runs")
        count = -(-extent // given[0])
        sizes = [given[0]] * (count - 1) + [extent - given[0] * (count - 1)]
    else:
        sizes = [1] * extent
        keeps = bool(n.int("keepdims", 1))
    pieces = parts(c, x, axis, sizes)
    if not keeps:
        pieces = [c.b.squeeze(p, axes=(axis,)) for p in pieces]
    return TensorSequence([Tensor.of(p) for p in pieces])


@translates("ConcatFromSequence")
def concat(c: Context, n: Call) -> Value:
    """All of them together, along an axis or a new one."""
    items = [t.settle(c.scope) for t in sequence(n, 0).items]
    if not items:
        raise Unsupported("ConcatFromSequence of an empty sequence")
    if n.int("new_axis", 0):
        return c.b.stack(*items, axis=n.int("axis"))
    return joined(c, items, n.int("axis"))


@translates("SequenceMap")
def map_(c: Context, n: Call) -> list[Operand]:
    """A sub-graph for each of them."""
    body = n.graph("body")
    items = sequence(n, 0).items
    columns: list[list[Tensor]] = [[] for _ in n.outputs]
    for index, item in enumerate(items):
        others = [n.operand(i) for i in range(1, len(n.inputs))]
        rest = [x.items[index] if isinstance(x, TensorSequence) else x for x in others]
        for column, result in zip(columns, c.inline(body, [item, *rest]), strict=True):
            assert isinstance(result, Tensor)
            column.append(result)
    return [TensorSequence(column) for column in columns]


# ---- optionals -----------------------------------------------------------------------------------------------


@translates("Optional")
def optional(c: Context, n: Call) -> Operand:
    """Something, or nothing."""
    if not n.has(0):
        return OptionalTensor(None)
    found = n.operand(0)
    assert isinstance(found, (Tensor, TensorSequence))
    return OptionalTensor(found)


@translates("OptionalHasElement")
def has_element(c: Context, n: Call) -> Operand:
    """Whether there is something."""
    found = n.operand(0) if n.has(0) else OptionalTensor(None)
    return c.of_known(k.scalar_of(not isinstance(found, OptionalTensor) or found.held is not None), BOOL)


@translates("OptionalGetElement")
def get_element(c: Context, n: Call) -> Operand:
    """What there is."""
    found = n.operand(0)
    if isinstance(found, OptionalTensor):
        if found.held is None:
            raise Malformed("OptionalGetElement of nothing")
        return found.held
    return found
