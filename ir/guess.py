"""What an op's spelled-out form could be the form of: types and settings to try, read off the nodes around its end.

Recognition traces an op's `decompose` and `spellings` on the types of a guess and compares the result with the graph,
node by node. A guess too many costs time; it never costs correctness.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass
from typing import TYPE_CHECKING, Any

from dragoman.ir.types import TensorType, same_type

if TYPE_CHECKING:
    from dragoman.ir.graph import Node
    from dragoman.ir.op import Op

_DEPTH, _MOST = 9, 64  # how far, and at how many nodes, a guess looks


@dataclass(frozen=True)
class Guess:
    """Types of operands, None where one is absent, and attributes. A float attribute left out is bound by the match."""

    operands: tuple[TensorType | None, ...]
    attributes: tuple[tuple[str, Any], ...]


def guess(*operands: TensorType | None, **attributes: Any) -> Guess:
    """A guess, written as an application of the op."""
    return Guess(operands, tuple(attributes.items()))


def upstream(root: Node, depth: int = _DEPTH) -> Iterator[Node]:
    """The node and what it is computed from, nearest first."""
    seen = {root}
    layer = [root]
    for _ in range(depth):
        yield from layer
        found: list[Node] = []
        for node in layer:
            for value in node.operands:
                if value is not None and value.producer is not None and value.producer not in seen:
                    seen.add(value.producer)
                    found.append(value.producer)
        if not found or len(seen) > _MOST:
            return
        layer = found


def reduced(root: Node) -> list[tuple[TensorType, tuple[int, ...], bool]]:
    """What reductions upstream reduce, softmax and layer norm among them: the operand's type, the axes counted from 0,
    whether they are kept.
    """
    found: list[tuple[TensorType, tuple[int, ...], bool]] = []
    for node in upstream(root):
        axes, x = _reduced_axes(node), node.operands[0] if node.operands else None
        if axes is None or x is None:
            continue
        entry = (x.type, tuple(sorted(a % x.type.rank for a in axes)), getattr(node.op, "keepdims", True))
        if entry not in found:
            found.append(entry)
    return found


def _reduced_axes(node: Node) -> Sequence[int] | None:
    """What a reduction reduces, or a softmax or layer norm that was recognised before."""
    op: Any = node.op
    if op.name == "softmax":
        return (op.axis,)
    if op.name == "layer_norm":
        rank = node.results[0].type.rank
        return range(op.axis % rank, rank)
    return op.axes if hasattr(op, "axes") and hasattr(op, "keepdims") else None


def operand_types(root: Node, depth: int = 4) -> list[TensorType]:
    """The different types of operands upstream."""
    found: list[TensorType] = []
    for node in upstream(root, depth):
        for value in node.operands:
            if value is not None and not any(same_type(value.type, t) for t in found):
                found.append(value.type)
    return found


def with_and_without(
    x: TensorType, parameters: Sequence[TensorType], settings: Iterable[Mapping[str, Any]]
) -> Iterator[Guess]:
    """Every choice of optional parameters for every setting, more parameters first."""
    choices = sorted(range(1 << len(parameters)), key=lambda bits: -bits.bit_count())
    for setting in settings:
        for bits in choices:
            present = [p if bits >> i & 1 else None for i, p in enumerate(parameters)]
            yield guess(x, *present, **setting)


def with_settings(op: type[Op], x: TensorType) -> Iterator[Guess]:
    """Each setting of the op's samples; float attributes are free, and once more at their defaults."""
    floats = {n for n, text in op._annotations.items() if text.startswith("float")}  # pyright: ignore[reportPrivateUsage]
    defaults = {f.name: f.default for f in dataclasses.fields(op) if f.name in floats and f.default is not MISSING}  # type: ignore[arg-type]
    settings: list[dict[str, Any]] = []
    for given in op.samples():
        setting = {n: v for n, v in given.attributes.items() if n not in floats or v is None}
        if setting not in settings:
            settings.append(setting)
    for setting in settings:
        yield guess(x, **setting)
        if defaults:
            yield guess(x, **{**defaults, **setting})
