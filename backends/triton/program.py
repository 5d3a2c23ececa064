"""One graph as a Python function that launches kernels: the text of its steps, and when each buffer is alive.

Names come from a counter; nothing of a model's own names reaches the text. Regions of control flow are functions inside
the function of the graph around them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dragoman.backends.triton import hooks, library, table
from dragoman.backends.triton.extents import shape_text, spelled
from dragoman.backends.triton.partition import Partition, cut, is_contiguous
from dragoman.ir.dims import Dim, product
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.types import DType
from dragoman.ir.weights import Weight

TORCH = {"f16": "float16", "bf16": "bfloat16", "f32": "float32", "f64": "float64", "bool": "bool"} | {
    f"{kind[0]}{bits}": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)
}


def torch_dtype(dtype: DType) -> str:
    """A dtype as torch calls it."""
    return f"torch.{TORCH[dtype.name]}"


@dataclass
class Shared:
    """What all functions of a folder have in common: kernels, weights, the names of symbols, what was called."""

    symbols: dict[str, str]
    functions: dict[str, str] = field(default_factory=dict[str, str])  # text by name
    known: dict[tuple[object, ...], str] = field(default_factory=dict)
    weights: dict[str, tuple[Weight, bool]] = field(default_factory=dict[str, tuple[Weight, bool]])
    places: dict[int, int] = field(default_factory=dict[int, int])  # of a weight, by identity
    launches: list[str] = field(default_factory=list[str])
    library: list[str] = field(default_factory=list[str])
    regions: int = 0

    def function(self, made: hooks.Function, kind: str) -> str:
        """The name of a device function; equal ones are one."""
        key = (kind, made.text(""))
        if key not in self.known:
            name = f"{kind}_{len(self.functions)}"
            self.known[key] = name
            self.functions[name] = made.text(name)
        return self.known[key]

    def dim(self, dim: Dim) -> str:
        """A size as text of the host."""
        return spelled(dim, self.symbols)


@dataclass
class Buffer:
    """Memory of a value: its shape and dtype as text, the first and the last step that touch it (last: None, kept)."""

    shape: str
    dtype: str
    born: int
    dies: int | None
    bytes: Dim


class Program:
    """The function of one graph. `lines` is its body; `buffers` what a plan lays out, in order of their numbers."""

    def __init__(self, graph: Graph, shared: Shared, *, planned: bool) -> None:
        self.graph, self.shared, self.planned = graph, shared, planned
        self.cut: Partition = cut(graph)
        self.lines: list[str] = []
        self.names: dict[Value, str] = {}
        self.buffers: list[Buffer] = []
        self._numbers: dict[Value, int] = {}  # of the buffer that holds a value or what it views
        self._step = 0
        self.loadable = _Loadable(self.cut)
        self._outputs = set(graph.outputs)
        self._joined = {root: anchor for anchor, root in self.cut.epilogues.items()}

    def emit(self) -> None:
        """Write all steps."""
        from dragoman.backends.triton.anchors import emit_anchor
        from dragoman.backends.triton.control import emit_control

        for number, value in enumerate(self.graph.inputs):
            self.names[value] = f"{'x' if self.planned else 'a'}{number}"
        for node in list(self.cut.roots(self.graph)):
            if node in self.cut.epilogues:
                continue
            self._step += 1
            anchor = self._joined.get(node)
            if anchor is not None:
                emit_anchor(self, anchor, node.results[0])
            elif node.op.name in table.CONTROL:
                emit_control(self, node)
            elif table.is_anchor(node):
                emit_anchor(self, node, node.results[0])
            elif node.results[0] in self.cut.views:
                self._view(node)
            elif table.is_written(node):
                self._pointwise(node)
            else:
                self._call(node)
        self.lines.append(f"return ({''.join(f'{self._given(v)}, ' for v in self.graph.outputs).rstrip()})")

    def _given(self, value: Value) -> str:
        """An output: memory of its own, even where it is an input or a weight."""
        name = self.name(value)
        return f"{name}.clone()" if value.producer is None or value in self.cut.views else name

    # ---- names and memory ------------------------------------------------------------------------------

    def name(self, value: Value) -> str:
        """A stored value as the host names it; notes that this step uses it."""
        if value.weight is not None:
            return self._weight(value)
        number = self._numbers.get(value)
        if number is not None and self.buffers[number].dies is not None:
            self.buffers[number].dies = self._step
        return self.names[value]

    def _weight(self, value: Value) -> str:
        assert value.weight is not None
        number = self.shared.places.get(id(value.weight))
        if number is None:
            name = value.name
            while name in self.shared.weights:
                name += "_"
            users = value.users
            packed = value.type.rank > 2 and all(_takes_filters(n, value) for n in users)
            number = self.shared.places[id(value.weight)] = len(self.shared.weights)
            self.shared.weights[name] = value.weight, packed
        return f"w[{number}]"

    def buffer(self, value: Value) -> str:
        """Memory for a value that this step makes."""
        name = self.names[value] = f"v{len(self.names)}"
        shape, dtype = shape_text(value.type.shape, self.shared.symbols), torch_dtype(value.type.dtype)
        if self.planned:
            last = None if value in self._outputs else self._step
            self._numbers[value] = len(self.buffers)
            size = product(value.type.shape) * max(value.type.dtype.bits // 8, 1)
            self.buffers.append(Buffer(shape, dtype, self._step, last, size))
            self.lines.append(f"{name} = b[{len(self.buffers) - 1}]")
        else:
            self.lines.append(f"{name} = torch.empty({shape}, dtype={dtype}, device=device)")
        return name

    def fresh(self, value: Value) -> str:
        """A name for a value whose memory somebody else provides."""
        self.names[value] = f"v{len(self.names)}"
        return self.names[value]

    def whole(self, value: Value) -> str:
        """A stored value, contiguous."""
        name = self.name(value)
        return name if is_contiguous(self.cut, value) else f"{name}.contiguous()"

    # ---- steps -----------------------------------------------------------------------------------------

    def arguments(self, made: hooks.Function) -> list[str]:
        """What a device function takes: tensors, then sizes."""
        return [*(self.name(v) for v in made.operands), *(self.shared.dim(d) for d in made.extents)]

    def tuple_of(self, made: hooks.Function, *first: str) -> str:
        """The same as one tuple."""
        return "(" + "".join(f"{a}, " for a in (*first, *self.arguments(made))).rstrip() + ")"

    def launch(self, text: str, what: str) -> None:
        """A launch, for the report."""
        self.lines.append(text)
        self.shared.launches.append(what)

    def _pointwise(self, node: Node) -> None:
        (value,) = node.results
        made = hooks.pointwise(value, self.loadable)
        name = self.shared.function(made, "fused")
        given = ", ".join(self.arguments(made))
        out = self.buffer(value)
        self.launch(f"pointwise(fused.{name}, {out}, {given})".replace(", )", ")"), told(made.nodes))

    def _view(self, node: Node) -> None:
        (value,) = node.results
        base = node.operands[0]
        assert base is not None
        text = _view_text(self, node, self.name(base))
        if base in self._numbers:
            self._numbers[value] = self._numbers[base]
        self.lines.append(f"{self.fresh(value)} = {text}")

    def _call(self, node: Node) -> None:
        text = library.call(node).format(*(self.name(v) for v in node.operands if v is not None))
        names = ", ".join([self.fresh(r) for r in node.results])
        if len(node.results) == 1:
            text = f"{text}.to({torch_dtype(node.result.type.dtype)}).contiguous()"
        self.lines.append(f"{names} = {text}")
        self.shared.library.append(node.op.name)


class _Loadable:
    """What a kernel can load by index: stored values that lie contiguous."""

    def __init__(self, found: Partition) -> None:
        self._cut = found

    def __contains__(self, value: object) -> bool:
        return value in self._cut.stored and value not in self._cut.views


def _takes_filters(node: Node, weight: Value) -> bool:
    """Whether a node multiplies windows by these filters, for which channels should lie beside each other."""
    return node.op.name == "conv" and node.operands[1] is weight and not table.is_depthwise(node)


def told(nodes: Sequence[Node]) -> str:
    """The ops of a launch, for the report."""
    return ", ".join(dict.fromkeys(n.op.name for n in nodes)) or "copy"


def _view_text(program: Program, node: Node, base: str) -> str:
    from dragoman.ir.ops.shape import Slice, Transpose

    op, shape = node.op, node.results[0].type.shape
    if isinstance(op, Transpose):
        rank = len(op.perm)
        return f"{base}.permute({', '.join(str(p % rank) for p in op.perm)})"
    if isinstance(op, Slice):
        cuts = [":"] * len(shape)
        for axis, start, stop, step in zip(op.axes, op.starts, op.stops, op.steps, strict=True):
            cuts[axis % len(shape)] = ":".join((program.shared.dim(start), program.shared.dim(stop), str(step)))
        return f"{base}[{', '.join(cuts)}]"
    how = "expand" if op.name == "broadcast_to" else "view"
    return f"{base}.{how}({shape_text(shape, program.shared.symbols)})"
