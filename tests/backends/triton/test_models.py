"""Small models from PyTorch and JAX become folders of kernels, verified against the source in float64."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import dragoman
from tests.backends.triton.models import FACTORIES, made

SECONDS = 0.5  # for cases beyond the first three, which always run


@pytest.mark.parametrize("name", FACTORIES)
def test_a_model_of_pytorch_is_verified_as_triton_kernels(name: str, tmp_path: Path) -> None:
    model, arguments, dynamic = made(name)
    report = dragoman.convert(
        model, tmp_path / "build", to="triton", args=arguments, dynamic=dynamic, budget=SECONDS, pure=True
    )
    assert report.verdict is not None
    assert report.verdict.holds
    assert report.comparison is not None
    sizes = {tuple(c.symbols.items()) for c in report.comparison.cases}
    assert len(sizes) >= (3 if dynamic else 1)
    assert report.library == ()
    assert (tmp_path / "build" / "certificate.dragoman.json").is_file()


def attend(x: jax.Array, weights: dict[str, jax.Array]) -> jax.Array:
    q, k, v = (x @ weights[name] for name in ("q", "k", "v"))
    scores = jnp.where(jnp.tril(jnp.ones((x.shape[0], x.shape[0]), bool)), q @ k.T / 4.0, -jnp.inf)
    return jax.nn.gelu(jax.nn.softmax(scores) @ v) + x


def convolve(x: jax.Array, weights: dict[str, jax.Array]) -> jax.Array:
    y = jax.lax.conv_general_dilated(x, weights["w"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    y = jax.nn.relu((y - y.mean((1, 2), keepdims=True)) / jnp.sqrt(y.var((1, 2), keepdims=True) + 1e-5))

    def step(total: jax.Array, row: jax.Array) -> tuple[jax.Array, jax.Array]:
        total = 0.5 * total + row
        return total, jnp.tanh(total)

    return jax.lax.scan(step, jnp.zeros_like(y[:, 0]), y.swapaxes(0, 1))[1].mean(0)


@pytest.mark.parametrize("function", [attend, convolve])
def test_a_function_of_jax_is_verified_as_triton_kernels(function: object, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    weights = {name: random.standard_normal((16, 16)).astype(np.float32) for name in ("q", "k", "v")}
    weights |= {"w": random.standard_normal((3, 3, 4, 8)).astype(np.float32)}
    shape = (7, 16) if function is attend else (2, 6, 5, 4)
    x = random.standard_normal(shape).astype(np.float32)

    def model(x: jax.Array) -> jax.Array:
        return function(x, weights)  # type: ignore[operator]

    report = dragoman.convert(model, tmp_path / "build", to="triton", args=(x,), budget=SECONDS)
    assert report.verdict is not None
    assert report.verdict.holds
