"""Keras models on TensorFlow as users convert them: verified against TensorFlow, with the batch left open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import dragoman
from dragoman.ir.errors import ImportRefused, Unsupported
from tests.frontends.keras.present import with_keras

pytestmark = with_keras


@pytest.fixture(scope="module")
def keras() -> Any:
    from dragoman.frontends.tensorflow_import import load_tensorflow

    load_tensorflow()
    import keras

    if keras.backend.backend() != "tensorflow":
        pytest.skip("Keras is on another backend here")
    keras.utils.set_random_seed(0)
    return keras


def dense(keras: Any) -> Any:
    return keras.Sequential(
        [
            keras.Input((8,), name="x"),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.Dense(4, activation="softmax"),
        ]
    )


def convolutional(keras: Any) -> Any:
    layers = keras.layers
    image = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(image)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = x + layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.GlobalAveragePooling2D()(layers.MaxPooling2D()(x))
    model = keras.Model(image, layers.Dense(5)(x))
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.moving_mean.assign(rng.normal(0, 0.5, layer.moving_mean.shape))
            layer.moving_variance.assign(rng.uniform(0.5, 2.0, layer.moving_variance.shape))
    return model


@pytest.mark.parametrize("build", [dense, convolutional], ids=lambda f: f.__name__)
def test_a_model_is_verified_with_an_open_batch_and_gives_what_keras_gives(
    keras: Any, build: Any, tmp_path: Path
) -> None:
    import onnxruntime

    model = build(keras)
    path = tmp_path / "m.onnx"
    report = dragoman.convert(model, path)
    assert report.verdict is not None
    assert report.verdict.holds, str(report)
    shape = onnx.load(path).graph.input[0].type.tensor_type.shape
    assert shape.dim[0].dim_param == "batch"
    x = np.random.default_rng(1).normal(size=(3, *model.input_shape[1:])).astype(np.float32)
    (given,) = onnxruntime.InferenceSession(path).run(None, {model.inputs[0].name: x})
    np.testing.assert_allclose(given, np.asarray(model(x, training=False)), rtol=1e-4, atol=1e-5)


def test_a_convolutional_model_has_no_transpose_beyond_the_ends(keras: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    dragoman.convert(convolutional(keras), path, verify=False)
    assert [n.op_type for n in onnx.load(path).graph.node].count("Transpose") <= 1


def test_a_keras_file_converts_from_the_command_line(keras: Any, tmp_path: Path) -> None:
    from dragoman.cli import status

    dense(keras).save(tmp_path / "m.keras")
    assert status(["convert", str(tmp_path / "m.keras"), "-o", str(tmp_path / "m.onnx")]) == 0
    onnx.checker.check_model(onnx.load(tmp_path / "m.onnx"))


def test_weights_keep_the_paths_that_keras_gives_them(keras: Any) -> None:
    model = dense(keras)
    graph = dragoman.load(model).graph
    assert set(graph.weights) == {v.path.replace("/", ".") for v in model.variables}


def test_string_inputs_are_refused_by_name(keras: Any) -> None:
    text = keras.Input((1,), dtype="string", name="words")
    with pytest.raises(Unsupported, match="'words' holds strings"):
        dragoman.load(keras.Model(text, text))


def test_an_operator_without_translation_is_refused_with_its_name(keras: Any) -> None:
    x = keras.Input((4, 4), name="x")
    with pytest.raises(ImportRefused, match="MatrixInverse"):
        dragoman.load(keras.Model(x, keras.ops.linalg.inv(x)))
