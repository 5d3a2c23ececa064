"""Matrix products in ONNX. A linear layer over a matrix is a Gemm; over more axes a MatMul by the transposed weight.

ONNX Runtime 1.32 takes as long for MatMul + Add, Gemm between reshapes, and Transpose + MatMul + Add (6.6, 6.7 and 6.6
ms at 128×768×3072, one thread), but without its optimiser the third takes 11.8 ms and for one row 3.4 ms instead of
0.17 ms. So the weight is stored transposed, `name.T`, unless something else needs it as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dragoman.backends.onnx import types
from dragoman.backends.onnx.emitter import Emitter
from dragoman.backends.onnx.table import emits, requires
from dragoman.backends.onnx.tables.shape import reshaped
from dragoman.ir.dims import Dim, product, same
from dragoman.ir.graph import Node, Value
from dragoman.ir.ops.matmul import spelled_out


def _takes_matmul(node: Node, opset: int) -> str | None:
    dtype = node.result.type.dtype
    return None if types.computing_dtype("MatMul", opset, dtype) else f"ONNX has no MatMul on {dtype}"


@emits("matmul", where=_takes_matmul)
def matmul(e: Emitter, node: Node, x: Value, y: Value) -> str:
    """MatMul, which follows NumPy too."""
    dtype = x.type.dtype
    computing = types.computing_dtype("MatMul", e.opset, dtype) or dtype
    return e.cast_from(e.op("MatMul", e.cast(x, computing), e.cast(y, computing)), computing, dtype)


def _takes_linear(node: Node, opset: int) -> str | None:
    x = node.operands[0]
    assert x is not None
    return requires("MatMul")(node, opset) if x.type.rank >= 2 else "a vector is multiplied as it is"


@emits("linear", where=_takes_linear)
def linear(e: Emitter, node: Node, x: Value, weight: Value, bias: Value | None = None) -> str | Value:
    """Gemm over a matrix, MatMul and Add over more axes."""
    float_ = x.type.dtype.is_float
    if x.type.rank == 2 and float_:
        return e.op("Gemm", x, weight, bias, transB=1)
    if e.weight(weight) is not None and not _only_transposed(e, weight) and float_:
        return _through_rows(e, node, x, weight, bias)
    y = e.op("MatMul", x, transposed(e, weight))
    return y if bias is None else e.op("Add", y, bias)


def transposed(e: Emitter, weight: Value) -> str:
    """A matrix turned: stored so if it is a weight, else by a Transpose."""
    if e.weight(weight) is None:
        return e.op("Transpose", weight, perm=[1, 0])
    rows, columns = (int(d) for d in weight.type.shape)
    return e.derived([weight], "T", (columns, rows), np.transpose)


def _only_transposed(e: Emitter, weight: Value) -> bool:
    """Whether every use of a weight is by a linear layer over more than two axes: then it is stored once, turned."""
    return all(
        node.op.name == "linear" and operand == 1 and _rank(node.operands[0]) > 2
        for node, operand in e.source(weight).uses
    )


def _rank(value: Value | None) -> int:
    return 0 if value is None else value.type.rank


def _through_rows(e: Emitter, node: Node, x: Value, weight: Value, bias: Value | None) -> str | Value:
    # A weight that is also used as it is (tied to an embedding, say) is kept once: Gemm can turn it on the way. An
    # output is not put into shape, which copies it; runtimes turn a constant once, when they load the model.
    if bias is None and e.is_output(node.result):
        return e.op("MatMul", x, e.op("Transpose", weight, perm=[1, 0]))
    rows = e.op("Reshape", x, e.i64([-1, int(weight.type.shape[1])]))
    y = e.op("Gemm", rows, weight, bias, transB=1)
    *lead, out = node.result.type.shape
    return reshaped(e, y, (product(lead), out), node.result.type.shape)


def _takes_einsum(node: Node, opset: int) -> str | None:
    op: Any = node.op
    shapes = [v.type.shape for v in node.operands if v is not None]
    terms, _ = spelled_out(op.equation, [len(shape) for shape in shapes])
    extents: dict[str, Dim] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for letter, dim in zip(term, shape, strict=True):
            if not same(extents.setdefault(letter, dim), dim):
                return "ONNX's Einsum stretches no extent of 1"
    return requires("Einsum", 1)(node, opset)


@emits("einsum", where=_takes_einsum)
def einsum(e: Emitter, node: Node, *xs: Value) -> str:
    """Einsum."""
    op: Any = node.op
    return e.op("Einsum", *xs, equation=op.equation.replace(" ", ""))
