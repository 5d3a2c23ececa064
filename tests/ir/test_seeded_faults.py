"""Faults that a tolerance lets through, seeded into a folded batch norm: the exact field catches each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dragoman.ir.arithmetic import FLOAT64
from dragoman.ir.builder import Builder, trace
from dragoman.ir.field import FIELD
from dragoman.ir.graph import Value
from dragoman.ir.interpreter import run
from dragoman.ir.types import F32, I64, TensorType
from tests.ir.residues import equal, residues

N, K, M = 5, 7, 4
TYPES = [TensorType(F32, s) for s in ((N, K), (K, M), (M,), (M,), (M,), (M,), (M,))]


def gelu_of_normalised(b: Builder, y: Value, root_two: float) -> Value:
    return b.mul(b.mul(y, 0.5), b.add(b.erf(b.div(y, root_two)), 1.0))


def original(b: Builder, x: Value, w: Value, c: Value, g: Value, beta: Value, mean: Value, var: Value) -> Value:
    y = b.add(b.matmul(x, w), c)
    y = b.add(b.mul(b.div(b.sub(y, mean), b.sqrt(b.add(var, 1e-5))), g), beta)
    return gelu_of_normalised(b, y, 1.4142136)


def folded(fault: str) -> Callable[..., Value]:
    def build(b: Builder, x: Value, w: Value, c: Value, g: Value, beta: Value, mean: Value, var: Value) -> Value:
        epsilon = 1.1e-5 if fault == "epsilon" else 1e-5
        deviation = b.sqrt(b.add(var, epsilon))
        if fault == "epsilon outside the root":
            deviation = b.add(b.sqrt(var), 1e-5)
        scale = b.div(g, deviation)
        bias = b.add(b.mul(b.sub(c, mean), scale), beta)
        if fault == "one entry of the bias":
            last = b.equal(b.iota(size=M), b.const(M - 1, I64))
            bias = b.add(bias, b.mul(b.cast(last, dtype=F32), 1e-5))
        y = b.add(b.matmul(x, b.mul(w, scale)), bias)
        return gelu_of_normalised(b, y, 1.414213 if fault == "a digit of √2" else 1.4142136)

    return build


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fault", ["", "epsilon", "epsilon outside the root", "one entry of the bias", "a digit of √2"])
def test_a_batch_norm_folded_with_a_small_fault_is_caught(fault: str, seed: int) -> None:
    inputs = [residues(100 * seed + i, tuple(int(d) for d in t.shape)) for i, t in enumerate(TYPES)]
    before, after = (run(trace(f, *TYPES), *inputs, arithmetic=FIELD)[0] for f in (original, folded(fault)))
    assert equal(before, after) is (fault == "")
    if fault == "one entry of the bias":
        assert np.asarray(before != after).all(axis=0).tolist() == [False] * (M - 1) + [True]


@pytest.mark.parametrize("fault", ["epsilon", "epsilon outside the root", "one entry of the bias", "a digit of √2"])
def test_a_tolerance_of_1e_4_lets_the_same_faults_through(fault: str) -> None:
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(tuple(int(d) for d in t.shape)) for t in TYPES]
    inputs[-1] = rng.uniform(0.5, 2, M)
    before, after = (run(trace(f, *TYPES), *inputs, arithmetic=FLOAT64)[0] for f in (original, folded(fault)))
    assert not np.array_equal(before, after)
    np.testing.assert_allclose(before, after, rtol=1e-4, atol=1e-4)
