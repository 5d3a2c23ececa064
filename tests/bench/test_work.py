"""Operations and bytes of nodes: every op at every sample has them, and those that can be counted by hand are."""

from __future__ import annotations

import math

import pytest

from dragoman.bench.work import node_work
from dragoman.ir.builder import Builder
from dragoman.ir.graph import Graph
from dragoman.ir.op import REGISTRY
from dragoman.ir.samples import sample_graph
from dragoman.ir.types import parse_type

OPS = [name for name, cls in REGISTRY.items() if any(True for _ in cls.samples())]


@pytest.mark.parametrize("name", OPS)
def test_every_op_has_a_number_of_operations_and_of_bytes(name: str) -> None:
    for sample in REGISTRY[name].samples():
        graph = sample_graph(REGISTRY[name], sample)
        for node in graph:
            found = node_work(node, {n: max(s.low, 2) for n, s in graph.symbols().items()})
            assert math.isfinite(found.operations)
            assert found.operations >= 0
            assert found.bytes >= 0


def test_products_and_moves_are_counted_as_by_hand() -> None:
    graph = Graph()
    b = Builder(graph)
    x, w = graph.add_input(parse_type("f32[3,4]"), "x"), graph.add_input(parse_type("f32[4,5]"), "w")
    b.transpose(b.matmul(x, w), perm=(1, 0))
    matmul, transpose = (node_work(node, {}) for node in graph if node is not graph.terminator)
    assert matmul.operations == 2 * 3 * 4 * 5
    assert matmul.bytes == 4 * (12 + 20 + 15)
    assert transpose.operations == 0
