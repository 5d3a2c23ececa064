"""Which nodes the backend takes as they are, and why it does not take the others.

Three kinds: anchors have a kernel template, pointwise ops and movements are generated, the rest are calls of torch that
the report names. Everything else is decomposed, or refused with the reason.
"""

from __future__ import annotations

from collections.abc import Callable

from dragoman.backends.triton import expressions, library
from dragoman.backends.triton.body import COMPUTED
from dragoman.backends.triton.places import FREE, HANDLERS
from dragoman.ir.dims import same
from dragoman.ir.graph import Node
from dragoman.ir.ops.attention import Attention
from dragoman.ir.ops.conv import Conv
from dragoman.ir.ops.pool import AvgPool, MaxPool
from dragoman.ir.types import F64, DType, TensorType

FLOATS = ("f16", "bf16", "f32", "f64")
_DEEPEST = 256  # of attention's heads
_LARGEST_WINDOW = 32  # along one axis: taps whose places in the input are counted one by one
CONTROL = ("cond", "while_loop", "scan")


def is_generated(node: Node) -> bool:
    """Whether a node is evaluated element by element in a generated kernel."""
    return node.op.pointwise or node.op.name in HANDLERS


def is_written(node: Node) -> bool:
    """Whether a generated node has text: a movement, or a pointwise op with an expression."""
    return is_generated(node) and (not node.op.pointwise or supports(node, pure=True) is None)


def is_free(node: Node) -> bool:
    """Whether doing a node again costs nothing: a view or a constant."""
    return node.op.name in FREE


def supports(node: Node, *, pure: bool = False) -> str | None:
    """Why a node cannot be emitted as it is, or None. `pure` bars calls of torch."""
    reason = _refused(node)
    if reason is None or pure or node.op.is_composite() or not library.has(node):
        return f"{reason}; torch would have it (leave out --pure-triton)" if reason and library.has(node) else reason
    return None


def _refused(node: Node) -> str | None:
    op = node.op
    strange = next((d for d in _dtypes(node) if d.name not in COMPUTED), None)
    if strange is not None:
        return f"Triton does not compute in {strange}"
    if op.data_dependent:
        return "its size is known only when it has run"
    if op.name in CONTROL:
        return None
    check = _ANCHORS.get(op.name)
    if check is not None:
        return check(node)
    if op.name in HANDLERS:
        return None
    return expressions.refused(node) if op.pointwise else f"there is no kernel for {op.name}"


def _dtypes(node: Node) -> list[DType]:
    return [t.dtype for t in (*node.operand_types, *(r.type for r in node.results)) if t is not None]


def _floats(node: Node) -> str | None:
    strange = [d for d in _dtypes(node) if d.name not in FLOATS]
    return f"there is no kernel for {node.op.name} of {strange[0]}" if strange else None


def _numbers(node: Node) -> str | None:
    """As for floats; Triton takes numbers as f32, which is too coarse an epsilon or scale for f64."""
    if any(d is F64 for d in _dtypes(node)):
        return f"there is no kernel for {node.op.name} of f64"
    return _floats(node)


def _sum(node: Node) -> str | None:
    return None if all(d.is_float or d.is_integer for d in _dtypes(node)) else _floats(node)


def _flag(node: Node) -> str | None:
    return None


def _type(node: Node, number: int) -> TensorType:
    found = node.operand_types[number]
    assert found is not None
    return found


def _attention(node: Node) -> str | None:
    op = node.op
    assert isinstance(op, Attention)
    query, key, value = (_type(node, k) for k in range(3))
    if query.rank not in (3, 4):
        return f"attention of rank {query.rank}"
    if query.rank == 4 and not (same(query.shape[0], key.shape[0]) and same(query.shape[0], value.shape[0])):
        return "attention whose batches broadcast"
    sizes = (query.shape[-1], value.shape[-1], query.shape[-3], key.shape[-3])
    if (
        not all(isinstance(d, int) and d > 0 for d in sizes)
        or max(d for d in sizes[:2] if isinstance(d, int)) > _DEEPEST
    ):
        return f"attention over heads of depth {query.shape[-1]} and {value.shape[-1]}"
    mask = node.operand_types[3] if len(node.operands) > 3 else None
    if mask is not None and mask.dtype not in (query.dtype,) and mask.dtype.kind != "bool":
        return f"attention with a mask of {mask.dtype}"
    if F64 in (query.dtype, key.dtype, value.dtype):
        return _numbers(node)
    dtypes = {query.dtype.name, key.dtype.name, value.dtype.name}
    return None if dtypes <= set(FLOATS) else f"attention of {query.dtype}"


def _matmul(node: Node) -> str | None:
    if any(t is not None and t.rank > 4 for t in node.operand_types):
        return "a product with more than two leading axes"
    return _floats(node)


def _linear(node: Node) -> str | None:
    return _floats(node) if _type(node, 0).rank > 1 else "a linear layer of one row without an axis"


def _conv(node: Node) -> str | None:
    return _floats(node) if _type(node, 0).rank <= 5 else "more than three spatial axes"


def _pool(node: Node) -> str | None:
    op = node.op
    assert isinstance(op, (MaxPool, AvgPool))
    if isinstance(op, AvgPool) and op.divisor is None and max(op.window) > _LARGEST_WINDOW:
        return "a mean over a large window"
    return _floats(node)


_ANCHORS: dict[str, Callable[[Node], str | None]] = {
    "matmul": _matmul,
    "linear": _linear,
    "conv": _conv,
    "attention": _attention,
    "softmax": _floats,
    "log_softmax": _floats,
    "layer_norm": _numbers,
    "rms_norm": _numbers,
    "max_pool": _pool,
    "avg_pool": _pool,
    "reduce_sum": _sum,
    "reduce_max": _floats,
    "reduce_min": _floats,
    "reduce_logsumexp": _floats,
    "reduce_any": _flag,
    "reduce_all": _flag,
}


def is_anchor(node: Node) -> bool:
    """Whether a node has a kernel template, and this one fits it."""
    check = _ANCHORS.get(node.op.name)
    return check is not None and check(node) is None


def is_depthwise(node: Node) -> bool:
    """Whether a convolution has one filter of one channel for each channel."""
    op, weight = node.op, node.operands[1] if len(node.operands) > 1 else None
    return isinstance(op, Conv) and weight is not None and op.groups > 1 and weight.type.shape[:2] == (op.groups, 1)
