"""ai.onnx.ml: what is read agrees with ONNX Runtime on the original, and is written back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest

from dragoman.backends.onnx import Session, to_model_proto
from dragoman.ir.arithmetic import NATIVE
from dragoman.ir.errors import EmitRefused, ImportRefused
from dragoman.ir.interpreter import run
from tests.frontends.onnx.models import imported, model, node

RANDOM = np.random.default_rng(3)
X = RANDOM.standard_normal((7, 3)).astype(np.float32)


def agrees(proto: onnx.ModelProto, x: Any) -> None:
    """Ours and what we write, as ONNX Runtime runs the original."""
    wanted = Session(proto, optimise=False).run([x])
    graph = imported(proto)
    for got in (run(graph, x, arithmetic=NATIVE), Session(to_model_proto(graph), optimise=False).run([x])):
        for a, b in zip(wanted, got, strict=True):
            assert np.asarray(a).dtype.kind == np.asarray(b).dtype.kind
            if np.asarray(a).dtype.kind in "OU":
                assert np.asarray(a).tolist() == np.asarray(b).tolist()
            else:
                np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)


def one(operator: str, attributes: Mapping[str, Any], output: str = "f32[7,3]", version: int = 3) -> onnx.ModelProto:
    nodes = [node(f"y = ai.onnx.ml.{operator}(x)", **attributes)]
    return model(nodes, {"x": "f32[7,3]"}, {"y": output}, opset=17, ai_onnx_ml=version)


@pytest.mark.parametrize(
    ("operator", "attributes"),
    [
        ("Scaler", {"offset": [1.0, 2.0, 3.0], "scale": [0.5, 2.0, 1.0]}),
        ("Scaler", {"offset": [1.0], "scale": [0.5]}),
        ("Binarizer", {"threshold": 0.25}),
        ("Normalizer", {"norm": "L1"}),
        ("Normalizer", {"norm": "L2"}),
        ("Imputer", {"imputed_value_floats": [1.0, 2.0, 3.0], "replaced_value_float": float("nan")}),
    ],
)
def test_columns_are_scaled_and_filled_as_onnx_runtime_does(operator: str, attributes: dict[str, Any]) -> None:
    x = X.copy()
    if operator == "Imputer":
        x[2, 1] = x[4, 2] = np.nan
    agrees(one(operator, attributes), x)


def test_linear_models_give_scores_and_labels() -> None:
    weights = [float(v) for v in RANDOM.standard_normal(9)]
    agrees(one("LinearRegressor", {"coefficients": weights[:6], "targets": 2, "intercepts": [1.0, 2.0]}, "f32[7,2]"), X)
    for transform in ("NONE", "SOFTMAX", "LOGISTIC"):
        settings = {"coefficients": weights, "intercepts": [0.1, 0.2, 0.3], "post_transform": transform}
        nodes = [node("label, y = ai.onnx.ml.LinearClassifier(x)", **settings, classlabels_ints=[5, 7, 9])]
        agrees(model(nodes, {"x": "f32[7,3]"}, {"label": "i64[7]", "y": "f32[7,3]"}, opset=17, ai_onnx_ml=3), X)


def test_strings_and_integers_become_columns_of_zeros_and_ones() -> None:
    nodes = [node("y = ai.onnx.ml.OneHotEncoder(x)", cats_int64s=[3, 1, 2])]
    proto = model(nodes, {"x": "i64[4]"}, {"y": "f32[4,3]"}, opset=17, ai_onnx_ml=3)
    agrees(proto, np.array([1, 2, 9, 3]))


def trees(prefix: str) -> dict[str, Any]:
    """Two trees: one of three levels and every kind of comparison in turn, one of a single leaf."""
    return {
        "nodes_treeids": [0, 0, 0, 0, 0, 1],
        "nodes_nodeids": [0, 1, 2, 3, 4, 0],
        "nodes_featureids": [1, 0, 0, 0, 0, 0],
        "nodes_values": [0.1, -0.2, 0.0, 0.0, 0.0, 0.0],
        "nodes_truenodeids": [1, 3, 0, 0, 0, 0],
        "nodes_falsenodeids": [2, 4, 0, 0, 0, 0],
        "nodes_missing_value_tracks_true": [1, 0, 0, 0, 0, 0],
        f"{prefix}_treeids": [0, 0, 0, 0, 1],
        f"{prefix}_nodeids": [2, 3, 3, 4, 0],
        f"{prefix}_ids": [0, 1, 2, 2, 1],
        f"{prefix}_weights": [1.0, -2.0, 0.5, 3.0, 0.25],
    }


@pytest.mark.parametrize("mode", ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"])
def test_a_row_goes_down_each_tree_by_its_comparisons(mode: str) -> None:
    x = X.copy()
    x[0, 1], x[1, 1], x[2, 0] = 0.1, np.nan, -0.2
    modes = [mode, mode, "LEAF", "LEAF", "LEAF", "LEAF"]
    settings = {**trees("target"), "nodes_modes": modes, "n_targets": 3}
    agrees(one("TreeEnsembleRegressor", settings), x)
    agrees(one("TreeEnsembleRegressor", {**settings, "aggregate_function": "AVERAGE"}), x)


def test_base_values_are_added_to_what_the_trees_say() -> None:
    modes = ["BRANCH_LEQ", "BRANCH_LEQ", "LEAF", "LEAF", "LEAF", "LEAF"]
    weights = {"target_treeids": [0, 0, 0, 1], "target_nodeids": [2, 3, 4, 0], "target_weights": [1.0, -2.0, 0.5, 3.0]}
    settings = {**trees("target"), **weights, "target_ids": [0] * 4, "n_targets": 1, "nodes_modes": modes}
    settings["base_values"] = [1.5]
    agrees(one("TreeEnsembleRegressor", settings, "f32[7,1]"), X)
    with pytest.raises(ImportRefused, match="a mean and base values"):  # before or after it is divided: read both ways
        imported(one("TreeEnsembleRegressor", {**settings, "aggregate_function": "AVERAGE"}, "f32[7,1]"))


def test_two_weights_of_a_leaf_for_one_target_are_not_written() -> None:
    settings = {
        **trees("target"),
        "target_ids": [0] * 5,
        "n_targets": 1,
        "nodes_modes": ["BRANCH_LEQ"] * 2 + ["LEAF"] * 4,
    }
    graph = imported(one("TreeEnsembleRegressor", settings, "f32[7,1]"))
    with pytest.raises(EmitRefused, match="ONNX Runtime reads the first alone"):
        to_model_proto(graph)


def test_the_class_of_the_largest_sum_is_the_label() -> None:
    modes = ["BRANCH_LEQ", "BRANCH_LEQ", "LEAF", "LEAF", "LEAF", "LEAF"]
    for transform in ("NONE", "SOFTMAX"):
        settings = {**trees("class"), "nodes_modes": modes, "post_transform": transform}
        nodes = [
            node("label, y = ai.onnx.ml.TreeEnsembleClassifier(x)", **settings, classlabels_strings=["a", "b", "c"])
        ]
        outputs = {"label": "string[7]", "y": "f32[7,3]"}
        agrees(model(nodes, {"x": "f32[7,3]"}, outputs, opset=17, ai_onnx_ml=3), X)


def test_two_classes_by_the_weights_of_one_are_refused() -> None:
    modes = ["BRANCH_LEQ", "BRANCH_LEQ", "LEAF", "LEAF", "LEAF", "LEAF"]
    settings = {**trees("class"), "class_ids": [0] * 5, "nodes_modes": modes, "classlabels_int64s": [0, 1]}
    nodes = [node("label, y = ai.onnx.ml.TreeEnsembleClassifier(x)", **settings)]
    with pytest.raises(ImportRefused, match="two classes by the weights of one"):
        imported(model(nodes, {"x": "f32[7,3]"}, {"label": "i64[7]", "y": "f32[7,2]"}, opset=17, ai_onnx_ml=3))
