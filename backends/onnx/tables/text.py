"""Strings in ONNX. What ONNX keeps in attributes must be known when the model is written: weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dragoman.backends.onnx.emitter import Emitter
from dragoman.backends.onnx.table import emits
from dragoman.ir.graph import Node, Value


def _since(opset: int, name: str) -> Any:
    return lambda node, at: None if at >= opset else f"{name} begins at opset {opset}"


@emits("string_concat", where=_since(20, "StringConcat"))
def string_concat(e: Emitter, node: Node, x: Value, y: Value) -> str:
    """StringConcat."""
    return e.op("StringConcat", x, y)


@emits("string_split", where=_since(20, "StringSplit"))
def string_split(e: Emitter, node: Node, x: Value) -> Sequence[str]:
    """StringSplit."""
    op: Any = node.op
    return e.ops("StringSplit", [x], 2, delimiter=op.delimiter or None, maxsplit=op.most)


@emits("regex_full_match", where=_since(20, "RegexFullMatch"))
def regex_full_match(e: Emitter, node: Node, x: Value) -> str:
    """RegexFullMatch."""
    op: Any = node.op
    return e.op("RegexFullMatch", x, pattern=op.pattern)


def _weights(first: int) -> Any:
    def where(node: Node, opset: int) -> str | None:
        computed = any(v is not None and v.weight is None for v in node.operands[first:])
        return "ONNX keeps the tables in attributes, and these are computed" if computed else None

    return where


@emits("count_ngrams", where=_weights(1))
def count_ngrams(e: Emitter, node: Node, x: Value, pool: Value, weights: Value | None = None) -> str:
    """TfIdfVectorizer."""
    op: Any = node.op
    held = e.weight(pool)
    assert held is not None
    values = held.array().tolist()
    texts = bool(values) and isinstance(values[0], str)
    scale = e.weight(weights) if weights is not None else None
    return e.op(
        "TfIdfVectorizer",
        x,
        min_gram_length=op.low,
        max_gram_length=op.high,
        max_skip_count=op.skips,
        mode=op.mode,
        ngram_counts=list(op.starts),
        ngram_indexes=list(op.places),
        pool_int64s=None if texts else [int(v) for v in values],
        pool_strings=values if texts else None,
        weights=[float(v) for v in scale.array().tolist()] if scale is not None else None,
    )


def _needs_no_locale(node: Node, opset: int) -> str | None:
    op: Any = node.op
    if op.case == "none" and (op.sensitive or not op.stopwords):
        return None
    return "ONNX Runtime changes or ignores case only where the system has the locale it names"


@emits("string_normalize", where=_needs_no_locale)
def string_normalize(e: Emitter, node: Node, x: Value) -> str:
    """StringNormalizer."""
    op: Any = node.op
    return e.op(
        "StringNormalizer", x, case_change_action="NONE", is_case_sensitive=1, stopwords=list(op.stopwords) or None
    )
