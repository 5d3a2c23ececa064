"""What integer tensors say of their own indices, and what follows for masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dragoman.ir.builder import Builder, trace
from dragoman.ir.graph import Graph, Value
from dragoman.ir.interpreter import run
from dragoman.ir.types import I64, parse_type
from dragoman.passes.check import RewriteChecker
from dragoman.passes.manager import Context
from dragoman.passes.pipelines import simplify_masks
from dragoman.passes.positions import Positions, positions

Made = Callable[[Builder], Value]


def column(b: Builder, size: int) -> Value:
    return b.reshape(b.iota(size=size), shape=(size, 1))


KNOWN: dict[str, tuple[Made, Positions]] = {
    "a range": (lambda b: b.iota(size=5), Positions(0, (1,))),
    "a range times a number plus another": (
        lambda b: b.add(b.mul(b.iota(size=5), 3), 2),
        Positions(2, (3,)),
    ),
    "the difference of two ranges": (
        lambda b: b.sub(b.iota(size=5), column(b, 4)),
        Positions(0, (-1, 1)),
    ),
    "a range stretched and turned": (
        lambda b: b.transpose(b.broadcast_to(column(b, 4), shape=(4, 3)), perm=(1, 0)),
        Positions(0, (0, 1)),
    ),
    "every other of a range": (
        lambda b: b.slice(b.iota(size=9), axes=(0,), starts=(1,), stops=(9,), steps=(2,)),
        Positions(1, (2,)),
    ),
    "a range that goes on": (
        lambda b: b.concat(b.iota(size=3), b.add(b.iota(size=4), 3), axis=0),
        Positions(0, (1,)),
    ),
    "one axis of extent 1": (lambda b: b.iota(size=1), Positions(0, (0,))),
}


@pytest.mark.parametrize("name", KNOWN)
def test_positions_are_followed_through_what_moves_and_shifts_them(name: str) -> None:
    made, expected = KNOWN[name]
    graph = trace(lambda b: made(b))
    assert positions(graph.outputs[0]) == expected
    (values,) = run(graph)
    steps = np.meshgrid(*(np.arange(n) for n in values.shape), indexing="ij")
    told = sum((s * i for s, i in zip(expected.steps, steps, strict=True)), start=np.array(expected.start))
    assert np.array_equal(values, np.broadcast_to(told, values.shape))


UNKNOWN: dict[str, Made] = {
    "a range that jumps": lambda b: b.concat(b.iota(size=3), b.add(b.iota(size=4), 4), axis=0),
    "a range folded": lambda b: b.reshape(b.iota(size=6), shape=(2, 3)),
    "the square of a range": lambda b: b.mul(b.iota(size=3), b.iota(size=3)),
    "a running sum": lambda b: b.cumsum(b.iota(size=3), axis=0),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_no_such_sum_is_not_taken_for_one(name: str) -> None:
    assert positions(trace(lambda b: UNKNOWN[name](b)).outputs[0]) is None


def simplified(function: Callable[..., Any], *types: str) -> tuple[Graph, Graph]:
    before, after = (trace(function, *map(parse_type, types)) for _ in range(2))
    checker = RewriteChecker()
    while simplify_masks(after, Context(check=checker)):
        pass
    assert not checker.refused
    assert all(firing.proven for firing in checker.firings)
    return before, after


def names(graph: Graph) -> set[str]:
    return {node.op.name for node in graph}


def test_a_comparison_that_depends_on_the_size_stays() -> None:
    def ahead(b: Builder, x: Value) -> Value:
        return b.logical_and(b.less(b.iota(size=5), 4), x)

    _, after = simplified(ahead, "bool[5]")
    assert "less" in names(after)


def test_rows_gathered_in_another_order_stay_gathered() -> None:
    def gather(b: Builder, x: Value) -> Value:
        first = b.reshape(b.broadcast_to(b.iota(size=3), shape=(2, 3)), shape=(2, 3, 1))
        second = b.reshape(b.broadcast_to(column(b, 2), shape=(2, 3)), shape=(2, 3, 1))
        return b.gather_nd(x, b.concat(first, second, axis=2))

    _, after = simplified(gather, "f32[3,2]")
    assert "gather_nd" in names(after)


def test_rows_that_may_count_from_the_end_stay_gathered() -> None:
    def take(b: Builder, x: Value) -> Value:
        return b.take(x, b.sub(b.iota(size=3), 1), axis=0)

    _, after = simplified(take, "f32[4,2]")
    assert "take" in names(after)


def causal_mask(shift: int) -> Callable[..., Value]:
    def attend(b: Builder, q: Value, k: Value, v: Value) -> Value:
        places = b.iota(size=5)
        mask = b.less_equal(places, b.add(b.reshape(places, shape=(5, 1)), b.constant(value=shift, dtype=I64)))
        return b.attention(q, k, v, mask)

    return attend


def test_a_mask_of_keys_up_to_the_query_is_the_causal_one() -> None:
    types = ("f32[2,3,5,4]",) * 3
    before, after = simplified(causal_mask(0), *types)
    (attention,) = [n for n in after if n.op.name == "attention"]
    assert dict(attention.op.attributes())["causal"] is True
    assert len([v for v in attention.operands if v is not None]) == 3
    arrays = [np.random.default_rng(i).standard_normal((2, 3, 5, 4)) for i in range(3)]
    np.testing.assert_allclose(run(after, *arrays)[0], run(before, *arrays)[0], rtol=1e-12)


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_mask_one_place_off_is_not(shift: int) -> None:
    _, after = simplified(causal_mask(shift), *("f32[2,3,5,4]",) * 3)
    (attention,) = [n for n in after if n.op.name == "attention"]
    assert "causal" not in dict(attention.op.attributes())
