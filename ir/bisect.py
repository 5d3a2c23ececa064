"""The first node at which a program departs from the graph that it should be, found by feeding each node the
program's own values.

Fed that way an error is not magnified by what follows, and the node that makes it is the one that shows it. The walk
is in order, linear, and holds values only until their last use. A value that the program cannot show (fused away) is
computed from those before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from dragoman.ir.arithmetic import FLOAT64, NATIVE, Arithmetic
from dragoman.ir.findings import Divergence, OutputFinding, Status
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.interpreter import Interpreter, bind_shape, evaluate_type
from dragoman.ir.judge import judge, outputs_of, wide
from dragoman.ir.local import rounding_unit, tile_maximum, tolerance_factor
from dragoman.ir.noise import Noisy, noisy_outputs, spread
from dragoman.ir.region import extract, free_values, producers
from dragoman.ir.runner import Runner, probing
from dragoman.ir.text import show
from dragoman.ir.types import F64, DType, dtype_of

_BATCH_BYTES = 256 << 20  # of values asked for in one run of the program
_SLACK = 8.0  # units: elementary functions of libraries, as in proof C, and the products inside a node

Probe = Callable[[Sequence[Value]], Mapping[Value, Any]]
"""Values of a run of the program; those that it cannot tell are left out."""


def find_divergence(
    graph: Graph, source: Runner, candidate: Runner, inputs: Sequence[Any], truth: Sequence[Any], command: str = ""
) -> Divergence | None:
    """Where the import or the candidate goes wrong on these inputs; None if no node is wrong on its own inputs."""
    found = _in_import(graph, source, inputs, truth)
    shown = probing(candidate)
    if found is None and shown is not None:
        found = _in_rewriting(graph, shown.graph, inputs)
        found = found or first_divergence(shown.graph, inputs, partial(shown.probe, inputs), "emission")
    return None if found is None else replace(found, command=command)


def _in_import(graph: Graph, source: Runner, inputs: Sequence[Any], truth: Sequence[Any]) -> Divergence | None:
    reason = _differs(graph, inputs, truth, "the source")
    return first_difference(source, inputs, reason, double=True) if reason else None


def first_difference(
    source: Runner, inputs: Sequence[Any], reason: str, command: str = "", double: bool = False
) -> Divergence:
    """The first node of the imported graph that is not what the source computes, or the graph as a whole."""
    shown = probing(source)
    found = None
    if shown is not None:
        found = first_divergence(shown.graph, inputs, partial(shown.probe, inputs, double=double), "import")
    return replace(found or Divergence("import", "the imported graph", "", "", "", reason), command=command)


def _in_rewriting(graph: Graph, emitted: Graph, inputs: Sequence[Any]) -> Divergence | None:
    """Whether the graph that was emitted is still the imported one, but for the rounding of folded constants."""
    if emitted is graph:
        return None
    reason = _differs(graph, inputs, Interpreter(emitted, FLOAT64).run(inputs), "the graph that was emitted")
    return Divergence("rewriting", "the graph after rewriting", "", "", "", reason) if reason else None


def _differs(graph: Graph, inputs: Sequence[Any], truth: Sequence[Any], other: str) -> str:
    """How the graph in float64 differs from `truth` by more than rounding as declared; empty if it does not."""
    outputs = outputs_of(graph)
    exact = Interpreter(graph, FLOAT64).run(inputs)
    off = [i for i, (x, t) in enumerate(zip(exact, truth, strict=True)) if not _close(x, t, outputs[i].precision)]
    if not off:
        return ""
    unit = max(rounding_unit(outputs[i].precision) for i in off)
    allowed = spread(exact, noisy_outputs(graph, inputs, unit, plain_sums=True))
    for i in off:
        if np.shape(exact[i]) != np.shape(truth[i]):
            return f"{outputs[i].name!r} has shape {list(exact[i].shape)}, in {other} {list(np.shape(truth[i]))}"
        distance = _distance(exact[i], truth[i])
        if np.any(distance > 4 * max(allowed[i].max(initial=0.0), 0.0)):
            return f"in float64 {outputs[i].name!r} differs from {other} by {float(distance.max()):.3g}"
    return ""


def _close(x: Any, truth: Any, precision: DType) -> bool:
    if np.shape(x) != np.shape(truth):
        return False
    size = float(np.abs(np.where(np.isfinite(wide(x)), wide(x), 0)).max(initial=0.0)) if _is_inexact(x) else 0.0
    return bool(np.all(_distance(x, truth) <= rounding_unit(precision) * size))


def _is_inexact(x: Any) -> bool:
    return np.asarray(x).dtype.kind in "fcV"


def _distance(x: Any, truth: Any) -> Any:
    """Element by element; infinite where only one is NaN or infinite; 1 for unequal integers."""
    if not _is_inexact(x):
        return (np.asarray(x) != np.asarray(truth)).astype(np.float64)
    a, b = wide(x), wide(truth)
    with np.errstate(all="ignore"):
        distance = np.abs(a - b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    return np.where(same, 0.0, np.where(np.isnan(distance), np.inf, distance))


def first_divergence(graph: Graph, inputs: Sequence[Any], probe: Probe, stage: str) -> Divergence | None:
    """The first node whose values in the program are not what it makes of its operands' values in the program."""
    walk = _Walk(graph, inputs, probe)
    for batch in walk.batches():
        walk.fetch(batch)
        for node in batch:
            finding = walk.check(node)
            if finding is not None:
                return _divergence(node, finding, walk.region, stage)
            walk.release(node)
    return None


@dataclass
class _Walk:
    """Values held so far, and how many users still need each."""

    graph: Graph
    inputs: Sequence[Any]
    probe: Probe
    held: dict[Value, Any] = field(default_factory=dict[Value, Any])
    needed: dict[Value, int] = field(default_factory=dict[Value, int])
    symbols: dict[str, int] = field(default_factory=dict[str, int])
    region: Graph | None = None

    def __post_init__(self) -> None:
        for value, given in zip(self.graph.inputs, self.inputs, strict=True):
            self.symbols.update(bind_shape(value.type, np.shape(given), self.symbols, value.name))
            self._hold(value, np.asarray(given))

    def batches(self) -> Iterator[list[Node]]:
        """Runs of nodes whose results take up to `_BATCH_BYTES`."""
        batch: list[Node] = []
        size = 0
        for node in self.graph:
            batch.append(node)
            size += sum(_nbytes(r, self.symbols) for r in node.results)
            if size > _BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def fetch(self, batch: Sequence[Node]) -> None:
        """Ask the program for the results of these nodes."""
        for value, array in self.probe([r for node in batch for r in node.results]).items():
            self._hold(value, np.asarray(array))

    def _hold(self, value: Value, array: Any) -> None:
        self.held[value] = array
        self.needed[value] = len(value.users)

    def release(self, node: Node) -> None:
        """Forget operands that nothing else needs; those of a node with unknown results may be needed behind it."""
        if any(r not in self.held for r in node.results):
            return
        for value in {v for v in node.operands if v is not None and v in self.held}:
            self.needed[value] -= 1
            if self.needed[value] <= 0:
                del self.held[value]

    def check(self, node: Node) -> OutputFinding | None:
        """The finding for a result that is wrong, or None."""
        known = [r for r in node.results if r in self.held]
        if not known:
            return None
        for result in known:
            if not result.type.is_static and np.ndim(self.held[result]) == result.type.rank:
                self._learn_symbols(result)
        got = [self.held.pop(r) for r in known]  # they are what is computed, not what is given
        nodes = producers(known, self.held)
        free = [v for v in free_values(nodes, known) if v.weight is None]
        self.region = extract(nodes, free, known)
        values = [self.held[v] for v in free]
        self.held.update(zip(known, got, strict=True))
        return check_region(self.region, values, got, self.symbols)

    def _learn_symbols(self, result: Value) -> None:
        fresh = [s for s in result.type.symbols() if s not in self.symbols]
        if fresh:  # a size that depends on data is what the program says it is
            self.symbols.update(bind_shape(result.type, self.held[result].shape, self.symbols, "result"))


def _nbytes(value: Value, symbols: Mapping[str, int]) -> int:
    known = {n: s.low for n, s in value.type.symbols().items()}
    return value.type.dtype.nbytes(math.prod(evaluate_type(value.type, {**known, **symbols})))


def check_region(
    region: Graph, inputs: Sequence[Any], got: Sequence[Any], symbols: Mapping[str, int] | None = None
) -> OutputFinding | None:
    """Whether a program that turned `inputs` into `got` computed this region; the finding for the first wrong output.

    Inputs in float64 where the region declares less are a program run in double: then its error must be double's.
    """
    double = any(x.dtype == np.float64 and v.type.dtype != F64 for x, v in zip(inputs, region.inputs, strict=True))
    double = double or any(
        x.dtype == np.float64 and v.type.dtype != F64 for x, v in zip(got, region.outputs, strict=True)
    )
    exact = _run(region, inputs, FLOAT64, symbols)
    native = exact if double else _run(region, inputs, NATIVE, symbols)
    for index, output in enumerate(outputs_of(region)):
        output = replace(output, precision=F64 if double else output.precision)
        own = native[index] if not double else np.asarray(exact[index]).astype(got[index].dtype, copy=False)
        finding = judge(output, exact[index], own, got[index])
        if finding.status is Status.OK:
            continue
        if not output.rounded or not (finding.factor or finding.oracle.digest):
            return finding  # movement is exact, and rounding changes no form
        allowed = _rounding(region, inputs, index, output.precision, exact, symbols)
        if not _explained(exact[index], got[index], allowed, output.precision):
            return finding
    return None


def _run(region: Graph, inputs: Sequence[Any], m: Arithmetic, symbols: Mapping[str, int] | None) -> list[Any]:
    interpreter = Interpreter(region, m)
    interpreter.symbols.update(symbols or {})
    outputs = interpreter.run(inputs)
    return [m.extract(x, v.type.dtype) for x, v in zip(outputs, region.outputs, strict=True)]


def _rounding(
    region: Graph,
    inputs: Sequence[Any],
    index: int,
    precision: DType,
    exact: Sequence[Any],
    symbols: Mapping[str, int] | None,
) -> Any:
    runs: list[list[Any]] = []
    for seed in range(3):
        noisy = Noisy(region, rounding_unit(precision), seed, slack=_SLACK, plain_sums=True)
        noisy.symbols.update(symbols or {})
        runs.append(noisy.run(inputs))
    return spread([exact[index]], [[run[index]] for run in runs])[0]


def _explained(exact: Any, got: Any, allowed: Any, precision: DType) -> bool:
    if not dtype_of(got).is_inexact:
        return bool(np.all((np.asarray(exact) == np.asarray(got)) | (allowed > 0)))
    limit = tolerance_factor(precision) * tile_maximum(np.asarray(allowed).reshape(-1))
    return bool(np.all(tile_maximum(_distance(exact, got).reshape(-1)) <= limit))


def _divergence(node: Node, finding: OutputFinding, region: Graph | None, stage: str) -> Divergence:
    return Divergence(
        stage=stage,
        node=node.op.describe(node.operand_types),
        op=node.op.name,
        module=node.provenance.module,
        line=node.provenance.line,
        reason=finding.reason,
        place=finding.place,
        expected=finding.expected,
        got=finding.got,
        error=finding.worst_candidate,
        allowed=finding.worst_candidate / finding.excess if finding.excess and math.isfinite(finding.excess) else 0.0,
        region="" if region is None else show(region),
    )
