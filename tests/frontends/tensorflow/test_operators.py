"""Every operator that the table translates gives what TensorFlow gives, at fixed extents and with the first one open."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from dragoman.ir.dims import Symbol
from dragoman.ir.errors import ImportRefused
from dragoman.ir.runner import GraphRunner
from dragoman.ir.types import TensorType, dtype_of
from tests.frontends.keras.present import with_keras
from tests.frontends.tensorflow.samples import SAMPLES, Sample

pytestmark = with_keras
# Parts of the graph that no raw operator makes: constants, and reads of the model's variables by their handles.
WITHOUT_SAMPLE = {"Const", "ResourceGather", "ResourceGatherNd"}
ROUNDING = {2: 2e-3, 4: 2e-5, 8: 1e-10}  # relative, by the bytes of a real number


def imported(operator: str, sample: Sample, *, opened: tuple[int, ...] = ()) -> tuple[Any, list[Any], list[Any]]:
    """The source, the inputs and what TensorFlow gives."""
    from dragoman.frontends.tensorflow_import import load_tensorflow

    tf = load_tensorflow()
    from dragoman.frontends.tensorflow.load import Interface, import_function

    given, fixed = sample
    fixed = {k: tf.dtypes.as_dtype(v) if isinstance(v, type) else v for k, v in fixed.items()}
    arrays = [np.asarray(a) for v in given.values() for a in (v if isinstance(v, list) else [v])]
    names = [f"x{i}" for i in range(len(arrays))]

    def function(*tensors: Any) -> Any:
        left = iter(tensors)
        named = {k: [next(left) for _ in v] if isinstance(v, list) else next(left) for k, v in given.items()}
        made = getattr(tf.raw_ops, operator)(**named, **fixed)
        return tf.nest.flatten(made)

    wanted = [np.asarray(x) for x in function(*[tf.constant(a) for a in arrays])]
    outputs = [f"y{i}" for i in range(len(wanted))]
    alike = [a.shape[:1] == arrays[0].shape[:1] for a in arrays]
    types = {n: _type(a, opened if same else ()) for n, a, same in zip(names, arrays, alike, strict=True)}
    source = import_function(Interface(function, types, lambda: outputs, {}, operator), arrays, lambda _: None)
    return source, arrays, wanted


def _type(array: Any, opened: tuple[int, ...]) -> TensorType:
    shape: list[Any] = list(array.shape)
    for axis in opened:
        if axis < len(shape) and shape[axis] != 1:
            shape[axis] = Symbol(f"n{axis}", 1).dim
    return TensorType(dtype_of(array.dtype), tuple(shape))


def assert_same(got: Sequence[Any], wanted: Sequence[Any]) -> None:
    """The same types and shapes, integers equal, real numbers equal but for the rounding of their precision."""
    assert len(got) == len(wanted)
    for ours, theirs in zip(map(np.asarray, got), wanted, strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        if theirs.dtype.kind in "fc":
            size = theirs.dtype.itemsize // (2 if theirs.dtype.kind == "c" else 1)
            scale = np.max(np.abs(theirs[np.isfinite(theirs)]), initial=1.0)
            np.testing.assert_allclose(ours, theirs, rtol=ROUNDING[size], atol=ROUNDING[size] * scale)
        else:
            np.testing.assert_array_equal(ours, theirs)


CASES = [(name, number) for name, samples in SAMPLES.items() for number in range(len(samples))]
# Samples with another operand, or a constant, that says what the first extent is; slices backwards with bounds.
REFUSED_OPEN = {("BroadcastTo", 0), ("BatchToSpaceND", 0), ("MatMul", 1), ("StridedSlice", 2), ("StridedSlice", 3)}
# Outputs that only gradients read; TensorFlow leaves them to each device.
WANTED = {"FusedBatchNorm": 3, "FusedBatchNormV2": 3, "FusedBatchNormV3": 3}


def run_on(operator: str, number: int, *opened: int) -> None:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        source, arrays, wanted = imported(operator, SAMPLES[operator][number], opened=opened)
        got = GraphRunner(source.imported.graph, "interpreter").run(arrays)
    keep = WANTED.get(operator)
    assert_same(list(got)[:keep], wanted[:keep])


@pytest.mark.parametrize(("operator", "number"), CASES)
def test_an_operator_gives_what_tensorflow_gives(operator: str, number: int) -> None:
    run_on(operator, number)


@pytest.mark.parametrize(("operator", "number"), CASES)
def test_an_operator_gives_the_same_where_the_first_extent_is_open(operator: str, number: int) -> None:
    if (operator, number) in REFUSED_OPEN:
        with pytest.raises(ImportRefused, match=operator):
            run_on(operator, number, 0)
    else:
        run_on(operator, number, 0)


def test_another_extent_than_the_model_insists_on_is_refused() -> None:
    with pytest.raises(ImportRefused, match="EnsureShape"):
        imported("EnsureShape", ({"input": np.zeros((3, 4), np.float32)}, {"shape": (3, 4)}), opened=(0,))


WINDOWS = ("Conv2D", "Conv3D", "DepthwiseConv2dNative", "AvgPool", "MaxPool", "MaxPool3D", "AvgPool3D")


@pytest.mark.parametrize(("operator", "number"), [case for case in CASES if case[0] in WINDOWS])
def test_windows_fit_extents_that_are_open(operator: str, number: int) -> None:
    run_on(operator, number, 0, 1, 2)


def known(operator: str, number: int) -> bool:
    """Whether a sample is one of integers and booleans, which shape arithmetic may compute while importing."""
    given, _ = SAMPLES[operator][number]
    arrays = [np.asarray(a) for v in given.values() for a in (v if isinstance(v, list) else [v])]
    return all(a.dtype in (np.int32, np.int64, np.bool_) for a in arrays)


@pytest.mark.parametrize(("operator", "number"), [case for case in CASES if known(*case)])
def test_what_is_known_while_importing_is_computed_as_tensorflow_does(operator: str, number: int) -> None:
    from dragoman.frontends.tensorflow_import import load_tensorflow

    tf = load_tensorflow()
    given, fixed = SAMPLES[operator][number]
    constants = {k: [tf.constant(x) for x in v] if isinstance(v, list) else tf.constant(v) for k, v in given.items()}
    fixed = {**fixed, **constants}
    made = ({}, fixed)
    source, _, wanted = imported(operator, made)
    assert_same(GraphRunner(source.imported.graph, "interpreter").run([]), wanted)


def test_every_operator_of_the_table_has_a_sample() -> None:
    from dragoman.frontends.tensorflow import table
    from dragoman.frontends.tensorflow.registry import translated_operators

    table.load()
    assert set(translated_operators()) - set(SAMPLES) == WITHOUT_SAMPLE
