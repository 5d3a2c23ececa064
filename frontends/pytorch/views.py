"""Undoing views: what a tensor becomes when a view of it has been written to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dragoman.frontends.pytorch.context import Context
from dragoman.frontends.pytorch.table.scatter import diagonal_scatter, put_slice, select_scatter, slice_scatter
from dragoman.frontends.pytorch.table.shape import axis_of, from_end, known_dim, order_of, permuted
from dragoman.ir.dims import Dim
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.types import Shape, same_shape

# Views that keep the elements and their order: another shape, or nothing at all.
_RESHAPES = frozenset(
    [
        "view",
        "reshape",
        "_unsafe_view",
        "flatten",
        "unflatten",
        "squeeze",
        "unsqueeze",
        "view_as",
        "reshape_as",
        "ravel",
        "atleast_1d",
        "atleast_2d",
        "atleast_3d",
        "alias",
        "detach",
        "contiguous",
        "to",
        "lift_fresh",
        "lift",
        "dropout",
        "positive",
        "resolve_conj",
        "resolve_neg",
        "type_as",
        "requires_grad_",
        "expand_as",
        "expand",
        "broadcast_to",
        "feature_dropout",
        "alpha_dropout",
    ]
)
_EXPANDS = frozenset({"expand", "expand_as", "broadcast_to"})
_SPLITS = frozenset(
    ["split", "split_with_sizes", "chunk", "unbind", "tensor_split", "unsafe_split", "unsafe_chunk", "hsplit", "vsplit"]
)


def written_back(
    c: Context,
    operator: str,
    base: Value,
    value: Value,
    args: Sequence[Any],
    part: int | None = None,
    shapes: Sequence[Shape] = (),
) -> Value:
    """`base` after its view by `operator` has become `value`: its result number `part`, of several with these `shapes`.

    Raises Unsupported for a view that cannot be undone.
    """
    name = operator.split(".")[1]
    if name in _EXPANDS and not same_shape(base.type.shape, value.type.shape):
        raise Unsupported("it is written to, while several of its elements are one in memory")
    if name in _RESHAPES:
        if value.type.dtype != base.type.dtype:
            raise Unsupported("it is written to through a view in another dtype")
        return c.reshape(value, base.type.shape)
    order = order_of(operator, base.type.rank, args)
    if order is not None:
        return permuted(c, value, [order.index(a) for a in range(base.type.rank)])
    undo = _UNDO.get(name)
    if undo is not None:
        return undo(c, base, value, *args)
    if name in _SPLITS and part is not None:
        return _part(c, name, base, value, args, part, shapes)
    raise Unsupported(f"it is written to, and {operator} is a view that cannot be undone")


def _narrow(c: Context, base: Value, value: Value, dim: int, start: Any, length: Dim) -> Value:
    axis = axis_of(base, dim)
    first = from_end(known_dim(start, "the start of the slice"), base.type.shape[axis])
    return put_slice(c, base, value, axis, first, first + length)


def _part(
    c: Context, name: str, base: Value, value: Value, args: Sequence[Any], part: int, shapes: Sequence[Shape]
) -> Value:
    """One of several parts along an axis, which begins where the parts before it end."""
    if name == "unbind":
        return select_scatter(c, base, value, args[0] if args else 0, part)
    if name in ("hsplit", "vsplit"):
        axis = 0 if name == "vsplit" or base.type.rank == 1 else 1
    else:
        axis = axis_of(base, args[1] if len(args) > 1 else 0)
    start: Dim = 0
    for shape in shapes[:part]:
        start = start + shape[axis]
    return put_slice(c, base, value, axis, start, start + shapes[part][axis])


_UNDO: dict[str, Callable[..., Value]] = {
    "slice": slice_scatter,
    "select": select_scatter,
    "narrow": _narrow,
    "diagonal": diagonal_scatter,
}
