"""Graphs drawn at random keep their numbers: through all passes, in their proofs, and in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from dragoman.backends.onnx import Session, to_model_proto
from dragoman.ir.errors import UsageError, VerifyError
from dragoman.ir.graph import Graph
from dragoman.ir.interpreter import run
from dragoman.ir.region import clone
from dragoman.passes.check import RewriteChecker
from dragoman.passes.manager import Context, TargetLayout, run_passes
from dragoman.passes.pipelines import IMPORTED, OPTIMISE
from tests.passes.random_graphs import SIZES, random_graph, random_inputs

NODES = 18
TARGETS = (TargetLayout(), TargetLayout(rows=True), TargetLayout(rows=True, heads=True))
SINGLE = 2e-4  # of the largest number, for ONNX Runtime in f32


def optimised(graph: Graph, seed: int, check: RewriteChecker | None = None) -> Graph:
    """A copy after all passes, for one of the targets."""
    copy = clone(graph)
    context = Context(check=check, layout=TARGETS[seed % len(TARGETS)])
    if check is not None:
        check.run_on(copy)
    run_passes(copy, IMPORTED, context)
    run_passes(copy, OPTIMISE, context)
    return copy


def runs(graph: Graph, seed: int) -> Iterator[tuple[list[Any], list[Any]]]:
    """Inputs of each size and the numbers for them in float64, where the graph has any: it may index outside of them."""
    for sizes in SIZES:
        inputs = random_inputs(graph, sizes, seed)
        try:
            yield inputs, run(graph, *inputs)
        except (UsageError, VerifyError):
            continue


@pytest.mark.parametrize("block", range(8))
def test_the_passes_keep_the_numbers_at_every_size(block: int) -> None:
    compared = 0
    for seed in range(100 * block, 100 * (block + 1)):
        graph = random_graph(seed, NODES)
        after = optimised(graph, seed)
        for inputs, expected in runs(graph, seed):
            for e, g in zip(expected, run(after, *inputs), strict=True):
                np.testing.assert_allclose(g, e, rtol=1e-9, atol=1e-9, err_msg=f"seed {seed}")
                assert g.dtype == e.dtype
                compared += 1
    assert compared > 800


@pytest.mark.parametrize("block", range(2))
def test_every_rewrite_is_proved(block: int) -> None:
    fired = 0
    for seed in range(1000 + 60 * block, 1000 + 60 * (block + 1)):
        check = RewriteChecker()
        optimised(random_graph(seed, NODES), seed, check)
        assert not check.refused, f"seed {seed}: {check.refused[0]}"
        assert not check.unchecked
        fired += len(check.firings)
    assert fired > 60


@pytest.mark.parametrize("block", range(2))
def test_onnx_runtime_gives_the_same_numbers(block: int) -> None:
    compared = 0
    for seed in range(2000 + 60 * block, 2000 + 60 * (block + 1)):
        graph = random_graph(seed, NODES)
        contrib = TARGETS[seed % len(TARGETS)].heads
        session = Session(to_model_proto(optimised(graph, seed), contrib=contrib), optimise=False)
        for inputs, expected in runs(graph, seed):
            for e, g in zip(expected, session.run(inputs), strict=True):
                wide = e.astype(np.float64)
                largest = np.abs(wide[np.isfinite(wide)]).max(initial=1.0)
                np.testing.assert_allclose(g, e, rtol=10 * SINGLE, atol=SINGLE * largest, err_msg=f"seed {seed}")
                compared += 1
    assert compared > 300
