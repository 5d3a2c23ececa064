"""Branches and loops become sub-graphs; what only wraps (no_grad, autocast, checkpoints) leaves no trace."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._higher_order_ops.map import map as torch_map
from torch._higher_order_ops.scan import scan as torch_scan
from torch._higher_order_ops.while_loop import while_loop

from dragoman.frontends.pytorch import import_module
from dragoman.ir.errors import ImportRefused, Unsupported
from dragoman.ir.types import BF16, F32
from tests.frontends.pytorch.compared import Calls, arrays_of, assert_same, check, imported


@pytest.fixture(autouse=True)
def _torch_compiles_regions() -> Iterator[None]:
    with warnings.catch_warnings():  # dynamo's own, from tracing the bodies
        warnings.simplefilter("ignore")
        yield


def ops_of(source: Any) -> list[str]:
    return [n.op.name for n in source.imported.graph]


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hot, self.cold = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda x: self.hot(x).relu(), lambda x: self.cold(x) - x.shape[0], (x,))


def test_both_branches_of_a_cond_are_kept_with_their_weights() -> None:
    torch.manual_seed(0)
    ones = torch.ones(3, 4)
    others = [(-ones,), (torch.ones(1, 4),), (-torch.ones(6, 4),)]
    source = check(Branching(), ones, dynamic={"x": {0: "n"}}, others=others)
    assert "cond" in ops_of(source)
    assert sorted(source.imported.graph.weights) == ["cold.bias", "cold.weight", "hot.bias", "hot.weight"]


def test_a_branch_on_a_size_is_a_branch_when_the_size_is_dynamic() -> None:
    class BySize(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cond(x.shape[0] > 4, lambda x: x * 2, lambda x: x - 1, (x,))

    check(BySize(), torch.randn(3, 2), dynamic={"x": {0: "n"}}, others=[(torch.randn(n, 2),) for n in (1, 4, 5, 9)])


def test_nested_conds_are_nested_regions() -> None:
    def inner(x: Tensor) -> Tensor:
        return torch.cond(x[0] > 1, lambda x: x * 3, lambda x: x + 3, (x,))

    class Nested(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cond(x.sum() > 0, inner, lambda x: -x, (x,))

    check(Nested(), torch.tensor([2.0, 1.0]), others=[(torch.tensor([0.5, 1.0]),), (torch.tensor([-2.0, 1.0]),)])


def test_a_while_loop_carries_its_state_and_sees_weights() -> None:
    class Looping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.step = nn.Parameter(torch.tensor([0.5, 0.25]))

        def forward(self, x: Tensor) -> Any:
            def running(i: Tensor, x: Tensor) -> Tensor:
                return (i < 5) & (x.sum() < 100)

            def body(i: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
                return i + 1, x * 2 + self.step

            return while_loop(running, body, (torch.tensor(0), x))

    source = check(Looping(), torch.ones(2), others=[(torch.full((2,), 30.0),), (torch.full((2,), 300.0),)])
    assert "while_loop" in ops_of(source)


def test_a_scan_and_a_map_loop_over_the_leading_axis() -> None:
    class Scanning(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Any:
            last, seen = torch_scan(lambda c, e: (c * 0.5 + e, c.sin()), torch.zeros(3), x)
            return last, seen, torch_map(lambda e, z: e * z + 1, x, y)

    x, y = torch.randn(4, 3), torch.randn(3)
    source = check(Scanning(), x, y, dynamic={"x": {0: "t"}}, others=[(torch.randn(9, 3), y), (torch.randn(1, 3), y)])
    assert ops_of(source).count("scan") == 2


def test_regions_without_gradients_are_inlined() -> None:
    class Wrapped(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                y = x * 2
            with torch.enable_grad():
                y = y + x
            y.add_(1)
            return y.detach()

    source = check(Wrapped(), torch.randn(3))
    assert ops_of(source) == ["constant", "mul", "add", "constant", "add"]


def test_writes_inside_a_region_without_gradients_reach_what_is_outside() -> None:
    class Outside(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = x + 1
            view = y[:1]
            with torch.enable_grad():
                view.mul_(3)
                z = y * 2
            view.add_(1)
            return y, z

    check(Outside(), torch.randn(3))


def test_an_autocast_region_has_its_casts_written_out() -> None:
    class Cast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                y = self.inner(x)
                z = y.softmax(-1) + x
            return z + y

    source = imported(Cast(), (torch.randn(2, 4),))
    (linear,) = [n for n in source.imported.graph if n.op.name == "linear"]
    assert {t.dtype for t in linear.operand_types if t} == {BF16}
    assert source.imported.graph.outputs[0].type.dtype == F32


def test_a_checkpointed_block_is_walked_through() -> None:
    from torch.utils.checkpoint import checkpoint

    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(lambda x: self.inner(x).relu(), x, use_reentrant=False)

    check(Checkpointed(), torch.randn(2, 3))


def test_a_branch_on_values_is_refused_with_its_line_and_the_way_out() -> None:
    def forward(x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x + 1
        return x - 1

    with pytest.raises(Unsupported, match="the model decides by the values of a tensor") as refused:
        import_module(Calls(forward), (torch.ones(3),))
    assert "if x.sum() > 0:" in str(refused.value)
    assert "torch.cond(predicate, true_function, false_function, operands)" in str(refused.value)


def test_a_loop_bound_read_from_a_tensor_is_refused_with_its_line() -> None:
    def forward(x: Tensor, n: Tensor) -> Tensor:
        for _ in range(int(n)):
            x = x * 2
        return x

    with pytest.raises(Unsupported, match="a size is taken from the values of a tensor") as refused:
        import_module(Calls(forward), (torch.ones(3), torch.tensor(2)))
    assert "for _ in range(int(n)):" in str(refused.value)


def test_a_size_read_from_a_tensor_is_refused_with_the_line_that_read_it() -> None:
    def forward(x: Tensor, n: Tensor) -> Tensor:
        length = n.item()
        torch._check(length >= 0)
        return torch.zeros(length) + x.sum()

    with pytest.raises(
        ImportRefused, match=r"a size is taken from the values of a tensor \(test_control_flow\.py"
    ) as refused:
        import_module(Calls(forward), (torch.ones(3), torch.tensor(2)))
    assert "length = n.item()" in str(refused.value)


def test_looking_at_tensors_in_numpy_is_refused_with_the_line() -> None:
    def forward(x: Tensor) -> Tensor:
        return torch.from_numpy(x.numpy() * 2)

    with pytest.raises(Unsupported, match=r"torch\.export cannot trace the model") as refused:
        import_module(Calls(forward), (torch.ones(3),))
    assert "return torch.from_numpy(x.numpy() * 2)" in str(refused.value)


def test_the_same_graph_serves_both_sides_of_a_cond() -> None:
    source = imported(Branching(), (torch.ones(3, 4),), dynamic={"x": {0: "n"}})
    assert_same(source, arrays_of([torch.zeros(2, 4)]))
