"""What JAX and flax spell out is found again: activations, log-sum-exp, attention with its masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dragoman

HEADS = np.random.default_rng(0).standard_normal((2, 6, 4, 8)).astype(np.float32)


def ops_of(function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """The ops of an optimised function, every rewrite proved, without constants."""
    model = dragoman.load(function, arguments)
    model.optimise(check=60.0)
    assert model.checker is not None
    assert not model.checker.refused
    assert not model.checker.unchecked
    return [n.op for n in model.graph if n.op.name != "constant"]


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("clip", jax.nn.relu6),
        ("softplus", jax.nn.softplus),
        ("softsign", jax.nn.soft_sign),
        ("silu", jax.nn.silu),
        ("log_sigmoid", jax.nn.log_sigmoid),
        ("leaky_relu", jax.nn.leaky_relu),
        ("hard_sigmoid", jax.nn.hard_sigmoid),
        ("hard_swish", jax.nn.hard_silu),
        ("clip", jax.nn.hard_tanh),
        ("elu", jax.nn.elu),
        ("celu", jax.nn.celu),
        ("selu", jax.nn.selu),
        ("gelu", jax.nn.gelu),
        ("gelu", lambda x: jax.nn.gelu(x, approximate=False)),
        ("glu", jax.nn.glu),
        ("mish", jax.nn.mish),
        ("softmax", jax.nn.softmax),
        ("log_softmax", jax.nn.log_softmax),
        ("reduce_logsumexp", lambda x: jax.nn.logsumexp(x, axis=-1)),
        ("variance", lambda x: jnp.var(x, axis=-1)),
    ],
)
def test_a_function_of_jax_is_one_op(name: str, function: Callable[[Any], Any]) -> None:
    assert [op.name for op in ops_of(function, HEADS)] == [name]


@pytest.mark.parametrize("causal", [False, True])
def test_the_attention_of_jax(causal: bool) -> None:
    ops = ops_of(lambda x: jax.nn.dot_product_attention(x, x, x, is_causal=causal), HEADS)
    (attention,) = (op for op in ops if op.name == "attention")
    assert attention.causal is causal
    assert {op.name for op in ops} <= {"attention", "transpose"}


@pytest.mark.parametrize("masked", ["none", "causal", "given"])
def test_the_attention_of_flax(masked: str) -> None:
    layer = flax.linen.MultiHeadDotProductAttention(num_heads=4)
    x = HEADS.reshape(2, 6, 32)
    given = np.tri(6, dtype=np.bool_)[None, None]
    parameters = layer.init(jax.random.PRNGKey(0), x)

    def attend(x: Any, mask: Any) -> Any:
        causal = flax.linen.make_causal_mask(x[..., 0]) if masked == "causal" else None
        return layer.apply(parameters, x, mask=mask if masked == "given" else causal)

    arguments = (x, given) if masked == "given" else (x, None)
    (attention,) = (op for op in ops_of(attend, *arguments) if op.name == "attention")
    assert attention.causal is (masked == "causal")
