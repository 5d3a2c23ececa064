"""Loops over time that spell out a recurrent cell become the layer, and nothing else does."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dragoman.ir.builder import Builder, trace
from dragoman.ir.graph import Graph, Value
from dragoman.ir.interpreter import run
from dragoman.ir.op import REGISTRY, Sample
from dragoman.ir.samples import random_array
from dragoman.ir.types import parse_type
from dragoman.passes.check import RewriteChecker
from dragoman.passes.manager import Context, run_passes
from dragoman.passes.pipelines import IMPORTED, OPTIMISE
from dragoman.passes.recognition.spelling import spelled
from dragoman.passes.rules.cells import LoopAsRecurrentLayer

BATCH, SEEN, HIDDEN, TIME = 3, 5, 2, 4
LAYERS = {"lstm", "gru", "rnn"}


def optimised(graph: Graph) -> list[str]:
    """Its ops after the passes, every rewrite proved and the whole compared in float64."""
    arrays = [random_array(v.type, i, low=-1.0, high=1.0) for i, v in enumerate(graph.inputs)]
    expected = run(graph, *arrays)
    run_passes(graph, IMPORTED)
    checker = RewriteChecker()
    run_passes(graph, OPTIMISE, Context(check=checker))
    assert not checker.refused
    for got, wanted in zip(run(graph, *arrays), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9)
    return [n.op.name for n in graph if n.op.name in LAYERS | {"scan"}]


def looped(
    step: Callable[[Builder, list[Value], Value, list[Value]], list[Value]],
    states: int,
    *weights: str,
    before: Callable[[Builder, Value, list[Value]], Value] | None = None,
    reverse: bool = False,
) -> Graph:
    """A graph of a loop whose body calls `step(b, states, element, weights)`, perhaps with something before it."""

    def model(b: Builder, *given: Value) -> tuple[Value, ...]:
        initial, x, rest = given[:states], given[states], list(given[states + 1 :])
        sequence = x if before is None else before(b, x, rest)
        element = sequence.type.with_shape(sequence.type.shape[1:])

        def body(c: Builder, *values: Value) -> list[Value]:
            return step(c, list(values[:states]), values[states], list(values[states + 1 :]))

        region = trace(body, *(v.type for v in initial), element, *(v.type for v in rest))
        loop = {"body": region, "carries": states, "length": TIME, "reverse": reverse, "invariants": len(rest)}
        return b.scan(*initial, sequence, *rest, **loop)

    types = [f"f32[{BATCH},{HIDDEN}]"] * states + [f"f32[{TIME},{BATCH},{SEEN}]", *weights]
    return trace(model, *map(parse_type, types))


def parts(b: Builder, x: Value, count: int) -> list[Value]:
    return list(b.split(x, axis=1, sizes=(HIDDEN,) * count))


# ---- LSTM -------------------------------------------------------------------------------------------------


def lstm_joined(b: Builder, gates: dict[str, Value], c: Value, forget: float, chance: random.Random) -> list[Value]:
    """The cell from its gates before their activations, operands in random order."""

    def either(op: Callable[..., Value], x: Value, y: Value) -> Value:
        return op(x, y) if chance.random() < 0.5 else op(y, x)

    opened = b.add(gates["f"], forget) if forget else gates["f"]
    kept = either(b.mul, b.sigmoid(opened), c)
    new = either(b.add, kept, either(b.mul, b.sigmoid(gates["i"]), b.tanh(gates["g"])))
    h = either(b.mul, b.tanh(new), b.sigmoid(gates["o"]))
    return [h, new]


@pytest.mark.parametrize("order", ["ifgo", "igfo", "ifog", "fiog", "gofi"])
@pytest.mark.parametrize("kernel", ["joined", "two", "apart", "before"])
@pytest.mark.parametrize("forget", [0.0, 1.0])
def test_a_loop_over_an_lstm_cell_in_any_order_of_gates_and_with_any_kernel(
    order: str, kernel: str, forget: float
) -> None:
    chance = random.Random(f"{order} {kernel} {forget}")
    cell_first, reverse = chance.random() < 0.5, chance.random() < 0.5
    wide, lone = 4 * HIDDEN, [f"f32[{n},{HIDDEN}]" for n in (SEEN, HIDDEN)]
    weights = {
        "joined": [f"f32[{SEEN + HIDDEN},{wide}]", f"f32[{wide}]"],
        "two": [f"f32[{SEEN},{wide}]", f"f32[{HIDDEN},{wide}]", f"f32[{wide}]"],
        "apart": [*lone * 4, *[f"f32[{HIDDEN}]"] * 4],
        "before": [f"f32[{SEEN},{wide}]", f"f32[{HIDDEN},{wide}]", f"f32[{wide}]"],
    }[kernel]

    def all_gates(b: Builder, x: Value, h: Value, w: list[Value]) -> list[Value]:
        if kernel == "joined":
            return parts(b, b.add(b.matmul(b.concat(x, h, axis=1), w[0]), w[1]), 4)
        if kernel == "apart":
            return [b.add(b.add(b.matmul(x, w[2 * k]), w[8 + k]), b.matmul(h, w[2 * k + 1])) for k in range(4)]
        seen = x if kernel == "before" else b.add(b.matmul(x, w[0]), w[2])
        return parts(b, b.add(b.matmul(h, w[1]), seen), 4)

    def step(b: Builder, states: list[Value], x: Value, w: list[Value]) -> list[Value]:
        h, c = states[::-1] if cell_first else states
        gates = dict(zip(order, all_gates(b, x, h, w), strict=True))
        h, c = lstm_joined(b, gates, c, forget, chance)
        return [*((c, h) if cell_first else (h, c)), h]

    def projected(b: Builder, x: Value, w: list[Value]) -> Value:
        return b.add(b.matmul(x, w[0]), w[2])

    before = projected if kernel == "before" else None
    assert optimised(looped(step, 2, *weights, before=before, reverse=reverse)) == ["lstm"]


# ---- GRU and the plain cell -------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["rzn", "zrn", "nzr"])
@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize("flipped", [True, False])
def test_a_loop_over_a_gru_cell_with_its_reset_before_or_after_the_product(
    order: str, after: bool, flipped: bool
) -> None:
    def step(b: Builder, states: list[Value], x: Value, weights: list[Value]) -> list[Value]:
        (h,) = states
        w, r, seen_bias, bias = weights
        seen = dict(zip(order, parts(b, b.add(b.matmul(x, w), seen_bias), 3), strict=True))
        inner = dict(zip(order, parts(b, b.add(b.matmul(h, r), bias), 3), strict=True))
        reset, z = (b.sigmoid(b.add(inner[k], seen[k])) for k in "rz")
        if after:
            n = b.tanh(b.add(seen["n"], b.mul(inner["n"], reset)))
        else:
            at = order.index("n") * HIDDEN
            columns = b.slice(r, axes=(1,), starts=(at,), stops=(at + HIDDEN,), steps=(1,))
            n = b.tanh(b.add(b.matmul(b.mul(reset, h), columns), seen["n"]))
        rest = b.sub(b.const(1.0, h.type.dtype), z)
        h = b.add(b.mul(z, n), b.mul(rest, h)) if flipped else b.add(b.mul(rest, n), b.mul(h, z))
        return [h, h]

    wide = 3 * HIDDEN
    graph = looped(step, 1, f"f32[{SEEN},{wide}]", f"f32[{HIDDEN},{wide}]", f"f32[{wide}]", f"f32[{wide}]")
    assert optimised(graph) == ["gru"]
    (layer,) = (n for n in graph if n.op.name == "gru")
    assert layer.op.reset_after is after  # type: ignore[attr-defined]


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_loop_over_a_plain_cell(activation: str) -> None:
    def step(b: Builder, states: list[Value], x: Value, weights: list[Value]) -> list[Value]:
        w, r, bias = weights
        h = getattr(b, activation)(b.add(b.add(b.matmul(states[0], r), bias), b.linear(x, w)))
        return [h]

    graph = looped(step, 1, f"f32[{HIDDEN},{SEEN}]", f"f32[{HIDDEN},{HIDDEN}]", f"f32[1,{HIDDEN}]")
    assert optimised(graph) == ["rnn"]


def _own_cases() -> list[Any]:
    found: list[Any] = []
    for name in sorted(LAYERS):
        for i, sample in enumerate(REGISTRY[name].samples()):
            whole = all(o is None or not o.type.startswith("i64") for o in sample.operands)
            if whole and sample.operands[0] is not None and not sample.operands[0].type.startswith("f32[0"):
                found.append(pytest.param(name, sample, id=f"{name}-{i}"))
    return found


@pytest.mark.parametrize(("name", "sample"), _own_cases())
def test_what_a_layer_decomposes_into_becomes_the_layer_again(name: str, sample: Sample) -> None:
    count = 2 if sample.attributes.get("direction") == "bidirectional" else 1
    assert optimised(spelled(REGISTRY[name], REGISTRY[name].decompose, sample)) == [name] * count


# ---- what it must leave alone -----------------------------------------------------------------------------


def lstm_variant(change: str) -> Graph:
    def step(b: Builder, states: list[Value], x: Value, w: list[Value]) -> list[Value]:
        h, c = states
        i, f, g, o = parts(b, b.add(b.add(b.matmul(x, w[0]), b.matmul(h, w[1])), w[2]), 4)
        i = b.add(i, c) if change == "peephole" else i
        f = b.sigmoid(f) if change != "coupled" else b.sub(b.const(1.0, f.type.dtype), b.sigmoid(i))
        inner = b.relu(g) if change == "relu" else b.tanh(g)
        new = b.add(b.mul(f, h if change == "state" else c), b.mul(b.sigmoid(i), inner))
        h = b.mul(b.sigmoid(o), b.tanh(c if change == "old" else new))
        return [h, new, new if change == "cells" else h]

    return looped(step, 2, f"f32[{SEEN},8]", f"f32[{HIDDEN},8]", "f32[8]")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("peephole", "the state is added to a gate as it is"),
        ("coupled", "sigmoid expected, found sub"),
        ("relu", "tanh expected, found relu"),
        ("state", "no gate weighs the old cell state"),
        ("old", "not the tanh of the new cell state"),
        ("cells", "gives out more than its hidden state"),
    ],
)
def test_a_cell_that_is_nearly_an_lstm_stays_a_loop_and_is_told_why(change: str, told: str) -> None:
    graph = lstm_variant(change)
    (loop,) = (n for n in graph if n.op.name == "scan")
    run_passes(graph, IMPORTED)
    reason = LoopAsRecurrentLayer.apply(Builder(graph, before=loop), loop)
    assert isinstance(reason, str)
    assert told in reason
    assert optimised(lstm_variant(change)) == ["scan"]


def test_a_running_sum_and_a_loop_of_three_states_are_no_cells() -> None:
    total = looped(lambda b, s, x, w: [b.add(s[0], b.matmul(x, w[0])), s[0]], 1, f"f32[{SEEN},{HIDDEN}]")
    assert optimised(total) == ["scan"]
    three = looped(lambda b, s, x, w: [s[1], s[2], b.tanh(b.matmul(x, w[0]))], 3, f"f32[{SEEN},{HIDDEN}]")
    assert optimised(three) == ["scan"]
