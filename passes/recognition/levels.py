"""In which order ops are looked for, and which of them a graph could hold at all.

Ops are found in the order of `levels`: what appears in the spelled-out form of another comes first. Whether a graph
could hold one is told by the classes of its ops alone, before anything is traced on the graph's types: a gelu needs an
`erf` or a `tanh`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from dragoman.ir.graph import Graph, Node
from dragoman.ir.op import Op
from dragoman.passes.manager import graphs_within
from dragoman.passes.pattern import Application, Pattern, Result, Scalar
from dragoman.passes.recognition.spelling import DTypeClass, Form, dtype_class, forms, recognisable, varying
from dragoman.passes.rewrite import PatternRule, rules_in
from dragoman.passes.rules import arithmetic, movement

CANONICAL = rules_in(movement, arithmetic)
Classes = frozenset[type[Op]]


@cache
def levels() -> Mapping[type[Op], int]:
    """When each op is looked for: after all that its spelled-out form names, and last if no other form names it.

    What comes last is found together, from the end of a graph, so that of two that would do the larger wins: a layer
    norm with its scale, rather than an instance norm inside it.
    """
    recognised = frozenset(recognisable())
    names = {op: _classes_of(_wide(op)) & recognised - {op} for op in recognisable()}
    found: dict[type[Op], int] = {}
    for op in names:
        _climb(op, names, found, frozenset())
    named = frozenset[type[Op]]().union(*names.values())
    return {op: level if op in named else max(found.values()) for op, level in found.items()}


def _climb(op: type[Op], names: Mapping[type[Op], Classes], found: dict[type[Op], int], above: Classes) -> int:
    if op not in found:
        inner = [_climb(o, names, found, above | {op}) for o in names[op] if o not in above]
        found[op] = 1 + max(inner, default=0)
    return found[op]


def _wide(op: type[Op]) -> list[Form]:
    """Without half precision, which names nothing else and casts besides."""
    return [form for form in forms(op) if not any(narrow for _, narrow in form.dtypes)]


@dataclass(frozen=True)
class _Computed:
    """What a form computes with; `firm` is of it what no canonicalisation takes away."""

    classes: Classes
    firm: Classes


@cache
def _computed(form: Form) -> _Computed:
    nodes = varying(form.graph())
    classes = frozenset(type(node.op) for node in nodes)
    return _Computed(classes, frozenset(type(node.op) for node in nodes if not _may_go(node, classes)))


def _classes_of(of: Sequence[Form]) -> Classes:
    return frozenset[type[Op]]().union(*(_computed(form).classes for form in of))


# ---- what a graph could hold ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Present:
    """The classes of a graph's ops and the kinds of dtypes of its values, nested graphs included."""

    classes: Classes
    dtypes: frozenset[DTypeClass]

    def forms(self, op: type[Op]) -> list[Form]:
        """The forms of an op on dtypes that are there."""
        return [form for form in forms(op) if form.dtypes <= self.dtypes]

    def could_hold(self, op: type[Op]) -> bool:
        """Whether a form of the op could be there once all lower ones are recognised."""
        within = self.classes
        for other in self.classes:
            if other in levels() and levels()[other] < levels()[op]:
                within |= self._reached(other)
        return any(_computed(form).firm <= within for form in self.forms(op))

    def _reached(self, op: type[Op]) -> Classes:
        """What an op computes with in any form, and what that computes with, down to the last."""
        return _reached(op, self.dtypes)


@cache
def _reached(op: type[Op], dtypes: frozenset[DTypeClass]) -> Classes:
    found = Classes()
    work = [op]
    while work:
        inner = _classes_of([f for f in forms(work.pop()) if f.dtypes <= dtypes]) - found
        found |= inner
        work.extend(i for i in inner if i in levels())
    return found


def present_in(graph: Graph) -> Present:
    """What a graph is made of."""
    graphs = graphs_within(graph)
    types = {v.type for g in graphs for v in g.inputs} | {v.type for g in graphs for v in g.weights.values()}
    types |= {r.type for g in graphs for node in g for r in node.results}
    return Present(
        frozenset(type(node.op) for g in graphs for node in g), frozenset(dtype_class(type) for type in types)
    )


def _may_go(node: Node, classes: Classes) -> bool:
    """Whether canonicalisation may take a node away. Its rules over families of ops (`NodeRule`) keep the op."""
    if node.op.movement:
        return True
    numbers = sum(v is not None and _is_number(v.producer) for v in node.operands)
    return any(scalars <= numbers and others <= classes for scalars, others in _taken().get(type(node.op), ()))


def _is_number(node: Node | None) -> bool:
    return node is not None and all(v is not None and _is_number(v.producer) for v in node.operands)


@cache
def _taken() -> Mapping[type[Op], list[tuple[int, Classes]]]:
    """What rules of canonicalisation match: at an op, with so many numbers for operands, along with other ops."""
    found: dict[type[Op], list[tuple[int, Classes]]] = {}
    for rule in CANONICAL:
        if isinstance(rule, PatternRule):
            applications = list(_applications(rule.traced.root))
            for each in applications:
                others = frozenset(a.op for a in applications if a is not each)
                found.setdefault(each.op, []).append((sum(isinstance(o, Scalar) for o in each.operands), others))
    return found


def _applications(pattern: Pattern) -> Iterator[Application]:
    if isinstance(pattern, Result):
        pattern = pattern.of
    if isinstance(pattern, Application):
        yield pattern
        for operand in pattern.operands:
            yield from _applications(operand)
