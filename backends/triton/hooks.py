"""Generated device functions: pointwise kernels, and the LOAD and STORE hooks of templates, as text.

Owns how a body becomes a function and what the host passes to it. `sources` and `sinks` are tuples: tensors, sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

from dragoman.backends.triton.body import Body, Index, Term
from dragoman.ir.dims import Dim, DimExpr, is_one, product
from dragoman.ir.graph import Node, Value
from dragoman.ir.ops.reduce import Reduction
from dragoman.ir.types import Shape

_WIDE = 2**31  # elements from which places need 64 bits
ROW, COL = frozenset({0}), frozenset({1})
_STORED = {"bool": "tl.int8"}


class _Handlers(dict[str, Callable[[Body, Node, Index], Term]]):
    """The handler of each op, by its name."""

    def __missing__(self, name: str) -> Callable[[Body, Node, Index], Term]:
        from dragoman.backends.triton import expressions
        from dragoman.backends.triton.places import HANDLERS

        return HANDLERS.get(name, expressions.evaluate)


@dataclass(frozen=True)
class Function:
    """A device function: its text but for its name, what it takes after its own parameters, and the ops in it."""

    parameters: str
    lines: tuple[str, ...]
    operands: tuple[Value, ...]
    extents: tuple[Dim, ...]
    nodes: tuple[Node, ...]
    unpacked: str  # the tuple that holds operands and extents; empty for a kernel's own arguments
    result: str = ""  # a pointer that is passed before them

    def text(self, name: str) -> str:
        """The definition under a name."""
        taken = [*([self.result] if self.result else []), *(f"x{k}" for k in range(len(self.operands)))]
        taken += [f"d{k}" for k in range(len(self.extents))]
        head = f"@triton.jit\ndef {name}({self.parameters if self.unpacked else self._arguments(taken)}):\n"
        told = ", ".join(dict.fromkeys(n.op.name for n in self.nodes))
        lines = [f'"""{told or "As it is"}."""']
        if self.unpacked and taken:
            lines.append(f"{', '.join(taken)}{',' if len(taken) == 1 else ''} = {self.unpacked}")
        return head + "".join(f"    {line}\n" for line in (*lines, *self.lines))

    def _arguments(self, taken: Sequence[str]) -> str:
        return ", ".join([*taken, self.parameters])


def body(stored: Container[Value]) -> Body:
    """An empty body that may load what is stored."""
    return Body(stored, _Handlers())


def is_wide(*shapes: Shape) -> bool:
    """Whether places in tensors of these shapes may need 64 bits."""
    return any(isinstance(n, DimExpr) or n >= _WIDE for n in map(product, shapes))


def _function(made: Body, parameters: str, last: Sequence[str], unpacked: str, result: str = "") -> Function:
    lines = (*made.lines, *last)
    return Function(parameters, lines, tuple(made.operands), tuple(made.extents), tuple(made.nodes), unpacked, result)


def stored_as(term: Term, value: Value, mask: str) -> str:
    """A term in the type in which a value is stored."""
    if value.type.dtype.kind == "bool":
        return f"({term.text}).to(tl.int8)"
    return f"({term.text}).to(y.dtype.element_ty)"


def pointwise(value: Value, stored: Container[Value]) -> Function:
    """A kernel of its own that computes a value element by element."""
    made = body(stored)
    made.root = value
    shape = value.type.shape
    at = Term("at", ROW)
    made.conditions.append(Term("inside", ROW))
    index = made.split(at, shape)
    made.whole = (shape, index, at)
    term = made.value(value, index)
    wide = is_wide(shape, *(v.type.shape for v in made.operands))
    place = "tl.program_id(0).to(tl.int64)" if wide else "tl.program_id(0)"
    first = [f"at = {place} * BLOCK + tl.arange(0, BLOCK)", "inside = at < count"]
    made.lines[:0] = first
    store = f"tl.store(y + at, {stored_as(term, value, 'inside')}, mask=inside)"
    return _function(made, "count, BLOCK: tl.constexpr", [store], "", "y")


@dataclass(frozen=True)
class Rows:
    """How the rows and columns of a template lie in an index: the extents of each, and how to put them together."""

    rows: Shape
    cols: Shape
    together: Callable[[Index, Index], Index]


def load_rows(value: Value, rows: Rows, stored: Container[Value]) -> Function:
    """LOAD(row, col, mask, sources) of a value. Raises Elsewhere."""
    made = body(stored)
    row, col = _bounded(made, rows)
    index = rows.together(made.split(row, rows.rows), made.split(col, rows.cols))
    term = made.value(value, index)
    kind = "tl.float32" if value.type.dtype.kind == "bool" else ""
    text = f"({term.text}).to({kind})" if kind else term.text
    return _function(made, "row, col, mask, sources", [f"return tl.broadcast_to({text}, mask.shape)"], "sources")


def _bounded(made: Body, rows: Rows) -> tuple[Term, Term]:
    row, col = Term("row", ROW), Term("col", COL)
    if not is_one(product(rows.rows)):
        made.conditions.append(Term(f"(row < {made.extent(product(rows.rows)).text})", ROW))
    if not is_one(product(rows.cols)):
        made.conditions.append(Term(f"(col < {made.extent(product(rows.cols)).text})", COL))
    return row, col


def load_tile(made: Body, term: Term) -> Function:
    """LOAD of a tile that a body has computed already."""
    last = f"return tl.broadcast_to({term.text}, mask.shape)"
    return _function(made, "row, col, mask, sources", [last], "sources")


@dataclass(frozen=True)
class Sink:
    """Where a template's result goes: its own value, the value finally stored, and what is done to it first."""

    own: Value
    final: Value
    stored: Container[Value]
    before: Callable[[Body, Term, Index], Term] | None = None

    def into(self, made: Body, parameters: str, index: Index, axes: frozenset[int], at: Term | None = None) -> Function:
        """STORE hook text. Raises Elsewhere where the final value needs the result at another place."""
        term = Term("value", axes)
        if self.before is not None:
            term = self.before(made, term, index)
        made.root = self.final
        made.held[self.own] = index, term
        term = made.value(self.final, index)
        place = made.offset(self.final.type.shape, index)
        text = f"y + {place.text}" if place.axes == axes else f"y + tl.zeros(mask.shape, tl.int32) + {place.text}"
        store = f"tl.store({text}, {stored_as(term, self.final, 'mask')}, mask=mask)"
        return _function(made, parameters, [store], "sinks", "y")

    def rows(self, rows: Rows) -> Function:
        """STORE(value, row, col, mask, sinks)."""
        made = body(self.stored)
        row, col = _bounded(made, rows)
        index = rows.together(made.split(row, rows.rows), made.split(col, rows.cols))
        return self.into(made, "value, row, col, mask, sinks", index, ROW | COL)

    def reduced(self, rows: Rows) -> Function:
        """STORE(value, row, mask, sinks)."""
        made = body(self.stored)
        row, _ = _bounded(made, Rows(rows.rows, (), rows.together))
        index = rows.together(made.split(row, rows.rows), ())
        return self.into(made, "value, row, mask, sinks", index, ROW)

    def product(self, batches: Shape, rows: Shape, cols: Dim) -> Function:
        """STORE(value, batch, m, n, mask, sinks) of a product whose index is batches, rows, columns in this order."""
        made = body(self.stored)
        m, n = self._tile(made, product(rows), cols)
        index = (
            *made.split(Term("batch"), batches),
            *made.split(m, rows),
            *((n,) if not is_one(cols) else (Term("0"),)),
        )
        return self.into(made, "value, batch, m, n, mask, sinks", index, ROW | COL)

    def convolution(self, images: Dim, places: Shape, groups: int, filters: Dim, last: bool) -> Function:
        """STORE(value, group, m, n, mask, sinks): rows are images and places, columns the filters of a group."""
        made = body(self.stored)
        m, n = self._tile(made, product((images, *places)), filters)
        image, *spatial = made.split(m, (images, *places))
        channel = made.plus(made.times(Term("batch"), filters), n) if groups > 1 else n
        channel = Term("0") if is_one(filters * groups) else channel
        index = (image, *spatial, channel) if last else (image, channel, *spatial)
        return self.into(made, "value, batch, m, n, mask, sinks", index, ROW | COL)

    def _tile(self, made: Body, rows: Dim, cols: Dim) -> tuple[Term, Term]:
        wide = is_wide(self.final.type.shape)
        if wide:
            made.lines.append("m = m.to(tl.int64)")
        made.conditions.append(Term(f"(m < {made.extent(rows).text})", ROW))
        made.conditions.append(Term(f"(n < {made.extent(cols).text})", COL))
        return Term("m", ROW), Term("n", COL)


def reduced_rows(op: Reduction, shape: Shape) -> Rows:
    """The rows of a reduction: kept axes; its columns: the axes that go. Without columns, an index of the result."""
    gone = {a % len(shape) for a in op.axes}
    kept = tuple(d for a, d in enumerate(shape) if a not in gone)

    def together(row: Index, col: Index) -> Index:
        rows, cols = iter(row), iter(col)
        if col or not gone:
            return tuple(next(cols) if a in gone else next(rows) for a in range(len(shape)))
        if not op.keepdims:
            return row
        return tuple(Term("0") if a in gone else next(rows) for a in range(len(shape)))

    return Rows(kept, tuple(d for a, d in enumerate(shape) if a in gone), together)


def trailing_rows(shape: Shape, axis: int) -> Rows:
    """Rows over the axes before `axis`, columns from it on."""
    return Rows(shape[:axis], shape[axis:], lambda row, col: (*row, *col))


def axis_rows(shape: Shape, axis: int) -> Rows:
    """Columns along one axis, rows over the others."""
    return Rows(
        (*shape[:axis], *shape[axis + 1 :]),
        (shape[axis],),
        lambda row, col: (*row[:axis], *col, *row[axis:]),
    )
