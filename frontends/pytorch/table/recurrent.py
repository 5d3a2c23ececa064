"""LSTM, GRU and plain recurrent layers, kept whole: one op for each layer of torch's stacks.

torch lays weights out as a flat list: for each layer and direction w_ih, w_hh, then the biases if there are any, then
w_hr for an LSTM with projections, which is spelled out as a scan because no op has it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dragoman.frontends.pytorch.context import Context
from dragoman.frontends.pytorch.table.registry import translates
from dragoman.ir.builder import Builder
from dragoman.ir.dims import Dim
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Graph, Value

Parts = list[Value]  # w_ih, w_hh, [b_ih, b_hh], [w_hr]


def _layers(params: Sequence[Value], layers: int, directions: int) -> list[list[Parts]]:
    """The parameters of each direction of each layer."""
    per = len(params) // (layers * directions)
    parts = [list(params[i * per : (i + 1) * per]) for i in range(layers * directions)]
    return [parts[i * directions : (i + 1) * directions] for i in range(layers)]


def _stacked(c: Context, values: Sequence[Value]) -> Value:
    """One value for each direction on a new first axis."""
    if len(values) == 1:
        return c.b.reshape(values[0], shape=(1, *values[0].type.shape))
    return c.b.stack(*values, axis=0)


def _rows(c: Context, x: Value, start: int, count: int) -> Value:
    """Rows of an initial state [layers · directions, …]."""
    if x.type.shape[0] == count:
        return x
    return c.b.slice(x, axes=(0,), starts=(start,), stops=(start + count,), steps=(1,))


def _joined(c: Context, states: Sequence[Value]) -> Value:
    return states[0] if len(states) == 1 else c.b.concat(*states, axis=0)


Layer = Callable[[Value, list[Parts], int], tuple[Value, list[Value]]]
"""(x [t, b, i], parameters of each direction, index of the layer's first state) -> outputs and last states."""


def _run(
    c: Context, x: Value, params: Sequence[Value], num_layers: int, bidirectional: bool, batch_first: bool, layer: Layer
) -> list[Value]:
    """All layers of a stack, time first inside."""
    directions = 2 if bidirectional else 1
    batched = x.type.rank == 3
    if not batched:
        x = c.b.reshape(x, shape=(x.type.shape[0], 1, x.type.shape[1]))
    elif batch_first:
        x = c.b.transpose(x, perm=(1, 0, 2))
    finals: list[list[Value]] = []
    for index, parts in enumerate(_layers(params, num_layers, directions)):
        x, states = layer(x, parts, index * directions)
        finals.append(states)
    if batched and batch_first:
        x = c.b.transpose(x, perm=(1, 0, 2))
    results = [x, *(_joined(c, [f[i] for f in finals]) for i in range(len(finals[0])))]
    return [c.reshape(r, t.shape) for r, t in zip(results, c.types, strict=True)]


def _refuse_dropout(dropout: float, train: bool) -> None:
    if train and dropout > 0:
        raise Unsupported("a recurrent layer with dropout is random: call model.eval() first")


def _state(c: Context, x: Value) -> Value:
    """An initial state [l·d, b, h]; one without a batch gets a batch of one."""
    return x if x.type.rank == 3 else c.b.reshape(x, shape=(x.type.shape[0], 1, x.type.shape[1]))


# ---- LSTM --------------------------------------------------------------------------------------------------------


@translates("aten.lstm.input")
def lstm(
    c: Context,
    x: Value,
    hx: Sequence[Value],
    params: Sequence[Value],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> list[Value]:
    """Outputs, last hidden states, last cells."""
    _refuse_dropout(dropout, train)
    h0, c0 = (_state(c, s) for s in hx)
    directions = 2 if bidirectional else 1
    projected = len(params) // (num_layers * directions) == (5 if has_biases else 3)

    def layer(x: Value, parts: list[Parts], first: int) -> tuple[Value, list[Value]]:
        h, cell = _rows(c, h0, first, directions), _rows(c, c0, first, directions)
        if projected:
            return _projected_lstm(c, x, parts, h, cell, has_biases)
        w, r = (_stacked(c, [p[i] for p in parts]) for i in (0, 1))
        bias = _stacked(c, [c.b.add(p[2], p[3]) for p in parts]) if has_biases else None
        way = "bidirectional" if bidirectional else "forward"
        y, h, cell = c.b.lstm(x, w, r, bias, h, cell, direction=way)
        return y, [h, cell]

    return _run(c, x, params, num_layers, bidirectional, batch_first, layer)


def _projected_lstm(
    c: Context, x: Value, parts: list[Parts], h0: Value, c0: Value, has_biases: bool
) -> tuple[Value, list[Value]]:
    """One layer whose hidden state is a projection of what the cell gives: h' = w_hr·(σ(o)·tanh(c'))."""
    b, outputs, hidden, cells = c.b, list[Value](), list[Value](), list[Value]()
    length = x.type.shape[0]
    for index, part in enumerate(parts):
        bias = b.add(part[2], part[3]) if has_biases else None
        seen = b.linear(x, part[0], bias)  # [t, b, 4·cells], all steps at once
        weights = [part[1], part[-1]]
        start = [_row(b, s, index) for s in (h0, c0)]
        body = _projected_step([*start, seen, *weights])
        h, cell, y = b.scan(
            *start, seen, *weights, body=body, carries=2, length=length, reverse=index == 1, invariants=2
        )
        outputs.append(y)
        hidden.append(b.reshape(h, shape=(1, *h.type.shape)))
        cells.append(b.reshape(cell, shape=(1, *cell.type.shape)))
    y = outputs[0] if len(outputs) == 1 else b.concat(*outputs, axis=2)
    return y, [_joined(c, hidden), _joined(c, cells)]


def _row(b: Builder, x: Value, index: int) -> Value:
    row = b.slice(x, axes=(0,), starts=(index,), stops=(index + 1,), steps=(1,))
    return b.reshape(row, shape=x.type.shape[1:])


def _projected_step(given: Sequence[Value]) -> Graph:
    """(h, c, projected input, w_hh, w_hr) -> (h', c', h')."""
    body = Graph()
    b = Builder(body)
    types = [v.type.with_shape(v.type.shape[1:]) if i == 2 else v.type for i, v in enumerate(given)]
    h, cell, seen, recurrent, projection = (
        body.add_input(t, n) for t, n in zip(types, ("h", "c", "x", "w_hh", "w_hr"), strict=True)
    )
    width: Dim = cell.type.shape[-1]
    gates = b.add(seen, b.linear(h, recurrent))
    i, f, g, o = b.split(gates, axis=1, sizes=(width,) * 4)
    new = b.add(b.mul(b.sigmoid(f), cell), b.mul(b.sigmoid(i), b.tanh(g)))
    out = b.linear(b.mul(b.sigmoid(o), b.tanh(new)), projection)
    body.set_outputs([out, new, out], ("h", "c", "y"))
    return body


# ---- GRU and plain -----------------------------------------------------------------------------------------------


@translates("aten.gru.input")
def gru(
    c: Context,
    x: Value,
    hx: Value,
    params: Sequence[Value],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> list[Value]:
    """Outputs and last hidden states."""
    _refuse_dropout(dropout, train)
    return _simple(c, x, hx, params, has_biases, num_layers, bidirectional, batch_first, c.b.gru, True, {})


def _plain(activation: str) -> None:
    def rnn(
        c: Context,
        x: Value,
        hx: Value,
        params: Sequence[Value],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> list[Value]:
        _refuse_dropout(dropout, train)
        kind = {"activation": activation}
        return _simple(c, x, hx, params, has_biases, num_layers, bidirectional, batch_first, c.b.rnn, False, kind)

    translates(f"aten.rnn_{activation}.input")(rnn)


_plain("tanh")
_plain("relu")


def _simple(
    c: Context,
    x: Value,
    hx: Value,
    params: Sequence[Value],
    has_biases: bool,
    num_layers: int,
    bidirectional: bool,
    batch_first: bool,
    op: Callable[..., Any],
    two_biases: bool,
    attributes: dict[str, Any],
) -> list[Value]:
    h0, directions = _state(c, hx), 2 if bidirectional else 1
    way = "bidirectional" if bidirectional else "forward"

    def layer(x: Value, parts: list[Parts], first: int) -> tuple[Value, list[Value]]:
        w, r = (_stacked(c, [p[i] for p in parts]) for i in (0, 1))
        biases: list[Value | None] = [None, None] if two_biases else [None]
        if has_biases:
            sides = [_stacked(c, [p[i] for p in parts]) for i in (2, 3)]
            biases = [*sides] if two_biases else [c.b.add(*sides)]
        y, h = op(x, w, r, *biases, _rows(c, h0, first, directions), direction=way, **attributes)
        return y, [h]

    return _run(c, x, params, num_layers, bidirectional, batch_first, layer)


@translates("aten.lstm.data", "aten.gru.data", "aten.rnn_tanh.data", "aten.rnn_relu.data")
def packed(c: Context, *args: Any, **kwargs: Any) -> None:
    """Packed sequences have a data-dependent layout."""
    raise Unsupported("a PackedSequence has no translation: pass padded sequences to the layer")
