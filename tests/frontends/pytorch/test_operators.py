"""Families of operators at several sizes: one module each, its leading dim dynamic, against the module in double."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.frontends.pytorch.compared import Calls, check

Case = tuple[Callable[..., Any], tuple[int, ...]]


class First(nn.Module):
    """A function of one tensor, under a fixed name for it."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def weight(*shape: int) -> Tensor:
    return torch.linspace(-1, 1, torch.Size(shape).numel()).reshape(shape)


VIEWS: list[Case] = [
    (lambda x: x.view(x.shape[0], -1, 2).permute(2, 0, 1).flatten(1), (3, 4, 6)),
    (lambda x: x.unflatten(1, (2, -1)).transpose(-1, 0).squeeze(), (3, 4, 1)),
    (lambda x: x.unsqueeze(1).expand(-1, 3, -1).reshape(-1, x.shape[1]), (3, 4)),
    (lambda x: x[:, 1:-1:2, ..., None] + x[:, :1].mT.unsqueeze(2).sum(), (3, 6, 2)),
    (lambda x: (x.split(2, 1), x.chunk(3, 1), x.unbind(1), x.tensor_split(2, 1), x.tensor_split([1, 4], 1)), (3, 6)),
    (lambda x: torch.cat([x, x.flip(1), x.roll((1, -2), (0, 1)), x.roll(3)], 1), (3, 5)),
    (lambda x: torch.stack([x, x.movedim(0, -1).movedim(1, 0)], -1), (4, 5)),
    (lambda x: (x.repeat(2, 1, 3), x.tile((2,)), x.repeat_interleave(3, 1), x.repeat_interleave(2)), (3, 4)),
    (lambda x: (x.tril(), x.triu(1), x.diagonal(1), x.diagonal(-1, 1, 2)), (3, 4, 5)),
    (lambda x: (x.unfold(1, 3, 2), x.narrow(1, 2, 3), x.select(1, -2), x.swapaxes(0, 2)), (3, 7, 2)),
    (lambda x: (F.pixel_shuffle(x, 2), F.pixel_unshuffle(x, 2), F.channel_shuffle(x, 4)), (2, 8, 4, 6)),
    (lambda x: (x.rot90(1, (1, 2)), x.rot90(3, (2, 1)), torch.meshgrid(x[:, 0, 0], x[0, 0], indexing="xy")), (3, 4, 5)),
    (
        lambda x: (torch.block_diag(x[0], x[1]), torch.hstack([x, x]), torch.vstack([x, x]), torch.dstack([x, x])),
        (3, 4, 2),
    ),
]
PADS: list[Case] = [
    (lambda x: F.pad(x, (1, 2, 0, 3), value=0.5), (2, 3, 4, 5)),
    (
        lambda x: (
            F.pad(x, (1, 2), mode="reflect"),
            F.pad(x, (2, 1), mode="replicate"),
            F.pad(x, (3, 3), mode="circular"),
        ),
        (2, 3, 5),
    ),
    (lambda x: (F.pad(x, (-1, 2, 1, -2)), F.pad(x, (0, 0, 0, x.shape[0]))), (2, 3, 4, 5)),
]
REDUCTIONS: list[Case] = [
    (
        lambda x: (x.sum(), x.sum(1), x.mean((1, 2), keepdim=True), x.prod(2), x.amax((0, 2)), x.amin(1, True)),
        (3, 4, 5),
    ),
    (lambda x: (x.max(1), x.min(2, keepdim=True), x.argmax(), x.argmin(1), x.aminmax(dim=1)), (3, 4, 5)),
    (
        lambda x: (
            x.var(1),
            x.std((1, 2), correction=0),
            torch.var_mean(x, 2),
            torch.std_mean(x, (0, 1), correction=2),
        ),
        (3, 4, 5),
    ),
    (
        lambda x: (x.norm(), x.norm(p=1, dim=1), torch.linalg.vector_norm(x, 3, (1, 2)), x.norm(p=float("inf"), dim=2)),
        (3, 4, 5),
    ),
    (lambda x: (x.cumsum(1), x.abs().cumprod(2), x.diff(dim=1), x.diff(n=2), x.logsumexp((1, 2))), (3, 4, 5)),
    (lambda x: (x.softmax(1), x.log_softmax(-1), F.softmin(x, 0), x.softmax(2).argsort(dim=1, stable=True)), (3, 4, 5)),
    (
        lambda x: (x.topk(2, 1), x.sort(1, descending=True), x.median(1), x.flatten(1).kthvalue(1).values.sum()),
        (3, 4, 5),
    ),
    (lambda x: ((x > 0).any(), (x > -9).all(1), (x > 0).sum(2), x.count_nonzero(1), (x > 0).float().mean()), (3, 4, 5)),
    (lambda x: (F.normalize(x, dim=1), F.cosine_similarity(x, x.flip(1), dim=2), torch.cdist(x, x * 0.5)), (3, 4, 5)),
]
PRODUCTS: list[Case] = [
    (lambda x: (x @ weight(5, 3), x @ weight(5), weight(4) @ x, torch.bmm(x, x.mT)), (3, 4, 5)),
    (lambda x: (torch.addmm(weight(3), x, weight(5, 3), beta=0.5, alpha=2), torch.mv(x, weight(5)), x.T @ x), (4, 5)),
    (
        lambda x: (
            torch.einsum("bij,kj->bik", x, weight(2, 5)),
            torch.einsum("...ij->...ji", x),
            torch.einsum("bii", x @ x.mT),
        ),
        (3, 4, 5),
    ),
    (
        lambda x: (
            torch.tensordot(x, weight(5, 4, 2), ([1, 2], [1, 0])),
            torch.kron(x[0], weight(2, 2)),
            torch.outer(x[:, 0, 0], x[0, 0]),
        ),
        (3, 4, 5),
    ),
    (
        lambda x: (
            torch.baddbmm(weight(4, 4), x, x.mT, beta=2),
            F.bilinear(x, x, weight(2, 5, 5), weight(2)),
            F.linear(x, weight(5)),
        ),
        (3, 4, 5),
    ),
]
CONVOLUTIONS: list[Case] = [
    (lambda x: F.conv1d(x, weight(6, 2, 3), weight(6), stride=2, padding=1, dilation=2, groups=2), (2, 4, 11)),
    (
        lambda x: (F.conv2d(x, weight(4, 3, 3, 5), padding="same"), F.conv2d(x, weight(4, 3, 3, 2), padding="valid")),
        (2, 3, 7, 6),
    ),
    (lambda x: F.conv3d(x, weight(2, 3, 2, 2, 2), padding=(1, 0, 1)), (2, 3, 4, 5, 4)),
    (lambda x: F.conv_transpose1d(x, weight(4, 3, 3), stride=2, padding=1, output_padding=1, groups=2), (2, 4, 5)),
    (lambda x: F.conv_transpose2d(x, weight(3, 2, 3, 3), weight(2), stride=(2, 1), dilation=2), (2, 3, 4, 5)),
    (lambda x: F.unfold(x, (2, 3), padding=1, stride=2), (2, 3, 6, 5)),
]
POOLS: list[Case] = [
    (
        lambda x: (
            F.max_pool1d(x, 3, 2, 1),
            F.avg_pool1d(x, 3, 2, 1, count_include_pad=False),
            F.lp_pool1d(x.abs(), 2, 3),
        ),
        (2, 3, 9),
    ),
    (
        lambda x: (F.max_pool2d(x, (2, 3), ceil_mode=True, dilation=(1, 2)), F.max_pool2d(x, 2, return_indices=True)),
        (2, 3, 7, 9),
    ),
    (lambda x: (F.avg_pool2d(x, 3, 2, 1, ceil_mode=True), F.avg_pool2d(x, 2, divisor_override=3)), (2, 3, 7, 9)),
    (
        lambda x: (F.adaptive_avg_pool2d(x, (3, 1)), F.adaptive_avg_pool2d(x, (None, 4)), F.adaptive_max_pool2d(x, 2)),
        (2, 3, 6, 8),
    ),
    (lambda x: (F.avg_pool3d(x, 2), F.max_pool3d(x, 2, 1), F.adaptive_avg_pool3d(x, 1)), (2, 3, 4, 4, 5)),
]
NORMS: list[Case] = [
    (lambda x: (F.layer_norm(x, (5,)), F.layer_norm(x, (4, 5), weight(4, 5), weight(4, 5), 1e-3)), (3, 4, 5)),
    (lambda x: (F.group_norm(x, 2), F.group_norm(x, 4, weight(4), weight(4)), F.instance_norm(x, eps=1e-2)), (3, 4, 5)),
    (
        lambda x: (F.rms_norm(x, (5,), weight(5), 1e-5), F.rms_norm(x, (4, 5), eps=1e-3), F.local_response_norm(x, 3)),
        (3, 4, 5),
    ),
    (lambda x: F.batch_norm(x, weight(4), weight(4) ** 2 + 1, weight(4), None, False, 0.1, 1e-4), (3, 4, 5, 2)),
]
ACTIVATIONS: list[Case] = [
    (
        lambda x: [
            f(x * 4)
            for f in (
                F.relu,
                F.relu6,
                F.elu,
                F.selu,
                F.celu,
                F.gelu,
                F.silu,
                F.mish,
                F.softplus,
                F.softsign,
                F.hardswish,
            )
        ],
        (3, 5),
    ),
    (
        lambda x: [
            f(x * 4)
            for f in (
                F.hardsigmoid,
                F.hardtanh,
                F.logsigmoid,
                F.tanhshrink,
                F.softshrink,
                F.hardshrink,
                F.sigmoid,
                F.tanh,
            )
        ],
        (3, 5),
    ),
    (lambda x: (F.leaky_relu(x, 0.25), F.gelu(x, approximate="tanh"), F.threshold(x, 0.25, -2), F.glu(x, 1)), (3, 4)),
    (
        lambda x: (F.prelu(x, weight(4)), F.rrelu(x), F.elu(x, 0.5), F.softplus(x, 2, 1), F.hardtanh(x, -0.25, 0.75)),
        (3, 4, 5),
    ),
]
FUNCTIONS: list[Case] = [
    (
        lambda x: (
            x.abs().sqrt(),
            x.abs().rsqrt(),
            x.exp(),
            x.expm1(),
            x.abs().log(),
            x.abs().log1p(),
            x.exp2(),
            x.square(),
        ),
        (3, 5),
    ),
    (
        lambda x: (
            x.sin(),
            x.tan(),
            x.atan(),
            x.tanh().atanh(),
            x.tanh().asin(),
            x.sinh().asinh(),
            (x.abs() + 1).acosh(),
        ),
        (3, 5),
    ),
    (
        lambda x: (
            x.erf(),
            x.erfc(),
            x.tanh().erfinv(),
            (x.abs() + 1).lgamma(),
            (x.abs() + 1).digamma(),
            x.sigmoid().logit(),
        ),
        (3, 5),
    ),
    (
        lambda x: (
            (x * 4).floor(),
            (x * 4).ceil(),
            (x * 4).round(),
            (x * 4).trunc(),
            (x * 4).frac(),
            (x * 4).round(decimals=1),
        ),
        (3, 5),
    ),
    (
        lambda x: (
            x.sign(),
            x.neg(),
            x.reciprocal(),
            x.sgn(),
            x.signbit(),
            x.clamp(-0.25, 0.5),
            x.nan_to_num(),
            x.isfinite(),
        ),
        (3, 5),
    ),
    (
        lambda x: (
            x.atan2(x.flip(1)),
            torch.hypot(x, x.flip(1)),
            torch.logaddexp(x, x.flip(1)),
            torch.xlogy(x, x.abs()),
        ),
        (3, 5),
    ),
    (
        lambda x: (x.pow(3), x.abs() ** 0.5, x**-1, 2.0**x, x.abs().pow(x), torch.copysign(x, x.flip(1)), x.fmod(0.25)),
        (3, 5),
    ),
]
INDEXING: list[Case] = [
    (
        lambda x: (
            x[torch.tensor([0, 1, 0])],
            x[:, torch.tensor([[0, -1]])],
            x[torch.tensor([1, 0]), torch.tensor([2, 3])],
        ),
        (3, 4, 5),
    ),
    (
        lambda x: (x[:, torch.tensor([1, 0]), :, torch.tensor([2, 3])], x[torch.tensor([0]), :, torch.tensor([1, 2])]),
        (3, 4, 5, 6),
    ),
    (
        lambda x: (x.gather(1, torch.zeros(1, 2, 5, dtype=torch.int64)), x.gather(1, x.argsort(dim=1, stable=True))),
        (3, 4, 5),
    ),
    (
        lambda x: (
            x.index_select(1, torch.tensor([3, 0])),
            x.take(torch.tensor([0, 5])),
            x.index_add(1, torch.tensor([0, 0]), x[:, :2]),
        ),
        (3, 4),
    ),
    (
        lambda x: (
            x.scatter(1, torch.tensor([[0, 3]]), 9.0),
            x.scatter_add(1, torch.tensor([[1, 1, 1]]), x),
            x.index_fill(1, torch.tensor([2]), 0.5),
        ),
        (3, 4),
    ),
    (
        lambda x: (
            x.scatter_reduce(1, torch.tensor([[1, 1, 3]]), x, "amax"),
            x.scatter_reduce(1, torch.tensor([[0, 0]]), x, "mean", include_self=False),
        ),
        (3, 4),
    ),
    (
        lambda x: (
            x.index_put((torch.tensor([0, 1]), torch.tensor([1, 1])), torch.tensor([5.0, 6.0])),
            x.masked_fill(x > 0, 2),
        ),
        (3, 4),
    ),
    (
        lambda x: (
            x.select_scatter(x[:, 0], 1, 2),
            x.slice_scatter(x[:, :2], 1, 0, 4, 2),
            x.mT.diagonal_scatter(x[:2, 4], -3),
        ),
        (2, 5),
    ),
    (
        lambda x: (
            F.one_hot((x > 0).long(), 3),
            torch.bucketize(x, torch.tensor([-0.5, 0.0, 0.5])),
            torch.where(x > 0, x, -1),
        ),
        (3, 4),
    ),
]
RESIZES: list[Case] = [
    (
        lambda x: (F.interpolate(x, scale_factor=2), F.interpolate(x, size=7), F.interpolate(x, 5, mode="linear")),
        (2, 3, 4),
    ),
    (
        lambda x: [
            F.interpolate(x, (7, 5), mode=mode, align_corners=corners)
            for mode in ("bilinear", "bicubic")
            for corners in (False, True)
        ],
        (2, 3, 4, 6),
    ),
    (
        lambda x: (F.interpolate(x, scale_factor=1.5, mode="bilinear"), F.interpolate(x, (9, 2), mode="nearest-exact")),
        (2, 3, 4, 6),
    ),
    (
        lambda x: (F.interpolate(x, (3, 4), mode="bilinear", antialias=True), F.interpolate(x, (2, 3), mode="area")),
        (2, 3, 6, 8),
    ),
    (
        lambda x: F.grid_sample(x, weight(1, 4, 5, 2).expand(x.shape[0], -1, -1, -1) * 1.5, align_corners=False),
        (2, 3, 4, 6),
    ),
    (
        lambda x: F.grid_sample(
            x,
            F.affine_grid(weight(1, 2, 3).expand(x.shape[0], -1, -1), [x.shape[0], 3, 4, 4], True),
            "nearest",
            "border",
            True,
        ),
        (2, 3, 4, 6),
    ),
]
ATTENTION: list[Case] = [
    (lambda x: F.scaled_dot_product_attention(x, x * 0.5, x + 1, is_causal=True), (2, 4, 5, 6)),
    (lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=weight(5, 5) > 0.05, scale=0.25), (2, 4, 5, 6)),
    (
        lambda x: F.scaled_dot_product_attention(x, x[:, :2], x[:, :2], attn_mask=weight(1, 1, 5, 5), enable_gqa=True),
        (2, 4, 5, 6),
    ),
    (lambda x: F.scaled_dot_product_attention(x, x.flip(1), x), (3, 5, 6)),
]
FAMILIES = {
    "views": VIEWS,
    "pads": PADS,
    "reductions": REDUCTIONS,
    "products": PRODUCTS,
    "convolutions": CONVOLUTIONS,
    "pools": POOLS,
    "norms": NORMS,
    "activations": ACTIVATIONS,
    "functions": FUNCTIONS,
    "indexing": INDEXING,
    "resizes": RESIZES,
    "attention": ATTENTION,
}
CASES = [pytest.param(f, s, id=f"{family}-{i}") for family, cases in FAMILIES.items() for i, (f, s) in enumerate(cases)]


@pytest.mark.parametrize(("function", "shape"), CASES)
def test_an_operator_means_what_torch_computes_at_every_size(function: Any, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    sizes = [n for n in (2, 3, 5) if n >= min(2, shape[0])]
    others = [(torch.randn(n, *shape[1:]),) for n in sizes]
    check(First(function), torch.randn(*shape), dynamic={"x": {0: "n"}}, others=others, bound=1e-11)


def test_convolutions_and_pools_without_a_batch_have_one_of_their_own() -> None:
    def forward(x: Tensor) -> Any:
        return F.conv2d(x, weight(4, 3, 2, 2)), F.max_pool2d(x, 2), F.avg_pool2d(x, 2), F.adaptive_avg_pool2d(x, 1)

    check(Calls(forward), torch.randn(3, 6, 7))


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_layers": 2, "bidirectional": True, "batch_first": True},
        {"bias": False, "num_layers": 3},
        {"bidirectional": True},
    ],
)
def test_recurrent_layers_are_kept_whole_with_dynamic_length(kind: str, settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer = getattr(nn, kind)(3, 4, **settings)
    source = check(
        layer,
        torch.randn(5, 2, 3),
        dynamic={"input": {0: "a", 1: "b"}},
        others=[(torch.randn(1, 1, 3),), (torch.randn(7, 4, 3),)],
    )
    names = [n.op.name for n in source.imported.graph]
    assert names.count(kind.lower()) == settings.get("num_layers", 1)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("bidirectional", [False, True])
def test_an_lstm_with_projections_is_a_scan(bidirectional: bool) -> None:
    torch.manual_seed(0)
    layer = nn.LSTM(3, 5, num_layers=2, proj_size=2, bidirectional=bidirectional)
    check(layer, torch.randn(4, 2, 3), dynamic={"input": {0: "t"}}, others=[(torch.randn(9, 2, 3),)])


def test_recurrent_layers_take_an_initial_state_and_no_batch() -> None:
    torch.manual_seed(0)
    h, c = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    check(nn.LSTM(5, 4, num_layers=2), torch.randn(6, 3, 5), (h, c))
    check(nn.GRU(5, 4), torch.randn(6, 5), torch.randn(1, 4))


def test_after_an_import_torch_traces_recurrent_layers_as_before() -> None:
    before = dict(torch.ops.aten.lstm.input.py_kernels)
    check(nn.LSTM(3, 4), torch.randn(5, 2, 3))
    assert torch.ops.aten.lstm.input.py_kernels == before
    torch.testing.assert_close(nn.LSTM(3, 4)(torch.randn(5, 2, 3))[0].shape, torch.Size([5, 2, 4]))
