"""Which layout ONNX has: channels first, and what it expresses in the other one without a transpose."""

from __future__ import annotations

from typing import Any

from dragoman.backends.onnx.tables.resize import exact_places
from dragoman.ir.dims import is_one
from dragoman.ir.graph import Node
from dragoman.ir.ops.conv import CHANNELS_FIRST, Conv, ConvTranspose
from dragoman.ir.ops.pool import Adaptive, Pool
from dragoman.ir.ops.resize import Resize

PREFERRED_LAYOUT = CHANNELS_FIRST


def channels_first_only(node: Node) -> bool:
    """Whether a node whose channels come last is emitted with transposes around it."""
    op: Any = node.op
    if isinstance(op, Adaptive):
        return not all(is_one(out) for out in op.output_size)  # over the whole extent it is a reduction
    if isinstance(op, Resize):
        return exact_places(node) is None  # as Gather along each axis it has no layout
    return isinstance(op, (Conv, ConvTranspose, Pool))
