"""Running a list of passes: time, counts and the verifier after each.

A pass is a function `(graph, context) -> number of changes`; its name is the function's and its summary the first line
of its docstring.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dragoman.ir.collector import calm_collector
from dragoman.ir.graph import Graph, Node
from dragoman.ir.ops.conv import CHANNELS_FIRST
from dragoman.ir.verify import Level, anything, verify
from dragoman.passes.rewrite import Checker, Rule, apply_rules


@dataclass
class PassRecord:
    """What one pass did."""

    name: str
    seconds: float
    changes: int
    nodes_before: int
    nodes_after: int
    fired: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        rules = ", ".join(f"{name} {count}×" for name, count in sorted(self.fired.items()))
        return (
            f"{self.name:<28} {self.changes:>6} changes  {self.nodes_before:>7} -> {self.nodes_after:<7} nodes"
            f"  {self.seconds * 1e3:9.1f} ms" + (f"  {rules}" if rules else "")
        )


def _has_layout(node: Node) -> bool:
    return "layout" in node.op.attribute_names()


@dataclass(frozen=True)
class TargetLayout:
    """Where a target wants the channels of convolutions, pools, resizes and norms.

    `strict` tells which nodes it computes in no other layout: it would transpose around them. `rows` tells that it
    multiplies matrices faster than stacks of them, `heads` that it has attention over heads side by side.
    """

    preferred: str = CHANNELS_FIRST
    strict: Callable[[Node], bool] = _has_layout
    rows: bool = False
    heads: bool = False


@dataclass
class Context:
    """What passes share: the checker of rewrites (None: unchecked), a way to report progress, what was done so far."""

    check: Checker | None = None
    layout: TargetLayout = TargetLayout()
    progress: Callable[[str], None] = lambda name: None
    records: list[PassRecord] = field(default_factory=list)
    fired: dict[str, int] = field(default_factory=dict)  # by the pass that is running

    def rewrite(self, graph: Graph, rules: Sequence[Rule], *, backwards: bool = False) -> int:
        """Apply rules, in sub-graphs as well, with this context's checker; returns the number of firings."""
        total = 0
        for each in graphs_within(graph):
            applied = apply_rules(each, rules, self.check, backwards=backwards)
            for name, count in applied.fired.items():
                self.fired[name] = self.fired.get(name, 0) + count
            total += applied.total
        return total


Pass = Callable[[Graph, Context], int]


def graphs_within(graph: Graph) -> list[Graph]:
    """A graph and all graphs nested in it."""
    found = [graph]
    for each in found:
        found.extend(region for node in each for region in node.op.regions)
    return found


def run_passes(
    graph: Graph, passes: Sequence[Pass], context: Context | None = None, level: Level = anything
) -> Context:
    """Run passes in order, verifying the graph after each that changed it. Raises VerifyError naming the pass."""
    context = context or Context()
    with calm_collector():
        _run_each(graph, passes, context, level)
    return context


def _run_each(graph: Graph, passes: Sequence[Pass], context: Context, level: Level) -> None:
    for each in passes:
        name = getattr(each, "__name__", str(each))
        context.progress(name)
        context.fired = {}
        before, started = len(graph), time.perf_counter()
        changes = each(graph, context)
        seconds = time.perf_counter() - started
        context.records.append(PassRecord(name, seconds, changes, before, len(graph), context.fired))
        if changes:
            try:
                verify(graph, level)
            except Exception as error:
                error.add_note(f"after the pass {name}")
                raise
