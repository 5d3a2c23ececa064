"""ai.onnx.ml but for its trees: scalers, encoders, features, linear models."""

from __future__ import annotations

from typing import Any

import numpy as np

from dragoman.frontends.onnx.call import Call
from dragoman.frontends.onnx.context import Context
from dragoman.frontends.onnx.registry import ML, translates
from dragoman.ir.errors import Malformed, Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.types import F32, I64, STRING
from dragoman.ir.weights import ArrayWeight

_TINY = 1e-30  # ONNX Runtime's and the reference's guard against rows of zeros


def _row(c: Context, n: Call, name: str, x: Value, default: float) -> Value:
    """One number for each column, or one for all."""
    given = n.floats(name, []) or [default]
    width = x.type.shape[-1]
    if len(given) not in (1, width):
        raise Malformed(f"{n.op} has {len(given)} {name} for {width} columns")
    return c.const(given[0], x.type.dtype) if len(given) == 1 else c.array(given, x.type.dtype)


@translates("Scaler", domain=ML)
def scaler(c: Context, n: Call) -> Value:
    """(x − offset)·scale."""
    x = c.cast(n[0], F32)
    return c.b.mul(c.b.sub(x, _row(c, n, "offset", x, 0.0)), _row(c, n, "scale", x, 1.0))


@translates("Binarizer", domain=ML)
def binarizer(c: Context, n: Call) -> Value:
    """1 above the threshold, else 0."""
    x = n[0]
    return c.b.cast(c.b.greater(x, c.const(n.float("threshold", 0.0), x.type.dtype)), dtype=x.type.dtype)


@translates("Normalizer", domain=ML)
def normalizer(c: Context, n: Call) -> Value:
    """Rows divided by their largest number, or their norm."""
    b, x, kind = c.b, c.cast(n[0], F32), n.text("norm", "MAX")
    axes = (x.type.rank - 1,)
    if kind not in ("MAX", "L1", "L2"):
        raise Malformed(f"Normalizer by {kind!r}")
    if kind == "MAX":  # ONNX Runtime takes the largest number, onnx's reference the largest magnitude
        raise Unsupported("Normalizer by MAX, which the implementations read differently")
    size = b.reduce_l1(x, axes=axes, keepdims=True) if kind == "L1" else b.reduce_l2(x, axes=axes, keepdims=True)
    return b.div(x, b.maximum(size, _TINY))


@translates("Imputer", domain=ML)
def imputer(c: Context, n: Call) -> Value:
    """Numbers in place of those that are missing."""
    b, x = c.b, n[0]
    whole = x.type.dtype.is_integer
    values: list[Any] = n.ints("imputed_value_int64s", []) if whole else n.floats("imputed_value_floats", [])
    missing = n.int("replaced_value_int64", 0) if whole else n.float("replaced_value_float", 0.0)
    if len(values) not in (1, x.type.shape[-1]):
        raise Malformed(f"Imputer has {len(values)} values for {x.type}")
    filled = c.const(values[0], x.type.dtype) if len(values) == 1 else c.array(values, x.type.dtype)
    is_missing = b.isnan(x) if missing != missing else b.equal(x, c.const(missing, x.type.dtype))
    return b.where(is_missing, filled, x)


@translates("ArrayFeatureExtractor", domain=ML)
def feature_extractor(c: Context, n: Call) -> Value:
    """Some of the columns; of a vector as one row."""
    x, places = n[0], c.reshape(c.cast(n[1], I64), (-1,) if n.type(1).rank == 0 else _flat(n))
    taken = c.b.take(x, places, axis=x.type.rank - 1)
    return c.b.unsqueeze(taken, axes=(0,)) if x.type.rank == 1 else taken


def _flat(n: Call) -> tuple[Any, ...]:
    count: Any = 1
    for extent in n.type(1).shape:
        count = count * extent
    return (count,)


@translates("FeatureVectorizer", domain=ML)
def feature_vectorizer(c: Context, n: Call) -> Value:
    """Columns side by side, cut or filled up with zeros to the widths given."""
    parts: list[Value] = []
    for x, width in zip(n.values, n.ints("inputdimensions"), strict=True):
        x = c.cast(x if x.type.rank == 2 else c.b.unsqueeze(x, axes=(1,)), F32)
        extent = x.type.shape[1]
        if not isinstance(extent, int):
            raise Unsupported(f"FeatureVectorizer of {x.type}: its columns must be counted")
        if extent > width:
            x = c.slice(x, 1, 0, width)
        parts.append(c.b.pad(x, padding=((0, 0), (0, width - extent))) if extent < width else x)
    return c.b.concat(*parts, axis=1)


@translates("OneHotEncoder", domain=ML)
def one_hot_encoder(c: Context, n: Call) -> Value:
    """1 at the place of the category, zeros only for one that is not listed."""
    x = n[0]
    if not n.int("zeros", 1):
        raise Unsupported("OneHotEncoder that fails on a category which is not listed (zeros=0)")
    if x.type.dtype == STRING:
        listed = np.array(n.texts("cats_strings"), np.object_)
        keys = c.weight("categories", ArrayWeight(listed))
        places = c.weight("places", ArrayWeight(np.arange(len(listed))))
        found = c.b.lookup(x, keys, places, c.const(-1, I64))
    else:
        listed = np.array(n.ints("cats_int64s"), np.int64)
        keys = c.weight("categories", ArrayWeight(listed))
        places = c.weight("places", ArrayWeight(np.arange(len(listed))))
        found = c.b.lookup(c.cast(x, I64), keys, places, c.const(-1, I64))
    return c.b.cast(c.b.equal(c.b.unsqueeze(found, axes=(x.type.rank,)), c.b.iota(size=len(listed))), dtype=F32)


# ---- linear models -------------------------------------------------------------------------------------------


def _linear(c: Context, n: Call, rows: int) -> Value:
    x = c.cast(n[0], F32)
    coefficients = np.array(n.floats("coefficients"), np.float32)
    if not rows or coefficients.size % rows:
        raise Malformed(f"{n.op} has {coefficients.size} coefficients for {rows} results")
    w = c.array(coefficients.reshape(rows, -1).T.copy(), F32)
    y = c.b.matmul(x, w)
    bias = n.floats("intercepts", [])
    return c.b.add(y, c.array(bias, F32)) if bias else y


@translates("LinearRegressor", domain=ML)
def linear_regressor(c: Context, n: Call) -> Value:
    """x·coefficients + intercepts."""
    return post_transformed(c, n, _linear(c, n, n.int("targets", 1)), n.text("post_transform", "NONE"))


@translates("LinearClassifier", domain=ML)
def linear_classifier(c: Context, n: Call) -> list[Value]:
    """Scores of each class, and the class that has the largest."""
    labels = max(len(n.ints("classlabels_ints", [])), len(n.texts("classlabels_strings", [])))
    rows = len(n.floats("intercepts", [])) or labels
    if rows < 2 or rows != labels:
        raise Unsupported("LinearClassifier of two classes by the scores of one")
    scores = _linear(c, n, rows)
    label = labelled(c, n, scores, "classlabels_ints")
    return [label, post_transformed(c, n, scores, n.text("post_transform", "NONE"))]


def labelled(c: Context, n: Call, scores: Value, integers: str) -> Value:
    """The label of the largest score."""
    best = c.b.argmax(scores, axis=1)
    if n.given("classlabels_strings") and n.texts("classlabels_strings"):
        labels = np.array(n.texts("classlabels_strings"), np.object_)
        return c.b.take(c.weight("labels", ArrayWeight(labels)), best, axis=0)
    return c.b.take(c.array(n.ints(integers), I64), best, axis=0)


def post_transformed(c: Context, n: Call, scores: Value, kind: str) -> Value:
    """Scores as they are, through the logistic function, or through softmax."""
    if kind == "NONE":
        return scores
    if kind == "LOGISTIC":
        return c.b.sigmoid(scores)
    if kind == "SOFTMAX":
        return c.b.softmax(scores, axis=1)
    raise Unsupported(f"{n.op} with the post-transform {kind}")
