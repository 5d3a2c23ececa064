"""Reading ONNX models: interfaces, dynamic dims, names, functions, versions, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import pytest

import dragoman
from dragoman.frontends.onnx import import_file, import_model, translates
from dragoman.inspection import inspect
from dragoman.ir.dims import Symbol
from dragoman.ir.errors import ImportRefused, Malformed, NotEquivalent, Unsupported, UsageError
from dragoman.ir.types import parse_type
from tests.frontends.onnx.models import check, imported, model, names_of, node

RANDOM = np.random.default_rng(0)


def random(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def test_names_of_inputs_outputs_and_weights_survive() -> None:
    found = imported(
        model([node("y/out = MatMul(x.1, w)")], {"x.1": "f32[2,3]"}, {"y/out": "f32[2,4]"}, {"w": random(3, 4)})
    )
    assert [v.name for v in found.inputs] == ["x.1"]
    assert found.output_names == ("y/out",)
    assert list(found.weights) == ["w"]


def test_dynamic_dims_are_symbols_and_a_nameless_one_gets_its_own() -> None:
    proto = model([node("y = Relu(x)")], {"x": "f32[batch,2*seq,?]"}, {"y": "f32[,,]"})
    proto.graph.input[0].type.tensor_type.shape.dim[2].Clear()
    (x,) = imported(proto).inputs
    assert str(x.type) == "f32[batch,2*seq,x_2]"


def test_a_dim_named_by_no_identifier_never_becomes_that_of_another() -> None:
    proto = model([node("y = Add(x, x)")], {"x": "f32[a b,a-b,a_b]"}, {"y": "f32[,,]"})
    (x,) = imported(proto).inputs
    assert len({str(d) for d in x.type.shape}) == 3


def test_an_expression_over_dims_that_have_names_is_one() -> None:
    proto = model(
        [node("y = Concat(p, x)", axis=1)],
        {"p": "f32[b,past]", "x": "f32[b,past + new]", "n": "f32[new]"},
        {"y": "f32[,]"},
    )
    assert str(imported(proto).outputs[0].type) == "f32[b,new + 2*past]"


def test_an_input_without_a_shape_asks_for_one() -> None:
    proto = model([node("y = Relu(x)")], {"x": "f32[2]"}, {"y": "f32[2]"})
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(UsageError, match=r"give --input x:f32\[dims\]"):
        import_model(proto)
    found = imported(proto, types={"x": parse_type("f32[n,3]")})
    assert str(found.outputs[0].type) == "f32[n,3]"


def test_a_fixed_dim_is_not_made_dynamic() -> None:
    proto = model([node("y = Relu(x)")], {"x": "f32[2,n]"}, {"y": "f32[2,n]"})
    with pytest.raises(UsageError, match="axis 0 of the model's input is fixed at 2"):
        import_model(proto, types={"x": parse_type("f32[batch,n]")})
    found = imported(proto, dynamic={"x": {1: Symbol("m", 1, 8)}})
    assert str(found.inputs[0].type) == "f32[2,m]"


def test_an_initializer_listed_as_an_input_is_a_weight() -> None:
    proto = model([node("y = Add(x, w)")], {"x": "f32[2]", "w": "f32[2]"}, {"y": "f32[2]"}, {"w": random(2)})
    found = imported(proto)
    assert [v.name for v in found.inputs] == ["x"]


def test_functions_are_written_out_with_their_attributes() -> None:
    scaled = onnx.helper.make_function(
        "own",
        "Scaled",
        ["x"],
        ["y"],
        [node("c = Constant()"), node("y = Mul(x, c)")],
        [onnx.helper.make_opsetid("", 21)],
        ["factor"],
    )
    scaled.node[0].attribute.append(onnx.AttributeProto(name="value_float", ref_attr_name="factor", type=1))
    proto = model([node("y = own.Scaled(x)", factor=3.0)], {"x": "f32[4]"}, {"y": "f32[4]"}, own=1)
    proto.functions.append(scaled)
    check(proto, random(4))


def test_an_operator_outside_the_table_is_written_out_as_onnx_defines_it() -> None:
    x, scores = random(2, 5), np.array([1, 3])
    nodes = [node("y = SoftmaxCrossEntropyLoss(x, l)", reduction="mean")]
    check(model(nodes, {"x": "f32[2,5]", "l": "i64[2]"}, {"y": "f32[]"}), x, scores)


def test_every_operator_without_translation_is_listed_at_once() -> None:
    nodes = [node("a = RandomNormalLike(x)"), node("b = own.Thing(x)"), node("c = own.Thing(b)"), node("y = Add(a, c)")]
    nodes[1].name = "/encoder/layer.0/Thing"
    with pytest.raises(ImportRefused) as refused:
        import_model(model(nodes, {"x": "f32[2]"}, {"y": "f32[2]"}, own=1))
    listed = {o.operator: (o.count, o.module, o.reason) for o in refused.value.occurrences}
    assert set(listed) == {"RandomNormalLike", "own.Thing"}
    assert listed["own.Thing"][:2] == (1, "encoder.layer.0")  # what only follows from a refusal is not one
    assert "own.Thing" in str(refused.value)


def test_a_translation_can_be_registered() -> None:
    translates("Twice", domain="own.test")(lambda c, n: c.b.add(n[0], n[0]))
    proto = model([node("y = own.test.Twice(x)")], {"x": "f32[2]"}, {"y": "f32[2]"}, own_test=1)
    assert names_of(imported(proto)) == ["add"]


def test_an_opset_that_is_too_new_is_refused_with_what_to_do() -> None:
    proto = model([node("y = Relu(x)")], {"x": "f32[2]"}, {"y": "f32[2]"})
    proto.opset_import[0].version = 999
    with pytest.raises(Unsupported, match="pip install --upgrade onnx"):
        import_model(proto)


def test_an_output_of_another_dtype_than_declared_is_malformed() -> None:
    with pytest.raises(Malformed, match="'y' is declared as i64"):
        import_model(model([node("y = Relu(x)")], {"x": "f32[2]"}, {"y": "i64[2]"}))


def test_provenance_is_read_from_names_and_metadata() -> None:
    first = node("a = Relu(x)")
    first.name = "/encoder/layer.3/Relu"
    second = node("y = Neg(a)")
    second.metadata_props.add(key="pkg.torch.onnx.name_scopes", value="['', 'head', 'head.fc', 'neg']")
    second.metadata_props.add(key="pkg.torch.onnx.stack_trace", value='File "/a/model.py", line 41, in forward')
    found = imported(model([first, second], {"x": "f32[2]"}, {"y": "f32[2]"}))
    (relu, neg) = [n.provenance for n in found]
    assert relu.module == "encoder.layer.3"
    assert (neg.module, neg.line) == ("head.fc", "model.py:41")


# ---- versions ------------------------------------------------------------------------------------------------


def test_softmax_flattens_before_opset_13() -> None:
    x = random(2, 3, 4)
    raised = np.exp(x)  # onnx's own reference evaluator forgets that
    expected = {11: raised / raised.sum((1, 2), keepdims=True), 13: raised / raised.sum(1, keepdims=True)}
    for opset, y in expected.items():
        proto = model([node("y = Softmax(x)", axis=1)], {"x": "f32[2,3,4]"}, {"y": "f32[2,3,4]"}, opset=opset)
        check(proto, x, expected=[y])


def test_slice_takes_attributes_before_opset_10() -> None:
    nodes = [node("y = Slice(x)", axes=[1, 0], starts=[1, -2], ends=[2**31 - 1, 3])]
    check(model(nodes, {"x": "f32[3,4]"}, {"y": "f32[2,3]"}, opset=9), random(3, 4))


def test_clip_takes_attributes_before_opset_11() -> None:
    nodes = [node("y = Clip(x)", min=-0.5, max=0.5)]
    check(model(nodes, {"x": "f32[3,4]"}, {"y": "f32[3,4]"}, opset=7), random(3, 4))


# ---- files ---------------------------------------------------------------------------------------------------


def test_a_file_is_converted_and_verified_against_onnx_runtime_on_the_original(tmp_path: Path) -> None:
    nodes = [node("a = Conv(x, w)", pads=[1, 1, 1, 1]), node("b = Sigmoid(a)"), node("y = Mul(a, b)")]
    proto = model(nodes, {"x": "f32[n,3,8,8]"}, {"y": "f32[n,4,8,8]"}, {"w": random(4, 3, 3, 3)})
    onnx.save(proto, tmp_path / "a.onnx")
    report = dragoman.convert(str(tmp_path / "a.onnx"), tmp_path / "b.onnx", opset=20)
    assert report.verdict is not None
    assert report.verdict.holds
    assert "imported graph in float64" in str(report)
    assert report.notes == ()
    assert names_of(import_file(tmp_path / "b.onnx").graph) == ["conv", "sigmoid", "mul"]


def test_a_model_in_memory_is_loaded_like_a_file() -> None:
    proto = model([node("y = Relu(x)")], {"x": "f32[2]"}, {"y": "f32[2]"})
    loaded = dragoman.load(proto)
    np.testing.assert_array_equal(loaded(np.array([-1.0, 2.0])), [0.0, 2.0])


def test_inspect_lists_what_an_onnx_file_holds(tmp_path: Path) -> None:
    onnx.save(
        model([node("y = MatMul(x, w)")], {"x": "f32[n,3]"}, {"y": "f32[n,4]"}, {"w": random(3, 4)}),
        tmp_path / "a.onnx",
    )
    text = str(inspect(str(tmp_path / "a.onnx")))
    for part in ("x: f32[n,3]", "y: f32[n,4]", "n: 1 or more", "1 tensors, 12 elements", "1  matmul"):
        assert part in text


def test_inspect_tells_the_opsets_and_operators_of_a_file_that_is_refused(tmp_path: Path) -> None:
    branch = onnx.helper.make_graph([node("t = Exp(x)")], "then", [], [onnx.helper.make_tensor_value_info("t", 1, [2])])
    other = onnx.helper.make_graph([node("e = Neg(x)")], "else", [], [onnx.helper.make_tensor_value_info("e", 1, [2])])
    nodes = [node("z = If(c)", then_branch=branch, else_branch=other), node("y = odd.Frobnicate(z, w)")]
    proto = model(nodes, {"x": "f32[2]", "c": "bool"}, {"y": "f32[k]"}, {"w": random(2, 3)}, odd=7)
    proto.producer_name = "a \x1b[31mtool"
    onnx.save(proto, tmp_path / "a.onnx")
    found = inspect(str(tmp_path / "a.onnx"))
    text = str(found)
    assert found.model is None
    for part in ("ai.onnx 21", "odd 7", "x: FLOAT[2]", "y: FLOAT[k]", "1 tensors, 6 elements"):
        assert part in text
    for part in ("1  If", "1  Exp", "1  odd.Frobnicate", "no translation into the IR"):
        assert part in text
    assert "\x1b" not in text


def test_a_wrong_reading_is_different_from_what_onnx_runtime_makes_of_the_original(tmp_path: Path) -> None:
    translates("Neg")(lambda c, n: n[0])
    try:
        onnx.save(model([node("y = Neg(x)")], {"x": "f32[4]"}, {"y": "f32[4]"}), tmp_path / "a.onnx")
        with pytest.raises(NotEquivalent):
            dragoman.convert(str(tmp_path / "a.onnx"), tmp_path / "b.onnx")
    finally:
        translates("Neg")(lambda c, n: c.b.neg(n[0]))
