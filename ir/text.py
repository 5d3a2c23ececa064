"""Graphs as text that a person reads and `parse` reads back, inferring every type again and comparing.

graph     = "graph" [STRING] "(" {value ":" type} ")" ["where" {SYMBOL "in" INT ".." [INT]}] "{" {line} "}"
line      = "weight" weight ":" type ["=" literal] | node | "return" {operand "as" STRING}
node      = [{result ":" type} "="] OP "(" {operand} ")" ["{" {NAME "=" literal} "}"]
operand   = value | weight | result | "_"          value = "%" name   weight = "@" name   result = "%" INT
literal   = INT | FLOAT | STRING | "true" | "false" | "none" | dtype | "[" dim "]" | "(" {literal} ")" | graph
            | "complex" "(" FLOAT "," FLOAT ")"
name      = ASCII letters, digits, "_" and "." after a letter or "_", else a STRING
type, dim = as dragoman.ir.types and dragoman.ir.dims read them; items of {…} are separated by commas
"#" begins a comment. Strings are JSON strings in ASCII. Sub-graphs are indented attributes.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dragoman.ir.dims import UNBOUNDED, DimExpr, Symbol
from dragoman.ir.errors import Malformed, printable
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.parser import MAX_DEPTH, PLAIN_NAME, parse
from dragoman.ir.types import DType
from dragoman.ir.weights import AbsentWeight, Weight

__all__ = ["excerpt", "literal", "parse", "printable", "show"]

_INLINE = 8  # weights of up to this many elements are printed with their values
_AROUND = 2  # lines before and after the node of an excerpt


def show(graph: Graph, *, origins: bool = False) -> str:
    """The text of a graph. `origins` adds each node's module path and source line as a comment."""
    return "\n".join(_graph_lines(graph, _Style(origins=origins)))


def excerpt(graph: Graph, node: Node) -> str:
    """The lines around a node, the node's own marked; works for graphs that do not verify."""
    lines: deque[str] = deque(maxlen=2 * _AROUND + 1)
    names = _names(graph)
    left = -1
    for current in (*graph, graph.terminator):
        lines.append(f"{'>>' if current is node else '  '}{_node_text(current, names, _Style('  '))}")
        left = _AROUND if current is node else left - 1
        if left == 0:
            break
    return "\n".join(lines if left >= 0 else list(lines)[-1:])


class _Style:
    """How deep the lines stand, what comments they carry, and the symbols that an outer graph has declared."""

    def __init__(self, indent: str = "", origins: bool = False, declared: Mapping[str, Symbol] | None = None) -> None:
        self.indent = indent
        self.origins = origins
        self.declared = declared or {}

    def within(self, symbols: Mapping[str, Symbol] | None = None) -> _Style:
        """One level deeper."""
        return _Style(self.indent + "  ", self.origins, {**self.declared, **(symbols or {})})


def _graph_lines(graph: Graph, style: _Style) -> Iterator[str]:
    if len(style.indent) >= 4 * MAX_DEPTH:  # four spaces a level
        raise Malformed(f"graphs nested more than {MAX_DEPTH} deep have no text form")
    label = f" {json.dumps(graph.name)}" if graph.name else ""
    names = _names(graph)
    inputs = ", ".join(f"{names[v]}: {v.type}" for v in graph.inputs)
    symbols = graph.symbols()
    ranges = [s for name, s in sorted(symbols.items()) if style.declared.get(name) != s]
    where = ", ".join(f"{s.name} in {s.low}..{s.high if s.high < UNBOUNDED else ''}" for s in ranges)
    yield f"graph{label}({inputs}){' where ' + where if where else ''} {{"
    inner = style.within(symbols)
    for value in graph.weights.values():
        yield f"{inner.indent}weight {names[value]}: {value.type}{_inline(value.weight)}"
    for node in graph:
        yield _node_text(node, names, inner)
    yield _node_text(graph.terminator, names, inner)
    yield f"{style.indent}}}"


def _names(graph: Graph) -> dict[Value, str]:
    names = {v: f"%{_quoted(v.name)}" for v in graph.inputs}
    names.update((v, f"@{_quoted(v.name)}") for v in graph.weights.values())
    number = 0
    for node in graph:
        for result in node.results:
            names[result] = f"%{number}"
            number += 1
    return names


def _quoted(name: str) -> str:
    return name if PLAIN_NAME.fullmatch(name) else json.dumps(name)


def _node_text(node: Node, names: Mapping[Value, str], style: _Style) -> str:
    # A graph that does not verify is printed too: that is when its text is needed most.
    operands = ["_" if v is None else names.get(v, "%?") for v in node.operands]
    if node.next is None:
        return f"{style.indent}return {', '.join(_named(operands, node.graph))}".rstrip()
    results = ", ".join([f"{names.get(r, '%?')}: {r.type}" for r in node.results])
    line = f"{style.indent}{results}{' = ' if results else ''}{node.op.name}({', '.join(operands)})"
    attributes = [f"{name}={_literal(value, style)}" for name, value in node.op.attributes()]
    if attributes:
        line = f"{line} {{{', '.join(attributes)}}}"
    comment = printable(str(node.provenance)) if style.origins else ""
    return f"{line}  # {comment}" if comment else line


def _named(operands: Sequence[str], graph: Graph | None) -> Iterator[str]:
    names = graph.output_names if graph is not None else ()
    for index, operand in enumerate(operands):
        yield f"{operand} as {json.dumps(names[index]) if index < len(names) else '?'}"


def literal(value: Any) -> str:
    """An attribute value as the grammar writes it. Raises Malformed for what has no text form."""
    return _literal(value, _Style())


_WORDS = {None: "none", True: "true", False: "false"}


def _literal(value: Any, style: _Style) -> str:
    if value is None or isinstance(value, bool):
        return _WORDS[value]
    if isinstance(value, (int, float, np.integer, np.floating)):
        return repr(value.item() if isinstance(value, np.generic) else value)
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, tuple):
        return f"({', '.join([_literal(v, style) for v in value])})"
    if isinstance(value, DType):
        return value.name
    if isinstance(value, DimExpr):
        return f"[{value}]"
    if isinstance(value, Graph):
        return "\n".join(_graph_lines(value, style.within()))
    if isinstance(value, complex):
        return f"complex({value.real!r}, {value.imag!r})"
    raise Malformed(f"an attribute of type {type(value).__name__} has no text form")


def _inline(weight: Weight | None) -> str:
    if weight is None or isinstance(weight, AbsentWeight) or weight.dtype.kind not in ("bool", "int", "uint", "float"):
        return ""
    if math.prod(weight.shape) > _INLINE:
        return ""
    # A float of a small type is printed as the exact double it is.
    kind = {"bool": bool, "float": float}.get(weight.dtype.kind, int)
    return f" = {literal(tuple(kind(v) for v in weight.array().reshape(-1)))}"
