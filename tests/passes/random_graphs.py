"""Graphs drawn at random: positions and masks, moves, products and attention, with sizes of 0 and 1 among the rest.

Owns the drawing. The same seed gives the same graph. What the builder refuses is drawn again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dragoman.ir.builder import Builder
from dragoman.ir.dims import Dim, is_one, product
from dragoman.ir.errors import DragomanError
from dragoman.ir.graph import Graph, Value
from dragoman.ir.types import BOOL, F32, I64, Shape, parse_type
from dragoman.ir.weights import ArrayWeight

SIZES = ({"n": 3, "m": 2}, {"n": 1, "m": 4}, {"n": 2, "m": 2}, {"n": 4, "m": 1}, {"n": 0, "m": 3})
"""Extents of the dynamic dims to run a drawn graph at."""

_TRIES = 20  # for one node
_OUTPUTS = 6
_COMPARISONS = ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal")


class _Nothing(Exception):
    """There is no value of the kind that an op needs."""


class _Draw:
    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        self.graph = Graph(f"drawn_{seed}")
        self.b = Builder(self.graph)
        self.values: list[Value] = []
        for place in range(self.chance.randint(1, 3)):
            dims = self.chance.choices(("1", "2", "3", "4", "n", "n", "m"), k=self.chance.randint(1, 4))
            self.values.append(self.graph.add_input(parse_type(f"f32[{','.join(dims)}]"), f"x{place}"))
        if self.chance.random() < 0.3:
            self.values.append(self.graph.add_input(parse_type("bool[n,m]"), "chosen"))
        self.dims: list[Dim] = [1, 2, 3, 4, *(d for v in self.values for d in v.type.shape)]

    # ---- choices ------------------------------------------------------------------------------------

    def often(self, share: float) -> bool:
        return self.chance.random() < share

    def any(self, wanted: Callable[[Value], bool]) -> Value:
        """A value of a kind, late ones more often."""
        found = [v for v in self.values if wanted(v)]
        if not found:
            raise _Nothing
        return found[-1 - min(int(self.chance.expovariate(0.35)), len(found) - 1)]

    def real(self, rank: int = 0, known: bool = False) -> Value:
        """A float of at least that rank; `known`: of a known last extent."""
        return self.any(
            lambda v: (
                v.type.dtype == F32
                and v.type.rank >= rank
                and (not known or (v.type.rank > 0 and isinstance(v.type.shape[-1], int)))
            )
        )

    def heads(self) -> Value:
        return self.any(lambda v: v.type.dtype == F32 and v.type.rank == 4)

    def integer(self) -> Value:
        return self.any(lambda v: v.type.dtype == I64)

    def truth(self) -> Value:
        return self.any(lambda v: v.type.dtype == BOOL)

    def axis(self, value: Value) -> int:
        if not value.type.rank:
            raise _Nothing
        return self.chance.randrange(value.type.rank)

    def weight(self, *shape: Any) -> Value:
        array = self.numbers.standard_normal(shape).astype(np.float32)
        return self.graph.add_weight(f"w{len(self.graph.weights)}", ArrayWeight(array))


# ---- ops --------------------------------------------------------------------------------------------------


def _range(d: _Draw) -> Value:
    return d.b.iota(size=d.chance.choice(d.dims))


def _number(d: _Draw) -> Value:
    return d.b.constant(value=d.chance.choice([-1, 0, 1, 2, 3]), dtype=I64)


def _integers(d: _Draw) -> Value:
    other = d.integer() if d.often(0.3) else d.chance.choice([-2, -1, 0, 1, 2, 3])
    return getattr(d.b, d.chance.choice(("add", "sub", "mul")))(d.integer(), other)


def _compared(d: _Draw) -> Value:
    other = d.integer() if d.often(0.5) else d.chance.choice([-1, 0, 1, 2])
    return getattr(d.b, d.chance.choice(_COMPARISONS))(d.integer(), other)


def _joined(d: _Draw) -> Value:
    return getattr(d.b, d.chance.choice(("logical_and", "logical_or")))(d.truth(), d.truth())


def _denied(d: _Draw) -> Value:
    return d.b.logical_not(d.truth())


def _counted(d: _Draw) -> Value:
    return d.b.cast(d.truth(), dtype=d.chance.choice((I64, F32)))


def _unsqueezed(d: _Draw) -> Value:
    value = d.any(lambda v: v.type.rank < 5)
    return d.b.unsqueeze(value, axes=(d.chance.randint(0, value.type.rank),))


def _squeezed(d: _Draw) -> Value:
    value = d.any(lambda v: any(map(is_one, v.type.shape)))
    return d.b.squeeze(value, axes=(d.chance.choice([i for i, e in enumerate(value.type.shape) if is_one(e)]),))


def _reshaped(d: _Draw) -> Value:
    """Two axes merged, one of extent 1 put in, all of those dropped, one axis taken apart, or a move undone."""
    value = d.any(lambda v: 1 <= v.type.rank < 6)
    shape = list(value.type.shape)
    at = d.chance.randrange(len(shape))
    way = d.chance.choice(("merge", "merge", "insert", "drop", "apart", "undo"))
    if way == "merge":
        shape[at : at + 2] = [product(shape[at : at + 2])]
    elif way == "insert":
        shape.insert(at, 1)
    elif way == "drop":
        shape = [e for e in shape if not is_one(e)]
    elif way == "apart" and shape[at] in (4, 6):
        shape[at : at + 1] = d.chance.choice(([2, 2],) if shape[at] == 4 else ([2, 3], [3, 2]))
    elif value.producer is not None and value.producer.operands and value.producer.operands[0] is not None:
        shape = list(value.producer.operands[0].type.shape)
    return d.b.reshape(value, shape=tuple(shape))


def _broadcast(d: _Draw) -> Value:
    value = d.any(lambda v: v.type.rank < 5)
    shape: Shape = tuple(d.chance.choice(d.dims) if is_one(e) and d.often(0.7) else e for e in value.type.shape)
    return d.b.broadcast_to(value, shape=(d.chance.choice(d.dims), *shape) if d.often(0.3) else shape)


def _transposed(d: _Draw) -> Value:
    value = d.any(lambda v: v.type.rank >= 2)
    axes = list(range(value.type.rank))
    if d.often(0.6):
        axes[-2:] = reversed(axes[-2:])
    else:
        d.chance.shuffle(axes)
    return d.b.transpose(value, perm=tuple(axes))


def _sliced(d: _Draw) -> Value:
    value = d.any(lambda v: v.type.rank >= 1)
    axis = d.axis(value)
    extent = value.type.shape[axis]
    start, stop, step = d.chance.choice([0, 0, 1, 2]), d.chance.choice([extent, extent, 2, 3]), d.chance.choice([1, 2])
    return d.b.slice(value, axes=(axis,), starts=(start,), stops=(stop,), steps=(step,))


def _concatenated(d: _Draw) -> Value:
    first = d.any(lambda v: v.type.rank >= 1)
    other = d.any(lambda v: v.type.dtype == first.type.dtype and v.type.rank == first.type.rank)
    return d.b.concat(first, other, axis=d.axis(first))


def _taken(d: _Draw) -> Value:
    table = d.real(rank=1)
    return d.b.take(table, d.integer(), axis=d.axis(table))


def _gathered(d: _Draw) -> Value:
    table, rows = d.real(rank=1), d.integer()
    last = rows.type.shape[-1] if rows.type.rank else None
    if not isinstance(last, int) or last > table.type.rank:
        raise _Nothing
    return d.b.gather_nd(table, rows)


def _pointwise(d: _Draw) -> Value:
    other = d.real() if d.often(0.6) else d.chance.choice([0.5, 1.0, 0.0, 2.0])
    return getattr(d.b, d.chance.choice(("add", "sub", "mul", "maximum")))(d.real(), other)


def _function(d: _Draw) -> Value:
    names = ("tanh", "relu", "sigmoid", "neg", "cos", "abs", "square")
    return getattr(d.b, d.chance.choice(names))(d.real())


def _chosen(d: _Draw) -> Value:
    return d.b.where(d.truth(), d.real(), d.real())


def _reduced(d: _Draw) -> Value:
    value = d.real(rank=1)
    name = d.chance.choice(("reduce_sum", "reduce_mean", "reduce_max"))
    return getattr(d.b, name)(value, axes=(d.axis(value),), keepdims=d.often(0.5))


def _multiplied(d: _Draw) -> Value:
    if d.often(0.5):
        return d.b.matmul(d.real(rank=1), d.real(rank=2))
    value, width = d.real(known=True), d.chance.choice((2, 3, 4, 6))
    y = d.b.matmul(value, d.weight(value.type.shape[-1], width))
    return d.b.add(y, d.weight(width)) if d.often(0.5) else y


def _layer(d: _Draw) -> Value:
    value, width = d.real(known=True), d.chance.choice((2, 4, 6))
    parameters = [d.weight(width, value.type.shape[-1]), *([d.weight(width)] if d.often(0.5) else [])]
    return d.b.linear(value, *parameters)


def _split(d: _Draw) -> Sequence[Value]:
    value = d.real(rank=1)
    axis = d.axis(value)
    extent = value.type.shape[axis]
    if not isinstance(extent, int) or extent < 2:
        raise _Nothing
    first = d.chance.randint(1, extent - 1)
    return d.b.split(value, axis=axis, sizes=(first, extent - first))


def _normalised(d: _Draw) -> Value:
    value = d.real(known=True)
    scale = d.weight(value.type.shape[-1])
    if d.often(0.5):
        return d.b.layer_norm(value, scale, scale, axis=-1, epsilon=1e-3)
    return d.b.rms_norm(value, scale, axis=-1, epsilon=1e-3)


def _product_summed(d: _Draw) -> Value:
    def spread(value: Value, rank: int) -> Value:
        while value.type.rank < rank:
            value = d.b.unsqueeze(value, axes=(d.chance.randint(0, value.type.rank),))
        return value

    x, y = d.real(rank=1), d.real(rank=1)
    least = max(x.type.rank, y.type.rank)
    rank = d.chance.randint(least, max(least, 5))
    axes = tuple(sorted(d.chance.sample(range(rank), min(rank, d.chance.randint(1, 2)))))
    return d.b.reduce_sum(d.b.mul(spread(x, rank), spread(y, rank)), axes=axes, keepdims=d.often(0.4))


def _attended(d: _Draw) -> Value:
    query, key = d.heads(), d.heads()
    mask = (d.truth(),) if d.often(0.5) else ()
    return d.b.attention(query, key, d.heads() if d.often(0.3) else key, *mask, causal=d.often(0.4))


def _looking_back(d: _Draw) -> Value:
    """Attention with a mask from positions, causal in one case of some."""
    query, key = d.heads(), d.heads()
    places = [d.b.iota(size=v.type.shape[2]) for v in (query, key)]
    rows, columns = d.b.unsqueeze(places[0], axes=(1,)), d.b.unsqueeze(places[1], axes=(0,))
    if d.often(0.3):
        columns = d.b.add(columns, d.chance.choice([1, -1]))
    pair = (columns, rows) if d.often(0.5) else (rows, columns)
    mask = getattr(d.b, d.chance.choice(_COMPARISONS[:4]))(*pair)
    mask = d.b.unsqueeze(mask, axes=(0,)) if d.often(0.4) else mask
    return d.b.attention(query, key, key, d.b.logical_and(mask, d.truth()) if d.often(0.4) else mask)


def _more_heads(d: _Draw) -> Value:
    dims = (d.chance.choice((1, 2)), d.chance.choice((2, 4)), d.chance.choice(d.dims), 4)
    return d.graph.add_input(parse_type(f"f32[{','.join(map(str, dims))}]"), f"heads{len(d.values)}")


_OPS: Mapping[Callable[[_Draw], Any], int] = {
    _range: 2,
    _number: 1,
    _integers: 3,
    _compared: 2,
    _joined: 1,
    _denied: 1,
    _counted: 1,
    _unsqueezed: 2,
    _squeezed: 1,
    _reshaped: 4,
    _broadcast: 2,
    _transposed: 2,
    _sliced: 1,
    _concatenated: 1,
    _taken: 1,
    _gathered: 1,
    _pointwise: 3,
    _function: 1,
    _chosen: 1,
    _reduced: 1,
    _multiplied: 2,
    _layer: 2,
    _split: 1,
    _normalised: 1,
    _product_summed: 1,
    _attended: 1,
    _looking_back: 1,
    _more_heads: 1,
}


def random_graph(seed: int, nodes: int) -> Graph:
    """A graph of about so many nodes; those whose results nobody uses are outputs, the last six at most."""
    d = _Draw(seed)
    for _ in range(nodes):
        for _ in range(_TRIES):
            try:
                made = d.chance.choices(list(_OPS), list(_OPS.values()))[0](d)
            except (DragomanError, _Nothing):
                continue
            d.values.extend([made] if isinstance(made, Value) else made)
            break
    computed = [v for v in d.values if v.producer is not None]
    unused = [v for v in computed if not v.uses] or computed[-1:]
    d.graph.set_outputs(unused[-_OUTPUTS:] or d.values[:1])
    return d.graph


def random_inputs(graph: Graph, sizes: Mapping[str, int], seed: int) -> list[Any]:
    """Arrays for the inputs of a drawn graph."""
    rng = np.random.default_rng(seed)
    arrays: list[Any] = []
    for value in graph.inputs:
        shape = [d if isinstance(d, int) else sizes[str(d)] for d in value.type.shape]
        truth = value.type.dtype == BOOL
        arrays.append(rng.random(shape) < 0.5 if truth else rng.standard_normal(shape).astype(np.float32))
    return arrays
