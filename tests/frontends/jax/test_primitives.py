"""Primitives in the forms that models seldom show: every one against JAX in double precision."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

from tests.frontends.jax.compared import check
from tests.frontends.jax.models import normal

WHOLE = np.arange(-6, 6, dtype=np.int32).reshape(3, 4)

CASES: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "dot with batches and two sums": (
        lambda x, y: jnp.einsum("bijk,bjlk->bil", x, y),
        (normal(2, 3, 4, 5), normal(2, 4, 6, 5)),
    ),
    "outer product": (jnp.outer, (normal(3), normal(4))),
    "integer dot": (lambda x: lax.dot(x, x.T, preferred_element_type=jnp.int32), (WHOLE.astype(np.int8),)),
    "conv with batch groups": (
        lambda x, w: lax.conv_general_dilated(x, w, (1, 2), "SAME", rhs_dilation=(2, 1), batch_group_count=2),
        (normal(4, 3, 7, 6), normal(4, 3, 3, 2)),
    ),
    "conv of a dilated operand with strides": (
        lambda x, w: lax.conv_general_dilated(x, w, (2, 1), ((1, 2), (0, -1)), lhs_dilation=(2, 3)),
        (normal(2, 3, 5, 4), normal(4, 3, 3, 2)),
    ),
    "conv transposed with groups": (
        lambda x, w: lax.conv_general_dilated(
            x, w, (1,), ((2, 3),), lhs_dilation=(2,), feature_group_count=2, dimension_numbers=("NHC", "HIO", "NHC")
        ),
        (normal(2, 5, 4), normal(3, 2, 6)),
    ),
    "conv without spatial axes": (lambda x, w: lax.conv_general_dilated(x, w, (), ()), (normal(2, 3), normal(4, 3))),
    "take out of bounds": (lambda x: jnp.take(x, jnp.array([0, 7, -1]), axis=1), (normal(2, 4),)),
    "gather along two axes": (lambda x: x[jnp.array([[0, 2], [1, 1]]), :, jnp.array([1, 0])], (normal(3, 4, 2),)),
    "gather with batches": (jax.vmap(lambda x, i: x[i]), (normal(3, 5, 2), np.array([4, 0, 2], np.int32))),
    "scatter and drop": (lambda x: x.at[jnp.array([0, 9, 1])].set(5.0, mode="drop"), (normal(3, 2),)),
    "scatter windows": (lambda x, y: x.at[1:3, jnp.array([0, 2, 2])].add(y), (normal(4, 3), normal(2, 3))),
    "scatter in a batch": (jax.vmap(lambda x, i: x.at[i].mul(3.0)), (normal(3, 5), np.array([4, 0, 2], np.int32))),
    "dynamic slices": (
        lambda x, i: lax.dynamic_update_slice(x, lax.dynamic_slice(x, (i, 0), (2, 3)) * 2, (0, i)),
        (normal(4, 5), np.int32(3)),
    ),
    "window sums with dilation": (
        lambda x: lax.reduce_window(
            x, 0.0, lax.add, (1, 2, 3), (1, 2, 1), ((0, 0), (1, 1), (0, 2)), (1, 2, 1), (1, 1, 2)
        ),
        (normal(2, 5, 6),),
    ),
    "window minima": (lambda x: lax.reduce_window(x, jnp.inf, lax.min, (2, 2), (1, 2), "SAME"), (normal(4, 5),)),
    "a window of products": (lambda x: lax.reduce_window(x, 1.0, lax.mul, (3,), (2,), "VALID"), (normal(9),)),
    "the gradient of pooling": (
        jax.grad(lambda x: (lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2), (1, 2, 1), "SAME") ** 2).sum()),
        (normal(2, 5, 4),),
    ),
    "reduction by a function": (lambda x: lax.reduce(x, 2.0, lambda a, b: a * b, (0,)), (normal(5, 3),)),
    "running extrema": (
        lambda x: (lax.cummax(x, 1), lax.cummin(x, 0, reverse=True), lax.cumlogsumexp(x, 1)),
        (normal(4, 5),),
    ),
    "sort by two keys": (
        lambda x, y: lax.sort((jnp.round(x), y, x * 2), num_keys=2, dimension=0),
        (normal(8, 2), normal(8, 2, seed=1)),
    ),
    "largest elements": (lambda x: lax.top_k(x, 3), (normal(2, 7),)),
    "switch": (
        lambda i, x: lax.switch(i, [jnp.sin, lambda y: y @ np.eye(3, dtype=np.float32), jnp.cos, jnp.tan], x),
        (np.int32(2), normal(3)),
    ),
    "map with a table inside": (
        lambda x: lax.map(lambda y: y * np.arange(4, dtype=np.float32), x),
        (normal(3, 4),),
    ),
    "pad in between": (lambda x: lax.pad(x, 1.5, ((1, -1, 2), (-1, 2, 0))), (normal(4, 5),)),
    "integer division": (lambda x, y: (x // y, lax.div(x, y), lax.rem(x, y)), (WHOLE, np.full((3, 4), -3, np.int32))),
    "bits": (
        lambda x: (lax.population_count(x), lax.clz(x), x << 3, lax.shift_right_logical(x, np.int32(2)), ~x),
        (WHOLE,),
    ),
    "rounding": (lambda x: (lax.round(x), jnp.round(x), jnp.cbrt(x), x**-3, x**5), (normal(5) * 3,)),
    "random numbers": (lambda k: jax.random.uniform(k, (3, 5)), (jax.random.key(3),)),
    "split and folded keys": (
        lambda k: jax.random.bits(jax.random.split(jax.random.fold_in(k, 7), 3)[1], (7,), "uint16"),
        (jax.random.key(3),),
    ),
    "old keys": (lambda k: jax.random.permutation(k, 6), (jax.random.PRNGKey(0),)),
    "remat and custom derivatives": (jax.grad(lambda x: jax.checkpoint(jax.nn.silu)(x).sum()), (normal(4),)),
    "cholesky and a triangular system": (
        lambda x: jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(x @ x.T + 4 * jnp.eye(4)), True), jnp.ones((4, 2))),
        (normal(4, 4),),
    ),
    "fourier": (lambda x: jnp.abs(jnp.fft.ifft(jnp.fft.rfft(x))), (normal(3, 8),)),
    "resize": (lambda x: jax.image.resize(x, (2, 7, 9, 3), "bilinear"), (normal(2, 4, 5, 3),)),
    "resize by cubics": (lambda x: jax.image.resize(x, (8, 3), "bicubic"), (normal(4, 6),)),
    "vmapped matrix functions": (jax.vmap(lambda x: jnp.linalg.norm(x) * jnp.sort(x)), (normal(3, 4),)),
    "half precision inside": (
        lambda x: (x.astype(jnp.bfloat16) @ x.T.astype(jnp.bfloat16)).astype(jnp.float32),
        (normal(3, 4),),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_function_gives_what_jax_gives(name: str) -> None:
    function, args = CASES[name]
    check(function, *args, bound=1e-11)


@pytest.mark.parametrize("partitionable", [True, False])
@pytest.mark.parametrize("width", [8, 16, 32])
def test_random_bits_are_jaxs_own(partitionable: bool, width: int) -> None:
    def draw(key: Any, shape: tuple[int, ...]) -> Any:
        return jax.random.bits(key, shape, f"uint{width}")

    before = jax.config.jax_threefry_partitionable
    jax.config.update("jax_threefry_partitionable", partitionable)
    try:
        for shape in ((), (5,), (3, 7)):
            check(functools.partial(draw, shape=shape), jax.random.key(11))
    finally:
        jax.config.update("jax_threefry_partitionable", before)
