"""Control flow as sub-graphs, and regions that only wrap what they contain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.fx import GraphModule

from dragoman.frontends.pytorch.context import Context, Number
from dragoman.frontends.pytorch.table.registry import translates
from dragoman.ir.dims import Dim
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Graph, Value
from dragoman.ir.types import BOOL, I64


def _operands(c: Context, given: Sequence[Any]) -> tuple[list[Any], list[Value]]:
    """Operands as a region sees them, and those of them that are values: sizes stay sizes inside."""
    seen = [c.scalar(x, I64) if isinstance(x, Number) else x for x in given]
    return seen, [x for x in seen if isinstance(x, Value)]


def _matched(c: Context, graph: Graph, like: Sequence[Value]) -> Graph:
    """A region whose results have the types of its state, numbers among them included."""
    if len(graph.outputs) != len(like):
        raise Unsupported(f"a loop carries {len(like)} values and gives back {len(graph.outputs)}")
    return graph


@translates("higher_order.cond")
def cond(
    c: Context, predicate: Any, true_graph: GraphModule, false_graph: GraphModule, operands: Sequence[Any] = ()
) -> Any:
    """One of two regions."""
    if isinstance(predicate, (bool, int)):  # known while tracing
        return c.expanded(true_graph if predicate else false_graph, operands)
    flag = c.scalar(predicate, BOOL) if isinstance(predicate, Number) else predicate
    flag = c.reshape(c.cast(flag, BOOL), ())
    seen, values = _operands(c, operands)
    then, orelse = c.region(true_graph, seen), c.region(false_graph, seen)
    return c.b.cond(flag, *values, then=then, orelse=orelse)


@translates("higher_order.while_loop")
def while_loop(
    c: Context, condition: GraphModule, body: GraphModule, carried: Sequence[Any], additional: Sequence[Any] = ()
) -> Any:
    """A region as long as another says so."""
    state = [x if isinstance(x, Value) else c.scalar(x, c.result_dtype(x)) for x in carried]
    seen, values = _operands(c, additional)
    both = [*state, *seen]
    loop = _matched(c, c.region(body, both), state)
    return c.b.while_loop(*state, *values, condition=c.region(condition, both), body=loop, invariants=len(values))


def _rows(x: Value) -> Dim:
    if x.type.rank == 0:
        raise Unsupported("a loop over a scalar")
    return x.type.shape[0]


def _scanned(
    c: Context, body: GraphModule, carries: Sequence[Any], sequences: Sequence[Value], additional: Sequence[Any]
) -> Any:
    state = [x if isinstance(x, Value) else c.scalar(x, c.result_dtype(x)) for x in carries]
    seen, values = _operands(c, additional)
    elements = [Value(s.type.with_shape(s.type.shape[1:])) for s in sequences]  # one entry of each
    region = c.region(body, [*state, *elements, *seen])
    results = c.b.scan(
        *state,
        *sequences,
        *values,
        body=region,
        carries=len(state),
        length=_rows(sequences[0]),
        invariants=len(values),
    )
    return results if isinstance(results, tuple) else (results,)


@translates("higher_order.scan")
def scan(
    c: Context, body: GraphModule, init: Sequence[Any], xs: Sequence[Value], additional: Sequence[Any] = ()
) -> Any:
    """A loop over the leading axis that carries state."""
    return _scanned(c, body, init, xs, additional)


@translates("higher_order.map_impl")
def map_impl(c: Context, body: GraphModule, xs: Sequence[Value], additional: Sequence[Any] = ()) -> Any:
    """A region for every entry of the leading axis."""
    return _scanned(c, body, (), xs, additional)


# ---- regions that only wrap --------------------------------------------------------------------------------------


@translates("higher_order.wrap_with_set_grad_enabled")
def set_grad_enabled(c: Context, enabled: bool, body: GraphModule, *operands: Any) -> Any:
    """Gradients have no meaning here."""
    return c.inline(body)


@translates("higher_order.wrap_with_autocast")
def autocast(
    c: Context, device: str, dtype: Any, enabled: bool, cache: bool | None, body: GraphModule, *operands: Any
) -> Any:
    """A region whose operators run in a narrower dtype: what torch recorded as their results tells which."""
    return c.inline(body, autocast=bool(enabled))


@translates("higher_order.tag_activation_checkpoint", "higher_order.strict_mode", "higher_order.wrap")
def wrapped(c: Context, body: GraphModule, *operands: Any, **kwargs: Any) -> Any:
    """What is recomputed for gradients is computed once here."""
    return c.expanded(body, operands[0] if len(operands) == 1 and isinstance(operands[0], list) else operands)


@translates("higher_order.invoke_subgraph")
def invoke_subgraph(c: Context, body: GraphModule, name: str, *operands: Any) -> Any:
    """A region that torch compiles once and calls many times."""
    return c.expanded(body, operands)
