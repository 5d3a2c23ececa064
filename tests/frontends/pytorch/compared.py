"""Import a small module and compare what our interpreter makes of the graph with the module itself in double
precision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from dragoman.frontends.dynamic import Dynamic
from dragoman.frontends.pytorch import Source, import_module
from dragoman.frontends.pytorch.weights import to_numpy
from dragoman.ir.interpreter import run
from dragoman.ir.verify import verify

BOUND = 1e-12  # float64 rounding of a few hundred operations; nothing in these modules is ill-conditioned
Inputs = Sequence[torch.Tensor]


def imported(
    module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None, **settings: Any
) -> Source:
    """The module as a graph that the verifier accepts."""
    source = import_module(module.eval(), tuple(args), kwargs, **settings)
    verify(source.imported.graph)
    return source


def assert_same(source: Source, arrays: Sequence[Any], bound: float = BOUND) -> None:
    """The graph in float64 gives what the module gives in double, to `bound` of the largest element."""
    theirs = source.runner.run(arrays, double=True)
    ours = run(source.imported.graph, *arrays)
    native = source.runner.run(arrays)
    graph = source.imported.graph
    assert len(ours) == len(theirs) == len(graph.outputs)
    for value, a, b, narrow, name in zip(graph.outputs, ours, theirs, native, graph.output_names, strict=True):
        assert value.type.dtype.numpy == narrow.dtype, name
        assert a.shape == b.shape, name
        if b.dtype.kind not in "fc":
            np.testing.assert_array_equal(a, b, err_msg=name)
            continue
        finite = np.isfinite(b)
        np.testing.assert_array_equal(np.where(finite, 0, a), np.where(finite, 0, b), err_msg=name)
        scale = float(np.abs(b[finite]).max(initial=0.0)) or 1.0
        worst = float(np.abs(a[finite] - b[finite]).max(initial=0.0))
        assert worst <= bound * scale, f"{name}: off by {worst / scale:.1e}"


def arrays_of(args: Any) -> list[Any]:
    """The tensors among nested arguments as arrays."""
    return [to_numpy(x) for x in pytree.tree_leaves(args) if isinstance(x, torch.Tensor)]


def check(
    module: nn.Module,
    *args: Any,
    dynamic: Dynamic | None = None,
    others: Sequence[Inputs] = (),
    bound: float = BOUND,
) -> Source:
    """Import at `args`, compare there and at other inputs."""
    source = imported(module, args, dynamic=dynamic)
    for given in (args, *others):
        assert_same(source, arrays_of(given), bound)
    return source


class Calls(nn.Module):
    """A function as a module."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *tensors: torch.Tensor) -> Any:
        return self.function(*tensors)


def check_function(function: Any, *args: torch.Tensor, bound: float = BOUND) -> Source:
    """The same for a function of tensors."""
    return check(Calls(function), *args, bound=bound)
