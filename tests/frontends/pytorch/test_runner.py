"""The source model on arrays: in its own precision, and as an oracle in float64 with nothing rounded on the way."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dragoman.frontends.pytorch.dtypes import to_torch
from dragoman.ir.types import BF16, F16, DType
from tests.frontends.pytorch.compared import Calls, arrays_of, assert_same, imported


class Mixed(nn.Module):
    """Names f32 and f16 everywhere, as models with their own idea of precision do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)
        self.shift = torch.full((8,), 1 / 3)

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        y = self.inner(x).to(torch.float32).float()
        y = y + torch.arange(8, dtype=torch.float32) / 7 + torch.zeros(8).half() + self.shift
        y = y * torch.tensor(1 / 3) + torch.ones_like(y, dtype=torch.float32) / 3
        return (y.type(torch.float32) + ids.to(torch.float32).sqrt()).to(x.dtype)


def by_hand(module: Mixed, x: Any, ids: Any) -> Any:
    weight, bias = (p.detach().numpy().astype(np.float64) for p in module.inner.parameters())
    y = x.astype(np.float64) @ weight.T + bias + np.arange(8) / 7 + np.float32(1 / 3)
    return y * (1 / 3) + 1 / 3 + np.sqrt(ids)


def test_in_double_no_dtype_that_the_model_names_rounds() -> None:
    torch.manual_seed(0)
    module = Mixed()
    x, ids = torch.randn(2, 8), torch.randint(1, 9, (2, 8))
    source = imported(module, (x, ids))
    (result,) = source.runner.run(arrays_of([x, ids]), double=True)
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, by_hand(module, x.numpy(), ids.numpy()), rtol=1e-14)


def test_in_its_own_precision_the_model_gives_what_torch_gives() -> None:
    torch.manual_seed(0)
    module = Mixed()
    x, ids = torch.randn(2, 8), torch.randint(1, 9, (2, 8))
    source = imported(module, (x, ids))
    (result,) = source.runner.run([x.numpy().astype(np.float64), ids.numpy()])
    np.testing.assert_array_equal(result, module(x, ids).detach().numpy())


def test_running_in_double_changes_nothing_of_torch_or_the_module() -> None:
    module = Mixed().half()
    x, ids = torch.randn(2, 8).half(), torch.randint(1, 9, (2, 8))
    source = imported(module, (x, ids))
    before = module.inner.weight.clone()
    source.runner.run(arrays_of([x, ids]), double=True)
    source.runner.release()
    assert torch.get_default_dtype() == torch.float32
    assert module.inner.weight.dtype == torch.float16
    assert torch.equal(module.inner.weight, before)
    assert torch.zeros(1).dtype == torch.float32


def test_integers_stay_integers_in_double() -> None:
    source = imported(Calls(lambda ids, x: (ids * 2, ids // 3, x[ids])), (torch.tensor([1, 2]), torch.randn(4)))
    results = source.runner.run(arrays_of([torch.tensor([3, 1]), torch.arange(4.0)]), double=True)
    assert [r.dtype.kind for r in results] == ["i", "i", "f"]
    np.testing.assert_array_equal(results[2], [3.0, 1.0])


def test_the_same_inputs_are_not_written_to() -> None:
    def forward(x: Tensor) -> Tensor:
        x.add_(1)
        return x * 2

    source = imported(Calls(forward), (torch.zeros(3),))
    given = np.ones(3, np.float32)
    source.runner.run([given])
    source.runner.run([given], double=True)
    np.testing.assert_array_equal(given, np.ones(3, np.float32))


@pytest.mark.parametrize("double", [False, True])
def test_states_are_given_and_come_back(double: bool) -> None:
    class Sum(nn.Module):
        total: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("total", torch.zeros(2))

        def forward(self, x: Tensor) -> Tensor:
            self.total += x
            return self.total * 2

    module = Sum()
    source = imported(module, (torch.ones(2),))
    output, total = source.runner.run(arrays_of([torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0])]), double=double)
    np.testing.assert_array_equal(total, [11.0, 22.0])
    np.testing.assert_array_equal(output, [22.0, 44.0])
    assert torch.equal(module.total, torch.zeros(2))


class Remembering(nn.Module):
    """Keeps tensors in plain attributes and containers, as many models keep their masks and tables."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: dict[int, Tensor] = {}
        self.seen: list[Tensor] = []
        self.inner = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() not in self.cache:
            self.cache[x.dim()] = self.inner.weight.sum(0) / 3
        self.seen.append(x)
        self.last = self.cache[x.dim()] * 2
        return self.inner(x) + self.last


@pytest.mark.filterwarnings("ignore:The tensor attributes? self.last")
def test_what_a_model_keeps_between_calls_is_as_it_was() -> None:
    module = Remembering()
    x = torch.randn(2, 3)
    source = imported(module, (x,))
    for double in (True, False, True):
        source.runner.run(arrays_of([x]), double=double)
    assert module.cache == {}
    assert module.seen == []
    assert not hasattr(module, "last")
    assert_same(source, arrays_of([torch.randn(2, 3)]))
    (result,) = source.runner.run(arrays_of([x]))
    np.testing.assert_array_equal(result, module(x).detach().numpy())
    assert list(module.cache) == [2]


@pytest.mark.parametrize("dtype", [F16, BF16], ids=str)
def test_cast_the_model_gives_what_torch_gives_after_to(dtype: DType) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.LayerNorm(16)).eval()
    x = torch.randn(2, 8)
    source = imported(module, (x,))
    before = source.runner.run(arrays_of([x]))
    (result,) = source.runner.cast(dtype).run(arrays_of([x]))
    with torch.no_grad():
        expected = copy.deepcopy(module).to(to_torch(dtype))(x.to(to_torch(dtype)))
    assert result.dtype == dtype.numpy
    np.testing.assert_array_equal(result.astype(np.float32), expected.float().numpy())
    assert all(p.dtype == torch.float32 for p in module.parameters())
    np.testing.assert_array_equal(source.runner.run(arrays_of([x]))[0], before[0])
