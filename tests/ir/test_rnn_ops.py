"""Recurrent layers against torch's own modules in double precision, whole and decomposed into scans."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from tests.ir.one_op import apply, infer, refusal
from tests.ir.spelled import both

torch = pytest.importorskip("torch")
rnn_utils = torch.nn.utils.rnn

RANDOM = np.random.default_rng(3)
TIME, BATCH, INPUTS, HIDDEN = 7, 4, 3, 5
LENGTHS = np.array([3, 7, 1, 5])


def normal(*shape: int) -> Any:
    return RANDOM.standard_normal(shape)


def torch_layer(kind: Any, bidirectional: bool, bias: bool, **options: Any) -> Any:
    layer = kind(INPUTS, HIDDEN, bias=bias, bidirectional=bidirectional, **options).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.from_numpy(normal(*parameter.shape)))
    return layer


def weights(layer: Any, name: str) -> Any:
    """A parameter of both directions, stacked; None where the layer has none."""
    found = [p.detach().numpy() for n, p in layer.named_parameters() if n in (f"{name}_l0", f"{name}_l0_reverse")]
    return np.stack(found) if found else None


def added(*arrays: Any) -> Any:
    return None if arrays[0] is None else sum(arrays)


def run_torch(layer: Any, x: Any, states: Any, lengths: Any) -> list[Any]:
    """Outputs and last states, with zeros after the end of each sequence."""
    given = torch.from_numpy(x)
    if lengths is not None:
        given = rnn_utils.pack_padded_sequence(given, torch.from_numpy(lengths), enforce_sorted=False)
    hidden = [torch.from_numpy(s) for s in states]
    with torch.no_grad():
        y, last = layer(given, (hidden[0] if len(hidden) == 1 else tuple(hidden)) if hidden else None)
    if lengths is not None:
        y, _ = rnn_utils.pad_packed_sequence(y, total_length=len(x))
    return [t.numpy() for t in (y, *(last if isinstance(last, tuple) else (last,)))]


def agree(ours: Any, witness: Any) -> None:
    assert len(ours) == len(witness)
    for a, b in zip(ours, witness, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


CASES = [*itertools.product([False, True], repeat=4)]


@pytest.mark.parametrize(("bidirectional", "bias", "started", "padded"), CASES)
def test_an_lstm_is_what_torch_computes(bidirectional: bool, bias: bool, started: bool, padded: bool) -> None:
    layer, x = torch_layer(torch.nn.LSTM, bidirectional, bias), normal(TIME, BATCH, INPUTS)
    states = [normal(1 + bidirectional, BATCH, HIDDEN) for _ in range(2)] if started else []
    witness = run_torch(layer, x, states, LENGTHS if padded else None)
    total = added(weights(layer, "bias_ih"), weights(layer, "bias_hh"))
    operands = [x, weights(layer, "weight_ih"), weights(layer, "weight_hh"), total, *(states or (None, None))]
    direction = "bidirectional" if bidirectional else "forward"
    for ours in both("lstm", *operands, LENGTHS if padded else None, direction=direction):
        agree(ours, witness)


@pytest.mark.parametrize(("bidirectional", "bias", "started", "padded"), CASES)
def test_a_gru_is_what_torch_computes(bidirectional: bool, bias: bool, started: bool, padded: bool) -> None:
    layer, x = torch_layer(torch.nn.GRU, bidirectional, bias), normal(TIME, BATCH, INPUTS)
    states = [normal(1 + bidirectional, BATCH, HIDDEN)] if started else []
    witness = run_torch(layer, x, states, LENGTHS if padded else None)
    operands = [x, *(weights(layer, n) for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")), *(states or [None])]
    direction = "bidirectional" if bidirectional else "forward"
    for ours in both("gru", *operands, LENGTHS if padded else None, direction=direction):
        agree(ours, witness)


@pytest.mark.parametrize(("bidirectional", "bias", "started", "padded"), CASES)
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_plain_recurrent_layer_is_what_torch_computes(
    activation: str, bidirectional: bool, bias: bool, started: bool, padded: bool
) -> None:
    layer = torch_layer(torch.nn.RNN, bidirectional, bias, nonlinearity=activation)
    x = normal(TIME, BATCH, INPUTS) / 10
    states = [normal(1 + bidirectional, BATCH, HIDDEN)] if started else []
    witness = run_torch(layer, x, states, LENGTHS if padded else None)
    total = added(weights(layer, "bias_ih"), weights(layer, "bias_hh"))
    operands = [x, weights(layer, "weight_ih"), weights(layer, "weight_hh"), total, *(states or [None])]
    direction = "bidirectional" if bidirectional else "forward"
    lengths = LENGTHS if padded else None
    for ours in both("rnn", *operands, lengths, direction=direction, activation=activation):
        agree(ours, witness)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def test_a_gru_that_resets_before_the_product_follows_the_paper() -> None:
    x, h = normal(TIME, BATCH, INPUTS), normal(1, BATCH, HIDDEN)
    w, r, bias_w, bias_r = (normal(1, 3 * HIDDEN, *s) for s in ((INPUTS,), (HIDDEN,), (), ()))
    expected, state = [], h[0]
    for seen in x:
        (wr, wz, wn), (ur, uz, un) = np.split(w[0], 3), np.split(r[0], 3)
        br, bz, bn = np.split(bias_w[0] + bias_r[0], 3)
        reset = sigmoid(seen @ wr.T + state @ ur.T + br)
        update = sigmoid(seen @ wz.T + state @ uz.T + bz)
        new = np.tanh(seen @ wn.T + (reset * state) @ un.T + bn)
        state = (1 - update) * new + update * state
        expected.append(state)
    for ours in both("gru", x, w, r, bias_w, bias_r, h, reset_after=False):
        agree(ours, [np.stack(expected), state[None]])


@pytest.mark.parametrize(("name", "gates", "results"), [("lstm", 4, 3), ("gru", 3, 2), ("rnn", 1, 2)])
def test_the_reverse_direction_is_the_forward_one_on_the_reversed_sequence(name: str, gates: int, results: int) -> None:
    x, w, r = normal(TIME, BATCH, INPUTS), normal(1, gates * HIDDEN, INPUTS), normal(1, gates * HIDDEN, HIDDEN)
    y, *finals = apply(name, x[::-1].copy(), w, r)
    for ours in both(name, x, w, r, direction="reverse"):
        assert len(ours) == results
        agree(ours, [y[::-1], *finals])


@pytest.mark.parametrize(("time", "batch"), [(1, 1), (2, 5), (TIME, BATCH)])
def test_one_scan_serves_every_time_and_batch(time: int, batch: int) -> None:
    lengths = RANDOM.integers(1, time + 1, batch)
    x, w, r = normal(time, batch, INPUTS), normal(2, 4 * HIDDEN, INPUTS), normal(2, 4 * HIDDEN, HIDDEN)
    types = ("f64[s,b,3]", "f64[2,20,3]", "f64[2,20,5]", "i64[b]")
    whole, spelled = both("lstm", x, w, r, None, None, None, lengths, types=types, direction="bidirectional")
    agree(spelled, whole)


def test_recurrent_layers_keep_symbolic_time_and_batch() -> None:
    x = "f32[s,b,3]"
    assert (
        infer("lstm", x, "f32[2,20,3]", "f32[2,20,5]", direction="bidirectional") == "f32[s,b,10] f32[2,b,5] f32[2,b,5]"
    )
    with_all = ("f32[1,20]", "f32[1,b,5]", "f32[1,b,5]", "i64[b]")
    assert infer("lstm", x, "f32[1,20,3]", "f32[1,20,5]", *with_all) == "f32[s,b,5] f32[1,b,5] f32[1,b,5]"
    assert infer("gru", x, "f32[1,15,3]", "f32[1,15,5]", None, "f32[1,15]", None, "i64[b]") == "f32[s,b,5] f32[1,b,5]"
    assert infer("rnn", x, "f32[1,5,3]", "f32[1,5,5]", activation="relu") == "f32[s,b,5] f32[1,b,5]"


def test_layers_whose_weights_do_not_fit_are_refused_with_the_shape_expected() -> None:
    assert "w is f32[1,8,3], not [1,20,3]" in refusal("lstm", "f32[7,4,3]", "f32[1,8,3]", "f32[1,20,5]")
    assert "r is f32[1,20,5], not [2,20,5]" in refusal(
        "lstm", "f32[7,4,3]", "f32[2,20,3]", "f32[1,20,5]", direction="bidirectional"
    )
    assert "a bias is f32[1,5]" in refusal("gru", "f32[7,4,3]", "f32[1,15,3]", "f32[1,15,5]", "f32[1,5]")
    assert "lengths is i64[3], not i64[4]" in refusal(
        "rnn", "f32[7,4,3]", "f32[1,5,3]", "f32[1,5,5]", None, None, "i64[3]"
    )
    assert "direction='both' is none of forward" in refusal(
        "rnn", "f32[7,4,3]", "f32[1,5,3]", "f32[1,5,5]", direction="both"
    )
