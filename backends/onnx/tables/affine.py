"""Sums that an ONNX operator makes besides: a product of matrices and a bias are one Gemm.

This file comes before the one that has Add: of entries for one op, the first that takes a node writes it.
"""

from __future__ import annotations

from dragoman.backends.onnx import types
from dragoman.backends.onnx.emitter import Emitter
from dragoman.backends.onnx.table import emits
from dragoman.ir.dims import same
from dragoman.ir.graph import Node, Value


def product_of(node: Node, opset: int) -> tuple[Node, Value] | None:
    """The product and the bias that a sum is of, where Gemm writes both: matrices, and a number for each column."""
    if node.op.name != "add":
        return None
    for product, bias in (node.operands, node.operands[::-1]):
        assert product is not None
        assert bias is not None
        inner = product.producer
        if inner is not None and inner.op.name == "matmul" and _fits(inner, bias, node, opset):
            return inner, bias
    return None


def _fits(inner: Node, bias: Value, node: Node, opset: int) -> bool:
    x, matrix = inner.operands
    assert x is not None
    assert matrix is not None
    result = inner.result
    if x.type.rank != 2 or matrix.type.rank != 2 or len(result.uses) != 1 or inner.graph is not node.graph:
        return False
    if not x.type.dtype.is_float or types.objection("Gemm", opset, (x.type.dtype,)) is not None:
        return False
    columns = bias.type.shape == result.type.shape[1:] or (
        bias.type.rank == 1 and same(bias.type.shape[0], result.type.shape[1])
    )
    return columns and bias.producer is not inner


def _takes(node: Node, opset: int) -> str | None:
    return None if product_of(node, opset) is not None else "it is no product with a bias"


@emits("add", where=_takes)
def gemm(e: Emitter, node: Node, *_: Value) -> str:
    """Gemm."""
    found = product_of(node, e.opset)
    assert found is not None
    inner, bias = found
    return e.op("Gemm", *inner.operands, bias)


def _goes_into_gemm(node: Node, opset: int) -> str | None:
    """A product that its only user, a sum, writes."""
    users = [user for user, _ in node.result.uses]
    found = product_of(users[0], opset) if len(users) == 1 else None
    return None if found is not None and found[0] is node else "nothing else writes it"


@emits("matmul", where=_goes_into_gemm)
def written_later(e: Emitter, node: Node, *_: Value) -> str:
    """Nothing: Gemm writes it with its bias."""
    return ""
