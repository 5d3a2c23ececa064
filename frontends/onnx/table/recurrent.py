"""Recurrent layers: LSTM, GRU and RNN, in ONNX's order of gates."""

from __future__ import annotations

from collections.abc import Sequence

from dragoman.frontends.onnx.call import Call
from dragoman.frontends.onnx.context import Context
from dragoman.frontends.onnx.registry import translates
from dragoman.frontends.onnx.table.recurrent_cells import USUAL, layer
from dragoman.ir.dims import floordiv
from dragoman.ir.errors import Malformed
from dragoman.ir.graph import Value
from dragoman.ir.types import I64

_ORDERS = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}  # where the IR's blocks are among ONNX's


def _reordered(c: Context, x: Value, order: Sequence[int]) -> Value:
    """The blocks of axis 1 in another order."""
    if list(order) == list(range(len(order))):
        return x
    each = floordiv(x.type.shape[1], len(order))
    return c.b.concat(*(c.slice(x, 1, each * i, each * (i + 1)) for i in order), axis=1)


def _biases(c: Context, n: Call, order: Sequence[int]) -> tuple[Value | None, Value | None]:
    """Those of the input and of the state."""
    bias = n.get(3)
    if bias is None:
        return None, None
    half = floordiv(bias.type.shape[1], 2)
    first, second = c.slice(bias, 1, 0, half), c.slice(bias, 1, half, half * 2)
    return _reordered(c, first, order), _reordered(c, second, order)


def _time_first(c: Context, n: Call, x: Value, perm: Sequence[int]) -> Value:
    return c.b.transpose(x, perm=tuple(perm)) if n.int("layout", 0) else x


def _is_usual(n: Call) -> bool:
    """Whether the IR has the layer as an op."""
    usual = USUAL[n.op] * (2 if n.text("direction", "forward") == "bidirectional" else 1)
    given = tuple(a.capitalize() for a in n.texts("activations", list(usual)))
    plain = given == usual or (n.op == "RNN" and set(given) == {"Relu"})
    return plain and not n.given("clip") and not n.int("input_forget", 0) and not n.has(7)


@translates("LSTM", "GRU", "RNN")
def recurrent(c: Context, n: Call) -> list[Value]:
    """Outputs [time, direction, batch, hidden] and the last states."""
    b, order = c.b, _ORDERS[n.op]
    x = _time_first(c, n, n[0], (1, 0, 2))
    lengths = c.cast(n[4], I64) if n.has(4) else None
    states = [_time_first(c, n, n[i], (1, 0, 2)) if n.has(i) else None for i in (5, 6)]
    way = n.text("direction", "forward")
    if not _is_usual(n):
        kept = states if n.op == "LSTM" else states[:1]
        y, *last = layer(c, n, x, kept, lengths, way)
        return _outputs(c, n, y, last, n[2])
    w, r = (_reordered(c, n[i], order) for i in (1, 2))
    first, second = _biases(c, n, order)
    if n.op == "LSTM":
        bias = b.add(first, second) if first is not None and second is not None else None
        y, *last = b.lstm(x, w, r, bias, *states, lengths, direction=way)
    elif n.op == "GRU":
        after = bool(n.int("linear_before_reset", 0))
        y, *last = b.gru(x, w, r, first, second, states[0], lengths, direction=way, reset_after=after)
    else:
        bias = b.add(first, second) if first is not None and second is not None else None
        activation = n.texts("activations", ["Tanh"])[0].lower()
        y, *last = b.rnn(x, w, r, bias, states[0], lengths, direction=way, activation=activation)
    return _outputs(c, n, y, last, r)


def _outputs(c: Context, n: Call, y: Value, last: Sequence[Value], r: Value) -> list[Value]:
    count, hidden = r.type.shape[0], r.type.shape[2]
    if n.given("hidden_size") and isinstance(hidden, int) and n.int("hidden_size") != hidden:
        raise Malformed(f"{n.op} says hidden_size={n.int('hidden_size')}, its weights have {hidden}")
    time, batch, _ = y.type.shape
    split = c.reshape(y, (time, batch, count, hidden))
    batch_first = bool(n.int("layout", 0))
    whole = c.b.transpose(split, perm=(1, 0, 2, 3) if batch_first else (0, 2, 1, 3))
    return [whole, *(c.b.transpose(s, perm=(1, 0, 2)) if batch_first else s for s in last)]
