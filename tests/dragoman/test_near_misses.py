"""`explain` names the true obstacle in models that nearly are what a rule looks for: the node, why, and the line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import dragoman
from dragoman.ir.errors import ImportRefused
from tests.dragoman import near_misses as m


@dataclass(frozen=True)
class Obstacle:
    """One near miss: the model with its inputs, the rule, and what `explain` has to say first."""

    model: Callable[[], nn.Module]
    inputs: tuple[str, ...]  # sizes of float inputs, as "2 5 16"
    rule: str
    op: str  # the op at which it stops
    reason: str  # what the reason must contain
    line: str  # what the source line must contain

    def arguments(self) -> tuple[Tensor, ...]:
        """The inputs: positive numbers, so that roots and logarithms of them are defined."""
        return tuple(torch.rand(*map(int, sizes.split())) + 0.5 for sizes in self.inputs)


HEADS = ("2 3 5 4", "2 3 5 4", "2 3 5 4")
IMAGE = ("2 3 8 8",)
OBSTACLES: tuple[Obstacle, ...] = (
    Obstacle(m.SoftmaxOverQueries, HEADS, "attention", "softmax", "axis=2 where 3 is needed", "scores.softmax(dim=-2)"),
    Obstacle(
        m.MultiplicativeMask,
        (*HEADS, "2 3 5 5"),
        "attention",
        "mul",
        "a scalar constant is needed, found the input mask f32[2,3,5,5]",
        "scores = scores * mask",
    ),
    Obstacle(
        m.MaskedProbabilities,
        (*HEADS, "2 3 5 5"),
        "attention",
        "mul",
        "softmax is needed, found mul",
        "kept = weights * mask",
    ),
    Obstacle(
        m.ProbabilitiesReturned,
        HEADS,
        "attention",
        "matmul",
        "the result of softmax inside the match is also used by return",
        "return weights @ v, weights",
    ),
    Obstacle(
        m.LearnedTemperature,
        (*HEADS, "1"),
        "attention",
        "div",
        "a scalar constant is needed, found the input temperature f32[1]",
        "/ temperature",
    ),
    Obstacle(m.ReluAttention, HEADS, "attention", "matmul", "it is computed from no softmax", "return weights @ v"),
    Obstacle(
        m.ClippedProbabilities, HEADS, "attention", "clip", "softmax is needed, found clip", "weights.clamp(min=0.01)"
    ),
    Obstacle(m.TalkingHeads, HEADS, "attention", "conv", "softmax is needed, found conv", "self.mix(weights)"),
    Obstacle(
        m.UnbiasedLayerNorm,
        ("2 5 16",),
        "layer_norm",
        "variance",
        "correction=1.0 where 0.0 is needed",
        "x.var(-1, keepdim=True, unbiased=True)",
    ),
    Obstacle(m.EpsilonOutsideTheRoot, ("2 5 16",), "layer_norm", "add", "sqrt is needed, found add", "(spread + 1e-5)"),
    Obstacle(
        m.VarianceOverAnotherAxis,
        ("2 5 16",),
        "layer_norm",
        "reduce_mean",
        "axes=(1,) where (2,) is needed",
        "apart.pow(2).mean(-2, keepdim=True)",
    ),
    Obstacle(
        m.LayerNormOfTwoMeans,
        ("2 5 16", "2 5 16"),
        "layer_norm",
        "sub",
        "one value is needed twice, found the input y f32[2,5,16] and the input x f32[2,5,16]",
        "apart = x - y.mean",
    ),
    Obstacle(
        m.WeightsPerPosition,
        ("2 5 16",),
        "layer_norm",
        "mul",
        "an operand f32[16] is needed, found the weight scale f32[5,16]",
        "* self.scale",
    ),
    Obstacle(
        m.DeviationReturned,
        ("2 5 16",),
        "layer_norm",
        "log",
        "the result of sqrt inside the match is also used by log",
        "return normal, torch.log(spread)",
    ),
    Obstacle(
        m.LearnedEpsilon,
        ("2 5 16",),
        "rms_norm",
        "add",
        "an operand f32[] is needed, found the weight epsilon f32[16]",
        "square + self.epsilon",
    ),
    Obstacle(
        m.RmsOverAxesApart,
        ("2 5 3 16",),
        "rms_norm",
        "mul",
        "the trailing axes of means",
        "x * torch.rsqrt(square + 1e-6)",
    ),
    Obstacle(
        m.RmsOfSum,
        ("2 5 16",),
        "rms_norm",
        "reduce_sum",
        "reduce_mean is needed, found reduce_sum",
        "x.pow(2).sum(-1, keepdim=True)",
    ),
    Obstacle(m.MeanAbsolute, ("2 5 16",), "rms_norm", "abs", "is needed, found abs", "x.abs().mean(-1, keepdim=True)"),
    Obstacle(
        m.GroupNormOfUnequalGroups,
        ("2 6 6 6",),
        "group_norm",
        "reduce_mean",
        "axes=(3,) where ",
        "(grouped - mean).pow(2).mean(3, keepdim=True)",
    ),
    Obstacle(m.L2WithEpsilonAdded, ("2 5 16",), "l2_normalize", "add", "clip is needed, found add", "(length + 1e-12)"),
    Obstacle(
        m.GeluOfRoundedRoot, ("2 16",), "gelu", "div", "the constant is 1.414 where 1.41421356", "torch.erf(x / 1.414)"
    ),
    Obstacle(
        m.TanhGeluOfOtherCoefficient,
        ("2 16",),
        "gelu",
        "mul",
        "the constant is 0.0447 where 0.044715 is needed",
        "0.0447 * x.pow(3)",
    ),
    Obstacle(
        m.GeluWithoutHalf,
        ("2 16",),
        "gelu",
        "mul",
        "mul is needed, found the input x f32[2,16]",
        "return x * (1 + torch.erf",
    ),
    Obstacle(
        m.SiluOfTwo,
        ("2 16", "2 16"),
        "silu",
        "mul",
        "one value is needed twice, found the input y f32[2,16] and the input x f32[2,16]",
        "return x * gate",
    ),
    Obstacle(
        m.MishOfShiftedSoftplus, ("2 16",), "mish", "log", "log1p is needed, found log", "torch.log(2 + torch.exp(x))"
    ),
    Obstacle(
        m.HardSwishOverFive,
        ("2 16",),
        "hard_swish",
        "hard_sigmoid",
        "alpha=0.2 where 0.1666",
        "torch.clamp(x / 5 + 0.5, 0.0, 1.0)",
    ),
    Obstacle(m.SeluOfOtherScale, ("2 16",), "selu", "mul", "the constant is 1.05 where 1.0507", "1.05 * torch.where"),
    Obstacle(
        m.SoftmaxWithEpsilon,
        ("2 16",),
        "softmax",
        "add",
        "reduce_sum is needed, found add",
        "raised.sum(-1, keepdim=True) + 1e-9",
    ),
    Obstacle(
        m.SoftmaxOfOtherMaximum,
        ("2 16",),
        "softmax",
        "reduce_sum",
        "axes=(1,) where (0,) is needed",
        "raised / raised.sum(-1, keepdim=True)",
    ),
    Obstacle(
        m.LogSoftmaxWithEpsilon,
        ("2 16",),
        "log_softmax",
        "add",
        "reduce_sum is needed, found add",
        "left.exp().sum(-1, keepdim=True) + 1e-9",
    ),
    Obstacle(
        m.ConvUsedTwice,
        IMAGE,
        "FoldBatchNormIntoBiasedConv",
        "sigmoid",
        "the result of conv inside the match is also used by sigmoid",
        "gate = torch.sigmoid(y)",
    ),
    Obstacle(
        m.ReluBetweenConvAndNorm,
        IMAGE,
        "FoldBatchNormIntoBiasedConv",
        "relu",
        "conv is needed, found relu",
        "torch.relu(self.conv(x))",
    ),
    Obstacle(
        m.TransposedConvAndNorm,
        IMAGE,
        "FoldBatchNormIntoBiasedConv",
        "conv_transpose",
        "conv is needed, found conv_transpose",
        "y = self.conv(x)",
    ),
    Obstacle(
        m.StandardisedWeights,
        (*IMAGE, "1"),
        "FoldBatchNormIntoConv",
        "batch_norm",
        "f32[4,3,3,3] is computed at run time: mul at near_misses.py",
        "return self.norm(F.conv2d(x, weight))",
    ),
    Obstacle(
        m.NormOverAnotherAxis,
        ("2 5 6",),
        "FoldBatchNormIntoBiasedLinear",
        "batch_norm",
        "axis=1 is not the last of f32[2,5,6]",
        "self.norm(y)",
    ),
    Obstacle(
        m.BiasPerPosition,
        ("2 3 6 6",),
        "FoldBiasIntoConv",
        "add",
        "unsqueeze is needed, found the weight bias f32[4,6,6]",
        "y + self.bias",
    ),
    Obstacle(
        m.LinearOfComputedWeight,
        ("2 16", "8 16", "8"),
        "linear",
        "matmul",
        "a product with a turned weight",
        "x @ weight.t() + bias",
    ),
    Obstacle(
        m.RotaryOfWrongPairs,
        ("2 3 5 8", "5 8", "5 8"),
        "rotary_embedding",
        "slice",
        "starts=(1,) where (4,) is needed",
        "x[..., 0::2], x[..., 1::2]",
    ),
    Obstacle(
        m.RotaryOfTwoSigns,
        ("2 3 5 8", "5 8", "5 8"),
        "rotary_embedding",
        "split",
        "neg is needed, found split",
        "x.chunk(2, dim=-1)",
    ),
    Obstacle(
        m.PixelShuffleOfOtherOrder,
        ("2 12 5 5",),
        "depth_to_space",
        "transpose",
        "perm=(0, 1, 4, 3, 5, 2) where (0, 3, 4, 1, 5, 2) is needed",
        "parts.permute(0, 1, 4, 3, 5, 2)",
    ),
)


@pytest.mark.parametrize("obstacle", OBSTACLES, ids=lambda o: o.model.__name__)
def test_explain_names_the_obstacle(obstacle: Obstacle) -> None:
    found = dragoman.explain(obstacle.model().eval(), obstacle.rule, args=obstacle.arguments())
    (story,) = found.stories
    nearest = story.misses[0]
    assert nearest.op == obstacle.op
    assert obstacle.reason in nearest.reason
    assert any(obstacle.line in place.line for place in nearest.places)
    assert all("near_misses.py:" in place.line for place in nearest.places)
    told = str(found)
    assert f"stopped at {obstacle.op}: " in told
    assert obstacle.line in told


def test_there_are_thirty_and_each_is_of_its_own() -> None:
    assert len({(o.rule, o.op, o.reason) for o in OBSTACLES}) == len(OBSTACLES) >= 30


def test_dropout_that_is_on_is_refused_with_its_line() -> None:
    inputs = Obstacle(m.DropoutInTraining, HEADS, "attention", "", "", "").arguments()
    with pytest.raises(ImportRefused, match="dropout in training mode is random") as refused:
        dragoman.explain(m.DropoutInTraining(), "attention", args=inputs)
    assert "F.dropout(weights, 0.1, training=True)" in str(refused.value)
