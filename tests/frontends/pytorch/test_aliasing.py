"""Writes in place: the IR has values only, so every view of what is written must follow."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dragoman.ir.errors import ImportRefused
from tests.frontends.pytorch.compared import Calls, arrays_of, assert_same, check, check_function, imported


def grid(*shape: int) -> Tensor:
    return torch.arange(1.0, 1.0 + torch.Size(shape).numel()).reshape(shape) / 8


def in_place_chain(x: Tensor) -> Tensor:
    y = x * 2
    y.add_(1).mul_(3)
    y.relu_().sub_(0.5, alpha=2)
    return y


def column_assignment(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 0] = 1
    y[1] = y[0] * 2
    return y


def write_through_view(x: Tensor) -> tuple[Tensor, Tensor]:
    y = x + 1
    flat = y.view(-1)
    flat.mul_(2)
    return y, flat


def base_written_after_view(x: Tensor) -> tuple[Tensor, Tensor]:
    y = x + 1
    row = y[0]
    y.mul_(2)
    return row, y


def sibling_views(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    y = x + 0.5
    top, turned = y[:2], y.transpose(0, 1)
    top.add_(10)
    turned[0].zero_()
    return top, turned, y


def view_of_view(x: Tensor) -> Tensor:
    y = x * 1.5
    y[1:][:, ::2].neg_()
    y.unsqueeze(0).permute(2, 0, 1)[2].fill_(7)
    return y


def split_and_write(x: Tensor) -> Tensor:
    y = x + 0.25
    a, b = y.split([1, 2], dim=0)
    b += a
    first, *_ = y.unbind(1)
    first.copy_(torch.zeros(3))
    return y


def chunk_and_narrow(x: Tensor) -> Tensor:
    y = x + 0.25
    y.chunk(2, dim=1)[1].mul_(4)
    y.narrow(0, 1, 1).sub_(1)
    return y


def diagonal_write(x: Tensor) -> Tensor:
    y = x + 0.0
    y.diagonal(1).fill_(9)
    y.diagonal(-2).add_(3)
    return y


def reshape_that_is_a_view(x: Tensor) -> Tensor:
    y = x * 2
    y.reshape(-1)[0] = 100
    return y


def reshape_that_is_a_copy(x: Tensor) -> tuple[Tensor, Tensor]:
    y = (x * 2).transpose(0, 1)
    z = y.reshape(-1)
    z[0] = 100
    return y, z


def contiguous_copy(x: Tensor) -> tuple[Tensor, Tensor]:
    y = x * 2
    z = y.t().contiguous()
    z.add_(1)
    return y, z


def masked_and_indexed(x: Tensor) -> Tensor:
    y = x.clone()
    y.masked_fill_(y > 1, -1)
    y[torch.tensor([0, 2]), torch.tensor([1, 1])] = torch.tensor([50.0, 60.0])
    y[y < 0] = 0.5
    y.index_add_(0, torch.tensor([1, 1]), torch.ones(2, x.shape[1]))
    y.scatter_(1, torch.tensor([[0], [1], [2]]), 4.0)
    return y


def written_in_another_dtype(x: Tensor) -> Tensor:
    y = torch.zeros(3, 4, dtype=torch.float64)
    y.copy_(x)
    y.add_(x)
    z = torch.zeros(3, 4, dtype=torch.int64)
    z.add_(2).mul_(3)
    return y + z


def swapped(x: Tensor) -> Tensor:
    y = x.clone()
    first = y[0].clone()
    y[0] = y[1]
    y[1] = first
    return y


def through_dropout_and_detach(x: Tensor) -> Tensor:
    y = x + 1
    torch.nn.functional.dropout(y, 0.5, training=False).add_(1)
    y.detach().mul_(2)
    return y


def squeezed(x: Tensor) -> Tensor:
    y = (x + 1).unsqueeze(1)
    y.squeeze(1).mul_(3)
    y.squeeze()[0].add_(1)
    return y


def loop_over_rows(x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    for i in range(x.shape[0]):
        y[i] = x[i] + (y[i - 1] if i else 0)
    return y


def written_to_out(x: Tensor) -> tuple[Tensor, Tensor]:
    y = torch.zeros(3, 4)
    row = y[0]
    torch.add(x, 1, alpha=2, out=y)
    torch.mul(row, 3, out=row)
    z = torch.empty(6, 4)
    torch.cat([x, y], out=z)
    return y, z


CASES = [
    written_to_out,
    in_place_chain,
    column_assignment,
    write_through_view,
    base_written_after_view,
    sibling_views,
    view_of_view,
    split_and_write,
    chunk_and_narrow,
    diagonal_write,
    reshape_that_is_a_view,
    reshape_that_is_a_copy,
    contiguous_copy,
    masked_and_indexed,
    written_in_another_dtype,
    swapped,
    through_dropout_and_detach,
    squeezed,
    loop_over_rows,
]


@pytest.mark.parametrize("function", CASES, ids=lambda f: f.__name__)
def test_a_write_reaches_every_view_of_what_is_written(function: Any) -> None:
    check_function(function, grid(3, 4))


class Residual(nn.Module):
    """Adds in place to what other layers also read."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        kept = y * 2
        y += self.second(self.act(y))
        return y + kept


def test_a_residual_block_in_place_is_right_at_other_batch_sizes() -> None:
    torch.manual_seed(0)
    others = [(torch.randn(n, 4),) for n in (1, 2, 7)]
    check(Residual(), torch.randn(3, 4), dynamic={"x": {0: "batch"}}, others=others)


class Cached(nn.Module):
    """Keeps what it saw in a buffer."""

    seen: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(2, 3))
        self.register_buffer("count", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        self.seen[:, 1:] = x
        self.count += 1
        return self.seen.sum() + self.count


def test_a_buffer_that_is_written_becomes_an_input_and_an_output() -> None:
    source = imported(Cached(), (torch.ones(2, 2),))
    graph = source.imported.graph
    assert [v.name for v in graph.inputs] == ["x", "seen", "count"]
    assert graph.output_names == ("output", "seen.next", "count.next")
    assert [(s.input, s.output) for s in source.imported.states] == [("seen", "seen.next"), ("count", "count.next")]
    assert [s.initial.array().tolist() for s in source.imported.states if s.initial] == [[[0.0] * 3] * 2, 0]
    given = [torch.full((2, 2), 3.0), torch.arange(6.0).reshape(2, 3), torch.tensor(4)]
    assert_same(source, arrays_of(given))


class Assigned(nn.Module):
    """Replaces its buffer by assignment."""

    last: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("last", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        before = self.last
        self.last = x * 2
        return before + x


def test_a_buffer_that_is_assigned_becomes_a_state_too() -> None:
    source = imported(Assigned(), (torch.ones(3),))
    assert source.imported.graph.output_names == ("output", "last.next")
    assert_same(source, arrays_of([torch.tensor([1.0, 2.0, 3.0]), torch.tensor([5.0, 6.0, 7.0])]))


def test_an_input_that_is_written_is_also_an_output() -> None:
    def forward(x: Tensor, cache: Tensor) -> Tensor:
        cache[:, 1] = x
        return cache.sum(1)

    source = imported(Calls(forward), (torch.ones(2), torch.zeros(2, 3)))
    assert source.imported.graph.output_names == ("output", "tensors.1.next")
    assert_same(source, arrays_of([torch.tensor([2.0, 3.0]), torch.arange(6.0).reshape(2, 3)]))


def test_batch_norm_in_training_mode_gives_its_new_statistics() -> None:
    torch.manual_seed(1)
    module = nn.Sequential(nn.BatchNorm1d(3), nn.ReLU())
    from dragoman.frontends.pytorch import import_module

    source = import_module(module.train(), (torch.randn(8, 3),))
    names = source.imported.graph.output_names
    assert names == ("output", "0.running_mean.next", "0.running_var.next", "0.num_batches_tracked.next")
    given = [torch.randn(8, 3), torch.randn(3), torch.rand(3) + 0.5, torch.tensor(6)]
    assert_same(source, arrays_of(given))


def test_writing_to_a_list_of_tensors_is_refused() -> None:
    def forward(x: Tensor) -> Tensor:
        y, z = x + 1, x * 2
        torch._foreach_add_([y, z], 1)
        return y + z

    with pytest.raises(ImportRefused, match=r"aten\._foreach_add_\.Scalar"):
        imported(Calls(forward), (torch.ones(4),))


def test_writing_to_an_expanded_tensor_is_refused_with_its_line() -> None:
    def forward(x: Tensor) -> Tensor:
        y = x.clone()
        torch.as_strided(y, (2, 2), (1, 1)).add_(1)
        return y

    with pytest.raises(ImportRefused, match=r"test_aliasing\.py:\d+  torch\.as_strided\(y") as refused:
        imported(Calls(forward), (torch.ones(4),))
    assert "a view that cannot be undone" in str(refused.value)
