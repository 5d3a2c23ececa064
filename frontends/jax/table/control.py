"""Control flow: conditions, loops and scans as regions that get what they close over as operands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dragoman.frontends.jax.context import Context
from dragoman.frontends.jax.table.registry import translates
from dragoman.ir.graph import Value
from dragoman.ir.ops.elementwise import Cast
from dragoman.ir.types import BOOL, TensorType


def _types(values: Sequence[Value]) -> list[TensorType]:
    return [v.type for v in values]


@translates("cond")
def cond(c: Context, which: Value, *operands: Value, branches: Sequence[Any], **_: Any) -> list[Value]:
    """The branch of that number; one out of range is moved to the nearest there is."""
    if len(branches) == 1:
        return c.inline(branches[0], operands)
    return _choice(c, which, list(operands), list(branches), 0)


def _choice(c: Context, which: Value, operands: list[Value], branches: list[Any], first: int) -> list[Value]:
    """`cond` of the first branch and of the choice among the others."""
    b = c.b
    if isinstance(which.op, Cast) and which.producer is not None and len(branches) == 2:
        asked = which.producer.operands[0]  # `lax.cond` makes a number of its condition
        which = asked if asked is not None and asked.type.dtype == BOOL else which
    if which.type.dtype == BOOL:
        here, then, orelse = which, branches[1], branches[0]
    else:
        here, then, orelse = b.less_equal(which, first), branches[0], branches[1]
    given = _types(operands)
    if len(branches) == 2:
        regions, arrays = c.regions([then, orelse], [given, given])
        return list(b.cond(here, *operands, *arrays, then=regions[0], orelse=regions[1]))
    rest = branches[1:]

    def others(inner: Context, *values: Value) -> list[Value]:
        return _choice(inner, values[-1], list(values[:-1]), rest, first + 1)

    def chosen(inner: Context, *values: Value) -> list[Value]:
        return inner.inline(branches[0], values[:-1])

    kinds = [*given, which.type]
    regions, arrays = c.regions([chosen, others], [kinds, kinds], within=branches)
    return list(b.cond(here, *operands, which, *arrays, then=regions[0], orelse=regions[1]))


@translates("while")
def while_(
    c: Context, *args: Value, cond_nconsts: int, cond_jaxpr: Any, body_nconsts: int, body_jaxpr: Any, **_: Any
) -> list[Value]:
    """As long as the condition holds; the constants of both programs are invariants."""
    asked, done = args[:cond_nconsts], args[cond_nconsts : cond_nconsts + body_nconsts]
    state = args[cond_nconsts + body_nconsts :]
    count = len(state)

    def condition(inner: Context, *values: Value) -> list[Value]:
        return inner.inline(cond_jaxpr, [*values[count : count + cond_nconsts], *values[:count]])

    def body(inner: Context, *values: Value) -> list[Value]:
        return inner.inline(body_jaxpr, [*values[count + cond_nconsts :], *values[:count]])

    kinds = _types([*state, *asked, *done])
    regions, arrays = c.regions([condition, body], [kinds, kinds], within=[cond_jaxpr, body_jaxpr])
    held = [*asked, *done, *arrays]
    results = c.b.while_loop(*state, *held, condition=regions[0], body=regions[1], invariants=len(held))
    return list(results)


@translates("scan")
def scan(
    c: Context, *args: Value, jaxpr: Any, num_consts: int, num_carry: int, length: Any, reverse: bool, **_: Any
) -> list[Value]:
    """A loop over the leading axis; the constants of the program are invariants."""
    constants, carries, sequences = args[:num_consts], args[num_consts : num_consts + num_carry], args[num_consts:]
    sequences = sequences[num_carry:]
    seen = num_carry + len(sequences)

    def body(inner: Context, *values: Value) -> list[Value]:
        return inner.inline(jaxpr, [*values[seen:], *values[:seen]])

    elements = [TensorType(s.type.dtype, s.type.shape[1:]) for s in sequences]
    kinds = [*_types(carries), *elements, *_types(constants)]
    regions, arrays = c.regions([body], [kinds], within=[jaxpr])
    held = [*constants, *arrays]
    return list(
        c.b.scan(
            *carries,
            *sequences,
            *held,
            body=regions[0],
            carries=num_carry,
            length=c.dim(length),
            reverse=reverse,
            invariants=len(held),
        )
    )
