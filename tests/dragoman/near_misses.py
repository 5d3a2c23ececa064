"""Models as people write them, each with one thing that keeps a rule from firing.

Owns the models; `test_near_misses.py` says which rule nearly fires on each, at which op it stops, why, and in which line.
"""


# pyright: reportUnannotatedClassAttribute=false

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# ---- attention -------------------------------------------------------------------------------------------------


class SoftmaxOverQueries(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = q @ k.transpose(-1, -2) / 2.0
        weights = scores.softmax(dim=-2)
        return weights @ v


class MultiplicativeMask(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        scores = q @ k.transpose(-1, -2) / 2.0
        scores = scores * mask
        return scores.softmax(dim=-1) @ v


class MaskedProbabilities(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        weights = (q @ k.transpose(-1, -2) / 2.0).softmax(dim=-1)
        kept = weights * mask
        return kept @ v


class ProbabilitiesReturned(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        weights = (q @ k.transpose(-1, -2) / 2.0).softmax(dim=-1)
        return weights @ v, weights


class LearnedTemperature(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor, temperature: Tensor) -> Tensor:
        scores = q @ k.transpose(-1, -2) / temperature
        return scores.softmax(dim=-1) @ v


class ReluAttention(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = F.relu(q @ k.transpose(-1, -2) / 2.0)
        return weights @ v


class ClippedProbabilities(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = (q @ k.transpose(-1, -2) / 2.0).softmax(dim=-1)
        return weights.clamp(min=0.01) @ v


class TalkingHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 3, 1)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = (q @ k.transpose(-1, -2) / 2.0).softmax(dim=-1)
        return self.mix(weights) @ v


# ---- norms -----------------------------------------------------------------------------------------------------


class UnbiasedLayerNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.rand(16)), nn.Parameter(torch.rand(16))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(-1, keepdim=True)
        variance = x.var(-1, keepdim=True, unbiased=True)
        return (x - mean) / torch.sqrt(variance + 1e-5) * self.scale + self.bias


class EpsilonOutsideTheRoot(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.rand(16)), nn.Parameter(torch.rand(16))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(-1, keepdim=True)
        spread = torch.sqrt((x - mean).pow(2).mean(-1, keepdim=True))
        return (x - mean) / (spread + 1e-5) * self.scale + self.bias


class VarianceOverAnotherAxis(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.rand(16)), nn.Parameter(torch.rand(16))

    def forward(self, x: Tensor) -> Tensor:
        apart = x - x.mean(-1, keepdim=True)
        variance = apart.pow(2).mean(-2, keepdim=True)
        return apart / torch.sqrt(variance + 1e-5) * self.scale + self.bias


class LearnedEpsilon(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale, self.epsilon = nn.Parameter(torch.rand(16)), nn.Parameter(torch.rand(16) * 1e-5)

    def forward(self, x: Tensor) -> Tensor:
        square = x.pow(2).mean(-1, keepdim=True)
        return x * torch.rsqrt(square + self.epsilon) * self.scale


class RmsOverAxesApart(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(16))

    def forward(self, x: Tensor) -> Tensor:
        square = x.pow(2).mean((1, 3), keepdim=True)
        return x * torch.rsqrt(square + 1e-6) * self.scale


class RmsOfSum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(16))

    def forward(self, x: Tensor) -> Tensor:
        square = x.pow(2).sum(-1, keepdim=True)
        return x * torch.rsqrt(square + 1e-6) * self.scale


class MeanAbsolute(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(16))

    def forward(self, x: Tensor) -> Tensor:
        square = x.abs().mean(-1, keepdim=True)
        return x * torch.rsqrt(square + 1e-6) * self.scale


class DeviationReturned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.rand(16)), nn.Parameter(torch.rand(16))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        apart = x - x.mean(-1, keepdim=True)
        spread = torch.sqrt(apart.pow(2).mean(-1, keepdim=True) + 1e-5)
        normal = apart / spread * self.scale + self.bias
        return normal, torch.log(spread)


class LayerNormOfTwoMeans(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.rand(16)), nn.Parameter(torch.rand(16))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        apart = x - y.mean(-1, keepdim=True)
        variance = apart.pow(2).mean(-1, keepdim=True)
        return apart / torch.sqrt(variance + 1e-5) * self.scale + self.bias


class WeightsPerPosition(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.rand(5, 16)), nn.Parameter(torch.rand(5, 16))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(-1, keepdim=True)
        variance = (x - mean).pow(2).mean(-1, keepdim=True)
        scaled = (x - mean) / torch.sqrt(variance + 1e-5) * self.scale
        return scaled + self.bias


class GroupNormOfUnequalGroups(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        grouped = x.reshape(2, 2, 3, 36)
        mean = grouped.mean((2, 3), keepdim=True)
        variance = (grouped - mean).pow(2).mean(3, keepdim=True)
        return ((grouped - mean) / torch.sqrt(variance + 1e-5)).reshape(2, 6, 6, 6)


class L2WithEpsilonAdded(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        length = x.norm(dim=-1, keepdim=True)
        return x / (length + 1e-12)


# ---- activations -----------------------------------------------------------------------------------------------


class GeluOfRoundedRoot(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x * (1 + torch.erf(x / 1.414))


class TanhGeluOfOtherCoefficient(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        inner = math.sqrt(2 / math.pi) * (x + 0.0447 * x.pow(3))
        return 0.5 * x * (1 + torch.tanh(inner))


class GeluWithoutHalf(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + torch.erf(x / math.sqrt(2)))


class SiluOfTwo(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        gate = torch.sigmoid(y)
        return x * gate


class MishOfShiftedSoftplus(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        soft = torch.log(2 + torch.exp(x))
        return x * torch.tanh(soft)


class HardSwishOverFive(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        gate = torch.clamp(x / 5 + 0.5, 0.0, 1.0)
        return x * gate


class SeluOfOtherScale(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        below = 1.673 * torch.expm1(x)
        return 1.05 * torch.where(x > 0, x, below)


class SoftmaxWithEpsilon(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raised = torch.exp(x - x.amax(-1, keepdim=True))
        return raised / (raised.sum(-1, keepdim=True) + 1e-9)


class SoftmaxOfOtherMaximum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raised = torch.exp(x - x.amax(-2, keepdim=True))
        return raised / raised.sum(-1, keepdim=True)


class LogSoftmaxWithEpsilon(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        left = x - x.amax(-1, keepdim=True)
        total = left.exp().sum(-1, keepdim=True) + 1e-9
        return left - torch.log(total)


# ---- convolutions and linear layers ----------------------------------------------------------------------------


class ConvUsedTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        gate = torch.sigmoid(y)
        return self.norm(y) * gate


class ReluBetweenConvAndNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.conv(x))
        return self.norm(y)


class TransposedConvAndNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.ConvTranspose2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.norm(y)


class StandardisedWeights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)

    def forward(self, x: Tensor, gain: Tensor) -> Tensor:
        weight = self.conv.weight * gain
        return self.norm(F.conv2d(x, weight))


class NormOverAnotherAxis(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(6, 8), nn.BatchNorm1d(5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        return self.norm(y)


class BiasPerPosition(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bias = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.Parameter(torch.rand(4, 6, 6))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y + self.bias


class LinearOfComputedWeight(nn.Module):
    def forward(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return x @ weight.t() + bias


# ---- positions and pixels --------------------------------------------------------------------------------------


class RotaryOfWrongPairs(nn.Module):
    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        even, odd = x[..., 0::2], x[..., 1::2]
        turned = torch.cat((-odd, even), dim=-1)
        return x * cosine + turned * sine


class RotaryOfTwoSigns(nn.Module):
    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=-1)
        turned = torch.cat((second, -first), dim=-1)
        return x * cosine + turned * sine


class PixelShuffleOfOtherOrder(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        parts = x.reshape(2, 3, 2, 2, 5, 5)
        moved = parts.permute(0, 1, 4, 3, 5, 2)
        return moved.reshape(2, 3, 10, 10)


class DropoutInTraining(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = (q @ k.transpose(-1, -2) / 2.0).softmax(dim=-1)
        dropped = F.dropout(weights, 0.1, training=True)
        return dropped @ v
