"""What an import keeps besides numbers: names, provenance, weights that are weights, settings."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp

import dragoman
from dragoman.frontends.jax import import_function, settings
from tests.frontends.jax import models as m
from tests.frontends.jax.models import normal

KEY = jax.random.key(0)


def test_nodes_know_module_and_line() -> None:
    net = m.Mixer(depth=1)
    x = normal(2, 8, 8, 3)
    graph = import_function(net, (x,), params=net.init(KEY, x)).imported.graph
    dense = [n.provenance for n in graph if n.op.name == "matmul"]
    assert dense[0].module == "Mixer.Dense_1"
    assert dense[0].line.startswith("models.py:")
    assert "nn.Dense(24)" in dense[0].line


def test_scopes_and_transformations_make_one_path() -> None:
    def model(x: Any) -> Any:
        with jax.named_scope("outer"), jax.named_scope("inner"):
            return jnp.tanh(x).sum()

    graph = import_function(jax.grad(model), (normal(3),)).imported.graph
    assert {n.provenance.module for n in graph if n.provenance.module} == {"outer.inner"}


def test_arrays_that_a_function_closes_over_are_weights_by_the_name_of_their_variable() -> None:
    table = {"w": jnp.asarray(normal(4, 3)), "b": jnp.zeros(3) + 1}
    graph = import_function(lambda x: x @ table["w"] + table["b"], (normal(2, 4),)).imported.graph
    assert sorted(graph.weights) == ["table.b", "table.w"]
    assert [v.name for v in graph.inputs] == ["x"]


def test_one_array_under_two_names_is_one_weight() -> None:
    w = jnp.asarray(normal(3, 3))
    graph = import_function(lambda p, x: x @ p["a"] @ p["b"], (normal(2, 3),), params={"a": w, "b": w}).imported.graph
    assert list(graph.weights) == ["a"] or list(graph.weights) == ["b"]


def test_numbers_and_flags_are_settings() -> None:
    def model(x: Any, scale: float, flip: bool) -> Any:
        return x * scale if flip else x

    found = import_function(model, (normal(3), 2.5, True))
    assert [v.name for v in found.imported.graph.inputs] == ["x"]
    assert settings(found) == [("scale", 2.5)]


def test_nested_arguments_and_results_are_named_by_their_paths() -> None:
    def model(batch: Any) -> Any:
        return {"sum": batch["a"] + batch["b"][0], "parts": (batch["a"], -batch["b"][1])}

    found = import_function(model, ({"a": normal(2), "b": [normal(2), normal(2)]},)).imported.graph
    assert [v.name for v in found.inputs] == ["batch.a", "batch.b.0", "batch.b.1"]
    assert found.output_names == ("parts.0", "parts.1", "sum")


def test_a_bound_module_brings_its_variables() -> None:
    net = nn.Dense(3)
    x = normal(2, 4)
    bound = net.bind(net.init(KEY, x))
    assert "params.kernel" in import_function(bound, (x,)).imported.graph.weights


def test_a_model_is_converted_and_proven(tmp_path: Any) -> None:
    x = normal(2, 5)
    report = dragoman.convert(
        m.mlp, tmp_path / "m.onnx", args=(x,), params=m.mlp_params(5, 8, 3), dynamic={"x": {0: "batch"}}
    )
    assert report.verdict is not None
    assert report.verdict.holds
    assert report.comparison is not None
    assert any("JAX" in line and "float64" in line for line in str(report).splitlines())
