"""Loops over time whose body spells out a recurrent cell, as `lax.scan` and Keras have them: `lstm`, `gru`, `rnn`.

How a cell joins its gates is compared with the body; the gates themselves are taken apart as what they are, affine
functions of the input and the state: by matrices side by side or apart, over input and state joined or not, rows in any
order, biases anywhere. So every order of gates, and a forget gate with a bias of its own, is one case.
"""

# pyright: reportSelfClsParameterName=false, reportGeneralTypeIssues=false
# A rule is a class of plain functions: they take a builder and what was bound, never `self`.

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from dragoman.ir.builder import Builder, trace
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.ops.control import Scan
from dragoman.ir.types import parse_type
from dragoman.passes.rewrite import Replacement, rewrite_node
from dragoman.passes.rules.affine import Affine, Gates, NoCell

_ACTIVATIONS = ("tanh", "relu")


class _WrongOp(NoCell):
    """Another op than the cell has there: of two orders of operands, the other one may tell more."""


def _applied(value: Value, name: str) -> Value:
    """The operand of an op of that name. Raises NoCell."""
    node = value.producer
    if node is None or node.op.name != name or node.operands[0] is None:
        raise _WrongOp(f"{name} expected, found {_told(value)}")
    return node.operands[0]


def _told(value: Value) -> str:
    return value.producer.op.name if value.producer is not None else "an input of the body"


def _both(value: Value, name: str) -> Iterator[tuple[Value, Value]]:
    """The operands of an op of two, in both orders. Raises NoCell."""
    node = value.producer
    if node is None or node.op.name != name:
        raise _WrongOp(f"{name} expected, found {_told(value)}")
    first, second = node.operands
    assert first is not None
    assert second is not None
    yield first, second
    yield second, first


def _first(ways: Iterator[tuple[Value, Value]], match: Callable[[Value, Value], Any]) -> Any:
    """What matches in one of the orders. Raises NoCell with what says most."""
    told: NoCell | None = None
    for pair in ways:
        try:
            return match(*pair)
        except NoCell as reason:
            if told is None or (isinstance(told, _WrongOp) and not isinstance(reason, _WrongOp)):
                told = reason
    raise told or NoCell("it has no operands")


# ---- cells ----------------------------------------------------------------------------------------------


def _lstm(b: Builder, gates: Gates, hidden: int, cell: int) -> tuple[Value, ...]:
    """c' = σ(f)·c + σ(i)·tanh(g), h' = σ(o)·tanh(c')"""
    new, state = gates.results[hidden], gates.results[cell]

    def given_out(gate: Value, bounded: Value) -> Value:
        if _applied(bounded, "tanh") is not state:
            raise NoCell("what is given out is not the tanh of the new cell state")
        return _applied(gate, "sigmoid")

    def added(gate: Value, candidate: Value) -> tuple[Value, Value]:
        return _applied(gate, "sigmoid"), _applied(candidate, "tanh")

    o = _first(_both(new, "mul"), given_out)
    f, new_part = _first(_both(state, "add"), lambda x, y: (_weigher(x, gates.carries[cell]), y))
    i, g = _first(_both(new_part, "mul"), added)
    f = _applied(f, "sigmoid")
    parts = [gates.affine(v) for v in (i, f, g, o)]
    layer = gates.layer(b, parts, hidden)
    states = [gates.start(b, k) for k in (hidden, cell)]
    direction = "reverse" if gates.reverse else "forward"
    return b.lstm(layer.x, layer.w, layer.r, layer.bias, *states, direction=direction)


def _weigher(value: Value, weighed: Value) -> Value:
    """What an old state is multiplied with. Raises NoCell."""
    node = value.producer
    if node is None or node.op.name != "mul" or weighed not in node.operands:
        raise NoCell("no gate weighs the old cell state")
    return next((v for v in node.operands if v is not None and v is not weighed), weighed)


def _rnn(b: Builder, gates: Gates) -> tuple[Value, ...]:
    """h' = tanh(…), or relu"""
    node = gates.results[0].producer
    if node is None or node.op.name not in _ACTIVATIONS:
        raise NoCell(f"the new state is neither a tanh nor a relu, but {_told(gates.results[0])}")
    layer = gates.layer(b, [gates.affine(_applied(gates.results[0], node.op.name))], 0)
    direction = "reverse" if gates.reverse else "forward"
    return b.rnn(layer.x, layer.w, layer.r, layer.bias, gates.start(b, 0), direction=direction, activation=node.op.name)


def _gru(b: Builder, gates: Gates, *, flipped: bool) -> tuple[Value, ...]:
    """h' = (1 − z)·n + z·h, or `flipped`, (1 − z)·h + z·n, where the gate of the layer is 1 − z = σ(−…)"""
    update, candidate = _first(_both(gates.results[0], "add"), lambda x, y: _blended(gates, x, y, flipped))
    z = gates.affine(_applied(update, "sigmoid"))
    z = z.negated() if flipped else z
    n = gates.affine(_applied(candidate, "tanh"), products=True)
    reset, inner = _reset_after(gates, n) if n.products else _reset_before(gates, n)
    r = gates.affine(_applied(reset, "sigmoid"))
    layer = gates.layer(b, [r, z, n if inner is None else n.joined(inner)], 0)
    biases = layer.bias, None if inner is None else gates.last_bias(b, inner, 3)
    direction = "reverse" if gates.reverse else "forward"
    attributes: dict[str, Any] = {"direction": direction, "reset_after": inner is not None}
    return b.gru(layer.x, layer.w, layer.r, *biases, gates.start(b, 0), **attributes)


def _blended(gates: Gates, x: Value, y: Value, flipped: bool) -> tuple[Value, Value]:
    """The update gate and the candidate, where x weighs with one minus the gate and y with it. Raises NoCell."""

    def of_rest(rest: Value, weighed: Value) -> tuple[Value, Value]:
        node = rest.producer
        if node is None or node.op.name != "sub" or not gates.is_one(node.operands[0]):
            raise NoCell("nothing is weighed by one minus the update gate")
        assert node.operands[1] is not None
        return node.operands[1], weighed

    gate, first = _first(_both(x, "mul"), of_rest)
    node = y.producer
    if node is None or node.op.name != "mul" or gate not in node.operands:
        raise NoCell("the update gate and one minus it do not weigh two values")
    second = next((v for v in node.operands if v is not None and v is not gate), gate)
    kept, candidate = (first, second) if flipped else (second, first)
    if kept is not gates.carries[0]:
        raise NoCell(f"{'one minus the' if flipped else 'the'} update gate does not weigh the old state")
    assert gate is not None
    assert candidate is not None
    return gate, candidate


def _reset_after(gates: Gates, n: Affine) -> tuple[Value, Affine]:
    """r · (h·rₙᵀ + bias)"""
    (product,) = n.products
    state = gates.carries[0]

    def reset(gate: Value, inner: Value) -> tuple[Value, Affine]:
        _applied(gate, "sigmoid")
        found = gates.affine(inner)
        if set(found.weights) != {state} or state in n.weights:
            raise NoCell("the reset gate does not weigh all that the candidate has of the state")
        return gate, found

    return _first(_both(product, "mul"), reset)


def _reset_before(gates: Gates, n: Affine) -> tuple[Value, None]:
    """(r · h)·rₙᵀ"""
    source = next((s for s in n.weights if s.producer is not None and s.producer.op.name == "mul"), None)
    if source is None:
        raise NoCell("no gate resets the state")

    def reset(gate: Value, old: Value) -> Value:
        if old is not gates.carries[0]:
            raise NoCell("what the reset gate weighs is not the old state")
        _applied(gate, "sigmoid")
        return gate

    found = _first(_both(source, "mul"), reset)
    n.weights[gates.carries[0]] = n.weights.pop(source)
    return found, None


# ---- the rule -------------------------------------------------------------------------------------------


def _cell(b: Any, x: Any, h: Any, c: Any, w: Any, r: Any, bias: Any) -> Any:
    """An LSTM in the order i, g, f, o with a forget gate that starts open, over input and state apart."""
    gates = b.add(b.add(b.matmul(x, w), b.matmul(h, r)), bias)
    i, g, f, o = (b.slice(gates, axes=(1,), starts=(2 * k,), stops=(2 * k + 2,), steps=(1,)) for k in range(4))
    new = b.add(b.mul(b.sigmoid(b.add(f, 1.0)), c), b.mul(b.sigmoid(i), b.tanh(g)))
    h = b.mul(b.sigmoid(o), b.tanh(new))
    return [h, new, h]


def _scanned(
    body: Callable[..., Any], carries: int, sequences: tuple[str, ...], others: tuple[str, ...]
) -> Callable[[], Graph]:
    """A graph of a loop of four turns over sequences [4, …], its body given one element of each."""

    def build() -> Graph:
        states = [parse_type("f32[3,2]")] * carries
        types = [*states, *map(parse_type, sequences), *map(parse_type, others)]
        elements = [t.with_shape(t.shape[1:]) for t in map(parse_type, sequences)]
        region = trace(body, *states, *elements, *map(parse_type, others))
        loop = {"body": region, "carries": carries, "length": 4, "invariants": len(others)}
        return trace(lambda b, *values: b.scan(*values, **loop), *types)

    return build


def _long(b: Any, h: Any, c: Any, x: Any, w: Any, r: Any, bias: Any) -> Any:
    return _cell(b, x, h, c, w, r, bias)


def _gated(b: Any, h: Any, x: Any, w: Any, r: Any, bias: Any) -> Any:
    """A GRU that resets after the product, in the order z, r, n, as Keras has it."""
    seen, inner = b.matmul(x, w), b.add(b.matmul(h, r), bias)
    parts = [
        [b.slice(v, axes=(1,), starts=(2 * k,), stops=(2 * k + 2,), steps=(1,)) for k in range(3)]
        for v in (seen, inner)
    ]
    z, reset = (b.sigmoid(b.add(parts[0][k], parts[1][k])) for k in (0, 1))
    n = b.tanh(b.add(parts[0][2], b.mul(reset, parts[1][2])))
    h = b.add(b.mul(z, h), b.mul(b.sub(b.const(1.0, h.type.dtype), z), n))
    return [h, h]


def _plain(b: Any, h: Any, x: Any, w: Any) -> Any:
    h = b.tanh(b.matmul(b.concat(x, h, axis=1), w))
    return [h, h]


@rewrite_node(
    roots=[Scan],
    samples=[
        _scanned(_long, 2, ("f32[4,3,5]",), ("f32[5,8]", "f32[2,8]", "f32[8]")),
        _scanned(_gated, 1, ("f32[4,3,5]",), ("f32[5,6]", "f32[2,6]", "f32[6]")),
        _scanned(_plain, 1, ("f32[4,3,5]",), ("f32[7,2]",)),
    ],
)
class LoopAsRecurrentLayer:
    """scan(lstm, gru or rnn cell)  ->  lstm, gru or rnn"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        assert isinstance(node.op, Scan)
        if node.op.carries == 1:
            blends = _ends_in(node.op.body, 0, "add")
            return _replaced(b, node, 0, (lambda g: _gru(b, g, flipped=False)) if blends else (lambda g: _rnn(b, g)))
        hidden = next((k for k in (0, 1) if _ends_in(node.op.body, k, "mul")), None)
        if node.op.carries != 2 or hidden is None:
            return "what goes from turn to turn is neither one state, nor one that is given out and one that is kept"
        return _replaced(b, node, hidden, lambda g: _lstm(b, g, hidden, 1 - hidden))


def _ends_in(body: Graph, index: int, name: str) -> bool:
    node = body.outputs[index].producer
    return node is not None and node.op.name == name


def _replaced(b: Builder, node: Node, hidden: int, layer: Callable[[Gates], tuple[Value, ...]]) -> Replacement | str:
    """The results of the loop from those of a layer, or why its body is not the cell."""
    try:
        gates = Gates(b, node)
        values = gates.replaced(b, layer(gates), hidden)
    except NoCell as reason:
        return str(reason)
    return Replacement(values, (node, *gates.absorbed))


def _other_gated(b: Any, h: Any, x: Any, w: Any, r: Any) -> Any:
    """A GRU whose update gate opens to the candidate, as Haiku has it."""
    z, reset = (
        b.sigmoid(b.add(*(b.slice(v, axes=(1,), starts=(k,), stops=(k + 2,), steps=(1,)) for v in parts)))
        for parts in [(b.matmul(x, w), b.matmul(h, r))]
        for k in (0, 2)
    )
    rows = [b.slice(m, axes=(1,), starts=(4,), stops=(6,), steps=(1,)) for m in (w, r)]
    n = b.tanh(b.add(b.matmul(x, rows[0]), b.matmul(b.mul(reset, h), rows[1])))
    h = b.add(b.mul(b.sub(b.const(1.0, h.type.dtype), z), h), b.mul(z, n))
    return [h, h]


@rewrite_node(
    roots=[Scan],
    samples=[_scanned(_other_gated, 1, ("f32[4,3,5]",), ("f32[5,6]", "f32[2,6]"))],
    inexact="the field knows 1 − σ(x) = σ(−x) for the first turns only: each takes an exponential of the last",
)
class LoopAsGruOfOtherUpdate:
    """scan(gru cell with z for 1 − z)  ->  gru"""

    def apply(b: Builder, node: Node) -> Replacement | str:
        assert isinstance(node.op, Scan)
        if node.op.carries != 1 or not _ends_in(node.op.body, 0, "add"):
            return "no one state that is a sum"
        return _replaced(b, node, 0, lambda g: _gru(b, g, flipped=True))
