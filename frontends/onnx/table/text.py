"""Strings: joined, split, matched, normalised, counted; and LabelEncoder of ai.onnx.ml."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from dragoman.frontends.onnx.call import Call
from dragoman.frontends.onnx.context import Context
from dragoman.frontends.onnx.registry import ML, translates
from dragoman.frontends.onnx.table.elementwise import aligned
from dragoman.frontends.onnx.tensors import weight_of
from dragoman.ir.errors import Malformed, Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.types import F32, I64, STRING, dtype_of
from dragoman.ir.weights import ArrayWeight


@translates("StringConcat")
def string_concat(c: Context, n: Call) -> Value:
    """One string after the other."""
    return c.b.string_concat(*aligned(c, [n[0], n[1]]))


@translates("StringSplit")
def string_split(c: Context, n: Call) -> list[Value]:
    """Parts between delimiters, and how many."""
    most = n.int("maxsplit") if n.given("maxsplit") else None
    return list(c.b.string_split(n[0], delimiter=n.text("delimiter", ""), most=most, size=c.fresh("parts")))


# What RE2 reads otherwise than Python, or not at all.
_NOT_RE2 = re.compile(r"\(\?[=!<]|\\[1-9]|\(\?P=|\\[pPC]|\(\?[a-zA-Z]*U")


@translates("RegexFullMatch")
def regex_full_match(c: Context, n: Call) -> Value:
    """Whether whole strings match."""
    pattern = n.text("pattern")
    if _NOT_RE2.search(pattern):
        raise Unsupported(f"the pattern {pattern!r}, which engines of regular expressions read differently")
    return c.b.regex_full_match(n[0], pattern=pattern)


@translates("StringNormalizer")
def string_normalizer(c: Context, n: Call) -> Value:
    """Strings without stop words, in another case."""
    locale = n.text("locale", "en_US")
    if not locale.startswith(("en", "C", "de")) and locale:
        raise Unsupported(f"StringNormalizer by the rules of the locale {locale!r}")
    return c.b.string_normalize(
        n[0],
        case=n.text("case_change_action", "NONE").lower(),
        sensitive=bool(n.int("is_case_sensitive", 0)),
        stopwords=tuple(n.texts("stopwords", [])),
        size=c.fresh("words"),
    )


@translates("TfIdfVectorizer")
def tf_idf(c: Context, n: Call) -> Value:
    """n-grams counted."""
    x = n[0]
    if n.given("pool_strings"):
        pool = np.array(n.texts("pool_strings"), np.object_)
    else:
        pool = np.array(n.ints("pool_int64s"), x.type.dtype.numpy)
    weights = np.array(n.floats("weights"), np.float32) if n.given("weights") else None
    return c.b.count_ngrams(
        x,
        c.weight("ngrams", ArrayWeight(pool)),
        None if weights is None else c.weight("ngram_weights", ArrayWeight(weights)),
        low=n.int("min_gram_length"),
        high=n.int("max_gram_length"),
        skips=n.int("max_skip_count"),
        mode=n.text("mode"),
        starts=tuple(n.ints("ngram_counts")),
        places=tuple(n.ints("ngram_indexes")),
    )


# ---- LabelEncoder ----------------------------------------------------------------------------------------------

_KINDS: dict[str, Any] = {"strings": STRING, "int64s": I64, "floats": F32}
_DEFAULTS: dict[str, Any] = {"strings": "_Unused", "int64s": -1, "floats": -0.0}


def _side(c: Context, n: Call, side: str) -> Any:
    """Keys or values of a LabelEncoder as an array."""
    if n.given(f"{side}_tensor"):
        return weight_of(n.attributes[f"{side}_tensor"].t, c.external, side).array().reshape(-1)
    for kind, dtype in _KINDS.items():
        if n.given(f"{side}_{kind}"):
            read = {"strings": n.texts, "int64s": n.ints, "floats": n.floats}[kind]
            return np.array(read(f"{side}_{kind}"), dtype.numpy)
    raise Malformed(f"LabelEncoder has no {side}")


def _default(c: Context, n: Call, values: Any) -> Any:
    if n.given("default_tensor"):
        return weight_of(n.attributes["default_tensor"].t, c.external, "default").array().reshape(())
    if values.dtype == np.object_:
        return np.array(n.text("default_string", "_Unused"), np.object_)
    if values.dtype.kind == "f":
        return np.array(n.float("default_float", -0.0), values.dtype)
    return np.array(n.int("default_int64", -1), values.dtype)


@translates("LabelEncoder", domain=ML)
def label_encoder_1(c: Context, n: Call) -> Value:
    """The first version: strings by their place in a list, or the other way."""
    x, classes = n[0], np.array(n.texts("classes_strings"), np.object_)
    places = np.arange(len(classes), dtype=np.int64)
    if x.type.dtype == STRING:
        return _looked_up(c, x, classes, places, np.array(n.int("default_int64", -1)))
    return _looked_up(c, x, places, classes, np.array(n.text("default_string", "_Unused"), np.object_))


@translates("LabelEncoder", since=2, domain=ML)
def label_encoder(c: Context, n: Call) -> Value:
    """Keys replaced by values."""
    keys, values = _side(c, n, "keys"), _side(c, n, "values")
    if keys.shape != values.shape:
        raise Malformed(f"LabelEncoder has {keys.size} keys and {values.size} values")
    return _looked_up(c, n[0], keys, values, _default(c, n, values))


def _looked_up(c: Context, x: Value, keys: Any, values: Any, default: Any) -> Value:
    key, value = (c.weight(name, ArrayWeight(a)) for name, a in (("keys", keys), ("values", values)))
    scalar = c.weight("default", ArrayWeight(default)) if default.dtype == np.object_ else None
    if scalar is None:
        scalar = c.const(default.item(), dtype_of(default))
    return c.b.lookup(x, key, value, scalar)
