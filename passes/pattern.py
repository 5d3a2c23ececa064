"""Patterns: `before` of a rule run once with placeholders instead of values, and the matcher that finds it in a graph.

A pattern is a small tree of op classes whose attributes are literals or placeholders and whose leaves bind values.
The matcher tries both orders of commutative operands, binds each placeholder once, and on failure remembers the
deepest point it reached with the reason: that is what `explain` reports.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from dragoman.ir import builder as _builder  # fills the registry
from dragoman.ir.graph import Node, Value
from dragoman.ir.op import REGISTRY, Op
from dragoman.ir.ops.constant import Constant

assert _builder.Builder


@dataclass(frozen=True)
class Operand:
    """A leaf that binds any value. `rest` binds all remaining operands as a tuple."""

    name: str
    rest: bool = False


@dataclass(frozen=True)
class Attribute:
    """A placeholder for an attribute, bound to what the matched op has."""

    name: str


@dataclass(frozen=True)
class Scalar:
    """A scalar constant: of this value, or of any value bound to a placeholder."""

    value: float | Attribute


@dataclass(frozen=True)
class Application:
    """An op class applied to patterns; attributes not mentioned must have their defaults."""

    op: type[Op]
    operands: tuple[Pattern, ...]
    attributes: dict[str, Any] = field(hash=False)

    @property
    def nodes(self) -> int:
        """Number of ops in the pattern."""
        return 1 + sum(p.nodes for p in self.operands if isinstance(p, Application))


@dataclass(frozen=True)
class Result:
    """One result of an op that has several."""

    of: Application
    index: int

    @property
    def nodes(self) -> int:
        """Number of ops in the pattern."""
        return self.of.nodes


Pattern = Operand | Scalar | Application | Result


class PatternBuilder:
    """Stands in for the builder while `before` is traced: `b.mul(x, b.sigmoid(x))` becomes a pattern.

    A number, or an attribute placeholder, where an operand is expected matches a scalar constant.
    """

    def __getattr__(self, name: str) -> Callable[..., Any]:
        op = REGISTRY.get(name)
        if op is None:
            raise AttributeError(f"there is no op named {name!r}")

        def method(*operands: Any, **attributes: Any) -> Any:
            unknown = set(attributes) - set(op.attribute_names())
            if unknown:
                raise TypeError(f"{name} has no attribute {sorted(unknown)[0]!r}")
            patterns = tuple(Scalar(o) if isinstance(o, (int, float, Attribute)) else o for o in operands)
            application = Application(op, patterns, attributes)
            return application if op.returns_one else _Results(application)

        return method


class _Results:
    """The results of a multi-result op in a pattern: can be indexed and unpacked without knowing how many there are."""

    def __init__(self, application: Application) -> None:
        self.application = application

    def __getitem__(self, index: int) -> Result:
        return Result(self.application, index)

    def __iter__(self) -> Iterator[Result]:
        return (Result(self.application, i) for i in range(8))


@dataclass(frozen=True)
class Traced:
    """A traced `before`: its root, and the names of operands and attributes that it binds."""

    root: Application
    operands: tuple[str, ...]
    attributes: tuple[str, ...]
    rest: str | None


def trace_pattern(before: Callable[..., Any]) -> Traced:
    """Run `before(b, x, y, *, p, q)` with placeholders: positional parameters bind values, keyword ones attributes."""
    parameters = list(inspect.signature(before).parameters.values())[1:]
    operands = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.POSITIONAL_ONLY)]
    rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
    attributes = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    leaves: list[Any] = [Operand(n) for n in operands] + ([Operand(rest, rest=True)] if rest else [])
    root = before(PatternBuilder(), *leaves, **{n: Attribute(n) for n in attributes})
    if isinstance(root, _Results):
        root = root.application
    if not isinstance(root, Application):
        raise TypeError(f"{before.__qualname__} must return one application of an op, not {root!r}")
    return Traced(root, tuple(operands), tuple(attributes), rest)


@dataclass
class Match:
    """What a pattern bound: values and attributes by placeholder name, and the nodes it covers, root first."""

    values: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)

    def copy(self) -> Match:
        """A match that can be extended without touching this one."""
        return Match(dict(self.values), dict(self.attributes), list(self.nodes))


@dataclass
class NearMiss:
    """The deepest point that a failing match reached: how many ops matched, at which node it stopped and why.

    `of` is how many there are to match; 0 where that is not known. `wanted` is the op that was needed at the node.
    """

    depth: int
    node: Node | None
    reason: str
    of: int = 0
    wanted: type[Op] | None = None


def described(value: Value) -> str:
    """A value in the words of a reason: what it is, with its type."""
    if isinstance(value.op, Constant):
        return f"the constant {value.op.value}"
    if value.producer is not None:
        return f"{value.producer.op.name} {value.type}"
    return f"{'the weight' if value.weight is not None else 'the input'} {value.name} {value.type}"


def shared_inside(shared: tuple[Node, Node], root: Node, depth: int, of: int) -> NearMiss:
    """A match that is not taken since a node inside it has a user outside: told at that user, if its place is known."""
    inner, user = shared
    place = user if str(user.provenance) else root
    return NearMiss(depth, place, f"the result of {inner.op.name} inside the match is also used by {user.op.name}", of)


def user_outside(nodes: Iterable[Node], inside: Collection[Node]) -> tuple[Node, Node] | None:
    """The first of these nodes whose result is used outside, and the user."""
    for node in nodes:
        for result in node.results:
            for user, _ in result.uses:
                if user not in inside:
                    return node, user
    return None


class Matcher:
    """Matches one pattern at one node. `miss` is the nearest miss of the last failure."""

    def __init__(self, pattern: Application) -> None:
        self.pattern = pattern
        self.miss = NearMiss(-1, None, "")
        self._needs = tuple(_producer_of(p) for p in pattern.operands)

    def could_match(self, node: Node) -> bool:
        """Whether the ops right before `node` are those of the pattern: most nodes fail at that already."""
        needs, operands = self._needs, node.operands
        if len(needs) > len(operands):
            return True
        if all(n is None or _is_made_by(v, n) for n, v in zip(needs, operands, strict=False)):
            return True
        if not node.op.commutative or len(operands) != 2 or len(needs) != 2:
            return False
        (first, second), (x, y) = needs, operands
        return (first is None or _is_made_by(y, first)) and (second is None or _is_made_by(x, second))

    def match(self, node: Node) -> Match | None:
        """The first match with `node` as the root, or None."""
        self.miss = NearMiss(-1, node, "")
        return next(self._application(self.pattern, node, Match()), None)

    def _fail(self, found: Match, node: Node | None, reason: str, wanted: type[Op] | None = None) -> None:
        if len(found.nodes) > self.miss.depth:
            self.miss = NearMiss(len(found.nodes), node, reason, self.pattern.nodes, wanted)

    def _application(self, pattern: Application, node: Node, found: Match) -> Iterator[Match]:
        if type(node.op) is not pattern.op:
            self._fail(found, node, f"{pattern.op.name} is needed, found {node.op.name}", pattern.op)
            return
        found = found.copy()
        if not self._attributes(pattern, node, found):
            return
        found.nodes.append(node)
        for operands in _orders(pattern, node):
            yield from self._operands(pattern.operands, operands, node, found)

    def _attributes(self, pattern: Application, node: Node, found: Match) -> bool:
        for f in dataclasses.fields(pattern.op):  # type: ignore[arg-type]
            actual = getattr(node.op, f.name)
            wanted = pattern.attributes.get(f.name, f.default)
            if isinstance(wanted, Attribute):
                bound = found.attributes.setdefault(wanted.name, actual)
                if not _equal(bound, actual):
                    self._fail(found, node, f"{f.name}={actual} where {wanted.name} is already {bound}")
                    return False
            elif not _equal(wanted, actual):
                self._fail(found, node, f"{f.name}={actual} where {wanted} is needed")
                return False
        return True

    def _operands(
        self, patterns: Sequence[Pattern], operands: Sequence[Value | None], node: Node, found: Match
    ) -> Iterator[Match]:
        if patterns and isinstance(patterns[-1], Operand) and patterns[-1].rest:
            fixed = len(patterns) - 1
            if len(operands) < fixed:
                return
            found = found.copy()
            bound = found.values.setdefault(patterns[-1].name, tuple(operands[fixed:]))
            if bound == tuple(operands[fixed:]):
                yield from self._each(patterns[:-1], operands[:fixed], node, found)
            return
        if len(patterns) != len(operands):
            self._fail(found, node, f"{node.op.name} has {len(operands)} operands where {len(patterns)} are needed")
            return
        yield from self._each(patterns, operands, node, found)

    def _each(
        self, patterns: Sequence[Pattern], operands: Sequence[Value | None], node: Node, found: Match
    ) -> Iterator[Match]:
        if not patterns:
            yield found
            return
        for extended in self._value(patterns[0], operands[0], node, found):
            yield from self._each(patterns[1:], operands[1:], node, extended)

    def _value(self, pattern: Pattern, value: Value | None, user: Node, found: Match) -> Iterator[Match]:
        if value is None:
            self._fail(found, user, "an optional operand is absent")
        elif isinstance(pattern, Operand):
            yield from self._bind(pattern, value, user, found)
        elif isinstance(pattern, Scalar):
            yield from self._scalar(pattern, value, user, found)
        elif value.producer is None:
            wanted = pattern.of if isinstance(pattern, Result) else pattern
            self._fail(found, user, f"{wanted.op.name} is needed, found {described(value)}")
        elif isinstance(pattern, Result):
            if value.index != pattern.index:
                self._fail(found, value.producer, f"result {pattern.index} is needed, found result {value.index}")
            else:
                yield from self._application(pattern.of, value.producer, found)
        else:
            yield from self._application(pattern, value.producer, found)

    def _bind(self, pattern: Operand, value: Value, user: Node, found: Match) -> Iterator[Match]:
        bound = found.values.get(pattern.name)
        if bound is None:
            found = found.copy()
            found.values[pattern.name] = value
            yield found
        elif bound is value or _same_constant(bound, value):
            yield found
        else:
            self._fail(found, user, f"{pattern.name} is used twice in the pattern but is two values here")

    def _scalar(self, pattern: Scalar, value: Value, user: Node, found: Match) -> Iterator[Match]:
        actual = scalar_of(value)
        if actual is None:
            self._fail(found, user, f"a scalar constant is needed, found {described(value)}")
            return
        if isinstance(pattern.value, Attribute):
            found = found.copy()
            if not _equal(found.attributes.setdefault(pattern.value.name, actual), actual):
                self._fail(found, user, f"the constant is {actual}, {pattern.value.name} is already another")
                return
            yield found
        elif rounded_equal(pattern.value, actual, value):
            yield found
        else:
            self._fail(found, user, f"the constant is {actual} where {pattern.value} is needed")


def _producer_of(pattern: Pattern) -> type[Op] | None:
    """The op class that must have made an operand, or None where any value may do."""
    if isinstance(pattern, Result):
        return pattern.of.op
    return pattern.op if isinstance(pattern, Application) else None


def _is_made_by(value: Value | None, op: type[Op]) -> bool:
    return value is not None and value.producer is not None and type(value.producer.op) is op


def _orders(pattern: Application, node: Node) -> Iterator[Sequence[Value | None]]:
    yield node.operands
    if node.op.commutative and len(node.operands) == 2 and node.operands[0] is not node.operands[1]:
        yield [node.operands[1], node.operands[0]]


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return a == b
    return type(a) is type(b) and bool(a == b)


def _same_constant(a: Any, b: Value) -> bool:
    left = a.op if isinstance(a, Value) else None
    return isinstance(left, Constant) and left == b.op


def scalar_of(value: Value) -> float | complex | str | None:
    """The number that a value is if it is a scalar constant or a weight of rank 0; None otherwise."""
    if isinstance(value.op, Constant):
        return value.op.value
    weight = value.weight
    if weight is None or weight.shape or weight.dtype.kind == "string":
        return None
    number = weight.array()[()]
    return complex(number) if weight.dtype.is_complex else (float(number) if weight.dtype.is_float else int(number))


def rounded_equal(wanted: float, actual: float | complex | str, value: Value) -> bool:
    """Whether a constant is the wanted number as the constant's own dtype rounds it."""
    if isinstance(actual, str):
        return False
    if actual == wanted:
        return True
    numpy = value.type.dtype.numpy
    return value.type.dtype.is_inexact and bool(numpy.type(actual) == numpy.type(wanted))
