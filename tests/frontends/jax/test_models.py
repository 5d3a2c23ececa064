"""Models of flax, equinox and haiku give in double precision what they give in JAX."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import haiku as hk
import jax
import numpy as np
from flax import nnx
from jax import numpy as jnp

from dragoman.ir.dims import Symbol
from dragoman.ir.interpreter import run
from tests.frontends.jax import models as m
from tests.frontends.jax.compared import check
from tests.frontends.jax.models import normal, tokens

KEY = jax.random.key(0)
BATCH = {"x": {0: "batch"}}


def linen(module: Any, *args: Any, **settings: Any) -> Any:
    """A flax linen module with fresh variables, compared at its example and at other inputs."""
    variables = settings.pop("variables", None)
    return check(module, *args, params=module.init(KEY, *args) if variables is None else variables, **settings)


def test_a_resnet_with_a_dynamic_batch() -> None:
    net = m.ResNet((1, 1), 8, 10)
    found = linen(net, normal(2, 32, 32, 3), dynamic=BATCH, others=[[normal(3, 32, 32, 3)], [normal(1, 32, 32, 3)]])
    assert "params.Bottleneck_0.Conv_0.kernel" in found.imported.graph.weights


def test_batch_statistics_that_are_mutable_are_states() -> None:
    net = m.ResNet((1,), 8, 10)
    x = normal(2, 32, 32, 3)
    found = linen(net, x, True, variables=net.init(KEY, x), kwargs={"mutable": ["batch_stats"]})
    states = {s.input: s.output for s in found.imported.states}
    assert states["batch_stats.BatchNorm_0.mean"] == "batch_stats.BatchNorm_0.mean.next"
    assert found.imported.graph.output_names[0] == "output"


def test_a_transformer_with_dynamic_batch_and_length() -> None:
    dims = {"ids": {0: "batch", 1: Symbol("length", 1, 64)}}
    linen(m.Encoder(depth=1), tokens(2, 7), dynamic=dims, others=[[tokens(1, 1)], [tokens(3, 11)]])


def test_a_decoder_keeps_its_cache_as_state() -> None:
    net = m.Gpt(depth=1)
    variables = net.init(KEY, tokens(2, 6))
    found = linen(net, tokens(2, 1), variables=variables, kwargs={"mutable": ["cache"]})
    names = [s.input.rpartition(".")[2] for s in found.imported.states]
    assert sorted(names) == ["cache_index", "cached_key", "cached_value"]
    # Two steps, each given the state that the one before left.
    runner, graph = found.runner, found.imported.graph
    inputs = list(runner.examples())
    for step in range(2):
        given = [tokens(2, 1, vocabulary=40) + step, *inputs[1:]]
        ours, theirs = run(graph, *given), runner.run(given, double=True)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)
        inputs = [given[0], *(np.asarray(x, i.dtype) for x, i in zip(theirs[1:], inputs[1:], strict=True))]
    assert int(inputs[[v.name for v in graph.inputs].index(found.imported.states[0].input)]) == 2


def test_a_mixer() -> None:
    linen(m.Mixer(depth=1), normal(2, 8, 8, 3), dynamic=BATCH, others=[[normal(3, 8, 8, 3)]])


def test_a_vision_transformer() -> None:
    linen(m.Vit(depth=1), normal(2, 8, 8, 3), dynamic=BATCH, others=[[normal(3, 8, 8, 3)]])


def test_a_diffusion_unet() -> None:
    dims = {"x": {0: "batch"}, "time": {0: "batch"}}
    time = np.array([0.1, 0.7], np.float32)
    linen(m.UNet(), normal(2, 8, 8, 3), time, dynamic=dims, others=[[normal(3, 8, 8, 3), normal(3)]])


def test_a_transposed_convolution_is_one() -> None:
    found = linen(m.Upsampler(), normal(2, 5, 6, 3), dynamic=BATCH)
    assert "conv_transpose" in [node.op.name for node in found.imported.graph]


def test_a_recurrent_linen_network_with_a_dynamic_length() -> None:
    dims = {"x": {0: "batch", 1: "length"}}
    linen(m.LstmTagger(), normal(2, 6, 5), dynamic=dims, others=[[normal(3, 1, 5)], [normal(1, 9, 5)]])


def test_an_nnx_transformer() -> None:
    net = m.NnxTransformer(nnx.Rngs(0))
    net.eval()
    dims = {"ids": {0: "batch", 1: "length"}}
    found = check(net, tokens(2, 7), dynamic=dims, others=[[tokens(1, 3)]])
    assert not found.imported.states
    assert "attention.query.kernel" in found.imported.graph.weights


def test_nnx_recurrent_cells() -> None:
    for cell in (nnx.LSTMCell, nnx.GRUCell):
        net = m.NnxRecurrent(cell, nnx.Rngs(0))
        check(net, normal(2, 6, 5), dynamic={"x": {0: "batch", 1: "length"}})


def test_nnx_statistics_are_states_while_training_and_weights_after() -> None:
    net = m.NnxNormed(nnx.Rngs(0))
    assert [s.input for s in check(net, normal(3, 4)).imported.states] == ["norm.mean", "norm.var"]
    net.eval()
    assert not check(net, normal(3, 4)).imported.states


def test_equinox_modules() -> None:
    net = eqx.nn.MLP(4, 3, 16, 2, key=KEY)
    assert "layers.0.weight" in check(net, normal(4)).imported.graph.weights
    check(m.EquinoxAttention(KEY), normal(6, 16), dynamic={"x": {0: "length"}}, others=[[normal(3, 16)]])


def test_a_haiku_function() -> None:
    net = hk.without_apply_rng(hk.transform(m.haiku_net))
    x = normal(2, 6, 6, 3)
    check(net, x, params=net.init(KEY, x), dynamic=BATCH, others=[[normal(3, 6, 6, 3)]])


def test_a_scan_over_time() -> None:
    params = {"wx": jnp.asarray(normal(3, 4)), "wh": jnp.asarray(normal(4, 4, seed=1)), "b": jnp.zeros(4)}
    dims = {"xs": {0: "time", 1: "batch"}}
    found = check(m.scan_rnn, normal(5, 2, 3), params=params, dynamic=dims, others=[[normal(1, 3, 3)]])
    assert "wx" in found.imported.graph.weights


def test_a_loop_with_a_condition_inside() -> None:
    check(m.collatz_like, normal(3, 4), dynamic={"x": {0: "n"}}, others=[[normal(5, 4, seed=3)]])


def test_a_step_of_an_ode_solver() -> None:
    check(m.runge_kutta, normal(3, 2), np.float32(0.1), dynamic={"x": {0: "n"}})


def test_the_gradient_of_a_loss_is_a_model() -> None:
    dims = {"x": {0: "batch"}, "y": {0: "batch"}}
    found = check(m.gradient, normal(4, 5), normal(4, 2), params=m.mlp_params(5, 8, 2), dynamic=dims)
    assert "output0.w" in found.imported.graph.output_names


def test_a_cache_may_have_a_dynamic_batch() -> None:
    net = m.Gpt(depth=1)
    variables = net.init(KEY, tokens(2, 6))
    names = ("Block_0.MultiHeadDotProductAttention_0.cached_key", "Block_0.MultiHeadDotProductAttention_0.cached_value")
    dims = {"ids": {0: "batch"}, **{f"cache.{name}": {0: "batch"} for name in names}}
    found = linen(net, tokens(2, 1), variables=variables, kwargs={"mutable": ["cache"]}, dynamic=dims)
    shapes = {v.name: str(v.type) for v in found.imported.graph.inputs}
    assert shapes[f"cache.{names[0]}"] == "f32[batch,6,4,8]"


def test_what_counts_random_draws_is_no_state_where_nothing_is_drawn() -> None:
    net = m.NnxRecurrent(nnx.LSTMCell, nnx.Rngs(0))
    assert not check(net, normal(2, 6, 5)).imported.states
