"""Attention of com.microsoft, as ONNX Runtime computes it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dragoman.backends.onnx import Session
from dragoman.ir.arithmetic import NATIVE
from dragoman.ir.errors import ImportRefused
from dragoman.ir.interpreter import run
from tests.frontends.onnx.models import imported, model, names_of, node

RANDOM = np.random.default_rng(5)


def random(*shape: int) -> Any:
    return RANDOM.standard_normal(shape).astype(np.float32)


MASK = np.array([[1, 1, 1, 0, 1], [1, 0, 1, 1, 0]], np.int32)


@pytest.mark.parametrize(
    ("given", "attributes"),
    [
        ("q, k, v", {}),
        ("q, k, v, bias", {"scale": 0.3}),
        ("q, k, v, _, mask", {}),
        ("q, k, v, bias, mask, more", {"mask_filter_value": -50.0}),
    ],
)
def test_heads_side_by_side_attend_as_in_onnx_runtime(given: str, attributes: dict[str, Any]) -> None:
    every = {"q": "f32[2,3,8]", "k": "f32[2,5,8]", "v": "f32[2,5,12]", "bias": "f32[28]", "mask": "i32[2,5]"}
    every["more"] = "f32[2,4,3,5]"
    values = {"q": random(2, 3, 8), "k": random(2, 5, 8), "v": random(2, 5, 12), "bias": random(28), "mask": MASK}
    values["more"] = random(2, 4, 3, 5)
    names = [name for name in given.split(", ") if name != "_"]
    nodes = [node(f"y = com.microsoft.MultiHeadAttention({given})", num_heads=4, **attributes)]
    proto = model(nodes, {n: every[n] for n in names}, {"y": "f32[2,3,12]"}, opset=17, com_microsoft=1)
    inputs = [values[n] for n in names]
    graph = imported(proto)
    assert "attention" in names_of(graph)
    (wanted,), (got,) = Session(proto, optimise=False).run(inputs), run(graph, *inputs, arithmetic=NATIVE)
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("attributes", [{}, {"unidirectional": 1}, {"qkv_hidden_sizes": [8, 8, 12]}, {"mask": True}])
def test_one_product_gives_queries_keys_and_values(attributes: dict[str, Any]) -> None:
    masked = attributes.get("mask", False)
    settings = {k: v for k, v in attributes.items() if k != "mask"}
    wide = 28 if "qkv_hidden_sizes" in settings else 24
    given = {"x": "f32[2,5,8]", "w": f"f32[8,{wide}]", "bias": f"f32[{wide}]"} | (
        {"mask": "i32[2,5]"} if masked else {}
    )
    nodes = [node(f"y = com.microsoft.Attention({', '.join(given)})", num_heads=4, **settings)]
    proto = model(nodes, given, {"y": f"f32[2,5,{wide - 16}]"}, opset=17, com_microsoft=1)
    inputs = [random(2, 5, 8), random(8, wide), random(wide), *([MASK] if masked else [])]
    (wanted,), (got,) = (
        Session(proto, optimise=False).run(inputs),
        run(imported(proto), *inputs, arithmetic=NATIVE),
    )
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_past_keys_and_values_are_refused() -> None:
    nodes = [node("y, present = com.microsoft.Attention(x, w, bias, _, past)", num_heads=2)]
    given = {"x": "f32[1,1,4]", "w": "f32[4,12]", "bias": "f32[12]", "past": "f32[2,1,2,3,2]"}
    proto = model(nodes, given, {"y": "f32[1,1,4]", "present": "f32[2,1,2,4,2]"}, opset=17, com_microsoft=1)
    with pytest.raises(ImportRefused, match="past keys and values"):
        imported(proto)
