"""Transforms, filter banks, windows put back, recurrent layers beyond the usual, sets in trees, inputs that are fixed."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import pytest

from dragoman.frontends.onnx import import_model
from dragoman.ir.arithmetic import NATIVE
from dragoman.ir.errors import ImportRefused, UsageError
from dragoman.ir.interpreter import run
from tests.frontends.onnx.models import check, imported, model, names_of, node

RANDOM = np.random.default_rng(1)


def random(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "flags"),
    [
        ((2, 6, 1), {}),
        ((2, 5, 2), {"inverse": 1}),
        ((2, 7, 1), {"onesided": 1}),
        ((2, 4, 2), {"inverse": 1, "onesided": 1}),
    ],
)
def test_a_transform_of_pairs(shape: tuple[int, ...], flags: dict[str, int]) -> None:
    found = check(
        model([node("y = DFT(x)", **flags)], {"x": "f32[" + ",".join(map(str, shape)) + "]"}, {"y": "f32[,,]"}),
        random(*shape),
    )
    assert "dft" in names_of(found)


def test_a_transform_of_more_terms_than_there_are_is_of_zeros_too() -> None:
    nodes = [node("y = DFT(x, size)")]
    check(model(nodes, {"x": "f32[2,5,1]"}, {"y": "f32[,,]"}, {"size": np.array(8)}), random(2, 5, 1))
    check(model(nodes, {"x": "f32[2,5,1]"}, {"y": "f32[,,]"}, {"size": np.array(3)}), random(2, 5, 1))


def test_frames_are_windowed_and_transformed() -> None:
    weights = {"step": np.array(3), "w": np.hanning(8).astype(np.float32)}
    check(
        model([node("y = STFT(x, step, w)")], {"x": "f32[2,30,1]"}, {"y": "f32[,,,]"}, weights),
        random(2, 30, 1),
        rtol=1e-4,
    )


def test_a_mel_filter_bank_is_made_of_numbers_that_only_a_run_tells() -> None:
    names = ("bins", "size", "rate", "low", "high")
    proto = model(
        [node(f"y = MelWeightMatrix({', '.join(names)})")],
        {"bins": "i64", "size": "i64", "rate": "i64", "low": "f32", "high": "f32"},
        {"y": "f32[,]"},
    )
    numbers = [np.array(8), np.array(64), np.array(8192), np.array(20.0, np.float32), np.array(4000.0, np.float32)]
    check(proto, *numbers)


def test_columns_are_added_to_their_windows() -> None:
    settings = {"strides": [2, 1], "pads": [1, 0, 1, 1], "dilations": [1, 2]}
    weights = {"image": np.array([6, 5]), "block": np.array([2, 2])}
    proto = model([node("y = Col2Im(x, image, block)", **settings)], {"x": "f32[2,8,16]"}, {"y": "f32[,,,]"}, weights)
    check(proto, random(2, 8, 16))


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_a_part_of_the_input_is_resized_and_what_lies_outside_is_filled(mode: str) -> None:
    settings = {"mode": mode, "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 9.0}
    nodes = [node("y = Resize(x, roi, _, sizes)", axes=[2, 3], **settings)]
    proto = model(nodes, {"x": "f32[1,2,5,6]", "roi": "f32[4]"}, {"y": "f32[,,,]"}, {"sizes": np.array([3, 4])})
    check(proto, random(1, 2, 5, 6), np.array([0.2, -0.3, 0.8, 1.1], np.float32), rtol=1e-4)


def _lstm_inputs() -> dict[str, np.ndarray]:
    return {"w": random(2, 12, 4), "r": random(2, 12, 3), "b": random(2, 24), "p": random(2, 9)}


def test_peepholes_look_at_the_cell_before_and_after() -> None:
    weights = {name: value[:1] for name, value in _lstm_inputs().items()}
    proto = model(
        [node("_, y = LSTM(x, w, r, b, _, _, _, p)", hidden_size=3)], {"x": "f32[5,2,4]"}, {"y": "f32[,,]"}, weights
    )
    assert "scan" in names_of(check(proto, random(5, 2, 4)))


@pytest.mark.parametrize(("operator", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_the_usual_activations_spelled_as_a_scan_give_the_layer(operator: str, gates: int) -> None:
    """A clip that nothing reaches makes the cell a scan, in both directions, with lengths."""
    weights = {"w": random(2, 3 * gates, 4), "r": random(2, 3 * gates, 3), "b": random(2, 6 * gates)}
    weights["n"] = np.array([5, 3], np.int32)
    settings: dict[str, Any] = {"hidden_size": 3, "direction": "bidirectional"}
    x = random(5, 2, 4)
    results = []
    for more in ({}, {"clip": 1e4}):
        proto = model(
            [node(f"y, z = {operator}(x, w, r, b, n)", **settings, **more)],
            {"x": "f32[5,2,4]"},
            {"y": "f32[,,,]", "z": "f32[,,]"},
            weights,
        )
        results.append(run(imported(proto), x))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-12)


def test_other_activations_take_their_numbers_in_order() -> None:
    weights = {"w": random(1, 3, 4), "r": np.zeros((1, 3, 3), np.float32)}
    proto = model(
        [
            node(
                "y = RNN(x, w, r)",
                hidden_size=3,
                activations=["ScaledTanh"],
                activation_alpha=[2.0],
                activation_beta=[0.5],
            )
        ],
        {"x": "f32[1,2,4]"},
        {"y": "f32[,,,]"},
        weights,
    )
    x = random(1, 2, 4)
    (y,) = run(imported(proto), x)
    np.testing.assert_allclose(y[0, 0], 2 * np.tanh(0.5 * (x[0].astype(float) @ weights["w"][0].T)), rtol=1e-6)


def test_gates_that_are_coupled_sum_to_one() -> None:
    weights = {"w": random(1, 12, 4), "r": np.zeros((1, 12, 3), np.float32)}
    proto = model(
        [node("_, _, c = LSTM(x, w, r, _, _, _, c0)", hidden_size=3, input_forget=1)],
        {"x": "f32[1,2,4]", "c0": "f32[1,2,3]"},
        {"c": "f32[,,]"},
        weights,
    )
    x, c0 = random(1, 2, 4), random(1, 2, 3)
    whole = x[0].astype(float) @ weights["w"][0].T
    i, new = 1 / (1 + np.exp(-whole[:, :3])), np.tanh(whole[:, 9:])
    (c,) = run(imported(proto), x, c0)
    np.testing.assert_allclose(c[0], (1 - i) * c0[0] + i * new, rtol=1e-6)


def test_a_tree_asks_for_members_of_a_set() -> None:
    array = onnx.numpy_helper.from_array
    settings = {
        "n_targets": 1,
        "tree_roots": [0],
        "nodes_modes": array(np.array([6, 0], np.uint8)),
        "nodes_featureids": [0, 1],
        "nodes_splits": array(np.array([0.0, 0.5], np.float32)),
        "nodes_truenodeids": [1, 1],
        "nodes_trueleafs": [0, 1],
        "nodes_falsenodeids": [0, 2],
        "nodes_falseleafs": [1, 1],
        "leaf_targetids": [0, 0, 0],
        "leaf_weights": array(np.array([1.0, 10.0, 100.0], np.float32)),
        "membership_values": array(np.array([2.0, 5.0, 7.0, np.nan], np.float32)),
    }
    proto = model(
        [node("y = ai.onnx.ml.TreeEnsemble(x)", **settings)], {"x": "f32[4,2]"}, {"y": "f32[,]"}, ai_onnx_ml=5
    )
    check(proto, np.array([[2, 0], [7, 1], [3, 0], [5, 0.5]], np.float32))


def test_scales_of_blocks_are_powers_of_two() -> None:
    proto = model([node("y = Cast(x)", to=24, round_mode="up")], {"x": "f32[4]"}, {"y": "f32[4]"}, opset=24)
    proto.graph.output[0].type.tensor_type.elem_type = 24
    (y,) = run(imported(proto), np.array([1.0, 1.1, 3.0, 0.2], np.float32), arithmetic=NATIVE)
    assert y.astype(np.float32).tolist() == [1.0, 2.0, 4.0, 0.25]


def _turns() -> onnx.ModelProto:
    """A sequence that grows by one tensor with every turn of a loop."""
    body = onnx.helper.make_graph(
        [node("one = Add(i, i)"), node("out = SequenceInsert(seq, one)"), node("go = Identity(c)")],
        "body",
        [
            onnx.helper.make_tensor_value_info("i", 7, []),
            onnx.helper.make_tensor_value_info("c", 9, []),
            onnx.helper.make_tensor_sequence_value_info("seq", 7, []),
        ],
        [onnx.helper.make_tensor_value_info("go", 9, []), onnx.helper.make_tensor_sequence_value_info("out", 7, [])],
    )
    nodes = [node("empty = SequenceEmpty()", dtype=7), node("all = Loop(n, go_on, empty)", body=body)]
    return model(
        [*nodes, node("y = ConcatFromSequence(all)", axis=0, new_axis=1)],
        {"n": "i64", "go_on": "bool"},
        {"y": "i64[k]"},
    )


def test_an_input_that_decides_the_length_of_a_sequence_may_be_fixed() -> None:
    proto = _turns()
    with pytest.raises(ImportRefused, match="known only"):
        import_model(proto)
    found = imported(proto, held={"n": np.array(4), "go_on": np.array(True)})
    assert not found.inputs
    assert run(found)[0].tolist() == [0, 2, 4, 6]
    with pytest.raises(UsageError, match=r"'n' is i64\[\], not float64"):
        import_model(proto, held={"n": np.array(4.0)})


def test_branches_may_give_sequences_of_one_length() -> None:
    def branch(name: str, text: str) -> onnx.GraphProto:
        result = onnx.helper.make_tensor_sequence_value_info(name, 1, [2])
        return onnx.helper.make_graph([node(text)], name, [], [result])

    parts = {
        "then_branch": branch("t", "t = SequenceConstruct(x, z)"),
        "else_branch": branch("e", "e = SequenceConstruct(z, x)"),
    }
    nodes = [node("s = If(c)", **parts), node("first = Constant()", value_int=0), node("y = SequenceAt(s, first)")]
    proto = model(nodes, {"c": "bool", "x": "f32[2]", "z": "f32[2]"}, {"y": "f32[2]"})
    for condition in (True, False):
        check(proto, np.array(condition), random(2), random(2))


def _halving(limit: int) -> onnx.ModelProto:
    """A loop while a counter of its own is below a number, which gives a row with every turn."""
    body = onnx.helper.make_graph(
        [
            node("t2 = Add(t, one)"),
            node("go = Less(t2, most)"),
            node("h2 = Mul(h, half)"),
            node("part = Slice(h2, first, last)"),
        ],
        "body",
        [
            onnx.helper.make_tensor_value_info("i", 7, []),
            onnx.helper.make_tensor_value_info("c", 9, []),
            onnx.helper.make_tensor_value_info("t", 6, []),
            onnx.helper.make_tensor_value_info("h", 1, ["n"]),
        ],
        [onnx.helper.make_tensor_value_info(n, t, None) for n, t in (("go", 9), ("t2", 6), ("h2", 1), ("part", 1))],
        [
            onnx.numpy_helper.from_array(value, name)
            for name, value in {
                "one": np.array(1, np.int32),
                "half": np.array(0.5, np.float32),
                "first": np.array([0]),
                "last": np.array([2]),
            }.items()
        ],
    )
    return model(
        [node("_, h1, rows = Loop(_, yes, zero, h0)", body=body), node("y = Identity(rows)"), node("z = Identity(h1)")],
        {"h0": "f32[3]"},
        {"y": "f32[,]", "z": "f32[]"},
        {"yes": np.array(True), "zero": np.array(0, np.int32), "most": np.array(limit, np.int32)},
    )


@pytest.mark.parametrize("limit", [-3, 1, 5])
def test_turns_that_constants_decide_are_counted_while_importing(limit: int) -> None:
    found = check(_halving(limit), random(3))
    assert "while_loop" not in names_of(found)
    assert [str(v.type) for v in found.outputs] == [f"f32[{max(limit, 1)},2]", "f32[3]"]


def test_many_small_branches_are_never_taken_for_one_another() -> None:
    """Objects of protobuf come and go, and so do their addresses."""
    nodes: list[onnx.NodeProto] = [node("x0 = Identity(x)")]
    for i in range(200):
        operators = ("Neg", "Abs") if i % 2 else ("Abs", "Neg")
        parts = [
            onnx.helper.make_graph(
                [node(f"{side}{i} = {operator}(x{i})")],
                side,
                [],
                [onnx.helper.make_tensor_value_info(f"{side}{i}", 1, [2])],
            )
            for side, operator in zip("te", operators, strict=True)
        ]
        nodes.append(node(f"x{i + 1} = If(c)", then_branch=parts[0], else_branch=parts[1]))
    proto = onnx.ModelProto.FromString(
        model([*nodes, node("y = Identity(x200)")], {"x": "f32[2]", "c": "bool"}, {"y": "f32[2]"}).SerializeToString()
    )
    check(proto, random(2), np.array(True))
