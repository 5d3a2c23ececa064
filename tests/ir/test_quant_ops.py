"""Quantisation: rounding, saturation and scales per tensor, axis and block, judged by ONNX's reference and by hand."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dragoman.ir.arithmetic import NATIVE
from dragoman.ir.builder import make, trace
from dragoman.ir.interpreter import run
from dragoman.ir.op import REGISTRY
from dragoman.ir.ops.quant import QUANTISED, limits
from dragoman.ir.types import F8E4M3FN, F8E5M2, F32, I4, I8, I16, I32, U4, U8, U16, DType, TensorType, dtype_of
from tests.ir.one_op import apply, infer, refusal

RANDOM = np.random.default_rng()


@pytest.fixture(autouse=True)
def each_test_draws_the_same_numbers() -> None:
    RANDOM.bit_generator.state = np.random.default_rng(13).bit_generator.state


INTEGERS = (I4, I8, I16, U4, U8, U16)
FLOATS = (F8E4M3FN, F8E5M2)


def onnx_reference(operator: str, *arrays: Any, **attributes: Any) -> Any:
    """The one result of an operator in ONNX's reference evaluator."""
    pytest.importorskip("onnx")
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    names = [f"x{i}" for i in range(len(arrays))]
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in zip(names, arrays, strict=True)
    ]
    node = helper.make_node(operator, names, ["y"], **attributes)
    graph = helper.make_graph([node], "", inputs, [helper.make_tensor_value_info("y", 1, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)])
    return ReferenceEvaluator(model).run(None, dict(zip(names, arrays, strict=True)))[0]


def decomposed(name: str, *arrays: Any, **attributes: Any) -> Any:
    """The value of an op's decomposition, each node rounding to its declared type."""

    def build(b: Any, *values: Any) -> Any:
        return make(REGISTRY[name], attributes).decompose(b, *values)

    return run(trace(build, *(TensorType(dtype_of(a), a.shape) for a in arrays)), *arrays, arithmetic=NATIVE)[0]


def both(name: str, *arrays: Any, **attributes: Any) -> Any:
    """The native value of an op, which its decomposition must give too."""
    value = apply(name, *arrays, arithmetic=NATIVE, **attributes)
    spelled = decomposed(name, *arrays, **attributes)
    assert spelled.dtype == value.dtype
    assert np.array_equal(spelled.astype(np.float64), value.astype(np.float64), equal_nan=True)
    return value


def numbers(array: Any) -> list[float]:
    return np.asarray(array).astype(np.float64).reshape(-1).tolist()


# ---- types ----------------------------------------------------------------------------------------------


def test_scales_fit_a_tensor_an_axis_or_blocks_of_an_axis() -> None:
    assert infer("quantize", "f32[b,3,s]", "f32[]", dtype=I8) == "i8[b,3,s]"
    assert infer("quantize", "f16[b,3,s]", "f16[3]", "u4[3]", dtype=U4) == "u4[b,3,s]"
    assert infer("quantize", "f32[b,s]", "f32[s]", axis=-1, dtype=F8E5M2) == "f8e5m2[b,s]"
    assert infer("quantize", "f32[b,s]", "f32[b,floordiv(s + 31, 32)]", axis=1, block=32, dtype=I4) == "i4[b,s]"
    assert infer("dequantize", "i4[64,h]", "f16[2,h]", "i4[2,h]", axis=0, block=32) == "f16[64,h]"
    assert infer("dequantize", "i32[b,3]", "f64[3]") == "f64[b,3]"


def test_what_does_not_fit_is_refused_with_what_would() -> None:
    assert "the scale has shape [4]; axis 1 wants [3]" in refusal("quantize", "f32[2,3]", "f32[4]", dtype=I8)
    assert "the scale has shape [b]; axis 1 wants [s]" in refusal("dequantize", "i8[b,s]", "f32[b]")
    assert "the scale has shape [2,4]; axis 1 wants [2,3]" in refusal(
        "quantize", "f32[2,8]", "f32[2,4]", block=3, dtype=I8
    )
    assert "the zero point has dtype u8, not i8" in refusal("quantize", "f32[2]", "f32[]", "u8[]", dtype=I8)
    assert "the zero point has shape [], the scale [3]" in refusal("dequantize", "i8[2,3]", "f32[3]", "i8[]")
    assert "f8e5m2 has no zero point" in refusal("quantize", "f32[2]", "f32[]", "f8e5m2[]", dtype=F8E5M2)
    assert "dtype=i32 is none of i2, i4, i8" in refusal("quantize", "f32[2]", "f32[]", dtype=I32)
    assert "x has dtype f32, none of" in refusal("dequantize", "f32[2]", "f32[]")
    assert "the scale has dtype i8" in refusal("dequantize", "i8[2]", "i8[]")
    assert "operands have dtypes f32 and f16" in refusal("quantize", "f32[2]", "f16[]", dtype=I8)
    assert "axis=1 is out of range for rank 1" in refusal("dequantize", "i8[2]", "f32[2]")


# ---- rounding and saturation ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [F32, "f16", "bf16"])
def test_halves_round_to_even(dtype: Any) -> None:
    numpy = {"f16": np.float16, "bf16": ml_dtypes.bfloat16}.get(dtype, np.float32)
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 0.4999, 0.5001]).astype(numpy)
    one = np.array(1.0).astype(numpy)
    assert numbers(both("quantize", x, one, dtype=I8))[:7] == [-2, -2, 0, 0, 2, 2, 4]
    # The zero point is added after rounding: an odd one does not move the halves to odd.
    assert numbers(both("quantize", x, one, np.array(1, np.int8), dtype=I8))[:7] == [-1, -1, 1, 1, 3, 3, 5]


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integers_saturate_at_their_limits(dtype: DType) -> None:
    low, high = limits(dtype)
    x = np.array([low - 0.4, low - 0.6, low - 1e6, high + 0.4, high + 0.6, high + 1e6, -np.inf, np.inf], np.float32)
    result = both("quantize", x, np.array(1.0, np.float32), dtype=dtype)
    assert result.dtype == dtype.numpy
    assert numbers(result) == [low, low, low, high, high, high, low, high]
    # The sum with the zero point saturates, not each part.
    shifted = both("quantize", np.array([-5.0, 5.0, -1e9], np.float32), np.float32(1), dtype.numpy.type(4), dtype=dtype)
    assert numbers(shifted) == [max(-1, low), min(9, high), low]


def test_the_limits_are_those_of_the_types() -> None:
    assert [limits(d) for d in QUANTISED] == [
        *((-2, 1), (-8, 7), (-128, 127), (-32768, 32767), (0, 3), (0, 15), (0, 255), (0, 65535)),
        *((-448, 448), (-57344, 57344)),
    ]


@pytest.mark.parametrize(("dtype", "largest"), [(F8E4M3FN, 448.0), (F8E5M2, 57344.0)], ids=str)
def test_float8_saturates_keeps_nan_and_rounds_to_even(dtype: DType, largest: float) -> None:
    x = np.array([1e6, -1e6, np.inf, -np.inf, np.nan, 0.0], np.float32)
    result = both("quantize", x, np.array(1.0, np.float32), dtype=dtype).astype(np.float32)
    assert result.tolist()[:4] == [largest, -largest, largest, -largest]
    assert np.isnan(result[4])
    assert result[5] == 0
    # Midway between 1 and its successor goes to 1, midway to the next but one to the even one.
    step = 0.125 if dtype is F8E4M3FN else 0.25
    halves = np.array([1 + step / 2, 1 + 1.5 * step], np.float32)
    assert numbers(both("quantize", halves, np.array(1.0, np.float32), dtype=dtype)) == [1, 1 + 2 * step]


# ---- against ONNX's reference ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS], ids=str)
@pytest.mark.parametrize("axis", [None, 1, 2])
def test_quantize_agrees_with_onnx_s_reference(dtype: DType, axis: int | None) -> None:
    low, high = limits(dtype)
    x = RANDOM.normal(size=(2, 3, 4)).astype(np.float32) * 5
    shape = () if axis is None else (x.shape[axis],)
    scale = (RANDOM.uniform(8, 24, shape) / (high - low)).astype(np.float32)
    if dtype.is_float:
        zero = np.zeros(shape, dtype.numpy)
        ours = both("quantize", x, scale, axis=1 if axis is None else axis, dtype=dtype)
    else:
        zero = RANDOM.integers(low // 2, high // 2 + 1, shape).astype(dtype.numpy)
        ours = both("quantize", x, scale, zero, axis=1 if axis is None else axis, dtype=dtype)
    theirs = onnx_reference("QuantizeLinear", x, scale, zero, axis=1 if axis is None else axis)
    assert theirs.dtype == ours.dtype == dtype.numpy
    assert numbers(ours) == numbers(theirs)
    assert len(set(numbers(ours))) > 5


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS, I32], ids=str)
@pytest.mark.parametrize("axis", [None, 0, 2])
def test_dequantize_agrees_with_onnx_s_reference(dtype: DType, axis: int | None) -> None:
    low, high = limits(dtype) if dtype is not I32 else (-1000, 1000)
    if dtype.is_float:
        x = RANDOM.normal(size=(2, 3, 4)).astype(dtype.numpy)
    else:
        x = RANDOM.integers(low, high + 1, (2, 3, 4)).astype(dtype.numpy)
    shape = () if axis is None else (x.shape[axis],)
    scale = RANDOM.uniform(0.1, 0.9, shape).astype(np.float32)
    operands = [x, scale]
    if dtype in INTEGERS:
        operands.append(RANDOM.integers(low, high + 1, shape).astype(dtype.numpy))
    ours = both("dequantize", *operands, axis=1 if axis is None else axis)
    theirs = onnx_reference("DequantizeLinear", *operands, axis=1 if axis is None else axis)
    assert ours.dtype == np.float32
    assert numbers(ours) == numbers(theirs)


@pytest.mark.parametrize("name", ["quantize", "dequantize"])
def test_blocks_agree_with_onnx_s_reference(name: str) -> None:
    scale = RANDOM.uniform(0.05, 0.2, (2, 3, 2)).astype(np.float32)
    zero = RANDOM.integers(-8, 8, (2, 3, 2)).astype(np.int8)
    if name == "quantize":
        x = RANDOM.normal(size=(2, 6, 2)).astype(np.float32) * 9
        ours = both("quantize", x, scale, zero, axis=1, block=2, dtype=I8)
        theirs = onnx_reference("QuantizeLinear", x, scale, zero, axis=1, block_size=2)
    else:
        x = RANDOM.integers(-128, 128, (2, 6, 2)).astype(np.int8)
        ours = both("dequantize", x, scale, zero, axis=1, block=2)
        theirs = onnx_reference("DequantizeLinear", x, scale, zero, axis=1, block_size=2)
    assert numbers(ours) == numbers(theirs)


def test_the_last_block_may_be_shorter() -> None:
    x = np.arange(1, 6, dtype=np.int8)
    ours = both("dequantize", x, np.array([1.0, 10.0, 100.0], np.float32), axis=0, block=2)
    assert ours.tolist() == [1, 2, 30, 40, 500]
    back = both("quantize", ours, np.array([1.0, 10.0, 100.0], np.float32), axis=0, block=2, dtype=I8)
    assert back.tolist() == x.tolist()


# ---- precision ------------------------------------------------------------------------------------------


def test_half_precision_quantises_in_single() -> None:
    # 32050 has more bits than f16 holds; in f32 every integer is exact.
    x = np.array([2049.0, 4100.0, -2051.0], np.float16)
    one, zero = np.array(1.0, np.float16), np.array(30001, np.int16)
    expected = (x.astype(np.float64) + 30001).clip(-32768, 32767).tolist()
    assert numbers(both("quantize", x, one, zero, dtype=I16)) == expected


def test_a_difference_of_extreme_integers_does_not_overflow() -> None:
    for dtype, low, high in ((I8, -128, 127), (U8, 0, 255), (I4, -8, 7), (U16, 0, 65535)):
        x, zero = np.array([low, high]).astype(dtype.numpy), np.array(high).astype(dtype.numpy)
        assert both("dequantize", x, np.array(1.0, np.float32), zero).tolist() == [low - high, 0]


def test_dequantized_halves_are_rounded_once() -> None:
    # 2049 and 4099 are no f16 numbers: the product is computed in f32.
    x, zero = np.array([2048, 4098, -128], np.int16), np.array(-1, np.int16)
    scale = np.array(0.3, np.float16)
    expected = (np.array([2049.0, 4099.0, -127.0]) * np.float64(scale)).astype(np.float16)
    assert numbers(both("dequantize", x, scale, zero)) == numbers(expected)


def test_quantize_then_dequantize_is_off_by_half_a_step_at_most() -> None:
    x = RANDOM.uniform(-10, 10, (3, 50))
    scale = np.array([10 / 127, 20 / 127, 40 / 127])
    level = apply("quantize", x, scale, axis=0, dtype=I8)
    back = apply("dequantize", level, scale, axis=0)
    assert np.all(np.abs(back - x) <= scale[:, None] / 2 * (1 + 1e-12))
    assert np.max(np.abs(back - x)[2]) > scale[1] / 2
