"""Dims read from text: `2*seq + floordiv(h, 2)`. A small reader of its own; nothing is ever evaluated as code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from dragoman.ir.dim_expr import FUNCTIONS, Dim, Symbol, floordiv, mod
from dragoman.ir.errors import DragomanError, Malformed

_TOKEN = re.compile(r"\s*(?:([0-9]+)|([A-Za-z_][A-Za-z0-9_]*)|(//|[-+*^(),]))")
_LONGEST = 1 << 16
_LARGEST = 2**63 - 1
_CALLED = {**FUNCTIONS, "mod": mod}
_HIGHEST = 64  # a power
_DEEPEST = 64


def parse_dim(text: str, known: Mapping[str, Symbol] | None = None) -> Dim:
    """Read a dimension. Symbols found in `known` keep their ranges; others get the default one. Raises Malformed."""
    reader = _Reader(text, known or {})
    try:
        return reader.read()
    except Malformed:
        raise
    except DragomanError as error:
        raise Malformed(f"the dimension {_brief(text)}: {error}") from None


def _brief(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


class _Reader:
    """Recursive descent with one token of look-ahead; depth and length are bounded."""

    def __init__(self, text: str, known: Mapping[str, Symbol]) -> None:
        if len(text) > _LONGEST:
            raise Malformed(f"a dimension expression of {len(text)} characters is longer than {_LONGEST}")
        self._text, self._known, self._depth, self._at = text, known, 0, 0
        self._tokens = list(self._scan(text))

    def _scan(self, text: str) -> Iterator[str]:
        position, end = 0, len(text.rstrip())
        while position < end:
            found = _TOKEN.match(text, position)
            if not found:
                position += len(text[position:]) - len(text[position:].lstrip())
                raise Malformed(f"the dimension {_brief(text)} has {text[position]!r} at column {position + 1}")
            position = found.end()
            yield found.group().strip()

    def read(self) -> Dim:
        result = self._sum()
        if self._at < len(self._tokens):
            raise self._wrong(f"goes on with {self._tokens[self._at]!r} where it should end")
        return result

    def _wrong(self, what: str) -> Malformed:
        return Malformed(f"the dimension {_brief(self._text)} {what}")

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self, expected: str = "") -> str:
        token = self._peek()
        if not token or (expected and token != expected):
            raise self._wrong(f"lacks {repr(expected) if expected else 'an operand'}")
        self._at += 1
        return token

    def _sum(self) -> Dim:
        negative = self._peek() == "-" and bool(self._take())
        total = self._term()
        total = -total if negative else total
        while self._peek() in ("+", "-"):
            total = total + self._term() if self._take() == "+" else total - self._term()
        return total

    def _term(self) -> Dim:
        total = self._power()
        while self._peek() in ("*", "//"):
            total = total * self._power() if self._take() == "*" else floordiv(total, self._power())
        return total

    def _power(self) -> Dim:
        base = self._factor()
        if self._peek() != "^":
            return base
        self._take()
        exponent = self._number(self._take())
        if exponent > _HIGHEST:
            raise self._wrong(f"has the power {exponent}, above {_HIGHEST}")
        result: Dim = 1
        for _ in range(exponent):
            result = result * base
        return result

    def _factor(self) -> Dim:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._wrong(f"is nested more than {_DEEPEST} deep")
        token = self._take()
        result: Dim
        if token == "(":
            result = self._sum()
            self._take(")")
        elif token[0].isdigit():
            result = self._number(token)
        elif token in _CALLED and self._peek() == "(":
            result = self._call(token)
        elif token[0].isalpha() or token[0] == "_":
            result = (self._known.get(token) or Symbol(token)).dim
        else:
            raise self._wrong(f"has {token!r} where an operand should be")
        self._depth -= 1
        return result

    def _number(self, digits: str) -> int:
        if not digits.isdigit():
            raise self._wrong(f"has {digits!r} where a number should be")
        if len(digits) > 19 or int(digits) > _LARGEST:
            raise self._wrong(f"has a number of {len(digits)} digits, above {_LARGEST}")
        return int(digits)

    def _call(self, name: str) -> Dim:
        self._take("(")
        first = self._sum()
        self._take(",")
        second = self._sum()
        self._take(")")
        return _CALLED[name](first, second)
