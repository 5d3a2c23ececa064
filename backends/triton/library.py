"""Calls of torch for what has no kernel: named in the report, and barred by `--pure-triton`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dragoman.ir.graph import Node

_PLAIN = {
    "asin": "torch.asin({0})",
    "acos": "torch.acos({0})",
    "atan": "torch.atan({0})",
    "sinh": "torch.sinh({0})",
    "cosh": "torch.cosh({0})",
    "asinh": "torch.asinh({0})",
    "acosh": "torch.acosh({0})",
    "atanh": "torch.atanh({0})",
    "tan": "torch.tan({0})",
    "erfc": "torch.erfc({0})",
    "erfinv": "torch.erfinv({0})",
    "lgamma": "torch.lgamma({0})",
    "digamma": "torch.digamma({0})",
    "atan2": "torch.atan2({0}, {1})",
    "power": "torch.pow({0}, {1})",
    "matmul": "torch.matmul({0}, {1})",
}
_FLOAT_ONLY = frozenset(_PLAIN) - {"matmul"}


def _extreme(function: str) -> Callable[[Any], str]:
    return lambda op: f"{function}({{0}}, {op.axis}, {op.keepdims}, {op.last})"


def _product(op: Any) -> str:
    text = "{0}"
    for axis in sorted((a for a in op.axes), reverse=True):
        text = f"torch.prod({text}, {axis}, keepdim={op.keepdims}, dtype={{0}}.dtype)"
    return text


def _reduced(function: str) -> Callable[[Any], str]:
    return lambda op: f"{function}({{0}}, {tuple(op.axes)}, {op.keepdims})" if op.axes else "{0}.clone()"


def _scattered(op: Any) -> str:
    return f'scatter({{0}}, {{1}}, {{2}}, {op.axis}, "{op.reduction}")'


def _scattered_at(op: Any) -> str:
    return f'scatter_at({{0}}, {{1}}, {{2}}, "{op.reduction}")'


def _best(op: Any) -> str:
    return f"best({{0}}, {op.k}, {op.axis}, {op.largest})"


def _running(function: str) -> Callable[[Any], str]:
    return lambda op: f"running({function}, {{0}}, {op.axis}, {op.exclusive}, {op.reverse})"


_MADE: Mapping[str, Callable[[Any], str]] = {
    "argmax": _extreme("argmax"),
    "argmin": _extreme("argmin"),
    "cumsum": _running("torch.cumsum"),
    "cumprod": _running("torch.cumprod"),
    "scatter_elements": _scattered,
    "scatter_nd": _scattered_at,
    "topk": _best,
    "reduce_prod": _product,
    "reduce_max": _reduced("torch.amax"),
    "reduce_min": _reduced("torch.amin"),
}


def has(node: Node) -> bool:
    """Whether torch computes this node as it is."""
    name = node.op.name
    if name in _MADE:
        return not node.op.is_symbolic
    if name not in _PLAIN:
        return False
    return name not in _FLOAT_ONLY or all(t is None or t.dtype.is_float for t in node.operand_types)


def call(node: Node) -> str:
    """The call as text over its operands, `{0}`, `{1}`, …"""
    made = _MADE.get(node.op.name)
    return made(node.op) if made is not None else _PLAIN[node.op.name]
