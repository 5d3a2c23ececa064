"""What an import tells besides values: names, weights, where each node comes from, and what it refuses."""

from __future__ import annotations

import collections
import re
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dragoman.frontends.pytorch import import_exported, import_module, translates
from dragoman.frontends.pytorch.context import Context
from dragoman.frontends.pytorch.table import load, registry
from dragoman.frontends.pytorch.weights import from_numpy, to_numpy, weight_of
from dragoman.ir.errors import ImportRefused, Malformed, Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.text import parse, show
from tests.frontends.pytorch.compared import Calls, arrays_of, assert_same, check, check_function, imported


class Pair(NamedTuple):
    left: Tensor
    right: Tensor


OUTPUTS: list[tuple[Any, tuple[str, ...]]] = [
    (lambda x: x + 1, ("output",)),
    (lambda x: (x + 1, x * 2), ("output0", "output1")),
    (lambda x: [x + 1], ("output0",)),
    (lambda x: {"logits": x + 1, "state": (x, None, x * 2)}, ("logits", "state.0", "state.2")),
    (lambda x: Pair(x + 1, x * 2), ("left", "right")),
    (lambda x: (x + 1, {"a": x}), ("output0", "output1.a")),
    (lambda x: collections.OrderedDict(b=x + 1, a=x), ("b", "a")),
    (lambda x: (x, 3, x.shape[0], True), ("output0", "output1", "output2", "output3")),
    (lambda x: (x, x), ("output0", "output1")),
]


@pytest.mark.parametrize(("function", "names"), OUTPUTS)
def test_outputs_are_named_by_fields_keys_and_places(function: Any, names: tuple[str, ...]) -> None:
    source = check(Calls(function), torch.randn(3))
    assert source.imported.graph.output_names == names


def test_inputs_are_named_by_parameters_and_constants_are_none_of_them() -> None:
    class Model(nn.Module):
        def forward(
            self, x: Tensor, scale: float, mask: Tensor | None = None, *, flag: bool = False, bias: Tensor
        ) -> Tensor:
            return x * scale + (bias if flag else 0)

    source = import_module(Model(), (torch.ones(2), 2.5), {"flag": True, "bias": torch.ones(2)})
    assert [v.name for v in source.imported.graph.inputs] == ["x", "bias"]
    assert_same(source, arrays_of([torch.randn(2), torch.randn(2)]))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(6, 4)
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.head = nn.Linear(4, 6, bias=False)
        self.head.weight = self.embed.weight
        self.unused = nn.Linear(4, 4)
        self.register_buffer("scale", torch.full((4,), 0.5), persistent=False)
        self.shift = torch.tensor([1.0, 2.0, 3.0, 4.0])

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids) * self.scale + self.shift
        for layer in self.layers:
            x = layer(x).relu()
        return self.head(x + torch.tensor(0.25))


def test_weights_keep_their_names_share_memory_and_are_there_once() -> None:
    module = Tied()
    source = check(module, torch.tensor([[1, 5, 0]]))
    weights = source.imported.graph.weights
    assert {"embed.weight", "layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias", "scale"} < set(
        weights
    )
    assert "head.weight" not in weights
    assert not any("unused" in name for name in weights)
    seen = weights["embed.weight"].weight
    assert seen is not None
    assert seen.array().ctypes.data == module.embed.weight.data_ptr()


@pytest.mark.parametrize(
    ("dtype", "numpy"),
    [
        (torch.bfloat16, ml_dtypes.bfloat16),
        (torch.float8_e4m3fn, ml_dtypes.float8_e4m3fn),
        (torch.float8_e5m2, ml_dtypes.float8_e5m2),
        (torch.float16, np.float16),
        (torch.int8, np.int8),
        (torch.bool, np.bool_),
    ],
)
def test_a_tensor_and_its_array_are_the_same_bytes(dtype: torch.dtype, numpy: Any) -> None:
    tensor = torch.tensor([[0.0, 1.0, -2.0], [0.5, 4.0, 1.5]]).to(dtype).t()
    array = to_numpy(tensor)
    assert array.dtype == np.dtype(numpy)
    assert array.shape == (3, 2)
    np.testing.assert_array_equal(array.astype(np.float64), tensor.double().numpy())
    assert array.ctypes.data == tensor.data_ptr()
    assert torch.equal(from_numpy(array).double(), tensor.double())


def test_tensors_without_values_are_no_weights() -> None:
    with pytest.raises(Malformed, match="'w' is on the meta device"):
        weight_of("w", torch.empty(2, device="meta"))
    with pytest.raises(Unsupported, match="'w' is torch.sparse_coo"):
        weight_of("w", torch.eye(3).to_sparse())


def test_every_node_knows_its_operator_module_and_line() -> None:
    source = imported(Tied(), (torch.tensor([[1, 5, 0]]),))
    (take,) = [n for n in source.imported.graph if n.op.name == "take"]
    first = next(n for n in source.imported.graph if n.op.name == "linear")
    assert take.provenance.sources[0].operator == "aten.embedding.default"
    assert take.provenance.module == "embed"
    assert re.fullmatch(
        r"test_import\.py:\d+  x = self\.embed\(ids\) \* self\.scale \+ self\.shift", take.provenance.line
    )
    assert first.provenance.module == "layers.0"
    assert first.provenance.line.endswith("x = layer(x).relu()")
    assert all(n.provenance.sources for n in source.imported.graph)


def test_a_layer_called_twice_has_one_path() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(self.inner(x))

    source = check(Twice(), torch.randn(2, 3))
    assert [n.provenance.module for n in source.imported.graph if n.op.name == "linear"] == ["inner", "inner"]
    assert len(source.imported.graph.weights) == 2


def test_the_imported_graph_is_text_that_reads_back() -> None:
    graph = imported(Tied(), (torch.tensor([[1, 5, 0]]),)).imported.graph
    assert show(parse(show(graph))) == show(graph)


# ---- refusals ------------------------------------------------------------------------------------------------------


class Spectral(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.rfft(x).abs() + torch.fft.rfft(x * 2).abs()


class Refused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.spectrogram = Spectral()

    def forward(self, x: Tensor) -> Tensor:
        y = self.spectrogram(x)
        return torch.linalg.inv(y[:, :3].T @ y[:, :3]) + torch.rand(3, 3)


def test_all_operators_without_translation_are_told_at_once() -> None:
    with pytest.raises(ImportRefused) as refused:
        import_module(Refused(), (torch.randn(4, 8),))
    found = {o.operator: o for o in refused.value.occurrences}
    assert found["aten._fft_r2c.default"].count == 2
    assert found["aten._fft_r2c.default"].module == "spectrogram"
    assert found["aten._fft_r2c.default"].line.endswith("return torch.fft.rfft(x).abs() + torch.fft.rfft(x * 2).abs()")
    assert found["aten.rand.default"].reason.startswith("it draws random numbers")
    assert "aten.linalg_inv_ex.default" in found
    assert '@dragoman.frontends.pytorch.translates("aten._fft_r2c.default")' in str(refused.value)


def test_dropout_in_training_mode_says_what_to_do() -> None:
    class Always(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.dropout(x, 0.5, training=True)

    with pytest.raises(ImportRefused, match=r"dropout in training mode is random: call model\.eval\(\) first"):
        import_module(Always().eval(), (torch.ones(3),))


# ---- operators of others ---------------------------------------------------------------------------------------------


@torch.library.custom_op("dragoman_tests::scaled", mutates_args=())
def scaled(x: Tensor, factor: float) -> Tensor:
    """A custom operator, which torch cannot look into."""
    return x * factor


@scaled.register_fake
def _(x: Tensor, factor: float) -> Tensor:
    return torch.empty_like(x)


def test_a_custom_operator_is_refused_until_a_translation_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(x: Tensor) -> Tensor:
        return scaled(x, 3.0) + 1

    with pytest.raises(ImportRefused, match=r"dragoman_tests\.scaled\.default"):
        imported(Calls(forward), (torch.randn(4),))
    monkeypatch.setattr(registry, "_TABLE", dict(registry._TABLE))

    @translates("dragoman_tests.scaled.default")
    def translate(c: Context, x: Value, factor: float) -> Value:
        return c.b.mul(x, factor)

    try:
        check_function(forward, torch.randn(4))
    finally:
        registry.translation_of.cache_clear()


def test_the_newest_translation_that_fits_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    load()
    monkeypatch.setattr(registry, "_TABLE", {})
    for since in ("0", "2.5", "99.1"):
        translates("aten.mine.default", since=since)(lambda c, since=since: since)
    try:
        found = registry.translation_of("aten.mine.default")
        assert found is not None
        assert found(None) == "2.5"
        assert registry.translation_of("aten.other.default") is None
        with pytest.raises(ValueError, match="'mine' is no operator"):
            translates("mine")
    finally:
        registry.translation_of.cache_clear()


DECOMPOSED: list[Any] = [
    lambda x: torch.nn.functional.huber_loss(x, x * 2),
    lambda x: torch.nn.functional.cross_entropy(x, torch.tensor([1, 0, 2])),
    lambda x: torch.special.i0(x).sum() if False else torch.trapezoid(x, dim=1),
    lambda x: torch.nn.functional.pairwise_distance(x, x.flip(0)),
    lambda x: torch.cov(x) if False else x.addr(x[:, 0], x[0]),
    lambda x: torch.nn.functional.triplet_margin_loss(x, x + 1, x - 1),
    lambda x: torch.nn.functional.hinge_embedding_loss(x, x.sign()),
    lambda x: torch.cumulative_trapezoid(x, dim=0),
]


@pytest.mark.parametrize("index", range(len(DECOMPOSED)))
def test_an_operator_outside_the_table_is_decomposed_on_its_own(index: int) -> None:
    torch.manual_seed(index)
    check_function(DECOMPOSED[index], torch.randn(3, 4))


def test_a_decomposition_keeps_sizes_symbolic() -> None:
    class Loss(nn.Module):
        def forward(self, x: Tensor, target: Tensor) -> Tensor:
            return nn.functional.cross_entropy(x, target, label_smoothing=0.1)

    others = [(torch.randn(n, 4), torch.arange(n) % 4) for n in (1, 6)]
    args = (torch.randn(3, 4), torch.tensor([1, 0, 2]))
    check(Loss(), *args, dynamic={"x": {0: "n"}, "target": {0: "n"}}, others=others)


# ---- exported programs ---------------------------------------------------------------------------------------------


def exported(module: nn.Module, *args: Tensor, **dims: Any) -> torch.export.ExportedProgram:
    return torch.export.export(module.eval(), args, dynamic_shapes=dims or None, strict=False)


def test_an_exported_program_is_read_with_torchs_symbols_or_the_callers_names() -> None:
    class Model(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return torch.cat([x, y]) * 2

    batch = torch.export.Dim("batch", min=1, max=8)
    program = exported(Model(), torch.randn(3, 2), torch.randn(4, 2), x={0: batch}, y=None)
    source = import_exported(program)
    assert re.fullmatch(r"f32\[s\d+,2\]", str(source.imported.graph.inputs[0].type))
    assert next(iter(source.imported.graph.symbols().values())).high == 8
    named = import_exported(program, dynamic={"x": {0: "rows"}})
    assert [str(v.type) for v in named.imported.graph.inputs] == ["f32[rows,2]", "f32[4,2]"]
    for found in (source, named):
        assert_same(found, arrays_of([torch.randn(5, 2), torch.randn(4, 2)]))


def test_a_program_without_example_inputs_is_read_by_the_names_of_its_graph() -> None:
    class Model(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x * 2 + y

    program = exported(Model(), torch.randn(3, 2), torch.randn(2), x={0: torch.export.Dim("b", min=2, max=9)}, y=None)
    program._example_inputs = None
    source = import_exported(program, dynamic={"x": {0: "rows"}})
    assert [f"{v.name}: {v.type}" for v in source.imported.graph.inputs] == ["x: f32[rows,2]", "y: f32[2]"]
    assert_same(source, arrays_of([torch.randn(4, 2), torch.randn(2)]))


def test_a_program_from_a_file_still_knows_what_shares_memory(tmp_path: Path) -> None:
    class Writes(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = x + 1
            view = y[:, :1]
            view.mul_(5)
            y.add_(1)
            return y, view

    torch.export.save(exported(Writes(), torch.randn(3, 2)), tmp_path / "model.pt2")
    source = import_exported(torch.export.load(tmp_path / "model.pt2"))
    assert_same(source, arrays_of([torch.randn(3, 2)]))


def test_a_functional_program_gives_its_new_buffers_as_states() -> None:
    class Counting(nn.Module):
        total: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("total", torch.zeros(2))

        def forward(self, x: Tensor) -> Tensor:
            self.total.add_(x)
            return self.total * 2

    program = exported(Counting(), torch.ones(2)).run_decompositions({})
    source = import_exported(program)
    graph = source.imported.graph
    assert [v.name for v in graph.inputs] == ["x", "total"]
    assert graph.output_names == ("output", "total.next")
    assert_same(source, arrays_of([torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0])]))
