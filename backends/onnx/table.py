"""The table from op to ONNX: which function emits an op, from which opset on, and why not where it does not.

    @emits("gelu", since=20)
    def gelu(e: Emitter, node: Node, x: Value) -> str:
        return e.op("Gelu", x, approximate=node.op.approximate)

An op may have several entries; the newest that fits the opset and accepts the node is used. `direct` covers ops that
one ONNX operator spells exactly. What no entry accepts is decomposed if it is composite, else refused with the last
reason.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from dragoman.backends.onnx import types
from dragoman.ir.graph import Node, Value
from dragoman.ir.types import DType

if TYPE_CHECKING:
    from dragoman.backends.onnx.emitter import Emitter

Emitted = str | Value | Sequence[str | Value]
Function = Callable[..., Emitted]
Where = Callable[[Node, int], str | None]


@dataclass(frozen=True)
class Entry:
    """One way to emit an op. `where` gives the reason why a node is not its case, or None."""

    function: Function
    since: int
    where: Where | None
    contrib: bool = False

    def declines(self, node: Node, opset: int, contrib: bool) -> str | None:
        """Why this entry cannot emit the node at the opset, or None."""
        if self.contrib and not contrib:
            return "only ONNX Runtime has it"
        if opset < self.since:
            return f"ONNX has it from opset {self.since} on"
        return self.where(node, opset) if self.where else None


TABLE: dict[str, list[Entry]] = {}


def emits(
    name: str, since: int = types.OLDEST, where: Where | None = None, *, contrib: bool = False
) -> Callable[[Function], Function]:
    """Register a function as the emitter of an op from an opset on; `contrib` for the target `ort` only."""

    def register(function: Function) -> Function:
        entries = TABLE.setdefault(name, [])
        entries.append(Entry(function, since, where, contrib))
        entries.sort(key=lambda entry: (not entry.contrib, -entry.since))
        return function

    return register


REFUSED: dict[str, str] = {}


def refuses(name: str, reason: str) -> None:
    """Declare that ONNX has no spelling of an op at any opset."""
    REFUSED[name] = reason


def entry_for(node: Node, opset: int, contrib: bool = False) -> Entry | str:
    """The entry that emits a node at an opset, or the reason why there is none."""
    unheld = _unheld(node, opset)
    if unheld:
        return unheld
    reason = REFUSED.get(node.op.name, "ONNX has no operator for it")
    for entry in TABLE.get(node.op.name, ()):
        declined = entry.declines(node, opset, contrib)
        if declined is None:
            return entry
        reason = declined
    return reason


def _unheld(node: Node, opset: int) -> str | None:
    for result in node.results:
        reason = types.absent(result.type.dtype, opset)
        if reason:
            return reason
    return None


def supports(node: Node, opset: int = types.DEFAULT, contrib: bool = False) -> str | None:
    """Why ONNX at an opset has no spelling of its own for a node, or None."""
    load_tables()
    found = entry_for(node, opset, contrib)
    return found if isinstance(found, str) else None


def legal(opset: int | None = None) -> Callable[[Node], str | None]:
    """`supports` at one opset, as `dragoman.passes.legalize` takes it."""
    chosen = types.checked_opset(opset)
    return lambda node: supports(node, chosen)


def requires(op_type: str, count: int | None = None, *, runs: bool = False) -> Where:
    """Accept a node whose first `count` dtypes ONNX permits for `op_type`; with `runs`, ONNX Runtime as well."""

    def where(node: Node, opset: int) -> str | None:
        dtypes = tuple(v.type.dtype if v is not None else None for v in node.operands[:count])
        reason = types.objection(op_type, opset, dtypes)
        if reason is None and runs and dtypes and dtypes[0] is not None and not types.runs(op_type, dtypes[0]):
            return f"ONNX Runtime has no kernel of {op_type} for {dtypes[0]}"
        return reason

    return where


def all_of(*conditions: Where) -> Where:
    """Accept what all conditions accept; the first reason otherwise."""

    def where(node: Node, opset: int) -> str | None:
        return next((reason for c in conditions if (reason := c(node, opset))), None)

    return where


def direct(
    name: str,
    op_type: str,
    since: int = types.OLDEST,
    *,
    widen: bool = True,
    attributes: Callable[[Any], Mapping[str, Any]] | None = None,
    where: Where | None = None,
) -> None:
    """Register an op that one ONNX operator spells, operands in the same order and of one dtype.

    A dtype that the operator does not take is computed in a wider one, exactly, if `widen`; otherwise it is declined,
    as suits composites, which have a decomposition to fall back on.
    """

    def accepts(node: Node, opset: int) -> str | None:
        dtype = _dtype(node)
        if widen:
            computing = types.computing_dtype(op_type, opset, dtype)
            reason = None if computing else f"ONNX opset {opset} has no {op_type} on {dtype} or a wider type"
        else:
            reason = requires(op_type, runs=True)(node, opset)
        return reason or (where(node, opset) if where else None)

    def function(e: Emitter, node: Node, *operands: Value | None) -> str:
        dtype = _dtype(node)
        computing = types.computing_dtype(op_type, e.opset, dtype) or dtype
        given = [e.cast(v, computing) if v is not None else None for v in operands]
        result = e.op(op_type, *given, **(attributes(node.op) if attributes else {}))
        back = computing is not dtype and node.result.type.dtype is dtype
        return e.cast_from(result, computing, dtype) if back else result

    emits(name, since, accepts)(function)


def _dtype(node: Node) -> DType:
    return next(v.type.dtype for v in node.operands if v is not None)


@cache
def load_tables() -> None:
    """Import every family, which fills the table."""
    from dragoman.backends.onnx import tables

    for module in pkgutil.iter_modules(tables.__path__):
        importlib.import_module(f"{tables.__name__}.{module.name}")
