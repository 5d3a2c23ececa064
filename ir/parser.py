"""Reads the text form of graphs, whose grammar `dragoman.ir.text` tells, and infers every type again.

All that is wrong is a ParseError with line and column. Time and memory are linear in the text, nesting is bounded, and
nothing in the text is evaluated.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import ml_dtypes
import numpy as np

from dragoman.ir.builder import make
from dragoman.ir.collector import calm_collector
from dragoman.ir.dims import UNBOUNDED, Symbol, parse_dim
from dragoman.ir.errors import DragomanError, ParseError
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.op import REGISTRY
from dragoman.ir.types import DTYPES, DType, TensorType, parse_type, same_type
from dragoman.ir.weights import AbsentWeight, ArrayWeight, Weight

PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
MAX_DEPTH = 64  # of regions and tuples within each other

_STRING = r'"[^"\\\n]*(?:\\.[^"\\\n]*)*"'
_TOKENS = re.compile(
    rf"""(?:\s++|\#[^\n]*+)*+            # space and comments
    ( [A-Za-z]\w*\[[^\]\n]*\]            # a type
    | \[[^\]\n]*\]                       # a dimension
    | [%@](?:{_STRING}|[\w.]+)           # a value
    | {_STRING}
    | -(?:inf|nan)\b | -?\d+(?:\.(?!\.)\d*)?(?:[eE][-+]?\d+)?
    | [A-Za-z_]\w*
    | \.\. | [(){{}},:=]
    | \S                                 # begins nothing
    | \Z )                               # the end, past trailing space and comments
    """,
    re.VERBOSE | re.ASCII,
)
_MARKS = frozenset({"(", ")", "{", "}", ",", ":", "=", ".."})
_WORDS: dict[str, Any] = {"none": None, "true": True, "false": False, "inf": math.inf, "nan": math.nan, **DTYPES}


def parse(text: str, weights: Mapping[str, Weight] | None = None) -> Graph:
    """Read a graph. `weights` supplies values by name. Raises ParseError with line and column."""
    with calm_collector():
        return _Parser(text, weights or {}).parse()


def _kind(token: str) -> str:
    """What a token is, from its first character; a character that begins nothing is of no kind."""
    first = token[:1]
    if token in _MARKS or not first.isascii():
        return "mark" if token in _MARKS else ""
    if first.isalpha() or first == "_":
        return "type" if token[-1] == "]" else "word"
    if first.isdigit() or (first == "-" and len(token) > 1):
        return "number"
    return {"%": "value", "@": "value", '"': "string", "[": "dimension"}.get(first, "") if len(token) > 1 else ""


class _Parser:
    """Goes through the tokens from left to right; recursion only follows nested sub-graphs and tuples."""

    def __init__(self, text: str, weights: Mapping[str, Weight]) -> None:
        self._text = text
        self._weights = weights
        self._tokens: list[str] = _TOKENS.findall(text)
        self._tokens += ["", "", "", ""]  # looking ahead needs no check for the end
        self._at = 0
        self._depth = 0
        self._symbols: dict[str, Symbol] = {}
        self._types: dict[str, TensorType] = {}  # those read so far with these symbols

    # ---- tokens ---------------------------------------------------------------------------------------

    def _fail(self, message: str, at: int | None = None) -> NoReturn:
        """Raise a ParseError at a token, by default the current one."""
        index = self._at if at is None else at
        position = len(self._text.rstrip())
        for number, found in enumerate(_TOKENS.finditer(self._text)):
            if number == index:
                position = found.start(1) if found.group(1) else position
                break
        line = self._text.count("\n", 0, position) + 1
        column = position - self._text.rfind("\n", 0, position)
        raise ParseError(f"line {line}, column {column}: {message}")

    def _found(self) -> str:
        token = self._tokens[self._at]
        return repr(token if len(token) <= 60 else f"{token[:57]}...") if token else "the end"

    def _expect(self, token: str) -> None:
        if self._tokens[self._at] != token:
            self._fail(f"{token!r} expected, found {self._found()}")
        self._at += 1

    def _accept(self, token: str) -> bool:
        if self._tokens[self._at] != token:
            return False
        self._at += 1
        return True

    def _take(self, kind: str) -> str:
        token = self._tokens[self._at]
        if _kind(token) != kind:
            article = "an" if kind[0] in "aeiou" else "a"
            nothing = "" if not token or _kind(token) else ", which begins nothing in the grammar"
            self._fail(f"{article} {kind} expected, found {self._found()}{nothing}")
        self._at += 1
        return token

    def _take_string(self) -> str:
        at = self._at
        return self._decoded(self._take("string"), at)

    def _decoded(self, token: str, at: int) -> str:
        try:
            return str(json.loads(token))
        except ValueError as error:
            self._fail(f"{token[:60]} is not a JSON string: {error}", at)

    def _take_integer(self) -> int:
        at = self._at
        token = self._take("number")
        try:
            return int(token)
        except ValueError:
            self._fail(f"an integer expected, found {token[:60]!r}", at)

    # ---- graphs ---------------------------------------------------------------------------------------

    def parse(self) -> Graph:
        """The graph that the whole text is."""
        graph = self._graph()
        if self._tokens[self._at]:
            self._fail(f"{self._found()} after the end of the graph")
        return graph

    def _enter(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._fail(f"nesting deeper than {MAX_DEPTH}")

    def _graph(self) -> Graph:
        self._enter()
        outer = self._symbols, self._types
        self._expect("graph")
        graph = Graph(self._take_string() if self._tokens[self._at].startswith('"') else "")
        header = self._header()
        self._expect("{")
        scope: dict[str, Value] = {}
        for name, type in header:
            self._input(graph, scope, name, type)
        while not self._accept("return"):
            if self._tokens[self._at] == "weight" and self._tokens[self._at + 1] != "(":
                self._weight(graph, scope)
            else:
                self._node(graph, scope)
        self._return(graph, scope)
        self._expect("}")
        self._symbols, self._types = outer
        self._depth -= 1
        return graph

    def _header(self) -> list[tuple[int, int]]:
        """The places of names and types of the inputs; the types need the ranges that come after them."""
        self._expect("(")
        inputs: list[tuple[int, int]] = []
        while not self._accept(")"):
            name = self._at
            self._take("value")
            self._expect(":")
            inputs.append((name, self._at))
            self._take("type")
            if self._tokens[self._at] != ")":
                self._expect(",")
        if self._accept("where"):
            self._symbols, self._types = dict(self._symbols), {}
            self._range()
            while self._accept(","):
                self._range()
        return inputs

    def _range(self) -> None:
        at = self._at
        name = self._take("word")
        self._expect("in")
        low = self._take_integer()
        self._expect("..")
        high = self._take_integer() if _kind(self._tokens[self._at]) == "number" else UNBOUNDED
        try:
            symbol = Symbol(name, low, high)
        except DragomanError as error:
            self._fail(str(error), at)
        if self._symbols.setdefault(name, symbol) != symbol:
            self._fail(f"{name} has another range already", at)

    def _input(self, graph: Graph, scope: dict[str, Value], name: int, type: int) -> None:
        token = self._tokens[name]
        if token[0] != "%":
            self._fail(f"an input is written %name, found {token[:60]!r}", name)
        value = graph.add_input(self._type(type), self._name(token, name))
        self._define(scope, token, value, name)

    def _type(self, at: int) -> TensorType:
        text = self._tokens[at]
        found = self._types.get(text)
        if found is None:
            try:
                found = self._types[text] = parse_type(text, self._symbols)
            except DragomanError as error:
                self._fail(str(error), at)
        return found

    # ---- names ----------------------------------------------------------------------------------------

    def _name(self, token: str, at: int) -> str:
        return self._decoded(token[1:], at) if token[1] == '"' else token[1:]

    def _key(self, token: str, at: int) -> str:
        """One key for the spellings of a name; %"0" is the name 0, and %0 a result."""
        if token[1] != '"':
            return token
        name = self._decoded(token[1:], at)
        return token[0] + (name if PLAIN_NAME.fullmatch(name) else json.dumps(name))

    def _define(self, scope: dict[str, Value], token: str, value: Value, at: int) -> None:
        key = self._key(token, at)
        if key in scope:
            self._fail(f"{token[:60]} is defined twice", at)
        scope[key] = value

    def _value(self, scope: Mapping[str, Value]) -> Value:
        token = self._tokens[self._at]
        value = scope.get(token)
        if value is None:
            token = self._take("value")
            self._at -= 1
            value = scope.get(self._key(token, self._at))
            if value is None:
                self._fail(f"{token[:60]} is not defined above")
        self._at += 1
        return value

    # ---- lines ----------------------------------------------------------------------------------------

    def _weight(self, graph: Graph, scope: dict[str, Value]) -> None:
        self._expect("weight")
        start = self._at
        token = self._take("value")
        if token[0] != "@":
            self._fail(f"a weight is written @name, found {token[:60]!r}", start)
        name = self._name(token, start)
        self._expect(":")
        type = self._type(self._at)
        self._take("type")
        shape = tuple(d for d in type.shape if isinstance(d, int))
        if len(shape) != type.rank:
            self._fail(f"the weight {token[:60]} has a symbolic shape", start)
        weight = self._weights.get(name)
        if self._accept("="):
            written = self._inline(type.dtype, shape)
            weight = weight or written
        weight = weight or AbsentWeight(type.dtype, shape, name)
        if weight.dtype != type.dtype or tuple(weight.shape) != shape:
            given = f"{weight.dtype}{list(weight.shape)}"
            self._fail(f"the weight {token[:60]} is {type} in the text, {given} as given", start)
        value = graph.add_weight(name, weight)
        self._define(scope, token, value, start)

    def _inline(self, dtype: DType, shape: tuple[int, ...]) -> Weight:
        at = self._at
        values = self._literal()
        count = math.prod(shape)
        if not isinstance(values, tuple) or len(values) != count:
            self._fail(f"{count} value(s) in parentheses expected for {dtype}{list(shape)}", at)
        for value in values:
            if not _fits(value, dtype):
                self._fail(f"the value {value!r} is not of dtype {dtype}", at)
        # The small types of ml_dtypes are not made from Python numbers directly.
        wide = {"int": np.int64, "uint": np.uint64, "float": np.float64}.get(dtype.kind, dtype.numpy)
        with np.errstate(over="ignore"):
            return ArrayWeight(np.array(values, wide).astype(dtype.numpy).reshape(shape))

    def _node(self, graph: Graph, scope: dict[str, Value]) -> None:
        start = self._at
        tokens = self._tokens
        results: list[tuple[int, TensorType]] = []
        while tokens[self._at][:1] == "%":
            at = self._at
            if tokens[at] == "%" or tokens[at + 1] != ":" or tokens[at + 2][-1:] != "]":
                self._take("value")
                self._expect(":")
                self._take("type")
            results.append((at, self._types.get(tokens[at + 2]) or self._type(at + 2)))
            self._at = at + 3
            if tokens[at + 3] != ",":
                self._expect("=")
                break
            self._at = at + 4
        cls = REGISTRY.get(tokens[self._at])
        if cls is None:
            self._take("word")
            self._fail(f"{tokens[self._at - 1][:60]!r} is not an op", self._at - 1)
        self._at += 1
        operands = self._operands(scope)
        attributes = self._attributes() if tokens[self._at] == "{" else {}
        try:
            node = graph.insert(make(cls, attributes), operands)
        except DragomanError as error:
            self._fail(str(error), start)
        self._bind(node, results, scope, start)

    def _bind(self, node: Node, results: Sequence[tuple[int, TensorType]], scope: dict[str, Value], start: int) -> None:
        if len(results) != len(node.results):
            self._fail(f"{node.op.name} has {len(node.results)} results, the text names {len(results)}", start)
        for value, (at, type) in zip(node.results, results, strict=True):
            if not same_type(value.type, type):
                self._fail(f"{node.op.name} infers {value.type}, the text says {type}", at)
            self._define(scope, self._tokens[at], value, at)

    def _operands(self, scope: Mapping[str, Value]) -> list[Value | None]:
        self._expect("(")
        tokens = self._tokens
        operands: list[Value | None] = []
        while not self._accept(")"):
            value = scope.get(tokens[self._at])
            if value is not None:
                self._at += 1
            elif not self._accept("_"):
                value = self._value(scope)
            operands.append(value)
            if tokens[self._at] != ")":
                self._expect(",")
        return operands

    def _attributes(self) -> dict[str, Any]:
        self._expect("{")
        attributes: dict[str, Any] = {}
        while not self._accept("}"):
            at = self._at
            name = self._take("word")
            if name in attributes:
                self._fail(f"the attribute {name} is given twice", at)
            self._expect("=")
            attributes[name] = self._literal()
            if self._tokens[self._at] != "}":
                self._expect(",")
        return attributes

    def _return(self, graph: Graph, scope: Mapping[str, Value]) -> None:
        start = self._at - 1
        values: list[Value] = []
        names: list[str] = []
        while _kind(self._tokens[self._at]) == "value":
            values.append(self._value(scope))
            self._expect("as")
            names.append(self._take_string())
            if not self._accept(","):
                break
        try:
            graph.set_outputs(values, names)
        except DragomanError as error:
            self._fail(str(error), start)

    # ---- literals -------------------------------------------------------------------------------------

    def _literal(self) -> Any:
        at = self._at
        token = self._tokens[at]
        kind = _kind(token)
        if kind == "number":
            return self._number()
        if kind == "string":
            return self._take_string()
        if kind == "dimension":
            self._at += 1
            try:
                return parse_dim(token[1:-1], self._symbols)
            except DragomanError as error:
                self._fail(str(error), at)
        if token == "(":
            return self._tuple()
        if token == "graph":
            return self._graph()
        if token == "complex":
            return self._complex()
        if token not in _WORDS:
            self._fail(f"a literal expected, found {self._found()}")
        self._at += 1
        return _WORDS[token]

    def _complex(self) -> complex:
        at = self._at
        self._expect("complex")
        parts = self._tuple()
        if len(parts) != 2 or not all(type(p) is float for p in parts):
            self._fail("complex needs two floats", at)
        return complex(*parts)

    def _number(self) -> int | float:
        if self._tokens[self._at].lstrip("-").isdigit():
            return self._take_integer()
        return float(self._take("number"))

    def _tuple(self) -> tuple[Any, ...]:
        self._enter()
        self._expect("(")
        items: list[Any] = []
        while not self._accept(")"):
            items.append(self._literal())
            if self._tokens[self._at] != ")":
                self._expect(",")
        self._depth -= 1
        return tuple(items)


def _fits(value: Any, dtype: DType) -> bool:
    if dtype.kind == "bool":
        return isinstance(value, bool)
    if dtype.is_integer:
        limits = ml_dtypes.iinfo(dtype.numpy)
        return type(value) is int and int(limits.min) <= value <= int(limits.max)
    return dtype.is_float and type(value) in (int, float)
