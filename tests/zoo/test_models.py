"""The zoo keeps its word: the same weights every time, none of them idle, and inputs that vary as declared."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from tests.zoo import BY_NAME, ENTRIES, Entry
from tests.zoo.models import detector, unet

SMALL = [
    "detector",
    "gpt2_small_with_cache",
    "gru",
    "gru_time_first",
    "lstm",
    "lstm_time_first",
    "transformer_encoder",
    "transformer_encoder_pre_norm",
    "unet",
    "unet_nearest",
]
LARGE = [entry.name for entry in ENTRIES if entry.name not in SMALL]
BOTH = [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)]


def weights_hash(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def is_constant(value: Tensor) -> bool:
    return value.numel() > 1 and bool((value == value.flatten()[0]).all())


@pytest.mark.parametrize("name", [*SMALL, pytest.param("mobilenetv3_large_100", marks=pytest.mark.slow)])
def test_a_factory_gives_the_same_weights_on_every_call_and_leaves_the_global_generator_alone(name: str) -> None:
    factory = BY_NAME[name].factory
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = weights_hash(factory())
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert weights_hash(factory()) == first


@pytest.mark.parametrize("factory", [detector, unet])
def test_another_seed_gives_other_weights(factory: Callable[[int], nn.Module]) -> None:
    assert weights_hash(factory(0)) != weights_hash(factory(1))


@pytest.fixture
def plain_attention() -> Iterator[None]:
    """Attention as it is written: torch's inference shortcut packs padded rows away and warns about it."""
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(True)


@pytest.mark.usefixtures("plain_attention")
@pytest.mark.parametrize("name", BOTH)
def test_no_weight_is_a_constant_that_would_hide_a_mistake_and_outputs_keep_an_ordinary_size(name: str) -> None:
    entry = BY_NAME[name]
    model = entry.factory()
    assert not model.training
    assert [each for each, value in model.named_parameters() if is_constant(value)] == []
    for each, value in model.named_buffers():
        if each.endswith(("running_mean", "running_var")):
            assert not is_constant(value), each
            assert not each.endswith("var") or float(value.min()) > 0.0, each
    arguments, keywords = entry.arguments(entry.settings[0])
    with torch.no_grad():
        outputs = model(*arguments, **keywords)
    first = next(iter(outputs.values())) if isinstance(outputs, dict) else outputs
    first = first[0] if isinstance(first, tuple) else first
    assert bool(first.isfinite().all())
    assert 1e-3 < float(first.abs().max()) < 1e2


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_inputs_take_the_declared_sizes_at_the_declared_axes_and_nowhere_else(entry: Entry) -> None:
    example = entry.inputs(entry.example)
    assert all(size not in (0, 1) for size in entry.example.values())
    assert len(entry.settings) >= 3
    for sizes in entry.settings:
        inputs = entry.inputs(sizes)
        assert list(inputs) == list(example)
        for name, value in inputs.items():
            axes = entry.dynamic.get(name, {})
            expected = [sizes[axes[axis]] if axis in axes else size for axis, size in enumerate(example[name].shape)]
            assert list(value.shape) == expected, name
            assert value.dtype == example[name].dtype
        for symbol, (low, high) in entry.ranges.items():
            assert low <= sizes[symbol] <= high


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_inputs_depend_on_the_seed_and_on_nothing_else(entry: Entry) -> None:
    sizes = entry.settings[-1]
    first, again, other = entry.inputs(sizes, 3), entry.inputs(sizes, 3), entry.inputs(sizes, 4)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_masks_hold_rows_of_different_length_and_one_that_pads_throughout() -> None:
    mask = BY_NAME["bert_base"].inputs({"batch": 3, "sequence": 9})["attention_mask"]
    assert mask.sum(dim=1).tolist() == [9, 7, 0]
    left = BY_NAME["gpt2_masked"].inputs({"batch": 3, "sequence": 9})["attention_mask"]
    assert left.sum(dim=1).tolist() == [9, 7, 5]
    assert left[1].tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 1]


def test_the_detector_takes_each_branch_for_some_picture() -> None:
    entry = BY_NAME["detector"]
    model = entry.factory()
    taken: set[bool] = set()
    for seed in range(8):
        with torch.no_grad():
            _, confidence, _ = model(*entry.arguments({"batch": 2}, seed)[0])
        taken.add(bool((confidence > 0.89).any()))
    assert taken == {False, True}
