"""Regions: cut out with what they need and nothing else, copied whole, pasted with operands bound."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dragoman.ir.builder import Builder, trace
from dragoman.ir.errors import VerifyError
from dragoman.ir.graph import Graph, Node
from dragoman.ir.interpreter import run
from dragoman.ir.provenance import Provenance, Source
from dragoman.ir.region import clone, extract, free_values, inline, producers
from dragoman.ir.types import F32, parse_type
from dragoman.ir.verify import verify
from dragoman.ir.weights import ArrayWeight

TYPE = parse_type("f32[batch,4]")


def model() -> Graph:
    graph = Graph("model")
    b = Builder(graph, provenance=Provenance((Source("test.op", "layer", "model.py:3"),)))
    x = graph.add_input(TYPE, "x")
    w = graph.add_weight("w", ArrayWeight(np.arange(16, dtype=np.float32).reshape(4, 4)))
    h = b.matmul(x, w)
    h = b.add(h, b.relu(x))
    graph.set_outputs([b.tanh(h), b.neg(h)], ["t", "n"])
    return graph


def names(nodes: list[Node]) -> list[str]:
    return [n.op.name for n in nodes]


def test_producers_are_listed_operands_first_and_only_back_to_the_frontier() -> None:
    graph = model()
    assert sorted(names(producers([graph.outputs[0]], ()))) == ["add", "matmul", "relu", "tanh"]
    order = names(producers([graph.outputs[0]], ()))
    assert order.index("add") > max(order.index("matmul"), order.index("relu"))
    add = next(n for n in graph if n.op.name == "add")
    assert names(producers([graph.outputs[0]], [add.result])) == ["tanh"]
    assert producers([add.result], [add.result]) == []


def test_producers_within_a_set_stop_at_its_edge() -> None:
    graph = model()
    allowed = frozenset(n for n in graph if n.op.name in ("tanh", "add"))
    assert names(producers([graph.outputs[0]], (), within=allowed)) == ["add", "tanh"]


def test_producers_of_a_chain_of_thousands_do_not_recurse() -> None:
    graph = Graph()
    b = Builder(graph)
    value = graph.add_input(parse_type("f32[]"), "x")
    for _ in range(20_000):
        value = b.neg(value)
    graph.set_outputs([value])
    assert len(producers([value], ())) == 20_000


def test_free_values_are_what_comes_from_outside() -> None:
    graph = model()
    nodes = [n for n in graph if n.op.name in ("matmul", "add")]
    free = free_values(nodes, [nodes[-1].result])
    assert [v.name or v.op.name for v in free if v.op or v.name] == ["x", "w", "relu"]


def test_an_extracted_region_computes_the_same_and_shares_the_weights() -> None:
    graph = model()
    nodes = [n for n in graph if n.op.name in ("matmul", "add")]
    relu = next(n for n in graph if n.op.name == "relu")
    region = extract(nodes, [graph.inputs[0], relu.result], [nodes[-1].result])
    verify(region)
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    (result,) = run(region, x, np.maximum(x, 0))
    expected = x.astype(np.float64) @ np.arange(16).reshape(4, 4) + np.maximum(x, 0)
    np.testing.assert_allclose(result, expected, rtol=1e-14)
    assert region.weights["w"].weight is graph.weights["w"].weight


def test_a_region_that_lacks_an_input_or_an_output_is_refused() -> None:
    graph = model()
    add = next(n for n in graph if n.op.name == "add")
    with pytest.raises(VerifyError, match="neither inside it nor among its inputs"):
        extract([add], [graph.inputs[0]], [add.result])
    with pytest.raises(VerifyError, match="does not produce"):
        extract([], [graph.inputs[0]], [add.result])


def test_a_clone_prints_the_same_keeps_provenance_and_can_be_edited_alone() -> None:
    graph = model()
    mapping: dict[Any, Any] = {}
    copied = clone(graph, mapping)
    assert str(copied) == str(graph)
    assert [n.provenance for n in copied] == [n.provenance for n in graph]
    assert mapping[graph.outputs[1]] is copied.outputs[1]
    tanh = next(n for n in copied if n.op.name == "tanh")
    tanh.result.replace_all_uses(Builder(copied).exp(tanh.operands[0]))
    copied.erase(tanh)
    verify(copied)
    assert "tanh" in str(graph)
    assert "tanh" not in str(copied)


def test_a_clone_has_sub_graphs_of_its_own() -> None:
    row = parse_type("f32[3]")
    then, orelse = trace(lambda b, v: b.exp(v), row), trace(lambda b, v: b.neg(v), row)
    graph = trace(lambda b, flag, v: b.cond(flag, v, then=then, orelse=orelse), parse_type("bool[]"), row)
    copied = clone(graph)
    (node,) = copied.nodes
    inner = node.op.regions[0]
    exp = next(iter(inner))
    exp.result.replace_all_uses(Builder(inner).sin(exp.operands[0]))
    inner.erase(exp)
    verify(copied)
    assert "exp" in str(graph)
    assert "exp" not in str(copied)


def test_inlining_binds_inputs_and_brings_weights_along() -> None:
    inner = model()
    outer = Graph("outer")
    b = Builder(outer)
    y = outer.add_input(TYPE, "y")
    t, n = inline(inner, outer, [b.mul(y, 2.0)])
    outer.set_outputs([b.add(t, n)])
    verify(outer)
    y_values = np.random.default_rng(1).standard_normal((2, 4))
    t_values, n_values = run(inner, y_values * 2)
    np.testing.assert_allclose(run(outer, y_values)[0], t_values + n_values, rtol=1e-14)
    assert outer.inputs[0].type.dtype == F32
