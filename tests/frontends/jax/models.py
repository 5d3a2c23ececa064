"""Small models of the libraries on JAX, with random weights, as their users write them."""

from __future__ import annotations

import itertools
from typing import Any

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import numpy as np
from flax import nnx
from jax import numpy as jnp

Array = Any


def normal(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def tokens(*shape: int, vocabulary: int = 50) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, vocabulary, shape).astype(np.int32)


# ---- flax linen -----------------------------------------------------------------------------------------


class Bottleneck(nn.Module):
    width: int
    strides: int = 1

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        def norm(y: Array) -> Array:
            return nn.BatchNorm(use_running_average=not train, momentum=0.9)(y)

        y = nn.relu(norm(nn.Conv(self.width, (1, 1), use_bias=False)(x)))
        y = nn.relu(norm(nn.Conv(self.width, (3, 3), (self.strides,) * 2, use_bias=False)(y)))
        y = norm(nn.Conv(4 * self.width, (1, 1), use_bias=False)(y))
        if x.shape != y.shape:
            x = norm(nn.Conv(4 * self.width, (1, 1), (self.strides,) * 2, use_bias=False)(x))
        return nn.relu(x + y)


class ResNet(nn.Module):
    """ResNet v1.5 with bottlenecks: (3, 4, 6, 3) blocks of width 64 are ResNet-50 (He et al. 2015)."""

    blocks: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    classes: int = 1000

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        x = nn.Conv(self.width, (7, 7), (2, 2), padding=[(3, 3), (3, 3)], use_bias=False)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        x = nn.max_pool(x, (3, 3), (2, 2), padding=[(1, 1), (1, 1)])
        for stage, count in enumerate(self.blocks):
            for block in range(count):
                x = Bottleneck(self.width * 2**stage, 2 if stage and not block else 1)(x, train)
        return nn.Dense(self.classes)(jnp.mean(x, axis=(1, 2)))


class Block(nn.Module):
    """A transformer block with its norms before attention and MLP, causal where a mask is given."""

    heads: int
    decode: bool = False

    @nn.compact
    def __call__(self, x: Array, mask: Array | None = None) -> Array:
        y = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(self.heads, decode=self.decode)(y, mask=mask)
        y = nn.gelu(nn.Dense(4 * x.shape[-1])(nn.LayerNorm()(x)))
        return x + nn.Dense(x.shape[-1])(y)


class Encoder(nn.Module):
    """Tokens to vectors: embeddings, blocks, a norm."""

    vocabulary: int = 50
    width: int = 32
    depth: int = 2
    longest: int = 64

    @nn.compact
    def __call__(self, ids: Array) -> Array:
        x = nn.Embed(self.vocabulary, self.width)(ids)
        x = x + self.param("positions", nn.initializers.normal(0.02), (self.longest, self.width))[: ids.shape[1]]
        for _ in range(self.depth):
            x = Block(4)(x)
        return nn.LayerNorm()(x)


class Gpt(nn.Module):
    """A decoder of one token at a time, with its cache."""

    vocabulary: int = 50
    width: int = 32
    depth: int = 2

    @nn.compact
    def __call__(self, ids: Array) -> Array:
        embed = nn.Embed(self.vocabulary, self.width)
        x = embed(ids)
        for _ in range(self.depth):
            x = Block(4, decode=True)(x)
        return embed.attend(nn.LayerNorm()(x))


class Mixer(nn.Module):
    """MLP-Mixer (Tolstikhin et al. 2021)."""

    patch: int = 4
    width: int = 16
    depth: int = 2

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.Conv(self.width, (self.patch,) * 2, (self.patch,) * 2)(x)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        for _ in range(self.depth):
            y = jnp.swapaxes(nn.LayerNorm()(x), 1, 2)
            y = nn.Dense(x.shape[1])(nn.gelu(nn.Dense(24)(y)))
            x = x + jnp.swapaxes(y, 1, 2)
            x = x + nn.Dense(self.width)(nn.gelu(nn.Dense(32)(nn.LayerNorm()(x))))
        return nn.Dense(10)(nn.LayerNorm()(x).mean(axis=1))


class Vit(nn.Module):
    """A vision transformer with a class token (Dosovitskiy et al. 2020)."""

    patch: int = 4
    width: int = 32
    depth: int = 2

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.Conv(self.width, (self.patch,) * 2, (self.patch,) * 2, padding="VALID")(x)
        x = x.reshape(x.shape[0], -1, self.width)
        first = self.param("cls", nn.initializers.zeros, (1, 1, self.width))
        x = jnp.concatenate([jnp.tile(first, (x.shape[0], 1, 1)), x], axis=1)
        x = x + self.param("positions", nn.initializers.normal(0.02), (1, x.shape[1], self.width))
        for _ in range(self.depth):
            x = Block(4)(x)
        return nn.Dense(10)(nn.LayerNorm()(x)[:, 0])


class UNet(nn.Module):
    """A denoiser: group norms, a time embedding, down, up with skips."""

    width: int = 16

    @nn.compact
    def __call__(self, x: Array, time: Array) -> Array:
        frequencies = jnp.exp(-jnp.arange(8) * (jnp.log(10000.0) / 8))
        angles = time[:, None] * frequencies[None]
        embedding = nn.Dense(self.width)(jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1))

        def block(y: Array, width: int) -> Array:
            z = nn.Conv(width, (3, 3))(nn.swish(nn.GroupNorm(num_groups=4)(y)))
            return z + nn.Dense(width)(nn.swish(embedding))[:, None, None]

        first = block(nn.Conv(self.width, (3, 3))(x), self.width)
        low = block(nn.avg_pool(first, (2, 2), (2, 2)), 2 * self.width)
        batch, height, width, channels = low.shape
        flat = nn.GroupNorm(num_groups=4)(low).reshape(batch, height * width, channels)
        low = low + nn.MultiHeadDotProductAttention(2)(flat).reshape(low.shape)
        high = jax.image.resize(low, (batch, 2 * height, 2 * width, channels), "nearest")
        high = block(jnp.concatenate([nn.Conv(self.width, (3, 3))(high), first], -1), self.width)
        return nn.Conv(x.shape[-1], (3, 3))(nn.swish(high))


class Upsampler(nn.Module):
    @nn.compact
    def __call__(self, x: Array) -> Array:
        return nn.ConvTranspose(6, (4, 4), (2, 2))(x)


class LstmTagger(nn.Module):
    @nn.compact
    def __call__(self, x: Array) -> Array:
        return nn.Dense(3)(nn.RNN(nn.OptimizedLSTMCell(12))(x))


# ---- flax nnx -------------------------------------------------------------------------------------------


class NnxTransformer(nnx.Module):
    def __init__(self, rngs: nnx.Rngs, width: int = 32, vocabulary: int = 50) -> None:
        self.embed = nnx.Embed(vocabulary, width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(4, width, decode=False, rngs=rngs)
        self.first = nnx.LayerNorm(width, rngs=rngs)
        self.second = nnx.LayerNorm(width, rngs=rngs)
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, ids: Array) -> Array:
        x = self.embed(ids)
        mask = nnx.make_causal_mask(ids)
        x = x + self.attention(self.first(x), mask=mask)
        return x + self.dropout(self.down(nnx.gelu(self.up(self.second(x)))))


class NnxRecurrent(nnx.Module):
    def __init__(self, cell: Any, rngs: nnx.Rngs, features: int = 5, hidden: int = 8) -> None:
        self.rnn = nnx.RNN(cell(features, hidden, rngs=rngs), rngs=rngs)
        self.head = nnx.Linear(hidden, 3, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        return self.head(self.rnn(x))


class NnxNormed(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.linear = nnx.Linear(4, 6, rngs=rngs)
        self.norm = nnx.BatchNorm(6, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        return self.norm(self.linear(x))


# ---- equinox and haiku ----------------------------------------------------------------------------------


class EquinoxAttention(eqx.Module):
    attention: eqx.nn.MultiheadAttention
    norm: eqx.nn.LayerNorm

    def __init__(self, key: Array, heads: int = 4, width: int = 16) -> None:
        self.attention = eqx.nn.MultiheadAttention(heads, width, key=key)
        self.norm = eqx.nn.LayerNorm(width)

    def __call__(self, x: Array) -> Array:
        y = jax.vmap(self.norm)(x)
        return x + self.attention(y, y, y)


def haiku_net(x: Array) -> Array:
    x = jax.nn.relu(hk.Conv2D(6, 3)(x))
    return hk.Linear(4)(hk.Flatten()(x))


# ---- functions ------------------------------------------------------------------------------------------


def scan_rnn(params: Any, xs: Array) -> Array:
    def step(h: Array, x: Array) -> tuple[Array, Array]:
        h = jnp.tanh(x @ params["wx"] + h @ params["wh"] + params["b"])
        return h, h

    return jax.lax.scan(step, jnp.zeros((xs.shape[1], params["b"].shape[0])), xs)[1]


def collatz_like(x: Array) -> Array:
    def body(state: tuple[Array, Array]) -> tuple[Array, Array]:
        i, y = state
        return i + 1, jax.lax.cond(y.sum() > 0, lambda z: z * 0.5 - 1.0, lambda z: z + 0.25, y)

    return jax.lax.while_loop(lambda s: s[0] < 5, body, (0, x))[1]


def runge_kutta(x: Array, dt: Array) -> Array:
    """A step of the classical method for the pendulum."""

    def slope(y: Array) -> Array:
        return jnp.stack([y[..., 1], -jnp.sin(y[..., 0])], -1)

    k1 = slope(x)
    k2 = slope(x + dt / 2 * k1)
    k3 = slope(x + dt / 2 * k2)
    k4 = slope(x + dt * k3)
    return x + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def twice_as_large(x: Array) -> Array:
    """Pictures, channels last, between their pixels by straight lines."""
    batch, height, width, channels = x.shape
    return jax.image.resize(x, (batch, 2 * height, 2 * width, channels), "bilinear")


def mlp(params: Any, x: Array) -> Array:
    for layer in params[:-1]:
        x = jax.nn.relu(x @ layer["w"] + layer["b"])
    return x @ params[-1]["w"] + params[-1]["b"]


def mlp_params(*sizes: int) -> Any:
    return [
        {"w": jnp.asarray(normal(m, n, seed=i)) * m**-0.5, "b": jnp.asarray(normal(n, seed=i + 9)) * 0.1}
        for i, (m, n) in enumerate(itertools.pairwise(sizes))
    ]


def loss(params: Any, x: Array, y: Array) -> Array:
    return jnp.mean((mlp(params, x) - y) ** 2)


gradient = jax.grad(loss)
