"""How many numbers ops add up: known cases, and an answer for every sample of every op."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dragoman.ir.accumulation import summation_units, summed
from dragoman.ir.builder import make, trace
from dragoman.ir.graph import Graph, Node
from dragoman.ir.noise import Noisy
from dragoman.ir.op import REGISTRY
from dragoman.ir.types import parse_type


def node(function: Callable[..., Any], *types: str) -> tuple[Node, list[tuple[int, ...]]]:
    graph = trace(function, *(parse_type(t) for t in types))
    found = next(n for n in reversed(graph.nodes) if n.op.name != "constant")
    return found, [tuple(int(d) for d in t.shape) if t is not None else () for t in found.operand_types]


@pytest.mark.parametrize(
    ("function", "types", "count"),
    [
        (lambda b, x: b.reduce_mean(x, axes=(1, 2)), ("f32[2,3,5]",), 15),
        (lambda b, x: b.softmax(x, axis=-1), ("f32[2,7]",), 7),
        (lambda b, x: b.layer_norm(x, axis=-2, epsilon=1e-5), ("f32[2,3,5]",), 15),
        (lambda b, x: b.group_norm(x, groups=2, epsilon=1e-5, axis=1), ("f32[3,8,4,4]",), 64),
        (lambda b, x: b.instance_norm(x, epsilon=1e-5, axis=1), ("f32[3,8,4,5]",), 20),
        (lambda b, x, y: b.matmul(x, y), ("f32[2,9]", "f32[9,4]"), 9),
        (lambda b, x, y: b.add(x, y), ("f32[99]", "f32[99]"), 1),
        (lambda b, q, k, v: b.attention(q, k, v), ("f32[1,2,3,8]", "f32[1,2,50,8]", "f32[1,2,50,4]"), 50),
    ],
)
def test_the_numbers_that_an_op_adds_up_are_counted(
    function: Callable[..., Any], types: tuple[str, ...], count: int
) -> None:
    found, shapes = node(function, *types)
    assert summed(found, shapes) == count
    assert summation_units(found, shapes) == math.sqrt(count / 32)


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_every_sample_of_every_op_has_a_count(name: str) -> None:
    cls = REGISTRY[name]
    for sample in cls.samples():
        graph = Graph()
        operands = [None if o is None else graph.add_input(parse_type(o.type)) for o in sample.operands]
        made = graph.insert(make(cls, dict(sample.attributes)), operands)
        shapes = [() if t is None else tuple(int(d) for d in t.shape) for t in made.operand_types]
        assert summed(made, shapes) >= 0


def test_a_long_plain_sum_is_shaken_more() -> None:
    x = np.random.default_rng(0).standard_normal(1 << 18) + 3.0
    graph = trace(lambda b, x: b.reduce_mean(x, axes=(0,)), parse_type("f32[262144]"))

    def off(plain: bool) -> float:
        runs = [Noisy(graph, 2.0**-24, seed, plain_sums=plain).run([x])[0] for seed in range(8)]
        return max(abs(float(r) - x.mean()) for r in runs) / abs(x.mean()) * 2**24

    assert off(False) < 3
    assert 30 < off(True) < 200


def test_a_plain_mean_of_a_group_that_hardly_varies_is_magnified_by_its_small_deviation() -> None:
    x = 0.37 + 1e-6 * np.random.default_rng(0).standard_normal((1, 2, 128, 128))
    graph = trace(lambda b, x: b.group_norm(x, groups=2, epsilon=1e-5, axis=1), parse_type("f32[1,2,n,n]"))
    single = x.astype(np.float32)
    mean = single.reshape(1, 2, -1, 8).cumsum(-2, dtype=np.float32)[..., -1, :].sum(-1) / np.float32(128 * 128)
    plain = (single - mean[..., None, None]) / np.sqrt(np.float32(1e-5))
    exact = Noisy(graph, 0.0).run([single])[0]

    def off(sums: bool) -> float:
        runs = [Noisy(graph, 2.0**-24, seed, plain_sums=sums).run([single])[0] for seed in range(8)]
        return max(float(np.abs(r - exact).max()) for r in runs)

    lanes = np.abs(plain - exact).max()
    assert off(False) < lanes < 2 * off(True)
    assert off(True) < 100 * lanes
