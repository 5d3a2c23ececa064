"""The work of passes grows with the graph and no faster, counted in steps, not in seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from dragoman.ir.builder import Builder
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.interpreter import Interpreter, run
from dragoman.ir.op import sample
from dragoman.ir.types import parse_type
from dragoman.ir.weights import ArrayWeight
from dragoman.passes import rewrite
from dragoman.passes.fold_constants import fold_constants
from dragoman.passes.manager import Context
from dragoman.passes.pipelines import canonicalise

VECTOR = parse_type("f32[8]")


def started() -> tuple[Graph, Builder, Value]:
    graph = Graph()
    return graph, Builder(graph), graph.add_input(VECTOR, "x")


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str], list[None]]:
    """Counts the calls of a function: one entry each."""

    def count(owner: Any, name: str) -> list[None]:
        calls: list[None] = []
        original = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            calls.append(None)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)
        return calls

    return count


def chain_used_at_every_step(length: int) -> Graph:
    """y = x + tanh(w) + tanh(tanh(w)) + …"""
    graph, b, y = started()
    w = graph.add_weight("w", ArrayWeight(np.linspace(-1, 1, 8).astype(np.float32)))
    for _ in range(length):
        w = b.tanh(w)
        y = b.add(y, w)
    graph.set_outputs([y])
    return graph


def test_a_constant_chain_used_at_every_step_is_computed_once(steps: Callable[[Any, str], list[None]]) -> None:
    graph = chain_used_at_every_step(200)
    expected = run(graph, np.ones(8, np.float32))
    computed = steps(Interpreter, "run_node")
    assert fold_constants(graph, Context()) >= 200
    assert len(computed) <= 2 * 200
    assert {node.op.name for node in graph} == {"add"}
    assert max(map(len, graph.weights)) < len("w.folded_1000")
    np.testing.assert_allclose(run(graph, np.ones(8, np.float32))[0], expected[0], rtol=1e-6)


@pytest.mark.parametrize("operand", ["a value", "a constant"])
def test_a_value_that_everything_uses_does_not_bring_everything_back(
    operand: str, steps: Callable[[Any, str], list[None]]
) -> None:
    count = 2500
    graph, b, x = started()
    one = b.const(1.0, VECTOR.dtype)
    shared = b.tanh(x) if operand == "a value" else one
    made = [b.mul(b.add(shared, float(i)) if operand == "a value" else x, shared) for i in range(count)]
    graph.set_outputs([b.mul(y, one) for y in made])
    tried = steps(rewrite, "_try_node")
    canonicalise(graph, Context())
    assert len(tried) < 20 * count
    assert sum(node.op.name == "mul" for node in graph) == (count if operand == "a value" else 0)


def test_an_inner_result_with_many_users_is_declined_at_its_first_outside_one() -> None:
    graph, b, x = started()
    inner = b.neg(x)
    graph.set_outputs([b.tanh(inner), *(b.neg(inner) for _ in range(50))])
    looked: list[None] = []

    class Uses(dict[tuple[Node, int], None]):
        def __iter__(self) -> Iterator[tuple[Node, int]]:
            for use in super().__iter__():
                looked.append(None)
                yield use

    inner.uses = Uses(inner.uses)

    body = {
        "__doc__": "neg(neg(x))  ->  x",
        "before": lambda b, x: b.neg(b.neg(x)),
        "after": lambda b, x: x,
    }
    drop = rewrite.rewrite(samples=[sample("f32[2,3]")])(type("DropNegationsUsedOnce", (), body))
    del rewrite.RULES["DropNegationsUsedOnce"]
    assert rewrite.apply_rules(graph, [drop]).total == 0
    assert len(looked) == 50  # one look for each negation tried, the first use lying outside
