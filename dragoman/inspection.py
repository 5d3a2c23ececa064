"""`inspect`: what a source holds and what of it has no translation, without converting it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dragoman.inputs import InputSpec
from dragoman.ir.dims import UNBOUNDED, Symbol
from dragoman.ir.errors import EmitRefused, ImportRefused, Occurrence
from dragoman.ir.text import printable
from dragoman.model import Model, load
from dragoman.passes.manager import graphs_within
from dragoman.source import locate
from dragoman.stages import Progress, silent
from dragoman.summary import size

if TYPE_CHECKING:
    from dragoman.frontends.onnx.contents import Contents


@dataclass(frozen=True)
class Inspection:
    """Inputs, outputs, parameters, operators by count, dynamic dims; and every operator that stands in the way.

    `unsupported` has no translation into the IR, and then there is no model; or none into ONNX.
    """

    source: str
    model: Model | None
    unsupported: tuple[Occurrence, ...] = ()
    advice: str = ""
    contents: Contents | None = None  # of an ONNX model, as it stands

    @property
    def operators(self) -> dict[str, int]:
        """How often each op of the IR occurs, sub-graphs included, most frequent first."""
        if self.model is None:
            return {}
        counted = Counter(node.op.name for graph in graphs_within(self.model.graph) for node in graph)
        return dict(counted.most_common())

    @property
    def parameters(self) -> tuple[int, int, int]:
        """Number of weights, of their elements, and of their bytes; without reading them."""
        weights = [v.weight for v in self.model.graph.weights.values() if v.weight is not None] if self.model else []
        elements = sum(w.nbytes * 8 // max(w.dtype.bits, 1) for w in weights)
        return len(weights), elements, sum(w.nbytes for w in weights)

    def __str__(self) -> str:
        return "\n".join(printable(line) for line in self._lines())

    def _lines(self) -> list[str]:
        lines = [self.source, *self._of_the_file()]
        if self.model is not None:
            lines += self._section("inputs", [f"{n}: {t}" for n, t in self.model.inputs.items()])
            lines += self._section("outputs", [f"{n}: {t}" for n, t in self.model.outputs.items()])
            symbols = self.model.graph.symbols()
            lines += self._section("dynamic", [_range(s) for s in symbols.values()] or ["none"])
            count, elements, held = self.parameters
            lines += self._section("parameters", [f"{count} tensors, {elements:,} elements, {size(held)}"])
            lines += self._section("operators", [f"{count:>6}  {name}" for name, count in self.operators.items()])
            lines += self._section("notes", [str(note) for note in self.model.notes])
        where = "into ONNX" if self.model is not None else "into the IR"
        rows = [line[2:] for o in self.unsupported for line in str(o).splitlines()]
        return lines + self._section(f"no translation {where}", [*rows, *([self.advice] if self.advice else [])])

    def _of_the_file(self) -> list[str]:
        """What the file says; its interface only where no model came of it."""
        held = self.contents
        if held is None:
            return []
        opsets = [f"{domain} {version}" for domain, version in held.opsets.items()]
        lines = self._section("opsets", opsets) + self._section("written by", [held.producer] if held.producer else [])
        if self.model is None:
            lines += self._section("inputs", held.inputs) + self._section("outputs", held.outputs)
            lines += self._section("dynamic", held.dynamic or ["none"])
            lines += self._section("parameters", [f"{held.weights} tensors, {held.elements:,} elements"])
        lines += self._section("external data", held.external)
        operators = [f"{count:>6}  {name}" for name, count in held.operators.items()]
        functions = [f"{held.functions} functions"] if held.functions else []
        return lines + self._section("operators of the file", [*operators, *functions])

    @staticmethod
    def _section(title: str, rows: Sequence[str]) -> list[str]:
        return [f"  {title}", *(f"    {row}" for row in rows)] if rows else []


def inspect(
    source: Any, *, inputs: Sequence[str | InputSpec] = (), trust: bool = False, progress: Progress = silent
) -> Inspection:
    """Read a source and tell what it holds. Operators without translation are listed, not raised."""
    spec = source if isinstance(source, str) else type(source).__qualname__
    contents = _contents(source, trust)
    try:
        model = load(source, inputs=inputs, trust=trust, progress=progress)
    except ImportRefused as refused:
        return Inspection(spec, None, refused.occurrences, refused.advice, contents)
    progress("emit")
    try:
        _emitted(model)
    except EmitRefused as refused:
        return Inspection(model.spec or spec, model, refused.occurrences, refused.advice, contents)
    return Inspection(model.spec or spec, model, contents=contents)


def _contents(source: Any, trust: bool) -> Contents | None:
    """What an ONNX model holds; None for other sources."""
    is_file = isinstance(source, (str, Path)) and Path(source).is_file()
    if not is_file and type(source).__module__.partition(".")[0] not in ("onnx", "onnx_ir"):
        return None
    located = locate(source, trust=trust)
    if located.kind != "onnx":
        return None
    from dragoman.frontends.onnx.contents import contents
    from dragoman.frontends.onnx.load import read_model

    return contents(read_model(located.what) if isinstance(located.what, Path) else located.what)


def _emitted(model: Model) -> None:
    from dragoman.backends.onnx import emit

    emit(model.graph, value_info=False, provenance=False)


def _range(symbol: Symbol) -> str:
    bounds = f"{symbol.low} or more" if symbol.high >= UNBOUNDED else f"{symbol.low}..{symbol.high}"
    return f"{symbol.name}: {bounds}"
