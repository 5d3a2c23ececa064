"""One file through one tool, for onnx_peers.py; run in a fresh process, never by hand.

Owns the exports of torch.onnx, skl2onnx and tf2onnx, what is timed, and how nodes are counted.
"""

from __future__ import annotations

import contextlib
import io
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fresh_process import Request, Result, answer


def measure(request: Request) -> Result:
    """Make the file, or give it to a tool."""
    logging.disable(logging.WARNING)
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        if request["tool"] == "make":
            return made(request["model"], Path(request["path"]))
        return simplified(request["tool"], Path(request["path"]))


# ---- the files --------------------------------------------------------------------------------------------------


def made(model: str, path: Path) -> Result:
    """The file by the exporter of its framework."""
    started = time.perf_counter()
    make = _of_sklearn if model in _SKLEARN else _of_keras if model in _KERAS else _of_torch
    form = make(model, path)
    return {**counted(path), "form": form, "seconds": time.perf_counter() - started}


def _of_torch(model: str, path: Path) -> str:
    """By torch.onnx, in the first of its forms that works; the form is told."""
    from ort_cpu_export import exported
    from subjects import entries, subject

    form, failures = exported(subject(model), entries()[model], path)
    if form is None:
        raise RuntimeError("; ".join(failures))
    return form


def _blobs() -> tuple[Any, Any]:
    from sklearn.datasets import make_blobs

    x, y = make_blobs(400, 10, centers=4, random_state=0)
    return x.astype("float32"), y


def _estimators() -> dict[str, Callable[[], Any]]:
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    return {
        "scaled_logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression()),
        "pca_ridge": lambda: make_pipeline(StandardScaler(), PCA(4), Ridge()),
        "forest": lambda: RandomForestClassifier(20, max_depth=6, random_state=0),
        "boosting": lambda: GradientBoostingRegressor(n_estimators=30, random_state=0),
        "perceptron": lambda: make_pipeline(StandardScaler(), MLPClassifier((16, 8), max_iter=50, random_state=0)),
        "k_means": lambda: KMeans(4, n_init=1, random_state=0),
        "naive_bayes": GaussianNB,
        "linear_svm": lambda: make_pipeline(StandardScaler(), LinearSVC()),
    }


_SKLEARN = (
    *("scaled_logistic", "pca_ridge", "forest", "boosting", "perceptron", "k_means", "naive_bayes", "linear_svm"),
)


def _of_sklearn(model: str, path: Path) -> str:
    import warnings

    import skl2onnx
    from sklearn.base import is_classifier

    x, y = _blobs()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = _estimators()[model]().fit(x, y)
    options = {"zipmap": False} if is_classifier(fitted) and hasattr(fitted, "predict_proba") else None
    proto = skl2onnx.to_onnx(fitted, x[:1], options=options, target_opset={"": 18, "ai.onnx.ml": 3})
    path.write_bytes(proto.SerializeToString())
    return "skl2onnx"


_KERAS = ("keras_cnn", "keras_mlp", "keras_lstm")


def _of_keras(model: str, path: Path) -> str:
    import keras
    import tensorflow as tf
    import tf2onnx
    from keras import layers

    keras.utils.set_random_seed(0)
    shapes = {"keras_cnn": (32, 32, 3), "keras_mlp": (20,), "keras_lstm": (12, 8)}
    bodies: dict[str, list[Any]] = {
        "keras_cnn": [
            layers.Conv2D(16, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.SeparableConv2D(32, 3, activation="swish"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10, activation="softmax"),
        ],
        "keras_mlp": [layers.Dense(64, activation="gelu"), layers.LayerNormalization(), layers.Dense(5)],
        "keras_lstm": [layers.LSTM(16, return_sequences=True), layers.Bidirectional(layers.GRU(8)), layers.Dense(3)],
    }
    network = keras.Sequential([keras.Input(shapes[model]), *bodies[model]])
    function = tf.function(
        lambda x: network(x, training=False), input_signature=[tf.TensorSpec((None, *shapes[model]))]
    )
    tf2onnx.convert.from_function(function, input_signature=function.input_signature, opset=18, output_path=str(path))
    return "tf2onnx"


# ---- the tools --------------------------------------------------------------------------------------------------


def simplified(tool: str, path: Path) -> Result:
    """Nodes that are left, and seconds from file to file."""
    out = path.with_suffix(f".{tool}.onnx")
    act = _TOOLS[tool]()
    opset = counted(path)["opset"]
    started = time.perf_counter()
    told = act(path, out, opset)
    taken = time.perf_counter() - started
    result = {**counted(out), **told, "seconds": taken}
    for file in path.parent.glob(f"{out.stem}*"):
        file.unlink()
    return result


def _dragoman() -> Callable[[Path, Path, int], Result]:
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401

    import dragoman
    import dragoman.onnx_source
    import dragoman.passes.pipelines
    from dragoman.backends.onnx.table import load_tables
    from dragoman.frontends.onnx import table

    _ = dragoman.load, dragoman.convert  # what is imported when first named
    table.load()
    load_tables()

    def act(path: Path, out: Path, opset: int) -> Result:
        dragoman.load(path).optimise().save(out, opset=opset)
        return {}

    return act


def _convert() -> Callable[[Path, Path, int], Result]:
    import dragoman

    def act(path: Path, out: Path, opset: int) -> Result:
        report = dragoman.convert(path, out, opset=opset, overwrite=True)
        return {"verdict": str(report.verdict).split()[0] if report.verdict else "none"}

    return act


def _onnxsim() -> Callable[[Path, Path, int], Result]:
    import onnx
    import onnxsim

    def act(path: Path, out: Path, opset: int) -> Result:
        model, sound = onnxsim.simplify(onnx.load(path))
        if not sound:
            raise ValueError("onnxsim's own check fails")
        onnx.save(model, out)
        return {}

    return act


def _onnxslim() -> Callable[[Path, Path, int], Result]:
    import onnx
    import onnxslim

    def act(path: Path, out: Path, opset: int) -> Result:
        onnx.save(onnxslim.slim(onnx.load(path)), out)
        return {}

    return act


_TOOLS: dict[str, Callable[[], Callable[[Path, Path, int], Result]]] = {
    "dragoman": _dragoman,
    "convert": _convert,
    "onnxsim": _onnxsim,
    "onnxslim": _onnxslim,
}


def counted(path: Path) -> Result:
    """Nodes of all graphs and functions without Constant, and the opset."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    nodes = [node for graph in (model.graph, *model.functions) for node in _nodes(graph)]
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    return {"nodes": sum(node.op_type != "Constant" for node in nodes), "opset": opset}


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _nodes(inner)


if __name__ == "__main__":
    answer(measure)
