"""Dynamic dims stay symbolic under the caller's names, whatever the sizes of the example."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dragoman.frontends.pytorch import import_module
from dragoman.ir.dims import UNBOUNDED, Symbol
from dragoman.ir.errors import UsageError
from tests.frontends.pytorch.compared import Calls, arrays_of, assert_same, check, imported


class Model(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, y: Tensor | None = None) -> Any:
        return self.function(x) if y is None else self.function(x, y)


def inputs_of(source: Any) -> list[str]:
    return [str(v.type) for v in source.imported.graph.inputs]


def outputs_of(source: Any) -> list[str]:
    return [str(v.type) for v in source.imported.graph.outputs]


def test_names_appear_in_the_types_of_inputs_and_outputs() -> None:
    def head(x: Tensor) -> Tensor:
        return torch.cat([x, x], 1).reshape(x.shape[0], -1)

    source = check(
        Model(head),
        torch.randn(3, 5, 4),
        dynamic={"x": {0: "batch", 1: "seq"}},
        others=[(torch.randn(1, 1, 4),), (torch.randn(7, 2, 4),)],
    )
    assert inputs_of(source) == ["f32[batch,seq,4]"]
    assert outputs_of(source) == ["f32[batch,8*seq]"]


@pytest.mark.parametrize("batch", [0, 1])
def test_an_example_of_size_0_or_1_does_not_fix_the_dim(batch: int) -> None:
    others = [(torch.randn(n, 4),) for n in (2, 5)]
    source = imported(Model(lambda x: x.softmax(-1) + x.sum()), (torch.randn(batch, 4),), dynamic={"x": {0: "n"}})
    assert inputs_of(source) == ["f32[n,4]"]
    for given in others:
        assert_same(source, arrays_of(given))


def test_two_dims_of_one_size_in_the_example_stay_apart() -> None:
    source = check(
        Model(lambda x: x.transpose(0, 1).contiguous().view(-1)),
        torch.randn(4, 4),
        dynamic={"x": {0: "rows", 1: "columns"}},
        others=[(torch.randn(2, 3),)],
    )
    assert outputs_of(source) == ["f32[columns*rows]"]


def test_a_dim_that_equals_a_static_size_in_the_example_stays_dynamic() -> None:
    source = check(Model(lambda x, y: x @ y), torch.randn(4, 4), torch.randn(4, 6), dynamic={"x": {0: "n"}})
    assert inputs_of(source) == ["f32[n,4]", "f32[4,6]"]
    assert_same(source, arrays_of([torch.randn(9, 4), torch.randn(4, 6)]))


def test_one_name_on_two_inputs_is_one_symbol() -> None:
    source = check(
        Model(lambda x, y: x + y),
        torch.randn(2, 3),
        torch.randn(2, 3),
        dynamic={"x": {0: "n"}, "y": {0: "n"}},
        others=[(torch.randn(5, 3), torch.randn(5, 3))],
    )
    assert inputs_of(source) == ["f32[n,3]", "f32[n,3]"]


def test_an_expression_names_a_dim_by_others() -> None:
    source = check(
        Model(lambda x, y: x.view(-1, 8).sum(0) + torch.cat([x, x])[: y.shape[0] * 2].sum() + y.sum()),
        torch.randn(16),
        torch.randn(3),
        dynamic={"x": {0: "8*seq"}, "y": {0: "seq+1"}},
        others=[(torch.randn(8), torch.randn(2)), (torch.randn(40), torch.randn(6))],
    )
    assert inputs_of(source) == ["f32[8*seq]", "f32[seq + 1]"]


def test_a_range_from_the_caller_is_kept_and_checked_when_the_model_runs() -> None:
    source = imported(Model(lambda x: x * 2), (torch.randn(3, 2),), dynamic={"x": {0: Symbol("n", 2, 6)}})
    assert source.imported.graph.symbols()["n"] == Symbol("n", 2, 6)
    with pytest.raises(UsageError, match=r"n = 7 is outside its range 2\.\.6"):
        assert_same(source, arrays_of([torch.randn(7, 2)]))


def test_a_range_the_caller_left_open_is_narrowed_to_what_the_model_needs() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(64, 4)
            self.register_buffer("ids", torch.arange(64).expand(1, -1))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.table(self.ids[:, : x.shape[1]])

    source = check(
        Positions(), torch.randn(2, 7, 4), dynamic={"x": {0: "b", 1: "s"}}, others=[(torch.randn(3, 64, 4),)]
    )
    assert source.imported.graph.symbols() == {"b": Symbol("b", 1, UNBOUNDED), "s": Symbol("s", 1, 64)}


def test_torch_export_dims_are_accepted_as_they_are() -> None:
    batch = torch.export.Dim("batch", min=1, max=16)
    source = imported(Model(lambda x: x + 1), (torch.randn(4),), dynamic={"x": {0: batch}})
    assert source.imported.graph.symbols() == {"batch": Symbol("batch", 1, 16)}


def test_a_list_of_dims_is_by_position() -> None:
    source = imported(Model(lambda x: x + 1), (torch.randn(4, 5, 6),), dynamic={"x": ["b", None, "w"]})
    assert inputs_of(source) == ["f32[b,5,w]"]


def test_nested_arguments_are_named_by_their_path() -> None:
    def forward(states: dict[str, list[Tensor]], *rest: Tensor) -> Tensor:
        return states["a"][0] + states["a"][1] + rest[0]

    class Nested(nn.Module):
        def forward(self, states: dict[str, list[Tensor]], *rest: Tensor) -> Tensor:
            return forward(states, *rest)

    x = torch.randn(3, 2)
    source = imported(
        Nested(),
        ({"a": [x, x]}, x),
        dynamic={"states.a.0": {0: "n"}, "states.a.1": {0: "n"}, "rest.0": {0: "n"}},
    )
    assert [v.name for v in source.imported.graph.inputs] == ["states.a.0", "states.a.1", "rest.0"]
    assert_same(source, arrays_of([torch.randn(5, 2)] * 3))


def test_sizes_are_numbers_where_the_model_computes_with_them() -> None:
    def forward(x: Tensor) -> tuple[Tensor, ...]:
        n = x.shape[0]
        return (
            x * n + n // 3,
            x / n**0.5,
            torch.full((2,), n),
            torch.arange(n) * 2,
            torch.arange(n - 1, -1, -1),
            torch.arange(0.0, n / 2, 0.5),
            x.new_zeros(max(n, 4) % 3 + 1),
            torch.ones(-(-n // 2), 2 * n),
            x.sum() * (n > 4),
        )

    check(Model(forward), torch.randn(6, 2), dynamic={"x": {0: "n"}}, others=[(torch.randn(n, 2),) for n in (1, 5, 9)])


def test_the_size_itself_may_be_returned() -> None:
    source = check(
        Model(lambda x: (x.shape[0], x + 1)), torch.randn(3), dynamic={"x": {0: "n"}}, others=[(torch.randn(8),)]
    )
    assert outputs_of(source) == ["i64[]", "f32[n]"]


def test_data_dependent_sizes_get_a_symbol_of_their_own() -> None:
    source = check(
        Model(lambda x: (x.nonzero(), x[x > 0] * 2, torch.masked_select(x, x < 0))),
        torch.tensor([[1.0, 0.0], [-2.0, 3.0]]),
        dynamic={"x": {0: "n"}},
        others=[(torch.tensor([[0.0, 0.0], [-1.0, 4.0], [5.0, -6.0]]),), (torch.zeros(2, 2),)],
    )
    assert outputs_of(source) == ["i64[n0,2]", "f32[n1]", "f32[n2]"]


def test_a_number_read_from_a_tensor_is_used_as_data() -> None:
    check(
        Model(lambda x, y: x * y.max().item() + y[0].item()),
        torch.randn(3),
        torch.tensor([2, 5]),
        others=[(torch.randn(3), torch.tensor([7, 1]))],
    )


def test_the_module_and_the_example_are_left_as_they_were() -> None:
    module, x = nn.Linear(3, 2), torch.randn(1, 3)
    before = {**vars(x)}
    weight = module.weight.clone()
    import_module(module, (x,), dynamic={"input": {0: "n"}})
    assert vars(x) == before
    assert x.shape == (1, 3)
    assert module.training
    assert torch.equal(module.weight, weight)


@pytest.mark.parametrize(
    ("dynamic", "message"),
    [
        ({"z": {0: "n"}}, r"dynamic names an input 'z'; the inputs are x, y"),
        ({"x": {2: "n"}}, r"axis 2 of 'x', which has 2 dimension\(s\)"),
        ({"x": {0: "3 n"}}, r"'3 n' is no dynamic dimension"),
        ({"x": {0: 3.5}}, r"3\.5 is no dynamic dimension"),
        ({"x": {0: "n"}, "y": {0: "n"}}, r"the example 'y' is 3 at axis 0, but n = 2 \(n = 2 in x\[0\]\)"),
        ({"x": {0: "4*n"}}, r"the example 'x' is 2 at axis 0, which 4\*n cannot be"),
        ({"x": {0: Symbol("n", 1, 4)}, "y": {0: Symbol("n", 1, 5)}}, r"'n' is given two ranges: 1\.\.4 and 1\.\.5"),
        ({"x": {0: "a-b"}}, r"'x' is 2 at axis 0, which a - b cannot be"),
    ],
)
def test_a_wrong_specification_says_what_is_wrong(dynamic: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        imported(Model(lambda x, y: x.sum() + y), (torch.randn(2, 3), torch.randn(3)), dynamic=dynamic)


def test_arguments_that_do_not_fit_the_signature_are_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"do not fit forward\(.*missing a required argument: 'x'"):
        imported(Model(lambda x: x), ())
    with pytest.raises(UsageError, match="got an unexpected keyword argument 'z'"):
        imported(Model(lambda x: x), (torch.ones(2),), {"z": torch.ones(2)})


def test_an_example_on_which_the_model_fails_is_a_usage_error_with_the_line() -> None:
    def forward(x: Tensor) -> Tensor:
        return x @ torch.ones(7, 7)

    with pytest.raises(
        UsageError, match="does not run on the example arguments: RuntimeError: mat1 and mat2"
    ) as refused:
        import_module(Calls(forward), (torch.ones(3),))
    assert str(refused.value).endswith("return x @ torch.ones(7, 7)")


def test_operators_that_torch_types_with_fixed_numbers_keep_their_dims() -> None:
    def forward(x: Tensor) -> tuple[Tensor, ...]:
        pooled = nn.functional.max_pool1d(x, 3, 2, padding=1, ceil_mode=True)
        order = x.argsort(dim=1, stable=True)
        halved = nn.functional.max_pool1d(x[0], 2)
        return pooled, halved, x.take_along_dim(order[:, :1], 1), torch.kron(x[0], x[0, :, :2])

    before = dict(torch.ops.aten.max_pool1d.default.py_kernels)
    check(
        Model(forward),
        torch.randn(2, 3, 8),
        dynamic={"x": {0: "n", 1: "c", 2: "t"}},
        others=[(torch.randn(1, 2, 5),), (torch.randn(3, 1, 9),)],
    )
    assert torch.ops.aten.max_pool1d.default.py_kernels == before
