"""What the standard says of extremes: bounds left out, saturation, windows of even size, constants of 64 bits."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnx.helper

from dragoman.ir.arithmetic import NATIVE
from dragoman.ir.interpreter import run
from tests.frontends.onnx.models import check, imported, model, node


def test_a_bound_that_clip_of_opset_6_leaves_out_is_the_largest_number_of_f32() -> None:
    proto = model([node("y = Clip(x)", min=0.0)], {"x": "f32[3]"}, {"y": "f32[3]"}, opset=7)
    largest = np.float32(np.finfo(np.float32).max)
    check(proto, np.array([np.inf, -np.inf, 2], np.float32), expected=[np.array([largest, 0, 2], np.float32)])


def test_integers_beyond_a_narrow_float_saturate() -> None:
    proto = model([node("y = Cast(x)", to=onnx.TensorProto.FLOAT8E4M3FN)], {"x": "i32[3]"}, {"y": "f32[3]"}, opset=19)
    proto.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT8E4M3FN
    (y,) = run(imported(proto), np.array([1000, -(2**30), 3], np.int32), arithmetic=NATIVE)
    assert y.dtype == ml_dtypes.float8_e4m3fn
    assert y.astype(np.float32).tolist() == [448, -448, 3]


def test_the_statistics_of_a_layer_norm_have_the_dtype_they_are_stashed_in() -> None:
    nodes = [node("y, m, s = LayerNormalization(x, w)", axis=-1)]
    proto = model(nodes, {"x": "f64[2,4]", "w": "f64[4]"}, {"y": "f64[2,4]", "m": "f32[2,1]", "s": "f32[2,1]"})
    x = np.random.default_rng(0).standard_normal((2, 4))
    _, mean, _ = run(imported(proto), x, np.ones(4), arithmetic=NATIVE)
    assert mean.dtype == np.float32
    np.testing.assert_allclose(mean, x.mean(1, keepdims=True), rtol=1e-6)


def test_a_window_of_an_even_number_of_channels_has_one_more_after_its_own() -> None:
    proto = model([node("y = LRN(x)", size=2, alpha=1.0, beta=1.0, bias=1.0)], {"x": "f32[1,3,1,1]"}, {"y": "f32[,,,]"})
    x = np.array([1, 2, 3], np.float32).reshape(1, 3, 1, 1)
    # Channel c with c + 1: sums of squares are 5, 13 and 9.
    expected = x / (1 + np.array([5, 13, 9], np.float32).reshape(1, 3, 1, 1) / 2)
    check(proto, x, expected=[expected])


def test_padding_with_an_integer_that_no_float_is_keeps_it() -> None:
    fill = 2**62 + 1
    nodes = [node("y = Pad(x, amounts, fill)")]
    weights = {"amounts": np.array([1, 0]), "fill": np.array(fill)}
    proto = model(nodes, {"x": "i64[1]"}, {"y": "i64[2]"}, weights)
    (y,) = run(imported(proto), np.array([7]), arithmetic=NATIVE)
    assert y.tolist() == [fill, 7]


def test_a_scale_of_one_element_is_for_the_whole_vector() -> None:
    nodes = [node("y = QuantizeLinear(x, scale, zero)"), node("z = DequantizeLinear(y, scale, zero)")]
    weights = {"scale": np.array([0.5], np.float32), "zero": np.array([3], np.uint8)}
    proto = model(nodes, {"x": "f32[4]"}, {"z": "f32[4]"}, weights)
    check(proto, np.array([0, 1, 1.6, 200], np.float32), expected=[np.array([0, 1, 1.5, 126], np.float32)])


def test_resize_of_opset_10_takes_the_next_place_where_an_image_shrinks() -> None:
    nodes = [node("y = Resize(x, scales)", mode="nearest")]
    weights = {"scales": np.array([1, 1, 2.0, 0.6], np.float32)}
    proto = model(nodes, {"x": "f32[1,1,2,4]"}, {"y": "f32[1,1,4,2]"}, weights, opset=10)
    x = np.arange(1, 9, dtype=np.float32).reshape(1, 1, 2, 4)
    expected = np.array([[1, 3], [1, 3], [5, 7], [5, 7]], np.float32).reshape(1, 1, 4, 2)
    check(proto, x, expected=[expected])
