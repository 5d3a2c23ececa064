"""Kernels in this process: `Model.compile`, and `torch.compile(module, backend="dragoman")`, both under Triton's interpreter."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

import dragoman
from dragoman.compiled import dynamo_backend
from dragoman.ir.errors import UsageError


@pytest.fixture
def module() -> Iterator[torch.nn.Module]:
    torch.manual_seed(0)
    layers = torch.nn.Linear(6, 8), torch.nn.SiLU(), torch.nn.LayerNorm(8), torch.nn.Linear(8, 3)
    yield torch.nn.Sequential(*layers).eval()
    torch._dynamo.reset()


def test_a_model_compiles_in_memory_and_takes_arrays_of_any_framework(module: torch.nn.Module) -> None:
    from jax import numpy as jnp

    x = torch.linspace(-2, 2, 24).reshape(6, 4).T
    compiled = dragoman.load(module, (x,)).compile("triton", pure=True)
    expected = module(x).detach()
    for given in (x, x.numpy(), jnp.asarray(x.numpy())):
        assert torch.allclose(compiled(given), expected, atol=1e-6)
    assert np.allclose(np.from_dlpack(compiled(x)), expected, atol=1e-6)


def test_torch_compile_runs_our_kernels_at_each_shape_and_with_changed_weights(module: torch.nn.Module) -> None:
    compiled = torch.compile(module, backend=dynamo_backend)
    with torch.no_grad():
        for rows in (4, 1, 7):
            x = torch.randn(rows, 6)
            assert torch.allclose(compiled(x), module(x), atol=1e-6)
        module[0].weight.mul_(2)  # type: ignore[union-attr]
        assert torch.allclose(compiled(x), module(x), atol=1e-6)


def test_a_call_that_wants_gradients_is_refused(module: torch.nn.Module) -> None:
    compiled = torch.compile(module, backend=dynamo_backend)
    with pytest.raises(Exception, match="no_grad") as caught:
        compiled(torch.randn(2, 6, requires_grad=True))
    assert isinstance(caught.value, UsageError) or isinstance(caught.value.__cause__, UsageError)
