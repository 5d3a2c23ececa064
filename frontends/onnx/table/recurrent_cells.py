"""Recurrent layers beyond what the IR has as an op: peepholes, clipping, coupled gates, other activations.

They become a scan whose body is the cell, in ONNX's own order of gates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dragoman.frontends.onnx.call import Call
from dragoman.frontends.onnx.context import Context
from dragoman.ir.builder import Builder
from dragoman.ir.dims import Dim, floordiv
from dragoman.ir.errors import Malformed, Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.ops.recurrence import DIRECTIONS, projections, row, split_blocks
from dragoman.ir.ops.rnn import Lstm

Activation = Callable[[Builder, Value], Value]
Step = Callable[..., list[Value]]
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
USUAL = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
_DEFAULTS: dict[str, tuple[float | None, float | None]] = {
    "Affine": (1.0, 0.0),
    "LeakyRelu": (0.01, None),
    "ThresholdedRelu": (1.0, None),
    "ScaledTanh": (1.0, 1.0),
    "HardSigmoid": (0.2, 0.5),
    "Elu": (1.0, None),
}


def _activation(name: str, alpha: float, beta: float) -> Activation:
    table: dict[str, Activation] = {
        "Relu": lambda b, x: b.relu(x),
        "Tanh": lambda b, x: b.tanh(x),
        "Sigmoid": lambda b, x: b.sigmoid(x),
        "Softsign": lambda b, x: b.softsign(x),
        "Softplus": lambda b, x: b.softplus(x),
        "Affine": lambda b, x: b.add(b.mul(x, alpha), beta),
        "LeakyRelu": lambda b, x: b.leaky_relu(x, alpha=alpha),
        "ThresholdedRelu": lambda b, x: b.thresholded_relu(x, alpha=alpha),
        "ScaledTanh": lambda b, x: b.mul(b.tanh(b.mul(x, beta)), alpha),
        "HardSigmoid": lambda b, x: b.hard_sigmoid(x, alpha=alpha, beta=beta),
        "Elu": lambda b, x: b.elu(x, alpha=alpha),
    }
    if name not in table:
        raise Unsupported(f"the activation {name!r}")
    return table[name]


def activations(n: Call, count: int) -> list[list[Activation]]:
    """Those of each direction, clipped before if the layer says so. `alpha` and `beta` go to those that take them."""
    usual = list(USUAL[n.op])
    names = [_spelled(a) for a in n.texts("activations", usual * count)]
    if len(names) != len(usual) * count:
        raise Malformed(f"{n.op} has {len(names)} activations, not {len(usual) * count}")
    alphas, betas = iter(n.floats("activation_alpha", [])), iter(n.floats("activation_beta", []))
    clip = n.float("clip", 0.0) if n.given("clip") else None
    found: list[Activation] = []
    for name in names:
        low, high = _DEFAULTS.get(name, (None, None))
        alpha = next(alphas, low) if low is not None else None
        beta = next(betas, high) if high is not None else None
        found.append(_clipped(_activation(name, alpha or 0.0, beta or 0.0), clip))
    return [found[i : i + len(usual)] for i in range(0, len(found), len(usual))]


def _spelled(name: str) -> str:
    known = ("Relu", "Tanh", "Sigmoid", "Softsign", "Softplus", *_DEFAULTS)
    return next((k for k in known if k.lower() == name.lower()), name)


def _clipped(function: Activation, clip: float | None) -> Activation:
    if clip is None:
        return function
    return lambda b, x: function(b, b.clip(x, low=-clip, high=clip))


def layer(
    c: Context, n: Call, x: Value, states: Sequence[Value | None], lengths: Value | None, direction: str
) -> list[Value]:
    """Outputs [t, b, d·h] and last states [d, b, h], of x [t, b, i]."""
    b, w, r = c.b, n[1], n[2]
    gates, ways = _GATES[n.op], len(DIRECTIONS[direction])
    op = Lstm(direction=direction)
    hidden, _, state = op.layer(gates, x.type, w.type, r.type)
    bias = n.get(3)
    halves: list[Value | None] = [None, None]
    if bias is not None:
        half = floordiv(bias.type.shape[1], 2)
        halves = [c.slice(bias, 1, 0, half), c.slice(bias, 1, half, half * 2)]
    functions = activations(n, ways)
    cells = [_CELLS[n.op](c, n, d, hidden, functions[d], halves[1]) for d in range(ways)]

    steps, constants = [cell[0] for cell in cells], [cell[1] for cell in cells]
    return list(op.scanned(b, projections(b, x, w, halves[0]), steps, constants, states, state, lengths))


def _lstm(
    c: Context, n: Call, d: int, hidden: Dim, functions: Sequence[Activation], bias: Value | None
) -> tuple[Step, list[Value]]:
    f, g, h = functions
    coupled = bool(n.int("input_forget", 0))
    constants = [row(c.b, n[2], d)]
    added = [row(c.b, bias, d)] if bias is not None else []
    peeps = split_blocks(c.b, row(c.b, n[7], d), 3, hidden) if n.has(7) else []

    def step(b: Builder, seen: Value, states: list[Value], recurrent: Value, *rest: Value) -> list[Value]:
        whole = b.add(seen, b.linear(states[0], recurrent, *rest[: len(added)]))
        i, o, forget, new = split_blocks(b, whole, 4, hidden)
        look = rest[len(added) :]
        if look:
            i, forget = b.add(i, b.mul(look[0], states[1])), b.add(forget, b.mul(look[2], states[1]))
        i = f(b, i)
        forget = b.sub(b.const(1.0, i.type.dtype), i) if coupled else f(b, forget)
        cell = b.add(b.mul(forget, states[1]), b.mul(i, g(b, new)))
        if look:
            o = b.add(o, b.mul(look[1], cell))
        return [b.mul(f(b, o), h(b, cell)), cell]

    return step, [*constants, *added, *peeps]


def _gru(
    c: Context, n: Call, d: int, hidden: Dim, functions: Sequence[Activation], bias: Value | None
) -> tuple[Step, list[Value]]:
    f, g = functions
    after = bool(n.int("linear_before_reset", 0))
    weights = row(c.b, n[2], d)
    added = row(c.b, bias, d) if bias is not None else None
    parts = [c.slice(weights, 0, 0, hidden * 2), c.slice(weights, 0, hidden * 2, hidden * 3)]
    if added is not None:
        parts += [c.slice(added, 0, 0, hidden * 2), c.slice(added, 0, hidden * 2, hidden * 3)]

    def step(b: Builder, seen: Value, states: list[Value], gates: Value, new: Value, *rest: Value) -> list[Value]:
        (state,) = states
        z, r, n_in = split_blocks(b, seen, 3, hidden)
        z_more, r_more = split_blocks(b, b.linear(state, gates, *rest[:1]), 2, hidden)
        z, r = f(b, b.add(z, z_more)), f(b, b.add(r, r_more))
        n_more = b.mul(r, b.linear(state, new, *rest[1:])) if after else b.linear(b.mul(r, state), new, *rest[1:])
        candidate = g(b, b.add(n_in, n_more))
        return [b.add(b.mul(b.sub(b.const(1.0, z.type.dtype), z), candidate), b.mul(z, state))]

    return step, parts


def _rnn(
    c: Context, n: Call, d: int, hidden: Dim, functions: Sequence[Activation], bias: Value | None
) -> tuple[Step, list[Value]]:
    (f,) = functions

    def step(b: Builder, seen: Value, states: list[Value], recurrent: Value, *rest: Value) -> list[Value]:
        return [f(b, b.add(seen, b.linear(states[0], recurrent, *rest)))]

    return step, [row(c.b, n[2], d), *([row(c.b, bias, d)] if bias is not None else [])]


_CELLS = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}
