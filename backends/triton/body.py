"""The body of a kernel or hook: values of a graph evaluated at an index, as Triton text.

A value is asked for at a tuple of index terms. What is stored is loaded from there; what is not is computed from its
operands, each asked for at the index where it is needed: movements (a transpose, a slice, padding) are index
arithmetic, and nothing is written between nodes. A term knows on which axes of the tile it
depends; a load is guarded by the conditions that concern its own axes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from dragoman.ir.dims import Dim, is_one, product
from dragoman.ir.graph import Node, Value
from dragoman.ir.types import DType, Shape, same_shape

COMPUTED = {"f16": "tl.float32", "bf16": "tl.float32", "f32": "tl.float32", "f64": "tl.float64", "bool": "tl.int1"} | {
    f"{kind[0]}{bits}": f"tl.{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)
}
_MOST_LINES = 400  # of a kernel: beyond that, what it computes is stored in between

Index = tuple["Term", ...]


@dataclass(frozen=True)
class Term:
    """A piece of Triton text and the axes of the tile on which its value depends."""

    text: str
    axes: frozenset[int] = frozenset()


class Elsewhere(Exception):
    """A value that is held in registers was asked for at another place than its own."""


Handler = Callable[["Body", Node, Index], Term]


@dataclass
class Body:
    """Text under way: its lines, and what must be passed in. `stored` tells what can be loaded."""

    stored: Container[Value]
    handlers: Mapping[str, Handler]
    lines: list[str] = field(default_factory=list[str])
    operands: dict[Value, str] = field(default_factory=dict[Value, str])
    extents: dict[Dim, str] = field(default_factory=dict[Dim, str])
    conditions: list[Term] = field(default_factory=list[Term])
    held: dict[Value, tuple[Index, Term]] = field(default_factory=dict[Value, tuple[Index, Term]])
    nodes: list[Node] = field(default_factory=list[Node])
    root: Value | None = None  # stored by this very kernel: computed, not loaded
    whole: tuple[Shape, Index, Term] | None = None  # a shape, an index into it and the same as one number
    _known: dict[tuple[Value, Index, tuple[Term, ...]], Term] = field(default_factory=dict)

    def value(self, value: Value, index: Index) -> Term:
        """A value at an index, computed in the type that `COMPUTED` tells. Raises Elsewhere."""
        if value in self.held:
            place, term = self.held[value]
            if place != index:
                raise Elsewhere
            return term
        key = value, index, tuple(self.conditions)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._made(value, index)
        return found

    def _made(self, value: Value, index: Index) -> Term:
        if value.producer is None or (value in self.stored and value is not self.root):
            return self._loaded(value, index)
        if self.held and len(self.lines) > _MOST_LINES:
            raise Elsewhere
        node = value.producer
        if node not in self.nodes:
            self.nodes.append(node)
        return self.handlers[node.op.name](self, node, index)

    def operand(self, node: Node, number: int, index: Index) -> Term:
        """An operand of a pointwise node at the place from which the result's index takes it."""
        value = node.operands[number]
        assert value is not None
        shape = value.type.shape
        lent = index[len(index) - len(shape) :]
        return self.value(value, tuple(Term("0") if is_one(d) else i for d, i in zip(shape, lent, strict=True)))

    def _loaded(self, value: Value, index: Index) -> Term:
        name = self.operands.setdefault(value, f"x{len(self.operands)}")
        at = self.offset(value.type.shape, index)
        guards = [c.text for c in self.conditions if c.axes <= at.axes]
        guarded = f", mask={' & '.join(guards)}, other=0" if guards else ""
        text = f"tl.load({name}{'' if at.text == '0' else f' + {at.text}'}{guarded})"
        if value.type.dtype.name in ("f16", "bf16"):
            text += ".to(tl.float32)"
        elif value.type.dtype.kind == "bool":
            text = f"({text} != 0)"
        return self.put(text, at.axes)

    def offset(self, shape: Shape, index: Index) -> Term:
        """The place of an element of a contiguous tensor."""
        if self.whole is not None and index == self.whole[1] and same_shape(shape, self.whole[0]):
            return self.whole[2]
        total = Term("0")
        for axis, term in enumerate(index):
            total = self.plus(total, self.times(term, product(shape[axis + 1 :])))
        return total

    def put(self, text: str, axes: Collection[int]) -> Term:
        """A line that names what the text computes."""
        name = f"v{len(self.lines)}"
        self.lines.append(f"{name} = {text}")
        return Term(name, frozenset(axes))

    def call(self, text: str, *terms: Term) -> Term:
        """A line made of a format and terms."""
        return self.put(text.format(*(t.text for t in terms)), frozenset[int]().union(*(t.axes for t in terms)))

    # ---- index arithmetic --------------------------------------------------------------------------------

    def extent(self, dim: Dim) -> Term:
        """A size: a number, or an argument."""
        if isinstance(dim, int):
            return Term(str(dim))
        return Term(self.extents.setdefault(dim, f"d{len(self.extents)}"))

    def plus(self, a: Term, b: Term, sign: str = "+") -> Term:
        """a + b, or a − b."""
        if b.text == "0":
            return a
        if a.text == "0" and sign == "+":
            return b
        return Term(f"({a.text} {sign} {b.text})", a.axes | b.axes)

    def times(self, a: Term, dim: Dim) -> Term:
        """a · dim."""
        if a.text == "0" or is_one(dim):
            return a
        return Term(f"{a.text} * {self.extent(dim).text}", a.axes)

    def split(self, term: Term, shape: Shape) -> Index:
        """A row-major place as an index, one term for each axis."""
        if not any(c in term.text for c in "+*/% "):
            return self._split(term, shape)
        parts = [d for d in shape if not is_one(d)]
        return self._split(self.put(term.text, term.axes) if len(parts) > 1 else term, shape)

    def _split(self, term: Term, shape: Shape) -> Index:
        index: list[Term] = []
        first = next((a for a, d in enumerate(shape) if not is_one(d)), len(shape))
        for axis, dim in enumerate(shape):
            if is_one(dim):
                index.append(Term("0"))
                continue
            after = product(shape[axis + 1 :])
            text = term.text if is_one(after) else f"{term.text} // {self._divisor(after)}"
            if axis != first:
                text = f"({text}) % {self._divisor(dim)}" if "//" in text else f"{text} % {self._divisor(dim)}"
            index.append(Term(f"({text})" if " " in text else text, term.axes))
        return tuple(index)

    def _divisor(self, dim: Dim) -> str:
        return str(max(dim, 1)) if isinstance(dim, int) else self.extent(dim).text

    @contextmanager
    def where(self, condition: Term):
        """What is loaded meanwhile is needed only under this condition."""
        self.conditions.append(condition)
        try:
            yield
        finally:
            self.conditions.pop()


def computed(dtype: DType) -> str:
    """The Triton type in which values of a dtype are computed."""
    return COMPUTED[dtype.name]


def literal(value: complex | str, dtype: DType) -> str:
    """A scalar constant as Triton text."""
    if dtype.is_float:
        assert isinstance(value, (int, float))
        number = repr(float(value))
        number = f'float("{number}")' if number in ("nan", "inf", "-inf") else number
    else:
        assert isinstance(value, int)
        number = str(int(value))
    return f"tl.full((), {number}, {computed(dtype)})"
