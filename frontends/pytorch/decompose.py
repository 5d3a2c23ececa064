"""Operators outside the table, taken apart by torch's own decompositions, each on its own.

A single operator is traced on the fake tensors it was exported with, symbolic sizes kept, and the small graph that
results is walked as any other. Refuses a decomposition that branches on a size in a way that does not hold for all
sizes, and operators torch has none for.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.fx.experimental._config as shape_config
from torch._C import DispatchKey
from torch._decomp import decomposition_table
from torch._guards import detect_fake_mode
from torch._ops import OpOverload
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from dragoman.ir.errors import Unsupported

_SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)
Holds = Callable[[Any], bool]


class Expansions:
    """Decompositions traced so far. `holds` tells whether a condition on sizes is true for all of them."""

    def __init__(self, holds: Holds = lambda condition: False) -> None:
        self._holds = holds
        self._traced: dict[Any, GraphModule | None] = {}

    def of(self, node: Node) -> GraphModule | None:
        """The graph of one operator, its tensor and symbolic arguments being the placeholders; None if torch has
        none.
        """
        target = node.target
        rule = _rule(target) if isinstance(target, OpOverload) else None
        if rule is None:
            return None
        leaves, spec = pytree.tree_flatten((node.args, node.kwargs))
        key = (target, str(spec), tuple(_signature(leaf) for leaf in leaves))
        if key not in self._traced:
            module = self._trace(rule, leaves, spec)
            again = any(n.target is target for n in module.graph.nodes)
            self._traced[key] = None if again else module
        return self._traced[key]

    def operands(self, node: Node) -> list[Node]:
        """The arguments that stand for the placeholders."""
        return [leaf for leaf in pytree.tree_leaves((node.args, node.kwargs)) if _is_traced(leaf)]

    def _trace(self, rule: Callable[..., Any], leaves: Sequence[Any], spec: Any) -> GraphModule:
        traced = [leaf.meta["val"] for leaf in leaves if _is_traced(leaf)]

        def call(*values: Any) -> Any:
            given = iter(values)
            filled = [next(given) if _is_traced(leaf) else _constant(leaf) for leaf in leaves]
            args, kwargs = pytree.tree_unflatten(filled, spec)
            result = rule(*(_plain(a) for a in args), **{k: _plain(v) for k, v in kwargs.items()})
            return tuple(result) if isinstance(result, (tuple, list)) else result

        mode = detect_fake_mode(traced)
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            if mode is not None:
                stack.enter_context(mode)
                stack.enter_context(sizes_not_assumed())
                stack.enter_context(self._guarded(mode.shape_env))
            try:
                return make_fx(call)(*traced)
            except NotImplementedError as error:
                raise Unsupported(f"torch's decomposition fails: {error}") from error

    @contextmanager
    def _guarded(self, environment: Any) -> Generator[None]:
        """Let tracing ask about sizes, and refuse it if an answer does not hold for all of them."""
        if environment is None:
            yield
            return
        frozen, before = environment.frozen, len(environment.guards)
        environment.frozen = False
        try:
            yield
            added = [guard.expr for guard in environment.guards[before:]]
        finally:
            environment.frozen = frozen
            del environment.guards[before:]
        for condition in added:
            if not self._holds(condition):
                raise Unsupported(f"torch's decomposition holds only where {condition}")


@contextmanager
def sizes_not_assumed() -> Generator[None]:
    """Let torch trace without taking for granted that a size is neither 0 nor 1."""
    before = shape_config.backed_size_oblivious
    shape_config.backed_size_oblivious = True
    try:
        yield
    finally:
        shape_config.backed_size_oblivious = before


def _is_traced(leaf: Any) -> bool:
    return isinstance(leaf, Node) and isinstance(leaf.meta.get("val"), (torch.Tensor, *_SYMBOLIC))


def _constant(leaf: Any) -> Any:
    return leaf.meta.get("val") if isinstance(leaf, Node) else leaf


def _plain(argument: Any) -> Any:
    """A list of an exported graph, which may not be changed, as one that may."""
    return [_plain(a) for a in argument] if isinstance(argument, list) else argument


def _signature(leaf: Any) -> Any:
    value = _constant(leaf)
    if isinstance(value, torch.Tensor):
        return value.dtype, tuple(map(str, value.shape)), tuple(map(str, value.stride()))
    return type(value), str(value)


def _rule(target: Any) -> Callable[..., Any] | None:
    """What torch itself would do without a kernel; a Python rule of its table only where there is nothing composite."""
    composite = DispatchKey.CompositeImplicitAutograd
    if composite in target.py_kernels or target.has_kernel_for_dispatch_key(composite):
        return target.decompose
    return decomposition_table.get(target)
