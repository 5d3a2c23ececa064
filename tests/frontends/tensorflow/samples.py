"""Samples of every operator of TensorFlow that the table translates: arrays that become inputs, and what is fixed.

A sample is `(inputs, fixed)` for `tf.raw_ops`: arguments by name, arrays in `inputs` are computed by the model, the rest
is written into the graph. Lists of arrays are lists of inputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Sample = tuple[dict[str, Any], dict[str, Any]]
_RNG = np.random.default_rng(7)


def real(*shape: int, low: float = -2.0, high: float = 2.0) -> Any:
    """Numbers between two, none of them round."""
    return _RNG.uniform(low, high, shape).astype(np.float32)


def ints(*shape: int, low: int = -5, high: int = 6, dtype: Any = np.int32) -> Any:
    """Integers from low to high − 1."""
    return _RNG.integers(low, high, shape).astype(dtype)


def complexes(*shape: int) -> Any:
    """Complex numbers."""
    return (real(*shape) + 1j * real(*shape)).astype(np.complex64)


EDGES = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.5, -1.5, 2.5], np.float32)
SAMPLES: dict[str, list[Sample]] = {}


def _add(operators: str, *samples: Sample) -> None:
    for operator in operators.split():
        SAMPLES.setdefault(operator, []).extend(samples)


# ---- on elements ----------------------------------------------------------------------------------------

_add("Abs Neg Sign Square", ({"x": real(3, 4)}, {}), ({"x": ints(5)}, {}))
_add("Ceil Cos Cosh Erf Exp Expm1 Floor Rint Sigmoid Sin Sinh Tan Tanh Atan Asinh Erfc Round", ({"x": real(3, 4)}, {}))
_add("Round Rint", ({"x": np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], np.float32)}, {}))
_add("Log Log1p Rsqrt Sqrt Lgamma Digamma Inv Reciprocal", ({"x": real(3, 4, low=0.2)}, {}))
_add("Acosh", ({"x": real(3, 4, low=1.1, high=3.0)}, {}))
_add("Acos Asin Atanh Erfinv", ({"x": real(3, 4, low=-0.9, high=0.9)}, {}))
_add("Ndtri", ({"x": real(3, 4, low=0.1, high=0.9)}, {}))
_add("IsFinite IsInf IsNan Abs Sign", ({"x": EDGES}, {}))
_add("Relu", ({"features": EDGES}, {}), ({"features": ints(5)}, {}))
_add("Invert", ({"x": ints(5)}, {}), ({"x": ints(5, low=0, dtype=np.uint8)}, {}))
_add("LogicalNot", ({"x": ints(5, low=0, high=2, dtype=np.bool_)}, {}))
_add("Selu Softsign Softplus Elu Relu6", ({"features": real(3, 4) * 4}, {}))
_add("LeakyRelu", ({"features": real(3, 4)}, {"alpha": 0.3}))
_add("Softmax LogSoftmax", ({"logits": real(3, 4) * 3}, {}))
_add("Add AddV2 Sub Mul Maximum Minimum SquaredDifference", ({"x": real(3, 4), "y": real(4)}, {}))
_add("Add AddV2 Sub Mul Maximum Minimum SquaredDifference", ({"x": ints(3, 4), "y": ints(3, 1)}, {}))
_add("Div RealDiv Atan2 FloorDiv FloorMod TruncateMod", ({"x": real(3, 4) * 9, "y": real(4, low=0.5)}, {}))
_INTEGERS = {"x": np.array([7, -7, 7, -7, 0], np.int32), "y": np.array([2, 2, -2, -2, 3], np.int32)}
_add("Div FloorDiv FloorMod TruncateDiv TruncateMod", (_INTEGERS, {}))
_add("Div TruncateDiv FloorDiv", ({k: np.abs(v).astype(np.uint8) for k, v in _INTEGERS.items()}, {}))
_add("Pow", ({"x": real(3, 4, low=0.1), "y": real(4)}, {}), ({"x": ints(5), "y": ints(5, low=0, high=4)}, {}))
_add("BitwiseAnd BitwiseOr BitwiseXor", ({"x": ints(6), "y": ints(6)}, {}))
_add("LeftShift RightShift", ({"x": ints(6, low=-9, high=10), "y": ints(6, low=0, high=4)}, {}))
_add(
    "LeftShift RightShift",
    ({"x": ints(6, low=0, high=99, dtype=np.uint8), "y": ints(6, low=0, high=4, dtype=np.uint8)}, {}),
)
_add("Equal NotEqual Greater GreaterEqual Less LessEqual", ({"x": ints(3, 4), "y": ints(4)}, {}))
_add("Equal NotEqual Greater GreaterEqual Less LessEqual", ({"x": EDGES, "y": EDGES[::-1].copy()}, {}))
_BITS = {"x": np.array([True, True, False, False]), "y": np.array([True, False, True, False])}
_add("LogicalAnd LogicalOr", (_BITS, {}))
_add("Complex", ({"real": real(3), "imag": real(3)}, {}))
_add("Real Imag Conj", ({"input": complexes(3)}, {}))
_add("Angle", ({"input": complexes(3)}, {}))
_add("ComplexAbs", ({"x": complexes(3)}, {}))
_add("Identity Snapshot StopGradient PreventGradient", ({"input": real(3)}, {}))
_add("CheckNumerics", ({"tensor": real(3)}, {"message": "odd"}))
_add("EnsureShape", ({"input": real(3, 4)}, {"shape": (None, 4)}))
_add("PlaceholderWithDefault", ({"input": real(3, 4)}, {"shape": (None, 4)}))
_add("IdentityN", ({"input": [real(3), ints(2)]}, {}))
_add("Cast", ({"x": real(3, 4) * 3}, {"DstT": np.int32}), ({"x": ints(5)}, {"DstT": np.float16}))
_add("Cast", ({"x": real(4)}, {"DstT": np.bool_}), ({"x": complexes(4)}, {"DstT": np.float32}))
_add("Cast", ({"x": ints(6, low=-300, high=300)}, {"DstT": np.uint8}), ({"x": ints(3, low=0)}, {"DstT": np.complex64}))
_ZEROS = {"x": np.array([1.5, 0, -2, np.inf], np.float32), "y": np.array([0, 0, 4, 0], np.float32)}
_add("DivNoNan MulNoNan Xdivy Xlogy", (_ZEROS, {}), ({"x": real(3, 4), "y": real(4, low=0.5)}, {}))
_add("SelectV2", ({"condition": np.array([[True], [False]]), "t": real(2, 3), "e": real(3)}, {}))
_add("Select", ({"condition": np.array([True, False]), "x": real(2, 3), "y": real(2, 3)}, {}))
_add("Select", ({"condition": np.array([[True, False]]), "x": real(1, 2), "y": real(1, 2)}, {}))
_add("ClipByValue", ({"t": real(3, 4)}, {"clip_value_min": np.float32(-0.5), "clip_value_max": np.float32(1)}))
_add("AddN", ({"inputs": [real(3), real(3), real(3)]}, {}), ({"inputs": [real(3)]}, {}))
_add("ApproximateEqual", ({"x": real(5), "y": real(5)}, {"tolerance": 0.7}))

# ---- shapes ---------------------------------------------------------------------------------------------

_add("Reshape", ({"tensor": real(3, 4)}, {"shape": [2, -1]}), ({"tensor": real(1)}, {"shape": []}))
_add("ExpandDims", ({"input": real(3, 4)}, {"axis": -1}), ({"input": real(3, 4)}, {"axis": 0}))
_add("Squeeze", ({"input": real(1, 3, 1)}, {"axis": [-1]}), ({"input": real(1, 3, 1)}, {"axis": []}))
_add("Transpose", ({"x": real(2, 3, 4)}, {"perm": [2, 0, 1]}))
_add("ConcatV2", ({"values": [real(2, 3), real(2, 1)]}, {"axis": -1}))
_add("Pack", ({"values": [real(2, 3), real(2, 3)]}, {"axis": -1}))
_add("Unpack", ({"value": real(3, 2)}, {"num": 2, "axis": -1}))
_add("Split", ({"value": real(2, 6)}, {"axis": -1, "num_split": 3}))
_add("SplitV", ({"value": real(2, 6)}, {"size_splits": [1, -1, 2], "axis": 1, "num_split": 3}))
_add("Tile", ({"input": real(2, 3)}, {"multiples": [2, 3]}))
_add("BroadcastTo", ({"input": real(3, 1)}, {"shape": [2, 3, 4]}))
_add(
    "ReverseV2", ({"tensor": real(2, 3)}, {"axis": [-1, 0]}), ({"tensor": real(2, 3)}, {"axis": np.zeros(0, np.int32)})
)
_add("Roll", ({"input": real(3, 4)}, {"shift": [1, -2], "axis": [0, 1]}))
_add("Pad", ({"input": real(2, 3)}, {"paddings": [[1, 0], [2, 3]]}), ({"input": ints(3)}, {"paddings": [[1, 2]]}))
_add("PadV2", ({"input": real(2, 3)}, {"paddings": [[1, 0], [2, 3]], "constant_values": np.float32(-7)}))
_add("PadV2", ({"input": ints(3, dtype=np.int64)}, {"paddings": [[1, 2]], "constant_values": np.int64(2**53)}))
_add("MirrorPad", ({"input": real(3, 4)}, {"paddings": [[1, 2], [0, 3]], "mode": "REFLECT"}))
_add("MirrorPad", ({"input": real(3, 4)}, {"paddings": [[1, 3], [0, 4]], "mode": "SYMMETRIC"}))
_add("DepthToSpace", ({"input": real(2, 2, 3, 8)}, {"block_size": 2}))
_add("SpaceToDepth", ({"input": real(2, 4, 6, 2)}, {"block_size": 2}))
_add("MatrixBandPart", ({"input": real(2, 4, 5)}, {"num_lower": 1, "num_upper": 2}))
_add("MatrixBandPart", ({"input": real(4, 5)}, {"num_lower": -1, "num_upper": 0}))
_add("MatrixBandPart", ({"input": real(4, 5)}, {"num_lower": 0, "num_upper": -1}))
_add("SpaceToBatchND", ({"input": real(2, 4, 5, 3)}, {"block_shape": [2, 3], "paddings": [[1, 1], [0, 1]]}))
_add("BatchToSpaceND", ({"input": real(12, 3, 2, 3)}, {"block_shape": [2, 3], "crops": [[1, 1], [0, 1]]}))

# ---- parts ----------------------------------------------------------------------------------------------


def _cut(first: Any, last: Any, strides: Any, **masks: int) -> Sample:
    fixed = {"begin": first, "end": last, "strides": strides, **{f"{k}_mask": v for k, v in masks.items()}}
    return {"input": real(4, 5, 6)}, fixed


_add("StridedSlice", _cut([1, 0, 2], [3, 5, 6], [1, 2, 3]), _cut([0, 1], [0, 4], [1, 1], ellipsis=1))
_add("StridedSlice", _cut([-1, 0], [0, 9], [-1, 1], end=1), _cut([3, 4], [0, 1], [-1, -2]))
_add("StridedSlice", _cut([1, 0, -2], [2, 0, 9], [1, 1, 1], shrink_axis=5, begin=2, end=2))
_add("StridedSlice", _cut([0, 0, 1], [0, 0, 2], [1, 1, 1], new_axis=1, begin=2, end=2))
_add("StridedSlice", _cut([-9, 3], [-1, 2], [1, 1]), _cut([0, 0], [0, 0], [-1, 1], begin=3, end=3))
_add("Slice", ({"input": real(4, 5)}, {"begin": [1, 2], "size": [2, -1]}))
_add("Slice", ({"input": real(4, 5), "begin": np.array([1, 2], np.int32)}, {"size": [2, 3]}))
_add("GatherV2", ({"params": real(4, 5), "indices": ints(2, 3, low=0, high=5)}, {"axis": 1}))
_add("GatherV2", ({"params": real(2, 4, 5), "indices": ints(2, 3, low=0, high=4)}, {"axis": 1, "batch_dims": 1}))
_add("GatherV2", ({"params": real(2, 4, 3, 5), "indices": ints(2, 7, low=0, high=3)}, {"axis": 2, "batch_dims": 1}))
_add("GatherV2", ({"params": real(2, 3, 4, 5), "indices": ints(2, 3, 6, low=0, high=5)}, {"axis": 3, "batch_dims": 2}))
_add("GatherV2", ({"params": real(2, 4, 3), "indices": ints(2, 2, 2, low=0, high=3)}, {"axis": -1, "batch_dims": 1}))
_add("Gather", ({"params": real(4, 5), "indices": ints(3, low=0, high=4)}, {}))
_add("GatherNd", ({"params": real(4, 5), "indices": ints(3, 2, low=0, high=4)}, {}))
_add("GatherNd", ({"params": real(4, 5), "indices": ints(2, 3, 1, low=0, high=4)}, {}))
_PLACES = np.array([[0], [2], [0]], np.int32)
_add("TensorScatterAdd", ({"tensor": real(4, 5), "indices": _PLACES, "updates": real(3, 5)}, {}))
_add(
    "TensorScatterUpdate TensorScatterMax TensorScatterMin",
    ({"tensor": real(4, 5), "indices": _PLACES[:2], "updates": real(2, 5)}, {}),
)
_add("ScatterNd", ({"indices": _PLACES, "updates": real(3, 5)}, {"shape": [4, 5]}))
_PICKED = np.array([[0, 2], [-1, 3]], np.int32)
_add("OneHot", ({"indices": _PICKED}, {"depth": 3, "on_value": 1.5, "off_value": -1.0, "axis": -1}))
_add("OneHot", ({"indices": _PICKED}, {"depth": 3, "on_value": 1, "off_value": 0, "axis": 0}))
_add("Where", ({"condition": np.array([[True, False], [True, True]])}, {}), ({"condition": ints(4, low=0, high=2)}, {}))

# ---- reductions -----------------------------------------------------------------------------------------

_add("Sum Mean Max Min Prod EuclideanNorm", ({"input": real(3, 4, 2)}, {"axis": [0, -1], "keep_dims": False}))
_add("Sum Mean Max Min Prod EuclideanNorm", ({"input": real(3, 4)}, {"axis": 1, "keep_dims": True}))
_add("Sum Max Prod Mean Min EuclideanNorm", ({"input": real(3, 4)}, {"axis": np.zeros(0, np.int32)}))
_add("Sum Max Min Prod Mean", ({"input": ints(3, 5)}, {"axis": 1}))
_add("All Any", ({"input": ints(3, 4, low=0, high=2, dtype=np.bool_)}, {"axis": 0}))
_add("ArgMax ArgMin", ({"input": real(3, 4)}, {"dimension": -1, "output_type": np.int32}))
_add("ArgMax ArgMin", ({"input": ints(3, 9, low=0, high=3)}, {"dimension": 1}))
_add("Cumsum Cumprod", ({"x": real(3, 4)}, {"axis": -1, "exclusive": True, "reverse": True}))
_add("Cumsum Cumprod", ({"x": real(3, 4)}, {"axis": 0}), ({"x": ints(5)}, {"axis": 0, "exclusive": True}))
_add("TopKV2", ({"input": real(3, 6)}, {"k": 2}), ({"input": ints(3, 6, low=0, high=3)}, {"k": 4}))
_add("L2Loss", ({"t": real(3, 4)}, {}))

# ---- products -------------------------------------------------------------------------------------------

_add("MatMul", ({"a": real(3, 4), "b": real(4, 5)}, {}))
_add("MatMul", ({"a": real(4, 3), "b": real(5, 4)}, {"transpose_a": True, "transpose_b": True}))
_STACKS = {"x": real(2, 1, 4, 3), "y": real(5, 2, 4)}
_add("BatchMatMulV2", (_STACKS, {"adj_x": True, "adj_y": True}))
_add("BatchMatMul", ({"x": real(2, 3, 4), "y": real(2, 4, 5)}, {}))
_add("BatchMatMulV2", ({"x": complexes(2, 3, 4), "y": complexes(2, 3, 5)}, {"adj_x": True}))
_add("BatchMatMulV3", ({"x": ints(2, 3, 4, dtype=np.int8), "y": ints(2, 4, 5, dtype=np.int8)}, {"Tout": np.int32}))
_add("Einsum", ({"inputs": [real(2, 3, 4), real(4, 5)]}, {"equation": "bij,jk->bik"}))
_add("Einsum", ({"inputs": [real(2, 3, 4)]}, {"equation": "...ij->...ji"}))
_add("BiasAdd", ({"value": real(2, 3, 4), "bias": real(4)}, {}))
_add("BiasAdd", ({"value": real(2, 3, 4, 4), "bias": real(3)}, {"data_format": "NCHW"}))
_add("BiasAddV1", ({"value": real(2, 3), "bias": real(3)}, {}))

# ---- windows --------------------------------------------------------------------------------------------

_IMAGE = real(2, 7, 8, 4)
for _padding in ("SAME", "VALID"):
    _add("Conv2D", ({"input": _IMAGE, "filter": real(3, 2, 4, 5)}, {"strides": [1, 2, 3, 1], "padding": _padding}))
    _add(
        "Conv2D",
        (
            {"input": _IMAGE, "filter": real(3, 2, 4, 5)},
            {"strides": [1] * 4, "padding": _padding, "dilations": [1, 2, 3, 1]},
        ),
    )
    _add("Conv2D", ({"input": _IMAGE, "filter": real(3, 3, 2, 6)}, {"strides": [1] * 4, "padding": _padding}))  # groups
    _add(
        "DepthwiseConv2dNative",
        ({"input": _IMAGE, "filter": real(3, 3, 4, 2)}, {"strides": [1, 2, 2, 1], "padding": _padding}),
    )
    _add(
        "Conv3D",
        (
            {"input": real(1, 4, 5, 6, 2), "filter": real(2, 3, 2, 2, 3)},
            {"strides": [1, 1, 2, 2, 1], "padding": _padding},
        ),
    )
    _pool = {"ksize": [1, 3, 2, 1], "strides": [1, 2, 2, 1], "padding": _padding}
    _add("AvgPool", ({"value": _IMAGE}, _pool))
    _add("MaxPool MaxPoolV2", ({"input": _IMAGE - 3}, _pool))
    _pool3 = {"ksize": [1, 2, 3, 2, 1], "strides": [1, 1, 2, 2, 1], "padding": _padding}
    _add("MaxPool3D AvgPool3D", ({"input": real(1, 4, 5, 6, 2)}, _pool3))
_EXPLICIT = {"strides": [1, 2, 2, 1], "padding": "EXPLICIT", "explicit_paddings": [0, 0, 1, 2, 0, 1, 0, 0]}
_add("Conv2D", ({"input": _IMAGE, "filter": real(3, 3, 4, 5)}, _EXPLICIT))
for _sizes, _padding in (
    ([2, 14, 16, 3], "SAME"),
    ([2, 13, 15, 3], "SAME"),
    ([2, 15, 17, 3], "VALID"),
    ([2, 16, 18, 3], "VALID"),
):
    _add(
        "Conv2DBackpropInput",
        (
            {"out_backprop": _IMAGE, "filter": real(3, 3, 3, 4)},
            {"input_sizes": _sizes, "strides": [1, 2, 2, 1], "padding": _padding},
        ),
    )
_add(
    "Conv2DBackpropInput",
    (
        {"out_backprop": _IMAGE, "filter": real(3, 3, 3, 4)},
        {"input_sizes": [2, 7, 8, 3], "strides": [1] * 4, "padding": "SAME"},
    ),
)
_add(
    "Conv3DBackpropInputV2",
    (
        {"out_backprop": real(1, 2, 3, 4, 2), "filter": real(2, 2, 2, 3, 2)},
        {"input_sizes": [1, 4, 6, 8, 3], "strides": [1, 2, 2, 2, 1], "padding": "SAME"},
    ),
)
_NORM = {"x": _IMAGE, "scale": real(4), "offset": real(4), "mean": real(4), "variance": real(4, low=0.5)}
_add("FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3", (_NORM, {"is_training": False, "epsilon": 1e-3}))
_add("FusedBatchNormV3 FusedBatchNorm", (_NORM, {"is_training": True, "epsilon": 1e-2, "exponential_avg_factor": 1.0}))
_add("FusedBatchNormV3", (_NORM, {"is_training": True, "epsilon": 1e-2, "exponential_avg_factor": 0.25}))
_add("LRN", ({"input": _IMAGE}, {"depth_radius": 2, "bias": 1.5, "alpha": 0.3, "beta": 0.6}))
for _sizes in ([14, 16], [5, 3], [1, 1]):
    for _how in ({}, {"align_corners": True}, {"half_pixel_centers": True}):
        _add("ResizeBilinear ResizeNearestNeighbor", ({"images": _IMAGE}, {"size": _sizes, **_how}))
_add("ResizeBicubic", ({"images": _IMAGE}, {"size": [14, 16], "half_pixel_centers": True}))

# ---- constants ------------------------------------------------------------------------------------------

_add("Fill", ({"value": np.float32(1.5)}, {"dims": [2, 3]}))
_add("ZerosLike OnesLike", ({"x": real(2, 3)}, {}), ({"x": np.array([True, False])}, {}))
_add("Range", ({"start": np.int32(2), "limit": np.int32(11), "delta": np.int32(3)}, {}))
_add("Range", ({"start": np.float32(5), "limit": np.float32(1), "delta": np.float32(-1.5)}, {}))
