"""Import a model of JAX and compare what our interpreter makes of the graph with JAX in double precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dragoman.frontends.dynamic import Dynamic
from dragoman.frontends.imported import Source
from dragoman.frontends.jax import import_function
from dragoman.ir.interpreter import run
from dragoman.ir.verify import verify

BOUND = 1e-12  # float64 rounding of a few thousand operations; nothing here is ill-conditioned


def check(
    source: Any,
    *args: Any,
    params: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    dynamic: Dynamic | None = None,
    others: Sequence[Sequence[Any]] = (),
    bound: float = BOUND,
) -> Source:
    """Import at `args`, compare there and at other inputs."""
    found = import_function(source, args, kwargs, params=params, dynamic=dynamic)
    verify(found.imported.graph)
    examples = found.runner.examples()
    for given in (examples, *others):
        assert_same(found, [*given, *examples[len(given) :]], bound)
    return found


def assert_same(source: Source, arrays: Sequence[Any], bound: float = BOUND) -> None:
    """The graph in float64 gives what JAX gives in double, to `bound` of the largest element."""
    graph = source.imported.graph
    theirs, native = source.runner.run(arrays, double=True), source.runner.run(arrays)
    ours = run(graph, *arrays)
    assert len(ours) == len(theirs) == len(graph.outputs)
    for value, a, b, narrow, name in zip(graph.outputs, ours, theirs, native, graph.output_names, strict=True):
        assert value.type.dtype.numpy == narrow.dtype, name
        assert a.shape == b.shape, name
        if b.dtype.kind not in "fc":
            np.testing.assert_array_equal(a, b, err_msg=name)
            continue
        scale = float(np.abs(b[np.isfinite(b)]).max(initial=0.0)) or 1.0
        np.testing.assert_allclose(a, b, rtol=0, atol=bound * scale, err_msg=name)
