"""Graphs as text that a person reads and `parse` reads back, inferring every type again and comparing.

graph     = "graph" [STRING] "(" {value ":" type} ")" ["where" {SYMBOL "in" INT ".." [INT]}] "{" {line} "}"
line      = "weight" weight ":" type ["=" literal] | node | "return" {operand "as" STRING}
node      = [{result ":" type} "="] OP "(" {operand} ")" ["{" {NAME "=" literal} "}"]
operand   = value | weight | result | "_"          value = "%" name   weight = "@" name   result = "%" INT
literal   = INT | FLOAT | STRING | "true" | "false" | "none" | dtype | "[" dim "]" | "(" {literal} ")" | graph
name      = letters, digits, "_" and "." after a letter or "_", else a STRING
type, dim = as dragoman.ir.types and dragoman.ir.dims read them; items of {…} are separated by commas
"#" begins a comment. Strings are JSON strings in ASCII. Sub-graphs are indented attributes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dragoman.ir.builder import make
from dragoman.ir.dims import UNBOUNDED, DimExpr, Symbol, parse_dim
from dragoman.ir.errors import Malformed, ParseError
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.op import REGISTRY
from dragoman.ir.types import DTYPES, DType, TensorType, parse_type, same_type
from dragoman.ir.weights import AbsentWeight, ArrayWeight, Weight

_PLAIN = re.compile(r"[A-Za-z_][\w.]*")
_INLINE = 8  # weights of up to this many elements are printed with their values


# ---- printing ---------------------------------------------------------------------------------------


def show(graph: Graph, *, origins: bool = False) -> str:
    """The text of a graph. `origins` adds each node's module path and source line as a comment."""
    return "\n".join(_graph_lines(graph, "", origins, set()))


def _quoted(name: str) -> str:
    return name if _PLAIN.fullmatch(name) and name.isascii() else json.dumps(name)


def _graph_lines(graph: Graph, indent: str, origins: bool, outer: set[str]) -> Iterator[str]:
    label = f" {json.dumps(graph.name)}" if graph.name else ""
    inputs = ", ".join(f"%{_quoted(v.name)}: {v.type}" for v in graph.inputs)
    ranges = [s for name, s in sorted(graph.symbols().items()) if name not in outer]
    known = outer | {s.name for s in ranges}
    where = ", ".join(f"{s.name} in {s.low}..{s.high if s.high < UNBOUNDED else ''}" for s in ranges)
    yield f"graph{label}({inputs}){' where ' + where if where else ''} {{"
    names: dict[Value, str] = {v: f"%{_quoted(v.name)}" for v in graph.inputs}
    for value in graph.weights.values():
        names[value] = f"@{_quoted(value.name)}"
        yield f"{indent}  weight {names[value]}: {value.type}{_inline(value.weight)}"
    number = 0
    for node in graph:
        for result in node.results:
            names[result] = f"%{number}"
            number += 1
        yield from _node_lines(node, names, indent + "  ", origins, known)
    listed = ", ".join(f"{names[v]} as {json.dumps(n)}" for v, n in zip(graph.outputs, graph.output_names, strict=True))
    yield f"{indent}  return {listed}".rstrip()
    yield f"{indent}}}"


def _node_lines(node: Node, names: Mapping[Value, str], indent: str, origins: bool, known: set[str]) -> Iterator[str]:
    results = ", ".join(f"{names[r]}: {r.type}" for r in node.results)
    operands = ", ".join("_" if v is None else names[v] for v in node.operands)
    line = f"{indent}{results + ' = ' if results else ''}{node.op.name}({operands})"
    attributes: list[str] = []
    for name, value in node.op.attributes():
        if isinstance(value, Graph):
            attributes.append(f"{name}=" + "\n".join(_graph_lines(value, indent + "  ", origins, known)))
        else:
            attributes.append(f"{name}={literal(value)}")
    if attributes:
        line += " {" + ", ".join(attributes) + "}"
    comment = str(node.provenance) if origins else ""
    yield line + (f"  # {printable(comment)}" if comment else "")


def printable(text: str) -> str:
    """Text from a model made safe for a terminal: control characters and direction marks are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def literal(value: Any) -> str:
    """An attribute value as the grammar writes it."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    if isinstance(value, DType):
        return value.name
    if isinstance(value, DimExpr):
        return f"[{value}]"
    if isinstance(value, tuple):
        return f"({', '.join(literal(v) for v in value)})"
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, (int, float, np.integer, np.floating)):
        return repr(value.item() if isinstance(value, np.generic) else value)
    if isinstance(value, complex):
        return f"complex({value.real!r}, {value.imag!r})"
    raise Malformed(f"an attribute of type {type(value).__name__} has no text form")


def _inline(weight: Weight | None) -> str:
    if weight is None or isinstance(weight, AbsentWeight) or weight.dtype.kind not in ("bool", "int", "uint", "float"):
        return ""
    if int(np.prod(weight.shape)) > _INLINE:
        return ""
    return " = " + literal(
        tuple(v.item() if isinstance(v, np.bool_) else _number(v, weight.dtype) for v in weight.array().reshape(-1))
    )


def _number(value: Any, dtype: DType) -> int | float:
    return float(value) if dtype.is_float else int(value)


# ---- parsing ----------------------------------------------------------------------------------------

_TOKENS = re.compile(
    r"""(?P<space>[\s]+|\#[^\n]*)
      | (?P<type>[A-Za-z]\w*\[[^\]\n]*\])
      | (?P<dim>\[[^\]\n]*\])
      | (?P<name>[%@](?:"(?:[^"\\]|\\.)*"|[\w.]+))
      | (?P<string>"(?:[^"\\\n]|\\.)*")
      | (?P<number>-?(?:inf|nan)\b|-?\d+(?:\.(?!\.)\d*)?(?:[eE][-+]?\d+)?)
      | (?P<word>[A-Za-z_]\w*)
      | (?P<mark>\.\.|[(){},:=])""",
    re.VERBOSE,
)
_MAX_DEPTH = 64


class _Parser:
    """Reads tokens left to right; recursion only follows nested sub-graphs and tuples, up to `_MAX_DEPTH`."""

    def __init__(self, text: str, weights: Mapping[str, Weight]) -> None:
        self._text = text
        self._weights = weights
        self._symbols: dict[str, Symbol] = {}
        self._types: dict[str, TensorType] = {}
        self._kind, self._token, self._position, self._end = "", "", 0, 0
        self._depth = 0
        self._advance()

    def _advance(self) -> str:
        """Return the current token and read the next one."""
        taken = self._token
        position = self._end
        while True:
            found = _TOKENS.match(self._text, position)
            if found is None:
                if position >= len(self._text):
                    self._kind, self._token, self._position = "end", "", position
                    return taken
                self._position = position
                raise self._error(f"{self._text[position]!r} begins nothing in the grammar")
            position = found.end()
            if found.lastgroup != "space":
                break
        self._kind, self._token, self._position, self._end = (
            str(found.lastgroup),
            found.group(),
            found.start(),
            position,
        )
        return taken

    def _error(self, message: str) -> ParseError:
        line = self._text.count("\n", 0, self._position) + 1
        column = self._position - (self._text.rfind("\n", 0, self._position) + 1) + 1
        return ParseError(f"line {line}, column {column}: {message}")

    def _expect(self, token: str) -> None:
        if self._token != token:
            raise self._error(f"{token!r} expected, found {self._token or 'the end'!r}")
        self._advance()

    def _take(self, kind: str) -> str:
        if self._kind != kind:
            raise self._error(f"a {kind} expected, found {self._token or 'the end'!r}")
        return self._advance()

    def _accept(self, token: str) -> bool:
        if self._token != token or self._kind == "string":
            return False
        self._advance()
        return True

    def parse(self) -> Graph:
        graph = self._graph()
        if self._kind != "end":
            raise self._error(f"{self._token!r} after the end of the graph")
        return graph

    def _enter(self) -> None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._error(f"nesting deeper than {_MAX_DEPTH}")

    def _graph(self) -> Graph:
        self._enter()
        self._expect("graph")
        graph = Graph(json.loads(self._advance()) if self._kind == "string" else "")
        header = self._header()
        self._expect("{")
        scope: dict[str, Value] = {}
        for name, type_text in header:
            value = graph.add_input(self._type(type_text), _unquoted(name))
            if value.name != _unquoted(name):
                raise self._error(f"two inputs are named {name}")
            scope[name] = value
        while self._token != "return":
            if self._token == "weight":
                self._weight(graph, scope)
            else:
                self._node(graph, scope)
        self._return(graph, scope)
        self._expect("}")
        self._depth -= 1
        return graph

    def _header(self) -> list[tuple[str, str]]:
        self._expect("(")
        inputs: list[tuple[str, str]] = []
        while not self._accept(")"):
            name = self._take("name")
            self._expect(":")
            inputs.append((name, self._take("type")))
            if self._token != ")":
                self._expect(",")
        if self._accept("where"):
            self._range()
            while self._accept(","):
                self._range()
        return inputs

    def _range(self) -> None:
        name = self._take("word")
        self._expect("in")
        low = int(self._take("number"))
        self._expect("..")
        high = int(self._advance()) if self._kind == "number" else UNBOUNDED
        self._symbols[name] = Symbol(name, low, high)

    def _type(self, text: str) -> TensorType:
        found = self._types.get(text)
        if found is None:
            try:
                found = self._types[text] = parse_type(text, self._symbols)
            except Malformed as error:
                raise self._error(str(error)) from None
        return found

    def _weight(self, graph: Graph, scope: dict[str, Value]) -> None:
        self._expect("weight")
        token = self._take("name")
        name = _unquoted(token)
        self._expect(":")
        type = self._type(self._take("type"))
        shape = tuple(d for d in type.shape if isinstance(d, int))
        if len(shape) != type.rank:
            raise self._error(f"the weight {name!r} has a symbolic shape")
        given = self._weights.get(name)
        if self._accept("="):
            values = self._literal()
            if given is None:
                given = ArrayWeight(np.array(values).astype(type.dtype.numpy).reshape(shape))
        weight = given or AbsentWeight(type.dtype, shape, name)
        if weight.dtype != type.dtype or tuple(weight.shape) != shape:
            raise self._error(f"the weight {name!r} is {type} in the text, {weight.dtype}{list(weight.shape)} as given")
        if token in scope:
            raise self._error(f"two weights are named {token}")
        scope[token] = graph.add_weight(name, weight)

    def _node(self, graph: Graph, scope: dict[str, Value]) -> None:
        start = self._position
        results: list[tuple[str, TensorType]] = []
        while self._kind == "name":
            name = self._advance()
            self._expect(":")
            results.append((name, self._type(self._take("type"))))
            if not self._accept(","):
                self._expect("=")
        cls = REGISTRY.get(self._token)
        if cls is None:
            raise self._error(f"{self._token!r} is not an op")
        self._advance()
        operands = self._operands(scope)
        attributes = self._attributes()
        try:
            node = graph.insert(make(cls, attributes), operands)
        except Malformed as error:
            self._position = start
            raise self._error(str(error)) from None
        self._bind(node, results, scope, start)

    def _bind(self, node: Node, results: Sequence[tuple[str, TensorType]], scope: dict[str, Value], start: int) -> None:
        inferred = [r.type for r in node.results]
        if len(results) != len(inferred):
            self._position = start
            raise self._error(f"{node.op.name} has {len(inferred)} results, the text names {len(results)}")
        for value, (name, type) in zip(node.results, results, strict=True):
            if not same_type(value.type, type):
                self._position = start
                raise self._error(f"{node.op.name} infers {value.type}, the text says {type}")
            if name in scope:
                self._position = start
                raise self._error(f"{name} is defined twice")
            scope[name] = value

    def _operands(self, scope: Mapping[str, Value]) -> list[Value | None]:
        self._expect("(")
        operands: list[Value | None] = []
        while not self._accept(")"):
            operands.append(None if self._accept("_") else self._value(scope))
            if self._token != ")":
                self._expect(",")
        return operands

    def _value(self, scope: Mapping[str, Value]) -> Value:
        if self._kind == "name" and self._token not in scope:
            raise self._error(f"{self._token} is not defined above")
        return scope[self._take("name")]

    def _attributes(self) -> dict[str, Any]:
        attributes: dict[str, Any] = {}
        if not self._accept("{"):
            return attributes
        while not self._accept("}"):
            name = self._advance() if self._token in ("nan", "inf") else self._take("word")
            self._expect("=")
            attributes[name] = self._literal()
            if self._token != "}":
                self._expect(",")
        return attributes

    def _literal(self) -> Any:
        if self._token == "(" and self._kind == "mark":
            return self._tuple()
        if self._token == "graph" and self._kind == "word":
            return self._graph()
        kind, token = self._kind, self._advance()
        if kind == "number":
            return float(token) if re.search(r"[.enE]", token) else int(token)
        if kind == "string":
            return json.loads(token)
        if kind == "dim":
            return parse_dim(token[1:-1], self._symbols)
        if token == "complex":
            return complex(*self._tuple())
        words: dict[str, Any] = {"none": None, "true": True, "false": False, "inf": float("inf"), "nan": float("nan")}
        if token in words or token in DTYPES:
            return words.get(token, DTYPES.get(token))
        raise self._error(f"{token!r} is not a literal")

    def _tuple(self) -> tuple[Any, ...]:
        self._enter()
        self._expect("(")
        items: list[Any] = []
        while not self._accept(")"):
            items.append(self._literal())
            if self._token != ")":
                self._expect(",")
        self._depth -= 1
        return tuple(items)

    def _return(self, graph: Graph, scope: Mapping[str, Value]) -> None:
        self._expect("return")
        values: list[Value] = []
        names: list[str] = []
        while self._kind == "name":
            values.append(self._value(scope))
            self._expect("as")
            names.append(json.loads(self._take("string")))
            if not self._accept(","):
                break
        graph.set_outputs(values, names)


def _unquoted(token: str) -> str:
    return str(json.loads(token[1:])) if token[1] == '"' else token[1:]


def parse(text: str, weights: Mapping[str, Weight] | None = None) -> Graph:
    """Read a graph. `weights` supplies values by name. Raises ParseError with line and column."""
    return _Parser(text, weights or {}).parse()
