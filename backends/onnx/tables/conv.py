"""Convolution, pooling and resampling in ONNX, which knows channels first only: else Transpose goes around it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dragoman.backends.onnx import types
from dragoman.backends.onnx.emitter import Emitter
from dragoman.backends.onnx.table import Where, emits, requires
from dragoman.ir.dims import is_one, product
from dragoman.ir.graph import Node, Value
from dragoman.ir.ops.conv import CHANNELS_FIRST, spatial_axes
from dragoman.ir.types import U8


def channels_first(e: Emitter, x: Value | str, rank: int, layout: str) -> Value | str:
    """`x` with its channels at axis 1."""
    return x if layout == CHANNELS_FIRST else e.op("Transpose", x, perm=[0, rank - 1, *range(1, rank - 1)])


def laid_out(e: Emitter, y: str, rank: int, layout: str) -> str:
    """`y`, which has its channels at axis 1, in the layout asked for."""
    return y if layout == CHANNELS_FIRST else e.op("Transpose", y, perm=[0, *range(2, rank), 1])


def _pads(padding: Sequence[tuple[int, int]]) -> list[int]:
    return [low for low, _ in padding] + [high for _, high in padding]


def _kernel(weight: Value) -> list[int]:
    return [int(d) for d in weight.type.shape[2:]]


@emits("conv", where=requires("Conv"))
def conv(e: Emitter, node: Node, x: Value, w: Value, bias: Value | None = None) -> str:
    """Conv."""
    op: Any = node.op
    y = e.op(
        "Conv",
        channels_first(e, x, x.type.rank, op.layout),
        w,
        bias,
        kernel_shape=_kernel(w),
        strides=op.strides,
        pads=_pads(op.padding),
        dilations=op.dilations,
        group=op.groups,
    )
    return laid_out(e, y, x.type.rank, op.layout)


def _takes_integers(node: Node, opset: int) -> str | None:
    x, w = node.operands[:2]
    assert x is not None
    assert w is not None
    if x.type.dtype != U8 or w.type.dtype != U8:
        return f"ONNX Runtime has no ConvInteger of {x.type.dtype} and {w.type.dtype}"
    zeros = [v for v in node.operands[2:] if v is not None]
    return "ONNX Runtime takes one zero point for all filters" if any(v.type.rank for v in zeros) else None


@emits("conv_integer", where=_takes_integers)
def conv_integer(
    e: Emitter, node: Node, x: Value, w: Value, x_zero: Value | None = None, w_zero: Value | None = None
) -> str:
    """ConvInteger."""
    op: Any = node.op
    return e.op(
        "ConvInteger",
        x,
        w,
        x_zero,
        w_zero,
        kernel_shape=_kernel(w),
        strides=op.strides,
        pads=_pads(op.padding),
        dilations=op.dilations,
        group=op.groups,
    )


def _takes_transpose(node: Node, opset: int) -> str | None:
    op: Any = node.op
    if any(extra >= stride for extra, stride in zip(op.output_padding, op.strides, strict=True)):
        return "ONNX Runtime takes an output_padding only below the stride"
    return requires("ConvTranspose")(node, opset)


@emits("conv_transpose", where=_takes_transpose)
def conv_transpose(e: Emitter, node: Node, x: Value, w: Value, bias: Value | None = None) -> str:
    """ConvTranspose."""
    op: Any = node.op
    y = e.op(
        "ConvTranspose",
        channels_first(e, x, x.type.rank, op.layout),
        w,
        bias,
        kernel_shape=_kernel(w),
        strides=op.strides,
        pads=_pads(op.padding),
        dilations=op.dilations,
        group=op.groups,
        output_padding=op.output_padding if any(op.output_padding) else None,
    )
    return laid_out(e, y, x.type.rank, op.layout)


# ---- pooling ------------------------------------------------------------------------------------------------


def _windows(op: Any) -> dict[str, Any]:
    return {"kernel_shape": op.window, "strides": op.strides}


def _grown(node: Node) -> list[tuple[int, int]] | None:
    """Padding under which rounding down gives what `ceil_mode` asks for; None where an extent is not known."""
    op: Any = node.op
    x = node.operands[0]
    assert x is not None
    axes = spatial_axes(x.type.rank, op.layout)
    grown: list[tuple[int, int]] = []
    for i, axis in enumerate(axes):
        extent, out = x.type.shape[axis], node.results[0].type.shape[axis]
        if not isinstance(extent, int) or not isinstance(out, int):
            return None
        low, high = op.padding[i]
        needed = (out - 1) * op.strides[i] + (op.window[i] - 1) * op.dilations[i] + 1 - extent - low
        grown.append((low, max(high, needed)))
    return grown


def _padding(node: Node) -> dict[str, Any]:
    # With known extents ceil_mode is spelled out, because runtimes have disagreed about its last window.
    op: Any = node.op
    grown = _grown(node) if op.ceil_mode else op.padding
    if grown is None:
        return {"pads": _pads(op.padding), "ceil_mode": 1}
    return {"pads": _pads(grown)}


def _max_pool(node: Node, opset: int) -> str | None:
    x = node.operands[0]
    assert x is not None
    dtype = types.computing_dtype("MaxPool", opset, x.type.dtype)
    return None if dtype else f"ONNX has no MaxPool on {x.type.dtype}"


@emits("max_pool", where=_max_pool)
def max_pool(e: Emitter, node: Node, x: Value) -> str:
    """MaxPool."""
    return _max_pools(e, node, x, 1)[0]


@emits("max_pool_with_indices", where=_max_pool)
def max_pool_with_indices(e: Emitter, node: Node, x: Value) -> list[str]:
    """MaxPool, whose places count through the whole tensor: here they are reduced to those within one channel."""
    return _max_pools(e, node, x, 2)


def _max_pools(e: Emitter, node: Node, x: Value, count: int) -> list[str]:
    op: Any = node.op
    dtype, rank = x.type.dtype, x.type.rank
    computing = types.computing_dtype("MaxPool", e.opset, dtype) or dtype
    given = [channels_first(e, e.cast(x, computing), rank, op.layout)]
    results = e.ops("MaxPool", given, count, **_windows(op), **_padding(node), dilations=op.dilations)
    results[0] = e.cast_from(results[0], computing, dtype)
    if count == 2:
        plane = product(x.type.shape[axis] for axis in spatial_axes(rank, op.layout))
        results[1] = e.op("Mod", results[1], e.dims.scalar(plane))
    return [laid_out(e, r, rank, op.layout) for r in results]


def _avg_pool(node: Node, opset: int) -> str | None:
    op: Any = node.op
    if opset < 19 and any(d > 1 for d in op.dilations):
        return "AveragePool has dilations from opset 19 on"
    special = op.count_include_pad or op.divisor is not None
    if op.ceil_mode and special and _grown(node) is None:
        return "the windows beyond the end of a dynamic extent are counted differently"
    return requires("AveragePool")(node, opset)


@emits("avg_pool", where=_avg_pool)
def avg_pool(e: Emitter, node: Node, x: Value) -> str:
    """AveragePool; where padding counts and `ceil_mode` adds to it, the padding that counts is made by Pad."""
    op: Any = node.op
    rank = x.type.rank
    given: Value | str = channels_first(e, x, rank, op.layout)
    dilations = op.dilations if any(d > 1 for d in op.dilations) else None
    include = bool(op.count_include_pad or op.divisor is not None)
    pads = _padding(node)
    if op.count_include_pad and op.divisor is None and pads["pads"] != _pads(op.padding):
        grown = _grown(node) or op.padding
        given = e.op("Pad", given, e.i64(_pads([(0, 0), (0, 0), *op.padding])))
        pads = {"pads": _pads([(0, high - own) for (_, high), (_, own) in zip(grown, op.padding, strict=True)])}
        include = False
    y = e.op("AveragePool", given, **_windows(op), **pads, count_include_pad=int(include) or None, dilations=dilations)
    if op.divisor is not None:
        factor = math.prod(op.window) / op.divisor
        y = e.op("Mul", y, e.scalar(factor, x.type.dtype))
    return laid_out(e, y, rank, op.layout)


def _is_global(op_type: str) -> Where:
    def where(node: Node, opset: int) -> str | None:
        op: Any = node.op
        if op.layout != CHANNELS_FIRST or not all(is_one(out) for out in op.output_size):
            return "more than one window, or channels last"
        return requires(op_type)(node, opset)

    return where


@emits("adaptive_avg_pool", where=_is_global("GlobalAveragePool"))
def adaptive_avg_pool(e: Emitter, node: Node, x: Value) -> str:
    """GlobalAveragePool."""
    return e.op("GlobalAveragePool", x)


@emits("adaptive_max_pool", where=_is_global("GlobalMaxPool"))
def adaptive_max_pool(e: Emitter, node: Node, x: Value) -> str:
    """GlobalMaxPool."""
    return e.op("GlobalMaxPool", x)
