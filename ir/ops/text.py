"""Strings: joining, splitting, matching, normalising, looking up, and counting n-grams. As ONNX defines them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from dragoman.ir.arithmetic import Inexact
from dragoman.ir.dims import Dim
from dragoman.ir.errors import TypeRuleError, UsageError
from dragoman.ir.op import Arithmetic, Array, Op, Sample, TensorType, operand, require, same_dtype, sample
from dragoman.ir.types import BOOL, F32, I64, STRING, broadcast


def _require_strings(*xs: TensorType) -> None:
    for x in xs:
        require(x.dtype == STRING, f"strings are needed, not {x.dtype}")


def _texts(values: Iterable[Any], shape: Sequence[int]) -> Any:
    flat = list(values)
    result = np.empty(len(flat), np.object_)
    result[:] = flat
    return result.reshape(tuple(shape))


def _str(x: Any) -> str:
    return x.decode("utf-8", "surrogateescape") if isinstance(x, bytes) else str(x)


class StringConcat(Op, name="string_concat"):
    """Each string of x followed by that of y; the two broadcast."""

    def infer(self, x: TensorType, y: TensorType) -> TensorType:
        """The common shape."""
        _require_strings(x, y)
        return x.with_shape(broadcast(x.shape, y.shape))

    def reference(self, m: Arithmetic, x: Array, y: Array) -> Array:
        """By Python's own joining."""
        a, b = np.broadcast_arrays(x, y)
        return _texts((_str(p) + _str(q) for p, q in zip(a.flat, b.flat, strict=True)), a.shape)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Broadcasting, a scalar."""
        yield sample("string[2,3]", "string[3]")
        yield sample(operand("string[]", values=("ab",)), "string[2]")


class StringSplit(Op, name="string_split", data_dependent=True):
    """Each string in parts between delimiters, filled up with empty ones; and how many parts each has.

    x: [n…]   ->   [n…, size], i64[n…]. Without a delimiter runs of white space separate. At most `most` splits.
    """

    delimiter: str = ""
    most: int | None = None
    size: Dim = 0

    def infer(self, x: TensorType) -> tuple[TensorType, TensorType]:
        """One more axis."""
        _require_strings(x)
        return x.with_shape((*x.shape, self.size)), TensorType(I64, x.shape)

    def reference(self, m: Arithmetic, x: Array) -> tuple[Array, Array]:
        """By Python's own splitting."""
        most = -1 if self.most is None else self.most
        rows = [_str(t).split(self.delimiter or None, most) if _str(t) else [] for t in x.flat]
        width = max(map(len, rows), default=0)
        flat = (t for row in rows for t in [*row, *[""] * (width - len(row))])
        counts = np.array([len(row) for row in rows], np.int64).reshape(x.shape)
        return _texts(flat, (*x.shape, width)), counts

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """White space, a delimiter, a limit."""
        words = operand("string[2]", values=("a b c", "d"))
        yield sample(words, size=3)
        yield sample(operand("string[2]", values=("a,b,,c", "")), delimiter=",", size=4)
        yield sample(operand("string[1]", values=("a b c",)), delimiter=" ", most=1, size=2)


class RegexFullMatch(Op, name="regex_full_match"):
    """Whether each whole string matches a regular expression, of those that RE2 and Python read alike."""

    pattern: str

    def infer(self, x: TensorType) -> TensorType:
        """Booleans."""
        _require_strings(x)
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise TypeRuleError(f"the pattern {self.pattern!r}: {error}") from None
        return x.with_dtype(BOOL)

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """By Python's own matching."""
        compiled = re.compile(self.pattern)
        found = [compiled.fullmatch(_str(t)) is not None for t in x.flat]
        return np.array(found, np.bool_).reshape(x.shape)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Letters and digits."""
        yield sample(operand("string[3]", values=("abc", "12", "")), pattern=r"[a-z]+")


class StringNormalize(Op, name="string_normalize", data_dependent=True):
    """Strings without the stop words, in another case.

    x: [n] or [1, n]   ->   [size] or [1, size]; one empty string where none is left. `case` is none, lower or upper.
    """

    case: str = "none"
    sensitive: bool = False
    stopwords: tuple[str, ...] = ()
    size: Dim = 0

    def infer(self, x: TensorType) -> TensorType:
        """Fewer strings."""
        _require_strings(x)
        require(self.case in ("none", "lower", "upper"), f"case={self.case!r} is none of none, lower, upper")
        require(1 <= x.rank <= 2, f"rank {x.rank}; 1 or 2 are needed")
        return x.with_shape((*x.shape[:-1], self.size))

    def reference(self, m: Arithmetic, x: Array) -> Array:
        """Words are compared as they are, or in one case."""
        if x.ndim == 2 and x.shape[0] != 1:
            raise UsageError(f"normalising strings [{', '.join(map(str, x.shape))}]: one row is needed")
        words = [_str(t) for t in x.flat]
        stop = set(self.stopwords) if self.sensitive else {w.lower() for w in self.stopwords}
        kept = [w for w in words if (w if self.sensitive else w.lower()) not in stop]
        change = {"none": str, "lower": str.lower, "upper": str.upper}[self.case]
        listed = [change(w) for w in kept] or [""]
        return _texts(listed, (*x.shape[:-1], len(listed)))

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """With and without stop words, in both shapes."""
        words = operand("string[3]", values=("monday", "Tuesday", "monday"))
        yield sample(words, case="upper", sensitive=True, stopwords=("monday",), size=1)
        yield sample(operand("string[1,2]", values=("Monday", "x")), case="lower", size=2)
        yield sample(operand("string[1]", values=("Monday",)), stopwords=("monday",), size=1)
        yield sample(words, sensitive=True, stopwords=("Tuesday",), size=2)


class CountNgrams(Op, name="count_ngrams", exact_field=False):
    """How often each n-gram of a pool occurs in each row, n in `low`…`high`, up to `skips` elements left out between.

    x: [n] or [rows, n], integers or strings   pool: all n-grams one after the other, by length   weights: f32[g]
    ->   f32[size] or f32[rows, size]. `starts[i]` is where those of length i+1 begin in the pool, `places[g]` where
    n-gram g is counted. `mode` TF counts, IDF gives the weight where there is any, TFIDF count times weight. As ONNX's
    TfIdfVectorizer.
    """

    low: int
    high: int
    skips: int
    mode: str
    starts: tuple[int, ...]
    places: tuple[int, ...]

    def infer(self, x: TensorType, pool: TensorType, weights: TensorType | None = None) -> TensorType:
        """One row of counts for each row."""
        same_dtype(x, pool)
        require(1 <= x.rank <= 2 and pool.rank == 1, f"x is {x}, the pool {pool}")
        require(self.mode in ("TF", "IDF", "TFIDF"), f"mode={self.mode!r} is none of TF, IDF, TFIDF")
        require(1 <= self.low <= self.high, f"n-grams of {self.low} to {self.high} elements")
        return TensorType(F32, (*x.shape[:-1], max(self.places, default=-1) + 1))

    def _table(self, pool: list[Any]) -> dict[tuple[Any, ...], int]:
        found: dict[tuple[Any, ...], int] = {}
        number = 0
        for length, (start, stop) in enumerate(pairwise([*self.starts, len(pool)]), 1):
            for at in range(start, stop, length):
                if length <= self.high:
                    found[tuple(pool[at : at + length])] = number
                number += 1
        return found

    def reference(self, m: Arithmetic, x: Array, pool: Array, weights: Array | None = None) -> Array:
        """Counting n-gram by n-gram."""
        if weights is not None and not isinstance(weights, np.ndarray):
            raise Inexact("counts are made one by one")
        table = self._table([_plain(p) for p in pool.flat])
        rows = x.reshape(-1, x.shape[-1]) if x.ndim == 2 else x.reshape(1, -1)
        counts = np.zeros((len(rows), max(self.places, default=-1) + 1))
        scale = np.ones_like(counts[0]) if counts.size else counts
        for gram, place in enumerate(self.places):
            if weights is not None:
                scale[place] = weights[gram]
        for at, row in enumerate(rows):
            for gram in self._grams([_plain(v) for v in row]):
                number = table.get(gram)
                if number is not None:
                    counts[at, self.places[number]] += 1
        if self.mode != "TF":
            counts = (counts > 0) * scale if self.mode == "IDF" else counts * scale
        return m.embed(counts.reshape((*x.shape[:-1], counts.shape[1])), F32)

    def _grams(self, row: list[Any]) -> Iterable[tuple[Any, ...]]:
        for length in range(self.low, self.high + 1):
            for skip in range(self.skips + 1 if length > 1 else 1):
                reach = (length - 1) * (skip + 1)
                for start in range(len(row) - reach):
                    yield tuple(row[start : start + reach + 1 : skip + 1])

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Pairs with and without skips; weights."""
        pool = operand("i64[7]", values=(2, 3, 5, 4, 5, 6, 7))
        given = {"starts": (0, 3), "places": (0, 1, 2, 3, 4)}
        x = operand("i64[2,6]", values=(1, 1, 3, 3, 3, 7, 8, 6, 7, 5, 6, 8))
        yield sample(x, pool, low=1, high=2, skips=1, mode="TF", **given)
        weights = operand("f32[5]", values=(2.0, 1.0, 3.0, 0.5, 1.0))
        yield sample(x, pool, weights, low=2, high=2, skips=0, mode="TFIDF", **given)


def _plain(x: Any) -> Any:
    return x.item() if isinstance(x, np.generic) else _str(x)


class Lookup(Op, name="lookup", exact_field=False):
    """Each element replaced by the value of the key that it equals, or by the default where it equals none.

    x: [n…]   keys: [k] of x's dtype   values: [k]   default: []   ->   [n…] of the values' dtype. NaN equals NaN.
    """

    def infer(self, x: TensorType, keys: TensorType, values: TensorType, default: TensorType) -> TensorType:
        """The dtype of the values."""
        same_dtype(x, keys)
        same_dtype(values, default)
        require(keys.rank == 1 and values.shape == keys.shape, f"the keys are {keys}, the values {values}")
        require(default.rank == 0, f"the default is {default}")
        return TensorType(values.dtype, x.shape)

    def reference(self, m: Arithmetic, x: Array, keys: Array, values: Array, default: Array) -> Array:
        """By a dictionary; the first of equal keys counts."""
        if not isinstance(x, np.ndarray) or not isinstance(keys, np.ndarray):
            raise Inexact("a look-up of real numbers")
        table: dict[Any, int] = {}
        for index, key in enumerate(keys.flat):
            table.setdefault(_key(key), index)
        places = np.array([table.get(_key(v), -1) for v in x.flat], np.int64).reshape(x.shape)
        if not len(values):
            return m.move(lambda d: np.broadcast_to(d, x.shape), default)
        return m.where(places >= 0, m.move(lambda a: np.take(a, np.maximum(places, 0)), values), default)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Strings to numbers, numbers to strings, numbers to numbers."""
        words = operand("string[3]", values=("a", "b", "c"))
        x = operand("string[2,2]", values=("a", "c", "x", "b"))
        yield sample(x, words, operand("i64[3]", values=(1, 2, 3)), operand("i64[]", values=(-1,)))
        yield sample(
            operand("i64[2]", values=(1, 9)),
            operand("i64[1]", values=(1,)),
            "string[1]",
            operand("string[]", values=("?",)),
        )
        yield sample(operand("f32[2]", values=(0.5, 2.0)), operand("f32[1]", values=(0.5,)), "f32[1]", "f32[]")


def _key(x: Any) -> Any:
    value = _plain(x) if not isinstance(x, float) else x
    return "NaN of a float" if isinstance(value, float) and value != value else value
